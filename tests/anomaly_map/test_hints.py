"""Hints: one sentence with the map's boxes, in the model's pixels, in inspect, and in data as the collator maps it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.anomaly_map.hints import HINT, MOST_BOXES, NO_HINT, hint, hint_of, hinted_record, with_hint
from adcopilot.boxes import map_text_boxes, parse_boxes
from adcopilot.errors import UserError
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.model_inspector import ModelInspector
from adcopilot.prompts import INSPECT_QUESTION
from adcopilot.records import check_record, make_record, record_boxes

from .test_comparing import plate


def boxes_in(text):
    return [box["bbox_2d"] for box in parse_boxes(text)]


def test_the_sentence_has_the_boxes_in_the_models_space():
    said = hint([{"bbox_2d": [10, 20, 30, 40]}], size=(100, 80), space=(200, 40))
    assert said == HINT.format(boxes='[{"bbox_2d": [20, 10, 60, 20]}]')
    assert hint([], size=(100, 80), space=(200, 40)) == NO_HINT
    assert with_hint("Where?", said) == f"{said}\nWhere?"


def test_the_largest_boxes_are_told_and_the_first_pixel_is_no_share_of_the_sides():
    boxes = [{"bbox_2d": [side, side, 2 * side, 2 * side]} for side in range(2, 22)] + [{"bbox_2d": [0, 0, 1, 1]}]
    found = boxes_in(hint(boxes, size=(100, 100), space=(100, 100)))
    assert found == [[side, side, 2 * side, 2 * side] for side in range(22 - MOST_BOXES, 22)]
    assert hint(boxes[-1:], size=(100, 100), space=(100, 100)) == NO_HINT


sides = st.integers(28, 2000)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_data_says_what_inference_says_once_its_boxes_are_mapped(size, space, shares):
    boxes = []
    for a, b, c, d in shares:
        x1, x2 = sorted((int(a * size[0]), int(c * size[0])))
        y1, y2 = sorted((int(b * size[1]), int(d * size[1])))
        boxes.append({"bbox_2d": [x1, y1, x2 + 2, y2 + 2]})
    in_data = hint(boxes, size=size, space=size)
    assert map_text_boxes(in_data, size, space) == hint(boxes, size=size, space=space)


def test_below_the_threshold_there_is_no_place():
    found = Mapper(MapSettings()).compare(plate(defect=True), [plate()])
    assert boxes_in(hint_of(found, threshold=None, space=found.size)) == found.boxes()
    assert boxes_in(hint_of(found, threshold=0.1, space=found.size)) == found.boxes(0.1)
    assert hint_of(found, threshold=found.pred_score * 1.01, space=found.size) == NO_HINT


@pytest.fixture
def asked(monkeypatch):
    """Of each question that a model is asked: the threshold of maps, and the prompt."""
    found, kept = [], ModelInspector.encode

    def encode(self, batch):
        found.extend((self.judge.map_threshold, one.prompt) for one in batch)
        return kept(self, batch)

    monkeypatch.setattr(ModelInspector, "encode", encode)
    return found


@pytest.mark.forward
def test_inspect_asks_with_the_hint(speaking_dir, asked):
    options = {"model": speaking_dir, "device": "cpu", "max_new_tokens": 2, "map": MapSettings()}
    pairs = [(plate(), plate(defect=True)), (plate(), plate(gain=1.02))]
    for judge in (Judge(), Judge(map_threshold=0.1)):
        asked.clear()
        inspector = ModelInspector(**options, hints=True, judge=judge)
        results = list(inspector.inspect_many(pairs))
        prompts = [prompt for _, prompt in asked]
        assert [result.error for result in results] == [None, None]
        size = inspector.model_size((120, 96))
        for prompt, result in zip(prompts, results, strict=True):
            told = hint_of(result.map, threshold=judge.map_threshold, space=size)
            assert f"{told}\n{INSPECT_QUESTION}" in prompt
        assert (NO_HINT in prompts[1]) == (judge.map_threshold is not None)
        assert inspector.settings()["hints"] == {"sentence": HINT, "map_threshold": judge.map_threshold}
    assert "hints" not in ModelInspector(**options).settings()


@pytest.mark.forward
def test_hints_need_a_map_before_the_answer(speaking_dir, tmp_path, run, refusal):
    with pytest.raises(UserError, match="--hints map needs a map before the model answers: give --map pixels"):
        ModelInspector(model=speaking_dir, device="cpu", hints=True, map=MapSettings(kind="features"))
    plate().save(tmp_path / "good.png")
    plate(defect=True).save(tmp_path / "bad.png")
    pair = ("--template", tmp_path / "good.png", "--query", tmp_path / "bad.png")
    words = ("inspect", *pair, "--hints", "map", "--json", "--model")
    for options, told in (
        (["none"], "--hints map is for a model, and there is none"),
        ([speaking_dir, "--map", "off"], "--hints map needs a map before"),
    ):
        assert told in refusal(*words, *options)
    code, out, _ = run(*words, speaking_dir, "--device", "cpu", "--max-new-tokens", "2")
    assert code == 0
    assert json.loads(out)["map_boxes"]


@pytest.mark.forward
def test_whose_threshold_hints_have(speaking_dir, tmp_path, asked, run, refusal):
    """The one that is given, as data had it; else that of the templates among each other."""
    (tmp_path / "good").mkdir()
    for number in range(5):
        plate(gain=1 + number / 50).save(tmp_path / f"good/{number}.png")
    plate(defect=True).save(tmp_path / "bad.png")
    words = ("inspect", "--model", speaking_dir, "--device", "cpu", "--max-new-tokens", "2", "--hints", "map")
    words = (*words, "--query", tmp_path / "bad.png", "--json")
    folder = ("--template-dir", tmp_path / "good")
    for options in (("--map-threshold", "0.123"), ("--map-threshold", "9"), ()):
        code, _, err = run(*words, *folder, *options)
        assert code == 0
    assert "the map's threshold 0.02: twice the median score of 5 good pictures" in err
    assert run(*words, "--template", tmp_path / "good/0.png")[0] == 0
    assert [threshold for threshold, _ in asked] == [0.123, 9, 0.02, None]
    assert [NO_HINT in prompt for _, prompt in asked] == [False, True, False, False]
    assert "--map-threshold 0.1: goes with a model's verdict, and here it is from the map" in refusal(
        *words, *folder, "--map-threshold", "0.1", "--verdict-from", "map"
    )


def test_a_record_has_its_hint_behind_its_images():
    record = make_record(images=["good.png", "bad.png"], turns=[("Where?", "No."), ("Sure?", "No.")])
    said = hint([{"bbox_2d": [10, 20, 30, 40]}], size=(100, 80), space=(100, 80))
    found = hinted_record(record, said)
    assert found["messages"][0]["content"] == f"<image><image>{said}\nWhere?"
    assert found["messages"][1:] == record["messages"][1:]
    check_record(found, name="record", sizes=[(100, 80), (100, 80)])
    assert list(record_boxes(found, name="record")) == [(1, [10, 20, 30, 40])]  # of the query
    later = {**record, "messages": [*record["messages"][:2], {"role": "user", "content": "<image>And here?"}]}
    with pytest.raises(UserError, match="has images after its first turn"):
        hinted_record(later, said)
