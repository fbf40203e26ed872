"""`adcopilot data convert NAME`: every converter over a small copy of its source."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from adcopilot import cli
from tests.chat_ad.conftest import write_pair
from tests.chat_ad.general.conftest import Workplace, brush, clevr, spot  # noqa: F401 - fixtures
from tests.chat_ad.general.test_trainable import all_sources  # noqa: F401 - a fixture

from .killing import killed, lines

GENERAL = [name.split()[-1] for name in cli.COMMANDS if name.startswith("data convert ")]
GENERAL.remove("deeppcb")
#: The data sets that they write, in the order of `all_sources`.
DATA_SETS = (
    "CLEVR-Change",
    "MagicBrush",
    "Spot-the-diff",
    "PixMo-cap",
    "M4_Instruct",
    "LLaVA_V1.5_mix665k",
    "OLMo-2-SFT",
)
DEEPPCB = {"deeppcb": [], "deeppcb crops": ["--crop", 64, "--size", 96, "--normals", "repair"]}


@pytest.fixture
def place(here):
    """What the general sources are drawn into."""
    return Workplace(here.folder)


@pytest.mark.parametrize("name", GENERAL)
def test_general_source(area, here, place, all_sources, name):  # noqa: F811
    media = [] if name == "olmo-sft" else ["--media-dir", "media"]
    root = all_sources[name].relative_to(here.folder)
    said = here.run("data", "convert", name, "--root", root, "--output", "media/chat_ad", *media)
    area.check(name, {"stdout": here.text(said), **here.files("media/chat_ad")})


def test_general_sources_in_a_recipe(area, here, place, all_sources):  # noqa: F811
    outputs = {
        data_set: {"convert": name, "root": str(root.relative_to(here.folder)), "amount": 2}
        for data_set, (name, root) in zip(DATA_SETS, all_sources.items(), strict=True)
    }
    recipe = {"media_dir": "media", "outputs": outputs}
    (here.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    said = here.run("data", "build", "recipe.yaml", "--output", "media/chat_ad")
    area.check("recipe", {"stdout": here.text(said), **here.files("media/chat_ad")})


def test_deeppcb(area, here, nursery):
    for number in range(6):
        boxes = [(10 + 3 * number, 20, 22 + 3 * number, 30, number + 1), (70, 100, 85, 112, (number + 1) % 6 + 1)]
        (here.folder / "source/PCBData").mkdir(parents=True, exist_ok=True)
        write_pair(here.folder / "source/PCBData", "test" if number >= 4 else "train", number, boxes, seed=number)
    for group, options in DEEPPCB.items():
        words = ("data", "convert", "deeppcb", "--root", "source", "--output", "out", *options)
        area.check(group, {"stdout": here.text(here.run(*words)), **here.files("out")})
        shutil.rmtree("out")
    out, log, report = Path("out"), Path("out/pairs.jsonl"), Path("out/report.json")
    killed(nursery, out, *words, when=lambda: lines(log) >= 1, over=report.exists)
    area.check("deeppcb crops", {"stdout": here.text(here.run(*words)), **here.files("out")})
