"""Step time of stock `llamafactory-cli train`: AD-Copilot against Qwen2.5-VL of the same size on the same samples."""

import ast
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "examples" / "train" / "tiny" / "stage1.yaml"
#: The first steps of a run also pay for caches and thread pools.
WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A checkpoint, and what the example's YAML has to be told for it."""

    name: str
    folder: Path
    overrides: tuple[str, ...]


def contenders(*, stock: Path, adcopilot: Path) -> tuple[Contender, Contender]:
    """Stock Qwen2.5-VL (no comparison queries to train) and AD-Copilot, with the same example YAML."""
    return (
        Contender(name="Qwen2.5-VL", folder=stock, overrides=("template=qwen2_vl", "additional_target=null")),
        Contender(name="AD-Copilot", folder=adcopilot, overrides=()),
    )


def train_once(contender: Contender, *, data: Path, output: Path, steps: int, batch: int) -> dict:
    """One run of the stock command.

    Args:
        data: folder of a sample set with a data set `bench`.
        output: folder for the adapter; deleted by the caller.
        steps: optimizer steps, the first `WARM_UP` of which are not measured.
        batch: samples of a step.

    Returns:
        Seconds of each measured step, and tokens of an average one, padding not counted.

    Raises:
        SystemExit: the command failed, with the end of its output.
    """
    settings = {
        "model_name_or_path": contender.folder,
        "dataset_dir": data,
        "media_dir": data,
        "dataset": "bench",
        "output_dir": output,
        "per_device_train_batch_size": batch,
        "max_steps": steps,
        "logging_steps": 1,
        "disable_tqdm": "true",
        "include_num_input_tokens_seen": "non_padding",
    }
    command = [str(Path(sys.executable).with_name("llamafactory-cli")), "train", str(CONFIG)]
    command += [f"{key}={value}" for key, value in settings.items()] + list(contender.overrides)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    times, tokens, lines = [], [], []
    for line in process.stdout:
        lines.append(line)
        if line.lstrip().startswith("{'loss'"):  # the trainer prints one such line after each step
            times.append(time.perf_counter())
            tokens.append(ast.literal_eval(line.strip())["num_input_tokens_seen"])
    if process.wait() or len(times) != steps:
        raise SystemExit(f"error: {' '.join(command)} made {len(times)} of {steps} steps:\n{''.join(lines[-30:])}")
    seconds = [after - before for before, after in pairwise(times)][WARM_UP:]
    return {"seconds": seconds, "tokens_per_step": (tokens[-1] - tokens[WARM_UP]) / (steps - 1 - WARM_UP)}


def compare(
    pair: tuple[Contender, ...], *, data: Path, work: Path, steps: int, batch: int, repeats: int
) -> list[dict]:
    """Both, `repeats` times, in turns (A B, B A, …), so that whatever else the machine does hits both alike.

    Returns:
        For each contender: median step time, samples and tokens a second, and all that was measured.
    """
    runs = {contender.name: [] for contender in pair}
    for repeat in range(repeats):
        for contender in pair if repeat % 2 == 0 else pair[::-1]:
            output = work / f"{contender.name}-{repeat}"
            runs[contender.name].append(train_once(contender, data=data, output=output, steps=steps, batch=batch))
    results = []
    for name, measured in runs.items():
        step = median(second for run in measured for second in run["seconds"])
        tokens = measured[0]["tokens_per_step"]
        results.append(
            {
                "model": name,
                "step_seconds": step,
                "samples_per_second": batch / step,
                "tokens_per_step": tokens,
                "tokens_per_second": tokens / step,
                "runs": measured,
            }
        )
    return results
