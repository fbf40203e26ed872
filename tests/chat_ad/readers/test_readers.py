"""What every reader promises, and what real trees have in them that no reader wants."""

import os

import pytest

from adcopilot.chat_ad.readers import READERS, index
from adcopilot.chat_ad.sources.references import (
    content_sha256,
    mask_components,
    open_mask,
    open_reference,
    reference_size,
)
from adcopilot.errors import UserError

from ..mistakes import DEFECTIVE, MASK, MISTAKES
from ..pictures import BOX, mask_of, picture, save
from ..trees import DATASETS, LAYOUTS, build
from .reading import one, read

ISSUE = [
    *("mvtec", "visa", "loco", "goodsad", "mpdd", "3cad", "viaduct", "manta", "real-iad", "real-iad-variety"),
    *("vision", "reinad", "deeppcb", "coco", "yolo", "voc", "labelme", "folder", "records"),
]


def test_every_dataset_of_the_command_line_has_a_reader_a_licence_and_a_tree():
    assert list(READERS) == ISSUE
    assert {*DATASETS.values(), "records"} == READERS.keys()  # which are read in test_build


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_every_row_promises(layout, tmp_path):
    """Sizes, hashes and boxes are those of the pixels that the references name; nothing is left out."""
    root = build(layout, tmp_path)
    found = read(DATASETS[layout], root)
    assert found.blocking == []
    assert found.entries
    assert len({entry.image for entry in found.entries}) == len(found.entries)
    assert len({entry.sha256 for entry in found.entries}) == len(found.entries)
    for entry in found.entries:
        size = (entry.width, entry.height)
        assert open_reference(root, entry.image).size == reference_size(root, entry.image) == size
        assert entry.sha256 == content_sha256(root, entry.image)
        assert (entry.source, entry.licence) == (DATASETS[layout], READERS[DATASETS[layout]].licence)
        assert len(entry.boxes) == len(entry.box_labels)
        if entry.label == "normal":
            assert (entry.defect, entry.mask, entry.boxes) == ("", "", ())
            continue
        assert entry.boxes
        if entry.mask:
            components = mask_components(open_mask(root, entry.mask, size=size))
            assert list(entry.boxes) == [component.box for component in components]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_tree_gives_the_same_rows_and_is_left_alone(layout, tmp_path):
    root = build(layout, tmp_path)
    before = _state(root)
    for folder, _, files in os.walk(root):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
    first = list(index(DATASETS[layout], root, problems=[]))
    assert list(index(DATASETS[layout], root, problems=[])) == first
    assert _state(root) == before


def _state(root):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in sorted(root.rglob("*"))}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_costs_its_image_only(mistake, tmp_path):
    root = build("mvtec", tmp_path)
    before = {entry.image: entry for entry in read("mvtec", root).entries}
    kind = MISTAKES[mistake](root)
    found = read("mvtec", root)
    problem, *more = found.blocking
    assert problem.kind == kind
    # What an image's mask cannot be, its image then lacks.
    assert [other.kind for other in more] == (["missing-mask"] if mistake == "mask_link_out" else [])
    assert "\n" not in problem.reason
    problem.reason.encode()
    assert problem.file.startswith("bottle/")
    after = {entry.image: entry for entry in found.entries}
    assert set(before) - set(after) <= {DEFECTIVE}
    assert all(before[image] == entry for image, entry in after.items())
    with pytest.raises(UserError, match="bottle"):
        list(index("mvtec", root))


def test_a_mask_without_its_image_is_noted(tmp_path):
    root = build("mvtec", tmp_path)
    (root / DEFECTIVE).unlink()
    found = read("mvtec", root)
    assert [(problem.kind, problem.file, problem.blocking) for problem in found.problems] == [
        ("unused-mask", MASK, False)
    ]


