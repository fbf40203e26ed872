"""`adcopilot.Inspector`: what `adcopilot inspect` does, from Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..images import ImageSource, used_bits
from ..prompts import INSPECT_QUESTION
from .arrays import CHANNELS, Channels, as_source
from .lines import results_of
from .loading import check_folder
from .opening import folder_of_templates, open_engine, set_up, threshold_among
from .pairs import Pair, TemplatePool
from .question import Question
from .result import Result, source_name

__all__ = ["Inspector"]

#: What `as_source` takes: a path, bytes, a file, a PIL image, a NumPy array.
Picture = Any


class Inspector:
    """Compares query pictures with templates of good parts, by a model, by the anomaly map, or by both.

        inspector = Inspector("saves/tiny/merged")
        result = inspector.inspect("good.png", "query.png")
        print(result.verdict, result.score, result.boxes)

    Arguments are the options of `adcopilot inspect`, by the same names, with the same defaults (docs/inspect.md).

    Args:
        model: folder or hub id of an AD-Copilot (or Qwen2.5-VL) model; folder of a line (`adcopilot adapt`,
            `adcopilot calibrate`), whose templates, threshold and map are used; `none` for the anomaly map alone.
        template_dir: pictures of good parts that a query's templates are chosen from where none is given.
        threshold: a score from here on is anomalous.
        verdict_from: `model`, `map` or `either`.
        map: `pixels`, `features` or `off`.
        map_backbone: folder or hub id of a vision model, for `features`.
        map_search: displacement allowed, in pixels or patches.
        map_templates: templates that a query's map is made with, of those of the line or `template_dir`.
        box_growth: pixels by which the map's boxes are larger than what differs.
        hints: `map` to tell the model which places the map marks.
        question: asked instead of training's question; to be answered by yes (there is an anomaly) or no.
        any_size: give a verdict about pictures far outside the sizes of training too.
        batch_size: pairs that are answered together.
        max_new_tokens: longest answer.
        image_max_pixels, image_min_pixels: areas between which pictures are brought, as in training.
        device: `auto`, or a torch device: `cpu`, `cuda`, `cuda:1`.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        attention: `sdpa`, `eager` or `flash_attention_2`.

    Attributes:
        engine: what inspects (`ModelInspector`, `MapInspector`), loaded.
        threshold_from: how the threshold was found where it is the line's, or of the templates among each other; None
            else.

    Raises:
        UserError: the folder cannot be used, or a value is out of its range; the message is one line with the remedy.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        template_dir: str | Path | None = None,
        threshold: float | None = None,
        verdict_from: Literal["model", "map", "either"] | None = None,
        map: Literal["pixels", "features", "texture", "off"] | None = None,
        map_backbone: str | Path | None = None,
        map_search: int | None = None,
        map_templates: int | None = None,
        box_growth: int | None = None,
        hints: Literal["map"] | None = None,
        question: str = INSPECT_QUESTION,
        any_size: bool = False,
        batch_size: int = 4,
        max_new_tokens: int = 512,
        image_max_pixels: int | None = None,
        image_min_pixels: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "sdpa",
    ) -> None:
        found = set_up(
            model,
            map=map,
            threshold=threshold,
            verdict_from=verdict_from,
            templates_each=map_templates,
            backbone=None if map_backbone is None else str(map_backbone),
            search=map_search,
            growth=box_growth,
            max_pixels=image_max_pixels,
        )
        found.check_left()
        if found.note:
            warnings.warn(found.note, UserWarning, stacklevel=2)
        if hints not in (None, "map") or (hints and found.no_model):
            raise UserError(f"hints is {hints!r}, expected 'map' with a model, or None")
        if not found.no_model:
            check_folder(found.folder)
        asked = {"question": None if question == INSPECT_QUESTION else question}
        asked |= {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}
        asked = found.asked(asked, threshold=threshold)
        self._pool, self._each, self._unusable_told = None, found.templates_each, 0
        of_line = template_dir is None and found.inspection is not None and bool(found.inspection.templates)
        if of_line:
            template_dir = folder_of_templates(found.folder, found.inspection)
        if template_dir is not None:
            pool = TemplatePool(folder=Path(template_dir), by_name=not of_line)  # see `sources.plan`
            pool.bits = found.bits or used_bits(pool.files)
            self._pool = pool
        self.engine = open_engine(
            found.folder,
            no_model=found.no_model,
            map=found.map,
            judge=found.judge,
            device=device,
            dtype=dtype,
            attention=attention,
            **{**asked, "question": asked["question"] or INSPECT_QUESTION},
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            any_size=any_size,
            hints=hints is not None,
        )
        self.engine.bits = found.bits
        kept = found.inspection is not None and threshold is None and found.note is None
        kept = kept and found.judge.source == found.inspection.verdict_from
        self.threshold_from = found.inspection.threshold_from if kept else None
        if found.no_model and found.judge.map_threshold is None and self._pool is not None:
            among = threshold_among(self.engine, [self._pool], each=self._each)
            if among is not None:
                self.engine.judge = replace(found.judge, map_threshold=among.value)
                self.threshold_from = f"{among.chosen}, compared with each other"

    def inspect(
        self,
        template: Picture | Sequence[Picture] | None = None,
        query: Picture = None,
        *,
        channels: Channels = "rgb",
    ) -> Result:
        """Inspect one query.

        Args:
            template: a picture of a good part; several in a list: the model sees the first, as in training, the
                anomaly map is made with all. None for the line's own, or those of `template_dir`.
            query: the picture to inspect. Pictures are paths, PIL images, NumPy arrays ((H, W, 3) or (H, W) uint8),
                encoded bytes or binary files.
            channels: the order of arrays' channels: `rgb`, or `bgr` for OpenCV's.

        Raises:
            UserError: a picture cannot be used; or the device's memory does not hold it.
        """
        if query is None and template is not None:
            raise UserError(
                "the query is None (as cv2.imread returns for a file that it cannot read), expected a picture: "
                "inspect(template, query), inspect(query=…) where the line has templates, or inspect_many([(template, "
                "query), …])"
            )
        [result] = self.inspect_many([(template, query)], channels=channels)
        if result.error is not None:
            raise UserError(result.error)
        return result

    def inspect_many(
        self,
        pairs: Iterable[tuple[Picture | Sequence[Picture] | None, Picture]],
        *,
        channels: Channels = "rgb",
    ) -> Iterator[Result]:
        """Inspect pairs one after the other, a model `batch_size` at a time.

        Args:
            pairs: (template, query), each as `inspect` takes it; read lazily, a few ahead of the results.
            channels: as in `inspect`.

        Yields:
            A `Result` for each pair, in order. A file that cannot be used gives one with `error`, and the others go
            on; what is no picture at all, such as an array of floats, is a mistake of the program and raises.

        Raises:
            UserError: as `inspect`.
        """
        if channels not in CHANNELS:  # at the call, not at the first result
            raise UserError(f"channels is {channels!r}, expected {' or '.join(repr(one) for one in CHANNELS)}")
        return self._results(pairs, channels)

    def _results(self, pairs, channels: Channels) -> Iterator[Result]:
        def chosen() -> Iterator[Pair]:
            for pair in pairs:
                templates, query = self._sources(pair, channels)
                error = None
                if not templates:
                    try:
                        templates = self._choose(query)
                    except UserError as wrong:
                        error = str(wrong)
                template, *more = templates or (None,)
                yield Pair(query=query, template=template, more=tuple(more), error=error)

        for pair, result in results_of(self.engine, chosen()):
            yield result if pair.error else replace(result, pictures=(pair.template, pair.query))

    def ask(self, questions: Iterable[Question]) -> Iterator[Result]:
        """Other words, and further turns of a conversation: `ModelInspector.ask`."""
        return self.engine.ask(questions)

    def _sources(self, pair: Any, channels: Channels) -> tuple[tuple[ImageSource, ...], ImageSource]:
        """The templates of a pair, none where they are to be chosen, and its query."""
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UserError(
                f"expected pairs (template, query), got {type(pair).__name__}; one pair is inspect(template, query)"
            )
        template, query = pair
        query = as_source(query, role="query", channels=channels)
        if template is None and self._pool is not None:
            return (), query
        given = template if isinstance(template, (list, tuple)) else [template]
        if not len(given):
            raise UserError("the list of templates is empty; give one picture of a good part or more")
        return tuple(as_source(one, role="template", channels=channels) for one in given), query

    def _choose(self, query: ImageSource) -> tuple[ImageSource, ...]:
        """The templates that `adcopilot inspect` would choose for a query."""
        name = Path(source_name(query, "query")).name
        chosen = tuple(self._pool.choose(query, name=name, count=self._each))
        unusable, self._unusable_told = self._pool.unusable[self._unusable_told :], len(self._pool.unusable)
        for message in unusable:
            warnings.warn(f"left out as a template: {message}", UserWarning, stacklevel=2)
        return chosen
