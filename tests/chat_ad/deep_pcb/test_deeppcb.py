"""`adcopilot data convert deeppcb`: boxes stay on their defects, reruns give the same bytes, mistakes are named."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from adcopilot import cli
from adcopilot.boxes import parse_boxes
from adcopilot.chat_ad.deep_pcb import convert as deeppcb
from adcopilot.chat_ad.deep_pcb import files as deeppcb_files
from adcopilot.chat_ad.deep_pcb.source import CLASSES, find_root, read_split
from adcopilot.records import check_record, record_image_sizes

STAGES = ["deeppcb_stage0", "deeppcb_stage1", "deeppcb_stage2"]
LABELS = {entry.label for entry in CLASSES.values()}


def convert(root, output, *options):
    return cli.main(["data", "convert", "deeppcb", "--root", str(root), "--output", str(output), *map(str, options)])


def read(output, name):
    return [json.loads(line) for line in (output / f"{name}.jsonl").read_text().splitlines()]


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pixels(path):
    return np.asarray(Image.open(path).convert("L"))


@pytest.mark.parametrize("options", [("--crop", 64), ("--crop", 64, "--size", 56), (), ("--size", 112)])
def test_records_are_chat_ad_and_boxes_lie_inside(pcb, tmp_path, options):
    output = tmp_path / "out"
    assert convert(pcb, output, *options) == 0
    for name in [*STAGES, "deeppcb_test"]:
        records = read(output, name)
        assert {record["anomalous"] for record in records} == {True, False}
        for number, record in enumerate(records):
            where = f"{name}:{number}"
            check_record(record, name=where, sizes=record_image_sizes(record, name=where, media_dir=output))
            assert record["anomalous"] == bool(record["boxes"])
            assert len(record["boxes"]) == len(record["labels"])
            said = parse_boxes(record["messages"][1]["content"])
            if record["task"] in ("inspect", "locate", "caption"):
                assert [box["bbox_2d"] for box in said] == record["boxes"]
                assert [box["label"] for box in said] == record["labels"]
    assert {record["task"] for record in read(output, "deeppcb_test")} == {"inspect"}


def test_pixels_are_the_originals_and_differ_exactly_where_the_boxes_are(pcb, tmp_path):
    output = tmp_path / "out"
    convert(pcb, output, "--crop", 64)
    sources = {pair.source: pair for split in ("train", "test") for pair in read_split(find_root(pcb), split)}
    seen = 0
    for record in read(output, "deeppcb_stage2") + read(output, "deeppcb_test"):
        pair = sources[record["source"]["file"]]
        x1, y1, x2, y2 = record["source"]["window"]
        template, query = (pixels(output / name) for name in record["images"])
        assert record["source"]["origin"] in ("defective", "clean")
        assert (template == pixels(pair.template)[y1:y2, x1:x2]).all()
        assert (query == pixels(pair.query)[y1:y2, x1:x2]).all()
        marked = np.zeros(query.shape, bool)
        for bx1, by1, bx2, by2 in record["boxes"]:
            marked[by1:by2, bx1:bx2] = True
            seen += 1
            # An inverted patch of a black and white picture: every pixel of it differs, JPEG or not.
            assert (abs(template.astype(int) - query)[by1:by2, bx1:bx2] > 100).mean() > 0.95
        assert (abs(template.astype(int) - query)[~marked] > 128).sum() == 0
    assert seen >= 18


def test_every_defect_is_shown_or_listed_as_dropped(pcb, tmp_path):
    output = tmp_path / "out"
    # Larger than any window can show half of.
    note = next((pcb / "PCBData/group90000/90000_not").glob("*.txt"))
    note.write_text(note.read_text() + "0 0 150 150 3\n")
    convert(pcb, output, "--crop", 32)
    dropped = 0
    for source in read(output, "pairs"):
        shown = {index for cut in source["cuts"] for index in cut["defects"]}
        lost = {entry["defect"] for entry in source["dropped"]}
        assert shown | lost == set(range(len(source["defects"])))
        assert not shown & lost
        dropped += len(lost)
    listed = json.loads((output / "report.json").read_text())["splits"]
    assert sum(len(counts["dropped"]) for counts in listed.values()) == dropped
    reasons = {entry["reason"] for counts in listed.values() for entry in counts["dropped"]}
    assert "larger than the crop" in reasons


def test_whole_normal_images_are_repaired_from_the_template(pcb, tmp_path):
    output = tmp_path / "out"
    convert(pcb, output)
    normal = [record for record in read(output, "deeppcb_test") if not record["anomalous"]]
    assert len(normal) == 2
    for record in normal:
        template, query = (pixels(output / name).astype(int) for name in record["images"])
        assert record["source"]["origin"] == "repaired"
        assert (abs(template - query) > 128).sum() == 0


def test_ratio_and_kind_of_normal_pairs(pcb, tmp_path):
    convert(pcb, tmp_path / "none", "--crop", 64, "--normals", "none")
    assert all(record["anomalous"] for record in read(tmp_path / "none", "deeppcb_stage1"))
    convert(pcb, tmp_path / "twice", "--crop", 64, "--normals", "repair", "--normal-ratio", 2)
    origins = [record["source"]["origin"] for record in read(tmp_path / "twice", "deeppcb_stage1")]
    assert origins.count("repaired") == 2 * origins.count("defective") > 0


def test_registration_is_llamafactorys_and_keeps_others(pcb, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    convert(pcb, output, "--crop", 64, "--split", "train")
    entries = json.loads((output / "dataset_info.json").read_text())
    assert list(entries) == ["mine", *STAGES]
    for name in STAGES:
        assert (output / entries[name]["file_name"]).is_file()
        assert entries[name]["formatting"] == "sharegpt"
    assert (output / "LICENSE.DeepPCB").read_text() == "MIT License\n"


@pytest.mark.parametrize("after", [0, 1, 17])
def test_killed_run_goes_on_to_the_same_bytes(pcb, tmp_path, monkeypatch, after):
    convert(pcb, tmp_path / "whole", "--crop", 64, "--seed", 3)
    save, left = deeppcb_files._save, [after]

    def killed(path, array):
        if not left[0]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.tmp").write_bytes(b"half an image")
            raise KeyboardInterrupt
        left[0] -= 1
        save(path, array)

    output = tmp_path / "killed"
    monkeypatch.setattr(deeppcb_files, "_save", killed)
    assert convert(pcb, output, "--crop", 64, "--seed", 3) == 130
    assert not (output / "dataset_info.json").exists()
    monkeypatch.setattr(deeppcb_files, "_save", save)
    assert convert(pcb, output, "--crop", 64, "--seed", 3) == 0
    assert digests(output) == digests(tmp_path / "whole")
    next(output.rglob("*_query.png")).write_bytes(b"")
    assert convert(pcb, output, "--crop", 64, "--seed", 3) == 0
    assert digests(output) == digests(tmp_path / "whole")


def test_other_recipe_in_the_same_folder_is_refused(pcb, tmp_path, capsys):
    convert(pcb, tmp_path / "out", "--crop", 64)
    before = digests(tmp_path / "out")
    assert convert(pcb, tmp_path / "out", "--crop", 56, "--seed", 1) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "crop, seed" in error
    assert digests(tmp_path / "out") == before


def edit(relative, old, new):
    def change(root):
        path = next(root.glob(relative))
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def remove(relative):
    return lambda root: sorted(root.glob(relative))[0].unlink()


NOTES = "PCBData/group90000/90000_not/90000000.txt"


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (remove("PCBData/trainval.txt"), (), "trainval.txt: missing"),
        (remove("PCBData/test.txt"), (), "test.txt: missing"),
        (remove("PCBData/*.txt"), ("--split", "test"), "test.txt: missing"),
        (remove("PCBData/group90000/90000/*_temp.jpg"), (), "90000000_temp.jpg"),
        (remove(NOTES), (), "90000_not/90000000.txt is missing"),
        (edit(NOTES, "10 20 22 30 1", "10 20 22 1"), (), "90000000.txt:1: '10 20 22 1', expected five integers"),
        (edit(NOTES, "10 20 22 30 1", "10 20 22 3O 1"), (), "expected five integers"),
        (edit(NOTES, "10 20 22 30 1", "22 20 10 30 1"), (), "90000000.txt:1: box [22, 20, 10, 30] is inverted"),
        (edit(NOTES, "10 20 22 30 1", "10 20 10 30 1"), (), "is empty"),
        (edit(NOTES, "10 20 22 30 1", "10 20 161 30 1"), (), "outside 90000000_test.jpg (160×160 pixels)"),
        (edit(NOTES, "10 20 22 30 1", "10 20 22 30 7"), (), "class 7, expected one of 1 open"),
        (edit("PCBData/trainval.txt", "group90000/90000/", "../"), (), "leads out of"),
        (edit("PCBData/trainval.txt", "90000000.jpg", "90000000.png"), (), "trainval.txt:1:"),
        (edit("PCBData/test.txt", "90000004", "90000000"), (), "test.txt: 90000000 is in trainval.txt too"),
        (lambda root: None, ("--crop", 161), "--crop is 161, expected at most 160"),
        (lambda root: None, ("--crop", 20), "--crop is 20, expected 28 or more"),
        (lambda root: None, ("--size", 0), "--size is 0"),
        (lambda root: None, ("--limit", 0), "--limit is 0"),
        (lambda root: None, ("--min-visible", 0), "--min-visible is 0.0"),
        (lambda root: None, ("--normals", "clean"), "add --crop"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(pcb, tmp_path, capsys, spoil, options, said):
    spoil(pcb)
    assert convert(pcb, tmp_path / "out", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_folder_without_lists(tmp_path, capsys):
    assert convert(tmp_path, tmp_path / "out") == 2
    assert "neither trainval.txt nor test.txt" in capsys.readouterr().err
    assert convert(tmp_path / "nowhere", tmp_path / "out") == 2
    assert "no such folder" in capsys.readouterr().err


def test_numbers_may_be_separated_by_commas(pcb, tmp_path):
    path = pcb / NOTES
    path.write_text(path.read_text().replace(" ", ","))
    assert read_split(find_root(pcb), "train")[0].defects[0].box == (10, 20, 22, 30)


def test_options_have_one_right_answer(pcb, tmp_path):
    convert(pcb, tmp_path / "out")
    choices = [record for record in read(tmp_path / "out", "deeppcb_stage2") if record["task"] == "choice"]
    for seed in range(1, 20):
        if len(choices) > 3:
            break
        convert(pcb, tmp_path / str(seed), "--seed", seed)
        choices += [r for r in read(tmp_path / str(seed), "deeppcb_stage2") if r["task"] == "choice"]
    assert len(choices) > 3
    for record in choices:
        question, answer = (message["content"] for message in record["messages"])
        options = dict(line.split(". ") for line in question.splitlines()[1:])
        true = set(record["labels"]) or {"none"}
        assert [letter for letter, option in options.items() if option in true] == [answer]
        assert "none" in options.values()


def test_real_copy(deeppcb_root, tmp_path):
    """The public files themselves: counts, balance, and that defects are where the boxes are."""
    root = find_root(deeppcb_root)
    sources = {split: read_split(root, split) for split in ("train", "test")}
    assert {defect.kind for pairs in sources.values() for pair in pairs for defect in pair.defects} == set(CLASSES)
    output = tmp_path / "out"
    assert convert(deeppcb_root, output, "--crop", 112, "--limit", 6) == 0
    report = json.loads((output / "report.json").read_text())
    for split, counts in report["splits"].items():
        assert counts["sources"] == 6, split
        assert counts["pairs"]["clean"] == counts["pairs"]["defective"] >= 12
        assert len(counts["dropped"]) <= 0.05 * counts["defects"]
    inside, outside = [], []
    for record in read(output, "deeppcb_stage2"):
        template, query = (pixels(output / name).astype(int) for name in record["images"])
        assert query.shape == (112, 112)
        differs = abs(template - query) > 128
        marked = np.zeros(query.shape, bool)
        for x1, y1, x2, y2 in record["boxes"]:
            marked[y1:y2, x1:x2] = True
            inside.append(differs[y1:y2, x1:x2].mean())
        outside.append(differs[~marked].mean())
    assert np.mean(inside) > 3 * np.mean(outside)


def test_same_module_as_the_command():
    assert cli.COMMANDS["data convert deeppcb"].module == deeppcb.__name__
