"""Keeps images of an evaluation set out of a build: the recipe's `against`.

Its sets (folders of images as MMAD's, or tables) are measured once, shard by shard like everything else, and kept in
the work folder; `leaks` then compares each shard of a dataset with them by content and by look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from ...errors import UserError
from ...jsonl import content_key, file_digest
from ..commands.leaks import folder_rows
from ..fitness.fingerprints import Fingerprints
from ..fitness.leaks import KINDS, Suspect, leaks_shard
from ..table import read_batches, table_root
from .runners import Job, Runner, make_shards
from .shard_steps import VERSIONS, measure_shard
from .shards import Shard, load, read, save, step_key

__all__ = ["Against", "compare_shard", "measure_against"]

#: Raised when the same inputs give other leaks.
_VERSION = 1

#: Which kinds of `leaks.KINDS` keep an image out; the last is a suspicion only.
_KINDS = KINDS[:3]


@dataclass(frozen=True)
class Against:
    """A measured evaluation set.

    Attributes:
        name: as the recipe has it.
        measures: files of its shards (`fingerprints.MEASURES`), which name the images too.
        digest: of all of them.
    """

    name: str
    measures: tuple[Path, ...]
    digest: str


def measure_against(path: Path, work: Path, runner: Runner) -> Against:
    """Measure a folder's images, or a table's.

    Args:
        path: the folder, or a Parquet file of `adcopilot data index`.
        work: folder of finished shards.
        runner: makes them.

    Raises:
        UserError: it cannot be read, or an image in it cannot: a leak there would go unnoticed.
    """
    folder = work / "against" / content_key(str(path.resolve()))
    root, parts = (path, folder_rows(path)[0]) if path.is_dir() else (table_root(path), _table_rows(path))

    def jobs() -> Iterator[Job]:
        for number, rows in enumerate(parts):
            state = _state(root, rows) if path.is_dir() else file_digest(path)
            key = step_key("against", _VERSION, number, state)
            place = folder / f"rows-{number:06d}.parquet"
            shard = load(place, key) or save(place, key, rows)
            key = step_key("measure", VERSIONS["measure"], shard.digest, state)
            yield Job(folder / f"{number:06d}.parquet", key, {"rows": shard.path, "root": str(root)})

    shards = list(make_shards(runner, measure_shard, jobs()))
    for shard in shards:
        for image, problem in zip(*(read(shard)[name].to_pylist() for name in ("image", "problem")), strict=True):
            if problem is not None:
                raise UserError(
                    f"against {path}: {image} cannot be read ({problem}); a leak of it would go unnoticed: repair it, "
                    "or move it out of the folder"
                )
    return Against(str(path), tuple(shard.path for shard in shards), content_key([one.digest for one in shards]))


def compare_shard(path: Path, key: str, *, rows: Path, measures: Path, against: Sequence[Against]) -> Shard:
    """The rows of a shard that are in an evaluation set: `row`, `kind` and `of` (set and image)."""
    table = read(rows, ["image", "category", "label", "split", "source"])
    leaks = leaks_shard(table, read(measures), [_suspect(one) for one in against])
    places = {image: row for row, image in enumerate(table["image"].to_pylist())}
    found = [(places[leak["image"]], leak["matches"][0]) for leak in leaks]
    found = [(row, match) for row, match in found if match["kind"] in _KINDS]
    columns = {
        "row": pa.array([row for row, _ in found], pa.int32()),
        "kind": pa.array([match["kind"] for _, match in found], pa.string()),
        "of": pa.array([f"{match['set']}: {match['image']}" for _, match in found], pa.string()),
    }
    return save(path, key, pa.table(columns))


@lru_cache(maxsize=16)
def _suspect(against: Against) -> Suspect:
    tables = [read(path) for path in against.measures]
    images = [image for table in tables for image in table["image"].to_pylist()]
    return Suspect(name=against.name, images=images, prints=Fingerprints(tables))


def _table_rows(path: Path) -> Iterator[pa.Table]:
    for batch in read_batches(path, columns=["image", "sha256"]):
        yield pa.Table.from_batches([batch])


def _state(root: Path, rows: pa.Table) -> list:
    from ..sources.references import resolve

    stats = [resolve(root, image).stat() for image in rows["image"].to_pylist()]
    return [[one.st_size, one.st_mtime_ns] for one in stats]
