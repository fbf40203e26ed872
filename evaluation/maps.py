"""Anomaly maps of the pictures of questions: each pair is compared once, each category has its threshold.

What was found is kept in the run's folder (`maps*.jsonl`), so that scoring a run again compares nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adcopilot.cli.saying import say
from adcopilot.errors import UserError
from adcopilot.images import image_size, is_like_shape
from adcopilot.inspect.opening import LEAST_TEMPLATES, MOST_TEMPLATES, threshold_among
from adcopilot.inspect.pairs import TemplatePool
from adcopilot.jsonl import JsonlLog, content_key, read_jsonl

from .image_digests import image_digests

if TYPE_CHECKING:  # it needs torch, which takes seconds
    from adcopilot.anomaly_map.comparing import MapSettings

__all__ = ["MapFinding", "Maps", "Shown", "shown_in"]


class Shown(NamedTuple):
    """What a question shows: its templates, its query, and the category whose threshold counts."""

    templates: tuple[Path, ...]
    query: Path
    category: str


def shown_in(images: Iterable[str | Path], meta: Mapping[str, Any]) -> Shown:
    """Of an item, or of a line of a run."""
    *templates, query = map(Path, images)
    names = (meta.get("dataset"), meta.get("category"))
    return Shown(tuple(templates), query, "/".join(str(name) for name in names if name))


@dataclass(frozen=True, kw_only=True)
class MapFinding:
    """What a map says of a pair.

    Attributes:
        score: of the map; None where there is none.
        boxes: `{"bbox_2d": …, "label": …}` in pixels of the query; none where it is normal.
        anomalous: None where no threshold is known; the boxes are then around what differs most.
        refused: why there can be no verdict about these pictures, "" if there can.
    """

    score: float | None = None
    boxes: list[dict[str, Any]] = field(default_factory=list)
    anomalous: bool | None = None
    refused: str = ""


class Maps:
    """Compares the pictures of questions.

    Args:
        settings: how.
        threshold: of all scores; None for one of each category, from its templates (`learn`).
        device: of a backbone.
        file: where what was found is kept; others of its kind beside it are read too.
        bits: that all pictures of 16 bits a channel use; None for each pair's own.
        templates_each: that the threshold was found with; None where that is not known.

    Raises:
        UserError: as `MapInspector`.
    """

    def __init__(
        self,
        settings: MapSettings,
        *,
        threshold: float | None,
        device: str = "auto",
        file: Path | None = None,
        bits: int | None = None,
        templates_each: int | None = None,
    ) -> None:
        from adcopilot.inspect.judging import Judge
        from adcopilot.inspect.map_inspector import MapInspector

        self.settings, self.threshold, self.file = settings, threshold, file
        self.templates_each = templates_each
        self.inspector = MapInspector(map=settings, judge=Judge(source="map", map_threshold=threshold), device=device)
        self.inspector.bits = bits
        self.thresholds: dict[str, float | None] = {}

    @property
    def title(self) -> str:
        """In the place of a model's name."""
        backbone = f" of {Path(self.settings.backbone).name}" if self.settings.backbone else ""
        return f"anomaly map ({self.settings.kind}{backbone})"

    def describe(self) -> dict[str, Any]:
        """All that what is found depends on besides the pictures."""
        packages = ("torch", "numpy", "pillow", *(["transformers"] if self.settings.backbone else []))
        return {
            **self.inspector.settings(),
            **({"thresholds": self.thresholds} if self.threshold is None else {"threshold": self.threshold}),
            "versions": {name: metadata.version(name) for name in packages},
        }

    def learn(self, shown: Sequence[Shown]) -> None:
        """Find the threshold of each category among all of its templates, where none is given; say where one that is
        given was found with more or fewer templates than these have."""
        if self.threshold is not None:
            others = [len(one.templates) for one in shown if len(one.templates) != self.templates_each]
            if self.templates_each is not None and others:
                say(
                    f"note: the line's threshold was found with {self.templates_each} templates a picture, and "
                    f"{len(others)} of {len(shown)} pairs have others ({others[0]}): with fewer a score is higher; "
                    f"adcopilot calibrate … --map-templates {others[0]} finds theirs, or give --threshold"
                )
            return
        templates: dict[str, dict[Path, None]] = {}
        each: dict[str, int] = {}
        for one in shown:
            each[one.category] = max(each.get(one.category, 1), len(one.templates))
            templates.setdefault(one.category, {}).update(dict.fromkeys(one.templates))
        few = []
        for category, files in sorted(templates.items()):
            some = sorted(files)[:: -(-len(files) // MOST_TEMPLATES)]
            found = None
            if len(some) >= LEAST_TEMPLATES:
                pool = TemplatePool(folder=Path(category), by_name=False, files=some)
                found = threshold_among(self.inspector, [pool], each=each[category])
            self.thresholds[category] = None if found is None else found.value
            few += [] if found else [category or "(no category)"]
        if few:
            told = f"{', '.join(few[:3])}{' …' if len(few) > 3 else ''}"
            say(
                f"no threshold for {len(few)} of {len(templates)} categories ({told}), which have fewer than "
                f"{LEAST_TEMPLATES} templates: boxes are around what differs most there, and no verdict is given; "
                "give --threshold, or --line DIR of `adcopilot calibrate`",
            )

    def find(self, shown: Sequence[Shown]) -> Iterator[tuple[Shown, MapFinding]]:
        """What is found in each of these, in any order.

        Raises:
            UserError: a picture cannot be read, or the file not written to.
        """
        for one, found, error in self.compare(shown):
            if error:
                raise UserError(f"{error}; the map needs the pictures of the run")
            yield one, found

    def compare(self, shown: Sequence[Shown]) -> Iterator[tuple[Shown, MapFinding, str]]:
        """The same, with an error beside it where a picture cannot be read."""
        if self.file is None:
            for one, found, error in self._compare(shown):
                yield one, found, error
            return
        paths = {path for one in shown for path in (*one.templates, one.query)}
        gone = sorted(path for path in paths if not path.is_file())
        if gone:
            raise UserError(f"{gone[0]}: not found; the map needs the pictures of the run, put them back")
        digests = image_digests(sorted(paths), folder=self.file.parent)
        settings = {**self.describe(), "thresholds": None}

        def key(one: Shown) -> str:
            digest = [digests[path] for path in (*one.templates, one.query)]
            return content_key(settings, digest, self._threshold_of(one))

        kept = {
            line["key"]: line for file in sorted(self.file.parent.glob("maps*.jsonl")) for _, line in read_jsonl(file)
        }
        names = MapFinding.__dataclass_fields__
        missing = []
        for one in shown:
            line = kept.get(key(one))
            if line is None:
                missing.append(one)
            else:
                yield one, MapFinding(**{name: line[name] for name in names}), ""
        if missing:
            with JsonlLog(path=self.file) as log:
                for one, found, error in self._compare(missing):
                    if not error and key(one) not in log:
                        log.append({"key": key(one), **asdict(found)})
                    yield one, found, error

    def _threshold_of(self, one: Shown) -> float | None:
        return self.threshold if self.threshold is not None else self.thresholds.get(one.category)

    def _compare(self, shown: Sequence[Shown]) -> Iterator[tuple[Shown, MapFinding, str]]:
        by_threshold: dict[float | None, list[Shown]] = {}
        for one in shown:
            by_threshold.setdefault(self._threshold_of(one), []).append(one)
        for threshold, some in by_threshold.items():
            self.inspector.judge = replace(self.inspector.judge, map_threshold=threshold)
            fitting = []
            for one in some:
                why = _cannot_be_compared(one, places=self.settings.kind != "texture")
                if why:
                    yield one, MapFinding(refused=why), ""
                else:
                    fitting.append(one)
            questions = (self.inspector.pair_question(*one.templates[:1], one.query, one.templates[1:])
                         for one in fitting)  # fmt: skip
            for one, result in zip(fitting, self.inspector.ask(questions), strict=True):
                unclear = result.anomalous is None and (result.doubt or result.map_doubt or "")
                found = MapFinding(
                    score=result.score,
                    boxes=[] if result.anomalous is False or unclear else result.boxes,
                    anomalous=result.anomalous,
                    refused=unclear or "",
                )
                yield one, found, result.error or ""


def _cannot_be_compared(one: Shown, *, places: bool) -> str:
    """Why places of these pictures cannot be compared, "" where they can, where there are none to compare (a
    texture), or where a file cannot be read."""
    if not one.templates:
        return f"{one.query}: has no template to be compared with"
    if not places:
        return ""
    try:
        size, others = image_size(one.query), [image_size(path) for path in one.templates]
    except UserError:
        return ""  # it is said when the picture is opened
    other = next((other for other in others if not is_like_shape(other, size)), None)
    if other is None:
        return ""
    return (
        f"{one.query}: has {size[0]}×{size[1]} pixels and its template {other[0]}×{other[1]}, which is another shape, "
        "so places cannot be compared"
    )
