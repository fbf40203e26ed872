"""`adcopilot data build`: every layout with every task, with an endpoint, in two processes, and killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.chat_ad.builds import RECIPE, write_recipe
from tests.chat_ad.conftest import write_pair
from tests.chat_ad.generation.conftest import endpoint  # noqa: F401 - a fixture
from tests.chat_ad.trees import DATASETS, LAYOUTS
from tests.chat_ad.trees import build as build_tree

from .killing import killed, lines

TASKS = ["caption", "dialogue", "mc", "loc", "think", "verdict"]
COST = "out/answers/cost.json"
BUILD = ("data", "build", "recipe.yaml", "--output", "out")


def recipe_of(layout: str) -> dict:
    """A recipe that turns all of a drawn tree into training data."""
    dataset = {
        "reader": DATASETS[layout],
        "root": f"source/{layout}",
        "filter": {"allow": ["blurred", "dark", "near_duplicate", "duplicate", "conflicting"]},
        "pair": {"skip_unpaired": True, "other_views": True},
    }
    if layout == "vision":  # nothing says that its images without annotations are good, so it must be said
        dataset["options"] = {"unannotated": "normal"}
    outputs = {f"Chat_{task}": {"datasets": layout, "tasks": task} for task in [*TASKS, "count"]}
    outputs["Chat_all"] = {"datasets": layout, "tasks": TASKS}
    return {"seed": 5, "shard_images": 4, "datasets": {layout: dataset}, "outputs": outputs}


def write(here, recipe: dict) -> None:
    (here.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def build(here, *options, code: int = 0) -> dict:
    """Build into an empty or unfinished folder; what a user has then."""
    said = here.run(*BUILD, *options, code=code)
    return {"stdout": here.text(said), **here.files("out")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(area, here, layout):
    build_tree(layout, here.folder / "source")
    write(here, recipe_of(layout))
    area.check(layout, build(here, code=1 if layout == "coco" else 0))  # of coco an image of three has no pair


@pytest.mark.parametrize("crop", [64, "whole"])
def test_deeppcb_in_windows(area, here, crop, project_root):
    """The example's recipe over a set drawn here."""
    for number in range(6):
        boxes = [(10 + 3 * number, 20, 22 + 3 * number, 30, number + 1), (70, 100, 85, 112, (number + 1) % 6 + 1)]
        (here.folder / "source/PCBData").mkdir(parents=True, exist_ok=True)
        write_pair(here.folder / "source/PCBData", "test" if number >= 4 else "train", number, boxes, seed=number)
    shutil.copyfile(project_root / "examples/data/deeppcb.yaml", "recipe.yaml")
    words = ("--set", "defaults.root=source", "--set", f"defaults.options.crop={crop}")
    area.check(f"deeppcb {crop}", build(here, *words))


@pytest.fixture
def all_steps(here):
    """The recipe in which every step has work, with relative paths."""
    write_recipe(here.folder)
    recipe = json.loads(json.dumps(RECIPE))
    for dataset in recipe["datasets"].values():
        dataset["root"] = "source/mvtec"
    write(here, recipe)
    return recipe


def test_all_steps_with_one_worker_with_two_and_killed(area, here, all_steps, nursery):
    area.check("all steps", build(here))
    shutil.rmtree("out")
    area.check("all steps", build(here, "--workers", 2))
    out, manifest = Path("out"), Path("out/manifest.json")
    for most in (2, 15):  # soon, and late

        def far(most=most) -> bool:
            return len(list(out.rglob("*.parquet"))) >= most

        killed(nursery, out, *BUILD, when=far, over=manifest.exists)
        area.check("all steps", build(here))


def asked(endpoint) -> str:  # noqa: F811
    """What an endpoint was asked, whatever came first."""
    return "".join(sorted(json.dumps(body, ensure_ascii=False) + "\n" for _, _, body in endpoint.requests))


def test_endpoint(area, here, all_steps, endpoint, nursery):  # noqa: F811
    prices = {"prompt": 2.5, "completion": 10}
    generator = {"kind": "endpoint", "url": endpoint.url, "model": "local-test", "prices": prices}
    write(here, {**all_steps, "generator": generator})
    here.run(*BUILD, "--workers", 2)
    manifest = json.loads((here.folder / "out/manifest.json").read_text())
    here.varies(manifest["recipes"]["recipe"]["recipe_digest"], "digest of a recipe with the stub's port")
    made = build(here)  # again: nothing is made or asked twice
    area.check("endpoint cost", {COST: made.pop(COST)})
    area.check("endpoint", {**made, "requests": asked(endpoint)})
    # Killed when some answers are paid for: each question is asked once, and the answers are the same.
    endpoint.requests.clear()
    endpoint.delay = 0.05
    out, log, manifest = Path("out"), Path("out/answers/answers.jsonl"), Path("out/manifest.json")
    killed(nursery, out, *BUILD, when=lambda: lines(log) >= 3, over=manifest.exists)
    made = build(here)
    del made[COST]  # that of the second part, which had less to ask
    area.check("endpoint", {**made, "requests": asked_once(endpoint)})


def asked_once(endpoint) -> str:  # noqa: F811
    """The same of a killed build, whose requests under way at the kill are asked again."""
    lines = sorted({json.dumps(body, ensure_ascii=False) for _, _, body in endpoint.requests})
    return "".join(line + "\n" for line in lines)