@pytest.mark.parametrize("name", ["ü ñ 缺陷.png", "n" * 251 + ".png", "a#1&x=2%.png", "line\nbreak.png", "good.png"])
def test_unusual_names_are_names(tmp_path, name):
    root = build("mvtec", tmp_path)
    (root / DEFECTIVE).rename(root / "bottle/test/broken_large" / name)
    stem, _, suffix = name.rpartition(".")
    mask = f"{stem}.{suffix}" if len(name) > 250 else f"{stem}_mask.{suffix}"
    (root / MASK).rename(root / "bottle/ground_truth/broken_large" / mask)
    found = read("mvtec", root)
    assert found.problems == []
    images = [entry for entry in found.anomalous if entry.boxes and "broken_large" in entry.defect]
    assert len(images) == 2
    assert all(open_mask(root, entry.mask, size=(64, 48)).any() for entry in images)


def test_suffixes_may_be_any_image_s_in_any_case(tmp_path):
    root = build("mvtec", tmp_path)
    (root / DEFECTIVE).rename((root / DEFECTIVE).with_suffix(".PNG"))
    for name in ("x.JPG", "y.TiFF", "z.webp"):
        save(root / "bottle/train/good" / name.lower(), picture(name.encode()))
        (root / "bottle/train/good" / name.lower()).rename(root / "bottle/train/good" / name)
    (root / "bottle/train/good/._000.png").write_bytes(b"resource fork")
    found = read("mvtec", root)
    assert found.problems == []
    assert found.counts == {("train", "normal"): 9, ("test", "normal"): 4, ("test", "anomalous"): 6}


def test_small_regions_give_no_box_when_asked(tmp_path):
    root = build("mvtec", tmp_path)
    mask = mask_of(BOX, (60, 40, 62, 41))
    save(root / MASK, mask)
    sizes = {area: one(list(index("mvtec", root, min_area=area)), DEFECTIVE).boxes for area in (1, 2, 3)}
    assert sizes == {1: (BOX, (60, 40, 62, 41)), 2: (BOX, (60, 40, 62, 41)), 3: (BOX,)}
    problems = []
    list(index("mvtec", root, min_area=97, problems=problems))
    assert {problem.kind for problem in problems} == {"empty-mask"}
    assert "only regions of fewer than 97 pixels" in problems[0].reason


@pytest.mark.parametrize(
    ("layout", "asked"),
    [
        *(("mvtec", "visa"), ("visa", "loco"), ("visa-1cls", "real-iad"), ("real-iad", "3cad"), ("deeppcb", "mvtec")),
        *(("vision", "viaduct"), ("coco", "vision"), ("reinad", "vision"), ("loco", "coco"), ("manta", "reinad")),
    ],
)
def test_a_wrong_root_says_what_it_is(tmp_path, layout, asked):
    root = build(layout, tmp_path)
    dataset = DATASETS[layout] if DATASETS[layout] not in ("loco", "manta") else "mvtec"
    with pytest.raises(UserError, match=rf"{layout}: .*expected .*it looks like the dataset '{dataset}'"):
        list(index(asked, root))


def test_a_root_one_folder_off_is_told(tmp_path):
    root = build("real-iad", tmp_path / "downloads")
    with pytest.raises(UserError, match=r"did you mean --set datasets.SET.root=.*downloads/real-iad\?"):
        list(index("real-iad", root.parent))
    with pytest.raises(UserError, match=r"did you mean --set datasets.SET.root=.*downloads/real-iad\?"):
        list(index("real-iad", root / "realiad_1024"))


@pytest.mark.parametrize("dataset", sorted(set(READERS) - {"records"}))
def test_an_empty_or_absent_root_is_one_line(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: ") as caught:
        list(index(dataset, tmp_path / "empty"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such folder"):
        list(index(dataset, tmp_path / "none"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        list(index(dataset, tmp_path / "file"))


def test_names_that_are_not_there(tmp_path):
    root = build("mvtec", tmp_path)
    with pytest.raises(UserError, match="did you mean mvtec"):
        list(index("mvtek", root))
    with pytest.raises(UserError, match=r"options\.mask: the reader mvtec has no such option; there are: masks"):
        list(index("mvtec", root, options={"mask": "x"}))
    with pytest.raises(UserError, match=r"options\.masks is 'x', expected one of required, optional"):
        list(index("mvtec", root, options={"masks": "x"}))
    with pytest.raises(UserError, match="no category 'botle' in it; did you mean bottle"):
        list(index("mvtec", root, categories=["botle"]))
    assert {entry.category for entry in index("mvtec", root, categories=["wood"])} == {"wood"}
