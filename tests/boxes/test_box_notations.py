"""The reader of notations: what it finds, that nothing makes it fail, and that its time grows with the text alone."""

import gc
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adcopilot.boxes import map_text_boxes, parse_bare_boxes, parse_boxes
from adcopilot.boxes.notations import bare_lists, scan_boxes
from adcopilot.records import foreign_boxes, unnamed_boxes

pytestmark = pytest.mark.forward


def found(text):
    return [
        (one.syntax, [[n.value for n in item] for item in one.items], one.closed, one.plain)
        for one in scan_boxes(text)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"bbox_2d": [1, 2, 3, 4]', ("bbox_2d", [[1, 2, 3, 4]], True, True)),
        ("'bbox_2d' : [[1,2,3,4],[5,6,7,8]]", ("bbox_2d", [[1, 2, 3, 4], [5, 6, 7, 8]], True, True)),
        (r"\"bbox_2d\": [\n1,\n2,3,4]", ("bbox_2d", [[1, 2, 3, 4]], True, True)),
        ('"bbox_2d": ["1", 2, 3, 4]', ("bbox_2d", [[1, 2, 3, 4]], True, False)),
        ('"bbox_2d": [1, 2, 3, true]', ("bbox_2d", [], False, True)),
        ('"bbox_2d": [1, 2, 3, 4', ("bbox_2d", [], False, True)),
        ('"bbox_2d": []', ("bbox_2d", [[]], True, True)),
        ('"bbox_2d": {"x1": 1}', ("bbox_2d", [], False, True)),
        ('"boxes": [[1, 2, 3, 4]]', ("bbox", [[1, 2, 3, 4]], True, True)),
        ('"point_2d": [5, 6]', ("points", [[5, 6]], True, False)),
        ('"polygon": [[1, 2], [3, 4], [5, 6]]', ("points", [[1, 2, 3, 4, 5, 6]], True, False)),
        ('<point x="12.5" y="30">a dent</point>', ("points", [[12, 5, 30]], True, True)),
        ("<loc_1><loc_2><loc_3><loc0004>", ("locations", [[1, 2, 3, 4]], True, True)),
        ("<bbox>1 2 3 4 5 6 7 8</bbox>", ("seed", [[1, 2, 3, 4], [5, 6, 7, 8]], True, True)),
    ],
)
def test_what_is_found(text, expected):
    assert found(text) == [expected]


def test_what_stands_around_is_kept_apart():
    text = 'a <ref>x</ref> <box>[[1, 2, 3, 4]]</box> b {"bbox_2d": [5, 6, 7, 8], "label": "y"} c'
    first, second = scan_boxes(text)
    assert text[first.start : first.stop] == "<ref>x</ref> <box>[[1, 2, 3, 4]]</box>"
    assert text[second.start : second.stop] == '"bbox_2d": [5, 6, 7, 8]'
    assert text[slice(*second.key)] == "bbox_2d"
    assert (first.label, second.label) == ("x", "y")
    assert [text[n.start : n.stop] for n in second.items[0]] == ["5", "6", "7", "8"]


def test_a_key_after_a_list_that_breaks_off_is_found():
    assert found('"bbox_2d": [1, 2, "bbox_2d": [5, 6, 7, 8]')[1][1] == [[5, 6, 7, 8]]
    assert [box["label"] for box in parse_boxes('{"bbox_2d": [[1, 2, 3, 4], "label": "a } b"}')] == ["a } b"]


PIECES = [
    *('"bbox_2d": ', '"bbox": [', '"box_2d": (', '\\"bbox_2d\\": [', "'label': '", '"label": "x"', "bbox_2d="),
    *("<|box_start|>", "<|box_end|>", "<box>", "</box>", "<bbox>", "</bbox>", "<ref>", "</ref>", "<|det|>"),
    *("<points ", "[", "]", "(", ")", "{", "}", ",", " ", "\n", "\\", '"', "'", "<", ">", ":", "e", "+", "-", "."),
    *("1", "23.5", "1e999", "0" * 50, "9" * 50, "<loc_12>", "NaN", "，", "\ud800"),
]


