"""YOLO, Pascal VOC and LabelMe folders: what their numbers mean, who is good, and what is refused or listed."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.chat_ad import label_files
from adcopilot.chat_ad.readers import index
from adcopilot.chat_ad.sources.references import open_mask
from adcopilot.chat_ad.table import to_batch
from adcopilot.errors import UserError

from ..pictures import BOX, SIZE, picture, save
from ..trees import build, labelme_content, voc_text, yolo_line
from .reading import one, read

TOOLS = ("yolo", "voc", "labelme")
SUFFIX = {"yolo": ".txt", "voc": ".xml", "labelme": ".json"}


def text_of(tool, boxes, *, name="a.png", label="crack", size=SIZE):
    """A file of labels with some boxes."""
    if tool == "yolo":
        return "\n".join(yolo_line(0, box, size) for box in boxes)
    if tool == "voc":
        return voc_text(name, boxes, size, label)
    shapes = [(label, "rectangle", [[x1, y1], [x2, y2]]) for x1, y1, x2, y2 in boxes]
    return json.dumps(labelme_content(name, shapes, size))


def put(root, tool, *, image="a.png", file=None, boxes=(BOX,), size=SIZE, **more):
    """A photograph and its file of labels, beside each other unless said otherwise."""
    save(root / image, picture(image.encode(), size=size, box=boxes[0] if boxes else None))
    path = root / (file or os.path.splitext(image)[0] + SUFFIX[tool])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(tool, boxes, name=os.path.basename(image), size=size, **more))
    return path


def test_yolo(tmp_path):
    found = read("yolo", build("yolo", tmp_path))
    assert found.counts == {(split, label): 2 for split in ("train", "val") for label in ("normal", "anomalous")}
    entry = one(found.entries, "train/box.jpg")
    assert (entry.boxes, entry.box_labels, entry.mask, entry.defect) == ((BOX,), ("long scratch",), "", "long scratch")
    entry = one(found.entries, "train/polygon.jpg")
    assert (entry.boxes, entry.box_labels, entry.defect, entry.category) == ((BOX,), ("dent",), "dent", "yolo")
    assert entry.mask == "labels/train/polygon.txt#labels=yolo&only=1"


def test_voc(tmp_path):
    found = read("voc", build("voc", tmp_path))
    assert found.counts == {(split, label): 1 for split in ("train", "test") for label in ("normal", "anomalous")}
    entry = one(found.entries, "b.jpg")
    assert (entry.split, entry.defect, entry.mask) == ("test", "crack", "")
    assert entry.boxes == (BOX, (40, 30, 50, 40))


def test_labelme(tmp_path):
    root = build("labelme", tmp_path)
    found = read("labelme", root)
    assert found.counts == {("", "normal"): 2, ("", "anomalous"): 3}
    assert one(found.entries, "a.jpg").boxes == one(found.entries, "b.jpg").boxes == (BOX,)
    assert one(found.entries, "b.jpg").mask == ""
    entry = one(found.entries, "c.jpg")
    assert (entry.boxes, entry.defect) == (((22, 10, 30, 18),), "hole")
    mask = open_mask(root, entry.mask, size=SIZE)
    assert abs(mask.sum() - np.pi * 16) < 4  # a circle of radius 4, not its box


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("image", "folder"),
    [
        ("images/train/a.png", "{}/train/a"),
        ("train/images/a.png", "train/{}/a"),
        ("a.png", "a"),
        ("deep/down/a.png", "deep/down/a"),
        ("Images/a.PNG", "{}/a"),
    ],
)
def test_usual_layouts(tmp_path, tool, image, folder):
    names = {"yolo": "labels", "voc": "Annotations", "labelme": "annotations"}
    put(tmp_path, tool, image=image, file=folder.format(names[tool]) + SUFFIX[tool])
    found = read(tool, tmp_path)
    assert found.blocking == []
    (entry,) = found.entries
    assert (entry.image, entry.boxes) == (image, (BOX,))
    assert entry.split == ("train" if "train" in image else "")


@pytest.mark.parametrize("tool", TOOLS)
def test_no_region_is_good_and_no_file_is_nobody_knows(tmp_path, tool):
    put(tmp_path, tool)
    put(tmp_path, tool, image="empty.png", boxes=())
    save(tmp_path / "none.png", picture(b"none"))
    save(tmp_path / "good/b.png", picture(b"b"))
    found = read(tool, tmp_path)
    assert {entry.image: entry.label for entry in found.entries} == {
        "a.png": "anomalous",
        "empty.png": "normal",
        "good/b.png": "normal",
    }
    (problem,) = found.blocking
    assert (problem.file, problem.kind) == ("none.png", "missing-label")
    assert "--set datasets.SET.options.unlabelled=normal" in problem.reason
    assert one(read(tool, tmp_path, unlabelled="normal").entries, "none.png").label == "normal"


@pytest.mark.parametrize("tool", TOOLS)
def test_defects_in_a_folder_that_says_good(tmp_path, tool):
    put(tmp_path, tool)
    put(tmp_path, tool, image="good/b.png")
    found = read(tool, tmp_path)
    assert [entry.image for entry in found.entries] == ["a.png"]
    (problem,) = found.blocking
    assert "lies in a folder that says good" in problem.reason


@pytest.mark.parametrize("tool", ["voc", "labelme"])
@pytest.mark.parametrize("label", ["good", "OK", "normal"])
def test_a_class_called_good_is_no_defect(tmp_path, tool, label):
    put(tmp_path, tool, label=label)
    put(tmp_path, tool, image="b.png")
    assert {entry.image: entry.label for entry in read(tool, tmp_path).entries} == {
        "a.png": "normal",
        "b.png": "anomalous",
    }


def test_a_good_class_among_polygons_gives_no_box(tmp_path):
    path = put(tmp_path, "labelme")
    other = [[2.0, 2.0], [12.0, 2.0], [12.0, 8.0]]
    corners = [[20.0, 10.0], [32.0, 10.0], [32.0, 18.0], [20.0, 18.0]]
    path.write_text(json.dumps(labelme_content("a.png", [("good", "polygon", other), ("dent", "polygon", corners)])))
    (entry,) = read("labelme", tmp_path).entries
    assert (entry.boxes, entry.box_labels) == ((BOX,), ("dent",))


def test_yolo_without_names_and_with_lists_of_them(tmp_path):
    put(tmp_path, "yolo")
    found = read("yolo", tmp_path)
    assert (found.entries[0].defect, [problem.kind for problem in found.problems]) == ("", ["no-names"])
    (tmp_path / "classes.txt").write_text("scratch\ndent\n")
    assert read("yolo", tmp_path).entries[0].defect == "scratch"
    (tmp_path / "data.yaml").write_text("names: [crack]\n")
    assert read("yolo", tmp_path).entries[0].defect == "crack"
    (tmp_path / "data.yaml").write_text("names: [crack\n")
    assert [problem.kind for problem in read("yolo", tmp_path).blocking] == ["yaml"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 32 14 12 8", "not in shares"),
        ("0 0.5 0.5 0.2", "expected class cx cy w h"),
        ("crack 0.5 0.5 0.2 0.2", "expected class cx cy w h"),
        ("0 0.5 0.5 0 0.2", "empty or reaches out"),
        ("0 0.9 0.5 0.5 0.2", "empty or reaches out"),
        ("0 0.5 nan 0.1 0.2", "not in shares"),
        ("-1 0.5 0.5 0.1 0.2", "expected class cx cy w h"),
        ("0 0.5 0.5 0.1 0.2 0.9", "expected class cx cy w h"),  # with a confidence: a prediction, no label
        ("٣ 0.5 0.5 0.1 0.2", "expected class cx cy w h"),
    ],
)
def test_yolo_lines_that_are_none(tmp_path, line, reason):
    path = put(tmp_path, "yolo")
    path.write_text(f"{yolo_line(0, BOX)}\n{line}\n")
    put(tmp_path, "yolo", image="b.png")
    (problem,) = read("yolo", tmp_path).blocking
    assert (problem.kind, problem.file) == ("label", "a.txt")
    assert reason in problem.reason


def test_yolo_boxes_are_rounded_as_they_were_drawn(tmp_path):
    """Six digits of a share must not widen a box by a pixel, nor a border box leave its image."""
    boxes = [(0, 0, SIZE[0], SIZE[1]), (3, 2, 4, 3), (61, 3, 64, 48), (7, 5, 23, 41)]
    for number, box in enumerate(boxes):
        put(tmp_path, "yolo", image=f"{number}.png", boxes=(box,))
    assert [entry.boxes for entry in read("yolo", tmp_path).entries] == [(box,) for box in boxes]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "document type"),
        ("<annotation>", "not XML"),
        ("<html/>", "begins with <html>"),
        ("", "not XML"),
        ("<annotation><object><name>x</name></object></annotation>", "bndbox"),
        (voc_text("a.png", [(40, 10, 20, 18)]), "bndbox"),
        (voc_text("a.png", [(20, 10, 90, 18)]), "outside its image"),
        (voc_text("a.png", [(-1, -1, 1, 1)]), "at most 1"),
    ],
)
def test_voc_files_that_are_none(tmp_path, text, reason):
    put(tmp_path, "voc").write_text(text)
    put(tmp_path, "voc", image="b.png")
    (problem,) = read("voc", tmp_path).blocking
    assert (problem.kind, problem.file) == ("label", "a.xml")
    assert reason in problem.reason


def test_voc_objects_that_were_deleted_are_none():
    text = voc_text("a.png", [(1, 2, 3, 4), (10, 20, 30, 40)])
    one = text.replace("<object>", "<object><deleted>1</deleted>", 1).replace("<xmin>2<", "<xmin>wrong<")
    assert [box["bbox"] for box in label_files.voc.parse(one.encode(), "a.xml")[0]] == [[10.0, 20.0, 20.0, 20.0]]
    both = text.replace("<object>", "<object><deleted>true</deleted>")
    assert label_files.voc.parse(both.encode(), "a.xml")[0] == []
    none = text.replace("<object>", "<object><deleted>0</deleted>")
    assert len(label_files.voc.parse(none.encode(), "a.xml")[0]) == 2


def test_an_entity_bomb_costs_nothing(tmp_path):
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "lol">{lines}]><annotation>&l11;</annotation>'
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(UserError, match="document type"):
            label_files.voc.parse(bomb.encode(encoding), "a.xml")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (("x", "line", [[1.0, 2.0], [30.0, 40.0]]), "has no area"),
        (("x", "point", [[10.0, 20.0]]), "has no area"),
        (("x", "polygon", [[0.1, 0.2], [0.3, 0.2], [0.3, 0.4]]), "at most 1"),
        (("x", "polygon", [[1, 2], [3, "4"], [5, 6]]), "expected two numbers"),
        (("x", "rectangle", [[60.0, 10.0], [90.0, 18.0]]), "outside its image"),
        (("x", "polygon", [[1e6, 1e6], [2e6, 1e6], [2e6, 2e6]]), "far outside"),
    ],
)
def test_labelme_shapes_that_are_none(tmp_path, shape, reason):
    put(tmp_path, "labelme").write_text(json.dumps(labelme_content("a.png", [shape])))
    put(tmp_path, "labelme", image="b.png")
    (problem,) = read("labelme", tmp_path).blocking
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("tool", "text", "reason"),
    [
        ("yolo", "7 0.5 0.5 0.2 0.2", "class 7 has no name, there are: 0"),
        (
            "voc",
            "<annotation><Object><bndbox><xmin>1</xmin></bndbox></Object></annotation>",
            "<bndbox> in no <object>",
        ),
        ("labelme", '{"shapes": [], "flags": {"ok": true, "torn": true}}', "the flag 'torn' is set but there is no"),
        ("labelme", '{"shapes": [], "imageWidth": 640.0, "imageHeight": 480.0}', "made on 640×480"),
    ],
)
def test_what_a_file_says_elsewhere_makes_no_good_part(tmp_path, tool, text, reason):
    put(tmp_path, tool).write_text(text)
    put(tmp_path, tool, image="b.png", boxes=())
    (tmp_path / "data.yaml").write_text("names: [crack]")
    (tmp_path / "args.yaml").write_text("names: [wrong, names]")
    found = read(tool, tmp_path)
    assert [entry.image for entry in found.entries] == ["b.png"]
    assert reason in found.blocking[0].reason


@pytest.mark.parametrize("tool", TOOLS)
def test_a_box_twice_is_one_defect(tmp_path, tool):
    put(tmp_path, tool, boxes=(BOX, BOX))
    assert one(read(tool, tmp_path).entries, "a.png").boxes == (BOX,)


def test_masks_beside_files_of_labels_are_no_photographs(tmp_path):
    put(tmp_path, "voc", image="JPEGImages/a.png", file="Annotations/a.xml")
    save(tmp_path / "SegmentationClass/a.png", picture(b"colours"))
    for unlabelled in ("refuse", "normal"):
        found = read("voc", tmp_path, unlabelled=unlabelled)
        assert [entry.image for entry in found.entries] == ["JPEGImages/a.png"]
        assert [problem.kind for problem in found.problems] == ["mask"]


def test_yolo_s_key_points_are_no_polygons(tmp_path):
    put(tmp_path, "yolo").write_text("0 0.5 0.5 0.2 0.2 0.4 0.4")
    (tmp_path / "data.yaml").write_text("kpt_shape: [1, 2]\nnames: [crack]")
    with pytest.raises(UserError, match="kpt_shape says key points"):
        read("yolo", tmp_path)


def test_labelme_names_its_image(tmp_path):
    """`imagePath` as Windows writes it; it leads nowhere but into the root."""
    root = tmp_path / "root"
    save(root / "images/a.png", picture(b"a", box=BOX))
    path = root / "json/first.json"
    path.parent.mkdir()
    path.write_text(text_of("labelme", [BOX], name="..\\images\\a.png"))
    (entry,) = read("labelme", root).entries
    assert (entry.image, entry.boxes) == ("images/a.png", (BOX,))
    save(tmp_path / "outside.png", picture(b"outside"))
    for name in ("../../outside.png", str(tmp_path / "outside.png"), "C:\\z.png", "", "\0"):
        (root / "json/second.json").write_text(text_of("labelme", [BOX], name=name))
        found = read("labelme", root)
        assert [entry.image for entry in found.entries] == ["images/a.png"]
        assert [problem.kind for problem in found.blocking] == ["missing-image"]


def test_labels_made_on_another_size_are_refused(tmp_path):
    for tool in ("voc", "labelme"):
        root = tmp_path / tool
        put(root, tool)
        put(root, tool, image="b.png")
        save(root / "a.png", picture(b"a", size=(32, 24)))
        (problem,) = read(tool, root).blocking
        assert (problem.file, problem.kind) == ("a.png", "mask-size")


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_shared_or_left_over_is_named(tmp_path, tool):
    put(tmp_path, tool)
    save(tmp_path / "a.jpg", picture(b"another"))  # one file for two photographs
    put(tmp_path, tool, image="b.png")
    (tmp_path / f"left{SUFFIX[tool]}").write_text(text_of(tool, [BOX], name="left.png"))
    (tmp_path / f"other{SUFFIX[tool]}").write_text("something else")
    found = read(tool, tmp_path)
    assert [entry.image for entry in found.entries] == ["b.png"]
    assert sorted((problem.kind, problem.file) for problem in found.blocking) == [
        ("ambiguous-label", "a.jpg"),
        ("ambiguous-label", "a.png"),
        ("missing-image", f"left{SUFFIX[tool]}"),
    ]
    assert "other-file" in [problem.kind for problem in found.problems]


def test_exif_orientation(tmp_path):
    """YOLO's shares are of the image as it is seen."""
    image = Image.fromarray(picture(b"turned"))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    upright = (4, 10, 20, 30)
    (tmp_path / "a.txt").write_text(yolo_line(0, upright, (SIZE[1], SIZE[0])))
    (entry,) = read("yolo", tmp_path).entries
    assert ((entry.width, entry.height), entry.boxes) == ((SIZE[1], SIZE[0]), (upright,))


