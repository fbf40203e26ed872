"""`comparison_of_first: true` (the paper) against `false` with the recipe of `make demo`, several seeds.

    python benchmarks/comparison_of_first.py --seeds 0 1 2     about 45 minutes on two cores

For each seed one sample set, and on it two runs side by side: the first image of a pair compared with itself, or not.
Everything else is `benchmarks/study.py`'s: killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402
from benchmarks.study import SAMPLE_SPLITS, Condition, Found, run_seed, scores_table  # noqa: E402

RESULT = ROOT / "docs" / "results" / "comparison-of-first"
CONDITIONS = (
    Condition(title="compared with itself"),
    Condition(title="not compared", options=("--no-comparison-of-first",)),
)


def page(results: dict[int, Found], *, count: int, command: str) -> str:
    """The results as Markdown: each seed's scores and their means."""
    lines = [
        "# The first image of a pair, compared with itself or not",
        "",
        f"`{command}`: the recipe of `make demo` ({count:,} pairs), the same sample set for both runs of a seed.",
        "Balanced accuracy, AUROC and BBox-Mask IoU on pairs never trained on; the tiny model, so this says which way",
        "the option leans and not what 7B would reach.",
        "",
        *scores_table(results, SAMPLE_SPLITS),
    ]
    return "\n".join([*lines, "", machine.here(), ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "comparison-of-first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=60_000, help="training pairs, as the demo's (60000)")
    parser.add_argument("--test-count", type=int, default=500, help="pairs of each test set (500)")
    args = parser.parse_args(argv)
    sizes = {"count": args.count, "test_count": args.test_count}
    output = args.output.resolve()
    results = {
        seed: run_seed(output / f"seed{seed}", CONDITIONS, seed=seed, map_rows=False, **sizes) for seed in args.seeds
    }
    command = " ".join(["python benchmarks/comparison_of_first.py", *(argv if argv is not None else sys.argv[1:])])
    document = {"results": results, **sizes, "versions": machine.versions()}
    machine.write_result(RESULT, document, page(results, count=args.count, command=command))


if __name__ == "__main__":
    main()
