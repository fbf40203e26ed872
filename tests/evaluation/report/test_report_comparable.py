"""What is ranked with what: rows that cannot be compared stand apart, with the reason beside them."""

import csv
import json
import re
from pathlib import Path

import pytest

from adcopilot import cli
from adcopilot.evaluation.benchmarks import benchmark
from adcopilot.evaluation.benchmarks.mmad.prompts import PROMPTS
from adcopilot.evaluation.benchmarks.mmad.scoring import SUB_TASKS
from adcopilot.evaluation.benchmarks.mmad.tables import setting_tables
from adcopilot.evaluation.benchmarks.unipcb.scoring import COLUMNS
from adcopilot.evaluation.comparable import compare_runs
from adcopilot.evaluation.report.charts import bars, lines
from adcopilot.evaluation.report.tables import main_tables
from adcopilot.evaluation.source import ReportSource
from adcopilot.evaluation.table import Row
from adcopilot.jsonl import content_key

MMAD, OWN = "MMAD's wording", "AD-Copilot's wording"
#: Of runs whose answers are not there.
NOWHERE = Path("nowhere")


def source(asked, name, results, identity, selection=None):
    return ReportSource(name=name, path=NOWHERE, benchmark=benchmark(asked), results=results, identity=identity,
                  selection=selection or {})  # fmt: skip


def run(name="M", *, whose=MMAD, average=90.0, shots=1, template="random", knowledge=None, data="d", **more):
    """A run of all of MMAD."""
    row = dict.fromkeys(SUB_TASKS, average) | {"average": average, "f1": 50.0}
    selection = {"model": name, **({"wording": {"whose": whose}} if whose else {}), **more.pop("selection", {})}
    results = {"datasets": {"VisA": row}, "average": row, "categories": {}, "questions": 39_672, "shots": shots,
               "template": template, **more.pop("results", {})}  # fmt: skip
    identity = {"data": data, "domain_knowledge": knowledge, **more}
    return ReportSource(
        name=name, path=NOWHERE, benchmark=benchmark("mmad"), results=results, identity=identity, selection=selection
    )


def ranked(*sources, paper=True, others=()):
    """(table, name → why it is apart, None where it is ranked; the best row's names)."""
    (table,) = main_tables(sources, paper=paper, others=list(others))
    why = {row.name: row.why or "apart" if row.apart else None for row in table.rows}
    return table, why, [row.name for row in table.rows if table.is_best(row, "average")]


def test_a_run_by_the_protocol_is_ranked_with_published_rows():
    table, why, best = ranked(run(average=83.0))
    assert why["M"] is None
    assert why["AD-Copilot† 7B"] is None
    assert best == ["M"]
    assert why["EMIT†* (2025) 8B"] == why["Human (expert)"] == "apart"
    assert {one.name for one in lines(table)} > {"M"}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (run(whose=OWN), "not ranked: MMAD's wording, not AD-Copilot's wording"),
        (run(whose="wording of mine.json"), "not ranked: MMAD's wording, not wording of mine.json"),
        (run(whose=None, prompts=content_key(PROMPTS)), "not ranked: MMAD's wording, not AD-Copilot's wording"),
        (run(whose=None, prompts="other"), "not ranked: MMAD's wording, not wording of --prompts"),
        (run(shots=0), "not ranked: 1-shot, not 0-shot"),
        (run(template="similar"), "not ranked: random templates, not similar templates"),
        (run(knowledge="hash"), "not ranked: no domain knowledge, not domain knowledge"),
    ],
)
def test_other_words_or_settings_than_the_published_ones(source, why):
    table, found, best = ranked(source)
    assert found["M"] is None
    assert found["AD-Copilot† 7B"] == why
    assert best == []  # there is nothing to be better than
    bar = bars(table)
    assert next(one.name for one in bar if not one.unranked) == "M"
    assert all(one.unranked for one in bar if one.name == "AD-Copilot† 7B")
    assert {one.name for one in lines(table)} == {"M"}
    if "wording" in why:
        assert table.rows[0].source.endswith(re.search("not (.*)", why.removeprefix("not ranked: "))[1])


def test_runs_of_a_version_that_did_not_say_are_ranked_as_far_as_known():
    assert ranked(run(whose=None))[2] == ["M"]


