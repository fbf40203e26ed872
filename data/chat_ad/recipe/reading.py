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

docs/data.md describes every key. All of it is checked before any work; nothing here opens a dataset.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...masks import INVERSIONS, MaskOptions, check_options
from ...yaml_sections import REQUIRED, Section, assign_all, read_yaml, short
from ..crops import KEEP, CropOptions, parse_shares
from ..fitness.duplicates import SameLimits
from ..fitness.leaks import KINDS, LeakOptions
from ..fitness.measures import REASONS, QualityOptions
from ..fitness.rebalance import CUTS, parse_ratio
from ..generation import TASKS, PromptFiles
from ..generation.cost import Prices
from ..generation.endpoint import EndpointSettings
from ..pairing import METHODS, PairOptions
from ..pipeline.losses import MAX_LEFT_OUT
from ..readers import READERS
from ..table import SPLITS
from .specs import ConvertSpec, DatasetSpec, EmbedSpec, ImageSpec, LeakSpec, OutputSpec, Recipe
from .table_one import GENERAL, default_amount, names

__all__ = ["CONVERTERS", "RECORDS", "load_recipe", "parse_recipe"]

#: A dataset's name for pairs that are there already, as records (`recorded_pairs`).
RECORDS = "records"

#: `adcopilot data convert …` of Table I's general sets.
CONVERTERS: Mapping[str, str] = dict(
    zip(
        ("clevr-change", "magicbrush", "spot-the-diff", "pixmo-cap", "m4-instruct", "llava-mix", "olmo-sft"),
        GENERAL,
        strict=True,
    )
)

_NAME = re.compile(r"[^\s,/\\.][^\s,/\\]*")
_FORMATS = ("source", "png", "jpeg")

#: Which images of a dataset get a template.
_QUERIES = ("all", "anomalous", "normal")


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
    top = Section(values, where=where)
    seed = top.take("seed", int, 0)
    prompts = top.take("prompts", str, None)
    media_dir = top.take("media_dir", str, None)
    shard_images = top.take("shard_images", int, 1024, low=1, high=4096)
    against = tuple(map(Path, top.texts("against")))
    leaks = _leaks(top.section("leaks"))
    max_left_out = top.take("max_left_out", float, MAX_LEFT_OUT, low=0, high=1)
    endpoint, fallback = _generator(top.section("generator"))
    defaults = top.raw("defaults") or {}
    Section(defaults, where=top.name("defaults"))
    datasets, outputs, converts = {}, {}, {}
    sections = top.section("datasets")
    for key in sections:
        _check_name(sections.name(key), key)
        own = Section(sections.raw(key), where=sections.name(key))
        merged = {**copy.deepcopy(defaults), **{one: own.raw(one) for one in own}}
        datasets[key] = _dataset(key, Section(merged, where=sections.name(key)), seed)
    sections = top.section("outputs")
    for key in sections:
        _check_name(sections.name(key), key)
        section = sections.section(key)
        if "convert" in section:
            converts[key] = _convert(key, section)
        else:
            outputs[key] = _output(key, section, datasets, endpoint is not None)
    top.done()
    if tables:
        if not datasets:
            raise UserError(f"{top.name('datasets')} is empty, expected at least one to make tables of")
    elif not outputs and not converts:
        raise UserError(f"{top.name('outputs')} is empty, expected at least one data set to write")
    used = {one for output in outputs.values() for one in output.datasets}
    for key in datasets:
        if key not in used and not tables:
            raise UserError(f"{top.name('datasets')}.{key}: no output uses it; name it in one, or remove it")
    for key, spec in datasets.items():
        if against and spec.filter is None:
            raise UserError(f"{top.name('datasets')}.{key}.filter is false, but against needs it; remove one")
    if prompts is not None:
        PromptFiles(folder=prompts)
    return Recipe(
        name=name,
        seed=seed,
        media_dir=None if media_dir is None else Path(media_dir),
        shard_images=shard_images,
        max_left_out=max_left_out,
        against=against,
        leaks=leaks,
        prompts=None if prompts is None else Path(prompts),
        endpoint=endpoint,
        fallback=fallback,
        datasets=datasets,
        outputs=outputs,
        converts=converts,
        text=values,
    )


def _check_name(where: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: {name!r} becomes the name of files and of a data set for LlamaFactory, expected one without "
            "white space, commas and slashes"
        )


