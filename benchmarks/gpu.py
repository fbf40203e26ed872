"""What 7B costs on a GPU, against stock Qwen2.5-VL in the same run. `make bench-gpu`.

    python benchmarks/gpu.py                       7B shapes in bfloat16 on the GPU, at most nine minutes
    python benchmarks/gpu.py --minutes 4           less; what there was no time for is listed
    python benchmarks/gpu.py --rehearse            a narrow model on the CPU: whether it runs, not how fast

No weights, no network: both models have random weights, made on the device. Prefill and decoding of one pair, a
training step of each stage with the YAMLs' LoRA and checkpointing, peak memory; under SDPA and, where it is installed,
flash-attention; rollouts through vLLM where that is installed. Models take turns in each row; medians with the least
and the largest of the rounds. A row that does not fit into memory says so.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks import machine, shapes  # noqa: E402
from benchmarks.gpu_rollouts import LOAD, SMALL_LOAD, VLLM_SHARE, VLLM_STARTS, Rollouts  # noqa: E402

RESULT = ROOT / "docs" / "results" / "gpu"
MODELS = ("Qwen2.5-VL", "AD-Copilot")
ROLLOUTS = ("AD-Copilot, transformers", "AD-Copilot, vLLM")
#: What a ratio divides by, by model.
AGAINST = {MODELS[1]: MODELS[0], ROLLOUTS[1]: ROLLOUTS[0]}
SIDES = (512, 1024, 2800)
MINUTES = 9.0
#: Seconds kept for writing the page, and for one row that takes longer than thought.
RESERVE = 20.0

#: What LoRA reaches in each stage (examples/train/7b); stage 0 trains the comparison encoder itself.
LINEAR = r"(q_proj|k_proj|v_proj|o_proj|qkv|proj|gate_proj|up_proj|down_proj|projector)"
LORA = {
    1: rf".*(language_model|comparison_encoder)\..*{LINEAR}",
    2: rf".*(language_model|comparison_encoder|visual\.blocks)\..*{LINEAR}",
}
RANK = 64


class Bench:
    """Runs rows until the time is up.

    Args:
        device: where.
        minutes: how long.
        narrow: whether to rehearse with a narrow model in float32.
        rounds: of each row, after one that is not counted.
    """

    def __init__(self, device: torch.device, *, minutes: float, narrow: bool, rounds: int) -> None:
        self.device, self.narrow, self.rounds = device, narrow, rounds
        self.dtype = torch.float32 if narrow else torch.bfloat16
        self.ends = time.monotonic() + 60 * minutes - RESERVE * (not narrow)
        self.rows: list[dict] = []
        self.left_out: list[str] = []

    def models(self) -> dict:
        """Both, by name."""
        changes = shapes.SHALLOW if self.narrow else {}
        return {
            name: shapes.random_model(name, "7B", device=self.device, dtype=self.dtype, **changes) for name in MODELS
        }

    def row(self, names: dict, steps: dict[str, Callable[[], dict]], cost: float) -> float:
        """Measure one row of each model, in turns.

        Args:
            names: what the rows are about.
            steps: model → one round of it, returning seconds by name.
            cost: seconds that a row like it took, 0 if none did.

        Returns:
            Seconds that it took.
        """
        about = ", ".join(str(value) for value in names.values())
        if time.monotonic() + cost > self.ends:
            self.left_out.append(about)
            return cost
        started, measured, peaks = time.monotonic(), {name: [] for name in steps}, {}
        for number in range(self.rounds + 1):
            for name, step in steps.items():
                if name in peaks and peaks[name] is None:
                    continue
                with self._peak() as peak:
                    try:
                        found = step()
                    except torch.OutOfMemoryError:
                        found = None
                peaks[name] = None if found is None else peak[0]
                if found and number:
                    measured[name].append(found)
        for name, rounds in measured.items():
            row = {**names, "model": name, "peak_gib": peaks[name]}
            for key in rounds[0] if rounds else ():
                values = [one[key] for one in rounds]
                row[key] = {"median": median(values), "least": min(values), "most": max(values)}
            self.rows.append(row)
        print(f"{about}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return time.monotonic() - started

    def rollouts(self) -> None:
        """Sampled answers to several prompts: by `generate`, one prompt after another, and by vLLM, all at once."""
        if util.find_spec("vllm") is None:
            self.left_out.append("rollouts: vLLM is not installed here")
            return
        if time.monotonic() + VLLM_STARTS > self.ends:
            self.left_out.append("rollouts")
            return
        load = SMALL_LOAD if self.narrow else LOAD
        with tempfile.TemporaryDirectory() as work, Rollouts(Path(work), self.device, load=load) as both:
            names = {"what": "rollouts", "attention": "sdpa / vLLM's", "side": load["side"]}
            self.row(names, dict(zip(ROLLOUTS, (both.by_transformers, both.by_vllm), strict=True)), 0)
        for row in self.rows:
            if row["model"] == ROLLOUTS[1]:  # in processes of its own, which take what they are given
                row["peak_gib"] = VLLM_SHARE * machine.hardware().get("gpu_memory_gib", 0.0)

    @contextmanager
    def _peak(self) -> Iterator[list[float]]:
        found = [0.0]
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield found
        if self.device.type == "cuda":
            found[0] = torch.cuda.max_memory_allocated() / 2**30

    def generation(self, models: dict, sides: list[int], attention: str) -> None:
        """Prefill and decoding of a pair."""
        cost = 0.0
        for side in sides:
            shape = shapes.Shape(side=_fitting(side), new=16)
            inputs = {
                name: shapes.prompt(model.config, shape, device=self.device, dtype=self.dtype)
                for name, model in models.items()
            }

            def once(name: str, inputs=inputs, shape=shape) -> dict:
                return shapes.generate_once(models[name].eval(), inputs[name], new=shape.new)

            steps = {name: (lambda name=name, once=once: once(name)) for name in models}
            cost = self.row({"what": "generation", "attention": attention, "side": side}, steps, 4 * cost)

    def training(self, models: dict, sides: list[int], attention: str) -> None:
        """A step of each stage; stock Qwen2.5-VL has no stage 0."""
        for stage in (1, 2, 0):  # the largest share of a paper's training first
            cost = 0.0
            for side in sides:
                trained = {name: Trained(model, stage) for name, model in models.items() if stage or name == MODELS[1]}
                inputs = {
                    name: shapes.labelled(models[name].config, _fitting(side), device=self.device, dtype=self.dtype)
                    for name in trained
                }
                steps = {
                    name: (lambda one=one, batch=inputs[name]: one.step(batch, self.device))
                    for name, one in trained.items()
                }
                names = {"what": f"stage {stage}", "attention": attention, "side": side}
                cost = self.row(names, steps, 4 * cost)
                for one in trained.values():
                    one.undo()


class Trained:
    """A model prepared as a stage's YAML says: what trains, checkpointing, AdamW.

    Args:
        model: to prepare; `undo` makes it what it was.
        stage: 0, 1 or 2.
    """

    def __init__(self, model, stage: int) -> None:
        from peft import LoraConfig, get_peft_model

        self.model, self.peft = model, None
        model.requires_grad_(False)
        model.logits_where_labels = True  # as LlamaFactory sets it; a stock model has no such field
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if stage:
            config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LORA[stage])
            self.peft = get_peft_model(model, config)
        else:
            model.comparison_encoder.requires_grad_(True)
        self.run = (self.peft or model).train()
        weights = [weight for weight in self.run.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=5e-5)

    def step(self, batch: dict, device: torch.device) -> dict[str, float]:
        """Forward, backward, update."""
        started = shapes.clock(device)
        self.run(**batch, use_cache=False).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"step_seconds": shapes.clock(device) - started}

    def undo(self) -> None:
        """Take the adapter, the checkpointing and the optimiser's memory away."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer = None
        if self.peft is not None:
            self.peft.unload()
            del self.model.peft_config  # left there by PEFT
        self.run = self.peft = None
        self.model.gradient_checkpointing_disable()
        self.model.requires_grad_(False).eval()


