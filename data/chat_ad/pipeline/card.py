"""README.md beside the files of a build: sources, counts, tasks, licences, limits, by its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ...cards import cell_text, read_card, write_card
from ...cli.saying import say

__all__ = ["write_data_card"]

_MARK = "<!-- written by adcopilot data build, anew at each build -->"
#: Hubs' own classes of sizes: below so many records.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_data_card(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write a build's card; a README.md that somebody else wrote stays as it is, and that is said.

    Args:
        manifest: of the build.
        folder: that it wrote.
    """
    if (folder / "README.md").exists() and _MARK not in read_card(folder)[0]:
        say(f"{folder / 'README.md'}: is not of a build and stays as it is; no card is written")
        return
    outputs, datasets = manifest["outputs"], manifest["datasets"]
    records = sum(one["records"] for one in outputs.values())
    front = {
        "license": "other",
        "task_categories": ["visual-question-answering"],
        "size_categories": [next((name for most, name in _SIZES if records < most), "n>1M")],
        "tags": ["adcopilot", "industrial-anomaly-detection"],
        "configs": [{"config_name": name, "data_files": f"{name}.jsonl"} for name in outputs],
    }
    about = (
        "Training data in Chat-AD's form (ShareGPT, a template before each query), made by `adcopilot data build` of "
        f"adcopilot {__version__}. `manifest.json` has the recipe, all counts and digests; `dataset_info.json` is "
        "LlamaFactory's."
    )
    lines = [_MARK, "", f"# {cell_text(', '.join(manifest['recipes']))}", "", about, ""]
    write_card(folder, front, [*lines, *_files(outputs), *_sources(datasets, outputs), *_limits(datasets, outputs)])


def _files(outputs: Mapping[str, Any]) -> list[str]:
    lines = ["## Files", "", "| file | records | tasks | answers by | recipe |", f"|{' --- |' * 5}"]
    for name, one in outputs.items():
        tasks = one["tasks"]
        told = ", ".join(f"{task} {count}" for task, count in tasks.items()) if isinstance(tasks, Mapping) else tasks
        whose = one.get("generator", "the source")
        columns = f"{cell_text(name)}.jsonl", one["records"], *map(cell_text, (told, whose, one["recipe"]))
        lines.append(f"| {' | '.join(map(str, columns))} |")
    return [*lines, ""]


def _sources(datasets: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[str]:
    lines = ["## Sources", "", "| source | images | normal | anomalous | pairs | licence |", f"|{' --- |' * 6}"]
    for name, one in datasets.items():
        counts = " | ".join(str(one[key]) for key in ("images", "normal", "anomalous", "pairs"))
        lines.append(f"| {cell_text(name)} ({cell_text(one['reader'])}) | {counts} | {cell_text(one['licence'])} |")
    for name, one in outputs.items():
        if "convert" in one:
            lines.append(f"| {cell_text(name)} ({cell_text(one['convert'])}) | | | | | {cell_text(one['licence'])} |")
    note = (
        "Licences are what is known to adcopilot of the sources; their own texts count, and hold for these files too."
    )
    return [*lines, "", note, ""]


def _limits(datasets: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[str]:
    lines = ["## Limits", ""]
    for name, one in datasets.items():
        listed = ", ".join(f"{reason} {count}" for reason, count in one["left_out"].items())
        lines += [f"- {cell_text(name)}: left out: {cell_text(listed)}."] if listed else []
    for name, one in outputs.items():
        wanted = one.get("wanted")
        short = isinstance(wanted, int) and one["records"] < wanted
        lines += [f"- {cell_text(name)}: {one['records']} records of {wanted} that were wanted."] if short else []
    return [
        *lines,
        "- Labels, masks and boxes are the sources' own; `adcopilot data report` shows records as a page.",
        "- Images are named relative to `media_dir` and are the sources': pass them on as their licences allow.",
    ]