def test_among_runs():
    runs = [run("a", whose=OWN, average=50.0), run("b", whose=OWN, average=60.0), run("c", average=99.0, data="other"),
            run("d", whose=OWN, shots=4, average=98.0), run("e", whose=OWN, prompts="x", average=70.0)]  # fmt: skip
    _, why, best = ranked(*runs, paper=False)
    assert why["a"] is why["b"] is why["e"] is None  # "prompts" of the others is not known
    assert why["c"] == "not ranked: another version of the benchmark's files; MMAD's wording, not AD-Copilot's wording"
    assert why["d"] == "not ranked: 4-shot, not 1-shot"
    assert best == ["e"]
    _, why, _ = ranked(run("a", prompts="x"), run("b", prompts="x"), run("c", prompts="y"), paper=False)
    assert why == {"a": None, "b": None, "c": "not ranked: other prompts"}
    # What agrees with published rows comes before what is most.
    _, why, best = ranked(run("a", whose=OWN), run("b", whose=OWN), run("c"))
    assert why["c"] is None
    assert best == ["c"]
    assert why["a"] == "not ranked: AD-Copilot's wording, not MMAD's wording"


def test_parts_say_what_they_are_of():
    selection = {"quick": 8, "skip_missing": True}
    assert run(selection=selection).partial == "a subset of 8 images, without those whose images were missing"


def test_parts_are_never_ranked():
    part, broken = run("part", selection={"limit": 5}), run("broken", results={"asked": 100, "answered": 90})
    _, why, best = ranked(part, broken, run("whole", average=40.0), paper=False)
    assert why == {"part": "apart", "broken": "apart", "whole": None}
    assert best == []
    _, _, best = ranked(part)
    assert best == ["AD-Copilot† 7B"]  # published rows have one another


def test_tables_of_mmads_own_script_say_their_setting_in_their_name():
    def other(name):
        return Row(name=name, source=name, own=False, values={"average": 99.0})

    kinds = ("1_shot_X", "0_shot_X", "1_shot_X_Similar_template", "1_shot_X_Domain_knowledge")
    names = [f"answers_{kind}_accuracy.csv" for kind in kinds]
    _, why, _ = ranked(run(), paper=False, others=map(other, names))
    assert [bool(why[name]) for name in names] == [False, True, True, True]


def test_answer_files_are_ranked_by_what_their_name_says(tmp_path):
    sources = []
    for name in ("answers_1_shot_X.json", "answers_1_shot_Y_Domain_knowledge.json"):
        (tmp_path / name).write_text("[]")
        one = run(name, whose=None, data=None)
        one.path, one.selection, one.identity = tmp_path / name, {}, {"answer_file": "hash"}
        sources.append(one)
    _, why, _ = ranked(run("a"), *sources, paper=False)
    assert why["answers_1_shot_X.json"] is None
    assert "domain knowledge, not no domain knowledge" in why["answers_1_shot_Y_Domain_knowledge.json"]


def test_tables_about_settings_compare_them_and_nothing_else():
    runs = [run("a", whose=OWN, average=60.0), run("b", whose=OWN, average=70.0, knowledge="k"),
            run("c", average=95.0, knowledge="k")]  # fmt: skip
    (table,) = setting_tables(runs, paper=True)
    assert table.rows[2].why == ""  # the one that published rows agree with
    assert {row.why for row in table.rows[:2]} == {"not ranked: AD-Copilot's wording, not MMAD's wording"}
    (table,) = setting_tables(runs[:2], paper=True)
    assert [table.is_best(row, "average") for row in table.rows] == [False, True, *[False] * (len(table.rows) - 2)]
    assert all(row.why for row in table.rows if not row.own)


def unipcb(name, *, value=90.0, iou=0.3, sbert="m", judge="j", **identity):
    results = {"columns": dict.fromkeys(COLUMNS, value), "average": value, "iou": iou,
               "scorers": {"sbert": {"model": sbert}, "bertscore": {"model": "b"}},
               "judge": {"model": judge, "judged": 3, "of": 3}}  # fmt: skip
    return source("unipcb", name, results, {"data": "d", **identity}, {"wording": {"whose": OWN}})


