"""`adcopilot adapt`: one command from a folder to a line; again, killed, with too little, with bad input."""

import json
import shutil
import signal

import pytest
from PIL import Image

from adcopilot.chat_ad.adapt.folder import read_folder, split
from adcopilot.errors import UserError
from adcopilot.jsonl import file_digest
from adcopilot.sample.photographs import photographs

from ...helpers.waiting import until

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """What a small line has: twenty good pictures, five bad ones."""
    return photographs(tmp_path_factory.mktemp("few"), good=20, bad=5)


def inspection(line):
    return json.loads((line / "inspection.json").read_text())


def test_too_few_to_train_with(few, tmp_path, run):
    line = tmp_path / "bracket"
    code, out, err = run("adapt", few, "--output", line)
    assert code == 0, err
    assert (
        "20 good and 5 defective pictures are too few to train with (about 40 are needed, 8 of them defective)" in err
    )
    found = inspection(line)
    assert found["verdict_from"] == "map"
    assert found["metrics"]["good"] == 20
    assert found["metrics"]["auroc"] > 0.9
    assert found["made"]["command"] == "adcopilot adapt"
    assert "How right it was" in (line / "report.html").read_text()
    assert out.startswith(f"adcopilot inspect --model {line} --query-dir DIR")
    # a copy of the folder elsewhere is the same line
    shutil.copytree(few, tmp_path / "elsewhere")
    assert run("adapt", tmp_path / "elsewhere", "--output", tmp_path / "again")[0] == 0
    assert inspection(tmp_path / "again") == found
    # and what it printed works
    shutil.copytree(few / "good", tmp_path / "today")
    code, _, err = run("inspect", "--model", line, "--query-dir", tmp_path / "today")
    assert "20 queries:" in err


def test_killed_and_started_again(few, tmp_path, nursery, run):
    line = tmp_path / "line"
    process = nursery.start("adapt", str(few), "--output", str(line), cwd=tmp_path)
    log = line / "calibration.jsonl"
    until(lambda: (log.exists() and log.read_bytes().count(b"\n") >= 5) or process.poll() is not None, "five pictures")
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [json.loads(row) for row in log.read_bytes()[: log.read_bytes().rindex(b"\n") + 1].splitlines()]
    assert run("adapt", few, "--output", line)[0] == 0
    rows = [json.loads(row) for row in log.read_text().splitlines()]
    assert [(row["key"], row["score"]) for row in rows][: len(kept)] == [(row["key"], row["score"]) for row in kept]
    keys = [row["key"] for row in rows]
    assert len(keys) == len(set(keys)) == 25
    assert run("adapt", few, "--output", tmp_path / "whole")[0] == 0
    assert inspection(line) == inspection(tmp_path / "whole")


def test_training_through_the_stock_commands(tmp_path, run):
    folder = photographs(tmp_path / "parts", good=12, bad=8, size=56)
    line = tmp_path / "line"
    words = ("adapt", folder, "--output", line, "--steps", "2")
    code, _, err = run(*words)
    assert code == 0, err
    work = line / "work"
    assert "max_steps: 2" in (work / "train.yaml").read_text()
    head = (work / "train.yaml").read_text().splitlines()
    assert head[1] == f"# llamafactory-cli train {work / 'train.yaml'}"
    found = inspection(line)
    assert set(found["thresholds"]) == {"model", "map"}
    held = found["metrics"]["good"] + found["metrics"]["defective"]
    assert found["made"]["trained_on"] + held == 20
    # what is held out trains nothing
    records = [json.loads(row) for row in (work / "data/Verdict.jsonl").read_text().splitlines()]
    queries = {row["source"]["image"].rpartition("/")[2] for row in records if "image" in row.get("source", {})}
    lines = [json.loads(row) for row in (line / "calibration.jsonl").read_text().splitlines()]
    assert not queries & {row["query"].rpartition("/")[2] for row in lines if "good" not in row["query"]}
    assert (line / "model.safetensors").is_file()
    # again: nothing is trained a second time, and nothing changes
    before = (work / "trained.done").stat().st_mtime_ns
    again = run(*words)
    assert again[0] == 0
    assert (work / "trained.done").stat().st_mtime_ns == before
    assert inspection(line) == found
    # other steps are another training, another picture another set; what is marked trains nothing and is no template
    trained = {row["images"][-1] for row in records}
    template = line / found["templates"][0]
    marked = next(file for file in (folder / "good").iterdir() if file_digest(file) == file_digest(template))
    marks = tmp_path / "marks.jsonl"
    marks.write_text(json.dumps({"query": str(marked), "digest": file_digest(marked), "good": False}) + "\n")
    for file in (photographs(tmp_path / "more", good=4, bad=0, size=56, first=50) / "good").iterdir():
        shutil.copy(file, folder / "good" / f"more{file.name}")
    code, _, err = run(*words[:-1], "1", "--marks", marks)
    assert code == 0, err
    again = [json.loads(row) for row in (work / "data/Verdict.jsonl").read_text().splitlines()]
    assert {row["images"][-1] for row in again} != trained
    assert file_digest(marked) in {file_digest(file) for file in (work / "held_out").iterdir()}
    assert file_digest(marked) not in {file_digest(line / name) for name in inspection(line)["templates"]}
    assert "max_steps: 1" in (work / "train.yaml").read_text()
    assert (work / "trained.done").stat().st_mtime_ns != before


