"""A pair as a generator sees it: two images on disk and what the annotations say about the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...jsonl import content_key
from ...records import check_box

__all__ = ["MAX_BOXES", "Box", "PairView", "split_types"]

Box = tuple[int, int, int, int]

#: More boxes than this are a texture or the noise of a mask, not a list that anyone would give: 64 boxes are about
#: 2000 tokens.
MAX_BOXES = 64
TOO_MANY = f"{{}} boxes, expected at most {MAX_BOXES}; raise the least area of a region"

#: Between the types of an image that has several, in the column `defect`.
JOINED = ", "


def split_types(defect: str) -> tuple[str, ...]:
    """The types in a value of the column `defect`: `dent, scratch` has two."""
    return tuple(name for name in defect.split(JOINED) if name)


@dataclass(frozen=True, kw_only=True)
class PairView:
    """A template and a query, cut as training will see them.

    Attributes:
        key: depends on the content of the pair alone (`PairView.from_row` makes it); it seeds every random choice.
        images: (template, query) as they are written into records, relative to `root`.
        root: the folder that `images`, `mask` and `marked` are relative to (LlamaFactory's `media_dir`).
        size: (width, height) of the query image in pixels.
        category: the kind of product, as its dataset names it.
        source: the dataset.
        anomalous: whether the query has a defect.
        defect: its type as the dataset names it, "" for a normal query or an unknown type; several as `types` says.
        boxes: (x1, y1, x2, y2) of each connected region of the defect, x2 and y2 exclusive, in pixels of the query.
        labels: the type of each box, as the dataset names it.
        areas: pixels that the mask marks in each box's region; None without a mask, where only boxes are known.
        mask: image file of the mask in the query's pixels (not 0 is defect), relative to `root`; "" when there
            is none.
        marked: a copy of the query with the defect outlined, which is shown to endpoints only; "" when there is none.
        view: camera or position, "" where there is one.
        other_defects: the types of defect that this category has besides, for the wrong options of questions.
        other_categories: other kinds of product in the data, for the same.

    Raises:
        UserError: a box is empty or outside the image.
        ValueError: the parts contradict each other.
    """

    key: str
    images: tuple[str, str]
    size: tuple[int, int]
    category: str
    source: str
    anomalous: bool
    root: str = ""
    defect: str = ""
    boxes: tuple[Box, ...] = ()
    labels: tuple[str, ...] = ()
    areas: tuple[int, ...] | None = None
    mask: str = ""
    marked: str = ""
    view: str = ""
    other_defects: tuple[str, ...] = ()
    other_categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = self.images[1]
        if len(self.boxes) != len(self.labels):
            raise ValueError(f"{name}: {len(self.boxes)} boxes but {len(self.labels)} labels for them")
        if self.areas is not None and len(self.areas) != len(self.boxes):
            raise ValueError(f"{name}: {len(self.boxes)} boxes but {len(self.areas)} areas for them")
        if not self.anomalous and (self.boxes or self.defect):
            raise ValueError(f"{name}: a normal query with {len(self.boxes)} boxes and the defect {self.defect!r}")
        for box in self.boxes:
            check_box(box, name=name, size=self.size, image=name)

    @classmethod
    def from_row(
        cls,
        row: Mapping[str, Any],
        *,
        category: str,
        root: str | Path = "",
        other_defects: Sequence[str] = (),
        other_categories: Sequence[str] = (),
    ) -> PairView:
        """From a row of the files that show a pair.

        Args:
            row: columns of `pipeline.cut.CUT_SCHEMA`.
            category, root, other_defects, other_categories: as the attributes; `other_defects` may be the values of
                the column `defect`: several types in one are taken apart, the row's own left out.
        """
        anomalous, size, areas = row["label"] == "anomalous", row["shown_size"], row["shown_areas"]
        defect = row["shown_defect"] if anomalous else ""
        # A box of an image with one known type has this type; of several, it is unknown which.
        only = defect if len(split_types(defect)) == 1 else ""
        labels = tuple(label or only for label in row["shown_labels"])
        if labels and all(labels):  # a window may show some of an image's defects
            defect = JOINED.join(sorted(set(labels)))
        boxes = tuple(map(tuple, row["shown_boxes"]))
        content = (row["sha256"], row["template_sha256"], row["crop"] or [], size, boxes, labels)
        own = {*split_types(defect), *labels}
        others = [name for joined in other_defects for name in split_types(joined)]
        return cls(
            key=content_key(*content, anomalous, category, defect),
            images=(row["template_file"], row["query_file"]),
            size=tuple(size),
            category=category,
            source=row["source"],
            anomalous=anomalous,
            root=str(root),
            defect=defect,
            boxes=boxes,
            labels=labels,
            areas=None if areas is None else tuple(areas),
            mask=row["mask_file"],
            marked=row["marked_file"],
            view=row["view"] or "",
            other_defects=tuple(name for name in dict.fromkeys(others) if name not in own),
            other_categories=tuple(name for name in dict.fromkeys(other_categories) if name != category),
        )

    @property
    def listable(self) -> bool:
        """Whether its boxes can be given as a list: it is normal, or has some and not too many."""
        return not self.anomalous or 0 < len(self.boxes) <= MAX_BOXES

    @property
    def types(self) -> tuple[str, ...]:
        """The types of defect in the query, each once: those of its boxes, without boxes those of `defect`."""
        if self.boxes:
            return tuple(dict.fromkeys(self.labels))
        return (split_types(self.defect) or ("",)) if self.anomalous else ()

    def path(self, name: str) -> Path:
        """Where one of `images`, `mask` or `marked` is on disk."""
        return Path(self.root, name)
