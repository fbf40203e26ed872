"""From the lines of a run to the paper's Table III: boxes in pixels of the original, against boxes of the masks."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adcopilot.answering.families import Family, says_nothing_is_there, split_thinking
from adcopilot.errors import UserError

from ...box_scores import SIZES, THRESHOLDS, BoxRule, answered_boxes, decode_mask, score_image, summarise
from ...map_options import BOXES, Chosen
from ...ranking import anomaly_score, by_dataset
from ...run_folder import stored_results
from ...table import aligned
from ..mmad.scoring import DATASETS

__all__ = ["results_of_records", "rule_of", "show"]

#: Share of an image above which its mask is perhaps inverted.
_LARGE = 0.5


def rule_of(args: argparse.Namespace) -> BoxRule:
    """The rule that is asked for; what is not said is, of a run that is scored again, as the run had it."""
    given = {
        name: value for name, value in (("regions", args.truth), ("min_area", args.min_area)) if value is not None
    }
    before = stored_results(args.score).get("rule") if args.score is not None else None
    try:
        return BoxRule(**{**(before or {}), **given})
    except TypeError:
        raise UserError(
            f"{args.score / 'results.json'}: its rule is {before!r:.60}, expected regions and min_area; say --truth "
            "and --min-area"
        ) from None


def results_of_records(
    records: Sequence[Mapping[str, Any]], *, family: Family, rule: BoxRule, chosen: Chosen | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Table III, and the images that it is made of.

    Returns:
        (scores, images). Scores: `overall`, the means over all anomalous images (`box_scores.summarise`), the same by
        `datasets`, `categories` and defect `sizes`, `masks`: how many mark nothing (`empty`: those images are in no
        mean, there is nothing to find) and how many more than half of their image (`over_half`: perhaps inverted),
        `dataset_average` (the mean of the datasets' numbers), `normal` and `with_normal` where normal images were
        asked about, `ranking` (AUROC and average precision by dataset and their `average`, percent) where the anomaly
        score is known, `unread` (why an answer says nothing → how many; it counts as one without boxes), and the rule
        for boxes. With `chosen`, all of that is of its boxes, and `boxes_by` has `overall` of each of `BOXES`, `whose`
        they are here, and `boxes_made` how the map was made. Images: one object each, with predicted and true boxes in
        pixels of the original.
    """
    images, scores, unread = [], {}, Counter()
    for record in records:
        meta = record["meta"]
        options, logprobs = record["options"], record["reply"].get("option_logprobs")
        value = anomaly_score(logprobs, options, next(iter(options))) if options else None
        # where the map's boxes count, an answer without boxes loses none
        counts = meta["role"] != "boxes" or chosen is None or chosen.whose != "map"
        if record["reply"].get("refused"):
            unread["were refused by the endpoint"] += counts
        elif meta["role"] == "score" and value is None:
            unread["have no probability to rank by"] += 1
        if value is not None:
            scores[meta["image"]] = (value, meta["dataset"], not meta["normal"])
        if meta["role"] != "boxes":
            continue
        size, boxes = tuple(record["size"]), answered_boxes(record, family=family)
        if not boxes and counts and not record["reply"].get("refused"):
            said = split_thinking(record["reply"]["text"])[1]
            unread["hold neither a box nor a word that there is none"] += not says_nothing_is_there(said)
        mask = None if "mask" not in record else decode_mask(record["mask"])
        by: dict[str, Any] = {}
        if chosen is not None:
            kinds = chosen.boxes(record["item"], boxes)
            by = {"by": {whose: _scored(some, mask, size=size, rule=rule) for whose, some in kinds.items()}}
            boxes = kinds[chosen.whose]
        images.append(
            {
                **meta,
                "size": record["size"],
                "text": record["reply"]["text"],
                "predicted": [box["bbox_2d"] for box in boxes],
                "labels": [box["label"] for box in boxes],
                **score_image([box["bbox_2d"] for box in boxes], mask, size=size, rule=rule),
                **by,
            }
        )
    for image in images:
        if image["image"] in scores:
            image["anomaly_score"] = scores[image["image"]][0]
    defective = [image for image in images if not image["normal"]]
    empty = [image for image in defective if not image["defect_share"]]
    defective = [image for image in defective if image["defect_share"]]
    images = [image for image in images if image["normal"] or image["defect_share"]]
    normal = [image for image in images if image["normal"]]
    datasets = _by(defective, lambda image: image["dataset"], DATASETS)
    found: dict[str, Any] = {
        "rule": rule.describe(),
        "unread": {why: count for why, count in unread.items() if count},
        "thresholds": list(THRESHOLDS),
        "size_limits": list(SIZES),
        "masks": {
            "empty": len(empty),
            "over_half": sum(image["defect_share"] > _LARGE for image in defective),
            "examples": [image["image"] for image in empty][:3],
        },
        "overall": summarise(defective),
        "datasets": datasets,
        "dataset_average": _mean_of(list(datasets.values())) if datasets else None,
        "categories": _by(defective, lambda image: f"{image['dataset']}/{image['category']}"),
        "sizes": _by(defective, lambda image: image["size_class"], ("small", "medium", "large")),
    }
    if normal:
        clean = sum(not image["predicted"] for image in normal)
        found["normal"] = {"images": len(normal), "without_boxes": 100 * clean / len(normal)}
        found["with_normal"] = summarise(images)
    if scores:
        found["ranking"] = by_dataset(scores.values())
    if chosen is not None:
        rows = {whose: summarise([image["by"][whose] for image in defective]) for whose in BOXES}
        found["boxes_by"] = {"whose": chosen.whose, **rows}
        found["boxes_made"] = dict(chosen.made)
    return found, images


