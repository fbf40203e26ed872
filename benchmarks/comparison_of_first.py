"""`comparison_of_first: true` (the paper) against `false` with the recipe of `make demo`, several seeds.

    python benchmarks/comparison_of_first.py --seeds 0 1 2     about 45 minutes on two cores

For each seed one sample set, and on it two runs side by side: the first image of a pair compared with itself, or not.
Everything else is the demo's (data/sample_set/demo.py), whose steps leave marks: killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adcopilot.jsonl import atomic_write  # noqa: E402
from adcopilot.sample.demo import TEST_SPLITS, carry_out, plan  # noqa: E402
from adcopilot.sample.generate import standard_splits, write_sample  # noqa: E402
from adcopilot.steps import Run  # noqa: E402
from benchmarks import machine  # noqa: E402

RESULT = ROOT / "docs" / "results" / "comparison-of-first"
#: Options of `adcopilot init`, by the title of a run.
MODELS = {"compared with itself": [], "not compared": ["--no-comparison-of-first"]}


def run_seed(output: Path, *, seed: int, count: int, test_count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by run and test split; kept in `output`, and read from there if they are complete."""
    kept = output / "results.json"
    if kept.exists():
        return json.loads(kept.read_text())
    data, started = output / "data", time.monotonic()

    def say(line: str) -> None:
        print(f"seed {seed} [{(time.monotonic() - started) / 60:5.1f} min] {line}", file=sys.stderr, flush=True)

    write_sample(data, standard_splits(count, test_count=test_count), seed=seed, workers=2, progress=say)
    runs = []
    for title, options in MODELS.items():
        folder = output / title.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        steps = plan(folder, data, encoder=True, seed=seed, options=options)
        runs.append(Run(name=title, folder=folder, steps=steps, cwd=ROOT))
    found = carry_out(runs, data, say=say)
    scores = {run: {split: asdict(one) for split, one in splits.items()} for run, splits in found.items()}
    atomic_write(kept, lambda file: file.write(json.dumps(scores, indent=1).encode()))
    return scores


def page(results: dict[int, dict], *, count: int, command: str) -> str:
    """The results as Markdown: each seed's scores and their means."""
    lines = [
        "# The first image of a pair, compared with itself or not",
        "",
        f"`{command}`: the recipe of `make demo` ({count:,} pairs), the same sample set for both runs of a seed.",
        "Balanced accuracy, AUROC and BBox-Mask IoU on pairs never trained on; the tiny model, so this says which way",
        "the option leans and not what 7B would reach.",
        "",
        "| first image | categories | " + " | ".join(f"seed {seed}" for seed in results) + " | mean |",
        "|---|---|" + "---|" * (len(results) + 1),
    ]
    for title in MODELS:
        for split, words in TEST_SPLITS.items():
            of = [one[title][split] for one in results.values()]
            cells = [[one[name] for name in ("balanced_accuracy", "auroc", "iou")] for one in of]
            cells.append([mean(values) for values in zip(*cells, strict=True)])
            shown = [" / ".join(f"{value:.3f}" for value in cell) for cell in cells]
            lines.append(f"| {title} | {words} | {' | '.join(shown)} |")
    versions = machine.as_lines(machine.versions())
    return "\n".join([*lines, "", f"{machine.now()}; {machine.as_lines(machine.hardware())}; {versions}.", ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "comparison-of-first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=76_000, help="training pairs, as the demo's (76000)")
    parser.add_argument("--test-count", type=int, default=500, help="pairs of each test set (500)")
    args = parser.parse_args(argv)
    sizes = {"count": args.count, "test_count": args.test_count}
    results = {seed: run_seed(args.output.resolve() / f"seed{seed}", seed=seed, **sizes) for seed in args.seeds}
    command = " ".join(["python benchmarks/comparison_of_first.py", *(argv if argv is not None else sys.argv[1:])])
    document = {"results": results, **sizes, "versions": machine.versions()}
    machine.write_result(RESULT, document, page(results, count=args.count, command=command))


if __name__ == "__main__":
    main()
