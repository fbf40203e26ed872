"""Small copies of the general sources in their own layouts, drawn here."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adcopilot import cli


def png(width=60, height=40, *, seed=0, mode="RGB"):
    """An image's bytes."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).convert(mode).save(buffer, "png")
    return buffer.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def write_parquet(path, rows, schema=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)
    return path


class Workplace:
    """A `media_dir` with sources and an output folder in it."""

    def __init__(self, folder: Path) -> None:
        self.media = folder / "media"
        self.output = self.media / "chat_ad"
        self.media.mkdir()

    def run(self, command, root, *options, images=True):
        """The exit code of `adcopilot data convert COMMAND`."""
        media = ["--media-dir", str(self.media)] if images else []
        where = ["--root", str(root), "--output", str(self.output), *media]
        return cli.main(["data", "convert", command, *where, *map(str, options)])

    def records(self, name):
        """What `NAME.jsonl` holds."""
        return [json.loads(line) for line in (self.output / f"{name}.jsonl").read_text("utf-8").splitlines()]

    def dropped(self, name):
        """What `NAME.dropped.jsonl` holds, as (key, step, reason)."""
        lines = (self.output / f"{name}.dropped.jsonl").read_text("utf-8").splitlines()
        return [(line["key"], line["step"], line["reason"]) for line in map(json.loads, lines)]

    def manifest(self, name):
        return json.loads((self.output / f"{name}.manifest.json").read_text("utf-8"))


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


@pytest.fixture
def clevr(place):
    """Eight scenes: 0–5 train, 6 val, 7 test; a change of each kind; scene 0's box is null."""
    root = place.media / "clevr"
    kinds = ["drop", "color", "material", "add", "move", "color", "add", "move"]
    captions, unchanged, boxes, types = {}, {}, {}, {}
    for index, kind in enumerate(kinds):
        for folder, name in (("images", "default"), ("sc_images", "semantic"), ("nsc_images", "nonsemantic")):
            write(root / f"data/{folder}/CLEVR_{name}_{index:06d}.png", png(48, 36, seed=index))
        captions[f"CLEVR_default_{index:06d}.png"] = [f"the {kind} number {index}", f"somebody did {kind} {index}"]
        unchanged[f"CLEVR_default_{index:06d}.png"] = [f"nothing {index}"]
        boxes[str(index)] = {"bbox_before": [1, 2, 3, 4], "bbox_after": [10 + index, 5, 12, 9] if index else None}
        types.setdefault(kind, []).append(f"{index:06d}.png")
    write(root / "data/change_captions.json", captions)
    write(root / "data/no_change_captions.json", unchanged)
    write(root / "data/splits.json", {"train": list(range(6)), "val": [6], "test": [7]})
    write(root / "data/type_mapping.json", types)
    write(root / "data/change_captions_with_bbox.json", boxes)
    return root


@pytest.fixture
def spot(place):
    """Pair 11 twice (one person sees nothing), 12 without a difference, 13 in val, 14 in test."""
    root = place.media / "spot-the-diff"
    entries = {
        "train": [
            {"img_id": "11", "sentences": ["a car has left ", "the  person moved"]},
            {"img_id": "11", "sentences": ["There is no difference"]},
            {"img_id": "12", "sentences": ["no differences"]},
        ],
        "val": [{"img_id": "13", "sentences": ["A truck is new."]}],
        "test": [{"img_id": "14", "sentences": ["someone walks"]}],
    }
    for split, found in entries.items():
        write(root / f"data/annotations/{split}.json", found)
    for number in range(11, 15):
        for suffix in (".png", "_2.png"):
            write(root / f"resized_images/{number}{suffix}", png(seed=number))
    return root


def mask_png(width, height, box, *, seed=0):
    """A MagicBrush mask: the photograph, transparent inside `box`."""
    image = Image.open(io.BytesIO(png(width, height, seed=seed))).convert("RGBA")
    alpha = np.full((height, width), 255, np.uint8)
    x1, y1, x2, y2 = box
    alpha[y1:y2, x1:x2] = 0
    image.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BRUSH_SCHEMA = pa.schema(
    [
        ("img_id", pa.string()),
        ("turn_index", pa.int32()),
        ("source_img", IMAGE),
        ("mask_img", IMAGE),
        ("instruction", pa.string()),
        ("target_img", IMAGE),
    ]
)


def brush_row(number, turn, *, box=(20, 30, 60, 50), scale=1, **changes):
    """A row of MagicBrush, 100×80; the mask `scale` times as large."""
    values = {
        "img_id": str(number),
        "turn_index": turn,
        "source_img": {"bytes": png(100, 80, seed=number), "path": "a.png"},
        "mask_img": {"bytes": mask_png(100 * scale, 80 * scale, [v * scale for v in box]), "path": "m.png"},
        "instruction": f"add a hat to number {number}, turn {turn}",
        "target_img": {"bytes": png(100, 80, seed=number + 1000 * turn), "path": "b.png"},
    }
    return values | changes


@pytest.fixture
def brush(place):
    """Five turns of three photographs in two files, and a dev split that must not be read."""
    root = place.media / "magicbrush"
    rows = [brush_row(1, 1), brush_row(1, 2, box=(0, 0, 10, 10)), brush_row(2, 1, scale=3)]
    write_parquet(root / "data/train-00000-of-00002.parquet", rows, BRUSH_SCHEMA, row_group_size=2)
    write_parquet(root / "data/train-00001-of-00002.parquet", [brush_row(3, 1), brush_row(3, 2)], BRUSH_SCHEMA)
    write_parquet(root / "data/dev-00000-of-00001.parquet", [brush_row(9, 1)], BRUSH_SCHEMA)
    return root


def talk(*texts):
    """A conversation of LLaVA's form."""
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]
