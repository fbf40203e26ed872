"""The recipe of `adcopilot data build`: which datasets are read, what is made of them, and who writes the text.

    seed: 0
    media_dir: data                      # LlamaFactory's; records name images relative to it. The output without it
    generator: {kind: annotations}
    defaults: {ratio: "1:1"}             # of every dataset below
    datasets:
      mpdd: {reader: mpdd, root: data/raw/MPDD}
    outputs:
      Caption_MPDD: {datasets: mpdd, tasks: caption, amount: 500}
      Chat_MPDD_RL: {datasets: mpdd, tasks: {mc: 1, loc: 1}, amount: 500}
      MagicBrush: {convert: magicbrush, root: data/raw/MagicBrush, amount: 8800}

docs/data.md describes every key, `specs` has them. All of it is checked before any work; nothing here opens a dataset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...errors import UserError
from ...yaml_sections import assign_all, read_yaml, short
from ..generation import PromptFiles
from ..generation.endpoint import EndpointSettings
from .model import NAME, Spec, checked, dotted, keys_of, no_such_key
from .specs import Annotations, ConvertSpec, DatasetSpec, OutputSpec, Recipe, RecipeFile, Shared

__all__ = ["load_recipe", "parse_recipe"]

_T = TypeVar("_T", bound=Spec)

_NAME = re.compile(r"[^\s,/\\.][^\s,/\\]*")


def load_recipe(path: Path, *, settings: Sequence[str] = (), tables: bool = False) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the YAML file.
        settings: `KEY.KEY=VALUE` that replace values of the file.
        tables: only tables are asked for, which need no output.

    Raises:
        UserError: one line that names the key at fault.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {short(values)}, expected the keys datasets and outputs")
    assign_all(values, settings)
    try:
        # YAML knows dates and the like; they are the texts that they were written as.
        values = json.loads(json.dumps(values, default=str, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}; expected texts, numbers, lists and keys that are texts") from None
    return parse_recipe(values, name=path.stem, where=f"{path}:", tables=tables)


def parse_recipe(values: Any, *, name: str, where: str = "recipe:", tables: bool = False) -> Recipe:
    """Check the values of a recipe.

    Raises:
        UserError: as `load_recipe`.
    """
    file = checked(RecipeFile, values, where)
    kind = EndpointSettings if file.generator.get("kind") == "endpoint" else Annotations
    writer = checked(kind, file.generator, dotted(where, "generator"))
    datasets, outputs, converts = {}, {}, {}
    for key, own in file.datasets.items():
        merged = {**file.defaults, **(own or {})} if own is None or isinstance(own, Mapping) else own
        datasets[key] = _named(DatasetSpec, key, merged, dotted(where, "datasets"))
    for key, own in file.outputs.items():
        if isinstance(own, Mapping) and "convert" in own:
            converts[key] = _named(ConvertSpec, key, own, dotted(where, "outputs"))
        else:
            outputs[key] = _named(OutputSpec, key, own, dotted(where, "outputs"))
    given = {key: getattr(file, key) for key in keys_of(Shared)}
    made = {"datasets": datasets, "outputs": outputs, "converts": converts, "name": name, "text": values}
    recipe = Recipe(**given, **made, endpoint=writer if isinstance(writer, EndpointSettings) else None)
    _check_together(recipe, where, tables)
    if recipe.prompts is not None:
        PromptFiles(folder=recipe.prompts)
    return recipe


def _named(kind: type[_T], name: str, values: Any, where: str) -> _T:
    """A section whose key is the name of something."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{dotted(where, name)}: {name!r} becomes the name of files and of a data set for LlamaFactory, expected "
            "one without white space, commas and slashes"
        )
    if isinstance(values, Mapping) and NAME in values:
        raise no_such_key(dotted(where, name), NAME, keys_of(kind))
    values = {**(values or {}), NAME: name} if values is None or isinstance(values, Mapping) else values
    return checked(kind, values, dotted(where, name))


def _check_together(recipe: Recipe, where: str, tables: bool) -> None:
    """What no section alone can tell."""
    if tables and not recipe.datasets:
        raise UserError(f"{dotted(where, 'datasets')} is empty, expected at least one to make tables of")
    if not tables and not recipe.outputs and not recipe.converts:
        raise UserError(f"{dotted(where, 'outputs')} is empty, expected at least one data set to write")
    used = set()
    for name, output in recipe.outputs.items():
        used.update(output.datasets)
        for one in output.datasets:
            if one not in recipe.datasets:
                there = ", ".join(map(repr, recipe.datasets)) or "datasets"
                key = dotted(where, "outputs", name, "datasets")
                raise UserError(f"{key} holds {one!r}, expected some of {there}")
        if output.generator == "endpoint" and recipe.endpoint is None:
            key = dotted(where, "outputs", name, "generator")
            raise UserError(f"{key} is endpoint, but the recipe's generator is annotations")
    for name, dataset in recipe.datasets.items():
        key = dotted(where, "datasets", name)
        if name not in used and not tables:
            raise UserError(f"{key}: no output uses it; name it in one, or remove it")
        if recipe.against and dataset.filter is None:
            raise UserError(f"{key}.filter is false, but against needs it; remove one")
