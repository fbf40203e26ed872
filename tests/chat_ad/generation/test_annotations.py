"""Text from annotations alone: it passes the checks, agrees with the annotation, and reads as English."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.boxes import parse_boxes
from adcopilot.chat_ad.generation import TASKS, AnnotationsGenerator
from adcopilot.chat_ad.generation.caption import read_caption
from adcopilot.chat_ad.generation.pair_view import MAX_BOXES
from adcopilot.chat_ad.generation.prompt_files import PromptFiles
from adcopilot.prompts import INSPECT_QUESTION, THINK_INSTRUCTION
from adcopilot.records import check_record

from .conftest import make_normal, make_pair
from .conftest import run as run_with

PROMPTS = PromptFiles()


def run(pairs, tasks=TASKS, seed=0, prompts=PROMPTS):
    return run_with(AnnotationsGenerator(prompts=prompts, seed=seed), pairs, tasks, seed=seed, prompts=prompts)


# Labels and categories of the datasets, and what nobody expects.
LABELS = (
    *("scratch", "broken_large", "bent", "color", "combined", "cut_inner_insulation", "missing_wire", "thread_top"),
    *("manipulated_front", "squeeze", "bend_and_parts_mismatch", "total_rust", "missing_parts", "contamination"),
    *("Scratch", "s_scratch", "mousebite", "pin-hole", "aotu", "structural_anomalies", "bad", "anomalous", "Rechupe"),
    *("划痕", "defekt_ä", "hole", "faulty_imprint", "", 'a "quoted" {name}', "<image>", "the right top", "x" * 300),
    *("contour", "{placed}", "dent, scratch"),
)


CATEGORIES = (
    *("metal_nut", "pcb1", "wood", "goji_berries", "05_cable_end_sleeve", "Aluminum_Camera_Cover", "12", "螺母"),
    "left_bracket",
)


@st.composite
def pairs(draw, *, labels=LABELS):
    """Pairs with any annotation: sizes, boxes, types of defects."""
    width, height = draw(st.integers(8, 3000)), draw(st.integers(8, 3000))
    anomalous = draw(st.booleans())
    boxes = []
    if anomalous:
        for _ in range(draw(st.integers(0, 8))):
            x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
            box = (x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height)))
            boxes += [box] if max(box) > 1 else []  # the first pixel alone is no box: `records.check_box`
    known = draw(st.lists(st.sampled_from(labels), min_size=1, max_size=6))
    return make_pair(
        key=str(draw(st.integers(0, 10**9))),
        size=(width, height),
        category=draw(st.sampled_from(CATEGORIES)),
        anomalous=anomalous,
        defect=draw(st.sampled_from(known)) if anomalous else "",
        boxes=tuple(boxes),
        labels=tuple(draw(st.sampled_from(known)) for _ in boxes),
        other_defects=tuple(draw(st.lists(st.sampled_from(labels), max_size=6))),
        other_categories=tuple(draw(st.lists(st.sampled_from(CATEGORIES), max_size=9))),
    )


@settings(max_examples=300, deadline=None)
@given(pair=pairs())
def test_whatever_the_annotation_each_task_is_made_or_refused_with_a_reason(pair):
    records, refused = run([pair])
    assert {record["task"] for record in records} | {one["task"] for one in refused} == set(TASKS)
    assert len(records) + len(refused) == len(TASKS)
    odd = any("<image>" in label for label in (*pair.labels, pair.defect, *pair.other_defects))
    for one in refused:
        reasons = ("normal: there is nothing", "anomalous, but without boxes", "count: such images have no masks")
        assert one["detail"].startswith(reasons) or odd, one
        assert (one["reason"] == "not_applicable") == (one["task"] == "loc" and not pair.anomalous)
    for record in records:
        check_record(record, name="made", sizes=[pair.size, pair.size])
        answers = " ".join(m["content"] for m in record["messages"] if m["role"] == "assistant")
        known = [list(box) for box in pair.boxes]
        assert all(found["bbox_2d"] in known for found in parse_boxes(answers))
        assert not re.search(r"\{[a-z_]+\}", answers.replace("{placed}", "").replace("{name}", "")), answers
        assert "  " not in answers
        if record["task"] == "caption":  # Figure 1
            value = json.loads(record["answer"])
            assert list(value) == ["description", "defect_details", "defect_description"]
            assert [one["bbox_2d"] for one in value["defect_details"]] == known
            assert record["messages"][-1]["content"] == record["answer"] == read_caption(record["answer"]).text()


@settings(max_examples=200, deadline=None)
@given(pair=pairs(labels=["scratch", "bent", "missing_parts", "aotu", "thread_top", "total_rust", "bad"]))
def test_ordinary_labels_are_never_refused(pair):
    records, refused = run([pair])
    expected = set(TASKS)
    if pair.anomalous and not pair.boxes:
        expected -= {"caption", "loc", "count"}
    if not pair.anomalous:
        expected -= {"loc"}
    assert {record["task"] for record in records} == expected, refused


def test_every_field_has_one_type_and_is_never_null():
    records, _ = run([make_pair(0), make_normal(1), make_pair(2, boxes=(), labels=()), make_pair(3, view="C1")])
    kinds = {tuple((name, type(value)) for name, value in record.items()) for record in records}
    assert len(kinds) == 1
    assert dict(kinds.pop()) == {
        "messages": list, "images": list, "task": str, "kind": str, "answer": str, "boxes": list, "labels": list,
        "mask": str, "source": str, "category": str, "view": str, "defect": str, "anomalous": bool, "key": str,
        "generator": str, "prompt_hash": str, "seed": int,
    }  # fmt: skip
    assert len({record["key"] for record in records}) == len(records)


def test_the_same_pair_and_seed_give_the_same_bytes_and_another_seed_others():
    some = [make_pair(number) if number % 3 else make_normal(number) for number in range(30)]
    first, again, other = (json.dumps(run(some, seed=seed)[0]) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("count", [MAX_BOXES, MAX_BOXES + 1, 1000])
def test_very_many_boxes(count):
    boxes = tuple((10 * (n % 30), 5 * (n // 30), 10 * (n % 30) + 8, 5 * (n // 30) + 4) for n in range(count))
    records, refused = run([make_pair(n, boxes=boxes, labels=("scratch",) * count) for n in range(40)])
    made = Counter(record["task"] for record in records)
    listed = 40 if count <= MAX_BOXES else 0
    expected = {"caption": listed, "dialogue": 40, "mc": 40, "loc": listed, "think": 40, "verdict": listed}
    assert made == Counter(expected) - Counter()
    uncounted = [one for one in refused if one["task"] == "count"]
    assert {one["detail"] for one in uncounted} == {"count: such images have more than 20 regions"}
    listless = [one for one in refused if one["task"] != "count"]
    assert (len(listless), len(uncounted)) == (3 * (40 - listed), 40)
    assert all(one["detail"].startswith(f"{count} boxes, expected at most {MAX_BOXES}") for one in listless)
    # A record must fit into a sequence.
    assert max(len(json.dumps(record["messages"])) for record in records) < 10_000


def test_wording_varies():
    records, _ = run([make_pair(number) for number in range(200)])
    for task in set(TASKS) - {"verdict"}:  # which is always asked in the same words
        texts = {json.dumps(record["messages"]) for record in records if record["task"] == task}
        assert len(texts) >= {"caption": 50, "dialogue": 150, "mc": 50, "loc": 4, "think": 100, "count": 3}[task], task


def test_the_question_of_inspect_is_asked_and_answered_exactly():
    records, _ = run([make_pair(n) for n in range(100)] + [make_normal(n) for n in range(100, 200)], ["dialogue"])
    opened = [record for record in records if INSPECT_QUESTION in record["messages"][0]["content"]]
    assert 50 <= len(opened) <= 110
    for record in opened:
        assert record["messages"][0]["content"] == f"<image><image>{INSPECT_QUESTION}"
        expected = 'Yes. [{"bbox_2d": [20, 10, 60, 30], "label": "scratch"}]' if record["anomalous"] else "No."
        assert record["messages"][1]["content"] == expected
    for record in records:
        assert record["messages"][1]["content"].startswith("Yes" if record["anomalous"] else "No")


def test_a_verdict_is_the_question_of_inspect():
    pairs = [
        make_pair(1),
        make_normal(2),
        make_pair(3, boxes=(), labels=()),
        make_pair(4, boxes=(), labels=(), defect="bad"),
    ]
    records, refused = run(pairs, ["verdict"])
    assert refused == []
    assert {record["messages"][0]["content"] for record in records} == {f"<image><image>{INSPECT_QUESTION}"}
    assert [record["messages"][1]["content"] for record in records] == [
        'Yes. [{"bbox_2d": [20, 10, 60, 30], "label": "scratch"}]',
        "No.",
        "Yes. A scratch.",
        "Yes.",
    ]
    assert all(record["answer"] == record["messages"][1]["content"] for record in records)


def test_dialogues_have_several_turns_and_never_ask_twice():
    records, _ = run([make_pair(n) for n in range(100)] + [make_normal(n) for n in range(100, 150)], ["dialogue"])
    for record in records:
        questions = [m["content"] for m in record["messages"] if m["role"] == "user"]
        assert 3 <= len(questions) <= 5
        assert len(set(questions)) == len(questions)
        assert record["answer"] == record["messages"][-1]["content"]


def test_thinking_has_its_form_and_ends_in_the_verifiable_answer():
    records, _ = run([make_pair(n) for n in range(60)] + [make_normal(n) for n in range(60, 90)])
    by_task = {(r["task"], r["images"][1]): r for r in records}
    kinds = Counter()
    for record in records:
        if record["task"] != "think":
            continue
        kinds[record["kind"]] += 1
        question, text = (message["content"] for message in record["messages"])
        form = re.fullmatch(r"<think>(.+)</think><answer>(.+)</answer>", text)
        assert form, text
        assert question.endswith(f"\n{THINK_INSTRUCTION}")
        source = by_task[record["kind"], record["images"][1]]
        assert form[2] == record["answer"] == source["answer"]
        # The same question, but for the request to think.
        assert question == f"{source['messages'][0]['content']}\n{THINK_INSTRUCTION}"
    assert min(kinds["mc"], kinds["loc"]) > 15


def test_a_caption_says_whose_size_it_gives():
    boxed, _ = run([make_pair(number, boxes=((0, 0, 100, 60),)) for number in range(12)], ["caption"])
    masked, _ = run([make_pair(number, boxes=((0, 0, 100, 60),), areas=(3600,)) for number in range(12)], ["caption"])
    for records, said, percent in ((boxed, True, "about 10 %"), (masked, False, "about 6 %")):
        texts = [json.loads(record["answer"])["defect_description"] for record in records]
        assert all(percent in text for text in texts)
        assert all((" box " in text) == said for text in texts)
