"""Does it help a model to be told which places the anomaly map marks? The steps of `make demo`, with and without.

    python benchmarks/hints.py --deeppcb DIR    the 60,000 pairs of the demo, then windows of DeepPCB: about an hour
    python benchmarks/hints.py --count 4000     a try-out that says little: the model has hardly learned to compare

Two models are trained from one sample set, one on its records as they are, one with a hint in each question; both are
asked with and without hints, and beside them stands the map alone. With DeepPCB both are trained on with windows of
its training pairs, each in its way, and asked about those of its test pairs. Steps leave marks: killed, it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adcopilot.anomaly_map.comparing import Mapper, MapSettings  # noqa: E402
from adcopilot.anomaly_map.hints import HINT  # noqa: E402
from adcopilot.chat_ad.chain import ChainRun, ChainStep  # noqa: E402
from adcopilot.chat_ad.hinted import GOOD_PAIRS, record_map, threshold_of, with_map_hint  # noqa: E402
from adcopilot.inspect.judging import Judge  # noqa: E402
from adcopilot.inspect.map_inspector import MapInspector  # noqa: E402
from adcopilot.inspect.model_inspector import ModelInspector  # noqa: E402
from adcopilot.jsonl import write_text  # noqa: E402
from adcopilot.sample.demo import SIZE, TEST_SPLITS, plan  # noqa: E402
from adcopilot.sample.generate import standard_splits, write_sample  # noqa: E402
from adcopilot.sample.hints import hinted_name, write_hints  # noqa: E402
from adcopilot.sample.measure import Scores, read_sample_split, score_answers  # noqa: E402
from benchmarks import machine  # noqa: E402
from benchmarks.study import BOARDS, board_data, board_steps, board_tests  # noqa: E402

RESULT = ROOT / "docs" / "results" / "hints"
SETTINGS = MapSettings()
STAGES = ("stage0", "stage1", "stage2")
BOARDS_TOLD = "DeepPCB windows: both models trained on with windows of DeepPCB's training pairs, each in its way.\n"
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


def hinted_boards(boards: Path, output: Path) -> float:
    """The training windows of `study.board_data` with hints, under the same names in another folder; the map's
    threshold, from good ones."""
    mapper, records = Mapper(SETTINGS), read_sample_split(boards, "boards_train")
    good = (record_map(record, mapper, folder=boards) for record in records if not record["anomalous"])
    # some good windows have no map: they are their own templates
    threshold = threshold_of([found.pred_score for found in islice(filter(None, good), GOOD_PAIRS)])
    output.mkdir(parents=True, exist_ok=True)
    for name in ("images", "dataset_info.json"):
        if not (output / name).exists():
            (output / name).symlink_to(boards / name)
    if not (output / "boards_train.jsonl").exists():
        told = (with_map_hint(one, mapper, threshold=threshold, folder=boards) or one for one in records)
        text = "".join(json.dumps(one) + "\n" for one in told)
        write_text(output / "boards_train.jsonl", text)
    return threshold


def train(steps: dict[str, list[ChainStep]], output: Path, *, say) -> None:
    """The steps of both models, side by side.

    Args:
        steps: by the name of a model, whose folder in `output` they write to.
    """
    runs = []
    for name, these in steps.items():
        (output / name).mkdir(parents=True, exist_ok=True)
        runs.append(ChainRun(name=name, folder=output / name, steps=these, cwd=ROOT))
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


def ask(models: dict[str, Path], folder: Path, records: list[dict], *, threshold: float) -> dict[str, Scores]:
    """Scores by row of the table.

    Args:
        models: folders of `plain` and `hinted`.
        folder: that the records' images are relative to.
        threshold: of the map, as hints have it.
    """
    pairs, found = [tuple(folder / path for path in record["images"]) for record in records], {}
    for (name, hints), row in ROWS.items():
        options = {"map": SETTINGS, "hints": True} if hints else {}
        judge = Judge(map_threshold=threshold)
        inspector = ModelInspector(model=models[name], batch_size=100, max_new_tokens=120, judge=judge, **options)
        found[row] = score_answers(records, [one.to_dict() for one in inspector.inspect_many(pairs)])
    alone = MapInspector(map=SETTINGS, judge=Judge(source="map", map_threshold=threshold), device="cpu")
    found["the map alone"] = score_answers(records, [one.to_dict() for one in alone.inspect_many(pairs)])
    return found


def measure(
    output: Path, *, seed: int, count: int, test_count: int, workers: int, deeppcb: Path | None
) -> dict[str, dict[str, Scores]]:
    """Scores by test set and row of the table."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{(time.monotonic() - started) / 60:5.1f} min] {line}", file=sys.stderr, flush=True)

    data = output / "data"
    write_sample(
        data, standard_splits(count, test_count=test_count), seed=seed, size=SIZE, workers=workers, progress=say
    )
    threshold = write_hints(data, STAGES, workers=workers, progress=say)
    say(f"the map's threshold is {threshold:.4f}")
    folders = {"plain": data, "hinted": hinted_folder(data, output / "data_hinted")}
    train({name: plan(output / name, one, encoder=True, seed=seed) for name, one in folders.items()}, output, say=say)
    models, found = {name: output / name / "merged" for name in folders}, {}
    for split, title in TEST_SPLITS.items():
        found[title] = ask(models, data, read_sample_split(data, split), threshold=threshold)
        say(f"{title}: measured")
    if deeppcb:
        boards = board_data(deeppcb, output / "boards")
        threshold = hinted_boards(boards, output / "boards_hinted")
        say(f"windows: the map's threshold is {threshold:.4f}")
        folders = {"plain": boards, "hinted": output / "boards_hinted"}
        steps = {name: board_steps(output / name, one, encoder=True, seed=seed) for name, one in folders.items()}
        train(steps, output, say=say)
        models = {name: output / name / "boards_merged" for name in folders}
        found[BOARDS] = ask(models, boards, board_tests(boards), threshold=threshold)
    return found


