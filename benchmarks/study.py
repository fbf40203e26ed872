"""Does comparing pay? The recipe of `make demo` with the comparison encoder and without it, several seeds.

    python benchmarks/study.py --deeppcb data/raw/DeepPCB     (`make study`)

For each seed one sample set and three runs on it: with the encoder, its position encoding `rope2d` or `none`, and
without the encoder; all see the same samples. Each is asked about the sample set's four test sets, and, trained on for
a few hundred steps with windows of DeepPCB's training pairs, about those of its test pairs. The anomaly map stands
beside them. Steps leave marks and a seed's scores are kept: killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adcopilot.chat_ad.chain import ChainRun, ChainStep, tool  # noqa: E402
from adcopilot.jsonl import write_json  # noqa: E402
from adcopilot.sample.demo import (  # noqa: E402
    SIZE,
    TEST_SPLITS,
    VARIED_SPLITS,
    calibration_split,
    carry_out,
    demo_splits,
    plan,
)
from adcopilot.sample.generate import write_sample  # noqa: E402
from adcopilot.sample.measure import measure_model, read_sample_split  # noqa: E402
from adcopilot.sample.measure_map import measure_map  # noqa: E402
from benchmarks import machine  # noqa: E402

RESULT = ROOT / "docs" / "results" / "study"
BOARDS = "DeepPCB windows"
SAMPLE_SPLITS = {**TEST_SPLITS, **VARIED_SPLITS}
#: Pixels that the tiny model sees of a window of 112 x 112.
BOARD_PIXELS = SIZE * SIZE
BOARD_EPOCHS = 4
#: Test windows that are asked about, spread over the test boards.
BOARD_TESTS = 600

Numbers = dict[str, float]
#: title of a run → test set → balanced accuracy, AUROC, IoU
Found = dict[str, dict[str, Numbers]]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way to train: with the encoder, made with more `options` of `adcopilot init`, or without."""

    title: str
    encoder: bool = True
    options: tuple[str, ...] = ()


WITH = Condition(title="with comparison, rope2d")
NONE = Condition(title="with comparison, none", options=("--comparison-position-encoding", "none"))
WITHOUT = Condition(title="without comparison", encoder=False)
CONDITIONS = (WITH, NONE, WITHOUT)


def run_seed(
    output: Path,
    conditions: Sequence[Condition],
    *,
    seed: int,
    count: int,
    test_count: int,
    boards: Path | None = None,
    map_rows: bool = True,
) -> Found:
    """Scores by run and test set; kept in `output`, and read from there if they are complete.

    Args:
        output: folder of this seed.
        conditions: runs, side by side.
        seed: of the sample set, the encoder's weights and training.
        count, test_count: pairs to train on, and of each test set.
        boards: folder of `board_data`, for the last test.
        map_rows: whether the anomaly map is asked as well.
    """
    kept = output / "results.json"
    if kept.exists():
        return json.loads(kept.read_text())
    data, started = output / "data", time.monotonic()

    def say(line: str) -> None:
        print(f"seed {seed} [{(time.monotonic() - started) / 60:5.1f} min] {line}", file=sys.stderr, flush=True)

    splits = demo_splits(count, test_count=test_count)
    write_sample(data, splits, seed=seed, size=SIZE, workers=2, progress=say)
    runs = []
    for one in conditions:
        folder = output / one.title.replace(", ", "_").replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        steps = plan(folder, data, encoder=one.encoder, seed=seed, options=one.options)
        if boards:
            steps += board_steps(folder, boards, encoder=one.encoder, seed=seed)
        runs.append(ChainRun(name=one.title, folder=folder, steps=steps, cwd=ROOT))
    scores = carry_out(runs, data, say=say, tests=SAMPLE_SPLITS)
    found = {run: {split: asdict(one) for split, one in splits.items()} for run, splits in scores.items()}
    if boards:
        records = board_tests(boards)
        for run in runs:
            reached, _ = measure_model(run.folder / "boards_merged", boards, records)
            found[run.title][BOARDS] = asdict(reached)
            say(f"{run.title}, {BOARDS}: balanced accuracy {reached.balanced_accuracy:.3f}")
    for split in SAMPLE_SPLITS if map_rows else ():
        good = read_sample_split(data, calibration_split(split))
        for row, one in measure_map(data, read_sample_split(data, split), good).items():
            found.setdefault(row, {})[split] = asdict(one)
    if boards and map_rows:
        for row, one in measure_map(boards, board_tests(boards), read_sample_split(boards, "boards_train")).items():
            found.setdefault(row, {})[BOARDS] = asdict(one)
    write_json(kept, found, indent=1)
    return found


def board_data(root: Path, output: Path) -> Path:
    """Windows of DeepPCB with the question of `adcopilot inspect`: `boards_train.jsonl` and `boards_test.jsonl`."""
    command = [tool("adcopilot"), "data", "build", str(ROOT / "examples" / "data" / "deeppcb.yaml")]
    command += ["--output", str(output), "--set", f"defaults.root={root}"]
    outputs = {f"boards_{name}": {"datasets": f"deeppcb{end}", "tasks": "verdict"} for name, end in SETS.items()}
    command += ["--set", f"outputs={json.dumps(outputs)}"]
    step = ChainStep(name="windows", command=command, output=output)
    run = ChainRun(name="windows", folder=output.parent, steps=[step])
    run.run()
    if run.error:
        raise run.error
    return output


#: What a file of `board_data` holds → the end of its dataset's name in examples/data/deeppcb.yaml.
SETS = {"train": "", "test": "_test"}


def board_tests(boards: Path) -> list[dict]:
    """Every so manyeth record of the test windows, at most `BOARD_TESTS`."""
    records = read_sample_split(boards, "boards_test")
    return records[:: math.ceil(len(records) / BOARD_TESTS)]


