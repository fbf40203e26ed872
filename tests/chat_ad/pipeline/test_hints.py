"""Hints in training data: word for word, and box for box, what `adcopilot inspect --hints map` asks."""

import copy
import json
import os
import re

import pytest

from adcopilot.anomaly_map.comparing import MapSettings
from adcopilot.anomaly_map.hints import HINT, NO_HINT
from adcopilot.chat_ad.commands.build import summary
from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe, parse_recipe
from adcopilot.errors import UserError
from adcopilot.inspect import Question
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.model_inspector import ModelInspector
from adcopilot.prompts import INSPECT_QUESTION
from adcopilot.records import check_record, record_image_sizes
from adcopilot.sample.photographs import photographs

from ...llamafactory.conftest import encode, lf, llamafactory  # noqa: F401 - fixtures
from ..builds import final_files, records, write_recipe

#: Of sides that the model's are no multiples of; two shards, so that there is something to share and to kill.
RECIPE = {
    "shard_images": 8,
    "datasets": {"parts": {"reader": "folder", "filter": False, "crop": "0.7:1"}},
    "outputs": {
        "Plain": {"datasets": "parts", "tasks": {"verdict": 1, "mc": 1}},
        "Told": {"datasets": "parts", "tasks": {"verdict": 1, "mc": 1}, "hints": "map"},
    },
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hints")
    values = copy.deepcopy(RECIPE)
    values["datasets"]["parts"]["root"] = str(photographs(folder / "bracket", good=10, bad=6, size=150))
    return write_recipe(folder, values)


@pytest.fixture(scope="module")
def built(recipe, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "out"
    return output, build(load_recipe(recipe), output)


def test_the_questions_alone_are_others(built):
    output, manifest = built
    plain, told = records(output / "Plain.jsonl"), records(output / "Told.jsonl")
    by_pair = {(*one["images"], one["task"]): one for one in plain}
    questions = []
    for one in told:
        check_record(one, name="record", sizes=record_image_sizes(one, name="record", media_dir=output))
        before = by_pair.get((*one["images"], one["task"]))
        if before:  # each output draws its tasks on its own
            assert {name for name in one if one[name] != before[name]} == {"key", "messages"}
            assert one["messages"][1:] == before["messages"][1:]
            assert one["messages"][0]["content"].endswith(before["messages"][0]["content"].removeprefix("<image>" * 2))
        questions.append(one["messages"][0]["content"].removeprefix("<image><image>"))
    assert len(told) == len(plain) == len({one["key"] for one in told})
    places = sum(question.startswith(HINT.split("{")[0]) for question in questions)
    nothing = sum(question.startswith(NO_HINT) for question in questions)
    assert places > 2 < nothing
    found = manifest["outputs"]["Told"]["hints"]
    assert found["questions"] == {"marked": places, "no_place": nothing, "no_hint": 0}
    assert found["map"] == {"kind": "pixels"}
    threshold = found["thresholds"]["parts"]["bracket"]
    assert f"adcopilot inspect --hints map --map-threshold {threshold!r}" in summary(manifest, "recipe", output)
    assert "hints" not in manifest["outputs"]["Plain"]


@pytest.mark.forward
def test_training_sees_what_inference_asks(built, lf, adcopilot_dir):  # noqa: F811
    """Token for token, through LlamaFactory's own encoder and the inspector's: nothing is compared with itself."""
    output, manifest = built
    threshold = manifest["outputs"]["Told"]["hints"]["thresholds"]["parts"]["bracket"]
    judge = Judge(map_threshold=threshold)
    inspector = ModelInspector(model=adcopilot_dir, device="cpu", map=MapSettings(), hints=True, judge=judge)
    encoder, boxes = lf.encoder(cutoff_len=4096), 0
    for record in records(output / "Told.jsonl"):
        images = [str(output / name) for name in record["images"]]
        user, answer = record["messages"]
        one = {"_prompt": [user], "_response": [answer], "_system": "", "_tools": "", "_images": images}
        trained = encode(encoder, {**one, "_videos": None, "_audios": None})
        prompt = [token for token, label in zip(trained["input_ids"][0], trained["labels"][0], strict=True)
                  if label == -100]  # fmt: skip
        text = user["content"].split("\n", 1)[1]  # behind the hint, which the inspector has to say itself
        assert text == INSPECT_QUESTION or record["task"] == "mc"
        prepared = inspector._prepare(Question(templates=(images[0],), query=images[1], text=text))
        asked = inspector.encode([prepared])["input_ids"][0].tolist()
        assert inspector.processor.tokenizer.decode(prompt) == inspector.processor.tokenizer.decode(asked)
        assert prompt == asked
        size = record_image_sizes(record, name="record", media_dir=output)[1]
        boxes += "bbox_2d" in user["content"] and size != prepared.model_size  # else nothing would be mapped
    assert boxes > 2


def test_killed_in_processes_and_again(recipe, built, tmp_path, monkeypatch):
    expected = final_files(built[0])
    build(load_recipe(recipe), tmp_path / "two", workers=2)
    assert final_files(tmp_path / "two") == expected

    class Killed(BaseException):
        pass

    rename, output, hinted = os.replace, tmp_path / "killed", []

    def replace(source, target):
        if "/hint" in str(target):
            hinted.append(target)
            if len(hinted) in (2, 5):
                raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for _ in range(2):
        with pytest.raises(Killed):
            build(load_recipe(recipe), output)
    build(load_recipe(recipe), output)
    assert final_files(output) == expected
    hinted.clear()
    build(load_recipe(recipe), output)
    assert hinted == []  # nothing is compared again


def test_a_threshold_of_the_recipe_and_other_settings(recipe, tmp_path):
    settings = ["outputs.Told.hints={kind: pixels, growth: 3, threshold: 5.0}"]
    manifest = build(load_recipe(recipe, settings=settings), tmp_path / "out")
    found = manifest["outputs"]["Told"]["hints"]
    assert found["thresholds"] == {"parts": {"bracket": 5.0}}
    assert found["map"] == {"kind": "pixels", "growth": 3}
    assert found["questions"]["marked"] == 0 < found["questions"]["no_place"]


def test_few_good_pairs_have_no_threshold(tmp_path):
    """Then what differs most is told, as inference does that knows no threshold; and it is said."""
    values = copy.deepcopy(RECIPE)
    values["datasets"]["parts"]["root"] = str(photographs(tmp_path / "bracket", good=4, bad=3, size=84))
    manifest = build(load_recipe(write_recipe(tmp_path, values)), tmp_path / "out")
    found = manifest["outputs"]["Told"]["hints"]
    assert found["thresholds"] == {"parts": {"bracket": None}}
    assert found["questions"]["marked"] == manifest["outputs"]["Told"]["records"]
    assert "too few good pairs for a threshold of bracket" in summary(manifest, "recipe", tmp_path / "out")


def test_a_pair_that_cannot_be_compared_has_no_hint(tmp_path):
    """One picture twice, as when a template is a copy of the query: inference tells nothing there either."""
    from adcopilot.anomaly_map.comparing import Mapper
    from adcopilot.chat_ad.hinted import with_map_hint
    from adcopilot.records import make_record

    folder = photographs(tmp_path, good=2, bad=0, size=84)
    mapper, options = Mapper(MapSettings()), {"threshold": None, "folder": folder}
    both = make_record(images=["good/000.png", "good/001.png"], turns=[("Where?", "No.")])
    assert "marks these places" in json.dumps(with_map_hint(both, mapper, **options))
    same = make_record(images=["good/000.png", "good/000.png"], turns=[("Where?", "No.")])
    assert with_map_hint(same, mapper, **options) is None
    alone = make_record(images=["good/000.png"], turns=[("Where?", "No.")])
    assert with_map_hint(alone, mapper, **options) is None


@pytest.mark.parametrize(
    ("hints", "told"),
    [
        ("maps", "hints is 'maps', expected keys with values"),
        (
            {"kind": "feature"},
            "hints.kind is 'feature', expected one of pixels, features, texture; did you mean features?",
        ),
        ({"kind": "features"}, "hints: kind: features and backbone: FOLDER_OR_ID go together"),
        ({"search": 99}, "hints.search is 99, expected a whole number from 0 to 64"),
        ({"treshold": 1}, "hints.treshold: no such key; did you mean threshold?"),
    ],
)
def test_bad_hints_are_one_line(recipe, hints, told):
    values = copy.deepcopy(RECIPE)
    values["datasets"]["parts"]["root"] = "x"
    values["outputs"]["Told"]["hints"] = hints
    with pytest.raises(UserError, match=re.escape(told)):
        parse_recipe(values, name="recipe")
