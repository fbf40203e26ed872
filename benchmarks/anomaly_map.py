"""The anomaly map alone, on public circuit boards and on the sample set: how it ranks, decides and places.

    python benchmarks/anomaly_map.py --deeppcb DIR

Windows of 112 pixels of DeepPCB's test pairs (one around each defect, and as many without), each with the same window
of its template; the same under a shift of 2 pixels, a turn of 1°, contrast × 0.75 + 20 and JPEG at quality 50; whole
boards; both test sets of the sample set. Thresholds are `adcopilot calibrate`'s, from 20 good pairs that are not
tested, drawn 20 times; the mean is given. By how much boxes grow was chosen on DeepPCB's training pairs. Results go to
`docs/results/`.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from adcopilot.anomaly_map.comparing import AnomalyMap, Mapper, MapSettings  # noqa: E402
from adcopilot.boxes import bbox_mask_iou  # noqa: E402
from adcopilot.chat_ad.readers import make_source, scan  # noqa: E402
from adcopilot.chat_ad.sources.references import open_reference  # noqa: E402
from adcopilot.line.measures import measures  # noqa: E402
from adcopilot.line.thresholds import from_good  # noqa: E402
from adcopilot.sample.generate import standard_splits, write_sample  # noqa: E402
from adcopilot.sample.measure import read_sample_split  # noqa: E402
from benchmarks import machine  # noqa: E402

RESULT = ROOT / "docs" / "results" / "anomaly-map"
#: Pixels by which DeepPCB's boxes are larger than the defect, as its training pairs have it.
GROWTH = 7
CALIBRATION, DRAWS = 20, 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pair to compare: pictures, whether the query is defective, its boxes in pixels."""

    template: Image.Image
    query: Image.Image
    bad: bool
    boxes: list


def deeppcb(root: Path, *, split: str, crop: str) -> Iterable[Case]:
    """Pairs of DeepPCB: windows, or whole boards (`whole`), all of which are defective."""
    options = {"crop": crop} if crop != "whole" else {"crop": "whole", "normals": "none"}
    items = list(scan(make_source("deeppcb", root, options=options)))
    templates = {one.view: one for one in items if not one.split and not one.anomalous}
    for one in items:
        if one.split == split and one.view in templates:
            boxes = [list(box) for box, _ in one.boxes or ()]
            pictures = [open_reference(root, item.image) for item in (templates[one.view], one)]
            yield Case(template=pictures[0], query=pictures[1], bad=one.anomalous, boxes=boxes)


def sample_set(folder: Path, split: str) -> Iterable[Case]:
    """Pairs of one of the sample set's test sets."""
    for record in read_sample_split(folder, split):
        template, query = (Image.open(folder / name).convert("RGB") for name in record["images"])
        yield Case(template=template, query=query, bad=record["anomalous"], boxes=record["boxes"])


def disturbed(cases: Iterable[Case], *, seed: int = 0) -> Iterable[Case]:
    """The queries as another photograph of the part would show it: moved, turned, darker, compressed."""
    dice = np.random.default_rng(seed)
    for case in cases:
        angle = np.deg2rad(dice.choice([-1, 1]))
        shift = 2 * dice.choice([-1, 1], 2)
        cosine, sine = np.cos(angle), np.sin(angle)
        wide = Image.fromarray(np.pad(np.asarray(case.query), ((8, 8), (8, 8), (0, 0)), mode="edge"))
        middle = [(side - 1) / 2 for side in wide.size]
        matrix = (
            *(cosine, -sine, middle[0] - cosine * middle[0] + sine * middle[1] + shift[0]),
            *(sine, cosine, middle[1] - sine * middle[0] - cosine * middle[1] + shift[1]),
        )
        turned = np.asarray(wide.transform(wide.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))
        dark = Image.fromarray(np.clip(turned[8:-8, 8:-8] * 0.75 + 20, 0, 255).astype(np.uint8))
        file = io.BytesIO()
        dark.save(file, "JPEG", quality=50)
        query = Image.open(file).convert("RGB")
        yield Case(template=case.template, query=query, bad=case.bad, boxes=case.boxes)


