"""Questions, answers, limits and the page's HTML: the parts that need no server."""

import ast
import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcopilot.answering.families import FAMILIES, split_thinking
from adcopilot.demo import fragments, table
from adcopilot.demo.engines.answer import Answer
from adcopilot.demo.examples import CHOSEN, read_examples
from adcopilot.demo.limits import Limits, check_pixels
from adcopilot.demo.questions import INSPECT, QUESTIONS, wording
from adcopilot.demo.table import PartRow
from adcopilot.demo.words import CHINESE
from adcopilot.errors import UserError
from adcopilot.inspect import Result
from adcopilot.inspect.spreadsheet import plain
from adcopilot.prompts import INSPECT_QUESTION
from adcopilot.sample.pairs import draw_pair, stream
from adcopilot.verdict import Verdict, decide

pytest.importorskip("gradio", reason="needs gradio: the extra web")

EVIL = "<img src=x onerror='window.pwned=1'>\"&"
OURS = FAMILIES["adcopilot"]


def answer(text="No.", *, yes_or_no=True, score=0.2, mass=0.9, boxes=(), question="Is it?"):
    found = decide(score=score, yes_no_mass=mass, threshold=0.5, answer=split_thinking(text)[1])
    result = Result(
        query="q.png",
        template="t.png",
        anomalous=found.anomalous,
        reason=found.reason,
        score=score,
        boxes=list(boxes),
        text=text,
        answer=text,
        yes_no_mass=mass,
        size=(100, 50),
    )
    return Answer(question=question, result=result, yes_or_no=yes_or_no, templates=("s.png", "t.png"))


def test_the_first_button_asks_what_inspect_asks():
    assert QUESTIONS[0] is INSPECT
    assert wording(INSPECT, templates=1, family=OURS, thinking=False) == INSPECT_QUESTION


def test_questions_follow_the_number_of_templates():
    for task in QUESTIONS:
        two = wording(task, templates=2, family=OURS, thinking=False)
        assert "second" not in two
        assert "the two images" not in two
        alone = wording(task, templates=0, family=OURS, thinking=False)
        assert alone is None or not re.search("second|first|two", alone)
    titles = {task.title for task in QUESTIONS if wording(task, templates=0, family=OURS, thinking=False)}
    assert titles == {"What product is it?", "Read the writing"}


def test_other_families_are_told_their_notation_and_thinking_its_form():
    gemini = FAMILIES["gemini"]
    assert wording(INSPECT, templates=1, family=gemini, thinking=False) == f"{INSPECT_QUESTION} {gemini.box_request}"
    assert wording(QUESTIONS[2], templates=1, family=gemini, thinking=False) == QUESTIONS[2].question
    assert wording(INSPECT, templates=1, family=OURS, thinking=True).startswith(f"{INSPECT_QUESTION}\nFirst reason")


@pytest.mark.parametrize(
    ("given", "verdict", "score"),
    [
        (answer(score=0.7), "anomalous", 0.7),
        (answer(score=0.2, text="Yes."), "normal", 0.2),  # the score decides, as in `inspect`
        (answer(score=0.035, mass=0.004, text=""), "undecided", None),
        (answer(score=0.9, mass=0.3), "undecided", None),
        (answer(score=math.nan, mass=math.nan), "undecided", None),
        (answer(score=None, mass=None, text="Yes. []"), "anomalous", None),  # an endpoint without probabilities
        (answer(score=None, mass=None, text="no defect"), "normal", None),
        (answer(score=None, mass=None, text="Maybe"), "undecided", None),
        (answer(score=None, mass=None, text=""), "undecided", None),
        (answer(score=None, mass=None, text="<think>Hm</think><answer>No.</answer>"), "normal", None),
        (answer(score=0.9, yes_or_no=False), None, None),
        (answer(score=0.9, mass=0.1, yes_or_no=False), None, None),
    ],
)
def test_verdict_and_score(given, verdict, score):
    assert given.score == score
    assert (given.verdict and given.verdict.word) == verdict
    shown = fragments.verdict(given)
    assert ("Score</span>" in shown) == (score is not None)
    chips = {"anomalous": "bad", "normal": "good", "undecided": "unsure", None: "neutral"}
    words = {**fragments.VERDICTS, None: "Answer"}
    chip = re.findall(r'adc-chip (\w+)"><span class="adc-en">([^<]*)<[^<]*<[^>]*>([^<]*)<', shown)
    assert chip == [(chips[verdict], words[verdict], CHINESE[words[verdict]])]
    assert ("adc-bar" in shown) == (score is not None)
    assert ("No verdict: " in shown) == (verdict == "undecided")
    assert "About <b>q.png</b>, compared with <b>s.png</b>, <b>t.png</b>." in shown
    line = json.loads(json.dumps(given.to_dict()).replace("NaN", "null"))
    assert line["verdict"] == (verdict or "undecided")
    assert line["anomalous"] == {"anomalous": True, "normal": False}.get(verdict)
    assert ("reason" in line) == (line["verdict"] == "undecided")