@settings(max_examples=400, deadline=None)
@example('"bbox_2d": <points "bbox_2d": >', (1, 1))
@example("A place: <loc12><loc34><loc56><loc78>", (100, 100))
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.tuples(*[st.integers(1, 5000)] * 2))
def test_any_text_is_read(text, size):
    """No exception, spans inside the text and in order, numbers that stand where they are said to."""
    at = 0
    for one in scan_boxes(text):
        assert at <= one.start <= one.value[0] <= one.value[1] <= one.stop <= len(text)
        at = one.stop
        for number in (number for item in one.items for number in item):
            assert one.start <= number.start < number.stop <= one.stop
            assert float(text[number.start : number.stop]) == float(number.value)
    for box in [*parse_boxes(text), *parse_bare_boxes(text)]:
        assert all(abs(value) < 1e15 for value in box["bbox_2d"])
    map_text_boxes(text, size, (100, 100))


def steps(read, text):
    """Bytecode lines that reading a text takes: a count, so that a busy machine changes nothing."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(text)
    finally:
        sys.settrace(before)
    return count


MORE = ['"bbox_2d": [', "[1, 2, 3, 4] , ", "(1,2),", '{"a":', "[1 ", "<ref>a</ref>", "[[", '"label":"', "<box>1", "e1"]


def everything(text):
    list(scan_boxes(text))
    bare_lists(text)


@pytest.mark.parametrize("unit", [*PIECES, *MORE])
def test_steps_grow_with_the_text_alone(unit):
    for start in ("", '"bbox_2d": [', "<bbox>"):
        few, many = (steps(everything, start + unit * times) for times in (50, 100))
        assert many <= 2.2 * few + 200, (start, unit)


@pytest.mark.parametrize("unit", [*PIECES, *MORE])
def test_expressions_do_not_go_back(unit):
    """The regular expressions' own steps, which no trace sees: four times the text takes four times the processor's
    time, and sixteen times with any that goes back over what it has read."""
    for start in ('"bbox_2d', '"bbox_2d": [1', "<ref>", '"bbox_2d": [1, 2, 3, 4], "label": "'):
        spent = []
        for length in (10_000, 40_000):
            text = start + unit * (length // len(unit))
            gc.disable()  # with what other tests have left, one collection takes longer than the reading
            before = time.thread_time()
            everything(text)
            spent.append(time.thread_time() - before)
            gc.enable()
        assert spent[1] < 0.2 or spent[1] < 10 * spent[0], (start, unit, spent)


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("a dent(600,400),(900,700)", "pairs"),  # Qwen-VL's, its special tokens left out
        ('{"x1": 60, "y1": 40, "x2": 90, "y2": 70}', "pairs"),
        ('{"x": 60, "y": 40.5, "w": 30, "h": 30}', "pairs"),
        ("{'left': 60, 'top': 40, 'width': 3, 'height': 3}", "pairs"),
        ("<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>", "pairs"),
        ("<object><patch_index_0044><patch_index_0863></object>", "locations"),
        ('{"bbox2d": [60, 40, 90, 70]}', "bbox"),
        ('{"rect": [60, 40, 90, 70]}', "bbox"),
        ('{"cx": 60, "cy": 40, "w": 30, "h": 30}', "pairs"),
        ('{"center": [60, 40], "size": [30, 30]}', "points"),
        ('{"points": [[60, 40]]}', "points"),
        ('{"bbox_xywh": [60, 40, 30, 30]}', "points"),  # in an answer it must not be taken for corners
    ],
)
def test_boxes_without_their_tags_and_coordinates_by_themselves_are_named(text, syntax):
    """B2: training left them as they are, and `data register` counted no box."""
    record = {"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": text}]}
    assert [(kind, count) for kind, (count, _) in foreign_boxes(record).items()] == [(syntax, 1)]


@pytest.mark.parametrize("text", ["Holes at (10, 20) and (30, 40).", "f(1,2), (3,4)", '{"x": "left", "y": 2}'])
def test_prose_is_no_box(text):
    assert not [*scan_boxes(text)]


def test_lists_under_no_key_are_counted():
    """Shares of the sides need no mapping, and a list that falls is no box."""
    text = 'at [10, 20, 30, 40], [[1, 2, 3, 4]]; [0.1, 0.2, 0.3, 0.4], [4, 3, 2, 1], "bbox_2d": [5, 6, 7, 8]'
    record = {"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": text}]}
    assert unnamed_boxes(record) == 2
    record["messages"][0]["content"] = "?"
    assert unnamed_boxes(record) == 0