def _scored(boxes: Sequence[Mapping[str, Any]], mask, *, size: tuple[int, int], rule: BoxRule) -> dict[str, Any]:
    predicted = [box["bbox_2d"] for box in boxes]
    scored = score_image(predicted, mask, size=size, rule=rule)
    return {"predicted": predicted, "iou": scored["iou"], "mask_iou": scored["mask_iou"]}


def _by(
    images: Sequence[Mapping[str, Any]], kind: Callable[[Mapping[str, Any]], str], order: Sequence[str] = ()
) -> dict[str, Any]:
    kinds: dict[str, list[Mapping[str, Any]]] = {name: [] for name in order}
    for image in images:
        kinds.setdefault(kind(image), []).append(image)
    return {name: summarise(members) for name, members in kinds.items() if members}


def _mean_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each number over rows of `summarise`; `images` is their sum."""
    mean: dict[str, Any] = {"images": sum(row["images"] for row in rows)}
    for name, value in rows[0].items():
        if isinstance(value, dict):
            mean[name] = {key: sum(row[name][key] for row in rows) / len(rows) for key in value}
        elif name != "images":
            mean[name] = sum(row[name] for row in rows) / len(rows)
    return mean


def show(found: Mapping[str, Any]) -> None:
    """Print Table III's columns by dataset."""
    masks = found.get("masks", {})
    if masks.get("empty"):
        print(
            f"{masks['empty']} defective images have a mask that marks nothing and are in no score: "
            f"{', '.join(masks['examples'])}{' …' if masks['empty'] > 3 else ''}"
        )
    if masks.get("over_half"):
        print(f"{masks['over_half']} masks mark more than half of their image: look whether they are inverted")
    rows = {**found["datasets"], "All images": found["overall"]}
    heads = ["images", "mIoU", *(f"@{one}" for one in THRESHOLDS), "mask mIoU", "no box"]
    cells = {}
    for name, row in rows.items():
        values = [row["mean_iou"], *row["accuracy"].values(), row["mask_mean_iou"], row["empty"]]
        cells[name] = [str(row["images"]), *("-" if value is None else f"{value:.2f}" for value in values)]
    print(*aligned(heads, cells, width=9), sep="\n")
    if "normal" in found:
        print(f"normal images without a box: {found['normal']['without_boxes']:.2f} % of {found['normal']['images']}")
    for whose in BOXES if "boxes_by" in found else ():
        row = found["boxes_by"][whose]
        if row["images"]:
            print(f"boxes by {whose}: mIoU {row['mean_iou']:.2f}, mask mIoU {row['mask_mean_iou']:.2f}")
    average = found.get("ranking", {}).get("average", {}).get("auroc")
    if average is not None and math.isfinite(average):
        print(f"AUROC of the anomaly score, mean over datasets: {average:.2f}")
