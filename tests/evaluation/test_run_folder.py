"""Which lines of a run count: replaced images, parts, shards, copies; the run, --score and the report agree."""

import json
import shutil

import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.mmad import dataset
from adcopilot.evaluation.comparable import compare_runs
from adcopilot.evaluation.report.sources import read_source
from adcopilot.evaluation.run_folder import read_records, read_run

from .seeing import IMAGES, MODULES, PARTS, Seeing

ALL = pytest.mark.parametrize("benchmark", MODULES)


@ALL
def test_a_replaced_image(bench, benchmark):
    """Its old answer no longer counts, in the run, by --score and in the report; put back, it counts again."""
    one = bench(benchmark)
    one.run()
    first = one.agree()
    assert first["complete"]
    assert first["asked"] == first["answered"] == len(list(read_records(one.folder)))
    texts = [record["reply"]["text"] for record in read_run(one.folder)[1].records]
    old = one.replace()
    one.run()
    second = one.agree()
    asked = len(one.backend.asked)
    assert 0 < asked < first["asked"]
    assert (second["answered"], second["replaced"]) == (first["answered"], asked)
    assert len(list(read_records(one.folder))) == first["answered"] + asked
    assert [record["reply"]["text"] for record in read_run(one.folder)[1].records] != texts
    one.score()
    assert f"{asked} answers do not count, their images or questions were replaced since" in one.err
    # A line of its own for each question of the gallery and of the pairs of runs too.
    source = read_source(str(one.folder))
    assert compare_runs(source, source, samples=100, seed=0).questions <= first["answered"]
    one.image.write_bytes(old)
    one.run()
    assert one.backend.asked == []
    third = one.agree()
    ignored = ("seconds", "replaced")
    assert {k: v for k, v in third.items() if k not in ignored} == {k: v for k, v in first.items() if k not in ignored}
    assert [record["reply"]["text"] for record in read_run(one.folder)[1].records] == texts


@ALL
def test_a_run_of_an_earlier_version(bench, benchmark):
    """Without the list of questions the latest answer of each counts, which is said in one line."""
    one = bench(benchmark)
    one.run()
    (one.folder / "questions.jsonl").unlink()
    assert one.score()["answered"] == one.stored()["answered"]
    assert "earlier version" not in one.err  # there was nothing to guess
    one.run()
    one.replace()
    one.run()
    expected = one.agree()
    (one.folder / "questions.jsonl").unlink()
    found = one.score()
    ignored = ("replaced", "intervals", "interval")
    assert {k: v for k, v in found.items() if k not in ignored} == {
        k: v for k, v in expected.items() if k in found and k not in ignored
    }
    asked = len(one.backend.asked)
    assert f"an earlier version's run; of each question the latest answer counts, {asked} older ones do not" in one.err
    assert one.err.count("\n") <= 3


@ALL
def test_a_narrower_start_leaves_the_results(bench, benchmark):
    one = bench(benchmark)
    one.run()
    whole, files = one.stored(), {file.name: file.read_bytes() for file in one.folder.iterdir() if file.is_file()}
    part = one.run(*PARTS[benchmark])
    assert one.backend.asked == []
    assert 0 < part["asked"] < whole["asked"]
    assert part["complete"]
    assert one.stored() == whole
    assert files == {file.name: file.read_bytes() for file in one.folder.iterdir() if file.is_file()}
    assert json.loads((one.folder / "part/results.json").read_text()) == part
    assert f"these {part['asked']} questions are not all that {one.folder} was asked" in one.err
    one.agree()
    # A shard of all is no part.
    one.run("--shard", "1/2")
    assert {**one.stored(), "seconds": 0} == {**whole, "seconds": 0}


@ALL
def test_a_wider_start_takes_the_place(bench, benchmark):
    one = bench(benchmark)
    part = one.run(*PARTS[benchmark])
    assert one.stored() == part
    assert "part" not in part
    whole = one.run()
    assert one.agree()["asked"] == whole["asked"] > part["asked"]
    assert len(one.backend.asked) == whole["asked"] - part["asked"]
    assert json.loads((one.folder / "manifest.json").read_text())["selection"]["limit"] is None
    assert not (one.folder / "part").exists()


def test_another_part_of_the_same_size(bench):
    one = bench("mmad")
    bottle = one.run("--category", "bottle")
    pcb = one.run("--category", "pcb1")
    assert one.stored() == bottle  # neither holds the other: the first stays
    assert json.loads((one.folder / "part/results.json").read_text()) == pcb
    both = one.run("--category", "bottle", "--category", "pcb1")
    assert one.backend.asked == []
    assert one.agree()["asked"] == both["asked"] == bottle["asked"] + pcb["asked"]