def board_steps(folder: Path, boards: Path, *, encoder: bool, seed: int) -> list[ChainStep]:
    """The commands that train the run's model on with windows of boards, and export it."""
    adapter, merged = folder / "boards", folder / "boards_merged"
    template = [] if encoder else ["template=qwen2_vl"]
    train = [tool("llamafactory-cli"), "train", str(ROOT / "examples" / "train" / "tiny" / "stage1.yaml")]
    train += [f"model_name_or_path={folder / 'merged'}", f"output_dir={adapter}", f"dataset_dir={boards}"]
    train += [f"media_dir={boards}", "dataset=boards_train", f"image_max_pixels={BOARD_PIXELS}", f"seed={seed}"]
    train += [f"num_train_epochs={BOARD_EPOCHS}", "overwrite_cache=true", *template]
    train += [] if encoder else ["additional_target=null"]
    export = [tool("llamafactory-cli"), "export", str(ROOT / "examples" / "export" / "tiny.yaml")]
    export += [f"model_name_or_path={folder / 'merged'}", f"adapter_name_or_path={adapter}", f"export_dir={merged}"]
    return [
        ChainStep(name="boards", command=train, output=adapter),
        ChainStep(name="export boards", command=[*export, *template], output=merged),
    ]


def interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean of seeds and the ends of its 95 % interval (Student's t); None of fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean(values), mean(values) - half, mean(values) + half


def scores_table(results: Mapping[int, Found], words: Mapping[str, str]) -> list[str]:
    """A row for each run and test set: each seed's scores and their means."""
    seeds = [f"seed {seed}" for seed in results]
    lines = [f"| | pairs | {' | '.join(seeds)} | mean |", "|---|---|" + "---|" * (len(seeds) + 1)]
    for title in next(iter(results.values())):
        for split, name in words.items():
            cells = [[one[title][split][key] for key in KEYS] for one in results.values()]
            cells.append([mean(values) for values in zip(*cells, strict=True)])
            shown = [" / ".join(f"{value:.3f}" for value in cell) for cell in cells]
            lines.append(f"| {title} | {name} | {' | '.join(shown)} |")
    return lines


KEYS = ("balanced_accuracy", "auroc", "iou")


def differences(results: Mapping[int, Found], words: Mapping[str, str], first: str, second: str) -> list[str]:
    """Rows of `first` less `second`, AUROC: each seed's difference, and the mean with its interval."""
    lines = []
    for split, name in words.items():
        apart = [one[first][split]["auroc"] - one[second][split]["auroc"] for one in results.values()]
        found = interval(apart)
        said = "one seed has no interval" if found is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*found)
        lines.append(f"| {first} − {second} | {name} | {', '.join(f'{one:+.3f}' for one in apart)} | {said} |")
    return lines


def page(results: Mapping[int, Found], *, count: int, command: str) -> str:
    """The results as Markdown."""
    one = next(iter(results.values()))
    words = {**SAMPLE_SPLITS, BOARDS: BOARDS}
    words = {split: name for split, name in words.items() if split in one[WITH.title]}
    best = {}
    for split in words:
        rows = {row: mean(found[row][split]["auroc"] for found in results.values()) for row in one if "map" in row}
        if rows:
            best[split] = max(rows, key=rows.get)
    lines = [
        "# Does comparing pay?",
        "",
        f"`{command}`: the recipe of `make demo`, {count:,} training pairs a seed, the same samples for all runs",
        "of a seed. “Varied” pairs: loose parts, prints and light differ between good photographs",
        "([sample-variation.md](sample-variation.md)).",
        f"{BOARDS}: the run's model trained on for {BOARD_EPOCHS} epochs with windows of DeepPCB's training pairs,",
        f"asked about at most {BOARD_TESTS} windows of its test pairs; a window has 112 x 112 pixels, the model sees",
        f"{BOARD_PIXELS:,} of them, the map all.",
        "A tiny model of a million parameters: this says what comparing gives to it, and not what 7B would reach.",
        "",
        "Balanced accuracy / AUROC / BBox-Mask IoU on pairs never trained on:",
        "",
        *scores_table(results, words),
        "",
        "AUROC, one less the other. The interval is of the mean over seeds (Student's t, 95 %): the chance of",
        "training and of drawing the sets is in it together.",
        "",
        "| | pairs | seeds | mean (95 %) |",
        "|---|---|---|---|",
        *differences(results, words, WITH.title, WITHOUT.title),
        *differences(results, words, NONE.title, WITHOUT.title),
        *differences(results, words, WITH.title, NONE.title),
    ]
    for split, row in best.items():
        lines += differences(results, {split: words[split]}, WITH.title, row)
    return "\n".join([*lines, "", machine.here(), ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "study")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=60_000, help="training pairs, as the demo's (60000)")
    parser.add_argument("--test-count", type=int, default=500, help="pairs of each test set (500)")
    parser.add_argument("--deeppcb", type=Path, help="folder of DeepPCB; without it, its rows are left out")
    parser.add_argument("--result", type=Path, default=RESULT, help="where page and numbers go, without suffix")
    args = parser.parse_args(argv)
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    boards = board_data(args.deeppcb.resolve(), output / "boards") if args.deeppcb else None
    sizes = {"count": args.count, "test_count": args.test_count}
    results = {
        seed: run_seed(output / f"seed{seed}", CONDITIONS, seed=seed, boards=boards, **sizes) for seed in args.seeds
    }
    command = " ".join(["python benchmarks/study.py", *(argv if argv is not None else sys.argv[1:])])
    document = {"results": results, **sizes, "versions": machine.versions()}
    machine.write_result(args.result, document, page(results, count=args.count, command=command))


if __name__ == "__main__":
    main()
