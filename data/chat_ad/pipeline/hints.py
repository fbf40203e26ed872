"""The steps of a build that tell a model, in its questions, which places an anomaly map marks.

SCORE   good pairs of a category → the map's scores, from which the category has its threshold
HINT    records of some pairs → the same with hints, word for word those of `adcopilot inspect --hints map`
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...anomaly_map.hints import HINT, NO_HINT
from ...errors import UserError
from ...jsonl import content_key
from ..crops import cut_pair
from ..recipe.specs import HintSpec
from ..steps import Job, Made, Shard, Step, Steps, notes_of, read
from .dataset import DatasetBuild

__all__ = ["ADD_HINTS", "SCORE_GOOD", "Thresholds", "describe", "find_thresholds", "open_mapper"]

#: Category → threshold of the map's score, None where its good pairs are too few for one.
Thresholds = Mapping[str, float | None]


@lru_cache(maxsize=1)
def _mapper(settings: str):
    from ...anomaly_map.comparing import Mapper, MapSettings

    return Mapper(MapSettings(**json.loads(settings)))


def open_mapper(settings: Mapping[str, Any]):
    """The mapper of some settings (`HintSpec.settings`), opened once in a process.

    Raises:
        UserError: its backbone cannot be loaded.
    """
    return _mapper(json.dumps(settings, sort_keys=True))


def score_good(pairs: Path, chosen: Sequence[int], root: str, settings: Mapping[str, Any]) -> Made:
    """`category` and `score` of some good pairs of a shard, in its windows; those without a map are left out."""
    from ...inspect.mapping import map_of_pair
    from ...threads import keep_to_one_core

    mapper, found = open_mapper(settings), []
    with keep_to_one_core():  # the same bytes with any number of workers, a backbone's too
        for row in read(pairs, rows=chosen).to_pylist():
            try:
                template, query = cut_pair(root, row)
            except UserError:  # it is refused, and said, where it is cut for its record
                continue
            made = map_of_pair(mapper, query, [template])
            if made is not None:
                found.append({"category": row["category"], "score": made.pred_score})
    return pa.Table.from_pylist(found, schema=pa.schema([("category", pa.string()), ("score", pa.float64())])), {}


def add_hints(records: Path, pairs: Path, thresholds: Thresholds, media_dir: str, settings: Mapping[str, Any]) -> Made:
    """The records of a shard of `generate` again, with hints; how many have a place, none, or no hint in the notes.

    Args:
        records: shard of `generate.GENERATE`.
        pairs: shard of pairs that it is from.
        thresholds: of its dataset.
        media_dir: what its files are relative to.
        settings: of the map.
    """
    from ...threads import keep_to_one_core
    from ..hinted import with_map_hint

    table, mapper = read(records), open_mapper(settings)
    rows = table["row"].to_pylist()
    categories = read(pairs, ["category"], rows)["category"].to_pylist()
    lines, counts = [], dict.fromkeys(("marked", "no_place", "no_hint"), 0)
    with keep_to_one_core():  # the same bytes with any number of workers, a backbone's too
        for text, category in zip(table["record"].to_pylist(), categories, strict=True):
            record = json.loads(text)
            found = with_map_hint(record, mapper, threshold=thresholds[category], folder=Path(media_dir))
            told = "no_hint" if found is None else "marked"
            if found is not None and NO_HINT in found["messages"][0]["content"]:
                told = "no_place"
            counts[told] += 1
            lines.append(json.dumps(found or record, ensure_ascii=False, allow_nan=False))
    made = pa.table({"row": table["row"], "record": pa.array(lines, pa.large_string())})
    return made, {**notes_of(records), "hints": counts}


SCORE_GOOD, ADD_HINTS = Step("hint_scores", 1, score_good), Step("hint", 1, add_hints)


def find_thresholds(dataset: DatasetBuild, spec: HintSpec, steps: Steps, *, seed: int) -> Thresholds:
    """The threshold of each category of a dataset: the recipe's, or from its good pairs.

    Which of them (at most `hinted.GOOD_PAIRS`) depends on the seed and their content alone, so that outputs of any
    tasks and amounts have the same threshold.
    """
    from ..hinted import GOOD_PAIRS, threshold_of

    categories: set[str] = set()
    good: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    columns = ["category", "label", "sha256", "template_sha256", "crop"]
    for number, shard in enumerate(dataset.pairs):
        for row, pair in enumerate(read(shard, columns).to_pylist()):
            categories.add(pair["category"])
            if pair["label"] == "normal":
                place = content_key(seed, pair["sha256"], pair["template_sha256"], pair["crop"])
                good[pair["category"]].append((place, number, row))
        good.update({name: heapq.nsmallest(GOOD_PAIRS, found) for name, found in good.items()})
    if spec.threshold is not None:
        return dict.fromkeys(sorted(categories), spec.threshold)
    chosen: dict[int, list[int]] = defaultdict(list)
    for _, number, row in (one for found in good.values() for one in found):
        chosen[number].append(row)
    jobs = (
        Job(
            {"pairs": dataset.pairs[number], "chosen": sorted(rows), "settings": spec.settings()},
            name=f"{dataset.spec.name}-{number:06d}",
        )
        for number, rows in sorted(chosen.items())
    )
    scores: dict[str, list[float]] = defaultdict(list)
    for shard in steps.each(SCORE_GOOD, jobs, root=str(dataset.spec.root)):
        for row in read(shard).to_pylist():
            scores[row["category"]].append(row["score"])
    return {category: threshold_of(scores[category]) for category in sorted(categories)}


def describe(spec: HintSpec, thresholds: Mapping[str, Thresholds], made: Sequence[Shard]) -> dict[str, Any]:
    """The manifest's entry: what inference needs to give the same hints, and what came out.

    Args:
        spec: of the output.
        thresholds: dataset → its thresholds.
        made: the output's shards of `ADD_HINTS`.
    """
    from ...anomaly_map.comparing import MapSettings

    packages = ("torch", *(["transformers"] if spec.backbone else []))
    counts = [shard.notes["hints"] for shard in made]
    return {
        "sentence": HINT,
        "map": MapSettings(**spec.settings()).to_dict(),
        "thresholds": thresholds,
        "versions": {name: metadata.version(name) for name in packages},
        "questions": {name: sum(one[name] for one in counts) for name in ("marked", "no_place", "no_hint")},
    }
