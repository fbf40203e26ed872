"""What the DeepPCB converter writes: images of the cuts, records of the stages, LlamaFactory's registration."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
from PIL import Image

from ...dataset_info import entry
from ...errors import UserError
from ...images import open_image
from ...jsonl import atomic_write
from ...records import check_record, make_record
from ..cutting import CutRules, cut_pair, resize
from ..dialogues import STAGE_TASKS, Finding, View, turns
from .source import CLASSES, SourcePair

__all__ = ["SUBJECT", "registrations", "stage_records", "write_cuts"]

SUBJECT = "printed circuit board"
LABELS = [kind.label for kind in CLASSES.values()]


def write_cuts(
    rng: random.Random, pair: SourcePair, output: Path, folder: str, rules: CutRules, size: int | None
) -> dict:
    """Cut a pair, write the images under `output / folder` and return what `pairs.jsonl` says about it.

    Raises:
        UserError: an image is damaged, or cannot be written.
    """
    template, query = (np.asarray(open_image(path)) for path in (pair.template, pair.query))
    cuts, dropped = cut_pair(rng, pair, template, query, rules=rules)
    entries = []
    for index, cut in enumerate(cuts):
        names = [f"{folder}/{index:02d}_{role}.png" for role in ("template", "query")]
        small, boxes = resize(cut.query, cut.boxes, side=size)
        _save(output / names[0], resize(cut.template, (), side=size)[0])
        _save(output / names[1], small)
        entries.append(
            {
                "images": names,
                "size": [small.shape[1], small.shape[0]],
                "window": list(cut.window),
                "origin": cut.origin,
                "boxes": boxes,
                "classes": [CLASSES[pair.defects[index].kind].name for index in cut.indices],
                "defects": list(cut.indices),
                "clipped": list(cut.clipped),
            }
        )
    return {
        "source": pair.source,
        "defects": [[*defect.box, defect.kind] for defect in pair.defects],
        "cuts": entries,
        "dropped": [{"defect": entry.index, "reason": entry.reason} for entry in dropped],
    }


def stage_records(pairs: dict[str, list[dict]], *, seed: int) -> dict[str, list[dict]]:
    """The records of each file by its name, from what `pairs.jsonl` says about each split's sources.

    Training files are shuffled, because `max_samples` takes the first ones; the test file keeps the list's order.
    """
    files: dict[str, list[dict]] = {}
    for split, stages in (("train", ("stage0", "stage1", "stage2")), ("test", ("test",))):
        for stage in stages if split in pairs else ():
            name = f"deeppcb_{stage}"
            files[name] = [
                _record(random.Random(f"{seed}:{stage}:{source['key']}:{index}"), source, cut, stage)
                for source in pairs[split]
                for index, cut in enumerate(source["cuts"])
            ]
            if split == "train":
                random.Random(f"{seed}:{stage}").shuffle(files[name])
    return files


def registrations(output: Path, names: list[str]) -> None:
    """Add the files to `output`'s `dataset_info.json`, keeping what else it registers.

    Raises:
        UserError: there is such a file, and it is not a JSON object.
    """
    path = output / "dataset_info.json"
    entries = {}
    if path.exists():
        try:
            entries = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, dict):
            raise UserError(f"{path}: not a JSON object, expected LlamaFactory's registrations; repair or remove it")
    entries |= {name: entry(f"{name}.jsonl") for name in names}
    atomic_write(path, lambda file: file.write((json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode()))


def _record(rng: random.Random, source: dict, cut: dict, stage: str) -> dict:
    tasks = STAGE_TASKS[stage]
    task = rng.choices(list(tasks), weights=list(tasks.values()))[0]
    labels = {entry.name: entry.label for entry in CLASSES.values()}
    named = [labels[name] for name in cut["classes"]]
    findings = [Finding(box=tuple(box), label=label) for box, label in zip(cut["boxes"], named, strict=True)]
    view = View(subject=SUBJECT, size=tuple(cut["size"]), findings=findings)
    record = make_record(
        images=cut["images"],
        turns=turns(rng, view, task, labels=LABELS),
        task=task,
        category=SUBJECT,
        anomalous=bool(findings),
        boxes=cut["boxes"],
        labels=named,
        source={
            "dataset": "DeepPCB",
            "file": source["source"],
            "split": source["split"],
            "window": cut["window"],
            "origin": cut["origin"],
        },
    )
    check_record(record, name=cut["images"][1], sizes=[tuple(cut["size"])] * 2)
    return record


def _save(path: Path, array: np.ndarray) -> None:
    # The sources are grey; a third of the bytes says the same.
    if (array == array[..., :1]).all():
        array = array[..., 0]
    # Renamed into place, so that a killed run leaves no half image; not synced, as that would take minutes.
    # After a power failure an image may be empty: a resumed run looks for that.
    part = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(array)).save(part, "png")
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or name another folder"
        ) from None
