"""BLEU, METEOR, ROUGE-L and CIDEr as pycocoevalcap computes them."""

import math
import os
import stat

import pytest

from adcopilot.errors import UserError

pytest.importorskip("pycocoevalcap", reason="it is the scorer")

from adcopilot.evaluation.benchmarks.captions import scorers
from adcopilot.evaluation.benchmarks.captions.scorers import METRICS, java_problem, plain_words, score_captions

needs_java = pytest.mark.skipif(java_problem() is not None, reason=f"{java_problem()}")

ANSWERS = [
    "The red car has moved to the left side of the street.",
    "A man's hat isn't there any more; the door is open!",
    "",
    "nothing has changed",
]
REFERENCES = [
    ["The red car has moved to the left.", "The car moved left"],
    ["A man's hat isn't there any more; the door is open!"],
    ["a lamp was added"],
    ["the two pictures\nare the same ||| equal"],
]


def n_grams(words, order):
    return [tuple(words[index : index + order]) for index in range(len(words) - order + 1)]


def test_a_set_by_hand(no_java):
    # Four words, one of them wrong; the reference has five.
    found = score_captions(["the cat sat down"], [["the cat sat on it"]], tokenizer="plain")
    brevity = math.exp(1 - 5 / 4)
    assert found.values["BLEU-1"] == pytest.approx(100 * brevity * 3 / 4, abs=1e-4)
    assert found.values["BLEU-2"] == pytest.approx(100 * brevity * math.sqrt(3 / 4 * 2 / 3), abs=1e-4)
    precision, recall, beta = 3 / 4, 3 / 5, 1.2
    rouge = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert found.values["ROUGE-L"] == pytest.approx(100 * rouge)
    assert set(found.values) == {*METRICS, "BLEU-1", "BLEU-2", "BLEU-3"}


def test_cider_by_hand(no_java):
    """CIDEr-D of three captions, computed from its definition: unigrams to 4-grams, idf over the references."""
    answers = ["a b c d", "e f", "g h i"]
    references = [["a b c e"], ["e f g"], ["g h i"]]
    texts = [[reference.split() for reference in group] for group in references]

    def vector(words, order):
        grams = n_grams(words, order)
        found = {}
        for gram in grams:
            holders = sum(any(gram in n_grams(text, order) for text in group) for group in texts)
            found[gram] = grams.count(gram) * (math.log(len(texts)) - math.log(max(1.0, holders)))
        return found

    def norm(values):
        return math.sqrt(sum(value**2 for value in values.values()))

    scores = []
    for answer, (reference,) in zip(answers, texts, strict=True):
        words, total = answer.split(), 0.0
        for order in (1, 2, 3, 4):
            one, other = vector(words, order), vector(reference, order)
            dot = sum(min(value, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, value in one.items())
            if norm(one) and norm(other):
                total += dot / norm(one) / norm(other)
        # Its lengths are counted in 2-grams.
        delta = (len(words) - 1) - (len(reference) - 1)
        scores.append(10 * total / 4 * math.exp(-(delta**2) / (2 * 6.0**2)))
    found = score_captions(answers, references, tokenizer="plain")
    assert found.each["CIDEr"] == pytest.approx([100 * score for score in scores], rel=1e-6)
    assert found.values["CIDEr"] == pytest.approx(100 * sum(scores) / 3, rel=1e-6)


@needs_java
def test_with_java(capfd):
    from pycocoevalcap.meteor.meteor import Meteor

    before = dict(os.environ)
    found = score_captions(ANSWERS, REFERENCES)
    assert capfd.readouterr() == ("", ""), "nothing on the terminal"
    assert dict(os.environ) == before
    assert found.skipped == {}
    assert found.settings == {"tokenizer": "ptb", "pycocoevalcap": "1.2"}
    assert all(len(found.each[name]) == 4 for name in METRICS)
    assert found.each["METEOR"][1] == pytest.approx(100)
    assert found.each["ROUGE-L"][1] == pytest.approx(100)
    assert found.each["BLEU-4"][1] == pytest.approx(100, abs=1e-4)
    assert [found.each[name][2] for name in METRICS] == pytest.approx([0, 0, 0, 0]), "an empty answer"

    given, wanted = scorers._tokenized(ANSWERS, REFERENCES, ptb=True)
    assert "|||" not in wanted[3][0], "METEOR's own sign between texts"
    total, each = Meteor().compute_score(wanted, given)
    assert found.values["METEOR"] == pytest.approx(100 * total)
    assert found.each["METEOR"] == pytest.approx([100 * value for value in each])
    assert 0 < found.values["METEOR"] < 100


@needs_java
def test_plain_words_are_the_treebanks_for_plain_english():
    texts = [
        "A man's hat isn't there any more; the door is open!",
        "The dog's gone, they're not. It won't be here",
        "a/b test: one, two -- three... left-hand side (by the wall)".replace("(", "").replace(")", ""),
        "it costs $5 & 50% of 3.5 cm",
        "I'll say: \"the car's blue\"",
        "café 缺焊 one",
    ]
    assert scorers._ptb_words(texts) == [plain_words(text) for text in texts]


@needs_java
def test_words_of_odd_texts_stay_in_their_places():
    texts = ["", "one\rtwo", "three\x85four", "five\u2028six", " ", "…", "seven"]
    given = [" ".join(text.split()) for text in texts]
    assert scorers._ptb_words(given) == ["", "one two", "three four", "five six", "", "", "seven"]


def test_without_java(no_java):
    found = score_captions(ANSWERS, REFERENCES)
    assert found.values["METEOR"] is None
    assert found.skipped == {"METEOR": "Java is not installed (no `java` on the PATH)"}
    assert "METEOR" not in found.each
    assert found.settings["tokenizer"] == "plain"
    assert found.each["ROUGE-L"][1] == pytest.approx(100)
    with pytest.raises(UserError, match=r"--tokenizer ptb: Java is not installed .*; install a Java runtime"):
        score_captions(ANSWERS, REFERENCES, tokenizer="ptb")


def fake_java(folder, script):
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_java_that_does_not_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", fake_java(tmp_path, "echo no memory >&2; exit 1"))
    assert "does not run (no memory)" in java_problem()
    assert score_captions(ANSWERS, REFERENCES).values["METEOR"] is None


def test_a_java_that_fails_at_work(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", fake_java(tmp_path, '[ "$1" = -version ] && exit 0; echo "heap too small" >&2; exit 1'))
    found = score_captions(ANSWERS, REFERENCES, tokenizer="plain")
    assert found.values["METEOR"] is None
    assert "METEOR's Java program failed (heap too small)" in found.skipped["METEOR"]
    assert found.values["ROUGE-L"] > 0
    with pytest.raises(UserError, match=r"tokenizer failed \(.*heap too small.*\); repair Java"):
        score_captions(ANSWERS, REFERENCES)


def test_nothing_to_score():
    for answers, references in (([], []), (["a"], [[]])):
        with pytest.raises(UserError, match="no captions to score"):
            score_captions(answers, references, tokenizer="plain")