def _dataset(name: str, section: Section, seed: int) -> DatasetSpec:
    take = section.take
    reader = take("reader", str, choices=(*READERS, RECORDS))
    options = section.section("options")
    pair, embed, skip_unpaired = _pair(section.section("pair"), seed)
    ratio = take("ratio", str, None)
    spec = DatasetSpec(
        name=name,
        reader=reader,
        root=Path(take("root", str)),
        options={key: _option(options, key) for key in options},
        categories=tuple(section.texts("categories")),
        product=_product(section),
        splits=tuple(section.texts("splits", choices=SPLITS)),
        min_area=take("min_area", int, 1, low=1),
        # The masks of records were read once already: what is left of them is what is marked.
        mask=_mask(section.section("mask"), most=1.0 if reader == RECORDS else MaskOptions().most),
        skip_problems=take("skip_problems", bool, False),
        filter=_filter(section),
        ratio=None if ratio is None else _named(section.name("ratio"), parse_ratio, ratio),
        cut=take("cut", str, "normal", choices=CUTS),
        queries=take("queries", str, "all", choices=_QUERIES),
        pair=pair,
        embed=embed,
        skip_unpaired=skip_unpaired,
        crop=_crop(section, seed),
        images=_images(section.section("images")),
    )
    section.done()
    if reader != RECORDS:
        declared = READERS[reader].OPTIONS
        for key, value in spec.options.items():
            if key not in declared:
                known = ", ".join(declared) or "none"
                raise UserError(f"{options.name(key)}: the reader {reader} has no such option; there are: {known}")
            choices = declared[key].choices
            if choices is not None and value not in choices:
                expected = ", ".join(filter(None, choices))
                raise UserError(f"{options.name(key)} is {value!r}, expected one of {expected}")
    elif spec.options.keys() != {"files"}:
        raise UserError(f"{section.name('options')}: the reader {RECORDS} needs the option files, and no other")
    return spec


def _product(section: Section) -> str | dict[str, str]:
    value = section.raw("product")
    if isinstance(value, dict):
        part = section.section("product")
        return {category: part.take(category, str) for category in part}
    return section.take("product", str, "")


def _option(options: Section, key: str) -> str:
    value = options.raw(key)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError(f"{options.name(key)} is {short(value)}, expected a text or a number; put it in quotes")
    return str(value)


def _filter(section: Section) -> QualityOptions | None:
    if section.raw("filter") is False:
        return None
    part, default = section.section("filter"), QualityOptions()
    take = part.take
    options = QualityOptions(
        dark_below=take("dark_below", float, default.dark_below, low=0, high=256),
        bright_above=take("bright_above", float, default.bright_above, low=-1, high=255),
        min_laplacian=take("min_laplacian", float, default.min_laplacian, low=0),
        min_sharpness=take("min_sharpness", float, default.min_sharpness, low=0),
        relative_sharpness=take("relative_sharpness", float, default.relative_sharpness, low=0, high=1),
        same=SameLimits(
            largest=take("same_largest", float, default.same.largest, low=0, high=255),
            mean=take("same_mean", float, default.same.mean, low=0, high=255),
        ),
        near_duplicates=take("near_duplicates", bool, default.near_duplicates),
        allowed=frozenset(part.texts("allow", choices=[one for one in REASONS if one != "unreadable"])),
    )
    part.done()
    return options


def _leaks(section: Section) -> LeakSpec:
    default, take = LeakSpec(), section.take
    options = LeakOptions(
        same=SameLimits(
            largest=take("same_largest", float, default.options.same.largest, low=0, high=255),
            mean=take("same_mean", float, default.options.same.mean, low=0, high=255),
        ),
        similar=take("similar", int, None, low=0, high=64),
        most=take("most", int, default.options.most, low=1),
    )
    drop = default.drop if section.raw("drop") is None else tuple(section.texts("drop", choices=KINDS))
    spec = LeakSpec(options=options, drop=drop, skip_problems=take("skip_problems", bool, False))
    section.done()
    return spec


def _mask(section: Section, *, most: float) -> MaskOptions:
    take = section.take
    options = MaskOptions(
        threshold=take("threshold", float, None),
        inverted=take("inverted", str, "none", choices=INVERSIONS),
        most=take("most", float, most),
    )
    section.done()
    check_options(options, threshold=section.name("threshold"), most=section.name("most"))
    return options


def _pair(section: Section, seed: int) -> tuple[PairOptions, EmbedSpec, bool]:
    take = section.take
    options = PairOptions(
        method=take("method", str, "nearest", choices=METHODS),
        among=take("among", int, 1, low=1),
        templates=take("templates", int, 1, low=1, high=64),
        other_views=take("other_views", bool, False),
        least=take("least_similarity", float, None, low=-1, high=1),
        seed=seed,
    )
    embed = EmbedSpec(
        model=take("embed", str, None),
        device=take("device", str, "auto"),
        dtype=take("dtype", str, "auto"),
        batch_size=take("batch_size", int, None, low=1),
    )
    skip = take("skip_unpaired", bool, False)
    section.done()
    if options.method == "random" and (embed.model or options.among > 1 or options.least is not None):
        raise UserError(
            f"{section.where}: the method random takes any template; remove embed, among and least_similarity"
        )
    return options, embed, skip


