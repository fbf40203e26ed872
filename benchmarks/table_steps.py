"""Filtering and pairing of Chat-AD tables: time on one core, how it grows, and what 1.12 million images would take.

    python benchmarks/table_steps.py                      1,000, 10,000 and 100,000 invented rows
    python benchmarks/table_steps.py --sizes 1000 --images 50

What opens images (measuring, embedding) is timed on drawn photographs and is linear by construction: an image at a
time. What looks at all rows (duplicates, the ratio, templates) is timed on invented rows of categories of 700 images,
with invented fingerprints and vectors. Brute force compares each query with each normal image of its category in
numpy, one query at a time, and must choose the same templates. Times are the process's own on the processor: what
others do on the machine, and waiting for the disk, does not count.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy
    os.environ.setdefault(_name, "1")

import faiss  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
from PIL import Image  # noqa: E402

from adcopilot.chat_ad.fitness.embedding import ClassicalEmbedder, embed_images  # noqa: E402
from adcopilot.chat_ad.fitness.fingerprints import MEASURES, THUMB, Fingerprints, measure_table  # noqa: E402
from adcopilot.chat_ad.fitness.measures import judge  # noqa: E402
from adcopilot.chat_ad.fitness.rebalance import rebalance  # noqa: E402
from adcopilot.chat_ad.pairing import Pool, pair_shard  # noqa: E402
from adcopilot.chat_ad.table import BATCH_ROWS, Entry, to_batch  # noqa: E402
from adcopilot.sample.pairs import CATEGORIES, draw_pair, stream  # noqa: E402

#: Images in the paper's collection, and in one of the invented categories.
PAPER, CATEGORY = 1_120_000, 700


def draw_images(folder: Path, count: int, side: int) -> list[str]:
    """Write `count` photographs as JPEG and return their names."""
    names = []
    for number in range(count):
        category = list(CATEGORIES)[number % len(CATEGORIES)]
        pair = draw_pair(stream(1, number), category=category, size=160, anomalous=False)
        # Drawing at full size takes seconds; grain makes a photograph's bytes of an enlarged drawing.
        large = np.asarray(pair.query.resize((side, side), Image.Resampling.BICUBIC), np.int16)
        grain = np.random.default_rng(number).integers(-6, 7, large.shape)
        names.append(f"{number:05d}.jpg")
        Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(folder / names[-1], quality=92)
    return names


def invented_rows(count: int) -> pa.Table:
    """Rows of categories of `CATEGORY` images, a third of them anomalous."""

    def row(number: int) -> Entry:
        bad = number % 3 == 0
        return Entry(
            image=f"category_{number // CATEGORY}/{'bad' if bad else 'good'}/{number:07d}.png",
            category=f"category_{number // CATEGORY}",
            label="anomalous" if bad else "normal",
            defect="scratch" if bad else "",
            boxes=((10, 10, 20, 20),) if bad else (),
            box_labels=("scratch",) if bad else (),
            width=256,
            height=256,
            sha256=hashlib.sha256(str(number).encode()).hexdigest(),
            source="invented",
        )

    starts = range(0, count, BATCH_ROWS)
    return pa.Table.from_batches([to_batch(map(row, range(s, min(count, s + BATCH_ROWS)))) for s in starts])


def invented_measures(rows: pa.Table, rng: np.random.Generator):
    """Measures of `rows`, a shard at a time: the images of a category look alike, as those of a production line do."""
    for start in range(0, rows.num_rows, BATCH_ROWS):
        shard = rows.slice(start, BATCH_ROWS)
        count = shard.num_rows
        categories = (start + np.arange(count)) // CATEGORY
        scenes = np.stack([np.random.default_rng(c).integers(60, 190, THUMB * THUMB) for c in categories])
        thumbs = (scenes + rng.integers(-15, 16, scenes.shape)).astype(np.uint8)
        columns = {
            "image": shard["image"],
            "sha256": shard["sha256"],
            "problem": pa.nulls(count, pa.string()),
            **dict.fromkeys(("width", "height"), [256] * count),
            "laplacian": [100.0] * count,
            "sharpness": rng.uniform(3, 5, count),
            "low": [0] * count,
            "high": [255] * count,
            "pixels": [rng.bytes(16) for _ in range(count)],
            "phash": [rng.bytes(8) for _ in range(count)],
            "thumb": [thumb.tobytes() for thumb in thumbs],
        }
        yield pa.table(columns, schema=MEASURES)


def brute_force(rows: pa.Table, vectors: np.ndarray) -> tuple[list[int], float]:
    """Each row's nearest normal row of its category (itself left out), and the seconds it took."""
    normal = np.array([label == "normal" for label in rows["label"].to_pylist()])
    started, nearest = time.process_time(), []
    for query in range(rows.num_rows):
        first = query // CATEGORY * CATEGORY
        members = first + np.flatnonzero(normal[first : first + CATEGORY])
        members = members[members != query]
        nearest.append(int(members[(vectors[members] @ vectors[query]).argmax()]))
    return nearest, time.process_time() - started