def _fitting(side: int) -> int:
    """The nearest side that is made of whole tokens."""
    return max(2, round(side / 28)) * 28


def measure(bench: Bench, sides: list[int]) -> dict:
    """All rows: under SDPA first, then what flash-attention changes."""
    models = bench.models()
    if bench.device.type == "cuda" and util.find_spec("vllm"):
        bench.ends -= VLLM_STARTS  # for rollouts, which come last
    bench.generation(models, sides, "sdpa")
    bench.training(models, sides, "sdpa")
    if bench.device.type == "cuda" and util.find_spec("flash_attn"):
        for model in models.values():
            model.set_attn_implementation("flash_attention_2")
        bench.generation(models, sides, "flash_attention_2")
        bench.training(models, sides, "flash_attention_2")
    elif not bench.narrow:
        bench.left_out.append("flash-attention: not installed here")
    if bench.device.type == "cuda" and util.find_spec("vllm"):
        bench.ends += VLLM_STARTS
    models.clear()  # vLLM wants the memory
    bench.rollouts()
    return {"rows": bench.rows, "left_out": bench.left_out}


COLUMNS = {
    "prefill_seconds": "prefill, s",
    "decode_seconds": "a token, s",
    "step_seconds": "step, s",
    "tokens_per_second": "tokens a second",
}


