"""Answers from a model on this machine, by `adcopilot inspect`'s own `ModelInspector`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...answering.families import family_of_config
from ...inspect.hub import model_title
from ...inspect.lines import results_of
from ...inspect.model_inspector import ModelInspector
from ...inspect.pairs import Pair
from ...inspect.question import Question
from ...inspect.result import Result
from .heat_map import watch

__all__ = ["LocalEngine"]


class LocalEngine:
    """A model on this machine.

    All of its work is done on one thread, in the order in which it is asked for: a visitor's question gets its turn
    between two batches of another visitor's folder.

    Args:
        inspector: the model.
    """

    #: Questions worth answering at the same time.
    concurrency = 1
    speaks = True

    def __init__(self, *, inspector: ModelInspector) -> None:
        self.inspector = inspector
        self.family = family_of_config(inspector.model.config.model_type)
        self.title = model_title(inspector.folder)
        self.parameters = inspector.model.num_parameters()
        self.has_map = inspector.map is not None
        self.has_heat = hasattr(inspector.model, "comparison_encoder")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    def ask(self, question: Question) -> tuple[Result, np.ndarray | None]:
        """The answer to one question, and the comparison tokens' attention over the query (rows, columns).

        Raises:
            UserError: as `ModelInspector.ask`.
        """
        return self._model_thread.submit(self._ask, question).result()

    def _ask(self, question: Question) -> tuple[Result, np.ndarray | None]:
        with watch(self.inspector.model) as seen:
            [result] = self.inspector.ask([question])
        if result.error or seen.weights is None:
            return result, None
        images = self.inspector.processor.image_processor
        size = self.inspector.model_size(result.size)
        return result, seen.grid(size, patch_size=images.patch_size, merge_size=images.merge_size)

    def inspect(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Result]]:
        """Each pair with `adcopilot inspect`'s result, in order, a batch at a time.

        Raises:
            UserError: as `ModelInspector.inspect_many`.
        """
        results = results_of(self.inspector, pairs)
        try:
            while found := self._model_thread.submit(next, results, None).result():
                yield found
        finally:
            self._model_thread.submit(results.close).result()
