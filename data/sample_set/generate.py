"""Writes sample sets to disk: images, masks, JSONL, LlamaFactory's registration and a manifest.

A set is made in shards of `SHARD` records. A shard's JSONL appears, by an atomic rename, only after its images, and a
shard that is there is not made again: a killed run goes on where it stopped, and several processes share the work.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from adcopilot.chat_ad.alone import alone_in
from adcopilot.chat_ad.runners import Runner, make_runner
from adcopilot.dataset_info import entry
from adcopilot.errors import UserError, writing
from adcopilot.jsonl import content_key, write_text
from adcopilot.sample.categories import HELD_OUT, TRAINED
from adcopilot.sample.conversations import (
    MIDDLE_TASKS,
    SHORT_TASKS,
    TASKS,
    THINKING_TASKS,
    VERIFIABLE_TASKS,
    pair_messages,
    pick_task,
)
from adcopilot.sample.pairs import LARGE, USUAL, WRONG, Difficulty, draw_pair, stream
from adcopilot.sample.scenes import draw_scene
from adcopilot.sample.shards import joined, write_once
from adcopilot.sample.variation import VARIATIONS, Variation

SHARD = 500
#: Raised when the same seed no longer gives the same pictures and texts.
VERSION = 2
#: Share of a lesson's records that repeat the lesson before.
REVIEW = 0.2


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a split, in its order: `share` of the records, and how hard their defects are to see."""

    share: float
    difficulty: Difficulty


@dataclass(frozen=True, kw_only=True)
class SampleSplit:
    """A set of records.

    Attributes:
        name: of the JSONL file and of the folder of images.
        count: records.
        number: keeps the random streams of splits apart; never reused.
        held_out: pairs of the categories that no training split has.
        inspect_only: every record asks the one question of `adcopilot inspect`, as test data do.
        single: single-image scenes for the stand-in pretraining, lesson after lesson.
        tasks: how often each task about a pair is drawn.
        favour: category -> weight of categories drawn more often than others (1).
        verifiable: records carry `answer` and `key`, as `adcopilot grpo` reads them; normal pairs are not localised.
        lessons: in the order of the records, which are not to be shuffled then; `REVIEW` of each lesson's records are
            as in the lesson before.
        variation: one of `VARIATIONS`, what its pairs differ in whatever the other splits do.
        varied: share of its pairs that do; the others are plain.
    """

    name: str
    count: int
    number: int
    held_out: bool = False
    inspect_only: bool = False
    single: bool = False
    tasks: dict[str, float] = field(default_factory=lambda: dict(TASKS))
    favour: dict[str, float] = field(default_factory=lambda: {"assembly": 3.0})
    verifiable: bool = False
    lessons: tuple[Stretch, ...] = (Stretch(share=1.0, difficulty=USUAL),)
    variation: str = "none"
    varied: float = 1.0

    def difficulty(self, rng: np.random.Generator, index: int) -> Difficulty:
        """Of the record `index`."""
        ends = np.cumsum([lesson.share for lesson in self.lessons])
        number = min(int(np.searchsorted(ends, index / self.count, side="right")), len(self.lessons) - 1)
        review = rng.random() < REVIEW and number > 0
        return self.lessons[number - review].difficulty


def standard_splits(count: int, *, test_count: int, variation: str = "none", varied: float = 1.0) -> list[SampleSplit]:
    """Stages 0, 1 and 2 with half, three eighths and the rest of `count`, a share `varied` of them in `variation`, and
    the two test sets, which are plain."""
    first, second = count // 2, count * 3 // 8
    lessons = (
        Stretch(share=0.25, difficulty=WRONG),
        Stretch(share=0.3, difficulty=LARGE),
        Stretch(share=0.45, difficulty=USUAL),
    )
    allowed = {"variation": variation, "varied": varied}
    return [
        SampleSplit(name="stage0", count=first, number=10, tasks=SHORT_TASKS, lessons=lessons, **allowed),
        SampleSplit(name="stage1", count=second, number=11, tasks=MIDDLE_TASKS, **allowed),
        SampleSplit(name="stage2", count=count - first - second, number=12, **allowed),
        SampleSplit(name="test_trained", count=test_count, number=20, inspect_only=True),
        SampleSplit(name="test_held_out", count=test_count, number=21, inspect_only=True, held_out=True),
    ]


