"""Boxes by model, by map, by both, without asking the model again; hints in its questions."""

import json

import pytest

from adcopilot import cli
from adcopilot.anomaly_map.hints import HINT, NO_HINT
from adcopilot.answering.base import Reply
from adcopilot.answering.families import FAMILIES
from adcopilot.boxes import bbox_mask_iou, parse_boxes
from adcopilot.evaluation.report.sources import read_source
from adcopilot.evaluation.report.tables import further_tables
from adcopilot.evaluation.run_folder import read_records
from adcopilot.prompts import INSPECT_QUESTION

from ..anomaly_map.test_comparing import plate
from .seeing import IMAGES, Seeing

BOTH = ("--boxes", "both", "--threshold", "0.15")


@pytest.mark.parametrize("whose", ["model", "map", "both"])
def test_boxes_of_a_run_by_whose_they_are(bench, whose):
    mmad = bench("mmad-bbox")
    first = mmad.run()
    assert "boxes_by" not in first
    asked = len(mmad.backend.asked)
    found = mmad.run("--boxes", whose, *(BOTH[2:] if whose != "model" else ()))
    assert (asked, len(mmad.backend.asked)) == (8, 0)  # the model is not asked again
    if whose == "model":
        assert found == first
        return
    rows = found["boxes_by"]
    assert rows["whose"] == whose
    assert rows["model"]["mean_iou"] == pytest.approx(first["overall"]["mean_iou"])
    assert rows["map"]["mean_iou"] > 50 > rows["model"]["mean_iou"]
    assert rows[whose] == found["overall"]
    assert found["boxes_made"]["map"] == {"kind": "pixels"}
    assert mmad.score("--boxes", whose, *BOTH[2:])["boxes_by"] == rows
    assert mmad.score()["overall"] == first["overall"]
    each = [json.loads(line) for line in (mmad.folder / "images.jsonl").read_text().splitlines()]
    by = each[0]["by"]
    assert by["both"]["predicted"] == by["model"]["predicted"] + by["map"]["predicted"]


def test_a_pair_is_compared_once(bench, monkeypatch):
    from adcopilot.anomaly_map.comparing import Mapper

    mmad = bench("mmad-bbox")
    mmad.run(*BOTH)
    kept = (mmad.folder / "maps.jsonl").read_text().splitlines()
    assert len(kept) == 8
    with monkeypatch.context() as broken:
        broken.setattr(Mapper, "compare", None)
        again = mmad.score(*BOTH)
    assert again["boxes_by"] == mmad.stored()["boxes_by"]
    mmad.score("--boxes", "map", "--threshold", "0.3")  # another threshold, other boxes
    assert len((mmad.folder / "maps.jsonl").read_text().splitlines()) == 16
    mmad.replace()  # another picture, another map
    mmad.run(*BOTH)
    assert len((mmad.folder / "maps.jsonl").read_text().splitlines()) == 17


def test_the_report_shows_all_three(bench):
    mmad = bench("mmad-bbox")
    mmad.run(*BOTH)
    source = read_source(str(mmad.folder))
    [table] = further_tables([source], paper=False)
    assert [row.name for row in table.rows] == ["seeing, model", "seeing, map", "seeing, both"]
    assert source.benchmark.told(source) == ["1-shot", "boxes by both"]
    page = mmad.folder / "report"
    assert cli.main(["eval", "report", str(mmad.folder), "--output", str(page)]) == 0
    assert "boxes by model, map and both" in (page / "report.html").read_text()
    assert (page / "mmad-bbox-boxes.csv").read_text().count("seeing, ") == 3


def test_pictures_that_are_gone_are_named(bench):
    mmad = bench("mmad-bbox")
    mmad.run()
    gone = mmad.root / "MVTec-AD/bottle/train/good/000.png"
    gone.unlink()
    assert cli.main(mmad.words("--score", mmad.folder, *BOTH)) == 2
    assert f"{gone}: not found; the map needs the pictures of the run" in mmad.capsys.readouterr().err


def test_no_template_no_boxes_of_a_map(bench):
    mmad = bench("mmad-bbox")
    assert cli.main(mmad.words("--data-root", mmad.root, "--model", "seeing", "--output", mmad.folder,
                               "--shots", "0", *BOTH)) == 2  # fmt: skip
    assert "has no template to compare with; give --boxes model" in mmad.capsys.readouterr().err


class Listening(Seeing):
    """Keeps the questions; sees pictures at twice their size."""

    family = FAMILIES["adcopilot"]

    def __init__(self):
        super().__init__()
        self.questions = {}

    def model_size(self, size):
        return size[0] * 2, size[1] * 2

    def answer(self, items, *, max_new_tokens):
        self.questions.update({item.meta["image"]: item.question for item in items})
        return super().answer(items, max_new_tokens=max_new_tokens)


