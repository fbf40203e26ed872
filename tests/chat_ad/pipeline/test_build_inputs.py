"""`adcopilot data build` of every layout, of what is odd and of what is broken."""

import contextlib
import json

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.alone import alone_in
from adcopilot.chat_ad.pipeline import build as build_module
from adcopilot.chat_ad.recipe.reading import load_recipe
from adcopilot.cli import main
from adcopilot.errors import UserError
from adcopilot.records import check_record, record_image_sizes

from ..builds import RECIPE, records, run, write_recipe
from ..mistakes import MISTAKES
from ..trees import DATASETS, LAYOUTS
from ..trees import build as build_tree


def test_recorded_pairs_go_through_all_steps(tmp_path, project_root):
    recipe = {
        "shard_images": 16,
        "datasets": {
            "drawn": {
                "reader": "records",
                "root": str(project_root / "data"),
                "options": {"files": ["sample/stage0.jsonl", "sample/stage1.jsonl"]},
                "filter": {"allow": ["blurred", "dark", "bright", "near_duplicate", "conflicting", "duplicate"]},
            }
        },
        "outputs": {"Chat_drawn": {"datasets": "drawn", "tasks": ["mc", "loc", "caption"]}},
    }
    manifest = run(write_recipe(tmp_path, recipe), tmp_path / "out")
    assert manifest["datasets"]["drawn"]["images"] >= 40
    made = records(tmp_path / "out/Chat_drawn.jsonl")
    assert len(made) >= 30
    assert {record["task"] for record in made} == {"mc", "loc", "caption"}


def test_masks_depth_and_sizes_from_the_photographs_to_the_records(tmp_path, capsys):
    """A soft mask, a camera's 12 bits, a folder called ko: what is said first, written, and told in a caption."""
    for number in range(4):
        rng = np.random.default_rng(number)
        for kind in ("good", "ko"):
            place = tmp_path / f"raw/nut/{kind}/{number}{kind}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 4096, (96, 128)).astype(np.uint16)).save(place)
        mask = np.zeros((24, 32), np.uint8)
        mask[6:12, 8:20] = 255
        mask[6:12, 8:20][number:, number:] = 0  # an L: less than its box
        soft = Image.fromarray(mask).resize((128, 96), Image.Resampling.LANCZOS)
        (tmp_path / "raw/nut/ground_truth/ko").mkdir(parents=True, exist_ok=True)
        soft.save(tmp_path / f"raw/nut/ground_truth/ko/{number}ko_mask.png")
    Image.fromarray(255 - np.asarray(soft)).save(tmp_path / "raw/nut/ground_truth/ko/2ko_mask.png")
    recipe = {
        "datasets": {
            "own": {
                "reader": "folder",
                "root": str(tmp_path / "raw"),
                "mask": {"inverted": "large"},
                "filter": {"allow": ["blurred", "near_duplicate", "duplicate"]},
                "queries": "anomalous",
                "images": {"originals": True},
            }
        },
        "media_dir": str(tmp_path),
        "outputs": {"Caption_own": {"datasets": "own", "tasks": "caption"}},
    }
    path, output = write_recipe(tmp_path, recipe), tmp_path / "out"
    with contextlib.suppress(UserError):  # a mask that marks nothing (number 0) is a problem of its own
        run(path, output)
    recipe["datasets"]["own"]["skip_problems"] = True
    manifest = run(write_recipe(tmp_path, recipe), output)
    told = capsys.readouterr().err
    assert "own: masks: 2 many-valued" in told
    assert "1 inverted, many-valued" in told
    assert manifest["datasets"]["own"]["masks"][0].startswith("masks: 2 many-valued")
    assert any("use 12 of them" in line for line in manifest["datasets"]["own"]["layout"])
    made = records(output / "Caption_own.jsonl")
    assert len(made) == 3
    for record in made:
        assert record["labels"] == ["defect"] * len(record["boxes"])
        assert "ko" not in json.dumps(record["messages"]).replace("took", "").split('"')
        with Image.open(tmp_path / record["images"][1]) as image:
            assert image.mode == "RGB"
            assert np.asarray(image).max() >= 250
        with Image.open(tmp_path / record["mask"]) as opened:
            mask = np.asarray(opened)
        share = 100 * (mask > 0).mean()
        said = json.loads(record["answer"])["defect_description"]
        assert f"about {round(share)} %" in said
        assert " box " not in said