def varied_splits(test_count: int) -> list[SampleSplit]:
    """The two test sets with parts and light varied, and 80 more pairs whose good half an anomaly map's threshold is
    found on: thresholds of good pairs that do not vary would call all of these defective."""
    counts = {"calibration_varied": 80, "test_trained_varied": test_count, "test_held_out_varied": test_count}
    return [
        SampleSplit(
            name=name,
            count=count,
            number=23 + k,
            inspect_only=True,
            held_out="held_out" in name,
            variation="parts+light",
        )
        for k, (name, count) in enumerate(counts.items())
    ]


def grpo_splits(count: int, *, test_count: int) -> list[SampleSplit]:
    """Thinking data to begin with, `count` prompts for GRPO, and prompts held out from it."""
    return [
        SampleSplit(name="thinking", count=count // 2, number=13, tasks=THINKING_TASKS),
        SampleSplit(name="rl", count=count, number=14, tasks=VERIFIABLE_TASKS, verifiable=True),
        SampleSplit(name="rl_test", count=test_count, number=22, tasks=VERIFIABLE_TASKS, verifiable=True),
    ]


def write_sample(
    output: Path,
    splits: Iterable[SampleSplit],
    *,
    seed: int = 0,
    size: int = 56,
    prefix: str = "",
    workers: int = 1,
    variation: str = "none",
    progress: Callable[[str], None] = lambda line: None,
) -> dict:
    """Makes `splits` under `output` and returns the manifest.

    Args:
        output: folder for `images/`, `masks/`, one JSONL a split, `dataset_info.json` and `manifest.json`.
        splits: what to make.
        seed: of all random choices.
        size: side of a pair's images in pixels.
        prefix: put before the paths in the records, for a `media_dir` above `output` ("sample/").
        workers: processes.
        variation: one of `VARIATIONS`, of the pairs of splits that have none of their own; not of single scenes.
        progress: called with a line after each split.

    Raises:
        UserError: the folder holds a set made with another seed, size, version or variation, or cannot be written
            to, or `size` is below 28.
    """
    if size < 28:
        raise UserError(f"--size is {size}, expected 28 or more: one merged patch of Qwen2.5-VL is 28 pixels wide")
    if variation not in VARIATIONS:
        raise UserError(f"--variation is {variation!r}, expected one of {', '.join(VARIATIONS)}")
    recipe = {"version": VERSION, "seed": seed, "size": size}
    if variation != "none":  # without it, sets are to the byte what they were before there was any
        recipe["variation"] = variation
        splits = [
            replace(split, variation=variation) if split.variation == "none" and not split.single else split
            for split in splits
        ]
    again = "make room and run the same command again, it goes on where it stopped"
    with (
        writing(output, again),
        alone_in(output, work=output / ".work", what="run"),
        make_runner(workers=workers) as runner,
    ):
        return _write(output, list(splits), recipe, prefix=prefix, runner=runner, progress=progress)


def _write(
    output: Path,
    splits: list[SampleSplit],
    recipe: dict,
    *,
    prefix: str,
    runner: Runner,
    progress: Callable[[str], None],
) -> dict:
    output.mkdir(parents=True, exist_ok=True)
    manifest_path = output / "manifest.json"
    manifest = {**recipe, "splits": {}}
    if manifest_path.exists():
        try:
            manifest = json.loads(manifest_path.read_bytes())
            manifest["splits"].items()
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            raise UserError(f"{manifest_path}: not a sample set's manifest; choose another --output") from None
        found = {key: manifest.get(key) for key in (*recipe, *("variation",) * ("variation" in manifest))}
        if found != recipe:
            raise UserError(f"{manifest_path}: holds {found}, expected {recipe}: choose another --output or remove it")
    else:
        write_text(manifest_path, json.dumps(manifest, indent=1) + "\n")
    for split in splits:
        make = partial(_write_shard, output, prefix, split, recipe["seed"], recipe["size"])
        lines = joined(runner, make, ((start,) for start in range(0, split.count, SHARD)))
        write_text(output / f"{split.name}.jsonl", lines)
        as_json = json.loads(json.dumps(asdict(split)))  # as it will be read again
        if split.variation == "none":
            del as_json["variation"]
        if split.varied == 1:
            del as_json["varied"]
        manifest["splits"][split.name] = {**as_json, "sha256": hashlib.sha256(lines.encode()).hexdigest()}
        write_text(manifest_path, json.dumps(manifest, indent=1) + "\n")
        progress(f"{split.name}: {split.count} records")
    names = manifest["splits"]
    write_text(output / "dataset_info.json", json.dumps({n: entry(f"{n}.jsonl") for n in names}, indent=2))
    return manifest


def _write_shard(output: Path, prefix: str, split: SampleSplit, seed: int, size: int, start: int) -> Path:
    stop = min(start + SHARD, split.count)
    make = _single_record if split.single else _pair_record
    records = (_prefixed(make(output, split, seed, size, index), prefix) for index in range(start, stop))
    return write_once(output / "shards" / f"{split.name}-{start:07d}-{stop:07d}.jsonl", records)


def _prefixed(record: dict, prefix: str) -> dict:
    record["images"] = [prefix + path for path in record["images"]]
    if record.get("mask"):
        record["mask"] = prefix + record["mask"]
    return record


def _pair_record(output: Path, split: SampleSplit, seed: int, size: int, index: int) -> dict:
    rng = stream(seed, split.number, index)
    names = list(HELD_OUT if split.held_out else TRAINED)
    # Half of the pairs are normal.
    if split.inspect_only:
        category, anomalous = names[(index // 2) % len(names)], index % 2 == 1
    else:
        weights = np.array([split.favour.get(name, 1.0) for name in names])
        category = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        anomalous = bool(rng.random() < 0.5)
    difficulty = split.difficulty(rng, index)
    # Of its own generator: a varied pair shows the same part in the same pose as the pair that is not varied.
    own = stream(seed, split.number, index, 1)
    varies = split.varied == 1 or own.random() < split.varied
    variation = Variation.named(split.variation if varies else "none", own)
    pair = draw_pair(
        rng, category=category, size=size, anomalous=anomalous, difficulty=difficulty, variation=variation
    )
    task = "inspect" if split.inspect_only else pick_task(rng, split.tasks)
    if split.verifiable and not anomalous and task == "locate":
        task = "judge"
    stem = f"{split.name}/{index // SHARD:03d}/{index:06d}"
    images = [f"images/{stem}_template.png", f"images/{stem}_query.png"]
    _save_png(output / images[0], pair.template)
    _save_png(output / images[1], pair.query)
    record = {
        "messages": pair_messages(rng, pair, task),
        "images": images,
        "task": task,
        "category": category,
        "anomalous": anomalous,
        "defect": pair.kind,
        "boxes": pair.boxes,
        "mask": None,
    }
    if anomalous:
        record["mask"] = f"masks/{stem}.png"
        _save_png(output / record["mask"], Image.fromarray(pair.mask))
    if split.verifiable:
        record["answer"] = record["messages"][-1]["content"]
        record["key"] = content_key(seed, split.number, index)
    return record


def _single_record(output: Path, split: SampleSplit, seed: int, size: int, index: int) -> dict:
    scene = draw_scene(stream(seed, split.number, index), place=index / split.count)
    image = f"images/{split.name}/{index // SHARD:03d}/{index:06d}.png"
    _save_png(output / image, scene.image)
    return {"messages": scene.messages, "images": [image], "task": scene.task}


def _save_png(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)