def test_hints_stand_before_the_question_in_the_pixels_of_the_model(bench):
    mmad = bench("mmad-bbox")
    mmad.backend = Listening()
    mmad.run("--hints", "map", "--threshold", "0.15", "--with-normal")
    assert len(mmad.backend.questions) == 16
    for image, question in mmad.backend.questions.items():
        sentence, asked = question.split("\n")
        assert asked == INSPECT_QUESTION
        assert (sentence == NO_HINT) == ("/good/" in image)
    [record] = [one for one in read_records(mmad.folder) if one["meta"]["image"] == IMAGES["mmad-bbox"]]
    width, height = record["size"]
    assert record["question"].startswith(HINT.split("{")[0])
    boxes = [box["bbox_2d"] for box in parse_boxes(record["question"])]
    truth = [[2 * side for side in box] for box in ([10, 14, 30, 26], [75, 76, 81, 80])]
    assert bbox_mask_iou(boxes, truth, (2 * width, 2 * height)) > 0.4
    identity = json.loads((mmad.folder / "manifest.json").read_text())["identity"]
    assert identity["hints"]["sentence"] == HINT
    assert identity["hints"]["threshold"] == 0.15
    assert read_source(str(mmad.folder)).benchmark.told(read_source(str(mmad.folder))) == [
        "1-shot",
        "hints of the map",
    ]
    asked = len(mmad.backend.asked)
    mmad.run("--hints", "map", "--threshold", "0.15", "--with-normal")
    assert (asked, len(mmad.backend.asked)) == (16, 0)
    assert cli.main(mmad.words("--data-root", mmad.root, "--model", "m", "--output", mmad.folder)) == 2
    assert "hints" in mmad.capsys.readouterr().err


def test_families_that_count_in_thousandths_are_told_in_thousandths(bench):
    mmad = bench("mmad-bbox")
    mmad.backend = Listening()
    mmad.backend.family = FAMILIES["qwen3-vl"]
    mmad.run("--hints", "map", "--threshold", "0.15")
    boxes = [box["bbox_2d"] for box in parse_boxes(mmad.backend.questions[IMAGES["mmad-bbox"]].split("\n")[0])]
    truth = [[round(1000 * side / 84) for side in box] for box in ([10, 14, 30, 26], [75, 76, 81, 80])]
    assert bbox_mask_iou(boxes, truth, (1000, 1000)) > 0.4


def test_records_have_boxes_by_whose_they_are_and_hints(tmp_path, monkeypatch, capsys):
    plate().save(tmp_path / "good.png")
    plate(defect=True).save(tmp_path / "bad.png")
    right = json.dumps([{"bbox_2d": [55, 43, 66, 54], "label": "spot"}])
    messages = [{"role": "user", "content": "<image><image>Where?"}, {"role": "assistant", "content": right}]
    record = {"messages": messages, "images": ["good.png", "bad.png"], "task": "loc", "answer": right,
              "boxes": [[55, 43, 66, 54]], "category": "plate", "key": "k"}  # fmt: skip
    file = tmp_path / "plates.jsonl"
    file.write_text(json.dumps(record) + "\n")

    class Blind(Listening):
        def answer(self, items, *, max_new_tokens):
            self.questions = [item.question for item in items]
            yield from ((item, Reply(text="Nothing.")) for item in items)

    backend = Blind()
    monkeypatch.setattr("adcopilot.evaluation.benchmarks.records.command.make_backend", lambda args: backend)
    words = ["eval", "records", file, "--model", "m", "--output", tmp_path / "run", "--hints", "map", "--json",
             "--threshold", "0.1"]  # fmt: skip
    assert cli.main([*map(str, words), "--boxes", "both"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert backend.questions[0].startswith(HINT.split("{")[0])
    rows = {whose: found["boxes_by"][whose]["score"] for whose in ("model", "map", "both")}
    assert rows["model"] == 0
    assert rows["map"] == rows["both"] == found["columns"]["loc"] > 50
    assert cli.main(["eval", "report", str(tmp_path / "run"), "--output", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page/records-boxes.csv").is_file()


def test_a_texture_has_no_shape_to_be_of(tmp_path):
    """Templates of another shape are refused where places are compared, and taken where there are none."""
    from PIL import Image

    from adcopilot.anomaly_map.comparing import MapSettings
    from adcopilot.evaluation.maps import Maps, Shown

    shown = Shown((tmp_path / "good.png",), tmp_path / "query.png", "")
    plate().save(shown.query)
    picture = plate(offset=1)
    picture.crop((0, 0, picture.width, picture.height // 2)).save(shown.templates[0])
    assert Image.open(shown.query).size != Image.open(shown.templates[0]).size
    for kind, refused in (("pixels", True), ("texture", False)):
        [(_, found)] = Maps(MapSettings(kind=kind), threshold=5.0, device="cpu").find([shown])
        assert bool(found.refused) == refused
