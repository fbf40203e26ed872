"""Keeps images of an evaluation set out of a build: the recipe's `against` and `leaks`.

Its sets (folders of images as MMAD's, or tables) are measured once, shard by shard like everything else, and kept in
the work folder; `leaks` then compares each shard of a dataset with them by content and by look. Of a folder all
images count except masks (in `MASK_FOLDERS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import UserError
from ...inspect.pairs import find_images
from ...jsonl import content_key, file_digest, write_json
from ..fitness.fingerprints import Fingerprints
from ..fitness.leaks import LeakOptions, Suspect, leak_report, leaks_shard
from ..runners import Runner
from ..sources.references import format_reference, parse_reference
from ..steps import Job, Made, Shard, Step, Steps, read
from ..table import BATCH_ROWS, read_batches, table_root
from .dataset_steps import MEASURE

__all__ = ["LEAKS", "MASK_FOLDERS", "Against", "measure_against", "write_leaks"]

#: Folders of a benchmark that hold masks, which are no evidence of anything.
MASK_FOLDERS = frozenset({"mask", "masks", "rgb_mask", "rbg_mask", "ground_truth"})


@dataclass(frozen=True)
class Against:
    """A measured evaluation set.

    Attributes:
        name: as the recipe has it.
        measures: files of its shards (`fingerprints.MEASURES`), which name the images too.
        digest: of all of them.
        images, masks: how many images it has, and how many masks in a folder were passed over.
        unreadable: what is wrong with images that cannot be compared.
    """

    name: str
    measures: tuple[Path, ...]
    digest: str
    images: int
    masks: int
    unreadable: tuple[str, ...]


def measure_against(path: Path, work: Path, runner: Runner, *, skip_problems: bool = False) -> Against:
    """Measure a folder's images, or a table's.

    Args:
        path: the folder, or a table of `adcopilot data build --until index`.
        work: folder of finished shards.
        runner: makes them.
        skip_problems: go on where an image cannot be read.

    Raises:
        UserError: it cannot be read, or an image in it cannot: a leak there would go unnoticed.
    """
    steps = Steps(work / "against" / content_key(str(path.resolve())), runner)
    masks = 0
    if path.is_dir():
        root, (parts, masks) = path, _folder_rows(path)
        listed = (Job({"state": _state(root, rows)}, more={"rows": rows}) for rows in parts)
    else:
        root, state = table_root(path), file_digest(path)
        parts = (pa.Table.from_batches([batch]) for batch in read_batches(path, columns=["image", "sha256"]))
        listed = (Job({"state": [state, number]}, more={"rows": rows}) for number, rows in enumerate(parts))
    shards = list(steps.each(MEASURE, (Job({"rows": one}) for one in steps.each(_LIST, listed)), root=str(root)))
    problems = []
    for shard in shards:
        for image, problem in zip(*(read(shard)[name].to_pylist() for name in ("image", "problem")), strict=True):
            if problem is not None:
                problems.append(f"{image} cannot be read ({problem})")
    if problems and not skip_problems:
        raise UserError(
            f"against {path}: {problems[0]}; a leak of it would go unnoticed: repair it, move it out of the folder, "
            "or go on without it by leaks.skip_problems: true"
        )
    return Against(
        name=str(path),
        measures=tuple(shard.path for shard in shards),
        digest=content_key([one.digest for one in shards]),
        images=sum(shard.rows for shard in shards),
        masks=masks,
        unreadable=tuple(problems),
    )


def compare(rows: Path, measures: Path, against: Sequence[Against], leaks: LeakOptions) -> Made:
    """The rows of a shard that are in an evaluation set and have to go: `row`, `kind` and `of` (set and image).

    All that are in one are `leaks` in the notes, as `leaks.leaks_shard` gives them.
    """
    table = read(rows, ["image", "category", "label", "split", "source"])
    found = leaks_shard(table, read(measures), [_suspect(one) for one in against], options=leaks)
    places = {image: row for row, image in enumerate(table["image"].to_pylist())}
    gone = [(places[leak["image"]], leak["matches"][0]) for leak in found if leak["matches"][0]["kind"] in leaks.drop]
    columns = {
        "row": pa.array([row for row, _ in gone], pa.int32()),
        "kind": pa.array([match["kind"] for _, match in gone], pa.string()),
        "of": pa.array([f"{match['set']}: {match['image']}" for _, match in gone], pa.string()),
    }
    return pa.table(columns), {"leaks": found}


LEAKS = Step("leaks", 2, compare)


def _list(rows: pa.Table, state: Any) -> Made:
    """The images of a part of an evaluation set; `state` tells whether they have changed."""
    return rows, {"state": state}


_LIST = Step("rows", 1, _list)


def write_leaks(
    path: Path, shards: Sequence[Shard], *, table: str, images: int, against: Sequence[Against], leaks: LeakOptions
) -> None:
    """Write what was found of a dataset, left out or not, for people and for `adcopilot data report`.

    Args:
        path: the JSON file.
        shards: of `LEAKS`.
        table: what the dataset is called.
        images: that it has.
        against, leaks: what it was compared with, and how.
    """
    found = [leak for shard in shards for leak in shard.notes["leaks"]]
    sets = [{"name": one.name, "images": one.images, "mask_images_passed_over": one.masks} for one in against]
    limits = {"same": asdict(leaks.same), "similar": leaks.similar, "most": leaks.most}
    report = leak_report(found, table=table, images=images, suspects=sets, limits=limits)
    report["unreadable"] = [{"set": one.name, "problem": text} for one in against for text in one.unreadable]
    write_json(path, report, indent=1)


@lru_cache(maxsize=16)
def _suspect(against: Against) -> Suspect:
    tables = [read(path) for path in against.measures]
    images = [image for table in tables for image in table["image"].to_pylist()]
    return Suspect(name=against.name, images=images, prints=Fingerprints(tables))


def _folder_rows(folder: Path) -> tuple[Iterator[pa.Table], int]:
    """The images of a folder as shards with the columns `image` and (empty) `sha256`, and how many masks it has."""
    names, masks = [], 0
    for file in find_images(folder):
        relative = file.relative_to(folder)
        if MASK_FOLDERS.intersection(relative.parts[:-1]):
            masks += 1
        else:
            names.append(format_reference(relative.as_posix()))
    if not names:
        raise UserError(f"{folder}: all of its images are in folders of masks, expected pictures")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{folder}: the file name {name!r} is not UTF-8; rename it") from None
    shards = (names[start : start + BATCH_ROWS] for start in range(0, len(names), BATCH_ROWS))
    return (pa.table({"image": shard, "sha256": [""] * len(shard)}) for shard in shards), masks


def _state(root: Path, rows: pa.Table) -> list:
    stats = [Path(root, parse_reference(image).path).stat() for image in rows["image"].to_pylist()]
    return [[one.st_size, one.st_mtime_ns] for one in stats]
