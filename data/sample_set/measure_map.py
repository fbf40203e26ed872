"""What a comparison of pixels reaches on a test split, beside the model: what a reader would try first.

peak             the anomaly map's own score, the mean of its highest 0.2 %
area             the mean of its highest 10 %: moved parts spread, defects do not
area, no light   the same, after each picture was divided by its own blur

`python -m adcopilot.sample.measure_map DIR` prints them for the test sets of `adcopilot data sample --output DIR`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from adcopilot.anomaly_map.comparing import AnomalyMap, Mapper, MapSettings
from adcopilot.anomaly_map.marking import pred_score
from adcopilot.line.thresholds import from_good

from .measure import Scores, read_sample_split, score_answers

__all__ = ["MAP_ROWS", "measure_map"]

AREA = 0.1
#: Row of the table → (whether light is divided out, share of the map whose mean is the score; None for the map's own).
MAP_ROWS = {"map: peak": (False, None), "map: area": (False, AREA), "map: area, no light": (True, AREA)}
#: Pixels that light is constant over.
SPREAD = 10
#: Good training pairs that a threshold is found on.
CALIBRATION = 40


def measure_map(data: Path, records: list[dict], training: Sequence[dict]) -> dict[str, Scores]:
    """Row → scores of the map on a test split.

    Args:
        data: folder that the records' image paths start from.
        records: of a test split.
        training: records, none of them in `records`, whose good pairs give the threshold: twice the median of their
            scores.
    """
    good = [one for one in training if one.get("anomalous") is False and len(one["images"]) == 2][:CALIBRATION]
    mapper, found = Mapper(MapSettings()), {}
    maps = {
        no_light: [_compare(mapper, data, one, no_light) for one in (*good, *records)] for no_light in (False, True)
    }
    for row, (no_light, top) in MAP_ROWS.items():
        scores = [one.pred_score if top is None else pred_score(one.values, top=top) for one in maps[no_light]]
        threshold = from_good(scores[: len(good)], of_map=True).value
        answers = [
            {
                "anomalous": score >= threshold,
                "score": score,
                "boxes": [{"bbox_2d": box, "label": ""} for box in one.boxes()] if score >= threshold else [],
                "size": one.size,
            }
            for one, score in zip(maps[no_light][len(good) :], scores[len(good) :], strict=True)
        ]
        found[row] = score_answers(records, answers)
    return found


def _compare(mapper: Mapper, data: Path, record: dict, no_light: bool) -> AnomalyMap:
    template, query = (Image.open(data / name).convert("RGB") for name in record["images"])
    if no_light:
        template, query = _no_light(template), _no_light(query)
    return mapper.compare(query, [template])


def _no_light(image: Image.Image) -> Image.Image:
    """A picture divided by its own blur: slow changes of light are gone, and so are those of the part."""
    pixels, light = (np.asarray(one, float) + 8 for one in (image, image.filter(ImageFilter.GaussianBlur(SPREAD))))
    return Image.fromarray(np.clip(128 * pixels / light, 0, 255).astype(np.uint8))


def main() -> None:
    data = Path(sys.argv[1])
    for split in ("test_trained", "test_held_out", "test_trained_varied", "test_held_out_varied"):
        if (data / f"{split}.jsonl").exists():
            good = read_sample_split(data, "calibration_varied" if split.endswith("_varied") else "stage0")
            for row, found in measure_map(data, read_sample_split(data, split), good).items():
                reached = f"{found.auroc:8.3f}{found.balanced_accuracy:8.3f}{found.iou:8.3f}"
                print(f"{split:22}{row:22}{found.pairs:6}{reached}", flush=True)


if __name__ == "__main__":
    main()