def measure(cases: Iterable[Case], *, growth: int, threshold: float | None = None, tell: str = "") -> dict:
    """What the map reaches on some pairs."""
    mapper, found = Mapper(MapSettings(growth=growth)), []
    started = time.process_time()
    for number, case in enumerate(cases):
        found.append((case, mapper.compare(case.query, [case.template])))
        if number % 100 == 99:
            print(f"{tell}: {number + 1} pairs", file=sys.stderr, flush=True)
    seconds = (time.process_time() - started) / len(found)
    scores = np.array([one.pred_score for _, one in found])
    bad = np.array([case.bad for case, _ in found])
    result = {"pairs": len(found), "seconds": seconds}
    if threshold is None:
        draws = [_draw(scores, bad, found, seed) for seed in range(DRAWS)]
        result |= {name: float(np.mean([one[name] for one in draws if one[name] is not None])) for name in draws[0]}
        whole = measures(scores.tolist(), bad.tolist(), verdicts=(scores >= result["threshold"]).tolist())
        result |= {"auroc": whole["auroc"], "auroc_interval": whole["auroc_interval"]}
    else:
        result |= {"threshold": threshold, "iou": iou(found, threshold)}
    return result


def _draw(scores: np.ndarray, bad: np.ndarray, found: Sequence[tuple[Case, AnomalyMap]], seed: int) -> dict:
    good = np.flatnonzero(~bad)
    chosen = np.random.default_rng(seed).choice(good, CALIBRATION, replace=False)
    threshold = from_good(scores[chosen], of_map=True).value
    tested = np.ones(len(bad), bool)
    tested[chosen] = False
    right = [(scores[tested & bad] >= threshold).mean(), (scores[tested & ~bad] < threshold).mean()]
    place = iou(found, threshold) if seed < 3 else None  # slow, and hardly moves
    return {"threshold": threshold, "balanced_accuracy": float(np.mean(right)), "iou": place}


def iou(found: Sequence[tuple[Case, AnomalyMap]], threshold: float) -> float:
    """Mean BBox-Mask IoU over defective queries."""
    shares = [bbox_mask_iou(one.boxes(threshold), case.boxes, one.size) for case, one in found if case.bad]
    return float(np.mean(shares))


def page(results: dict[str, dict], *, command: str) -> str:
    """The results as a page."""
    rows = []
    for name, one in results.items():
        rank = "–" if "auroc" not in one else "{:.3f} ({:.3f} to {:.3f})".format(one["auroc"], *one["auroc_interval"])
        share = f"{one['balanced_accuracy']:.3f}" if "balanced_accuracy" in one else "–"
        cells = [name, one["pairs"], rank, share, f"{one['iou']:.3f}", f"{1000 * one['seconds']:.0f} ms"]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return f"""# The anomaly map alone

`{command}` on {machine.here()}

No model: registered pixels (docs/anomaly-map.md), one template a query. Balanced accuracy is with the threshold of
`adcopilot calibrate` from {CALIBRATION} good pairs, which are then not tested; mean of {DRAWS} draws. BBox-Mask IoU is
over defective queries; on DeepPCB boxes grow by {GROWTH} pixels, as chosen on its training pairs, on the sample set by
none.
Whole boards are all defective; their boxes take the windows' threshold. Time is of one core.

| | pairs | AUROC (95 %) | balanced accuracy | box IoU | a pair |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--deeppcb", type=Path, help="DeepPCB's folder; without it, the sample set alone")
    parser.add_argument("--limit", type=int, help="pairs of each set, for a rehearsal")
    args = parser.parse_args()

    def some(cases: Iterable[Case]) -> list[Case]:
        found = []
        for case in cases:
            found.append(case)
            if len(found) == args.limit:
                break
        return found

    results = {}
    if args.deeppcb:
        windows = some(deeppcb(args.deeppcb, split="test", crop="112"))
        name = "DeepPCB test windows"
        results[name] = measure(windows, growth=GROWTH, tell=name)
        results[f"{name}, disturbed"] = measure(disturbed(windows), growth=GROWTH, tell="disturbed")
        boards = some(deeppcb(args.deeppcb, split="test", crop="whole"))
        threshold = results[name]["threshold"]
        results["DeepPCB test boards"] = measure(boards, growth=GROWTH, threshold=threshold, tell="boards")
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder), standard_splits(30, test_count=400), seed=0, workers=1, progress=lambda line: None)
        for split, title in (("test_trained", "trained categories"), ("test_held_out", "new categories")):
            name = f"sample set, {title}"
            results[name] = measure(some(sample_set(Path(folder), split)), growth=0, tell=name)
    words = " --deeppcb DeepPCB" if args.deeppcb else ""
    text = page(results, command=f"python benchmarks/anomaly_map.py{words}")
    if args.limit:
        print(text)
    else:
        machine.write_result(RESULT, {"command": words.strip(), **machine.versions(), "results": results}, text)


if __name__ == "__main__":
    main()
