"""The general sources as outputs of `adcopilot data build`."""

import json

import pytest
import yaml

from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe
from adcopilot.chat_ad.recipe.table_one import CONVERTERS
from adcopilot.errors import UserError

from .test_trainable import all_sources  # noqa: F401 - a fixture


@pytest.fixture
def recipe(place, all_sources, tmp_path):  # noqa: F811
    values = {
        "media_dir": str(place.media),
        "outputs": {
            CONVERTERS[command]: {"convert": command, "root": str(root), "amount": 9000}
            for command, root in all_sources.items()
        },
    }
    path = tmp_path / "general.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".work" not in path.parts
    }


def test_all_of_table_one(recipe, place):
    manifest = build(load_recipe(recipe), place.output)
    assert set(manifest["outputs"]) == set(CONVERTERS.values())
    for name, found in manifest["outputs"].items():
        assert 0 < found["records"] == len((place.output / f"{name}.jsonl").read_text().splitlines())
        assert found["wanted"] == 9000  # fewer are no error in a recipe
    info = json.loads((place.output / "dataset_info.json").read_text())
    assert "images" not in info["OLMo-2-SFT"]["columns"]
    assert "images" in info["MagicBrush"]["columns"]
    before = files(place.output)
    build(load_recipe(recipe), place.output)
    assert files(place.output) == before


def test_options_of_the_converter(recipe, place):
    for option in ("{no-such: 1}", "{amount: 3}"):
        with pytest.raises(UserError, match=r"outputs\.CLEVR-Change\.options"):
            build(load_recipe(recipe, settings=[f"outputs.CLEVR-Change.options={option}"]), place.output)
    with pytest.raises(UserError, match=r"outputs\.CLEVR-Change\.options"):
        build(load_recipe(recipe, settings=["outputs.CLEVR-Change.options={box-share: 7}"]), place.output)
    assert not list(place.output.glob("*.jsonl"))  # before any work
    settings = ["outputs.CLEVR-Change.options={include-test: true, box_share: 1.0}"]
    manifest = build(load_recipe(recipe, settings=settings), place.output)
    assert manifest["outputs"]["CLEVR-Change"]["records"] > 0