def test_what_was_never_begun_has_no_claim(bench, monkeypatch):
    """A wide start that was stopped before its first answer does not hold the folder."""
    one = bench("mmad")
    answer = Seeing.answer

    def gone(self, items, *, max_new_tokens):
        raise UserError("http://x: gone")
        yield

    monkeypatch.setattr(Seeing, "answer", gone)
    one.run(code=2)
    monkeypatch.setattr(Seeing, "answer", answer)
    part = one.run("--limit", 2)
    assert one.stored() == part
    assert part["complete"]


def test_a_part_of_a_run_that_is_not_done(bench, monkeypatch):
    one = bench("mmad")
    answer = Seeing.answer

    def dies(self, items, *, max_new_tokens):
        yield from answer(self, items[-30:], max_new_tokens=max_new_tokens)
        raise UserError("http://x: gone")

    monkeypatch.setattr(Seeing, "answer", dies)
    one.run(code=2)
    monkeypatch.setattr(Seeing, "answer", answer)
    assert one.stored()["complete"] is False
    one.run("--limit", 2)
    assert (one.stored()["asked"], one.stored()["answered"]) == (72, 30)
    # The answers of the part are the whole's too: --score has them, and the report says that its file is older.
    assert one.score()["answered"] == 38
    assert "older than its answers" in read_source(str(one.folder)).partial
    one.run()
    assert one.agree()["complete"]


def test_a_mask_that_is_replaced_is_read_again(bench):
    """No answer changes, so none is asked for; the truth does."""
    one = bench("mmad-bbox")
    one.run()
    first = one.agree()
    (sample,) = [one for one in dataset.load(one.root)[0] if one.image == IMAGES["mmad-bbox"]]
    mask = next(path for path in sample.masks(one.root) if path.exists())
    old = mask.read_bytes()
    with Image.open(mask) as opened:
        blank = Image.new("L", opened.size, 0)
    blank.paste(255, (0, 0, 60, 60))
    blank.save(mask)
    one.run()
    assert one.backend.asked == []
    second = one.agree()
    assert second["overall"]["mean_iou"] != first["overall"]["mean_iou"]
    assert (second["answered"], second["replaced"]) == (first["answered"], 0)
    mask.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    one.run(code=1)
    assert "no answer to 1 of the questions" in one.err
    assert one.agree()["answered"] == first["answered"] - 1
    mask.write_bytes(old)
    one.run()
    assert one.agree()["overall"] == first["overall"]


def test_the_runs_own_rule_unless_another_is_given(bench):
    one = bench("mmad-bbox")
    one.run("--truth", "whole", "--min-area", "30")
    found = one.agree()
    assert found["rule"] == {"regions": "whole", "min_area": 30}
    assert one.score("--truth", "components")["rule"] == {"regions": "components", "min_area": 30}
    stored = one.stored()
    (one.folder / "results.json").write_text(json.dumps({**stored, "rule": {"regions": []}}))
    one.words()
    assert one.score("--truth", "components", "--min-area", "1")["rule"] == {"regions": "components", "min_area": 1}
    boards = bench("unipcb")
    boards.folder = boards.folder.with_name("boards")
    boards.run("--iou", "0.05")
    assert boards.agree()["iou"] == 0.05
    assert boards.score("--iou", "0.9")["iou"] == 0.9


def test_references_are_todays_everywhere(bench):
    """UniPCB's boxes mean something else with another --box-frame: the run, --score and the report say the same."""
    one = bench("unipcb")
    one.run()
    first = one.agree()
    one.run("--box-frame", "original")
    assert one.backend.asked == []
    stored, again = one.stored(), one.score()
    assert stored["columns"] == again["columns"]
    assert stored["intervals"] == again["intervals"] != {}
    assert first["box_frame"] != stored["box_frame"]
    boxes = [[r["reference"] for r in read_run(one.folder)[1].records if r["meta"]["form"] == "boxes"]]
    one.run()
    boxes.append([r["reference"] for r in read_run(one.folder)[1].records if r["meta"]["form"] == "boxes"])
    assert boxes[0] != boxes[1]
    assert one.agree()["columns"] == first["columns"]


def test_shards_and_a_replaced_image(bench):
    """Old answers in one log, new ones in another, whatever the number of processes."""
    one = bench("mmad")
    for shard in ("1/2", "2/2"):
        one.run("--shard", shard)
    assert one.agree()["complete"]
    one.replace()
    for shard in ("1/3", "2/3", "3/3"):
        one.run("--shard", shard)
    found = one.agree()
    assert (found["complete"], found["answered"], found["replaced"]) == (True, 72, 5)
    plain = bench("mmad")
    plain.folder = one.folder.with_name("plain")
    plain.replace()
    plain.run()
    assert plain.stored()["datasets"] == found["datasets"]


