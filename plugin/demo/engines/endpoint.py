"""Answers from an OpenAI-style endpoint: a vLLM server with AD-Copilot, LlamaFactory's API, or another model's."""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ...answering.api import ApiBackend
from ...answering.base import Reply
from ...answering.families import read_boxes, split_thinking
from ...answering.items import Item
from ...boxes import boxes_in_image, map_text_boxes
from ...errors import UserError
from ...images import image_size, open_image
from ...inspect.judging import Judge
from ...inspect.pairs import Pair
from ...inspect.question import Question
from ...inspect.result import Result
from ...inspect.same_picture import SAME_PICTURE, is_same_picture
from ...prompts import ANSWER_WORDS
from .maps import PageMap

__all__ = ["EndpointEngine"]

#: Every spelling of the two words whose probabilities make the score.
YES, NO = ((word, word.lower(), word.upper()) for word in ANSWER_WORDS)
#: Pairs of a folder that are handed over at a time.
PAIRS_AT_ONCE = 64


class EndpointEngine:
    """A model behind an endpoint.

    Args:
        backend: the endpoint; with `option_logprobs` there is a score where it tells the first token's probabilities.
        question: what is asked about the pairs of a folder.
        judge: from where on a score is anomalous.
        max_new_tokens: longest answer.
        maps: makes the anomaly maps beside single answers; None for none.
    """

    has_heat, speaks, parameters = False, True, None

    def __init__(
        self,
        *,
        backend: ApiBackend,
        question: str,
        judge: Judge,
        max_new_tokens: int,
        maps: PageMap | None = None,
    ) -> None:
        self.backend = backend
        self.question, self.judge, self.max_new_tokens = question, judge, max_new_tokens
        self.family = backend.family
        self.title = backend.model_name
        self.concurrency = backend.concurrency
        self.maps, self.has_map = maps, maps is not None

    def ask(self, question: Question) -> tuple[Result, None]:
        """The answer to one question, whose images are files; there is no attention to be seen from here.

        Raises:
            UserError: the endpoint does not answer. What it said is for the operator, on stderr: it names addresses.
        """
        item = self._item(question)
        coming = self.maps.start(question) if self.maps else None
        try:
            [(_, reply)] = self.backend.answer([item], max_new_tokens=self.max_new_tokens)
        except UserError as error:
            raise _unavailable(str(error)) from error
        if reply.error:
            raise _unavailable(reply.error)
        result, found = self._result(item, reply), coming.result() if coming else None
        if found is None:
            return result, None
        from ...inspect.mapping import with_map  # loads torch, which has made the map

        return with_map(result, found, threshold=None, alone=False), None

    def inspect(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Result]]:
        """Each pair with its result, as soon as its answer is there; without maps, which would take longer than the
        answers.

        Raises:
            UserError: as `ask`.
        """
        pairs = iter(pairs)
        while some := list(islice(pairs, PAIRS_AT_ONCE)):
            asked: dict[str, Pair] = {}
            items = []
            for pair in some:
                if pair.error is not None:
                    yield pair, _failed(pair, pair.error)
                    continue
                items.append(self._item(Question(templates=(pair.template,), query=pair.query, text=self.question)))
                asked[items[-1].key] = pair
            try:
                for item, reply in self.backend.answer(items, max_new_tokens=self.max_new_tokens):
                    pair = asked[item.key]
                    yield pair, _failed(pair, reply.error) if reply.error else self._result(item, reply)
            except UserError as error:
                raise _unavailable(str(error)) from error

    def _item(self, question: Question) -> Item:
        images = (*question.templates, question.query)
        return Item(
            key=secrets.token_hex(8),
            group=secrets.token_hex(8),
            images=tuple(Path(image) for image in images),
            prefix=tuple(range(len(images))),
            question=question.text,
            options=dict.fromkeys((*YES, *NO), ""),
            history=question.turns,
        )

    def _result(self, item: Item, reply: Reply) -> Result:
        size = image_size(item.images[-1])
        seen = self.backend.model_size(size)
        said = split_thinking(reply.text)[1]
        if self.family.name == "adcopilot":  # as `adcopilot inspect` reads and rounds them
            boxes, text = boxes_in_image(said, seen, size), map_text_boxes(reply.text, seen, size)
        else:
            boxes = read_boxes(reply.text, family=self.family, size=size, model_size=seen)
            boxes = [{**box, "bbox_2d": [round(value) for value in box["bbox_2d"]]} for box in boxes]
            text = map_text_boxes(reply.text, seen, size) if self.family.pixels else reply.text
        # What stands before the answer, if only empty tags, has the first token.
        score, mass = _score(reply) if said == reply.text.strip() else (None, None)
        is_same = any(_is_same(template, item.images[-1]) for template in item.images[:-1])
        if is_same:
            score = mass = None
        result = Result(
            query=str(item.images[-1]),
            template=str(item.images[-2]) if len(item.images) > 1 else None,
            score=None if score is None else round(score, 6),
            boxes=boxes,
            text=text,
            answer=reply.text,
            yes_no_mass=None if mass is None else round(mass, 6),
            size=size,
            doubt=SAME_PICTURE if is_same else None,
        )
        return self.judge.judged(result)


def _score(reply: Reply) -> tuple[float | None, float | None]:
    """Probability of "Yes" rather than "No", and of both together, as the answer's first token; (None, None) where the
    endpoint tells neither's, or told something that is no probability (which `read_completion` leaves out)."""
    yes, no = (
        sum(math.exp(value) for word, value in (reply.option_logprobs or {}).items() if word in words)
        for words in (YES, NO)
    )
    return (yes / (yes + no), min(yes + no, 1.0)) if yes + no > 0 else (None, None)


def _is_same(template: Path, query: Path) -> bool:
    """Whether two files, which have been decoded before, show the same pixels, turned or not."""
    sizes = sorted(image_size(template)), sorted(image_size(query))
    return sizes[0] == sizes[1] and is_same_picture(open_image(template), open_image(query))


def _failed(pair: Pair, message: str) -> Result:
    template = str(pair.template) if pair.template else None
    return Result(query=str(pair.query), template=template, error=message)


def _unavailable(reason: str) -> UserError:
    print(f"endpoint: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    return UserError("The model's server does not answer just now. Please try again in a minute.")
