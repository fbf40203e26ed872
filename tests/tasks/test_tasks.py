"""Verifiable tasks: what each takes for an answer, and that a new one is a file and a line."""

import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.tasks import TASKS, task_of
from adcopilot.tasks.count import COUNT, MOST, number_in
from adcopilot.tasks.locate import LOCATE
from adcopilot.tasks.verdict import VERDICT

RIGHT = {"mc": "B", "loc": '[{"bbox_2d": [1, 2, 3, 4], "label": "dent"}]', "count": "3", "verdict": "Yes. A dent."}


def record(task, answer=None, **fields):
    message = {"role": "user", "content": "<image><image>What?\nA. hole\nB. dent"}
    return {"task": task, "answer": RIGHT[task] if answer is None else answer, "messages": [message], **fields}


def test_every_task_is_known_by_its_record_and_by_its_answer():
    assert RIGHT.keys() == TASKS.keys()
    for name, answer in RIGHT.items():
        assert task_of(record(name)).name == name
        assert task_of({"answer": answer}).name == name
        assert task_of({**record(name), "task": "think", "kind": name}).name == name


def test_a_task_that_its_answer_does_not_fit():
    """A number is no letter: where a record says its task, its shape is not guessed from."""
    with pytest.raises(UserError, match="'answer' is '3', expected the letter of an option"):
        task_of(record("mc", "3"))
    with pytest.raises(UserError, match="'answer' is 'a few'"):
        task_of(record("count", "a few"))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("3", 3), ("Three.", 3), ("There are 3 defects.", 3), ("0", 0), ("none", None), ("", None)),
        *(("2 or 3", None), ("3, that is three", 3), ("<think>1 and 2</think><answer>3</answer>", 3), ("A3", None)),
        *(("-3", None), ("someone", None), ("twenty", 20), ("1,000", None), ("about 3.5", None)),
    ],
)  # fmt: skip
def test_the_number_that_a_text_states(text, number):
    assert number_in(text) == number
    assert COUNT.reward(text, record("count"), ".") == float(number == 3)


@given(st.text(max_size=200))
def test_any_text_has_a_reward(text):
    for name in ("mc", "count", "verdict"):
        assert TASKS[name].reward(text, record(name), ".") in (0.0, 1.0)


def test_counting_asks_what_can_be_counted():
    pair = SimpleNamespace(anomalous=True, boxes=[(0, 0, 9, 9), (20, 0, 29, 9)], size=(64, 64))
    question, answer = COUNT.write(pair, random.Random(0))
    assert answer == "2"
    assert COUNT.is_answer(answer)
    assert "number" in question
    assert COUNT.obstacle("normal", 0) == ""
    assert COUNT.obstacle("anomalous", 0) == "have no masks"
    assert COUNT.obstacle("anomalous", MOST + 1) == "have more than 20 regions"


@pytest.mark.parametrize(("text", "right"), [("[]", 1), ("No defect.", 1), ("I like cake", 0), ("", 0)])
def test_of_a_normal_part_too_something_has_to_be_said(tmp_path, text, right):
    Image.new("RGB", (56, 56)).save(tmp_path / "part.png")
    assert LOCATE.reward(text, {"boxes": [], "images": ["part.png"]}, tmp_path) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Yes.", 1),
        ("**Yes**, there is", 1),
        ("No.", 0),
        ("Yesterday", 0),
        ("Yes or No", 0),
        ("I think yes", 0),
        ("", 0),
    ],
)
def test_a_verdict_is_what_an_answer_begins_with(text, right):
    assert VERDICT.reward(text, record("verdict"), ".") == right


def test_a_task_is_named_in_no_other_room():
    """The proof that it is one file and its line: counting is spelt out nowhere but in its own file."""
    root = Path(__file__).resolve().parents[2]
    named = re.compile(r"\btasks\.count\b|\bCOUNT\b|\.count import")
    rooms = (root / room for room in ("plugin", "data/chat_ad", "evaluation"))
    files = [path for room in rooms for path in room.rglob("*.py") if named.search(path.read_text("utf-8"))]
    assert {path.name for path in files} == {"count.py", "__init__.py"}
