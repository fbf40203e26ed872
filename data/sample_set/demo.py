"""`make demo`: the tiny model from start to finish with the stock LlamaFactory, and what it has learned.

    data      a sample set is drawn (`adcopilot data sample`)
    base      `adcopilot init --preset tiny`; the run without the comparison encoder takes the same base as it is
    stages    0, 1, 2 through `llamafactory-cli train`, the two runs side by side, one core each
    export    `llamafactory-cli export`
    measure   both answer the question of `adcopilot inspect` about pairs never trained on, and about pairs in which
              good parts differ more than any did in training (`adcopilot data sample --varied-tests`)
    inspect   `adcopilot inspect` draws one answer

Every step leaves a mark with its command; a demo that was killed goes on after the last finished one. The run without
the encoder has the same seed and sees the same samples: it has nothing to train in stage 0, so it reads that stage's
samples in its stage 1.
"""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from adcopilot.chat_ad.chain import ChainRun, ChainStep, run_step, tool
from adcopilot.errors import UserError
from adcopilot.model.init_command import TINY_BASE
from adcopilot.sample.generate import SampleSplit, standard_splits, varied_splits, write_sample
from adcopilot.sample.measure import Scores, measure_model, read_sample_split
from adcopilot.sample.measure_map import measure_map

ROOT = Path(__file__).resolve().parents[2]
TEST_SPLITS = {"test_trained": "trained categories", "test_held_out": "new categories"}
#: The same categories, with loose parts, prints and light varied.
VARIED_SPLITS = {"test_trained_varied": "trained, varied", "test_held_out_varied": "new, varied"}
TARGETS = {"test_trained": 0.90, "test_held_out": 0.80}
#: Share of the training pairs that vary so, from stage 0 on; the others are plain.
VARIED = 0.6
#: Side of the pairs' pictures in pixels, and comparison tokens of each: with 56 pixels, or the preset's 8 tokens, the
#: same steps find less (docs/tiny-recipe.md).
SIZE = 84
COMPARISON_TOKENS = 16
#: Seconds of a training step beside stage 0's, from runs on two cores: what is left of a training is estimated by it.
COSTS = {"stage0": 1.0, "stage1": 1.5, "stage2": 2.0}


def demo_splits(count: int, *, test_count: int) -> list[SampleSplit]:
    """What is trained on, a share `VARIED` of it varied; the four test sets; pairs to find a map's thresholds on."""
    training = standard_splits(count, test_count=test_count, variation="parts+light", varied=VARIED)
    calibration = SampleSplit(name="calibration", count=80, number=26, inspect_only=True)
    return [*training, *varied_splits(test_count), calibration]


def calibration_split(test: str) -> str:
    """The split whose good pairs a threshold for the test set `test` is found on: as varied as it, and not tested."""
    return "calibration_varied" if test in VARIED_SPLITS else "calibration"


def plan(folder: Path, data: Path, *, encoder: bool, seed: int, options: Sequence[str] = ()) -> list[ChainStep]:
    """The commands of one run: with the comparison encoder, made with more `options` of `adcopilot init`, or without
    it on the plain tiny base."""
    examples = ROOT / "examples"
    common = [f"dataset_dir={data}", f"media_dir={data}", f"seed={seed}", "overwrite_cache=true"]
    stages = {k: folder / f"stage{k}" for k in (0, 1, 2)}
    steps = []

    def train(stage: int, *overrides: str) -> None:
        yaml = str(examples / "train" / "tiny" / f"stage{stage}.yaml")
        command = [tool("llamafactory-cli"), "train", yaml, f"output_dir={stages[stage]}", *common, *overrides]
        steps.append(ChainStep(name=f"stage {stage}", command=command, output=stages[stage]))

    if encoder:
        base, start = folder / "base", stages[0]
        command = [tool("adcopilot"), "init", "--preset", "tiny", "--output", str(base), "--seed", str(seed)]
        command += ["--num-comparison-tokens", str(COMPARISON_TOKENS), *options]
        steps.append(ChainStep(name="init", command=command, output=base))
        extra = []
        train(0, f"model_name_or_path={base}", "dataset=stage0")
        first_data = "stage1"
    else:
        start = TINY_BASE
        extra = ["template=qwen2_vl", "additional_target=null"]
        first_data = "stage0,stage1"
    ordered = [] if encoder else ["disable_shuffling=true"]  # the lessons of stage 0 come first, in their order
    train(1, f"model_name_or_path={start}", f"dataset={first_data}", *extra, *ordered)
    adapters = f"{stages[1]},{stages[2]}"
    train(2, f"model_name_or_path={start}", f"adapter_name_or_path={stages[1]}", "dataset=stage2", *extra)
    steps.append(export_step("export", start, adapters, folder / "merged", *extra[:1]))
    return steps