def _crop(section: Section, seed: int) -> CropOptions | None:
    value = section.raw("crop")
    if value is None or value is False:
        return None
    part = Section({"shares": value} if isinstance(value, str) else value, where=section.name("crop"))
    least, most = _named(part.name("shares"), parse_shares, part.take("shares", str))
    options = CropOptions(
        least=least,
        most=most,
        keep=part.take("keep", str, "all", choices=KEEP),
        margin=part.take("margin", int, 8, low=0),
        seed=seed,
    )
    part.done()
    return options


def _images(section: Section) -> ImageSpec:
    spec = ImageSpec(
        format=section.take("format", str, ImageSpec.format, choices=_FORMATS),
        quality=section.take("quality", int, 95, low=50, high=100),
        originals=section.take("originals", bool, False),
    )
    section.done()
    return spec


def _output(name: str, section: Section, datasets: Mapping[str, DatasetSpec], endpoint: bool) -> OutputSpec:
    spec = OutputSpec(
        name=name,
        datasets=tuple(section.texts("datasets", choices=tuple(datasets))),
        tasks=_tasks(section),
        amount=_amount(name, section),
        generator=section.take("generator", str, "", choices=("annotations", "endpoint")),
    )
    section.done()
    if not spec.datasets:
        raise UserError(f"{section.name('datasets')} is missing, expected some of {', '.join(datasets) or 'datasets'}")
    if spec.generator == "endpoint" and not endpoint:
        raise UserError(f"{section.name('generator')} is endpoint, but the recipe's generator is annotations")
    return spec


def _tasks(section: Section) -> dict[str, float]:
    value = section.raw("tasks")
    if isinstance(value, dict):
        part = section.section("tasks")
        tasks = {task: part.take(task, float, 0.0, low=0) for task in TASKS}
        part.done()
        tasks = {task: weight for task, weight in tasks.items() if weight}
    else:
        tasks = dict.fromkeys(section.texts("tasks", choices=TASKS), 1.0)
    if not tasks:
        raise UserError(f"{section.name('tasks')} is missing, expected some of {', '.join(TASKS)}")
    return {task: tasks[task] for task in TASKS if task in tasks}


def _amount(name: str, section: Section) -> int | None:
    value = section.raw("amount")
    if value is None:
        return default_amount(name) if name in names() else None
    if value == "all":
        return None
    return section.take("amount", int, low=1)


def _convert(name: str, section: Section) -> ConvertSpec:
    command = section.take("convert", str, choices=tuple(CONVERTERS))
    if CONVERTERS[command] != name:
        raise UserError(f"{section.name('convert')} is {command}, which writes the data set {CONVERTERS[command]}; "
                        f"name the output so, not {name}")  # fmt: skip
    options = section.section("options")
    for key in options:
        value = options.raw(key)
        if not isinstance(value, (str, int, float, bool)):
            raise UserError(f"{options.name(key)} is {short(value)}, expected a text, a number, true or false")
    spec = ConvertSpec(
        name=name,
        command=command,
        root=Path(section.take("root", str)),
        amount=_amount(name, section),
        options={key: options.raw(key) for key in options},
        skip_problems=section.take("skip_problems", bool, False),
    )
    section.done()
    return spec


def _generator(section: Section) -> tuple[EndpointSettings | None, bool]:
    kind = section.take("kind", str, "annotations", choices=("annotations", "endpoint"))
    if kind == "annotations":
        section.done()
        return None, False
    fallback = section.take("fallback", bool, False)
    prices = section.section("prices")
    given: dict[str, Any] = {
        "prices": Prices(
            prompt=prices.take("prompt", float, 0.0, low=0), completion=prices.take("completion", float, 0.0, low=0)
        ),
        "extra": {key: section.section("extra").raw(key) for key in section.section("extra")},
    }
    prices.done()
    kinds = {"str": str, "int": int, "float": float, "bool": bool}
    for one in dataclasses.fields(EndpointSettings):
        if one.name in given:
            continue
        kind_of = kinds[str(one.type).partition(" ")[0]]
        default = None if one.default is not dataclasses.MISSING else REQUIRED
        value = section.take(one.name, kind_of, default)
        if value is not None:
            given[one.name] = value
    section.done()
    if given.get("most_money") and not (given["prices"].prompt or given["prices"].completion):
        raise UserError(f"{section.name('most_money')}: no price is known; give prices.prompt and prices.completion, "
                        "in money for a million tokens")  # fmt: skip
    try:
        return EndpointSettings(**given), fallback
    except UserError as error:
        raise UserError(f"{section.where}: {error}") from None


def _named(where: str, parse, text: str):
    """`parse(text)` with the key's name in its message."""
    try:
        return parse(text)
    except UserError as error:
        raise UserError(f"{where} is {text!r}, expected {str(error).partition('expected ')[2]}") from None
