"""Inspect without a model: what an anomaly map alone says."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..anomaly_map.comparing import Mapper, MapSettings
from ..errors import UserError
from ..images import ImageSource, open_image, used_bits
from ..other_kind import notes_about
from .judging import Judge
from .lines import AHEAD
from .mapping import with_map
from .question import Question
from .result import Result, source_name
from .same_picture import SAME_PICTURE, is_same_picture

__all__ = ["MapInspector"]


class MapInspector:
    """What `ModelInspector` is with a model: pairs in, results out. `score` and `boxes` are the map's.

    Args:
        map: how pictures are compared.
        judge: what a score is anomalous from; without a threshold the verdict is undecided.
        device: of a backbone: `auto`, or a torch device.

    Raises:
        UserError: the backbone cannot be loaded, or there is no such device.
    """

    def __init__(self, *, map: MapSettings, judge: Judge, device: str = "auto") -> None:
        from .loading import pick_device

        self.map, self.judge = map, judge
        self.mapper = Mapper(map, device=pick_device(device))
        self.bits: int | None = None
        self.folder = Path("none")

    def settings(self) -> dict[str, Any]:
        """All that maps depend on besides the images."""
        return {"map": self.map.to_dict(), **({"bits": self.bits} if (self.bits or 8) > 8 else {})}

    def pair_question(self, template: ImageSource, query: ImageSource, more: tuple[ImageSource, ...] = ()) -> Question:
        """As `ModelInspector.pair_question`."""
        return Question(templates=(template, *more), query=query, text="")

    def inspect_many(self, pairs: Iterable[tuple[ImageSource, ImageSource]]) -> Iterator[Result]:
        """As `ModelInspector.inspect_many`."""
        return self.ask(self.pair_question(template, query) for template, query in pairs)

    def ask(self, questions: Iterable[Question]) -> Iterator[Result]:
        """A `Result` for each question, in order; their words are not asked."""
        questions = iter(questions)
        pool, ahead = ThreadPoolExecutor(self.mapper.workers), AHEAD + self.mapper.workers
        try:
            waiting = deque(pool.submit(self._compare, question) for question in islice(questions, ahead))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(self._compare, question) for question in islice(questions, 1))
        finally:  # whoever has seen enough does not wait for the rest
            pool.shutdown(cancel_futures=True)

    def map_again(self, result: Result, question: Question) -> Result:
        """A stored result with its map made anew."""
        again = self._compare(question)
        return result if again.error else replace(again, query=result.query, template=result.template)

    def _compare(self, question: Question) -> Result:
        names = [source_name(source, "template") for source in question.templates]
        result = Result(query=source_name(question.query, "query"), template=names[0] if names else None)
        try:
            bits = self.bits or used_bits((*question.templates, question.query))
            templates = [
                open_image(source, name=name, bits=bits)
                for source, name in zip(question.templates, names, strict=True)
            ]
            query = open_image(question.query, name=result.query, bits=bits)
            sources = (question.query, *question.templates)
            notes = notes_about(query, templates, sources=sources, name=result.query, bits=bits)
            result = replace(result, size=query.size, note="; ".join(notes) or None)
            if not templates:
                raise UserError(f"{result.query}: an anomaly map needs a template; give --template or --template-dir")
            if any(is_same_picture(template, query) for template in templates):
                result = replace(result, doubt=SAME_PICTURE)
            else:
                found = self.mapper.compare(query, templates)
                result = with_map(result, found, threshold=self.judge.map_threshold, alone=True)
        except UserError as error:
            return replace(result, error=str(error))
        return self.judge.judged(result)
