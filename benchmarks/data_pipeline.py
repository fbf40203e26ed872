"""What the Chat-AD pipeline costs on one core, step by step, and what that makes of the paper's 1.12 M images.

    python benchmarks/data_pipeline.py                    1,000, 10,000 and 100,000 entries: some minutes
    python benchmarks/data_pipeline.py --sizes 1000 2000  less

Seconds are processor time of one thread in a process of its own, so a busy machine disturbs them little. Steps that
open images are measured on drawn pictures of 1024 × 1024 pixels; the others on synthetic entries, whose number grows.
Results go to `docs/results/data-pipeline.{json,md}`.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # per core; before numpy and FAISS are loaded

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402
from benchmarks.data_steps import (  # noqa: E402
    CATEGORY,
    DIMENSION,
    SIDE,
    generate,
    index,
    judge,
    make_tree,
    opened,
    pair,
    pair_by_hand,
)

RESULTS = ROOT / "docs" / "results"
PAPER = 1_120_000


def _timed(function, *args) -> dict:
    """CPU seconds of `function(*args)` after its own set-up, and how much memory it took beyond that.

    `function` yields once when it is set up and once when it is done; the second value is how many entries there were.
    """
    work = function(*args)
    next(work)
    before = _memory(reset=True)
    start = time.process_time()
    count = next(work)
    seconds = time.process_time() - start
    return {"entries": count, "cpu_seconds": seconds, "grown_mib": (_memory() - before) / 1024}


def _memory(*, reset: bool = False) -> int:
    """KiB: what is used now after the peak was forgotten, or else the peak since."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    wanted = "VmRSS:" if reset else "VmHWM:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(wanted))


def measure(function, *args) -> dict:
    """`_timed` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (function, *args))


def bench(sizes: list[int], pictures: int) -> dict:
    """All measurements."""
    growing: dict[str, list[dict]] = {"index": [], "judge": [], "pair": [], "generate": [], "pair by hand": []}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            make_tree(Path(folder), size)
            growing["index"].append(measure(index, folder))
        growing["judge"].append(measure(judge, size))
        growing["pair"].append(measure(pair, size))
        growing["pair by hand"].append(measure(pair_by_hand, min(size, 10_000), False))
        growing["generate"].append(measure(generate, size))
        print(f"{size} entries measured", file=sys.stderr, flush=True)
    whole = [measure(pair_by_hand, size, True) for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        steps = ("index", "measure", "embed", "cut png", "cut jpeg")
        images = {step: measure(opened, folder, step, pictures) for step in steps}
    return {"growing": growing, "pair with all": whole, "images": images}


def rate(row: dict) -> float:
    """Milliseconds an entry."""
    return 1000 * row["cpu_seconds"] / max(1, row["entries"])


NAMES = {
    "index": "index: layout, headers, hashes, masks (files of 1 KiB)",
    "judge": "filter: limits, exact and near duplicates, ratio (measured images)",
    "pair": "pair: nearest normal image of the category (vectors)",
    "generate": "generate: one record a pair, tasks in turn, annotations only",
}

STEPS = {
    "index": "index (no pixels decoded)",
    "measure": "filter: decode, sharpness, exposure, hashes",
    "embed": "embed: decode, classical descriptor",
    "cut png": "cut: decode and write a pair, PNG",
    "cut jpeg": "cut: decode and write a pair, JPEG",
}


def page(result: dict) -> str:
    """The result as Markdown."""
    growing, images = result["growing"], result["images"]
    sizes = [row["entries"] for row in growing["index"]]
    lines = ["# The Chat-AD pipeline on one core", ""]
    intro = (
        "Milliseconds of processor time an entry, one thread. The last columns say how an entry's cost and the memory "
        "beyond the set-up grow from the smallest number of entries to the largest; a ratio near 1 is linear growth."
    )
    heads = ["step", *(f"{size:,}" for size in sizes), "cost, ratio", "memory, MiB"]
    lines += [intro, "", _row(heads), "|---" * len(heads) + "|"]
    for name, text in NAMES.items():
        found = growing[name]
        memory = " → ".join(f"{row['grown_mib']:.0f}" for row in (found[0], found[-1]))
        ratio = f"**{rate(found[-1]) / rate(found[0]):.2f}**"
        lines.append(_row([text, *(f"{rate(row):.3f}" for row in found), ratio, memory]))
    fast, slow, whole = growing["pair"], growing["pair by hand"], result["pair with all"]
    against = (
        f"Pairing against brute force: {DIMENSION} numbers an image, {CATEGORY // 2} normal images a category, a "
        "query at a time in NumPy and double precision; with all of the pool on 100 queries."
    )
    kinds = {
        "FAISS by category, ms": fast,
        "brute force in the category, ms": slow,
        "brute force in all of the pool, ms": whole,
    }
    lines += ["", against, "", _row(["", *(f"{size:,}" for size in sizes)]), "|---" * (len(sizes) + 1) + "|"]
    lines += [_row([name, *(f"{rate(row):.3f}" for row in rows)]) for name, rows in kinds.items()]
    for name, rows in (("in the category", slow), ("in all of the pool", whole)):
        times = [f"{rate(other) / rate(own):.1f}" for own, other in zip(fast, rows, strict=True)]
        lines.append(_row([f"**times faster than {name}**", *times]))
    images_head = (
        f"Steps that read image files, drawn PNGs of {SIDE} × {SIDE} pixels, and what each step would take for the "
        f"paper's {PAPER:,} images (or pairs) at that size:"
    )
    lines += ["", images_head, "", _row(["step", "ms", "core-hours"]), "|---|---|---|"]
    table = [(STEPS[name], rate(images[name])) for name in STEPS]
    table += [(NAMES[name], rate(growing[name][-1])) for name in ("judge", "pair", "generate")]
    lines += [_row([text, f"{ms:.3g}", f"{ms * PAPER / 3.6e6:.2g}"]) for text, ms in table]
    both = sum(ms for _, ms in table)
    for kind, other in (("PNG", "cut jpeg"), ("JPEG", "cut png")):
        ms = both - rate(images[other])
        lines.append(_row([f"**together, {kind}**", f"{ms:.3g}", f"**{ms * PAPER / 3.6e6:.3g}**"]))
    caution = (
        "An extrapolation, not a measurement: shards are independent, so divide by the cores; downloads, slow disks, "
        "`fsync` (once for each image written) and an endpoint's time come on top."
    )
    lines += ["", caution, "", *machine.told(result, hardware="; one thread, processor time")]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="numbers of entries")
    parser.add_argument("--pictures", type=int, default=40, help="images of the steps that open them (40)")
    parser.add_argument("--output-dir", type=Path, default=RESULTS, help="where the results go (docs/results)")
    args = parser.parse_args()
    if min(args.sizes) < 100 or args.pictures < 2:
        parser.error("--sizes and --pictures: expected 100 or more entries and 2 or more pictures")
    result = {**machine.measured("data_pipeline"), **bench(args.sizes, args.pictures)}
    machine.write_result(args.output_dir / "data-pipeline", result, page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
