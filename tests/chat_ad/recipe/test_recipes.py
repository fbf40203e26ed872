"""A recipe's mistakes are named, by key, before any work."""

import copy
import json

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adcopilot.chat_ad.crops import CropOptions
from adcopilot.chat_ad.fitness.measures import QualityOptions
from adcopilot.chat_ad.generation.endpoint import EndpointSettings
from adcopilot.chat_ad.pairing import PairOptions
from adcopilot.chat_ad.recipe import specs
from adcopilot.chat_ad.recipe.model import keys_of
from adcopilot.chat_ad.recipe.reading import load_recipe, parse_recipe
from adcopilot.chat_ad.recipe.table_one import GENERAL, TABLE_ONE
from adcopilot.cli import main
from adcopilot.errors import UserError

GOOD = {
    "datasets": {"mine": {"reader": "folder", "root": "somewhere"}},
    "outputs": {"Chat_mine": {"datasets": "mine", "tasks": "mc"}},
}


def parsed(**changes):
    """`GOOD` with values replaced: `datasets__mine__reader="x"`."""
    values = copy.deepcopy(GOOD)
    for name, value in changes.items():
        *above, last = name.split("__")
        place = values
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return parse_recipe(values, name="r")


def test_table_ones_amounts_are_the_defaults():
    recipe = parsed(outputs={"Caption_MPDD": {"datasets": "mine", "tasks": "caption"}})
    assert recipe.outputs["Caption_MPDD"].amount == 500
    recipe = parsed(outputs={"Caption_MPDD": {"datasets": "mine", "tasks": "caption", "amount": "all"}})
    assert recipe.outputs["Caption_MPDD"].amount is None


