"""DeepPCB in windows: boxes stay on their defects, windows are those of the converter of old, mistakes are named."""

from collections import Counter

import numpy as np
import pytest
import yaml

from adcopilot import cli
from adcopilot.chat_ad.crops import cut_pair
from adcopilot.chat_ad.readers import index
from adcopilot.chat_ad.readers.deeppcb_files import CLASSES, find_root, read_split
from adcopilot.chat_ad.sources.references import open_reference, parse_reference
from adcopilot.chat_ad.table import read_batches
from adcopilot.errors import UserError

#: What `adcopilot data convert deeppcb --crop 64` cut of the first pair: window, boxes in it, origin.
CONVERTED = [
    ((10, 20, 74, 84), ((0, 0, 12, 10), (40, 40, 48, 50)), "defective"),
    ((33, 94, 97, 158), ((37, 6, 52, 18),), "defective"),
    ((37, 16, 101, 80), ((13, 44, 21, 54),), "defective"),
    ((80, 21, 144, 85), (), "clean"),
    ((71, 16, 135, 80), (), "clean"),
    ((94, 38, 158, 102), (), "clean"),
]
#: And with `--normals repair`.
REPAIRED = [*CONVERTED[:3], *((window, (), "repaired") for window, _, _ in CONVERTED[:3])]
NOTES = "PCBData/group90000/90000_not/90000000.txt"


def rows_of(root, problems=None, **options):
    found = [] if problems is None else problems
    return list(index("deeppcb", root, options={"crop": 64, **options}, problems=found))


def kind(row):
    """defective, clean or repaired; "" of a template."""
    parsed = parse_reference(row.image)
    if "_temp" in parsed.path:
        return ""
    return "defective" if row.boxes else "repaired" if parsed.repaired else "clean"


def pixels(root, image):
    return np.asarray(open_reference(root, image).convert("L")).astype(int)


@pytest.mark.parametrize(("options", "expected"), [({}, CONVERTED), ({"normals": "repair"}, REPAIRED)])
def test_windows_are_the_converter_s(pcb, options, expected):
    rows = [row for row in rows_of(pcb, **options) if "90000000" in row.image and kind(row)]
    assert [(parse_reference(row.image).window, row.boxes, kind(row)) for row in rows] == expected
    assert rows[0].box_labels == ("open circuit", "mouse bite")
    assert (rows[0].split, rows[0].width, rows[0].height) == ("train", 64, 64)


def test_pixels_are_the_originals_and_differ_exactly_where_the_boxes_are(pcb):
    rows = rows_of(pcb)
    templates = {row.view: row for row in rows if not kind(row)}
    seen = 0
    for row in rows:
        if not kind(row):
            assert (row.split, row.label) == ("", "normal")
            continue
        assert parse_reference(templates[row.view].image).window == parse_reference(row.image).window
        template, query = (pixels(pcb, one.image) for one in (templates[row.view], row))
        x1, y1, x2, y2 = parse_reference(row.image).window
        assert (query == pixels(pcb, parse_reference(row.image).path)[y1:y2, x1:x2]).all()
        marked = np.zeros(query.shape, bool)
        for bx1, by1, bx2, by2 in row.boxes:
            marked[by1:by2, bx1:bx2] = True
            seen += 1
            # An inverted patch of a black and white picture: every pixel of it differs, JPEG or not.
            assert (abs(template - query)[by1:by2, bx1:bx2] > 100).mean() > 0.95
        assert (abs(template - query)[~marked] > 128).sum() == 0
    assert seen >= 18


def test_every_defect_is_in_a_window_or_noted(pcb):
    # Larger than any window can show half of.
    (pcb / NOTES).write_text((pcb / NOTES).read_text() + "0 0 150 150 3\n")
    problems = []
    rows = rows_of(pcb, problems, crop=32)
    dropped = [problem.reason for problem in problems]
    assert any("defect at [0, 0, 150, 150] is in no window, it is larger than the window" in text for text in dropped)
    assert not any(problem.blocking for problem in problems)
    for pair in read_split(find_root(pcb), "train", faults=[]):
        shown = sum(
            any(window[0] <= x1 and window[1] <= y1 and x2 <= window[2] and y2 <= window[3] for window in windows)
            for (x1, y1, x2, y2) in (defect.box for defect in pair.defects)
            for windows in [[parse_reference(row.image).window for row in rows if f"{pair.name}_test" in row.image]]
        )
        assert shown + sum(pair.query.name in problem.file for problem in problems) >= len(pair.defects)


def test_whole_normal_images_are_repaired_from_the_template(pcb):
    rows = rows_of(pcb, crop="whole")
    assert Counter(kind(row) for row in rows) == {"": 6, "defective": 6, "repaired": 6}
    templates = {row.view: row for row in rows if not kind(row)}
    for row in rows:
        if kind(row) == "repaired":
            template = pixels(pcb, templates[row.view].image)
            assert (abs(template - pixels(pcb, row.image)) > 128).sum() == 0


