"""Answers that say nothing are counted first, and too many of them end a command with 1: no normal table of zeros."""

import json

import pytest

from adcopilot.answering.base import Reply
from adcopilot.answering.families import says_nothing_is_there

from .seeing import MODULES, Seeing

NOTHING = [
    "No.", "no", "No, the part is fine.", "[]", " [ ] ",
    "{}", "none", "None.", "“none”", '```json\n[]\n```', "[[]]",
    "<box>[]</box>", "<box></box>", '{"bbox_2d": []}', '{"defects": []}', "There is no visible defect in the image.",
    "There are no defects.", "No anomaly was found.", "The board is free of any defects.", "The part looks normal.",
    "Nothing to report.", "无", "没有发现缺陷。", "null",
]  # fmt: skip
SOMETHING = [
    "", "   ", "I cannot see the image.", "Yes.", "Yes, there is a scratch.", "NoNoNoNo", "no idea", "!!!!",
    "abnormal", "This is not normal", "the the the", "[1, 2", '[{"bbox_2d": "left"}]', "sorry",
]  # fmt: skip


@pytest.mark.parametrize("text", NOTHING)
def test_words_for_nothing(text):
    assert says_nothing_is_there(text)


@pytest.mark.parametrize("text", SOMETHING)
def test_words_that_are_no_answer(text):
    assert not says_nothing_is_there(text)


WHY = {
    "mmad": "72 state no option (MMAD's rule guesses)",
    "mmad-bbox": "8 hold neither a box nor a word that there is none",
    "unipcb": "6 state no option, 4 hold neither a box nor a word that there is none",
    "caption": "3 are empty",
}


@pytest.mark.parametrize("benchmark", MODULES)
def test_a_model_that_answers_nothing(bench, benchmark, monkeypatch):
    """The table has its zeros, and the line before it says why; exit 1, by --score too."""
    said = {"caption": "", "mmad": "lorem ipsum"}.get(benchmark, "lorem ipsum")
    monkeypatch.setattr(Seeing, "says", lambda self, item: said)
    one = bench(benchmark)
    found = one.run("--max-lost", "0.1", code=1)
    first = next(line for line in one.err.splitlines() if "lost" in line)
    assert WHY[benchmark] in first
    assert "allow it with --max-lost" in first
    assert sum(found["unread"].values()) == sum(int(part.split()[0]) for part in WHY[benchmark].split(", "))
    assert one.score("--max-lost", "0.1", code=1)["unread"] == found["unread"]
    assert one.stored() == found


@pytest.mark.parametrize("benchmark", MODULES)
def test_a_model_that_answers(bench, benchmark):
    one = bench(benchmark)
    assert one.run("--max-lost", "0")["unread"] == {}
    assert "lost" not in one.err


def test_neither_yes_nor_no(bench, monkeypatch):
    """MMAD's rule has its number; beside it stands how many said neither."""
    says = Seeing.says

    def neither(self, item):
        return "E" if item.meta["type"] == "Anomaly Detection" else says(self, item)

    monkeypatch.setattr(Seeing, "says", neither)
    one = bench("mmad")
    found = one.run("--max-lost", "0.1", code=1)
    assert found["unread"] == {"name a letter that is no option": 16}
    assert found["average"]["Anomaly Detection"] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5])
def test_probabilities_that_are_none_are_no_answer(bench, monkeypatch, value):
    """They never reach a log, a table or an AUROC."""

    def answer(self, items, *, max_new_tokens):
        yield from ((item, Reply(text="A", option_logprobs={"A": -0.1, "B": value})) for item in items)

    monkeypatch.setattr(Seeing, "answer", answer)
    one = bench("mmad")
    assert one.run(code=1) is None
    assert "no answer to 72 of the questions: the probabilities of its options are no probabilities" in one.err
    assert not (one.folder / "results.json").exists()


def test_a_letter_that_is_impossible_has_no_probability(bench, monkeypatch):
    def answer(self, items, *, max_new_tokens):
        yield from ((item, Reply(text="A", option_logprobs={"A": 0.0, "B": float("-inf")})) for item in items)

    monkeypatch.setattr(Seeing, "answer", answer)
    one = bench("mmad")
    one.run()
    first = json.loads((one.folder / "answers.jsonl").read_text().splitlines()[0])
    assert first["reply"]["option_logprobs"] == {"A": 0.0}
    one.agree()