def test_defaults_are_of_every_dataset():
    recipe = parsed(defaults={"ratio": "2:1", "min_area": 9}, datasets__mine__min_area=4)
    assert (recipe.datasets["mine"].ratio, recipe.datasets["mine"].min_area) == (2.0, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": "x"}, ["seed is 'x'", "a whole number"]),
        ({"seeds": 1}, ["seeds: no such key", "did you mean seed?"]),
        ({"datasets__mine__reader": "mvtek"}, ["datasets.mine.reader is 'mvtek'", "did you mean mvtec?"]),
        ({"datasets__mine__root": None}, ["datasets.mine.root is missing"]),
        ({"datasets__mine__rooot": "x"}, ["datasets.mine.rooot: no such key", "did you mean root?"]),
        ({"datasets__mine__options": {"mask": "x"}}, ["datasets.mine.options.mask", "no such option", "masks"]),
        ({"datasets__mine__options": {"masks": "maybe"}}, ["datasets.mine.options.masks is 'maybe'", "optional"]),
        ({"datasets__mine__splits": "trian"}, ["datasets.mine.splits holds 'trian'", "'train'"]),
        ({"datasets__mine__min_area": 0}, ["datasets.mine.min_area is 0", "1 or more"]),
        ({"datasets__mine__skip_problems": "yes please"}, ["skip_problems is 'yes please'", "true or false"]),
        ({"datasets__mine__ratio": "1/1"}, ["datasets.mine.ratio is '1/1'", "ANOMALOUS:NORMAL"]),
        ({"datasets__mine__filter": {"min_sharpnes": 1}}, ["filter.min_sharpnes: no such key", "min_sharpness"]),
        ({"datasets__mine__filter": {"allow": ["unreadable"]}}, ["datasets.mine.filter.allow holds 'unreadable'"]),
        ({"datasets__mine__filter": {"relative_sharpness": 2}}, ["relative_sharpness is 2,", "from 0 to 1"]),
        ({"datasets__mine__pair": {"method": "closest"}}, ["pair.method is 'closest'", "nearest"]),
        ({"datasets__mine__pair": {"method": "random", "among": 3}}, ["datasets.mine.pair", "random"]),
        ({"datasets__mine__crop": "2:1"}, ["datasets.mine.crop.shares is '2:1'", "LEAST:MOST"]),
        ({"datasets__mine__images": {"format": "gif"}}, ["images.format is 'gif'", "png, jpeg"]),
        ({"datasets__unused": {"reader": "folder", "root": "x"}}, ["datasets.unused", "no output uses it"]),
        ({"outputs__Chat_mine__datasets": "yours"}, ["outputs.Chat_mine.datasets holds 'yours'", "'mine'"]),
        ({"outputs__Chat_mine__tasks": "mcq"}, ["outputs.Chat_mine.tasks holds 'mcq'", "'mc'"]),
        ({"outputs__Chat_mine__tasks": {"mc": -1}}, ["outputs.Chat_mine.tasks.mc is -1,"]),
        ({"outputs__Chat_mine__tasks": {"mc": 0}}, ["outputs.Chat_mine.tasks is missing"]),
        ({"outputs__Chat_mine__amount": 0}, ["outputs.Chat_mine.amount is 0", "1 or more"]),
        ({"outputs__Chat_mine__amount": "lots"}, ["outputs.Chat_mine.amount is 'lots'"]),
        ({"outputs": {}}, ["outputs is empty"]),
        ({"outputs__a/b": {"datasets": "mine", "tasks": "mc"}}, ["outputs.a/b", "slashes"]),
        ({"outputs__x": {"convert": "magicbrush", "root": "y"}}, ["outputs.x.convert is magicbrush", "MagicBrush"]),
        ({"outputs__Chat_mine__generator": "endpoint"}, ["outputs.Chat_mine.generator is endpoint"]),
        ({"generator": {"kind": "gpt"}}, ["generator.kind is 'gpt'", "annotations, endpoint"]),
        ({"generator": {"kind": "endpoint", "url": "http://x/v1"}}, ["generator.model is missing"]),
        ({"generator": {"kind": "endpoint", "url": "x", "model": "y"}}, ["generator.url is x"]),
        ({"generator": {"kind": "endpoint", "url": "http://x/v1", "model": "y", "api_key": "sk"}},
         ["generator.api_key: no such key"]),
        ({"generator": {"kind": "endpoint", "url": "http://x/v1", "model": "y", "most_money": 5}},
         ["generator.most_money", "price"]),
        ({"generator": {"kind": "annotations", "url": "http://x/v1"}}, ["generator.url: no such key"]),
        ({"prompts": "no/such/folder"}, ["no/such/folder", "prompts"]),
        ({"datasets": [1]}, ["datasets is [1]", "keys with values"]),
        ({"shard_images": 5000}, ["shard_images is 5000", "from 1 to 4096"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(changes, words):
    with pytest.raises(UserError) as caught:
        parsed(**changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


#: Every key that a recipe has, by where it stands.
PLACES = [
    *((key,) for key in keys_of(specs.RecipeFile)),
    *(("generator", key) for key in keys_of(EndpointSettings)),
    *(("datasets", "mine", key) for key in keys_of(specs.DatasetSpec)),
    *(("datasets", "mine", "filter", key) for key in keys_of(QualityOptions)),
    *(("datasets", "mine", "pair", key) for key in keys_of(PairOptions)),
    *(("datasets", "mine", "mask", key) for key in keys_of(specs.MaskSpec)),
    *(("datasets", "mine", "crop", key) for key in keys_of(CropOptions)),
    *(("outputs", "Chat_mine", key) for key in keys_of(specs.OutputSpec)),
    *(("outputs", "MagicBrush", key) for key in keys_of(specs.ConvertSpec)),
]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)


@example(("datasets", "mine", "pair"), {"\n": False})
@example(("datasets", "mine", "options"), {"\n": None})
@example(("datasets", "mine", "products"), {"\n": None})
@example(("datasets", "mine", "product"), {"\n": None})
@example(("outputs", "MagicBrush", "options"), {"\n": None})
@example(("outputs", "Chat_mine", "tasks"), {"\n": None})
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_is_taken_or_named_in_one_line(place, value):
    values = copy.deepcopy(GOOD)
    values["generator"] = {"kind": "endpoint", "url": "http://x/v1", "model": "y"}
    values["outputs"]["MagicBrush"] = {"convert": "magicbrush", "root": "z"}
    section = values
    for key in place[:-1]:
        section = section.setdefault(key, {})
    section[place[-1]] = value
    said = "recipe: "
    try:
        parse_recipe(values, name="r")
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert said.startswith("recipe: ") or place == ("prompts",)


def test_a_list_is_no_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="expected the keys datasets and outputs"):
        load_recipe(tmp_path / "r.yaml")


def test_settings_replace_values(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    recipe = load_recipe(path, settings=["datasets.mine.root=/else", "outputs.Chat_mine.amount=7", "seed=3"])
    assert str(recipe.datasets["mine"].root) == "/else"
    assert (recipe.outputs["Chat_mine"].amount, recipe.seed) == (7, 3)
    for setting in ("root", "datasets.mine.root.x=1", "=1"):
        with pytest.raises(UserError, match="--set"):
            load_recipe(path, settings=[setting])
    assert main(["data", "build", str(path), "--output", str(tmp_path / "out"), "--check"]) == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_example_recipes_are_table_one(project_root, stage):
    recipe = load_recipe(project_root / f"examples/data/stage{stage}.yaml")
    found = {**recipe.outputs, **recipe.converts}
    assert {name: spec.amount for name, spec in found.items()} == dict(TABLE_ONE[stage])
    assert set(recipe.converts) == set(GENERAL) & set(TABLE_ONE[stage])
    tasks = {0: {}, 1: {"caption"}, 2: {"dialogue"}, 3: {"mc", "loc"}}[stage]
    assert all(set(spec.tasks) == set(tasks) for spec in recipe.outputs.values())


def test_all_example_recipes_are_valid(project_root):
    paths = sorted((project_root / "examples/data").glob("*.yaml"))
    assert len(paths) >= 6
    for path in paths:
        recipe = load_recipe(path)
        json.dumps(recipe.text)
        head = path.read_text("utf-8").splitlines()[:12]
        assert any("adcopilot data build examples/data/" in line for line in head), path
