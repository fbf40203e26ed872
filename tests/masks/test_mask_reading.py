"""Masks of whole datasets: inverted ones, whose they are, names that say good or bad, and the depth of images."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.readers import index, make_source, scan
from adcopilot.chat_ad.sources.references import content_sha256, open_mask, open_reference
from adcopilot.images import IMAGE_SUFFIXES
from adcopilot.inspect.pairs import find_images
from adcopilot.kinds import defect_name, is_good
from adcopilot.masks import MASK_SUFFIXES, MaskOptions
from tests.chat_ad.drawn import read_entries

BOX = (12, 10, 30, 20)


def photograph(path, seed, *, dtype=np.uint8, most=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, most + 1, (48, 64)).astype(dtype)).save(path)


def mask(path, box=BOX, *, inverted=False, shift=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((48, 64), np.uint8)
    values[box[1] : box[3], box[0] + shift : box[2] + shift] = 255
    Image.fromarray(255 - values if inverted else values).save(path)


@pytest.fixture
def parts(tmp_path):
    """bracket/{good,scratch}, three and three, masks in bracket/ground_truth/scratch."""
    root = tmp_path / "raw"
    for number in range(3):
        photograph(root / f"bracket/good/{number}.png", number)
        photograph(root / f"bracket/scratch/{number + 7}.png", number + 7)
        mask(root / f"bracket/ground_truth/scratch/{number + 7}_mask.png", shift=number)
    return root


def read(root, **options):
    problems = []
    return list(index("folder", root, problems=problems, **options)), problems


def test_an_inverted_mask_is_named_with_what_inverts_it(parts):
    mask(parts / "bracket/ground_truth/scratch/7_mask.png", inverted=True)
    rows, problems = read(parts)
    assert [problem.kind for problem in problems] == ["large-mask"]
    assert "marks 94% of the image, expected at most 50%" in problems[0].reason
    assert (
        "read such masks by --set datasets.SET.mask.inverted=large, else allow it by --set datasets.SET.mask.most=0.95"
        in problems[0].reason
    )
    assert "\n" not in problems[0].reason
    assert len(rows) == 5
    rows, problems = read(parts, masks=MaskOptions(inverted="large"))
    assert not problems
    turned = next(row for row in rows if row.image.endswith("/7.png"))
    assert turned.boxes == (BOX,)
    assert turned.mask_kind == "inverted two-level"
    # The reference itself says how the mask is read, to whoever reads it later.
    assert open_mask(parts, turned.mask, size=(64, 48)).sum() == 18 * 10
    rows, problems = read(parts, masks=MaskOptions(most=1.0))
    assert not problems


def test_all_masks_inverted(parts):
    for number in range(3):
        mask(parts / f"bracket/ground_truth/scratch/{number + 7}_mask.png", inverted=True)
    assert [problem.kind for problem in read(parts)[1]] == ["large-mask"] * 3
    rows, problems = read(parts, masks=MaskOptions(inverted="all"))
    assert not problems
    assert {row.boxes[0][1] for row in rows if row.boxes} == {10}
    # One that is not inverted shows at once.
    mask(parts / "bracket/ground_truth/scratch/7_mask.png")
    [problem] = read(parts, masks=MaskOptions(inverted="all"))[1]
    assert "when it is inverted" in problem.reason


def test_a_true_defect_of_most_of_the_image_and_a_white_mask(parts):
    mask(parts / "bracket/ground_truth/scratch/7_mask.png", (0, 0, 40, 48))
    mask(parts / "bracket/ground_truth/scratch/8_mask.png", (0, 0, 64, 48))
    rows, problems = read(parts, masks=MaskOptions(most=0.7))
    assert [problem.kind for problem in problems] == ["large-mask"]
    assert "8_mask.png" in problems[0].file
    assert any(row.boxes == ((0, 0, 40, 48),) for row in rows)
    [problem] = read(parts, masks=MaskOptions(inverted="large", most=0.7))[1]
    assert problem.kind == "empty-mask"


def test_the_command_counts_kinds_and_takes_the_options(parts, tmp_path, run):
    soft = Image.open(parts / "bracket/ground_truth/scratch/8_mask.png").resize((30, 20), Image.Resampling.BICUBIC)
    soft.resize((64, 48), Image.Resampling.BICUBIC).save(parts / "bracket/ground_truth/scratch/8_mask.png")
    mask(parts / "bracket/ground_truth/scratch/9_mask.png")  # the same pixels as of 7
    code, text, _ = run(*tables(parts, tmp_path))
    assert code == 0
    assert "masks: 2 two-level; 1 many-valued, cut at the middle of their range" in text
    assert "1 masks mark the same pixels of several images" in text
    assert "scratch/7.png and bracket/scratch/9.png" in text
    assert run(*tables(parts, tmp_path, "mask.threshold=0", "mask.most=0.9"))[0] == 0
    rows = read_entries(tmp_path / "out/datasets/parts.index.parquet")
    row = next(one for one in rows if one.image.endswith("/8.png"))
    assert row.mask.endswith("#over=0")
    assert row.boxes[0][0] < 13
    for wrong in ("mask.threshold=1.5", "mask.most=0", "mask.threshold=-1"):
        code, _, err = run(*tables(parts, tmp_path, wrong))
        assert (code, wrong.partition("=")[0] in err) == (2, True), err


def tables(parts, folder, *settings):
    """The words of a build of the table of the parts."""
    (folder / "recipe.yaml").write_text(f"datasets: {{parts: {{reader: folder, root: {parts}}}}}")
    words = ["data", "build", str(folder / "recipe.yaml"), "--output", str(folder / "out"), "--until", "index"]
    return words + [word for setting in settings for word in ("--set", f"datasets.parts.{setting}")]


def test_one_mask_of_two_photographs_is_nobody_s(parts, tmp_path, run):
    photograph(parts / "bracket/scratch/7.jpg", 70)
    rows, problems = read(parts)
    assert {problem.kind for problem in problems} == {"shared-mask"}
    assert all(name in problems[0].reason for name in ("scratch/7.jpg", "scratch/7.png"))
    assert not [row for row in rows if "/7." in row.image]
    code, _, said = run(*tables(parts, tmp_path))
    assert code == 2
    assert "1 shared-mask: bracket/ground_truth/scratch/7_mask.png: serves two images" in said
    assert run(*tables(parts, tmp_path, "skip_problems=true"))[0] == 1  # a third of them
    assert len(list(read_entries(tmp_path / "out/datasets/parts.index.parquet"))) == 5


def test_one_folder_of_masks_for_all_kinds_serves_each_name_once(parts):
    (parts / "bracket/ground_truth/scratch").rename(parts / "bracket/masks")
    (parts / "bracket/ground_truth").rmdir()
    photograph(parts / "bracket/dent/7.png", 71)
    _, problems = read(parts)
    assert [problem.kind for problem in problems] == ["shared-mask"]
    assert "dent/7.png" in problems[0].reason


def test_the_photograph_in_the_place_of_its_mask(parts):
    place = parts / "bracket/ground_truth/scratch/7_mask.png"
    place.write_bytes((parts / "bracket/scratch/7.png").read_bytes())
    [problem] = read(parts)[1]
    assert "is the photograph itself" in problem.reason


def test_a_good_part_with_a_mask_and_a_bad_folder_inside_a_good_one(parts):
    mask(parts / "bracket/ground_truth/good/0_mask.png", (0, 0, 0, 0))
    assert not read(parts)[1]  # some datasets have black masks of good parts
    mask(parts / "bracket/ground_truth/good/0_mask.png")
    [problem] = read(parts)[1]
    assert problem.kind == "conflict"
    assert problem.file == "bracket/good/0.png"
    assert "is said to be good, but its mask bracket/ground_truth/good/0_mask.png marks 180 pixels" in problem.reason
    (parts / "bracket/ground_truth/good/0_mask.png").unlink()
    photograph(parts / "bracket/good/bad/1.png", 99)
    assert [problem.kind for problem in read(parts)[1]] == ["unexpected-folder"]


@pytest.mark.parametrize("suffix", sorted(MASK_SUFFIXES - {".npy"}))
def test_masks_of_every_kind_of_picture_are_found(parts, suffix):
    path = parts / "bracket/ground_truth/scratch/7_mask.png"
    with Image.open(path) as image:
        drawn = image.convert("L")
    path.unlink()
    drawn.save(path.with_suffix(suffix), **({"lossless": True} if suffix == ".webp" else {}))
    rows, problems = read(parts, options={"masks": "optional"})
    assert not problems
    assert any(row.boxes == (BOX,) for row in rows)


def test_photographs_are_found_by_inspection_and_by_data_alike(parts):
    for suffix in IMAGE_SUFFIXES:
        photograph(parts / f"bracket/good/other{suffix}", 1)
    rows, _ = read(parts)
    assert {Path(row.image).name for row in rows} == {path.name for path in find_images(parts)}


def test_arrays_are_masks_too(parts):
    path = parts / "bracket/ground_truth/scratch/7_mask.png"
    values = np.asarray(Image.open(path)) / 255
    path.unlink()
    np.save(path.with_suffix(".npy"), values)
    rows, problems = read(parts)
    assert not problems
    assert any(row.boxes == (BOX,) for row in rows)
    (path.parent / "notes.txt").write_text("")
    source = make_source("folder", parts)
    assert list(scan(source))
    assert source.passed_over == {".txt": 1}
    values[0, 0] = np.nan
    np.save(path.with_suffix(".npy"), values)
    [problem] = read(parts)[1]
    assert problem.reason.startswith("1 of 3072 pixels of the mask are no finite numbers")


@pytest.mark.parametrize(
    "name",
    [
        *("ko", "KO", "nok", "NOK", "N.O.K.", "ng", "NG_01", "bad", "defect", "Defective", "defects", "anomaly"),
        *("fail", "Failed", "reject", "rejects", "not-good", "Not OK", "Schlecht", "défaut", "Défauts", "不良"),
        *("불량", "брак", "n.i.O.", "defecto", "difetto", "non-conforming", "Ausschuss", "unknown"),
        *("Bad_Parts", "defective-images", "NG samples 2", "faults", "misc", "n.ok", "unlabeled"),
    ],
)
def test_names_that_tell_no_kind(name):
    assert defect_name(name) == ""
    assert not is_good(name)


@pytest.mark.parametrize(
    "name",
    [
        *("good", "OK", "ok_2", "Normal", "pass", "PASSED", "gut", "良品", "non-defective", "iO", "good_parts"),
        *("OK-images", "golden", "undamaged", "Correct", "良", "dobrý"),
    ],
)
def test_names_that_say_good(name):
    assert is_good(name)


@pytest.mark.parametrize(
    "name", ["broken", "scratch", "GoodsAD", "no_thread", "bad_solder", "short", "goodyear", "wrong_part", "part"]
)
def test_names_that_are_kinds(name):
    assert defect_name(name) == name
    assert not is_good(name)


def test_a_coco_class_called_good_is_no_defect(tmp_path):
    photograph(tmp_path / "images/a.png", 1)
    photograph(tmp_path / "images/b.png", 2)
    photograph(tmp_path / "good/c.png", 3)

    def box(number, image, category, x):
        found = {"id": number, "image_id": image, "category_id": category, "bbox": [x, 5, 9, 9]}
        return {**found, "segmentation": [[x, 5, x + 9, 5, x + 9, 14, x, 14]]}

    data = {
        "images": [{"id": n, "file_name": f, "width": 64, "height": 48} for n, f in enumerate(("a.png", "b.png"))],
        "categories": [{"id": 1, "name": "OK"}, {"id": 2, "name": "scratch"}, {"id": 3, "name": "NG"}],
        "annotations": [box(1, 0, 1, 3), box(2, 1, 1, 3), box(3, 1, 2, 20), box(4, 1, 3, 40)],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.json").write_text(json.dumps(data))
    rows = list(index("coco", tmp_path, options={"category": "nut"}))
    assert [row.label for row in rows] == ["normal", "anomalous"]
    assert [box[0] for box in rows[1].boxes] == [20, 40]
    assert rows[1].box_labels == ("scratch", "")
    assert rows[1].defect == "scratch"
    data["images"].append({"id": 2, "file_name": "good/c.png", "width": 64, "height": 48})
    data["annotations"].append(box(5, 2, 2, 20))
    (tmp_path / "annotations/a.json").write_text(json.dumps(data))
    problems = []
    list(index("coco", tmp_path, options={"category": "nut"}, problems=problems))
    assert [problem.kind for problem in problems] == ["conflict"]
    assert "lies in a folder that says good" in problems[0].reason


def test_one_depth_for_a_whole_table(parts):
    """The camera's 12 bits: the darkest picture stays the darkest, and nobody who opens a row has to know of it."""
    for number, most in enumerate((4095, 600, 2000)):
        photograph(parts / f"bracket/good/{number}.png", number, dtype=np.uint16, most=most)
    rows, problems = read(parts)
    assert not problems
    deep = [row for row in rows if row.label == "normal"]
    assert {row.image for row in deep} == {f"bracket/good/{number}.png#bits=12" for number in range(3)}
    assert all("#" not in row.image for row in rows if row.label == "anomalous")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        brightest = [np.asarray(open_reference(parts, row.image)).max() for row in deep]
    assert brightest == [255, round(600 * 255 / 4095), round(2000 * 255 / 4095)]
    assert all(content_sha256(parts, row.image) == row.sha256 for row in rows)
    photograph(parts / "bracket/good/3.png", 3, dtype=np.uint16, most=65535)
    assert all("#" not in row.image for row in read(parts)[0])
