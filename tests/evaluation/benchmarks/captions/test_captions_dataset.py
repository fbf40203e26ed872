"""Pairs of images with captions, in their three layouts."""

import json
from pathlib import Path

import pytest
from PIL import Image

from adcopilot.answering.families import FAMILIES
from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.captions.command import items
from adcopilot.evaluation.benchmarks.captions.dataset import load
from adcopilot.evaluation.running import check_groups


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (len(str(path)) * 37 % 255, 80, 120)).save(path)


def pairs_folder(root: Path, records: list[dict] | None = None) -> Path:
    """The layout `pairs`, with three pairs of two categories."""
    records = records or [
        {"id": "k1", "images": ["real/a.png", "real/b.png"], "captions": ["The cup is gone."], "category": "kitchen"},
        {"id": "k2", "images": ["real/b.png", "real/c.png"], "captions": ["A red car came.", "There is a red car."],
         "category": "street"},
        {"id": "k3", "images": ["real/a.png", "real/c.png"], "captions": ["The lamp was moved to the left."],
         "category": "street"},
    ]  # fmt: skip
    for record in records:
        for name in record["images"]:
            picture(root / name)
    (root / "captions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


def spot_the_diff_folder(root: Path) -> Path:
    entries = [
        {"img_id": "7", "sentences": ["a man is gone ", "the car moved"]},
        {"img_id": "8", "sentences": ["no difference"]},
        {"img_id": "7", "sentences": ["there is no man", " "]},
    ]
    (root / "data/annotations").mkdir(parents=True)
    (root / "data/annotations/test.json").write_text(json.dumps(entries))
    for name in ("7", "8"):
        picture(root / f"resized_images/{name}.png")
        picture(root / f"resized_images/{name}_2.png")
    return root


def clevr_folder(root: Path) -> Path:
    data = root / "data"
    for index in (0, 1, 2):
        picture(data / f"images/CLEVR_default_{index:06d}.png")
        picture(data / f"sc_images/CLEVR_semantic_{index:06d}.png")
        picture(data / f"nsc_images/CLEVR_nonsemantic_{index:06d}.png")
    names = [f"CLEVR_default_{index:06d}.png" for index in range(3)]
    (data / "change_captions.json").write_text(json.dumps({name: [f"cube {name[-5]} moved"] for name in names}))
    (data / "no_change_captions.json").write_text(json.dumps({name: ["no change", "the same"] for name in names}))
    (data / "splits.json").write_text(json.dumps({"train": [0], "val": [], "test": [2, 1]}))
    return root


def test_pairs(tmp_path):
    found, files = load("pairs", root=pairs_folder(tmp_path))
    assert files == [tmp_path / "captions.jsonl"]
    assert [(pair.name, pair.category, pair.captions) for pair in found] == [
        ("k1", "kitchen", ("The cup is gone.",)),
        ("k2", "street", ("A red car came.", "There is a red car.")),
        ("k3", "street", ("The lamp was moved to the left.",)),
    ]
    assert found[0].images == (tmp_path / "real/a.png", tmp_path / "real/b.png")


def test_another_file_of_captions(tmp_path):
    root = pairs_folder(tmp_path / "images")
    other = tmp_path / "mine.jsonl"
    other.write_text('{"images": ["real/a.png", "real/b.png"], "captions": " one  text "}\n')
    found, _ = load("pairs", root=root, annotations=other)
    assert [(pair.name, pair.captions) for pair in found] == [("1", ("one text",))]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"images": ["a.png"], "captions": ["x"]}, r"captions\.jsonl:1: images is .* expected two paths"),
        ({"images": ["/etc/a", "b"], "captions": ["x"]}, "expected a path inside --data-root"),
        ({"images": ["../a", "b"], "captions": ["x"]}, "expected a path inside --data-root"),
        ({"images": ["a", "b"], "captions": [" "]}, "has no caption"),
        ({"images": ["a", "b"]}, "captions are None, expected a list of texts"),
        ({"images": ["a", "b"], "captions": [1]}, "expected a list of texts"),
    ],
)
def test_a_broken_pair_is_named(tmp_path, record, message):
    (tmp_path / "captions.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=message):
        load("pairs", root=tmp_path)


def test_an_id_that_is_there_twice(tmp_path):
    record = {"id": "x", "images": ["a", "b"], "captions": ["c"]}
    (tmp_path / "captions.jsonl").write_text(f"{json.dumps(record)}\n{json.dumps(record)}\n")
    with pytest.raises(UserError, match="the id 'x' is there twice"):
        load("pairs", root=tmp_path)


def test_spot_the_diff(tmp_path):
    root = spot_the_diff_folder(tmp_path)
    found, _ = load("spot-the-diff", root=root)
    assert [(pair.name, pair.captions) for pair in found] == [
        ("7", ("a man is gone the car moved", "there is no man")),
        ("8", ("no difference",)),
    ]
    assert found[0].images == (root / "resized_images/7.png", root / "resized_images/7_2.png")
    found, _ = load("spot-the-diff", root=root, references="sentences")
    assert found[0].captions == ("a man is gone", "the car moved", "there is no man")


def test_clevr_change(tmp_path):
    found, files = load("clevr-change", root=clevr_folder(tmp_path))
    assert [(pair.name, pair.category, pair.captions) for pair in found] == [
        ("semantic/000002", "change", ("cube 2 moved",)),
        ("nonsemantic/000002", "no change", ("no change", "the same")),
        ("semantic/000001", "change", ("cube 1 moved",)),
        ("nonsemantic/000001", "no change", ("no change", "the same")),
    ]
    assert all(path.is_file() for pair in found for path in pair.images)
    assert [pair.images[1].name for pair in found[:2]] == [
        "CLEVR_semantic_000002.png",
        "CLEVR_nonsemantic_000002.png",
    ]
    assert len(files) == 3
    assert len(load("clevr-change", root=tmp_path / "data", split="train")[0]) == 2


@pytest.mark.parametrize("layout", ["pairs", "spot-the-diff", "clevr-change"])
def test_folders_that_are_none_of_the_layouts(tmp_path, layout):
    with pytest.raises(UserError, match=r"has no|cannot be read"):
        load(layout, root=tmp_path)
    with pytest.raises(UserError, match="no such folder; --data-root"):
        load(layout, root=tmp_path / "nowhere")


def test_public_files_with_anything_in_them(tmp_path):
    root = spot_the_diff_folder(tmp_path / "s")
    path = root / "data/annotations/test.json"
    for content, message in (
        ('{"a": 1}', "holds a JSON dict, expected a list"),
        ("[1]", r"entry 1: expected an object with img_id"),
        ('[{"img_id": "../7", "sentences": ["x"]}]', "expected a name without folders"),
        ('[{"img_id": "7", "sentences": []}]', "entry 1: has no caption"),
        ("[]", "no pairs of images in it"),
        ("{", "not JSON"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            load("spot-the-diff", root=root)
    root = clevr_folder(tmp_path / "c")
    (root / "data/splits.json").write_text('{"test": ["1"]}')
    with pytest.raises(UserError, match=r"'test' is .* expected a list of scene numbers"):
        load("clevr-change", root=root)
    (root / "data/splits.json").write_text('{"test": [5]}')
    with pytest.raises(UserError, match=r"change_captions\.json: CLEVR_default_000005\.png: captions are None"):
        load("clevr-change", root=root)


def test_what_is_asked(tmp_path):
    found, _ = load("pairs", root=pairs_folder(tmp_path))
    asked = items(found, prompt="What differs?", family=FAMILIES["generic"])
    check_groups(asked)
    assert [item.prefix for item in asked] == [(0, 1, "\n")] * 3
    assert asked[1].question == "What differs?"
    assert asked[1].reference == ["A red car came.", "There is a red car."]
    assert asked[1].images == found[1].images
    other = items(found, prompt="And now?", family=FAMILIES["generic"])
    assert not {item.key for item in asked} & {item.key for item in other}
