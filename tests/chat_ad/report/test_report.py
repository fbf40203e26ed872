"""`adcopilot data report`: what the page says is what is in the folder, whatever is in the folder."""

import json
import re
import tracemalloc

import pytest

from adcopilot import cli
from adcopilot.chat_ad.report import scan
from adcopilot.chat_ad.report.report import survey, write_report
from adcopilot.errors import UserError
from adcopilot.pages.sampling import Draw

from ..reported import BOX, CHOICE, Page, bad_record, make_folder, page_of, pair_record, write_lines


def test_counts_are_those_of_the_records(tmp_path):
    folder = make_folder(
        tmp_path,
        Chat_3CAD=[
            bad_record(turns=[("Defect?", "Yes. [...]")]),
            bad_record("mc", [(CHOICE, "B")], defect="", labels=["dent", "crack"], boxes=[BOX, [1, 2, 3, 4]]),
            pair_record("mc", [(CHOICE, "B.")], category="screw"),
            pair_record("dialogue", [("Defect?", "no"), ("Where?", "No defect."), ("Sure?", "Yes, quite")]),
            pair_record("think", [("Defect?", "<think>Yes. Or so.</think><answer>No</answer>")]),
        ],
        OLMo=[
            {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}], "task": "text"}
        ],
    )
    page = page_of(folder)
    assert page.rows("Datasets") == [
        ["Chat_3CAD", "5", "3", "2", "–", "3", "–"],
        ["OLMo", "1", "–", "–", "1", "–", "–"],
    ]
    assert page.rows("Tasks") == [
        ["mc", "2", "33.3 %", "1", "1"],
        ["dialogue", "1", "16.7 %", "1", "–"],
        ["inspect", "1", "16.7 %", "–", "1"],
        ["text", "1", "16.7 %", "–", "–"],
        ["think", "1", "16.7 %", "1", "–"],
    ]
    assert page.rows("Tasks of each dataset") == [
        ["Chat_3CAD", "2", "1", "1", "–", "1"],
        ["OLMo", "–", "–", "–", "1", "–"],
    ]
    assert page.rows("Categories") == [
        ["bottle", "mvtec", "4", "2", "2"],
        ["(none)", "–", "1", "–", "–"],
        ["screw", "mvtec", "1", "1", "–"],
    ]
    assert page.rows("Defect types") == [["crack", "2"], ["dent", "1"]]
    assert page.rows("Yes and no") == [
        ["Chat_3CAD", "dialogue", "1", "1"],
        ["Chat_3CAD", "inspect", "1", "–"],
        ["Chat_3CAD", "think", "–", "1"],
    ]
    assert page.rows("Letters of right answers") == [["Chat_3CAD", "mc", "–", "2", "–", "–", "–"]]
    by_task = {row[0]: row[1:] for row in page.rows("Lengths of questions and answers")}
    assert by_task["dialogue"] == ["6", "7", "7", "2", "10", "10", "10"]
    assert by_task["text"] == ["4", "4", "4", "1", "1", "1", "1"]
    assert len(page.cards) == 6
    tiles = dict(re.findall(r"<dt>([a-z ]+)</dt><dd[^>]*>([\d,]+)</dd>", (folder / "report.html").read_text()))
    assert tiles == {
        "records": "6", "datasets": "2", "query images": "1", "categories": "2", "normal": "3", "anomalous": "2",
    }  # fmt: skip


def test_names_that_are_not_utf8(tmp_path, capsys):
    folder = make_folder(tmp_path / "a\udcff", **{"Chat\udcfe": [pair_record()]})
    assert cli.main(["data", "report", str(folder), "--output", str(folder / "r\udcfd.html")]) == 0
    (page,) = folder.glob("*.html")
    assert Page(page.read_bytes().decode("utf-8")).rows("Datasets")[0][0] == "Chat\ufffd"


def test_media_dir_may_be_above(tmp_path):
    folder = make_folder(tmp_path / "data" / "chat_ad")
    names = ["chat_ad/images/t.png", "data/chat_ad/images/q.png"]
    write_lines(folder / "Chat.jsonl", [pair_record(images=names)])
    assert write_report(folder=folder, output=folder / "r.html").gallery.missing == 0
    other = tmp_path / "records"
    write_lines(other / "Chat.jsonl", [pair_record(images=names)])
    assert write_report(folder=other, output=other / "r.html").gallery.missing == 2
    assert write_report(folder=other, output=other / "r.html", media_dirs=[tmp_path / "data"]).gallery.missing == 0


def test_broken_lines_are_named_and_the_rest_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "MAX_LINE", 4000)
    good = pair_record()
    lines = [good, "{", "[1]", '{"messages": 3}', "", json.dumps({**good, "key": "x" * 5000}), "[" * 3000, good,
        json.dumps({**good, "images": ["one.png"]})]  # fmt: skip
    folder = make_folder(tmp_path, Chat=lines)
    with open(folder / "Chat.jsonl", "ab") as file:
        file.write(b'{"messages": "\xff"}\n' + json.dumps(bad_record()).encode())  # no line end
    page = page_of(folder)
    assert page.rows("Datasets") == [["Chat", "3", "2", "1", "–", "1", "1"]]
    faults = {row[1]: row for row in page.rows("What could not be used")}
    assert [faults[kind][2] for kind in ("not JSON", "not a usable record", "line too long")] == ["4", "2", "1"]
    for text in ("line 2: Expecting", "line 3: a JSON list", "line 7: nested too deeply", "line 10: not UTF-8"):
        assert text in faults["not JSON"][3]
    assert "line 4: 'messages' is 3" in faults["not a usable record"][3]
    assert "line 9: 2 <image> in the messages but 1 in 'images'" in faults["not a usable record"][3]
    assert faults["line too long"][3].startswith("line 6:")


