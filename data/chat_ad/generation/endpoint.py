"""The generator behind any OpenAI-style endpoint: vLLM with Qwen2.5-VL-72B, GPT-4o, or another that sees images.

Every answer is kept in an append-only file under a key of its content (model, settings, prompt, bytes of the images),
so that a run which is killed, or asked for the same again, pays for nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field, model_validator

from ...answering.sizing import Sizing
from ...endpoint.address import Endpoint, checked_address, key_of
from ...endpoint.client import Client, Patience, Refused
from ...endpoint.images import file_url, image_part
from ...errors import UserError, shortened
from ...jsonl import content_key, file_digest
from ..recipe.model import Count, Spec, Text
from .cache import AnswerCache
from .cost import Cost, Prices
from .facts import Facts
from .generator import STEPS, Generator
from .pair_view import MAX_BOXES, PairView
from .prompt_files import PromptFiles
from .verify import is_refusal
from .words import Words

__all__ = ["EndpointGenerator", "EndpointSettings"]

#: The files that the texts of a task depend on; labels are said in the words of `families.json`.
_FILES = {
    "caption": ("caption.jinja", "refine.jinja", "verify.jinja"),
    "dialogue": ("caption.jinja", "refine.jinja", "verify.jinja", "dialogue.jinja"),
    "think": ("caption.jinja", "refine.jinja", "verify.jinja", "think.jinja"),
}
_COMMON = ("system.jinja", "questions.json", "families.json")


#: More than none.
Seconds = Annotated[float, Field(gt=0)]


class EndpointSettings(Spec):
    """Which endpoint, and how it is used: a recipe's `generator` of the kind `endpoint`.

    Attributes:
        url: base address, as OpenAI clients take it (`http://localhost:8000/v1`).
        model: its name there.
        key_variable: environment variable that holds the key, "" for an endpoint without one. A key is taken from
            nowhere else and written nowhere.
        rounds: how often a text with problems is written again.
        checks: whether the model is also asked to check each caption.
        image_side: images are shrunk to so many pixels on the longer side; None sends them as they are.
        marked: whether the copy with the outlined defect is sent too, where the pair has one.
        temperature, max_tokens, seed: of the request; `max_tokens` bounds one answer.
        limit_field: what the endpoint calls `max_tokens`.
        extra: further fields of the request.
        prices: of a million tokens.
        most_tokens, most_money: the budget of one cache file, None for none.
        fallback: whether the annotations write what the endpoint refuses.
    """

    kind: Literal["endpoint"] = "endpoint"
    url: str
    model: Text
    key_variable: str = ""
    concurrency: Count = 16
    rounds: Annotated[int, Field(ge=0)] = 2
    checks: bool = False
    image_side: Annotated[int, Field(ge=28)] | None = 1280
    marked: bool = True
    temperature: float = 0.7
    max_tokens: Annotated[int, Field(ge=16)] = 1024
    seed: int = 0
    limit_field: Text = "max_tokens"
    extra: dict[str, Any] = {}
    timeout: Seconds = 180.0
    attempts: Count = 6
    first_wait: Seconds = 1.0
    longest_wait: Seconds = 120.0
    give_up: Count = 20
    prices: Prices = Prices()
    most_tokens: Annotated[int, Field(gt=0)] | None = None
    most_money: Annotated[float, Field(gt=0)] | None = None
    fallback: bool = False

    @property
    def patience(self) -> Patience:
        """How long answers are waited for."""
        return Patience(**{one.name: getattr(self, one.name) for one in fields(Patience)})

    @model_validator(mode="after")
    def _whole(self) -> EndpointSettings:
        try:
            key_goes = "an environment variable and give its name as key_variable"
            checked_address(self.url, setting="url", key_goes=key_goes)
        except UserError as error:
            raise ValueError(f".{error}") from None
        if self.most_money and not (self.prices.prompt or self.prices.completion):
            raise ValueError(
                ".most_money: no price is known; give prices.prompt and prices.completion, in money for a million "
                "tokens"
            )
        return self


class EndpointGenerator(Generator):
    """A `Generator` that asks an endpoint.

    Args:
        settings: which endpoint.
        prompts: what it is asked.
        cache: the file that keeps its answers; one process at a time writes to it.

    Raises:
        UserError: the key's variable is not set, or a cache file is damaged or in use.
    """

    waits = True

    def __init__(self, *, settings: EndpointSettings, prompts: PromptFiles, cache: str | Path) -> None:
        self.settings = settings
        self.prompts = prompts
        self.words = Words(prompts=prompts)
        self.name = settings.model
        self.concurrency, self.rounds, self.checks = settings.concurrency, settings.rounds, settings.checks
        key = key_of(settings.key_variable) if settings.key_variable else ""
        self._endpoint = Endpoint(settings.url, key)
        # What the answers depend on; patience and budget change none of them.
        self._asked = {
            "model": settings.model,
            "temperature": settings.temperature,
            settings.limit_field: settings.max_tokens,
            **settings.extra,
        }
        sent = (settings.image_side, settings.marked, settings.rounds, settings.checks)
        self.fingerprint = content_key("endpoint", self._asked, settings.seed, sent, prompts.digest())
        self._cache = AnswerCache(path=cache)
        budget = {name: getattr(settings, name) for name in ("prices", "most_tokens", "most_money")}
        self.cost = Cost(**budget, earlier=self._cache.spent)
        self._client: Client | None = None
        self._slots: asyncio.Semaphore | None = None
        self._under_way: dict[str, asyncio.Task] = {}
        self._sizing = Sizing(side=settings.image_side)
        self._digest = lru_cache(maxsize=16 * settings.concurrency)(file_digest)

    def __repr__(self) -> str:
        return f"EndpointGenerator({self.settings.url}, {self.name})"

    def prompt_hash(self, task: str) -> str:
        """SHA-256 of the prompt files that a task's texts are made from."""
        return self.prompts.digest(*_COMMON, *_FILES.get(task, ()))

    def report(self) -> dict[str, Any]:
        """Tokens, money, retries and refusals of this run; of the whole cache file under `total`."""
        return {
            "endpoint": self.settings.url,
            "model": self.name,
            "cache": str(self._cache.path),
            **self.cost.report(),
        }

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()

    async def finish(self) -> None:
        """Start nothing new, wait for the answers under way, which are paid for, and close the connections."""
        if self._client is not None:
            self._client.stopping.set()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)
            await self._client.close()
        self._client = self._slots = None
        self._under_way.clear()

    async def generate(self, pair: PairView, step: str, context: Mapping[str, Any]) -> str:
        """The model's answer to one step, from the cache where it is there.

        Raises:
            Refused: the model declines or its answer is cut off, or the endpoint fails for this request.
            UserError: an image cannot be read, the budget is used up, or the endpoint fails for good.
        """
        if step not in STEPS:
            raise ValueError(f"step is {step!r}, expected one of {STEPS}")
        system = self.prompts.render("system.jinja", {})
        text = self.prompts.render(f"{step}.jinja", self._variables(pair, context))
        names = [*pair.images, *([pair.marked] if self._shows_mark(pair) else [])]
        pictures = [pair.path(name) for name in names]
        # A draft with the same faults again makes the same prompt again: another seed gives it another chance.
        asked = {"seed": self.settings.seed + context.get("round", 0), **self._asked}
        key = content_key(asked, self.settings.image_side, system, text, [self._digest(one) for one in pictures])
        answer = self._cache.get(key)
        if answer is None:
            # Two pairs with the same content wait for one request.
            if key not in self._under_way:
                task = asyncio.ensure_future(self._fetch(key, step, asked, system, text, pictures))
                self._under_way[key] = task
                task.add_done_callback(lambda _: self._under_way.pop(key, None))
            answer = await asyncio.shield(self._under_way[key])
        else:
            self.cost.events["answers from the cache"] += 1
        return self._usable(answer, step)

    async def _fetch(
        self, key: str, step: str, asked: Mapping[str, Any], system: str, text: str, pictures: Sequence[Path]
    ) -> dict[str, Any]:
        if self._client is None:
            self._open()
        async with self._slots:
            if self._client.stopping.is_set():
                raise Refused("the run was stopped")
            body, area = await asyncio.to_thread(self._body, asked, system, text, pictures)
            # Qwen2.5-VL spends a token on 28 x 28 pixels; a token of English has about four letters.
            estimate = area // (28 * 28) + (len(system) + len(text)) // 3 + 64
            ticket = self.cost.reserve(estimate, self.settings.max_tokens)
            usage = None
            try:
                answer = await self._client.send(body)
                usage = (*answer.usage, False) if answer.usage else (estimate, len(answer.text) // 3 + 8, True)
                kept = {
                    "step": step,
                    "model": self.name,
                    "text": answer.text,
                    "finish": answer.finish,
                    "refusal": answer.refusal,
                    "prompt_tokens": usage[0],
                    "completion_tokens": usage[1],
                    "estimated": usage[2],
                }
                self._cache.put(key, kept)
            finally:
                self.cost.settle(ticket, usage)
        return kept

    def _open(self) -> None:
        """Connections belong to the running loop."""
        self._client = Client(
            endpoint=self._endpoint, patience=self.settings.patience, events=self.cost.events, may_be_empty=False
        )
        self._slots = asyncio.Semaphore(self.settings.concurrency)

    def _body(
        self, asked: Mapping[str, Any], system: str, text: str, pictures: Sequence[Path]
    ) -> tuple[dict[str, Any], int]:
        """The request, and the area of its images in pixels."""
        encoded = [file_url(one, resize=self._sizing.apply, lossless=_is_small) for one in pictures]
        parts = [image_part(url) for url, _ in encoded]
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": [*parts, {"type": "text", "text": text}]},
        ]
        return {**asked, "messages": messages}, sum(width * height for _, (width, height) in encoded)

    def _shows_mark(self, pair: PairView) -> bool:
        return bool(self.settings.marked and pair.marked)

    def _variables(self, pair: PairView, context: Mapping[str, Any]) -> dict[str, Any]:
        """What the prompts may name; all of it in every prompt."""
        facts = Facts(pair, self.words)
        if pair.boxes:
            defects = [
                {"label": label, "place": place, "box": list(box)}
                for label, place, box in zip(facts.labels, facts.places, pair.boxes, strict=True)
            ][:MAX_BOXES]
        else:
            defects = [{"label": label, "place": "at a place that is not known", "box": []} for label in facts.labels]
        return {
            "subject": facts.subject,
            "view": pair.view,
            "anomalous": pair.anomalous,
            "width": pair.size[0],
            "height": pair.size[1],
            "defects": defects,
            "more": len(pair.boxes[MAX_BOXES:]),
            "marked": self._shows_mark(pair),
            "caption": context.get("caption"),
            "draft": context.get("draft", ""),
            "problems": list(context.get("problems", ())),
            "question": context.get("question", ""),
            "answer": context.get("answer", ""),
            "options": context.get("options"),
        }

    def _usable(self, answer: Mapping[str, Any], step: str) -> str:
        """The text of an answer, or Refused."""
        if answer["refusal"] or answer["finish"] == "content_filter" or is_refusal(answer["text"]):
            self.cost.events["refusals"] += 1
            said = answer["refusal"] or answer["text"] or answer["finish"]
            raise Refused(f"the model declines: {shortened(said, 80)}")
        # JSON that is cut off is noticed by whoever reads it, and asked for again; reasoning just ends.
        if answer["finish"] == "length" and step == "think":
            raise Refused(f"the reasoning is longer than {self.settings.max_tokens} tokens")
        return answer["text"]


def _is_small(image: Image.Image) -> bool:
    """Whether an image costs little as PNG, and would lose much as JPEG."""
    return max(image.size) <= 256
