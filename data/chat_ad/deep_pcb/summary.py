"""Counts of a DeepPCB conversion, for people and for tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...jsonl import file_digest
from .source import CLASSES

__all__ = ["make_report", "summary"]

LICENCE = (
    "DeepPCB, MIT licence, copyright 2018 tangsanli5201, published for research "
    "(github.com/tangsanli5201/DeepPCB); what is written here is derived from it, keep the licence with it"
)


def make_report(output: Path, recipe: dict, pairs: dict[str, list[dict]], files: dict[str, list[dict]]) -> dict:
    """Everything worth counting, as JSON."""
    return {
        "recipe": recipe,
        "licence": LICENCE,
        "splits": {split: _split(sources) for split, sources in pairs.items()},
        "files": {
            f"{name}.jsonl": {
                "records": len(records),
                "anomalous": sum(record["anomalous"] for record in records),
                "tasks": dict(sorted(Counter(record["task"] for record in records).items())),
                "sha256": file_digest(output / f"{name}.jsonl"),
            }
            for name, records in files.items()
        },
    }


def summary(report: dict, output: Path) -> str:
    """What the command prints: a line for each split and file, and what a YAML has to say."""
    lines = []
    for split, counts in report["splits"].items():
        origins = ", ".join(f"{count} {origin}" for origin, count in counts["pairs"].items())
        dropped = len(counts["dropped"])
        lines.append(
            f"{split}: {counts['sources']} source pairs, {counts['defects']} defects ({dropped} dropped); "
            f"pairs written: {origins}"
        )
    lines += [f"{output / name}: {counts['records']} records" for name, counts in report["files"].items()]
    lines += [
        f"{output / 'report.json'}: counts, checksums, licence",
        "in a training YAML:",
        f"dataset_dir: {output}",
        f"media_dir: {output}",
        f"dataset: {next(iter(report['files'])).removesuffix('.jsonl')}",
    ]
    return "\n".join(lines)


def _split(sources: list[dict]) -> dict:
    cuts = [cut for source in sources for cut in source["cuts"]]
    shown = [(name, clipped) for cut in cuts for name, clipped in zip(cut["classes"], cut["clipped"], strict=True)]
    kinds = {kind: entry.name for kind, entry in CLASSES.items()}
    return {
        "sources": len(sources),
        "defects": sum(len(source["defects"]) for source in sources),
        "defects_by_class": _by_class(kinds[defect[4]] for source in sources for defect in source["defects"]),
        "pairs": dict(sorted(Counter(cut["origin"] for cut in cuts).items())),
        "boxes": len(shown),
        "boxes_by_class": _by_class(name for name, _ in shown),
        "boxes_clipped": sum(clipped for _, clipped in shown),
        # Each with its source: a defect that training never sees should be findable.
        "dropped": [
            {
                "source": source["source"],
                "box": source["defects"][entry["defect"]][:4],
                "class": kinds[source["defects"][entry["defect"]][4]],
                "reason": entry["reason"],
            }
            for source in sources
            for entry in source["dropped"]
        ],
    }


def _by_class(names) -> dict[str, int]:
    counts = Counter(names)
    return {entry.name: counts[entry.name] for entry in CLASSES.values()}
