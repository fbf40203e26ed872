"""`make demo-grpo`: stage 3 with the tiny model of `make demo`, several seeds and Table VI's switches, with its curve.

    data       prompts with verifiable answers and answers with reasons (`adcopilot data sample --rl`)
    thinking   a short fine-tuning on the answers with reasons, exported
    seeds      `adcopilot grpo examples/grpo/tiny.yaml`, once a seed
    switches   the same without the box reward, and without the choice reward
    export     `llamafactory-cli export` of the first seed's adapter: the thinking model

Every step leaves a mark with its command. What was killed goes on after the last finished one, in GRPO's runs after
the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from statistics import mean, stdev

from adcopilot.chat_ad.chain import ChainStep, run_step, tool
from adcopilot.errors import UserError
from adcopilot.pages.charts import Point, Series, line_plot
from adcopilot.sample.demo import ROOT, SIZE, export_step
from adcopilot.sample.generate import grpo_splits, write_sample

SWITCHES = {"w/o bbox reward": "bbox_reward=false", "w/o choice reward": "choice_reward=false"}
COLUMNS = {"eval_reward": "reward", "eval_rewards/format/mean": "format", "eval_rewards/choice/mean": "choice",
           "eval_rewards/boxes/mean": "boxes"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Held-out means of one run: step -> column -> mean; the seconds it took; and those of a step's parts."""

    name: str
    steps: dict[int, dict[str, float]]
    seconds: float
    parts: dict[str, float]


def plan(output: Path, base: Path, data: Path, *, seeds: list[int], overrides: list[str]) -> list[ChainStep]:
    """The commands in order."""
    examples, start = ROOT / "examples", output / "start"
    where = [f"dataset_dir={data}", f"media_dir={data}"]
    train = [tool("llamafactory-cli"), "train", str(examples / "train" / "tiny" / "thinking.yaml"), *where]
    train += [
        "dataset=thinking",
        f"model_name_or_path={base}",
        f"output_dir={output / 'thinking'}",
        "overwrite_cache=true",
    ]
    steps = [ChainStep(name="thinking", command=train, output=output / "thinking")]

    def grpo(name: str, folder: Path, *settings: str) -> None:
        command = [tool("adcopilot"), "grpo", str(examples / "grpo" / "tiny.yaml"), f"model_name_or_path={start}"]
        command += [*where, "dataset=rl", "eval_dataset=rl_test", f"output_dir={folder}", *settings, *overrides]
        steps.append(ChainStep(name=name, command=command, output=folder, resumes=True))

    steps.append(export_step("export start", base, output / "thinking", start))
    for seed in seeds:
        grpo(f"seed {seed}", output / f"seed{seed}", f"seed={seed}")
    for name, setting in SWITCHES.items():
        grpo(name, _switched(output, name), f"seed={seeds[0]}", setting)
    steps.append(export_step("export", start, output / f"seed{seeds[0]}", output / "merged"))
    return steps


def _switched(output: Path, name: str) -> Path:
    """The folder of a run without one of the rewards."""
    return output / name.replace("/", "").replace(" ", "_")


def read_curve(name: str, folder: Path) -> Curve:
    """Held-out means of a finished run.

    Raises:
        UserError: its `trainer_state.json` cannot be read.
    """
    file = folder / "trainer_state.json"
    try:
        history = json.loads(file.read_text())["log_history"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file}: cannot be read ({error}); remove {folder}.done and run again") from None
    steps = {
        row["step"]: {short: row[key] for key, short in COLUMNS.items() if key in row}
        for row in history
        if "eval_reward" in row
    }
    seconds = next((row["train_runtime"] for row in history if "train_runtime" in row), 0.0)
    timed = [row for row in history if "seconds/step" in row]
    parts = {part: mean(row[f"seconds/{part}"] for row in timed) for part in ("step", "rollout", "reward") if timed}
    return Curve(name=name, steps=steps, seconds=seconds, parts=parts)


def svg(curves: list[Curve]) -> str:
    """Held-out reward by step, a line a run."""
    lines = [
        Series(name=curve.name, points=[Point(x=step, y=row["reward"]) for step, row in sorted(curve.steps.items())])
        for curve in curves
    ]
    return line_plot("Held-out reward by step", lines, x_label="step", y_label="mean reward")