def time_tables(count: int, folder: Path, dimension: int) -> dict:
    """Seconds of the steps that look at all rows."""
    rng = np.random.default_rng(0)
    rows = invented_rows(count)
    prints = Fingerprints(invented_measures(rows, rng), thumbs_file=folder / "thumbs")
    started = time.process_time()
    dropped = judge(rows, prints)
    judged = time.process_time()
    rebalance(rows, ratio=1.0)
    balanced = time.process_time()
    vectors = rng.normal(size=(count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    before = time.process_time()
    pool = Pool(rows, vectors)
    starts = range(0, count, BATCH_ROWS)
    shards = [pair_shard(rows.slice(s, BATCH_ROWS), vectors[s : s + BATCH_ROWS], pool)[0] for s in starts]
    paired = time.process_time()
    templates = [int(name[-11:-4]) for shard in shards for name in shard["template"].to_pylist()]
    expected, brute = brute_force(rows, vectors)
    return {
        "rows": count,
        "dropped": len(dropped),
        "judge_s": judged - started,
        "rebalance_s": balanced - judged,
        "pair_s": paired - before,
        "brute_force_s": brute,
        "same_templates": sum(one == other for one, other in zip(templates, expected, strict=True)),
    }


def time_images(folder: Path, count: int, side: int) -> dict:
    """Milliseconds an image of the steps that open it."""
    names = draw_images(folder, count, side)
    rows = pa.table({"image": names, "sha256": [""] * count})
    measure_table(rows.slice(0, 2), folder)  # imports
    started = time.process_time()
    measure_table(rows, folder)
    measured = time.process_time()
    embed_images(names, folder, ClassicalEmbedder())
    embedded = time.process_time()
    return {
        "images": count,
        "side": side,
        "measure_ms": 1e3 * (measured - started) / count,
        "embed_ms": 1e3 * (embedded - measured) / count,
    }


def main() -> None:
    """Print a table, and all numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="numbers of rows")
    parser.add_argument("--images", type=int, default=200, help="photographs to time on (200)")
    parser.add_argument("--side", type=int, default=1024, help="their side in pixels (1024)")
    parser.add_argument("--dimension", type=int, default=1024, help="of the invented vectors (1024)")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = time_images(Path(folder), args.images, args.side)
        tables = [time_tables(size, Path(folder), args.dimension) for size in args.sizes]
    steps = ("judge_s", "rebalance_s", "pair_s", "brute_force_s")
    print("| rows | duplicates, ms a row | ratio | templates | brute force | brute force / ours | same |")
    print("|---|---|---|---|---|---|---|")
    for one in tables:
        each = [f"{1e3 * one[step] / one['rows']:.3f}" for step in steps]
        ratio = one["brute_force_s"] / one["pair_s"]
        print(f"| {one['rows']} | {' | '.join(each)} | {ratio:.2f} | {one['same_templates']} |")
    hours = {name: images[f"{name}_ms"] * PAPER / 3.6e6 for name in ("measure", "embed")}
    last = tables[-1]
    hours |= {step[:-2]: last[step] / last["rows"] * PAPER / 3600 for step in steps[:3]}
    print(
        f"{images['side']}-pixel JPEG: {images['measure_ms']:.1f} ms to measure, {images['embed_ms']:.1f} ms to embed"
    )
    print(f"{PAPER} images on one core: " + ", ".join(f"{name} {value:.2f} h" for name, value in hours.items()))
    json.dump({"images": images, "tables": tables, "hours_for_the_paper": hours}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
