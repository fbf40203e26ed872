"""Answers are shown as what they are: a refusal, an error or an empty answer is never "right, answered"."""

import csv
import json
import re

import pytest

from adcopilot import cli
from adcopilot.answering.base import Reply
from adcopilot.evaluation.benchmarks import benchmark
from adcopilot.evaluation.report.cards import _filed
from adcopilot.evaluation.source import ReportSource

from .report_runs import Scripted, evaluate

OPTIONS = {"A": "Yes.", "B": "No."}


def source(name):
    return ReportSource(name="run", path=None, benchmark=benchmark(name), results={})


def judged(text, *, reference="B", options=OPTIONS, **reply):
    record = {"item": "i", "meta": {"dataset": "VisA", "type": "Anomaly Detection"}, "options": options,
              "reference": reference, "reply": {"text": text, **reply}}  # fmt: skip
    return _filed(source("mmad"), record, {})[2]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "right"),
        ("(b).", "right"),
        ("A", "wrong"),
        ("No.", "right"),
        ("The seam is closed, so the answer is B.", "right"),
        ("<think>A or B?</think><answer>B</answer>", "right"),
        ("I'm sorry, but I can't assist with that.", "unread"),
        ("Sorry, no.", "unread"),
        ("A human inspector should look at this.", "unread"),
        ("As a model I see nothing.", "unread"),
        ("E", "unread"),  # no such option
        ("", "no answer"),
        ("<think>It is B, I think", "no answer"),
        ("<think>B</think>", "no answer"),
    ],
)
def test_what_an_answer_to_a_choice_is_called(text, label):
    assert judged(text) == label


def test_an_error_is_no_answer():
    assert judged("", error="the endpoint answers 400 (content filter)", refused=True) == "no answer"
    assert judged("B", error="half an answer") == "no answer"


@pytest.mark.parametrize(
    ("text", "predicted", "normal", "label"),
    [
        ("[]", [], True, "right"),
        ("<box>[]</box>", [], True, "right"),
        ("No, the second image shows no defect.", [], True, "right"),
        ("none", [], True, "right"),
        ("[]", [], False, "wrong"),
        ("I'm sorry, I cannot look at pictures.", [], True, "unread"),
        ("I'm sorry, I cannot look at pictures.", [], False, "unread"),
        ("", [], True, "no answer"),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', [[1, 2, 3, 4]], True, "wrong"),
    ],
)
def test_what_an_answer_with_boxes_is_called(text, predicted, normal, label):
    meta = {"dataset": "VisA", "image": "a.png", "role": "boxes", "normal": normal}
    record = {"meta": meta, "options": None, "reference": None, "reply": {"text": text}, "item": "i"}
    line = {"predicted": predicted, "iou": 0.0}
    assert _filed(source("mmad-bbox"), record, {"a.png": line})[2] == label


class Refusing(Scripted):
    def reply(self, item):
        texts = {"Anomaly Detection": "I'm sorry, but I can't assist with that.", "Defect Analysis": ""}
        if item.meta["type"] in texts:
            return Reply(text=texts[item.meta["type"]], seconds=0.01)
        return super().reply(item)


def test_refusals_in_the_page_and_in_the_pairs(mini_mmad, tmp_path, monkeypatch):
    runs = [
        evaluate(monkeypatch, "mmad", mini_mmad, tmp_path / name, kind(name=name, share=1.0), "--max-lost", 1)
        for name, kind in (("plain", Scripted), ("refusing", Refusing))
    ]
    assert cli.main(["eval", "report", *map(str, runs), "--output", str(tmp_path / "out"), "--samples", "200"]) == 0
    text = (tmp_path / "out/report.html").read_text()
    cards = [card for card in text.split("<article")[1:] if "sorry" in card]
    assert len(cards) == 16
    # MMAD's rule guesses "No." for all of them, which is right for the eight normal images.
    rule = "MMAD's rule takes [AB], the option with the most similar text, and counts it as (right|wrong)"
    guesses = [re.search(rule, card.replace("&#39;", "'")) for card in cards]
    assert all(guesses)
    for card in cards:
        assert 'class="chip unread"' in card
        assert "answered" not in card.split('class="options"')[1].split("</ul>")[0]
    empty = [card for card in text.split("<article")[1:] if "(nothing)" in card]
    assert len(empty) == 8
    assert all('class="chip no-answer"' in card for card in empty)
    with open(tmp_path / "out/pairs.csv", newline="") as file:
        row = next(iter(csv.DictReader(file)))
    assert (row["first unread"], row["second unread"]) == ("0", "24")
    assert "only in the first: 24; only in the second: 0" in re.sub(r"\s+", " ", text)
    assert json.loads((runs[1] / "results.json").read_text())["parsing"]["official"]["nearest"] == 16
