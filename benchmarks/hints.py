"""Does it help a model to be told which places the anomaly map marks? The recipe of `make demo`, with and without.

    python benchmarks/hints.py                  the 60,000 pairs of the demo: not timed
    python benchmarks/hints.py --count 4000     a try-out that says little: the model has hardly learned to compare

Two models are trained from one sample set, one on its records as they are, one with a hint in each question; both are
asked with and without hints, and beside them stands the map alone. Steps leave marks: killed, it goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adcopilot.anomaly_map.comparing import MapSettings  # noqa: E402
from adcopilot.anomaly_map.hints import HINT  # noqa: E402
from adcopilot.chat_ad.chain import Run  # noqa: E402
from adcopilot.inspect.judging import Judge  # noqa: E402
from adcopilot.inspect.map_inspector import MapInspector  # noqa: E402
from adcopilot.inspect.model_inspector import ModelInspector  # noqa: E402
from adcopilot.sample.demo import SIZE, TEST_SPLITS, plan  # noqa: E402
from adcopilot.sample.generate import standard_splits, write_sample  # noqa: E402
from adcopilot.sample.hints import hinted_name, write_hints  # noqa: E402
from adcopilot.sample.measure import Scores, read_split, score_answers  # noqa: E402
from benchmarks import machine  # noqa: E402

RESULT = ROOT / "docs" / "results" / "hints"
SETTINGS = MapSettings()
STAGES = ("stage0", "stage1", "stage2")
ROWS = {
    ("plain", False): "trained without hints, asked without",
    ("plain", True): "trained without hints, asked with",
    ("hinted", False): "trained with hints, asked without",
    ("hinted", True): "trained with hints, asked with",
}


def hinted_folder(data: Path, output: Path) -> Path:
    """The sample set with its records with hints under the names that the demo's plan trains on; links, no copies."""
    output.mkdir(parents=True, exist_ok=True)
    names = {name: name for name in ("images", "masks", "dataset_info.json")}
    for name, there in (names | {f"{stage}.jsonl": f"{hinted_name(stage)}.jsonl" for stage in STAGES}).items():
        if not (output / name).exists():
            (output / name).symlink_to(data / there)
    return output


def train(folders: dict[str, Path], output: Path, *, seed: int, say) -> Iterator[tuple[str, Path]]:
    """Both models, side by side; (name, folder of the model)."""
    runs = []
    for name, data in folders.items():
        folder = output / name
        folder.mkdir(parents=True, exist_ok=True)
        runs.append(Run(name=name, folder=folder, steps=plan(folder, data, encoder=True, seed=seed), cwd=ROOT))
    for run in runs:
        run.start()
    shown = None
    while any(run.is_alive() for run in runs):
        for run in runs:
            run.join(timeout=5)
        line = " | ".join(run.state() for run in runs)
        if line != shown:
            say(line)
            shown = line
    for run in runs:
        if run.error:
            raise run.error
        yield run.title, run.folder / "merged"


def measure(output: Path, *, seed: int, count: int, test_count: int, workers: int) -> dict[str, dict[str, Scores]]:
    """Scores by row of the table and test split."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{(time.monotonic() - started) / 60:5.1f} min] {line}", file=sys.stderr, flush=True)

    data = output / "data"
    write_sample(
        data, standard_splits(count, test_count=test_count), seed=seed, size=SIZE, workers=workers, progress=say
    )
    threshold = write_hints(data, STAGES, workers=workers, progress=say)
    say(f"the map's threshold is {threshold:.4f}")
    judge = Judge(map_threshold=threshold)
    hinted = hinted_folder(data, output / "data_hinted")
    models = dict(train({"plain": data, "hinted": hinted}, output, seed=seed, say=say))
    found: dict[str, dict[str, Scores]] = {row: {} for row in ROWS.values()} | {"the map alone": {}}
    for split in TEST_SPLITS:
        records = read_split(data, split)
        pairs = [tuple(data / path for path in record["images"]) for record in records]
        for (name, hints), row in ROWS.items():
            options = {"map": SETTINGS, "hints": True} if hints else {}
            inspector = ModelInspector(model=models[name], batch_size=100, max_new_tokens=120, judge=judge, **options)
            found[row][split] = score_answers(records, [one.to_dict() for one in inspector.inspect_many(pairs)])
        alone = MapInspector(map=SETTINGS, judge=Judge(source="map", map_threshold=threshold), device="cpu")
        found["the map alone"][split] = score_answers(records, [one.to_dict() for one in alone.inspect_many(pairs)])
        say(f"{split} is measured")
    return found


def page(found: dict[str, dict[str, Scores]], *, count: int, test_count: int, command: str) -> str:
    """The results as Markdown."""
    lines = [
        "# Hints: a model that is told which places the anomaly map marks",
        "",
        f"`{command}`: the recipe of `make demo` with {count:,} pairs; {test_count} pairs of each test set, never",
        "trained on. Balanced accuracy / AUROC / BBox-Mask IoU, one seed. A hint is one sentence before the question:",
        f"“{HINT.format(boxes='[…]')}”; where the map is below its threshold it says that no place is marked.",
        "",
        f"| | {' | '.join(TEST_SPLITS.values())} |",
        "|---|---|---|",
    ]
    for row, splits in found.items():
        cells = [f"{one.balanced_accuracy:.3f} / {one.auroc:.3f} / {one.iou:.3f}" for one in splits.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", machine.here(), ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "hints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60_000, help="training pairs, as the demo's (60000)")
    parser.add_argument("--test-count", type=int, default=500, help="pairs of each test set (500)")
    parser.add_argument("--result", type=Path, default=RESULT, help="where page and numbers go, without suffix")
    args = parser.parse_args(argv)
    sizes = {"count": args.count, "test_count": args.test_count}
    workers = min(2, os.cpu_count() or 1)
    found = measure(args.output.resolve(), seed=args.seed, workers=workers, **sizes)
    command = " ".join(["python benchmarks/hints.py", *(argv if argv is not None else sys.argv[1:])])
    scores = {row: {split: asdict(one) for split, one in splits.items()} for row, splits in found.items()}
    document = {"results": scores, "seed": args.seed, **sizes, "versions": machine.versions()}
    machine.write_result(args.result, document, page(found, **sizes, command=command))


if __name__ == "__main__":
    main()