def export_step(name: str, model: str | Path, adapters: str | Path, folder: Path, *more: str) -> ChainStep:
    """`llamafactory-cli export` of a tiny model with its adapters into `folder`; `more` settings of the YAML."""
    command = [tool("llamafactory-cli"), "export", str(ROOT / "examples" / "export" / "tiny.yaml")]
    command += [f"model_name_or_path={model}", f"adapter_name_or_path={adapters}", f"export_dir={folder}", *more]
    return ChainStep(name=name, command=command, output=folder)


def table(results: dict[str, dict[str, Scores]]) -> str:
    """The results as text: a row for each run and test set."""
    words = {**TEST_SPLITS, **VARIED_SPLITS}
    lines = [
        f"{'':24}{'categories':22}{'pairs':>6}{'balanced accuracy':>20}{'AUROC':>8}{'box IoU':>9}",
    ]
    for run, splits in results.items():
        for split, scores in splits.items():
            lines.append(
                f"{run:24}{words[split]:22}{scores.pairs:>6}{scores.balanced_accuracy:>20.3f}"
                f"{scores.auroc:>8.3f}{scores.iou:>9.3f}"
            )
            run = ""
    return "\n".join(lines)


def demo(*, output: Path, count: int, test_count: int, seed: int, encoder_only: bool = False) -> int:
    started = time.monotonic()

    def say(line: str) -> None:
        seconds = int(time.monotonic() - started)
        print(f"[{seconds // 60:02d}:{seconds % 60:02d}] {line}", flush=True)

    output = output.resolve()
    data = output / "data"
    workers = min(2, os.cpu_count() or 1)
    say(f"drawing {count} pairs for training and 4 x {test_count} for testing into {data}")
    splits = demo_splits(count, test_count=test_count)
    write_sample(data, splits, seed=seed, size=SIZE, workers=workers, progress=say)

    runs = []
    for name, folder, encoder in (
        ("with comparison", output / "with_encoder", True),
        ("without comparison", output / "without_encoder", False),
    ):
        if encoder or not encoder_only:
            folder.mkdir(parents=True, exist_ok=True)
            runs.append(
                ChainRun(name=name, folder=folder, steps=plan(folder, data, encoder=encoder, seed=seed), cwd=ROOT)
            )
    tests = {**TEST_SPLITS, **VARIED_SPLITS}
    results = carry_out(runs, data, say=say, tests=tests)
    for split in tests:
        good = read_sample_split(data, calibration_split(split))
        for row, scores in measure_map(data, read_sample_split(data, split), good).items():
            results.setdefault(row, {})[split] = scores
    report = {run: {split: asdict(s) for split, s in splits.items()} for run, splits in results.items()}
    (output / "results.json").write_text(json.dumps(report, indent=1) + "\n")

    picture = draw_example(output, data)
    say("done")
    print()
    print(table(results))
    print()
    for split, target in TARGETS.items():
        reached = results["with comparison"][split].balanced_accuracy
        verdict = "reached" if reached >= target else "NOT reached"
        print(f"target {target:.2f} on {TEST_SPLITS[split]}: {verdict} ({reached:.3f})")
    print(f"picture drawn by `adcopilot inspect`: {picture}")
    print()
    print(next_commands(output / "with_encoder" / "merged"))
    return 0


