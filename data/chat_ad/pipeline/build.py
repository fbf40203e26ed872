"""From a recipe to files that LlamaFactory trains on.

    DIR/NAME.jsonl                  the records of an output, in the order of the draw
    DIR/NAME.dropped.jsonl          samples that were wanted and not made, with the reason
    DIR/datasets/SET.dropped.jsonl  images of a dataset that are in no pair, with step and reason
    DIR/datasets/SET.leaks.json     images of a dataset that are in an evaluation set, where the recipe names some
    DIR/images/SET, DIR/masks/SET   what the records name, named by their content
    DIR/dataset_info.json           LlamaFactory's registrations
    DIR/manifest.json               recipe, seed, versions, counts, digests
    DIR/README.md                   the card of the data set: sources, counts, tasks, licences, limits
    DIR/answers/                    what an endpoint was paid for, and cost.json; kept for ever
    DIR/.work/                      finished shards; may be deleted after a build, the next one then starts anew

All but the last two have the same bytes however often the build was killed, and wherever its shards were made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ... import __version__
from ...cli.saying import say
from ...dataset_info import add_entries, entry
from ...errors import UserError
from ...jsonl import content_key, write_json, write_jsonl
from ..alone import alone_in
from ..readers import READERS, why_no_folder
from ..recipe.specs import Recipe
from ..runners import Runner, make_runner
from .against import measure_against, write_leaks
from .card import write_data_card
from .dataset import UNTIL, DatasetBuild, Place, problems_line
from .general_outputs import convert_arguments, convert_output
from .hints import open_mapper
from .output import OutputBuild, Writers
from .tables import write_tables

__all__ = ["build"]

_MANIFEST = "manifest.json"

#: Packages whose versions may show in the bytes.
_PACKAGES = ("numpy", "pillow", "pyarrow", "scipy", "faiss-cpu", "ImageHash", "jinja2")


def build(
    recipe: Recipe,
    output: Path,
    *,
    workers: int = 1,
    ray: bool = False,
    skip_missing: bool = False,
    until: str | None = None,
) -> dict[str, Any]:
    """Write the files described above and return the manifest.

    Args:
        recipe: checked (`recipes.load_recipe`).
        output: the folder DIR.
        workers: processes that make shards.
        ray: make them on Ray instead.
        skip_missing: leave out datasets whose folder is not there, and the outputs of which nothing is left.
        until: write the tables of `tables` up to this step instead of outputs, registrations and manifest; what is
            returned has lines about them in `tables`.

    Raises:
        UserError: one line; what is finished is kept for the next run.
    """
    if until is not None:
        recipe = recipe.model_copy(update={"outputs": {}, "converts": {}})
    recipe, skipped = _present(recipe, skip_missing)
    place, tables = _check_output(recipe, output), output / "datasets"
    recipe, output = _absolute(recipe), output.absolute()
    with alone_in(output, work=output / ".work", what="build"):
        datasets = {
            name: DatasetBuild(spec=spec, place=place, seed=recipe.seed, leaks=recipe.leaks)
            for name, spec in recipe.datasets.items()
        }
        for spec in recipe.converts.values():
            convert_arguments(spec, seed=recipe.seed, output=output, media_dir=place.media_dir)
        _preflight(recipe, datasets, output, until)
        with (
            Writers(recipe=recipe, answers=output / "answers") as writers,
            make_runner(workers=workers, ray=ray) as runner,
        ):
            _run_datasets(recipe, datasets, runner, place, until)
            outputs = _run_outputs(recipe, datasets, writers, runner, place)
        result = {"datasets": {name: dataset.counts for name, dataset in datasets.items()}, "outputs": outputs}
        manifest = _manifest(recipe, result, place, skipped)
        if until is not None:
            return {**manifest, "tables": write_tables(datasets, tables, until)}
        _finish(recipe, manifest, output)
        return manifest


def _run_datasets(
    recipe: Recipe, datasets: Mapping[str, DatasetBuild], runner: Runner, place: Place, until: str | None
) -> None:
    """All steps of all datasets."""
    skip = recipe.leaks.skip_problems
    sets = () if until == "index" else recipe.against
    against = [measure_against(path, place.work, runner, skip_problems=skip) for path in sets]
    for name, dataset in datasets.items():
        dataset.against = against
        try:
            dataset.run(runner, until or UNTIL[-1])
        finally:
            _list_dropped(dataset, place.output, name)
        path, images = place.output / "datasets" / f"{name}.leaks.json", dataset.counts["images"]
        path.unlink(missing_ok=True)  # of another recipe
        if dataset.leaked:
            write_leaks(path, dataset.leaked, table=name, images=images, against=against, leaks=recipe.leaks)


def _run_outputs(
    recipe: Recipe, datasets: Mapping[str, DatasetBuild], writers: Writers, runner: Runner, place: Place
) -> dict[str, dict[str, Any]]:
    """All outputs; their entries of the manifest."""
    found = {}
    for name, spec in recipe.outputs.items():
        used = {one: datasets[one] for one in spec.datasets}
        one = OutputBuild(spec=spec, recipe=recipe, place=place, datasets=used, writers=writers, runner=runner)
        found[name] = one.run()
        say(f"{name}: {found[name]['records']} records")
    for name, spec in recipe.converts.items():
        found[name] = convert_output(spec, seed=recipe.seed, output=place.output, media_dir=place.media_dir)
    return found


def _finish(recipe: Recipe, manifest: Mapping[str, Any], output: Path) -> None:
    """Register the outputs and write the manifest."""
    names = [*recipe.outputs, *recipe.converts]
    entries = {name: entry(f"{name}.jsonl", images=name != "OLMo-2-SFT") for name in names}
    add_entries(output / "dataset_info.json", entries, replace=True)
    write_json(output / _MANIFEST, manifest, indent=1, default=str)
    write_data_card(manifest, output)


def _manifest(recipe: Recipe, result: Mapping[str, Any], place: Place, skipped: list[str]) -> dict[str, Any]:
    """The manifest, in which those of other recipes in the folder stay."""
    order = [*recipe.outputs, *recipe.converts]
    versions = {"adcopilot": __version__} | {name: _version(name) for name in _PACKAGES}
    own = {
        "recipe": recipe.name,
        "recipe_digest": content_key(recipe.text),
        "seed": recipe.seed,
        "media_dir": "." if recipe.media_dir is None else os.path.relpath(place.media_dir, place.output),
        "versions": versions,
        "skipped": skipped,
        "max_left_out": recipe.max_left_out,
        "values": recipe.text,
    }
    before = _read_manifest(place.output / _MANIFEST)
    outputs = {
        name: one for name, one in before.get("outputs", {}).items() if (place.output / f"{name}.jsonl").is_file()
    }
    outputs |= {name: {"recipe": recipe.name, **result["outputs"][name]} for name in order}
    manifest = {
        "format": 1,
        "recipes": {**before.get("recipes", {}), recipe.name: own},
        "datasets": {**before.get("datasets", {}), **result["datasets"]},
        "outputs": dict(sorted(outputs.items())),
    }
    for part in ("recipes", "datasets"):
        manifest[part] = dict(sorted(manifest[part].items()))
    manifest["data_digest"] = content_key([[name, one["sha256"]] for name, one in manifest["outputs"].items()])
    return manifest


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); it is no manifest of a build: remove it") from None
    if not isinstance(found, dict) or found.get("format") != 1:
        raise UserError(f"{path}: not a manifest of this version of `adcopilot data build`; choose another --output")
    return found


def _present(recipe: Recipe, skip_missing: bool) -> tuple[Recipe, list[str]]:
    """The recipe without what is not on this disk, and the names of that."""
    gone = {f"datasets.{name}": one for name, one in recipe.datasets.items() if not one.root.is_dir()}
    gone |= {f"outputs.{name}": one for name, one in recipe.converts.items() if not one.root.is_dir()}
    if not gone:
        return recipe, []
    if not skip_missing:
        named = "; ".join(f"{key}.root is {one.root}: {why_no_folder(one.root)}" for key, one in gone.items())
        raise UserError(
            f"{named}; correct the recipe (or --set {next(iter(gone))}.root=DIR), or build what is "
            "there by --skip-missing"
        )
    datasets = {name: one for name, one in recipe.datasets.items() if f"datasets.{name}" not in gone}
    outputs = {}
    for name, one in recipe.outputs.items():
        left = tuple(dataset for dataset in one.datasets if dataset in datasets)
        if left:
            outputs[name] = one.model_copy(update={"datasets": left})
    converts = {name: one for name, one in recipe.converts.items() if f"outputs.{name}" not in gone}
    if not datasets and not converts:
        raise UserError(f"none of the folders of {recipe.name} is there; correct the roots in the recipe")
    skipped = [*gone, *(f"outputs.{name}" for name in recipe.outputs if name not in outputs)]
    return recipe.model_copy(update={"datasets": datasets, "outputs": outputs, "converts": converts}), skipped


def _absolute(recipe: Recipe) -> Recipe:
    """The recipe with full paths: a worker on another machine may stand elsewhere."""
    datasets = {}
    for name, one in recipe.datasets.items():
        pair = one.pair
        if pair.embed is not None and Path(pair.embed).is_dir():
            pair = pair.model_copy(update={"embed": str(Path(pair.embed).absolute())})
        datasets[name] = one.model_copy(update={"root": one.root.absolute(), "pair": pair})
    converts = {name: one.model_copy(update={"root": one.root.absolute()}) for name, one in recipe.converts.items()}
    prompts = None if recipe.prompts is None else recipe.prompts.absolute()
    against = tuple(path.absolute() for path in recipe.against)
    changes = {"datasets": datasets, "converts": converts, "prompts": prompts, "against": against}
    return recipe.model_copy(update=changes)


def _check_output(recipe: Recipe, output: Path) -> Place:
    """Where to work; places that cannot are refused before anything is written."""
    media_dir = recipe.media_dir or output
    real, base = output.resolve(), media_dir.resolve()
    if not real.is_relative_to(base):
        raise UserError(
            f"--output {output}: not inside media_dir {media_dir}, which names of images are relative to; choose a "
            "folder in it, or remove media_dir from the recipe"
        )
    for name, spec in recipe.datasets.items():
        # Of records only the files that are named are read.
        if not READERS[spec.reader].built and real.is_relative_to(spec.root.resolve()):
            raise UserError(f"--output {output}: inside datasets.{name}.root {spec.root}, expected one outside it")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file, expected a folder")
    for path in recipe.against:
        if not path.exists():
            raise UserError(f"against: {path}: no such folder or table; correct the recipe, or remove it there")
    _read_manifest(output / _MANIFEST)
    prefix = real.relative_to(base).as_posix()
    return Place(
        output=output.absolute(),
        media_dir=media_dir.absolute(),
        prefix="" if prefix == "." else f"{prefix}/",
        marked=recipe.endpoint is not None and recipe.endpoint.marked,
        shard_images=recipe.shard_images,
    )


def _preflight(recipe: Recipe, datasets: Mapping[str, DatasetBuild], output: Path, until: str | None) -> None:
    """Look at all layouts before the first image is opened."""
    for name, dataset in datasets.items():
        total = dataset.preflight()
        say(f"{name}: {total} images found in {dataset.spec.root}")
    for name, dataset in datasets.items():
        blocking = [problem for problem in dataset.source.problems if problem.blocking]
        if blocking and not dataset.spec.skip_problems:
            _list_dropped(dataset, output, name)
            raise UserError(problems_line(dataset.spec, blocking))
    for name, dataset in datasets.items():
        if until in (None, "pair") and not dataset.labels["normal"] and not dataset.spec.pair.skip_unpaired:
            raise UserError(f"{_only(name, dataset)} defective, and nothing says which are good: there is nothing to "
                            "compare them with; add a folder of good parts")  # fmt: skip
    for spec in recipe.outputs.values():
        if spec.hints is not None and spec.hints.backbone is not None:
            open_mapper(spec.hints.settings())
    for name, spec in recipe.outputs.items():
        if not any(datasets[one].labels["anomalous"] for one in spec.datasets):
            first = _only(spec.datasets[0], datasets[spec.datasets[0]])
            raise UserError(f"outputs.{name}: {first} good: a model would learn to answer that nothing is ever wrong; "
                            "add a folder of defective parts")  # fmt: skip


def _only(name: str, dataset: DatasetBuild) -> str:
    """`all 20 images of my_parts (data/raw/my_parts) are`, and what was left out beside them."""
    count = dataset.labels.total()
    left_out = sum(problem.count for problem in dataset.source.problems if problem.blocking)
    beside = f" (beside {left_out} that cannot be used)" if left_out else ""
    return f"all {count} images{beside} in {dataset.spec.root}, datasets.{name}, are"


def _list_dropped(dataset: DatasetBuild, output: Path, name: str) -> None:
    write_jsonl(output / "datasets" / f"{name}.dropped.jsonl", dataset.dropped())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