def boards(root, folder, number=30):
    """Windows of real boards around a defect each, and the same windows of their templates, under the same names."""
    for line in (root / "PCBData/trainval.txt").read_text().splitlines()[:number]:
        images, boxes = line.split()
        stem = root / "PCBData" / images.removesuffix(".jpg")
        x1, y1, x2, y2, _ = map(int, (root / "PCBData" / boxes).read_text().split("\n")[0].replace(",", " ").split())
        left, top = (min(max((low + high) // 2 - 80, 0), 480) for low, high in ((x1, x2), (y1, y2)))
        for kind, name in (("temp", "good"), ("test", "defect")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            with Image.open(f"{stem}_{kind}.jpg") as image:
                image.crop((left, top, left + 160, top + 160)).save(folder / name / f"{stem.name}.png")
    return folder


def test_real_boards(deeppcb_root, tmp_path, run):
    """Each good picture is another design: they tell nothing of each other, and that is what has to be said."""
    folder, line = boards(deeppcb_root, tmp_path / "boards"), tmp_path / "line"
    code, _, err = run("adapt", folder, "--output", line, "--steps", "2", "--mixed", "--map", "pixels")
    assert code == 0, err
    found = inspection(line)
    assert found["metrics"]["good"] + found["metrics"]["defective"] + found["made"]["trained_on"] == 60
    assert any("do not tell good from defective" in one for one in found["warnings"])
    assert "do not tell good from defective" in (line / "report.html").read_text()
    # with its own template each board is what the map is for (docs/results/anomaly-map.md)
    words = ("inspect", "--model", "none", "--query-dir", folder / "defect", "--template-dir", folder / "good")
    code, out, _ = run(*words, "--pair-pattern", "{}={}", "--threshold", "0.48", "--json")
    rows = [json.loads(row) for row in out.splitlines()]
    assert sum(row["verdict"] == "anomalous" for row in rows) >= 27


def test_real_boards_as_a_texture(deeppcb_root, tmp_path, run):
    """What no other board shows is found though no two boards are alike: `--map` decides, and the numbers say so."""
    folder, line = boards(deeppcb_root, tmp_path / "boards"), tmp_path / "line"
    code, _, err = run("adapt", folder, "--output", line, "--no-train", "--mixed", "--map", "texture")
    assert code == 0, err
    assert inspection(line)["metrics"]["auroc"] == pytest.approx(0.93, abs=0.03)


def test_pictures_are_held_out_by_content_and_in_groups(tmp_path):
    folder = photographs(tmp_path / "parts", good=30, bad=12, size=56)
    name, photos = read_folder(folder)
    assert (name, len(photos), sum(one.bad for one in photos)) == ("mvtec" if name == "mvtec" else "folder", 42, 12)
    parts = split(photos, may_train=True)
    assert {one.file for one in parts.train} | {one.file for one in parts.held_out} == {one.file for one in photos}
    assert not {one.group for one in parts.train} & {one.group for one in parts.held_out}
    assert sum(one.bad for one in parts.held_out) >= 6
    assert sum(one.bad for one in parts.train) >= 4
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    for number, file in enumerate(sorted((moved / "good").iterdir(), reverse=True)):
        file.rename(file.with_name(f"other{number}.png"))
    again = split(read_folder(moved)[1], may_train=True)

    def contents(photos):
        return sorted(one.file.read_bytes() for one in photos)

    assert contents(again.held_out) == contents(parts.held_out)


def test_bad_input_is_one_line_before_anything_long(few, tmp_path, run):
    def said(*words):
        code, _, err = run("adapt", *words, "--output", tmp_path / "line")
        assert code == 2
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert not (tmp_path / "line").exists()
        return lines[0]

    bad, one, flat = tmp_path / "bad", tmp_path / "one", tmp_path / "flat"
    kind = next(path.name for path in sorted(few.iterdir()) if path.name not in ("good", "ground_truth"))
    shutil.copytree(few / kind, bad / kind)
    assert "no folder of good parts in it" in said(bad)
    shutil.copytree(few / kind, one / kind)
    (one / "good").mkdir()
    shutil.copy(few / "good/000.png", one / "good")
    assert "1 good picture in it, expected 2 or more" in said(one)
    shutil.copytree(few / "good", flat)
    assert "no folder of good parts in it" in said(flat)
    for product in ("bolt", "nut"):
        shutil.copytree(few, tmp_path / "both" / product)
    assert f"holds 2 products (bolt, nut); a line is of one: give {tmp_path / 'both' / 'bolt'}" in said(
        tmp_path / "both"
    )
    assert "no such folder" in said(tmp_path / "nowhere")
    masks = tmp_path / "masks"
    shutil.copytree(few, masks)
    mask = min((masks / "ground_truth").rglob("*.png"))
    with Image.open(mask) as image:
        image.resize((90, 84)).save(mask)
    line = said(masks)
    assert str(mask) in line
    assert "90×84" in line
    assert line.endswith("; mend it, or take the mask away: none is needed")
    mask.unlink()  # without one it is a defective picture all the same
    picture = min((masks / kind).iterdir())
    picture.write_bytes(picture.read_bytes()[:20])
    assert str(picture) in said(masks)
    # what is damaged further in is found before the long work, all of it
    shutil.rmtree(masks)
    shutil.copytree(few, masks)
    broken = [*sorted((masks / "good").iterdir())[1:3], max((masks / kind).iterdir())]
    for picture in broken:
        picture.write_bytes(picture.read_bytes()[:-200])
    line = said(masks)
    assert line.count("truncated or corrupt") == 1
    assert "; 2 more cannot be used: " in line
    assert all(str(picture) in line for picture in broken)
    shutil.rmtree(masks)
    shutil.copytree(few, masks)
    shutil.copy(min((masks / kind).iterdir()), masks / "good/same.png")
    assert "are the same picture, once good and once defective" in said(masks)
    assert "no such model folder" in said(few, "--base", tmp_path / "nothing")
    assert "--map off" in said(few, "--no-train", "--map", "off")
    code, _, err = run("adapt", few, "--output", few / "line")
    assert (code, "lies inside" in err) == (2, True)


def test_a_base_that_is_too_large_says_so_before_it_is_loaded(tmp_path):
    from adcopilot.chat_ad.adapt.training import Base, besides, budget

    large = Base(folder=tmp_path, family="adcopilot", weights=8_300_000_000, gpu=True)
    with pytest.raises(UserError, match=r"one pass over 4000 pairs takes about [\d.]+ minutes .*give --minutes \d"):
        budget(large, samples=4000, minutes=2)
    small = Base(folder=tmp_path, family="adcopilot", weights=1_000_000, gpu=False)
    found = budget(small, samples=160, minutes=15)
    assert found.steps == 120  # twelve passes of ten steps
    assert budget(small, samples=160, minutes=2).steps < found.steps
    # what is no training is of the minutes too
    rest = besides(small, photos=60, held_out=30)
    assert 0.5 < rest < 4
    shorter = budget(small, samples=160, minutes=2 + rest, besides=rest)
    assert shorter.steps == budget(small, samples=160, minutes=2).steps
    with pytest.raises(UserError, match=rf"all else about {rest:.1f}; give --minutes \d, a smaller --base"):
        budget(small, samples=160, minutes=rest, besides=rest)
