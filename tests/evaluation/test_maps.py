"""Boxes by model, by map, by both: of a run that is there, without asking the model again."""

import json

import pytest

from adcopilot import cli
from adcopilot.evaluation.report.sources import read_source
from adcopilot.evaluation.report.tables import further_tables

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
