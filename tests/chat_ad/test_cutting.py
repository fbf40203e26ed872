"""How cut images are stored, and that a file is decoded once a step."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from adcopilot.chat_ad.pairing import PAIR_SCHEMA
from adcopilot.chat_ad.pipeline.cut import CUT
from adcopilot.chat_ad.recipe.specs import ImageSpec
from adcopilot.chat_ad.sources import opened
from adcopilot.chat_ad.steps import save


@pytest.fixture
def pairs(tmp_path):
    """Three queries with one template, a JPEG; the second query is a PNG."""
    rng = np.random.default_rng(0)
    for name in ("t.jpg", "0.JPEG", "1.png", "2.jpg"):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(tmp_path / name, quality=90)
    size = {"width": 80, "height": 60, "template_width": 80, "template_height": 60}
    empty = {
        "boxes": [],
        "box_labels": [],
        "mask": "",
        "defect": "",
        "label": "normal",
        "category": "c",
        "source": "s",
    }
    rows = []
    for number, name in enumerate(("0.JPEG", "1.png", "2.jpg")):
        found = {**size, **empty, "image": name, "sha256": f"{number:064x}", "template": "t.jpg"}
        rows.append({**dict.fromkeys(PAIR_SCHEMA.names), **found, "template_sha256": "f" * 64, "crop": [8, 8, 72, 48]})
    save(tmp_path / "pairs.parquet", "k", pa.Table.from_pylist(rows, schema=PAIR_SCHEMA))
    return tmp_path


def cut(folder, **images):
    rows, notes = CUT.function(
        pairs=folder / "pairs.parquet",
        chosen=[0, 1, 2],
        root=str(folder),
        media_dir=str(folder / "out"),
        prefix="",
        dataset="d",
        images=ImageSpec(**images),
        marked_prefix="",
    )
    assert notes["uncut"] == {}
    return rows.to_pylist()


def kinds(rows, key) -> list[str]:
    return [row[key].rpartition(".")[2] for row in rows]


def test_as_the_source_is(pairs):
    rows = cut(pairs)
    assert kinds(rows, "query_file") == ["jpg", "png", "jpg"]
    assert kinds(rows, "template_file") == ["jpg"] * 3
    for row in rows:
        with Image.open(pairs / "out" / row["query_file"]) as image, Image.open(pairs / row["image"]) as whole:
            assert image.format == ("PNG" if row["image"].endswith("png") else "JPEG")
            assert image.size == (64, 40)
            off = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(whole.crop((8, 8, 72, 48))))
            assert off.mean() < (1e-9 if image.format == "PNG" else 8)


@pytest.mark.parametrize(("format", "suffix"), [("png", "png"), ("jpeg", "jpg")])
def test_as_the_recipe_says(pairs, format, suffix):
    rows = cut(pairs, format=format)
    assert kinds(rows, "query_file") + kinds(rows, "template_file") == [suffix] * 6


def test_each_file_is_decoded_once(pairs, monkeypatch):
    names, real = [], opened.open_reference
    monkeypatch.setattr(opened, "open_reference", lambda root, name: names.append(name) or real(root, name))
    cut(pairs)
    assert sorted(names) == ["0.JPEG", "1.png", "2.jpg", "t.jpg"]
    cut(pairs)  # what is there is not opened at all
    assert len(names) == 4
