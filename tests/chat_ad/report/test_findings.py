"""What earlier steps left, as the report tells it."""

import json

import pytest

from adcopilot.chat_ad.dropped import Dropped
from adcopilot.chat_ad.fitness.leaks import leak_report

from ..reported import CHOICE, bad_record, make_folder, page_of, pair_record, write_lines


def test_findings_of_the_other_steps(tmp_path):
    row = {"image": "bottle/1.png", "category": "bottle", "label": "normal", "source": "mvtec"}
    drops = [
        *[Dropped.row("filter", row, "blurred", 0.3, 0.5).line()] * 3,
        Dropped.row("filter", row, "duplicate", "same bytes", "each picture once", of="bottle/0.png").line(),
        *[Dropped.row("filter", row, "near_duplicate", 3, 12, of="bottle/0.png").line()] * 2,
    ]
    folder = make_folder(tmp_path, Chat=[pair_record()], **{"mvtec.dropped": drops})
    problem = Dropped(step="index", image="a.png", reason="missing-mask", detail="has no mask")
    write_lines(folder / "datasets/visa.dropped.jsonl", [problem.line()] * 2)
    write_lines(folder / "x.dropped.jsonl", [])
    refused = Dropped(step="write", image="a.png", key="k", task="loc", reason="not_applicable", detail="normal")
    gone = Dropped(step="read", key="a", where="f", reason="gone")
    write_lines(folder / "Chat.dropped.jsonl", [refused.line(), gone.line()])
    match = {"set": "MMAD", "image": "test/7.png", "kind": "pixels", "distance": 0, "difference": 0}
    leak = {**row, "split": "train", "sets": {"MMAD": "pixels"}, "matches": [match], "count": 1}
    report = leak_report([leak], table="t", images=40, suspects=[{"name": "MMAD", "images": 9}], limits={})
    (folder / "leaks.json").write_text(json.dumps(report))
    (folder / "manifest.json").write_text(json.dumps({"seed": 7, "recipe": {"tasks": ["mc", "loc"]}}))
    page = page_of(folder)
    assert page.rows("mvtec.dropped.jsonl") == [
        ["blurredthe image is blurred", "3", "50.0 %", "bottle/1.png: 0.3, limit 0.5"],
        ["near_duplicatethe same photograph again, re-encoded or resized", "2", "33.3 %",
            "bottle/1.png: same as bottle/0.png; 3, limit 12"],
        ["duplicatethe same picture again", "1", "16.7 %",
            "bottle/1.png: same as bottle/0.png; same bytes, limit each picture once"],
    ]  # fmt: skip
    assert "mvtec.dropped.jsonl: 6 entries, 3 duplicates" in " ".join(page.text.split())
    assert page.rows("datasets/visa.dropped.jsonl") == [["missing-mask", "2", "100.0 %", "a.png: has no mask"]]
    assert "Without an entry: x.dropped.jsonl." in " ".join(page.text.split())
    assert [row[:2] for row in page.rows("Chat.dropped.jsonl")] == [["gone", "1"], ["not_applicable (loc)", "1"]]
    assert page.rows("Leaks by evaluation set") == [["MMAD", "9", "–", "1", "–", "–"]]
    assert page.rows("Leaks by category") == [["bottle", "mvtec", "pixels", "1"]]
    assert page.rows("Leaks one by one") == [["bottle/1.png", "MMAD", "test/7.png", "pixels"]]
    assert "1 image of 40 is in an evaluation set too." in page.text
    assert "recipe.tasksmc, loc" in page.text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"by_set": 3, "against": []}', "[" * 5000, '{"against": {"a": 1}}']
)
def test_broken_reports_are_named(tmp_path, text):
    folder = make_folder(tmp_path, Chat=[pair_record()])
    (folder / "leaks.json").write_text(text)
    (folder / "x.manifest.json").write_text(text)
    page = page_of(folder)
    rows = [row[0] for row in page.rows("What could not be used")]
    assert "leaks.json" in rows
    assert ("x.manifest.json" in rows) == (not text.startswith("{") or text == "{")


def test_notes_say_what_is_lopsided(tmp_path):
    turns = [(CHOICE, "A")]
    lopsided = [bad_record("mc", turns, key=index) for index in range(40)]
    even = [pair_record("mc", [(CHOICE, "ABCD"[index % 4])], key=index) for index in range(40)]
    yes = [bad_record(key=index) for index in range(20)]
    text = page_of(make_folder(tmp_path, Lopsided=lopsided, Even=even, Yes=yes)).text
    assert "Lopsided, mc: the letters are uneven (A 100%, B 0%, C 0%, D 0%)." in text
    assert "Yes, inspect: every answer is “Yes”." in text
    assert "Lopsided: all records are anomalous, none is normal." in text
    assert "Even, mc" not in text
    # Keys differ, but what is trained on does not: there are five conversations.
    assert "95 records repeat an earlier one" in " ".join(text.split())