@pytest.mark.parametrize("images", [{}, {"originals": True}])
def test_every_layout_through_all_steps(tmp_path, images):
    datasets = {
        name.replace(".", "_"): {
            "reader": DATASETS[name],
            "root": str(build_tree(name, tmp_path / "source")),
            "filter": {"allow": ["blurred", "dark", "near_duplicate", "duplicate", "conflicting"]},
            "pair": {"skip_unpaired": True, "other_views": True},
            "images": images,
            "options": {"unannotated": "normal"} if name == "vision" else {},
        }
        for name in LAYOUTS
    }
    recipe = {
        "datasets": datasets,
        "media_dir": str(tmp_path),
        "outputs": {"Chat_all": {"datasets": list(datasets), "tasks": ["mc", "loc", "think", "dialogue", "caption"]}},
    }
    output = tmp_path / "out"
    manifest = run(write_recipe(tmp_path, recipe), output)
    made = records(output / "Chat_all.jsonl")
    masks = 0
    for record in made:
        sizes = record_image_sizes(record, name="record", media_dir=tmp_path)
        check_record(record, name="record", sizes=sizes)
        if record["mask"]:
            masks += 1
            with Image.open(tmp_path / record["mask"]) as opened:
                values = np.asarray(opened) > 0
            assert values.shape == sizes[1][::-1]
            inside = np.zeros_like(values)
            for x1, y1, x2, y2 in record["boxes"]:
                inside[y1:y2, x1:x2] = True
                assert values[y1:y2, x1:x2].any()
            assert not (values & ~inside).any()
    assert masks > 20
    # A pair that is in two layouts' trees is one pair.
    for name in datasets:
        counts = manifest["datasets"][name]
        assert counts["pairs"] > 0, name
        listed = records(output / "datasets" / f"{name}.dropped.jsonl")
        assert counts["pairs"] + sum(one.get("left_out", True) for one in listed) == counts["images"], name


def test_walk_through_of_the_docs(tmp_path, project_root):
    root = build_tree("folder", tmp_path / "source")
    settings = [f"datasets.my_parts.root={root}", "media_dir=null"]
    recipe = load_recipe(project_root / "examples/data/my_parts.yaml", settings=settings)
    manifest = build_module.build(recipe, tmp_path / "out")
    assert set(manifest["outputs"]) == {"Caption_my_parts", "Chat_my_parts", "Chat_my_parts_RL", "Verdict_my_parts"}
    assert all(found["records"] for found in manifest["outputs"].values())


def test_images_of_an_evaluation_set_are_left_out(tmp_path):
    recipe = write_recipe(tmp_path)
    leaked = tmp_path / "source/mvtec/wood/test/hole/000.png"
    with Image.open(leaked) as opened:
        (tmp_path / "mmad").mkdir()
        opened.convert("RGB").save(tmp_path / "mmad/other_name.bmp")
    settings = [f"against=[{tmp_path / 'mmad'}]", "datasets.again.filter={}"]
    manifest = build_module.build(load_recipe(recipe, settings=settings), tmp_path / "out")
    for name in ("parts", "again"):
        assert manifest["datasets"][name]["left_out"]["filter: leak"] == 1
        (line,) = [one for one in records(tmp_path / f"out/datasets/{name}.dropped.jsonl") if one["reason"] == "leak"]
        assert line["image"] == "wood/test/hole/000.png"
        assert line["of"].endswith("mmad: other_name.bmp")
        assert line["value"] == "pixels"
    with pytest.raises(UserError, match=r"again\.filter is false"):
        load_recipe(recipe, settings=settings[:1])
    with pytest.raises(UserError, match="no such folder or table"):
        build_module.build(load_recipe(recipe, settings=["against=[gone]", settings[1]]), tmp_path / "out")
    (tmp_path / "mmad/broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.png cannot be read"):
        build_module.build(load_recipe(recipe, settings=settings), tmp_path / "out")