def test_why_there_is_no_score_is_said():
    no_score = answer(score=None, mass=None, text="Yes.")
    assert "the model's server told no usable probabilities" in fragments.verdict(no_score)
    reasoned = answer(score=None, mass=None, text="<think>Hm</think><answer>No.</answer>")
    assert "the model reasoned first" in fragments.verdict(reasoned)
    assert "No score" not in fragments.verdict(answer())


def test_undecided_is_never_green_anywhere():
    given = answer(score=0.035, mass=0.004, text="")
    entry = {"anomalous": None, "reason": given.verdict.reason, "query": "q.png", "templates": "t.png"}
    row = PartRow(name="q.png", verdict=given.verdict)
    shown = [
        fragments.verdict(given),
        fragments.history_list([entry]),
        table.table([row], most=9).partition("</div>")[2],  # without the filter, which names all verdicts
    ]
    for html in shown:
        assert "Undecided" in html
        assert "probability of 0.004 together" in html
        assert "good" not in re.findall(r"adc-chip (\w+)", html)
    assert "q.png</span>, compared with t.png" in shown[1]


def test_reports_are_read_out_and_reasoning_is_folded_away():
    report = '{"description": "A nut.", "defect_details": [{"bbox_2d": [1, 2, 3, 4]}], "defect_description": "Bent."}'
    shown = fragments.conversation([answer(report)])
    assert "<b>Description:</b> A nut." in shown
    assert "<b>Defect description:</b> Bent." in shown
    assert "bbox_2d" not in shown
    shown = fragments.conversation([answer("<think>First I look.</think><answer>Fine.</answer>")])
    assert re.search(r"<details><summary>.*</summary><p>First I look.</p></details>", shown)
    assert re.search(r"<b>.*Model</span>.*:</b> Fine\.</p>", shown)
    for broken in ("[1, 2]", '{"a": ', "{" * 100_000, '{"a": 1}'):
        assert "Model</span>" in fragments.conversation([answer(broken)])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            'Yes. [{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"label": "b", "bbox_2d": [5, 6, 7, 8]}] Both.',
            "Yes.  Both.",
        ),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', "2 marked places."),
        ('Yes. [{"bbox_2d": [1, 2', "Yes."),
        ("[]", "2 marked places."),
        ("", "(The model said nothing.)"),
        ('See [1] and [{"a": 1}].', 'See [1] and [{"a": 1}].'),
    ],
)
def test_words_leave_out_what_is_drawn(said, words):
    boxes = [{"bbox_2d": [1, 2, 3, 4], "label": ""}] * 2
    assert answer(said, boxes=boxes).words == words
    assert answer("[]").words == "No marked places."


def test_the_pages_own_words_of_an_answer_are_in_both_languages():
    box = {"bbox_2d": [1, 2, 3, 4], "label": ""}
    for given, english in (
        (answer("[]", boxes=[box] * 3), "3 marked places."),
        (answer("[]", boxes=[box]), "One marked place."),
        (answer(""), "(The model said nothing.)"),
        (replace(answer(boxes=[box] * 2), by_map=True), "2 places differ."),
        (replace(answer(boxes=[]), by_map=True), "No place differs."),
    ):
        shown = fragments.conversation([given])
        assert f'<span class="adc-en">{english}</span><span class="adc-zh" lang="zh-CN">' in shown
        assert re.search(r'class="adc-zh" lang="zh-CN">[^<]*[\u4e00-\u9fff][^<]*</span></p>', shown)


def test_every_word_that_is_translated_is_used():
    """And the enlarged view, which only the browser opens, has them too."""
    folder = Path(fragments.__file__).parents[1]  # labels of the map are its own
    found = set()
    for file in folder.rglob("*.py"):
        if file.name != "words.py":
            found |= {
                one.value for one in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(one, ast.Constant)
            }
    found |= set(CHOSEN.values())
    assert [one for one in CHINESE if not {one, one.removesuffix(".")} & found] == []
    assert re.findall(r'data-step="(-?\d)".*?adc-zh"[^>]*>([^<]*)<', table.enlarged()) == [
        ("-1", "上一个"),
        ("1", "下一个"),
        ("0", "关闭"),
    ]


def test_leaving_out_takes_no_time():
    for hostile in ("[{" * 50_000, '[{"bbox_2d"' * 20_000, '[{"bbox_2d": [1, 2, 3, 4]},' * 20_000, "[ " * 50_000):
        start = time.thread_time()  # not the clock's, which runs on while others work
        assert answer(hostile).words is not None
        assert time.thread_time() - start < 5


