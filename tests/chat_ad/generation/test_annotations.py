"""Text from annotations alone: it passes the checks, agrees with the annotation, and reads as English."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.boxes import parse_boxes
from adcopilot.chat_ad.generation import TASKS, AnnotationsGenerator, generate_records
from adcopilot.chat_ad.generation.caption import read_caption
from adcopilot.chat_ad.generation.facts import CELLS, Facts, cell, union_share
from adcopilot.chat_ad.generation.pair_view import MAX_BOXES
from adcopilot.chat_ad.generation.prompt_files import PromptFiles
from adcopilot.chat_ad.generation.words import Words
from adcopilot.errors import UserError
from adcopilot.prompts import INSPECT_QUESTION, THINK_INSTRUCTION
from adcopilot.records import check_record

from .conftest import make_normal, make_pair

PROMPTS = PromptFiles()
WORDS = Words(prompts=PROMPTS)


def run(pairs, tasks=TASKS, seed=0, prompts=PROMPTS):
    refused = []
    generator = AnnotationsGenerator(prompts=prompts, seed=seed)
    made = generate_records(
        pairs, generator=generator, tasks=tasks, seed=seed, on_refused=refused.append, prompts=prompts
    )
    return list(made), refused


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


@settings(max_examples=200, deadline=None)
@given(pair=pairs())
def test_captions_are_figure_1(pair):
    records, _ = run([pair], ["caption"])
    for record in records:
        value = json.loads(record["answer"])
        assert list(value) == ["description", "defect_details", "defect_description"]
        assert [one["bbox_2d"] for one in value["defect_details"]] == [list(box) for box in pair.boxes]
        assert record["messages"][-1]["content"] == record["answer"]
        assert read_caption(record["answer"]).text() == record["answer"]


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


@pytest.mark.parametrize(
    ("label", "one", "three"),
    [
        ("scratch", "a scratch", "three scratches"),
        ("broken_large", "a large breakage", "three large breakages"),
        ("missing_parts", "missing parts", "missing parts in three places"),
        ("MissingWire", "a missing wire", "three missing wires"),
        ("contamination", "contamination", "three areas of contamination"),
        ("total_rust", "rust all over", "three areas with rust all over"),
        ("impurity", "an impurity", "three impurities"),
        ("aotu", "a defect of the type “aotu”", "three defects of the type “aotu”"),
        ("bend_and_parts_mismatch", "a defect of the type “bend and parts mismatch”", None),
        ("mousebite", "a mouse bite", "three mouse bites"),
        ("open circuit", "an open circuit", "three open circuits"),
        ("straw_missing", "a missing straw", "a missing straw in three places"),
        ("chunk of wax missing", "a missing chunk of wax", "a missing chunk of wax in three places"),
        ("foreign_particle_on_candle", "a foreign particle on candle", "three foreign particles on candle"),
        ("scratches on the side", "scratches on the side", "scratches on the side in three places"),
        ("surface_damage", "surface damage", "three areas of surface damage"),
        ("s_scratch", "an s scratch", "three s scratches"),
        ("bad", "a defect", "three defects"),
        ("", "a defect", "three defects"),
    ],
)
def test_how_labels_are_said(label, one, three):
    assert WORDS.one(label) == one
    if three:
        assert WORDS.many(label, 3) == three


@pytest.mark.parametrize(
    ("labels", "family"),
    [
        (["scratch", "s_scratch"], "scratch"),
        (["scratch", "rust"], ""),
        (["pin hole"], "pit"),
        (["pin hole", "mouse bite", "spurious copper", "open circuit", "short circuit", "spur"], "circuit"),
        (["cap_open"], ""),
        (["aotu"], ""),
        (["bad"], ""),
        (["missing_wire"], "missing"),
    ],
)
def test_families(labels, family):
    pair = make_pair(boxes=((20, 10, 60, 30),) * len(labels), labels=tuple(labels), defect="")
    assert Facts(pair, WORDS).family == family


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metal_nut", "a metal nut"),
        ("pcb4", "a PCB"),
        ("05_cable_end_sleeve", "a cable end sleeve"),
        ("goji_berries", "goji berries"),
        ("Lens", "a lens"),
        ("wood", "wood"),
        ("led_pad", "an LED pad"),
        ("u_block", "a u block"),
        ("usb_adaptor", "a USB adaptor"),
        ("12", "a part"),
    ],
)
def test_how_products_are_said(name, said):
    assert WORDS.a_category(name) == said


@pytest.mark.parametrize(
    ("boxes", "labels", "placed", "there"),
    [
        ([(0, 0, 9, 9)], ["scratch"], "a scratch at the top left", "there is"),
        ([(0, 0, 9, 9)] * 2, ["scratch"] * 2, "two scratches at the top left", "there are"),
        (
            [(0, 0, 9, 9), (140, 90, 150, 110)],
            ["scratch"] * 2,
            "two scratches, at the top left and in the centre",
            "there are",
        ),
        (
            [(0, 0, 9, 9), (290, 90, 300, 110)],
            ["scratch", "dent"],
            "a scratch at the top left and a dent on the right",
            "there is",
        ),
        ([(0, 80, 300, 120)], ["oil"], "an oil stain across the middle of the image", "there is"),
        ([(0, 0, 300, 200)], ["rust"], "rust over most of the image", "there is"),
        ([(0, 0, 20, 200)], ["missing_parts"], "missing parts from top to bottom on the left", "there are"),
        (
            [(x, y, x + 9, y + 9) for x in (0, 140, 290) for y in (0, 190)],
            ["hole"] * 6,
            "six holes in several places",
            "there are",
        ),
    ],
)
def test_places(boxes, labels, placed, there):
    pair = make_pair(boxes=tuple(boxes), labels=tuple(labels), defect="")
    facts = Facts(pair, WORDS)
    assert (facts.placed, facts.there) == (placed, there)


def test_parts_of_an_image():
    names = [[cell((x, y, x + 2, y + 2), (300, 300)) for x in (1, 150, 297)] for y in (1, 150, 297)]
    assert names == [list(row) for row in CELLS]


@settings(max_examples=100, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 19), st.integers(1, 20), st.integers(1, 20)).map(
            lambda b: (b[0], b[1], min(20, b[0] + b[2]), min(20, b[1] + b[3]))
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_share_of_overlapping_boxes_is_that_of_their_pixels(boxes):
    pixels = {(x, y) for x1, y1, x2, y2 in boxes for x in range(x1, x2) for y in range(y1, y2)}
    assert union_share(boxes, (20, 20)) == pytest.approx(len(pixels) / 400)


@pytest.mark.parametrize(
    ("boxes", "areas", "share", "size"),
    [
        ([(0, 0, 100, 60)], (5400,), "about 9 %", "large"),  # of 60 000; the box is 10 %
        ([(0, 0, 300, 200)], (900,), "about 2 %", "medium-sized"),  # a long scratch from corner to corner
        ([(0, 0, 90, 60), (100, 0, 190, 60)], (1800, 1200), "about 5 %", "medium-sized"),
        ([(0, 0, 90, 60)], (30,), "less than 1 %", "tiny"),
    ],
)
def test_a_size_is_the_mask_s_where_there_is_one(boxes, areas, share, size):
    labels = ("scratch",) * len(boxes)
    known = Facts(make_pair(boxes=tuple(boxes), labels=labels, areas=areas), WORDS)
    assert (known.share, known.size) == (share, size)
    assert "over most of the image" not in known.placed
    with pytest.raises(ValueError, match="areas for them"):
        make_pair(areas=(1, 2))


def test_a_caption_says_whose_size_it_gives():
    boxed, _ = run([make_pair(number, boxes=((0, 0, 100, 60),)) for number in range(12)], ["caption"])
    masked, _ = run([make_pair(number, boxes=((0, 0, 100, 60),), areas=(3600,)) for number in range(12)], ["caption"])
    for records, said, percent in ((boxed, True, "about 10 %"), (masked, False, "about 6 %")):
        texts = [json.loads(record["answer"])["defect_description"] for record in records]
        assert all(percent in text for text in texts)
        assert all((" box " in text) == said for text in texts)


def test_prompts_of_a_user(tmp_path):
    wording = json.loads((PromptFiles.__module__ and PROMPTS._paths["wording.json"]).read_text("utf-8"))
    wording["no_difference"] = ["Nothing differs: no defect."]
    (tmp_path / "wording.json").write_text(json.dumps(wording))
    own = PromptFiles(folder=tmp_path)
    mine, _ = run([make_normal()], ["caption"], prompts=own)
    theirs, _ = run([make_normal()], ["caption"])
    assert json.loads(mine[0]["answer"])["defect_description"] == "Nothing differs: no defect."
    assert mine[0]["prompt_hash"] != theirs[0]["prompt_hash"]
    assert own.digest("questions.json") == PROMPTS.digest("questions.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wordings.json", "{}", "wordings.json: not a file of prompts, expected questions.json"),
        ("wording.json", "{", "wording.json: not JSON"),
        ("wording.json", "[]", "wording.json: a list, expected a JSON object"),
        ("wording.json", '{"yes": ["x"]}', "has no 'action', which the package's own has"),
        ("caption.jinja", "{{ nothing }", "caption.jinja: not a Jinja template"),
        ("caption.jinja", b"\xff\xfe", "cannot be read as UTF-8"),
    ],
)
def test_prompts_that_are_wrong(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(message)):
        PromptFiles(folder=tmp_path)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (["It is {nice}."], r"'no_difference' uses \{nice\}, expected no slot"),
        ([], "expected a list of sentences"),
        ([3], "holds something that is no sentence"),
    ],
)
def test_wording_that_is_wrong(tmp_path, sentences, message):
    wording = dict(PROMPTS.data("wording.json"), no_difference=sentences)
    (tmp_path / "wording.json").write_text(json.dumps(wording))
    with pytest.raises(UserError, match=message):
        PromptFiles(folder=tmp_path)


def test_a_prompt_cannot_reach_python(tmp_path):
    (tmp_path / "system.jinja").write_text("{{ ''.__class__.__mro__ }}")
    own = PromptFiles(folder=tmp_path)
    with pytest.raises(UserError, match=r"system.jinja: cannot be filled"):
        own.render("system.jinja", {})


def test_a_misspelt_variable_is_named(tmp_path):
    (tmp_path / "system.jinja").write_text("{{ subjet }}")
    with pytest.raises(UserError, match=r"system.jinja: cannot be filled \('subjet' is undefined\)"):
        PromptFiles(folder=tmp_path).render("system.jinja", {"subject": "nut"})