def page(found: dict[str, dict[str, Scores]], *, count: int, test_count: int, command: str) -> str:
    """The results as Markdown."""
    lines = [
        "# Hints: a model that is told which places the anomaly map marks",
        "",
        f"`{command}`: the steps of `make demo` on {count:,} pairs, none of which varies;",
        f"{test_count} pairs of each test set, never trained on. Balanced accuracy / AUROC / BBox-Mask IoU, one seed.",
        "A hint is one sentence before the question:",
        f"“{HINT.format(boxes='[…]')}”; where the map is below its threshold it says that no place is marked.",
        "",
        *([BOARDS_TOLD] if BOARDS in found else []),
        f"| | {' | '.join(found)} |",
        "|---|" + "---|" * len(found),
    ]
    for row in next(iter(found.values())):
        cells = [
            f"{one[row].balanced_accuracy:.3f} / {one[row].auroc:.3f} / {one[row].iou:.3f}" for one in found.values()
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", machine.here(), ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "hints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60_000, help="training pairs, as the demo's (60000)")
    parser.add_argument("--test-count", type=int, default=500, help="pairs of each test set (500)")
    parser.add_argument("--deeppcb", type=Path, metavar="DIR", help="a copy of DeepPCB (its PCBData lies there)")
    parser.add_argument("--result", type=Path, default=RESULT, help="where page and numbers go, without suffix")
    args = parser.parse_args(argv)
    sizes = {"count": args.count, "test_count": args.test_count}
    workers = min(2, os.cpu_count() or 1)
    found = measure(args.output.resolve(), seed=args.seed, workers=workers, deeppcb=args.deeppcb, **sizes)
    command = " ".join(["python benchmarks/hints.py", *(argv if argv is not None else sys.argv[1:])])
    scores = {split: {row: asdict(one) for row, one in rows.items()} for split, rows in found.items()}
    document = {"results": scores, "seed": args.seed, **sizes, "versions": machine.versions()}
    machine.write_result(args.result, document, page(found, **sizes, command=command))


if __name__ == "__main__":
    main()