def next_commands(model: Path) -> str:
    """What to do with the model, to be typed where `make demo` was."""
    adcopilot, name = (os.path.relpath(path) for path in (tool("adcopilot"), model))
    return "\n".join([
        f"the model: {name}",
        "with your own pictures, its page, and a line of your own part that begins with it:",
        f"  {adcopilot} inspect --model {name} --template good.png --query test.png --draw out.png",
        f"  {adcopilot} demo --model {name}",
        f"  {adcopilot} adapt my_parts/bracket --base {name} --output lines/bracket",
    ])  # fmt: skip


def carry_out(
    runs: list[ChainRun], data: Path, *, say: Callable[[str], None], tests: dict[str, str] = TEST_SPLITS
) -> dict[str, dict[str, Scores]]:
    """Runs side by side to their end, and what each run's model reaches on `tests` (split → words for it).

    Raises:
        UserError: a step of one failed.
    """
    for run in runs:
        run.start()
    shown = None
    while any(run.is_alive() for run in runs):
        for run in runs:
            run.join(timeout=10)
            if run.error:
                raise run.error
        left = [seconds for run in runs if (seconds := time_left(run)) is not None]
        line = " | ".join(run.state() for run in runs)
        line += f" | about {max(left) / 60:.0f} min of training left" if left else ""
        if line != shown:
            say(line)
            shown = line
    for run in runs:
        if run.error:
            raise run.error

    results: dict[str, dict[str, Scores]] = {}
    for run in runs:
        results[run.title] = {}
        for split in tests:
            scores, answers = measure_model(run.folder / "merged", data, read_sample_split(data, split))
            results[run.title][split] = scores
            (run.folder / f"{split}.answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
            say(f"{run.title}, {tests[split]}: balanced accuracy {scores.balanced_accuracy:.3f}")
    return results


def time_left(run: ChainRun) -> float | None:
    """Seconds of a run's training that are left, at the pace of the stage that trains; None where none has logged yet.

    Args:
        run: its steps; the trainer writes `trainer_log.jsonl` into a stage's folder.
    """
    current, steps = run.current, list(run.steps)
    if current is None or not _work(current):
        return None
    try:
        log = json.loads((current.output / "trainer_log.jsonl").read_text().splitlines()[-1])
        done = log["current_steps"] / log["total_steps"]
        hours, minutes, seconds = map(int, log["elapsed_time"].split(":"))
        pace = (3600 * hours + 60 * minutes + seconds) / (_work(current) * done)
    except (OSError, LookupError, ValueError, ZeroDivisionError):
        return None
    return pace * (_work(current) * (1 - done) + sum(map(_work, steps[steps.index(current) + 1 :])))


def _work(step: ChainStep) -> float:
    """What a step trains on: its records, each by what it costs. Other sets than this one's (a study's) are trained on
    as in stage 1."""
    options = dict(word.split("=", 1) for word in step.command if "=" in word)
    folder, names = Path(options.get("dataset_dir", "")), options.get("dataset", "")
    records = sum(
        COSTS.get(name, COSTS["stage1"]) * _records(folder / f"{name}.jsonl") for name in names.split(",") if name
    )
    return records * float(options.get("num_train_epochs", 1))


@functools.cache
def _records(file: Path) -> int:
    with open(file, "rb") as lines:
        return sum(1 for _ in lines)


def draw_example(output: Path, data: Path) -> Path:
    """Draws the first defective pair of the new categories with `adcopilot inspect`, whatever the answer is."""
    records = read_sample_split(data, "test_held_out")
    template, query = next(record["images"] for record in records if record["anomalous"])
    picture = output / "example.png"
    command = [tool("adcopilot"), "inspect", "--model", str(output / "with_encoder" / "merged")]
    command += ["--template", str(data / template), "--query", str(data / query), "--draw", str(picture), "--json"]
    step = ChainStep(name="inspect", command=command, output=output / "example")
    run_step(step, output / "inspect.log", cwd=ROOT)
    return picture


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--count", type=int, default=60_000, help="training pairs (60000)")
    parser.add_argument("--test-count", type=int, default=500, help="pairs of each test set (500)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        return demo(output=args.output, count=args.count, test_count=args.test_count, seed=args.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