@pytest.mark.parametrize("tool", TOOLS)
def test_the_folder_reader_knows_them(tmp_path, tool):
    root = build(tool, tmp_path)
    with pytest.raises(UserError, match=f"it looks like the dataset '{tool}'"):
        read("folder", root)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_root_without_labels(tmp_path, tool):
    save(tmp_path / "a.png", picture(b"a"))
    with pytest.raises(UserError, match="no image in it has a file of labels"):
        read(tool, tmp_path)


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_give_annotations_or_one_line(tool, data):
    text = text_of(tool, [BOX, (1, 2, 30, 40)]).encode()
    place = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(place, len(text)))
    words = [
        b"",
        b"\0",
        b"1e999",
        b"-1",
        b"<!DOCTYPE a>",
        b"[[[",
        b"\xff",
        b"NaN",
        b'"',
        b"</object>",
        "\u0663".encode(),
    ]
    content = text[:place] + data.draw(st.sampled_from(words) | st.binary(max_size=12)) + text[end:]
    try:
        found, size = label_files.FORMS[tool](content, "file")
    except UserError as error:
        found, size = [], None
        line = str(error)
    else:
        line = ""
    assert "\n" not in line
    assert size is None or min(size) > 0
    for annotation in found:
        assert isinstance(annotation["label"], str)
        label_files.in_pixels(annotation, tool, SIZE)


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_costs_its_image_only(tool, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    path = put(root, tool)
    put(root, tool, image="b.png")
    text = path.read_bytes()
    place = data.draw(st.integers(0, len(text)))
    path.write_bytes(text[:place] + data.draw(st.binary(max_size=6)) + text[place + data.draw(st.integers(0, 9)) :])
    problems = []
    entries = list(index(tool, root, problems=problems))
    to_batch(entries)
    images = {entry.image for entry in entries}
    assert "b.png" in images
    assert "a.png" in images or any(problem.blocking for problem in problems)


def test_another_reader_s_message_is_not_lost_to_a_list_of_voc_that_cannot_be_read(tmp_path):
    root = build("voc", tmp_path)
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"no VisA in it.*; it looks like the dataset 'voc'"):
        read("visa", root)
    with pytest.raises(UserError, match=r"train\.txt: cannot be read \(not UTF-8 text\)"):
        read("voc", root)