def test_one_key_in_two_logs_counts_once(bench):
    one = bench("mmad")
    one.run()
    log = one.folder / "answers.jsonl"
    (one.folder / "answers-2-of-2.jsonl").write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:9]))
    with open(log, "ab") as file:
        file.write(b'{"key": "torn", "reply": {"te')
    found = one.score()
    assert (found["answered"], found["replaced"]) == (72, 0)
    assert found["datasets"] == one.stored()["datasets"]


def test_a_log_that_is_gone(bench):
    one = bench("mmad")
    for shard in ("1/2", "2/2"):
        one.run("--shard", shard)
    kept = len((one.folder / "answers-1-of-2.jsonl").read_bytes().splitlines())
    (one.folder / "answers-2-of-2.jsonl").unlink()
    found = one.score("--max-lost", "0.1", code=1)
    assert (found["complete"], found["asked"], found["answered"]) == (False, 72, kept)
    assert f"{72 - kept} have no answer yet" in one.err
    assert "older than its answers" in read_source(str(one.folder)).partial
    one.run()
    assert one.agree()["complete"]


def test_a_run_that_was_copied(bench, tmp_path):
    one = bench("mmad")
    one.run()
    one.replace()
    one.run()
    expected = one.agree()
    shutil.copytree(one.folder, tmp_path / "elsewhere/copy")
    shutil.rmtree(one.folder)
    shutil.rmtree(one.root)
    found = one.score(folder=tmp_path / "elsewhere/copy")
    assert all(expected[name] == value for name, value in found.items())
    assert len(read_source(str(tmp_path / "elsewhere/copy")).records) == 72


def test_one_image_under_two_names(bench):
    """Two questions, whatever their pixels."""
    one = bench("caption")
    shutil.copy(one.root / "real/a.png", one.root / "real/b.png")
    first = one.run()
    assert first["answered"] == 3
    one.replace(one.root / "real/b.png")
    one.run()
    assert one.agree()["answered"] == 3
    assert one.stored()["replaced"] == 2


def test_images_that_are_skipped_make_a_part(bench):
    one = bench("mmad")
    one.run()
    whole = one.stored()
    one.image.unlink()
    part = one.run("--skip-missing")
    assert (part["asked"], one.stored()) == (67, whole)


@pytest.mark.parametrize("what", ["folder", "log", "manifest", "emptied"])
def test_a_folder_that_goes_while_the_run_is_under_way(bench, monkeypatch, what):
    one = bench("mmad")
    answer = Seeing.answer

    def removes(self, items, *, max_new_tokens):
        yield from answer(self, items, max_new_tokens=max_new_tokens)
        log = one.folder / "answers.jsonl"
        {
            "folder": lambda: shutil.rmtree(one.folder),
            "log": log.unlink,
            "manifest": (one.folder / "manifest.json").unlink,
            "emptied": lambda: log.write_bytes(b""),
        }[what]()

    monkeypatch.setattr(Seeing, "answer", removes)
    assert one.run(code=2) is None
    assert (
        one.err.splitlines()[-1].startswith(("adcopilot", "error", str(one.folder), "Error"))
        or str(one.folder) in (one.err.splitlines()[-1])
    )
    assert not (one.folder / "results.json").exists()


def test_questions_that_are_damaged(bench):
    one = bench("mmad")
    one.run()
    file = one.folder / "questions.jsonl"
    lines = file.read_text().splitlines()
    for bad in ("[]", "{}", '{"key": 3, "place": "x"}', '{"key": "k", "now": []}', "x", "[" * 3000):
        file.write_text("\n".join([lines[0], bad]) + "\n")
        with pytest.raises(UserError, match=r"^[^\n]*questions\.jsonl:2: [^\n]*$"):
            read_run(one.folder)


def test_selection_keeps_what_the_report_says_of_it(bench):
    one = bench("mmad")
    one.run("--limit", "3")
    assert "the first 3 images" in read_source(str(one.folder)).partial
    one.run("--limit", "1")
    assert "the first 3 images" in read_source(str(one.folder)).partial
    one.run()
    assert "the first" not in read_source(str(one.folder)).partial


def test_a_narrower_start_in_a_run_of_an_earlier_version(bench):
    one = bench("mmad")
    one.run()
    whole = one.stored()
    (one.folder / "questions.jsonl").unlink()
    one.run("--limit", "1")
    assert one.stored() == whole
    assert one.agree()["asked"] == 72