def test_a_level_with_records_hides_those_below(tmp_path):
    folder = make_folder(tmp_path, pairs=[{"key": 1}])
    write_lines(folder / "parts/a/Part.jsonl", [pair_record()])
    assert [row[0] for row in page_of(folder).rows("Datasets")] == ["parts/a/Part"]
    write_lines(folder / "Chat.jsonl", [pair_record()] * 2)
    write_lines(folder / ".work/Hidden.jsonl", [pair_record()])
    page = page_of(folder)
    assert page.rows("Datasets") == [["Chat", "2", "2", "–", "–", "–", "1"]]
    other = " ".join(page.text.split()).partition("not looked at: ")[2]
    assert other.startswith("pairs.jsonl, parts/a/Part.jsonl.")


def test_same_bytes_again_and_another_choice_by_seed(tmp_path):
    folder = make_folder(tmp_path, Chat=[pair_record(turns=[("Same?", f"Answer {index}")]) for index in range(200)])
    pages = []
    for seed in (0, 0, 1):
        write_report(folder=folder, output=folder / "r.html", samples=10, seed=seed)
        pages.append((folder / "r.html").read_bytes())
    assert pages[0] == pages[1] != pages[2]
    assert len(Page(pages[2].decode()).cards) == 10


def test_memory_does_not_grow_with_the_records(tmp_path):
    def peak(count):
        folder = make_folder(tmp_path / str(count))
        with open(folder / "Chat.jsonl", "w") as file:
            for index in range(count):
                record = bad_record(f"task {index}", category=f"category {index % 10}", defect=f"d {index}", labels=[],
                    turns=[("?" * (index % 900), "!" * 300)])  # fmt: skip
                file.write(json.dumps(record) + "\n")
        tracemalloc.start()
        try:
            survey(folder=folder, media_dirs=None, samples=5, seed=0, budget=1 << 20)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # whatever is imported or cached once
    small, large = peak(6_000), peak(12_000)
    # A record has some 700 bytes; names are distinct, which is as bad as it gets.
    assert (large - small) / 6_000 < 60


def test_the_sample_set(project_root, tmp_path, capsys):
    output = tmp_path / "report.html"
    assert cli.main(["data", "report", str(project_root / "data/sample"), "--output", str(output)]) == 0
    assert re.search(r"^\d+ records of 8 datasets, 60 of them shown: ", capsys.readouterr().out)
    page = Page(output.read_text("utf-8"))
    lines = {path.stem: path.read_text().splitlines() for path in (project_root / "data/sample").glob("*.jsonl")}
    assert {row[0]: int(row[1]) for row in page.rows("Datasets")} == {
        name: len(found) for name, found in lines.items()
    }
    assert len(page.find("img")) == 120
    assert "cannot be opened" not in page.text
    assert "do not lie in their image" not in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone: no such folder"),
        (["file.txt"], "file.txt: is a file"),
        (["empty"], "empty: has no file of training records"),
        (["pairs"], "pairs: has pairs.jsonl but no file of training records"),
        (
            ["broken"],
            "broken: not one usable record in Chat.jsonl (Chat.jsonl, not a usable record: line 1: 'messages'",
        ),
        (["good", "--samples", "-1"], "--samples is -1, expected 0 to 1000"),
        (["good", "--max-mib", "nan"], "--max-mib is nan, expected 0 to 500"),
        (["good", "--media-dir", "gone"], "--media-dir gone: no such folder"),
        (["good", "--output", "good/Chat.jsonl"], "--output good/Chat.jsonl: expected a name that ends in .html"),
        (["good", "--output", "folder.html"], "--output folder.html: is a folder"),
        (["good", "--output", "file.txt/r.html"], "file.txt/r.html: cannot be written"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    make_folder(tmp_path / "good", Chat=[pair_record()])
    make_folder(tmp_path / "pairs", pairs=[{"key": 1}])
    make_folder(tmp_path / "broken", Chat=[{"messages": 1}])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    extra = [] if "--output" in arguments else ["--output", "r.html"]
    assert cli.main(["data", "report", *arguments, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_faults_are_told_on_the_command_line(tmp_path, capsys):
    folder = make_folder(tmp_path, Chat=[pair_record(images=["images/t.png", "images/no.png"]), "{", "{"])
    assert cli.main(["data", "report", str(folder), "--output", str(folder / "r.html")]) == 0
    out = capsys.readouterr().out
    assert "Chat.jsonl: 2 faults (not JSON), the first: line 2: " in out
    assert "1 image of the shown records missing, the first: images/no.png: no such image" in out


def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, Chat=[pair_record()])
    monkeypatch.setattr(Draw, "chosen", lambda self: [(("Chat", "x", "normal"), (0, 1, 7, 50))])
    with pytest.raises(UserError, match="changed while it was read"):
        survey(folder=folder, media_dirs=None, samples=5, seed=0, budget=1 << 20)
