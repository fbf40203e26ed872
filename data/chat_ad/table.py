"""The canonical table of Chat-AD: one row an image (or a view of one), in Parquet, whatever dataset it came from.

    image       reference of the image (`references`), relative to the root of its dataset
    category    the kind of object, as the dataset names it
    view        which camera or position, "" where there is only one; like is paired with like
    split       "train", "val", "test" or ""
    label       "normal" or "anomalous"
    defect      kind of defect, as the dataset names it; "" for a normal image or an unknown kind
    mask        reference of the mask, "" where there is none
    mask_kind   what kind of mask that is (`adcopilot.masks.Marked.kind`), "annotated" of polygons and run lengths
    mask_sha256 of the pixels that the mask marks, by which one mask of two images is found
    boxes       [[x1, y1, x2, y2], …], pixels of the original upright image, x2 and y2 exclusive
    box_labels  the kind of defect of each box
    width, height   of the upright image in pixels
    sha256      of the image file's bytes and the reference's fragment (`references.content_sha256`)
    source      the dataset: "mvtec", "visa", …
    group       the physical object in a multi-view set, "" otherwise
    licence     what is known about the terms
    notes       what a reader wants to say about this row, "" mostly

The file's own metadata holds the absolute root, so that the rows stay valid when a dataset moves. Everything is
written and read in batches of at most `BATCH_ROWS` rows, so memory does not grow with the dataset.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError, one_line
from ..jsonl import atomic_write

__all__ = [
    "BATCH_ROWS",
    "LABELS",
    "SCHEMA",
    "SPLITS",
    "VERSION",
    "Entry",
    "make_metadata",
    "read_batches",
    "read_metadata",
    "table_root",
    "to_batch",
    "write_table",
]

#: Raised when the columns change their meaning.
VERSION = "2"

#: Rows of a batch, and of a row group in the file.
BATCH_ROWS = 4096

LABELS = ("normal", "anomalous")
SPLITS = ("train", "val", "test", "")

_PREFIX = "adcopilot."
_BOX = pa.list_(pa.int32())

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("category", pa.string()),
        ("view", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("defect", pa.string()),
        ("mask", pa.string()),
        ("mask_kind", pa.string()),
        ("mask_sha256", pa.string()),
        ("boxes", pa.list_(_BOX)),
        ("box_labels", pa.list_(pa.string())),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("source", pa.string()),
        ("group", pa.string()),
        ("licence", pa.string()),
        ("notes", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row. The columns are described at the top of this module.

    Raises:
        ValueError: a label or split that does not exist, or boxes and their labels differ in number.
    """

    image: str
    category: str
    label: str
    width: int
    height: int
    sha256: str
    source: str
    view: str = ""
    split: str = ""
    defect: str = ""
    mask: str = ""
    mask_kind: str = ""
    mask_sha256: str = ""
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    box_labels: tuple[str, ...] = ()
    group: str = ""
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if self.label not in LABELS or self.split not in SPLITS:
            raise ValueError(f"{self.image}: label {self.label!r} or split {self.split!r} does not exist")
        if len(self.boxes) != len(self.box_labels):
            raise ValueError(f"{self.image}: {len(self.boxes)} boxes but {len(self.box_labels)} labels for them")


def to_batch(entries: Iterable[Entry]) -> pa.RecordBatch:
    """Rows as one Arrow batch of `SCHEMA`."""
    return pa.RecordBatch.from_pylist([vars(entry) for entry in entries], schema=SCHEMA)


def make_metadata(
    *, root: str | os.PathLike, dataset: str, options: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The metadata of an index: `root` (made absolute), `dataset`, `version` and `options` (JSON)."""
    return {
        "root": str(Path(root).resolve()),
        "dataset": dataset,
        "version": VERSION,
        "options": json.dumps(dict(options or {}), sort_keys=True, ensure_ascii=False),
    }


def write_table(
    path: str | os.PathLike,
    batches: Iterable[pa.RecordBatch],
    *,
    metadata: Mapping[str, str],
    schema: pa.Schema = SCHEMA,
) -> int:
    """Write batches as they come to a Parquet file that appears only when it is complete.

    The same batches and metadata give the same bytes, however the rows were cut into batches.

    Args:
        path: the file; its folder is made.
        batches: of `schema`, any number of rows each.
        metadata: without the prefix `adcopilot.`, which the file adds; see `make_metadata`.
        schema: of the rows; for tables with further columns.

    Returns:
        The number of rows.

    Raises:
        UserError: the file cannot be written.
    """
    schema = schema.with_metadata({_PREFIX + key: value for key, value in metadata.items()})
    rows = 0

    def write(file) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in _regroup(batches):
                writer.write_table(batch.cast(schema), row_group_size=BATCH_ROWS)
                rows += batch.num_rows

    atomic_write(path, write)
    return rows


def read_batches(path: str | os.PathLike, *, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows in order, a batch of at most `BATCH_ROWS` at a time.

    Args:
        path: a Parquet file that `write_table` wrote.
        columns: the columns to read, all by default.

    Raises:
        UserError: the file is missing, not Parquet, damaged, or lacks one of the columns of `SCHEMA`.
    """
    with _open(path) as file:
        missing = [name for name in columns or SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise UserError(
                f"{path}: has no column {missing[0]!r}, expected one of `adcopilot data build --until index`"
            )
        wanted = None if columns is None else list(columns)
        try:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{os.fspath(path)}: damaged ({one_line(error)}); write the table again") from error


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """What `write_table` was given as metadata, without the prefix.

    Raises:
        UserError: the file is missing or not Parquet.
    """
    with _open(path) as file:
        found = file.schema_arrow.metadata or {}
    texts = {key.decode(): value.decode() for key, value in found.items()}
    return {key.removeprefix(_PREFIX): value for key, value in texts.items() if key.startswith(_PREFIX)}


def table_root(path: str | os.PathLike) -> Path:
    """The folder that a table's references are relative to.

    Raises:
        UserError: the table says none, or the folder is gone.
    """
    root = read_metadata(path).get("root")
    if not root:
        raise UserError(f"{os.fspath(path)}: names no root; expected one of `adcopilot data build --until index`")
    if not Path(root).is_dir():
        raise UserError(f"{os.fspath(path)}: its images were in {root}, which is gone; write the table again")
    return Path(root)


def _open(path: str | os.PathLike) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f"{os.fspath(path)}: no such table; `adcopilot data build --until index` writes one") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{os.fspath(path)}: not a Parquet table ({one_line(error)})") from None


def _regroup(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of exactly `BATCH_ROWS` rows (the last of fewer): a row group must not depend on the batches' cuts."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while batch.num_rows:
            head = batch.slice(0, BATCH_ROWS - rows)
            pending.append(head)
            rows += head.num_rows
            batch = batch.slice(head.num_rows)
            if rows == BATCH_ROWS:
                yield pa.Table.from_batches(pending).combine_chunks()
                pending, rows = [], 0
    if pending:
        yield pa.Table.from_batches(pending).combine_chunks()