def test_options(pcb):
    assert {kind(row) for row in rows_of(pcb, normals="none")} == {"", "defective"}
    half = Counter(kind(row) for row in rows_of(pcb, normal_ratio=0.5))
    assert half["defective"] == 18
    assert 6 <= half["clean"] <= 12
    some = {parse_reference(row.image).path for row in rows_of(pcb, limit=1)}
    assert len(some) == 4  # template and query of a pair of each split
    assert some != {parse_reference(row.image).path for row in rows_of(pcb, limit=1, seed=3)}
    for option, value, said in (
        ("crop", 20, "crop=20: expected 28"),
        ("crop", "half", "crop=half: expected 28"),
        ("limit", 0, "limit=0: expected 1"),
        ("limit", 1.5, "limit=1.5: expected 1"),
        ("min_visible", 0, "min_visible=0: expected 0.01 to 1"),
        ("normal_ratio", -1, "normal_ratio=-1: expected 0 to 100"),
        ("normals", "some", "'some', expected one of auto"),
    ):
        with pytest.raises(UserError, match=said):
            rows_of(pcb, **{option: value})
    with pytest.raises(UserError, match="give crop in pixels, or use repair"):
        rows_of(pcb, crop="whole", normals="clean")
    problems = []
    assert rows_of(pcb, problems, crop=161) == []
    assert {(problem.kind, problem.blocking) for problem in problems} == {("image-size", True)}


def test_a_query_is_paired_with_the_same_window_of_its_template(pcb, tmp_path, project_root):
    recipe = yaml.safe_load((project_root / "examples/data/deeppcb.yaml").read_text())
    recipe["defaults"] |= {"root": str(pcb), "options": {"crop": 64, "normals": "repair"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["data", "build", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "out"), "--until", "pair"]
    assert cli.main(words) == 0
    for name, queries in (("deeppcb", 24), ("deeppcb_test", 12)):
        rows = [row for one in read_batches(tmp_path / f"out/datasets/{name}.pair.parquet") for row in one.to_pylist()]
        assert len(rows) == queries
        for row in rows:
            query, template = (parse_reference(row[key]) for key in ("image", "template"))
            assert (query.path, query.window) == (template.path.replace("_temp", "_test"), template.window)
            assert {image.size for image in cut_pair(pcb, row)} == {(64, 64)}


def edit(relative, old, new):
    def change(root):
        path = next(root.glob(relative))
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def remove(relative):
    return lambda root: sorted(root.glob(relative))[0].unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove("PCBData/trainval.txt"), "trainval.txt: missing"),
        (remove("PCBData/test.txt"), "test.txt: missing"),
        (remove("PCBData/group90000/90000/*_temp.jpg"), "90000000_temp.jpg"),
        (remove(NOTES), "90000_not/90000000.txt is missing"),
        (edit(NOTES, "10 20 22 30 1", "10 20 22 1"), "90000000.txt:1: '10 20 22 1', expected five integers"),
        (edit(NOTES, "10 20 22 30 1", "10 20 22 3O 1"), "expected five integers"),
        (edit(NOTES, "10 20 22 30 1", "22 20 10 30 1"), "90000000.txt:1: box [22, 20, 10, 30] is inverted"),
        (edit(NOTES, "10 20 22 30 1", "10 20 10 30 1"), "is empty"),
        (edit(NOTES, "10 20 22 30 1", "10 20 161 30 1"), "outside 90000000_test.jpg (160×160 pixels)"),
        (edit(NOTES, "10 20 22 30 1", "10 20 22 30 7"), "class 7, expected one of 1 open"),
        (edit("PCBData/trainval.txt", "group90000/90000/", "../"), "leads out of"),
        (edit("PCBData/trainval.txt", "90000000.jpg", "90000000.png"), "trainval.txt:1:"),
        (edit("PCBData/test.txt", "90000004", "90000000"), "is in trainval.txt too"),
    ],
)
def test_mistakes_are_problems_of_their_pair(pcb, spoil, said):
    spoil(pcb)
    problems = []
    rows_of(pcb, problems)
    (problem,) = problems
    assert problem.blocking
    assert said in problem.reason


def test_numbers_may_be_separated_by_commas(pcb):
    path = pcb / NOTES
    path.write_text(path.read_text().replace(" ", ","))
    assert read_split(find_root(pcb), "train", faults=[])[0].defects[0].box == (10, 20, 22, 30)


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("window=1/2/3", "expected x1/y1/x2/y2"),
        ("window=0/0/161/9", "not inside its 160×160 pixels"),
        ("window=9/9/9/20", "not inside"),
        ("repair=0/0/9/9&by=90000001_none.jpg", "90000001_none.jpg"),
        ("repair=0/0/9/9&by=../../../x.jpg", "without `..`"),
        ("repair=0/0/9/900&by=90000000_temp.jpg", "not inside"),
    ],
)
def test_a_wrong_reference_is_one_line(pcb, fragment, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        open_reference(pcb, f"PCBData/group90000/90000/90000000_test.jpg#{fragment}")


def test_the_real_set_in_windows(deeppcb_root):
    """The public files themselves: balance, and that defects are where the boxes are."""
    problems = []
    rows = rows_of(deeppcb_root, problems, crop=112, limit=6)
    counts = Counter(kind(row) for row in rows)
    assert counts["clean"] == counts["defective"] >= 24
    assert len(problems) <= 0.05 * counts["defective"]
    assert {label for row in rows for label in row.box_labels} <= {one.label for one in CLASSES.values()}
    templates = {row.view: row for row in rows if not kind(row)}
    inside, outside = [], []
    for row in rows:
        if kind(row):
            template, query = (pixels(deeppcb_root, one.image) for one in (templates[row.view], row))
            assert query.shape == (112, 112)
            differs = abs(template - query) > 128
            marked = np.zeros(query.shape, bool)
            for x1, y1, x2, y2 in row.boxes:
                marked[y1:y2, x1:x2] = True
                inside.append(differs[y1:y2, x1:x2].mean())
            outside.append(differs[~marked].mean())
    assert np.mean(inside) > 3 * np.mean(outside)
