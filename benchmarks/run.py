"""AD-Copilot against stock Qwen2.5-VL of the same size, as ratios. `make bench`.

    python benchmarks/run.py

Tiny models on a CPU (`benchmarks/gpu.py` is for 7B): `llamafactory-cli train` with `examples/train/tiny/stage1.yaml`
on the same samples, then prefill and decoding, all in turns. Results go to `docs/results/`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks import machine, shapes, training  # noqa: E402

RESULTS = ROOT / "docs" / "results"


def make_tiny(work: Path) -> tuple[Path, Path]:
    """The untrained tiny base, and the same as an AD-Copilot checkpoint with the preset's options."""
    from adcopilot.model.conversion import convert_base
    from adcopilot.model.init_command import PRESETS
    from adcopilot.sample.tiny_base import build_untrained

    stock, adcopilot = work / "qwen2_5_vl", work / "adcopilot"
    build_untrained(stock, texts=100)
    convert_base(base=stock, output=adcopilot, **PRESETS["tiny"].options)
    return stock, adcopilot


def bench_tiny(work: Path, *, steps: int, batch: int, repeats: int) -> dict:
    """Training and generation of the tiny models on this CPU."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    from adcopilot.model import AdCopilotForConditionalGeneration
    from adcopilot.sample.generate import SampleSplit, write_sample

    stock, adcopilot = make_tiny(work)
    write_sample(work / "data", [SampleSplit(name="bench", count=steps * batch, number=30)])
    pair = training.contenders(stock=stock, adcopilot=adcopilot)
    trained = training.compare(pair, data=work / "data", work=work, steps=steps, batch=batch, repeats=repeats)
    classes = (Qwen2_5_VLForConditionalGeneration, AdCopilotForConditionalGeneration)
    models = {
        contender.name: model_class.from_pretrained(contender.folder, dtype=torch.float32).eval()
        for contender, model_class in zip(pair, classes, strict=True)
    }
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    generated = [
        row for side in (56, 448) for row in shapes.compare_generation(models, shapes.Shape(side=side), repeats=5)
    ]
    return {"batch": batch, "steps": steps, "training": trained, "generation": generated, "parameters": parameters}


def ratio_table(rows: list[dict], columns: dict[str, str], *, lead: str | None = None) -> str:
    """Markdown: for each value of `lead` one row a model, and their ratio (AD-Copilot / Qwen2.5-VL).

    Args:
        rows: results, each with `model`.
        columns: key of a result → heading. Rows without the key show a dash.
        lead: key by which results belong together.
    """
    heads = ["images" if lead else "", *columns.values()]
    lines = [
        "| " + " | ".join(["model", *heads[bool(not lead) :]]) + " |",
        "|" + "---|" * (1 + len(heads) - (not lead)),
    ]
    for group in dict.fromkeys(row.get(lead) for row in rows):
        found = [row for row in rows if row.get(lead) == group]
        first = [f"2 × {group} × {group}"] if lead else []
        for row in found:
            cells = [f"{row[key]:.4g}" if key in row else "–" for key in columns]
            lines.append("| " + " | ".join([row["model"], *first, *cells]) + " |")
        by_name = {row["model"]: row for row in found}
        ours, stock = by_name["AD-Copilot"], by_name["Qwen2.5-VL"]
        cells = [f"**{ours[key] / stock[key]:.2f}**" if key in ours else "–" for key in columns]
        lines.append("| " + " | ".join(["ratio", *first, *cells]) + " |")
    return "\n".join(lines)


GENERATION = {
    "prompt_tokens": "prompt, tokens",
    "prefill_seconds": "prefill, s",
    "prefill_tokens_per_second": "prefill, tokens/s",
    "decode_seconds": "one decoded token, s",
    "decode_tokens_per_second": "decoding, tokens/s",
}
TRAINING = {
    "step_seconds": "step, s",
    "samples_per_second": "samples/s",
    "tokens_per_step": "tokens a step",
    "tokens_per_second": "tokens/s",
}


def page(result: dict) -> str:
    """The result as Markdown."""
    parts = ["# AD-Copilot against stock Qwen2.5-VL of the same size", ""]
    if tiny := result.get("tiny"):
        sizes = ", ".join(f"{name} {count:,} parameters" for name, count in tiny["parameters"].items())
        runs = len(tiny["training"][0]["runs"])
        how = (
            "Training: stock `llamafactory-cli train examples/train/tiny/stage1.yaml` (LoRA), "
            f"{tiny['steps']} steps of {tiny['batch']} pairs of 56-pixel images, the same for both, {runs} runs each "
            "in turns; medians over steps. Tokens do not count padding; AD-Copilot's samples are longer by its "
            "comparison tokens."
        )
        parts += [
            f"Tiny models, random weights, on a CPU: {sizes}.",
            "",
            how,
            "",
            ratio_table(tiny["training"], TRAINING),
            "",
            "Generation: one pair of images, batch 1, float32, in turns; medians.",
            "",
            ratio_table(tiny["generation"], GENERATION, lead="side"),
            "",
        ]
    load = (
        f"{result['threads']} threads; `load_average` is that of "
        "the minute before the start: where it is not near 0 the machine was shared; trust the ratios, not the seconds"
    )
    parts += [
        *machine.told(result, hardware=f"; {load}"),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="training steps of a run (20)")
    parser.add_argument("--batch", type=int, default=16, help="samples of a step (16)")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each model (2)")
    parser.add_argument("--output-dir", type=Path, default=RESULTS, help="where the results go (docs/results)")
    args = parser.parse_args()
    if args.steps < training.WARM_UP + 3:
        parser.error(f"--steps is {args.steps}, expected {training.WARM_UP + 3} or more")

    result = {**machine.measured("run"), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as work:
        result["tiny"] = bench_tiny(Path(work), steps=args.steps, batch=args.batch, repeats=args.repeats)
    machine.write_result(args.output_dir / "bench-cpu", result, page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