def broken_copy(tmp_path, spoil):
    recipe = write_recipe(tmp_path)
    spoil(tmp_path / "source" / "mvtec")
    return recipe


def no_normals(root):
    for folder in ("train/good", "test/good"):
        for path in (root / "wood" / folder).iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        *((MISTAKES[kind], kind.replace("_", "-")) for kind in ("missing_mask", "mask_size", "empty_mask")),
        (no_normals, "no normal image to compare with"),
    ],
)
def test_bad_input_is_one_line_and_can_be_skipped(tmp_path, capsys, spoil, words):
    recipe = broken_copy(tmp_path, spoil)
    output = tmp_path / "out"
    assert main(["data", "build", str(recipe), "--output", str(output)]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert words in error[0]
    settings = [f"datasets.{name}.skip_problems=true" for name in ("parts", "again")]
    settings += [f"datasets.{name}.pair.skip_unpaired=true" for name in ("parts", "again")]
    more = [word for one in settings for word in ("--set", one)]
    # One of few is a large share: it has to be allowed.
    more += ["--max-left-out", "1"]
    assert main(["data", "build", str(recipe), "--output", str(output), *more]) == 0
    listed = records(output / "datasets/parts.dropped.jsonl")
    if words != "no normal image to compare with":
        assert [one["reason"] for one in listed if one["step"] == "index"] == [words]
    else:
        assert {one["reason"] for one in listed if one["step"] == "pair"} == {"no_normal"}


def test_odd_names(tmp_path):
    def spoil(root):
        (root / "wood").rename(root / "Hölzer #1 & “Co”")
        long = root / "bottle/train/good" / ("x" * 240 + ".png")
        (root / "bottle/train/good/000.png").rename(long)

    manifest = run(broken_copy(tmp_path, spoil), tmp_path / "out")
    assert manifest["datasets"]["parts"]["categories"] == 2
    categories = {record["category"] for record in records(tmp_path / "out/Chat_parts.jsonl")}
    assert "Hölzer #1 & “Co”" in categories


def test_missing_roots(tmp_path):
    recipe = json.loads(json.dumps(RECIPE))
    recipe["datasets"]["again"]["root"] = str(tmp_path / "nowhere")
    recipe["outputs"]["Only_again"] = {"datasets": "again", "tasks": "mc"}
    path = write_recipe(tmp_path, recipe)
    with pytest.raises(UserError, match=r"datasets\.again\.root is .*nowhere.*--skip-missing"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    manifest = run(path, tmp_path / "out", skip_missing=True)
    assert manifest["recipes"]["recipe"]["skipped"] == ["datasets.again", "outputs.Only_again"]
    assert {record["source"] for record in records(tmp_path / "out/Chat_parts.jsonl")} == {"parts"}
    path = write_recipe(tmp_path, {**recipe, "datasets": {"again": recipe["datasets"]["again"]},
                                   "outputs": {"Only_again": {"datasets": "again", "tasks": "mc"}}})  # fmt: skip
    with pytest.raises(UserError, match="none of the folders"):
        run(path, tmp_path / "out2", skip_missing=True)


def test_places_that_cannot_work(tmp_path):
    recipe = write_recipe(tmp_path)
    with pytest.raises(UserError, match="inside datasets"):
        run(recipe, tmp_path / "source/mvtec/out")
    other = write_recipe(tmp_path, media_dir=str(tmp_path / "media"))
    with pytest.raises(UserError, match="not inside media_dir"):
        run(other, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        run(write_recipe(tmp_path), tmp_path / "file")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/manifest.json").write_text('{"other": 1}')
    with pytest.raises(UserError, match="not a manifest"):
        run(recipe, tmp_path / "foreign")


def test_one_build_at_a_time(tmp_path):
    out = tmp_path / "out"
    with alone_in(out, work=out / ".work", what="build"), pytest.raises(UserError, match="another build"):
        run(write_recipe(tmp_path), tmp_path / "out")


def test_read_only_source(tmp_path):
    recipe = write_recipe(tmp_path)
    source = tmp_path / "source"
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    for path in [source, *source.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        run(recipe, tmp_path / "out")
        assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before
    finally:
        for path in [source, *source.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
