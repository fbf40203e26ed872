"""The anomaly map on the page: made here beside an endpoint's answers, and all there is without a model.

torch, which a map needs and an endpoint does not, is loaded with the first map, while the endpoint answers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from ...answering.families import FAMILIES
from ...errors import UserError
from ...images import open_image, used_bits
from ...inspect.lines import results_of
from ...inspect.pairs import Pair
from ...inspect.question import Question
from ...inspect.result import Result
from ...line.thresholds import Threshold, from_good

if TYPE_CHECKING:
    from ...anomaly_map.comparing import AnomalyMap, Mapper
    from ...inspect.map_inspector import MapInspector

__all__ = ["MapEngine", "PageMap"]

#: Good parts that a threshold is found from at most.
MOST_GOOD = 20


class PageMap:
    """Maps beside the answers of a model that is elsewhere, one at a time on a thread of their own.

    Args:
        make: makes what compares pictures; called on that thread, once.
    """

    def __init__(self, make: Callable[[], Mapper]) -> None:
        self._mapper = cache(make)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="map")

    def start(self, question: Question) -> Future[AnomalyMap | None]:
        """Begin a question's map. There is none without a template, of a query that is its own template, and of
        templates with another shape: the model's answer stands alone then."""
        return self._thread.submit(self._compare, question)

    def _compare(self, question: Question) -> AnomalyMap | None:
        from ...inspect.mapping import map_of_pair

        sources = (question.query, *question.templates, *question.more)
        try:
            bits = used_bits(sources)
            query, *templates = (open_image(source, bits=bits) for source in sources)
            return map_of_pair(self._mapper(), query, templates)
        except UserError:
            return None
        except Exception:  # such as too little memory; the model's answer does not depend on it
            traceback.print_exc()
            return None


class MapEngine:
    """No model: what `adcopilot inspect --model none` says.

    Args:
        inspector: makes the maps.
        title: what visitors read instead of a model's name.
    """

    family = FAMILIES["adcopilot"]  # nobody is talked to
    has_heat, has_map, speaks, concurrency, parameters = False, True, False, 1, None

    def __init__(self, *, inspector: MapInspector, title: str) -> None:
        self.inspector, self.title = inspector, title

    def ask(self, question: Question) -> tuple[Result, None]:
        """The map's result; the question's words are not asked."""
        whole = replace(question, templates=(*question.templates, *question.more), more=())
        [result] = self.inspector.ask([whole])
        return result, None

    def inspect(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Result]]:
        """Each pair with `adcopilot inspect`'s result, in order."""
        return results_of(self.inspector, pairs)

    def threshold_of(self, good: Iterable[Pair]) -> Threshold | None:
        """A threshold from good parts, each paired with others; None where none of them can be compared."""
        scores = [one.score for _, one in self.inspect(islice(good, MOST_GOOD)) if one.score is not None]
        return from_good(scores, of_map=True) if scores else None
