"""The last step of a build: some pairs of a shard, each with its task, to records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import UserError
from ..dropped import Dropped
from ..generation import TASKS, AnnotationsGenerator, Generator, PairView, PromptFiles, generate_records
from ..steps import Made, Shard, Step, notes_of, read

__all__ = ["ANNOTATE", "GENERATE", "Kinds", "collect_kinds"]

#: Types of defects named to a question's author: beyond so many of a category, the most frequent.
_MOST_KINDS = 40


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """What else there is, for the wrong options of questions.

    Attributes:
        defects: category → its types of defects.
        categories: of the dataset.
        products: category → what its product is called, where somebody has said so.
    """

    defects: Mapping[str, Sequence[str]]
    categories: Sequence[str]
    products: Mapping[str, str] = field(default_factory=dict)

    def product(self, category: str) -> str:
        """What the product of a category is called."""
        return self.products.get(category, category)


def collect_kinds(shards: Sequence[Shard], *, product: str | Mapping[str, str] = "") -> Kinds:
    """Of a dataset's shards of pairs.

    Args:
        shards: all of them.
        product: what the recipe calls all of its products, or each category's.
    """
    counts: dict[str, Counter] = {}
    for shard in shards:
        for row in read(shard, ["category", "defect", "box_labels"]).to_pylist():
            labels = {label for label in row["box_labels"] if label} or {row["defect"]}
            counts.setdefault(row["category"], Counter()).update(label for label in labels if label)
    defects = {}
    for category in sorted(counts):
        ordered = sorted(counts[category].items(), key=lambda item: (-item[1], item[0]))
        defects[category] = sorted(name for name, _ in ordered[:_MOST_KINDS])
    products = dict.fromkeys(sorted(counts), product) if isinstance(product, str) and product else product or {}
    return Kinds(defects=defects, categories=sorted(counts), products=products)


def annotate(prompts: Path | None, seed: int, **arguments: Any) -> Made:
    """`generate` by the annotations alone, for any process."""
    files = PromptFiles(folder=prompts)
    return generate(generator=AnnotationsGenerator(prompts=files, seed=seed), prompts=files, seed=seed, **arguments)


def generate(
    generator: Generator,
    prompts: PromptFiles,
    seed: int,
    pairs: Path,
    chosen: Sequence[tuple[int, str]],
    media_dir: str,
    kinds: Kinds,
    fallback: Generator | None = None,
) -> Made:
    """The records of some pairs as `row` and `record` (a line of JSON), in the pairs' order; `refused` in the notes.

    Args:
        generator, fallback, prompts, seed: as `generate_records`.
        pairs: shard of `cut.CUT`.
        chosen: (`pair_row`, task) of each pair; one that could not be cut is refused.
        media_dir: what its files are relative to.
        kinds: of its dataset.

    Raises:
        UserError: the generator cannot go on.
    """
    cut = notes_of(pairs)
    shown = {values["pair_row"]: values for values in read(pairs).to_pylist()}
    refused: list[dict[str, Any]] = []
    by_task: dict[str, list[tuple[int, PairView]]] = {}
    for row, task in chosen:
        values = shown.get(row)
        if values is None:
            refused.append(_refusal("", task, f"cannot be cut: {cut['uncut'][str(row)]}"))
            continue
        try:
            view = _view(values, media_dir, kinds)
        except (UserError, ValueError) as error:
            refused.append(_refusal(values["query_file"], task, f"its annotation contradicts itself: {error}"))
            continue
        by_task.setdefault(task, []).append((row, view))
    lines: dict[int, str] = {}
    for task in TASKS:
        if task not in by_task:
            continue
        # A record names its pair by its files alone; a pair is in a shard once.
        rows = {tuple(view.images): row for row, view in by_task[task]}
        records = generate_records(
            (view for _, view in by_task[task]),
            generator=generator,
            task=task,
            seed=seed,
            prompts=prompts,
            fallback=fallback,
            on_refused=refused.append,
        )
        for record in records:
            lines[rows[tuple(record["images"])]] = json.dumps(record, ensure_ascii=False, allow_nan=False)
    order = sorted(lines)
    made = pa.table(
        {
            "row": pa.array(order, pa.int32()),
            "record": pa.array([lines[row] for row in order], pa.large_string()),
        }
    )
    return made, {"refused": refused}


#: Both give the same; an endpoint is asked from one process alone.
ANNOTATE, GENERATE = Step("generate", 2, annotate), Step("generate", 2, generate)


def _view(row: Mapping[str, Any], media_dir: str, kinds: Kinds) -> PairView:
    return PairView.from_row(
        row,
        category=kinds.product(row["category"]),
        root=media_dir,
        other_defects=kinds.defects.get(row["category"], ()),
        other_categories=[kinds.product(category) for category in kinds.categories],
    )


def _refusal(image: str, task: str, why: str) -> dict[str, Any]:
    return Dropped(step="write", image=image, task=task, reason="refused", detail=" ".join(why.split())).line()
