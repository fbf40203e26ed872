"""What both tabs work with: the model, the visitors' files, the limits."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from ..answering.families import Family
from ..errors import UserError
from ..images import open_image
from ..inspect.judging import Judge
from ..inspect.pairs import Pair, TemplatePool, find_pairs
from ..inspect.question import Question
from ..inspect.result import Result
from ..line.thresholds import Threshold
from ..prompts import thinking_question
from .engines.answer import Answer
from .limits import Limits, check_pixels
from .questions import INSPECT, PageQuestion
from .store import Store

if TYPE_CHECKING:
    from .tabs.marking import Marks

__all__ = ["Engine", "GoodParts", "Service"]


@runtime_checkable
class Engine(Protocol):
    """Who answers: `LocalEngine`, `EndpointEngine`, or `MapEngine` without a model.

    Attributes:
        family: how the model is talked to.
        title: its name for visitors.
        parameters: how many it has; None where that is not known.
        has_heat: whether `ask` gives attention maps.
        has_map: whether its results have anomaly maps.
        speaks: whether it answers in words; else the map is all there is, and it is a `MapEngine`.
        concurrency: questions worth answering at the same time.
    """

    family: Family
    title: str
    parameters: int | None
    has_heat: bool
    has_map: bool
    speaks: bool
    concurrency: int

    def ask(self, question: Question) -> tuple[Result, np.ndarray | None]:
        """One answer, and the comparison tokens' attention over the query (rows, columns)."""

    def inspect(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Result]]:
        """Each pair with its result, or with what went wrong in it."""


class GoodParts:
    """A line's own pictures of good parts.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool: TemplatePool | None = None
        self._lock = threading.Lock()

    def pair(self, query: Path, *, each: int) -> Pair:
        """A picture with so many good parts, which it is compared with.

        Raises:
            UserError: it, or all of them, cannot be opened.
        """
        with self._lock:  # the pictures are read at the first question
            self._pool = self._pool or TemplatePool(folder=self.folder, by_name=False)
            [pair] = find_pairs([(query, query.name)], self._pool, templates=each)
        if pair.error is not None:
            raise UserError(pair.error)
        return pair


@dataclass(frozen=True, kw_only=True)
class Service:
    """What both tabs work with.

    Attributes:
        engine: who answers.
        store: the visitors' files.
        limits: how much they may bring.
        judge: whose verdicts they are, and from where on a part is defective.
        thinking: ask for the reasoning before each answer.
        inspects: what is asked for a verdict.
        templates_each: how many good parts a map is made with, where no visitor names them.
        good_parts: of the line whose folder was given, for visitors who bring none.
        marks: where visitors' marks go; None where they cannot mark.
    """

    engine: Engine
    store: Store
    limits: Limits
    judge: Judge = field(default_factory=Judge)
    thinking: bool = False
    inspects: PageQuestion = INSPECT
    templates_each: int = 1
    good_parts: GoodParts | None = None
    marks: Marks | None = None

    def open(self, path: str | os.PathLike, *, visitor: str) -> Image.Image:
        """A visitor's picture, decoded as everywhere in this package (`adcopilot.images.open_image`).

        Raises:
            UserError: as `Store.use` and `check_pixels`, or it is damaged; it names the file as the visitor does.
        """
        found = self.store.use(path, visitor=visitor)
        check_pixels(found, name=found.name, limits=self.limits)
        return open_image(found, name=found.name)

    def threshold_of(self, good: Iterable[Pair]) -> Threshold | None:
        """A threshold from good parts, each paired with others; None where a model or a line has one, or there are
        too few."""
        if self.engine.speaks or self.judge.map_threshold is not None:
            return None
        return self.engine.threshold_of(good)

    def answer(self, result: Result, *, threshold: Threshold | None = None, **about: Any) -> Answer:
        """What is said of a result.

        Args:
            threshold: of the map, if one was found from good parts: the verdict is by it.
            about: further fields of `Answer`.
        """
        judge = self.judge
        if threshold is not None and result.map is not None:
            from ..inspect.mapping import with_map  # loads torch, which has made the map

            judge = replace(judge, map_threshold=threshold.value)
            result = judge.judged(with_map(result, result.map, threshold=threshold.value, alone=True))
        return Answer(result=result, judge=judge, by_map=not self.engine.speaks, threshold=threshold, **about)

    def free_question(self, words: str) -> str:
        """A visitor's own words as they are put to the model.

        Raises:
            UserError: they are too long.
        """
        words = words.strip()
        if len(words) > self.limits.question:
            raise UserError(f"The question has {len(words)} letters, expected at most {self.limits.question}")
        return thinking_question(words) if self.thinking else words

    def ask(self, question: Question) -> tuple[Result, np.ndarray | None]:
        """The engine's answer.

        Raises:
            UserError: there is none; why is on stderr too, for the operator.
        """
        try:
            result, heat = self.engine.ask(question)
        except UserError as error:
            print(f"model: {error}", file=sys.stderr, flush=True)
            raise
        if result.error:
            raise UserError(result.error)
        return replace(result, reason=result.reason and self.without_paths(result.reason)), heat

    @contextmanager
    def for_visitors(self) -> Iterator[None]:
        """Whatever goes wrong in the block is a `UserError` in words for visitors; more is on stderr."""
        try:
            yield
        except UserError as error:
            raise UserError(self.without_paths(str(error))) from error
        except Exception as error:
            traceback.print_exc()
            raise UserError(
                "Something went wrong on the server; it has been written down there. Try again."
            ) from error

    def without_paths(self, text: str, *folders: os.PathLike) -> str:
        """A message without this machine's folders: of a stored file only its name is left."""
        text = re.sub(
            rf"{re.escape(str(self.store.served))}{re.escape(os.sep)}(?:[0-9a-f]+{re.escape(os.sep)})?", "", text
        )
        for folder in (*folders, *([self.good_parts.folder] if self.good_parts else [])):
            text = text.replace(f"{os.fspath(folder)}{os.sep}", "")
        return text