def page(result: dict) -> str:
    """The result as Markdown."""
    lines = ["# 7B shapes on a GPU, against stock Qwen2.5-VL", ""]
    if result["narrow"]:
        lines += ["**A rehearsal with a narrow model on a CPU: its numbers mean nothing.**", ""]
    lines += [
        "Random weights, one pair of images, batch 1, models in turns; medians, with the least and the largest round.",
        f"LoRA of rank {RANK}, gradient checkpointing, AdamW. Ratio: AD-Copilot / Qwen2.5-VL.",
        "",
        f"Rollouts: {LOAD['prompts']} prompts of two images, {LOAD['samples']} samples of {LOAD['new']} tokens",
        "each, by `generate` one prompt after another, by vLLM all at once. Ratio: vLLM / transformers.",
        "",
        "| what | attention | images | model | " + " | ".join(COLUMNS.values()) + " | peak memory, GiB |",
        "|---|---|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    rows = result["rows"]
    for row in rows:
        about = f"| {row['what']} | {row['attention']} | 2 × {row['side']}² "
        if row["peak_gib"] is None:
            lines.append(f"{about}| {row['model']} | " + "– | " * len(COLUMNS) + "does not fit |")
            continue
        lines.append(
            f"{about}| {row['model']} | {' | '.join(_cell(row.get(key)) for key in COLUMNS)} | {row['peak_gib']:.1f} |"
        )
        stock = next((one for one in rows if one["model"] == AGAINST.get(row["model"]) and _same(one, row)), None)
        if stock and stock["peak_gib"] is not None:
            cells = [
                f"**{row[key]['median'] / stock[key]['median']:.2f}**" if key in row and key in stock else ""
                for key in COLUMNS
            ]
            peak = f"{row['peak_gib'] / stock['peak_gib']:.2f}" if stock["peak_gib"] else ""
            lines.append(f"{about}| ratio | {' | '.join(cells)} | {peak} |")
    if result["left_out"]:
        lines += ["", "Left out: " + "; ".join(result["left_out"]) + "."]
    lines += [
        "",
        *machine.told(result, command=f", {result['seconds']:.0f} s"),
    ]
    return "\n".join(lines) + "\n"


def _same(one: dict, other: dict) -> bool:
    return all(one[key] == other[key] for key in ("what", "attention", "side"))


def _cell(value: dict | None) -> str:
    return "" if value is None else f"{value['median']:.4g} ({value['least']:.4g}–{value['most']:.4g})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"at most so long ({MINUTES:g})")
    parser.add_argument("--side", type=int, nargs="+", default=list(SIDES), help="pixels of an image's side")
    parser.add_argument("--rounds", type=int, default=3, help="of each row, after one that is not counted (3)")
    parser.add_argument("--rehearse", action="store_true", help="a narrow model on the CPU")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the result goes, without a suffix")
    args = parser.parse_args(argv)
    if not args.rehearse and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --rehearse tries the command with a narrow model on the CPU")
    started = time.monotonic()
    device = torch.device("cpu" if args.rehearse else "cuda")
    bench = Bench(device, minutes=args.minutes, narrow=args.rehearse, rounds=args.rounds)
    result = {
        **machine.measured("gpu", argv),
        "narrow": args.rehearse,
        **measure(bench, args.side),
    }
    result["seconds"] = time.monotonic() - started
    machine.write_result(args.output, result, page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