def report(curves: list[Curve], *, seeds: int, command: str, hardware: str) -> str:
    """The results page."""
    seeded = curves[:seeds]

    def row(name: str, values: dict[str, float]) -> str:
        told = [f"{values[key]:.3f}" if key in values else "–" for key in COLUMNS.values()]
        return f"| {' | '.join([name, *told])} |"

    head = "| run | " + " | ".join(COLUMNS.values()) + " |\n|" + "---|" * (len(COLUMNS) + 1)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl"))
    first, last = [[curve.steps[pick(curve.steps)] for curve in seeded] for pick in (min, max)]
    lines = [
        "# GRPO with the tiny model",
        "",
        f"`{command}`, {date.today()}, {hardware}; {versions}.",
        "",
        "Means over held-out prompts, sampled at temperature 1 with the same random numbers each time: `reward` is",
        "equation 1 with lambda 1, `format`, `choice` and `boxes` are its terms, each over the prompts it applies to.",
        "",
        "![held-out reward by step](grpo-tiny.svg)",
        "",
        head,
        *[row(f"{curve.name}, before", values) for curve, values in zip(seeded, first, strict=True)],
        *[row(f"{curve.name}, after {max(curve.steps)} steps", curve.steps[max(curve.steps)]) for curve in curves],
        "",
    ]
    if seeds > 1:
        gains = [after["reward"] - before["reward"] for before, after in zip(first, last, strict=True)]
        lines.append(f"Gain in reward over {seeds} seeds: {mean(gains):+.3f} (standard deviation {stdev(gains):.3f}).")
    lines.append("Without one of the rewards, that column is not logged, and `reward` is the sum of what is left.")
    parts = seeded[0].parts
    if parts:
        rest = parts["step"] - parts["rollout"] - parts["reward"]
        lines += [
            "",
            f"Seconds of a training step ({seeded[0].name}, transformers' rollouts), on average: {parts['step']:.2f},",
            f"of which rollout {parts['rollout']:.2f}, reward {parts['reward']:.3f}, forward and backward {rest:.2f}.",
        ]
    minutes = ", ".join(f"{curve.name} {curve.seconds / 60:.1f}" for curve in curves)
    lines += ["", f"Minutes of each run, evaluations included: {minutes}.", ""]
    return "\n".join(lines)


def demo(
    *, output: Path, base: Path, seeds: list[int], count: int, overrides: list[str], results: Path | None
) -> None:
    """All steps, and the page of their results."""
    if not (base / "config.json").is_file():
        raise UserError(f"{base}: no trained tiny model; run `make demo` first")
    data = output / "data"
    write_sample(data, grpo_splits(count, test_count=256), seed=0, size=SIZE, progress=say)
    for step in plan(output, base, data, seeds=seeds, overrides=overrides):
        start = time.monotonic()
        run_step(step, output / f"{step.output.name}.log", cwd=ROOT)
        say(f"{step.name}: done ({time.monotonic() - start:.0f} s)")
    named = {f"seed {seed}": output / f"seed{seed}" for seed in seeds}
    named.update({name: _switched(output, name) for name in SWITCHES})
    curves = [read_curve(name, folder) for name, folder in named.items()]
    hardware = f"{os.cpu_count()} cores ({platform.machine()})"
    text = report(curves, seeds=len(seeds), command="make demo-grpo", hardware=hardware)
    for folder in filter(None, (output, results)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "grpo-tiny.md").write_text(text)
        (folder / "grpo-tiny.svg").write_text(svg(curves[: len(seeds)]))  # the others' rewards are other sums
    print(text)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-grpo", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("outputs/demo/grpo"))
    parser.add_argument("--base", type=Path, default=Path("outputs/demo/with_encoder/merged"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=6000, help="prompts (6000)")
    parser.add_argument("--results", type=Path, help="also write the page there")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for examples/grpo/tiny.yaml")
    args = parser.parse_args()
    try:
        demo(
            output=args.output,
            base=args.base,
            seeds=args.seeds,
            count=args.count,
            overrides=args.overrides,
            results=args.results,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
