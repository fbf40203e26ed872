"""`adcopilot data convert NAME`: every converter over a small copy of its source."""

from __future__ import annotations

import pytest
import yaml

from adcopilot import cli
from adcopilot.chat_ad.recipe.table_one import CONVERTERS
from tests.chat_ad.general.conftest import Workplace, brush, clevr, spot  # noqa: F401 - fixtures
from tests.chat_ad.general.test_trainable import all_sources  # noqa: F401 - a fixture

GENERAL = [name.split()[-1] for name in cli.COMMANDS if name.startswith("data convert ")]
#: The data sets that they write, in the order of `all_sources`.
DATA_SETS = CONVERTERS.values()


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