def test_nothing_from_outside_becomes_html():
    box = {"bbox_2d": [1, 2, 3, 4], "label": EVIL}
    entry = dict.fromkeys(("time", "query", "templates", "question", "answer", "anomalous", "reason", "score"), EVIL)
    texts = dict.fromkeys(("name", "template", "answer"), EVIL)
    row = PartRow(**texts, score=0.5, verdict=Verdict(anomalous=None, reason=EVIL), boxes=[box])
    pictures = {"small": Path(f"/x/{EVIL}"), "large": Path(f"/x/{EVIL}")}
    shown = [
        fragments.verdict(replace(answer(boxes=[box]), templates=(EVIL,))),
        fragments.conversation([answer(f"<think>{EVIL}</think>{EVIL}", question=EVIL)]),
        fragments.conversation([answer('{"%s": "%s"}' % ((EVIL.replace('"', ""),) * 2))]),
        fragments.history_list(
            [{**entry, "image": "javascript:alert(1)"}, {**entry, "image": f"data:image/jpeg;base64,{EVIL}"}]
        ),
        fragments.notice(EVIL),
        fragments.places(answer(boxes=[box])),
        fragments.name(EVIL),
        table.table([row, replace(row, error=EVIL, verdict=None), replace(row, **pictures)], most=9),
    ]
    for html in shown:
        assert "<img src=x" not in html
        assert "javascript:" not in html
        assert re.search(r"=\"[^\"]*'window", html) is None
        assert "&lt;img src=x" in html


def test_a_history_that_somebody_has_changed_is_survived():
    """It comes from the visitor's own browser."""
    for entry in (
        {},
        {"score": "x", "anomalous": "x", "image": 5},
        {"score": None},
        {"anomalous": False, "reason": 3},
    ):
        shown = fragments.history_list([entry])
        assert shown.count("<li>") == 1
        assert "good" not in re.findall(r"adc-chip (\w+)", shown)


def test_limits_by_the_header_alone(tmp_path):
    Image.new("1", (4000, 3000)).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size < 10_000
    with pytest.raises(UserError, match=r"^large: 4000×3000 pixels are more than the 5 million"):
        check_pixels(tmp_path / "large.png", name="large", limits=Limits(pixels=5_000_000))
    assert check_pixels(tmp_path / "large.png", name="large", limits=Limits(pixels=12_000_000)) == (4000, 3000)
    for bad in ({"pixels": 0}, {"pixels": 10**9}, {"files": -1}):
        with pytest.raises(UserError, match="expected"):
            Limits(**bad)


BAD, GOOD = Verdict(anomalous=True), Verdict(anomalous=False)
UNSURE = Verdict(anomalous=None, reason="the answer is empty")


def test_the_table_is_sorted_and_the_csv_is_safe(tmp_path):
    box = {"bbox_2d": [1, 2, 3, 4], "label": "dent"}
    found = table.in_order(
        [
            PartRow(name="a.png", template="t.png", score=0.1, verdict=GOOD, answer="No."),
            PartRow(name="bad.png", error="damaged"),
            PartRow(name="=cmd()|x.png", template="t.png", score=0.9, verdict=BAD, boxes=[box, {**box, "label": ""}]),
            PartRow(name="b.png", template="t.png", verdict=BAD),
            PartRow(name="c.png", template="t.png", verdict=GOOD),
            PartRow(name="d.png", template="t.png", verdict=UNSURE),
            PartRow(name="ünï.png", template="t.png", score=0.5, verdict=BAD),
        ]
    )
    names = ["b.png", "=cmd()|x.png", "ünï.png", "d.png", "a.png", "c.png", "bad.png"]
    assert [row.name for row in found] == names
    assert table.counts(found) == {"anomalous": 3, "undecided": 1, "normal": 2, "error": 1}
    table.write_csv(tmp_path / "a.csv", found)
    data = (tmp_path / "a.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    lines = data.decode("utf-8-sig").splitlines()
    assert lines[0] == "file,good part,verdict,reason,score,boxes,places,answer,error"
    assert lines[2] == '\'=cmd()|x.png,t.png,defect found,,0.9,2,"dent: 1, 2, 3, 4; defect: 1, 2, 3, 4",,'
    assert lines[4] == "d.png,t.png,undecided,the answer is empty,,0,,,"
    assert lines[5] == "a.png,t.png,no defect found,,0.1,0,,No.,"
    assert lines[7] == "bad.png,,,,,0,,,damaged"
    assert [plain(cell) for cell in ("+1", "-1", "@x", "\tx", "a=b", "")] == ["'+1", "'-1", "'@x", "'\tx", "a=b", ""]


def test_the_table_shows_so_many_rows_and_says_so():
    many = [PartRow(name=f"{index}.png", score=0.5, verdict=BAD) for index in range(5)]
    shown = table.table(many, most=4)
    assert shown.count("<tr ") == 4
    assert "The first 4 of 5" in shown
    assert re.findall(r'data-only="(\w*)"[^>]*>.*?<b>(\d)</b>', shown) == [
        ("", "5"),
        ("anomalous", "5"),
        ("undecided", "0"),
        ("normal", "0"),
    ]


def test_examples_are_the_sample_sets():
    """Drawn again, of a number that no split has; one of four has no defect."""
    for index, (one, category) in enumerate(zip(read_examples(), CHOSEN, strict=True)):
        anomalous = category != "washer"
        pair = draw_pair(stream(0, 90, index), category=category, size=56, anomalous=anomalous)
        assert one.title.endswith(f": {pair.kind or 'no defect'}")
        assert np.array_equal(one.template, pair.template)
        assert np.array_equal(one.query, pair.query)
