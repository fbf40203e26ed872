"""Recipes over small drawn datasets, and what a build left behind, for the tests of `adcopilot data build`."""

import hashlib
import json

import yaml

from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe

from .trees import build as build_tree

#: Every step has work and every task occurs; a shard holds few images, so that there are several.
RECIPE = {
    "seed": 5,
    "shard_images": 4,
    "datasets": {
        "parts": {
            "reader": "mvtec",
            "ratio": "1:1",
            "cut": "both",
            "crop": "0.5:0.9",
            "filter": {"allow": ["blurred"]},
        },
        "again": {"reader": "folder", "filter": False, "pair": {"method": "random"}, "images": {"format": "jpeg"}},
    },
    "outputs": {
        "Caption_parts": {"datasets": "parts", "tasks": "caption", "amount": 5},
        "Chat_parts": {
            "datasets": ["parts", "again"],
            "tasks": {"dialogue": 1, "mc": 1, "loc": 2, "think": 1, "caption": 1},
        },
    },
}


def write_recipe(folder, recipe=None, **top):
    """Write a recipe over an MVTec-style tree below `folder`; returns its path."""
    root = folder / "source" / "mvtec"
    if not root.exists():
        build_tree("mvtec", folder / "source")
    values = json.loads(json.dumps({**(recipe or RECIPE), **top}))
    for one in values["datasets"].values():
        one.setdefault("root", str(root))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return path


def final_files(output):
    """Name → SHA-256 of all that a build promises to make the same again."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and not name.startswith((".work/", "answers/")):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def records(path):
    """The records of a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def run(recipe, output, **options):
    """The manifest of a build."""
    return build(load_recipe(recipe), output, **options)
