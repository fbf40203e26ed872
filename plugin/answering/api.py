"""Any OpenAI-style endpoint: a vLLM server with AD-Copilot or another model, GPT-4o, Gemini, Seed.

Many questions are under way at once. Those about the same images follow one another closely, so that a server which
keeps prefixes (vLLM does) computes images and prefix once.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from itertools import zip_longest
from typing import Any

from ..endpoint.address import Endpoint, checked_address, key_of
from ..endpoint.client import Client, Declined, Patience, Refused
from ..endpoint.completion import Completion
from ..endpoint.images import image_part
from ..errors import UserError, shortened
from .base import Reply, grouped
from .families import family_of
from .image_urls import ImageUrls
from .items import Item, chat_messages
from .sizing import MMAD_PIXELS, PROCESSOR_PIXELS, SENT_PIXELS, TRAINING_PIXELS, PixelBudget, Sizing

__all__ = ["ApiBackend"]

#: The most alternatives to a token that OpenAI's interface tells.
TOP_LOGPROBS = 20


class ApiBackend:
    """A model behind an endpoint.

    Args:
        base_url: as OpenAI clients take it (`http://localhost:8000/v1`).
        option, key_option: that it, and the name of its key's variable, are given by.
        model: its name there.
        family: name of its family (`families.FAMILIES`); read off the model's name by default.
        vllm: whether the endpoint is a vLLM server. It is then told not to take sampling settings from the model's
            generation_config.json, whose repetition penalty changes answers; other endpoints refuse that field.
        key_variable: environment variable that holds the key, as `endpoint.address.key_of` takes it.
        option_logprobs: ask for the probabilities of option letters; not all endpoints give them.
        image_side: shrink images to so many pixels on the longer side first.
        image_max_pixels, image_min_pixels: for AD-Copilot and Qwen2.5-VL, as in `TransformersBackend`. Images are
            resized here, so that the server's processor finds the same image as it would on this machine. For others
            `image_max_pixels` (2097152) is the area that images are shrunk to, and there is no least one.
        limit_field: what the endpoint calls the longest answer (`max_completion_tokens` for OpenAI's newer models).
        extra: further fields of a request; None takes a field out (`{"temperature": None}`).
        patience: as `endpoint.client.Patience`.

    Raises:
        UserError: a value is out of range, or the key's variable is not set.
    """

    name = "api"

    def __init__(
        self,
        *,
        base_url: str | None,
        option: str = "--base-url",
        key_option: str = "--key-variable",
        model: str,
        family: str | None = None,
        vllm: bool = False,
        key_variable: str | None = None,
        option_logprobs: bool = False,
        image_side: int | None = None,
        image_max_pixels: int | None = None,
        image_min_pixels: int | None = None,
        limit_field: str = "max_tokens",
        extra: Mapping[str, Any] | None = None,
        **patience: Any,
    ) -> None:
        key_goes = f"an environment variable and give its name with {key_option}"
        base_url = checked_address(base_url, setting=option, key_goes=key_goes)
        if not model:
            raise UserError("--model is empty, expected the name that the endpoint knows the model by")
        self.patience = Patience(**patience)
        self.patience.check(lambda name: f"--{name.replace('_', '-')}")
        self.base_url, self.model_name = base_url, model
        self.family = family_of(family, model=model)
        self.concurrency, self.option_logprobs = self.patience.concurrency, option_logprobs
        self.limit_field = limit_field
        self.extra = {**({"repetition_penalty": 1.0} if vllm else {}), **(extra or {})}
        self.sizing = _sizing(self.family.name, image_side, image_min_pixels, image_max_pixels)
        self.events: Counter[str] = Counter()
        self.endpoint = Endpoint(base_url, key_of(key_variable))
        # Where the size that the model sees is known, its pixels are those of a model on this machine.
        self.image_urls = ImageUrls(sizing=self.sizing, exact=self.sizing.processor is not None)

    def __repr__(self) -> str:
        return f"ApiBackend({self.base_url}, {self.model_name})"

    def describe(self) -> dict[str, Any]:
        """As `Backend.describe`. The address is left out: the same model elsewhere is the same model."""
        return {
            "backend": self.name,
            "model": self.model_name,
            "family": self.family.name,
            "images": {**self.sizing.describe(), **self.image_urls.describe()},
            "decoding": "greedy",
            "request": self.extra,
            "option_logprobs": self.option_logprobs,
            "versions": {"adcopilot": metadata.version("adcopilot")},
        }

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """As `Backend.model_size`."""
        return self.sizing.model_size(size)

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """As `Backend.answer`. Where an endpoint declines one request, the item is refused; where it does not
        answer it, the item has an error.

        Raises:
            UserError: the endpoint refuses everything (key, address, model), or many requests in a row failed (not:
                were declined). Answers that were under way are waited for and yielded first.
        """
        answers: queue.SimpleQueue[tuple[Item, Reply] | BaseException | None] = queue.SimpleQueue()
        order = _close_together(grouped(items), self.concurrency, urls=self.image_urls)
        self.image_urls.expect(order)
        run = _Run(self, iter(order), max_new_tokens, answers)
        run.start()
        try:
            while (found := answers.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            run.stop()

    def body(self, item: Item, *, max_new_tokens: int) -> dict[str, Any]:
        """The request for one item.

        Raises:
            UserError: an image cannot be read.
        """

        def content(role: str, parts: Sequence[str | int]) -> Any:
            if role == "assistant":  # which some servers take as a plain text only
                return parts[0]
            return [
                {"type": "text", "text": part}
                if isinstance(part, str)
                else image_part(self.image_urls(item.images[part]))
                for part in parts
            ]

        body = {
            "model": self.model_name,
            "messages": [{"role": role, "content": content(role, parts)} for role, parts in chat_messages(item)],
            "temperature": 0,
            self.limit_field: max_new_tokens,
        }
        if self.option_logprobs and item.options:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        return {name: value for name, value in {**body, **self.extra}.items() if value is not None}

    def reply(self, item: Item, completion: Completion, seconds: float) -> Reply:
        """What an answer of the endpoint says about an item. Reasoning that a server hands over apart from it stands
        before it between `<think>` tags; what a filter cut off was cut off, and what it took away was refused."""
        text, declined = completion.text.strip(), ""
        if not text and completion.refusal:
            declined = f"the model declined ({shortened(completion.refusal, 200)})"
        elif not text and completion.finish == "content_filter":
            declined = "a content filter of the endpoint took the answer away"
        if declined:
            return Reply(error=declined, refused=True, seconds=seconds)
        if completion.reasoning:
            text = f"<think>{completion.reasoning}</think>{completion.text}".strip()
        logprobs = None
        if item.options and completion.first_token:
            logprobs = {}
            for letter in item.options:
                values = [value for token, value in completion.first_token if token.strip() == letter]
                if values:
                    top = max(values)
                    logprobs[letter] = top + math.log(sum(math.exp(value - top) for value in values))
        return Reply(
            text=text,
            option_logprobs=logprobs,
            seconds=seconds,
            truncated=completion.finish in ("length", "content_filter"),
        )


class _Run:
    """The requests of one `answer` call, in an event loop of their own on a thread of their own."""

    def __init__(
        self, backend: ApiBackend, items: Iterator[Item], max_new_tokens: int, answers: queue.SimpleQueue
    ) -> None:
        self.backend, self.items, self.max_new_tokens, self.answers = backend, items, max_new_tokens, answers
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._main, name="api-backend", daemon=True)
        self.task: asyncio.Task | None = None

    def start(self) -> None:
        self.task = self.loop.create_task(self._all())
        self.thread.start()

    def stop(self) -> None:
        """Give up what is under way, if anything is, and wait until nothing runs."""
        if self.thread.is_alive():
            with suppress(RuntimeError):  # the loop was closed in this very moment: nothing is under way
                self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join()

    def _main(self) -> None:
        try:
            self.loop.run_until_complete(self.task)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # raised again where the answers are read
            self.answers.put(error)
        finally:
            self.answers.put(None)
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    async def _all(self) -> None:
        client = Client(
            endpoint=self.backend.endpoint,
            patience=self.backend.patience,
            events=self.backend.events,
            may_be_empty=True,
        )
        try:
            workers = (self._work(client) for _ in range(self.backend.concurrency))
            results = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            await client.close()
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _work(self, client: Client) -> None:
        for item in self.items:
            if client.stopping.is_set():
                return
            start = time.perf_counter()
            try:
                body = await asyncio.to_thread(self.backend.body, item, max_new_tokens=self.max_new_tokens)
            except UserError as error:  # an image; the endpoint has no part in it
                self.answers.put((item, Reply(error=str(error))))
                continue
            try:
                completion = await client.send(body)
            except Refused as error:
                if client.stopping.is_set():
                    return  # the item was not answered at all
                refused = isinstance(error, Declined)
                seconds = time.perf_counter() - start
                self.answers.put((item, Reply(error=str(error), refused=refused, seconds=seconds)))
                continue
            except BaseException:
                client.stopping.set()  # the others finish what they have begun
                raise
            self.answers.put((item, self.backend.reply(item, completion, time.perf_counter() - start)))


def _close_together(groups: Sequence[list[Item]], width: int, *, urls: ImageUrls | None = None) -> list[Item]:
    """The first questions of `width` groups, then their second ones, …: when a group's second question comes, the
    server has seen its first, and not yet forgotten it.

    Groups whose first template is the same follow one another, and where the images of so many groups would not fit
    into half of what `urls` keeps, fewer are taken together: each image is then encoded once.
    """
    first: dict[Any, int] = {}
    groups = sorted(groups, key=lambda group: first.setdefault(group[0].images[:1], len(first)))
    found: list[Item] = []
    window: list[list[Item]] = []
    weight = 0
    for group in groups:
        more = sum(map(urls.weight, group[0].images)) if urls else 0
        if window and (len(window) == width or (urls and weight + more > urls.room // 2)):
            found += _by_turns(window)
            window, weight = [], 0
        window.append(group)
        weight += more
    return found + _by_turns(window)


def _by_turns(groups: Sequence[list[Item]]) -> list[Item]:
    return [item for row in zip_longest(*groups) for item in row if item is not None]


def _sizing(family: str, side: int | None, smallest: int | None, largest: int | None) -> Sizing:
    if family == "adcopilot":
        training = PixelBudget(smallest=smallest or TRAINING_PIXELS[0], largest=largest or TRAINING_PIXELS[1])
        own = PixelBudget(smallest=PROCESSOR_PIXELS[0], largest=PROCESSOR_PIXELS[1])
        return Sizing(side=side, training=training, processor=own)
    if family == "qwen2.5-vl":
        budget = PixelBudget(smallest=smallest or MMAD_PIXELS[0], largest=largest or MMAD_PIXELS[1])
        return Sizing(side=side, processor=budget, here=True)
    if smallest:
        raise UserError("--image-min-pixels: for AD-Copilot and Qwen2.5-VL only at an endpoint")
    if side is not None or largest is not None:
        return Sizing(side=side, largest=largest)
    return Sizing(largest=SENT_PIXELS, largest_by_default=True)