def test_unipcb_is_not_ranked_with_the_paper_and_columns_by_their_scorers():
    table, why, best = ranked(unipcb("a"))
    assert why["a"] is None
    assert best == []
    published = [row for row in table.rows if not row.own]
    assert published
    assert all("F1 pools the boxes of all images" in row.why for row in published)
    assert not any(table.is_best(row, column) for row in table.rows for column, _ in table.columns)
    table, why, _ = ranked(unipcb("a", value=50.0), unipcb("b", value=60.0, sbert="n", iou=0.5), paper=False)
    assert why == {"a": None, "b": None}
    b = table.rows[1]
    assert {column for column, _ in table.columns if not table.is_best(b, column)} == {
        "F1", "S-BERT P1", "S-BERT P2", "S-BERT P3", "average"
    }  # fmt: skip
    assert b.unlike["F1"] == "IoU 0.5, not IoU 0.3"
    assert b.unlike["S-BERT P1"] == "other scorers"
    _, why, _ = ranked(unipcb("a", conversation=True), unipcb("b", conversation=False), paper=False)
    assert why["b"] == "not ranked: each question alone, not conversations"


def captions(name, value, **identity):
    results = {"columns": dict.fromkeys(("BLEU-4", "METEOR", "ROUGE-L", "CIDEr"), value),
               "scorer": {"tokenizer": "ptb"}}  # fmt: skip
    return source("caption", name, results, {"layout": "pairs", "data": "d", **identity})


def test_an_own_set_is_not_ranked_with_omnidiff():
    table, why, _ = ranked(captions("mine", 99.0))
    assert not any(table.is_best(row, column) for row in table.rows for column, _ in table.columns)
    assert {one for name, one in why.items() if name != "mine"} == {
        "not ranked: the paper's set, OmniDiff-Real, is not published: no run can be shown to be of it"
    }
    _, why, _ = ranked(captions("a", 9.0), captions("b", 8.0, layout="spot-the-diff", data="e"), paper=False)
    assert why["b"] == "not ranked: another version of the benchmark's files; spot-the-diff, not pairs"


def test_pairs_say_what_differs_and_need_the_same_files():
    first, second = run("a"), run("b", shots=4, whose=OWN)
    first.entries = second.entries = [
        {"image": "VisA/pcb1/test/bad/0.JPG", "question": "q", "question_type": "Anomaly Detection",
         "correct_answer": "A", "gpt_answer": "A"}
    ]  # fmt: skip
    found = compare_runs(first, second, samples=100, seed=0)
    assert found.questions == 1
    assert found.note == (
        "The second was asked otherwise, so a difference is not the model's alone: AD-Copilot's wording, not MMAD's "
        "wording; 4-shot, not 1-shot."
    )
    second.identity["data"] = "other"
    found = compare_runs(first, second, samples=100, seed=0)
    assert (found.questions, found.differences) == (0, ())
    assert "different versions of the benchmark's files" in found.note


def test_reasons_and_words_stand_in_all_files(tmp_path):
    pytest.importorskip("jinja2")
    folder = tmp_path / "run"
    folder.mkdir()
    source = run(whose=OWN)
    text = {"prefix": ["Look <b>here</b>.\n", 0, 1], "question": "{question}\n{options}"}
    wording = {"whose": OWN, "sha256": "5" * 32, "text": text, "notes": ["none"]}
    manifest = {"identity": {"benchmark": "mmad", **source.identity}, "selection": {"model": "M", "wording": wording}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "results.json").write_text(json.dumps(source.results))
    arguments = [f"M={folder}", "--output", tmp_path / "out", "--against", "published"]
    assert cli.main(["eval", "report", *map(str, arguments)]) == 0
    page, table = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    assert page.count("not ranked: MMAD&#39;s wording, not AD-Copilot&#39;s wording") >= 18
    assert "not ranked: MMAD's wording, not AD-Copilot's wording" in table
    assert "**90.00**" not in table
    assert 'class="num best"' not in page
    assert "Look &lt;b&gt;here&lt;/b&gt;.\n[image 1][image 2]" in page
    assert "    Look <b>here</b>.\n    [image 1][image 2]\n" in table
    with open(tmp_path / "out/mmad.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["not ranked"] == ""
    assert AD_COPILOT in [(row["name"], row["not ranked"]) for row in rows]
    with open(tmp_path / "out/settings.csv", newline="", encoding="utf-8") as file:
        settings = {row["setting"]: row["value"] for row in csv.DictReader(file)}
    assert settings["wording"] == OWN
    assert settings["words: prefix"].startswith("Look <b>here</b>.")
    assert settings["wording.sha256"] == "5" * 32


AD_COPILOT = ("AD-Copilot 7B", "MMAD's wording, not AD-Copilot's wording")
