"""`adcopilot eval mmad-bbox`: where the defects of MMAD's images are, the paper's Table III row of any model.

MMAD's images and templates, no texts of it. Each model is asked in its family's own box format
(`families.box_question`), and its boxes are mapped to pixels of the original image. A line of the run carries the mask
as run lengths, so other rules for the true boxes need neither the model nor the masks again (`--score RUN`).
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.choices import anomaly_score
from adcopilot.answering.families import (
    FAMILIES,
    Family,
    box_question,
    read_boxes,
    says_nothing_is_there,
    split_thinking,
)
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.images import image_size
from adcopilot.jsonl import content_key, write_jsonl
from adcopilot.line.ranking import auroc, average_precision
from adcopilot.tasks.verdict import OPTIONS

from .box_scores import SIZES, THRESHOLDS, BoxRule, decode_mask, encode_mask, read_mask, score_image, summarise
from .command import add_arguments as add_arguments_of_a_run
from .command import evaluate, identity, make_backend, print_json, require, score_again
from .image_digests import image_digests
from .mmad import choosing, dataset
from .mmad.prompts import PROMPTS
from .mmad.scoring import DATASETS
from .run_folder import stored_results
from .wording import OWN, Wording

#: Counts up whenever the same command would ask something else.
VERSION = 3

#: Share of an image above which its mask is perhaps inverted.
_LARGE = 0.5

#: Asked about the same images for a score to rank them by, of models whose box answer does not begin with yes or no.
_DEFECTIVE = "Is there any defect in the query image? Answer with the letter of the right option.\nA. Yes.\nB. No."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = choosing.add_arguments(parser)
    what.add_argument("--with-normal", action="store_true", help="ask about normal images too")
    what.add_argument(
        "--anomaly-score", action="store_true", help="rank images by how defective they are called (with normal ones)"
    )
    what.add_argument(
        "--truth",
        choices=("components", "whole"),
        help="a box for each region, or one for all (components; with --score the run's)",
    )
    what.add_argument(
        "--min-area", type=int, metavar="N", help="smallest region that has a box (1 pixel; with --score the run's)"
    )
    add_arguments_of_a_run(parser)


def run(args: argparse.Namespace) -> int:
    rule = _rule(args)
    if args.score is not None:
        return score_again(
            args,
            benchmark="mmad-bbox",
            score=lambda manifest, records: results(records, family=_family(manifest), rule=rule)[0],
            show=show,
        )
    require(args, "data_root", "model", "output")
    normal_too = args.with_normal or args.anomaly_score
    samples, digest = choosing.choose(args, keep=lambda sample: normal_too or not sample.normal)
    masks = find_masks(args.data_root, samples)

    backend = make_backend(args)
    asked = items(
        samples,
        root=args.data_root,
        shots=args.shots,
        kind=args.template,
        family=backend.family,
        thinking=args.thinking,
        with_score=args.anomaly_score,
        masks=masks,
        folder=args.output,
    )
    settings = identity(backend, benchmark="mmad-bbox", version=VERSION, shots=args.shots, template=args.template,
                        data=digest)  # fmt: skip

    def truth(item: Item) -> dict[str, Any]:
        return truth_fields(item, masks=masks, model_size=backend.model_size)

    def finish(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        found, images = results(records, family=backend.family, rule=rule)
        write_jsonl(folder / "images.jsonl", images)
        return {"shots": args.shots, "template": args.template, **found}

    return evaluate(
        args,
        backend=backend,
        items=asked,
        settings=settings,
        wording=Wording(whose=OWN, text=_text(asked)),
        answer_tokens=512,
        finish=finish,
        truth=truth,
        show=show,
    )


def _text(asked: Sequence[Item]) -> dict[str, Any]:
    return {"prefix": list(asked[0].prefix), "questions": list(dict.fromkeys(item.question for item in asked))}


def _rule(args: argparse.Namespace) -> BoxRule:
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


def find_masks(root: Path, samples: Sequence[dataset.Sample]) -> dict[str, Path]:
    """Image → its mask file or folder, for anomalous samples.

    Raises:
        UserError: masks are missing; it says how many, and the first few images they belong to.
    """
    found, missing = {}, []
    for sample in samples:
        if sample.normal:
            continue
        path = next((path for path in sample.masks(root) if path.exists()), None)
        if path is None:
            missing.append(sample.image)
        else:
            found[sample.image] = path
    if missing:
        raise UserError(
            f"{root}: {len(missing)} anomalous images have no mask on the disk: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; download MMAD's masks, or leave out what lacks them with --category"
        )
    return found


def items(
    samples: Sequence[dataset.Sample],
    *,
    root: Path,
    shots: int,
    kind: str,
    family: Family,
    thinking: bool = False,
    with_score: bool = False,
    masks: Mapping[str, Path] | None = None,
    folder: Path | None = None,
) -> list[Item]:
    """One item a sample, and with `with_score` what its anomaly score is read from.

    AD-Copilot gets a pair as in its training, without further words, and its answer begins with yes or no (unless it
    reasons first: then it is asked once more, without). Other models are told which image is what, and are asked a
    second question in the same group.

    Args:
        samples, root, shots, kind, thinking, folder: as `mmad.prompts.items`.
        family: how the model is asked for boxes.
        with_score: whether images are to be ranked.
        masks: image → its mask, whose hash an item's `meta` then has: what is true can change without the question.
    """
    own = family.name == "adcopilot" and shots == 1
    parts: tuple[str | int, ...] = tuple(range(shots + 1))
    if not own:
        before = (PROMPTS["template" if shots == 1 else "templates"].replace("{count}", str(shots)),) if shots else ()
        parts = (*before, *range(shots), PROMPTS["query"], shots)
    question = box_question(family, images=shots + 1)
    question = question if own else f"\n{question}"
    shown = [(*dataset.templates(sample, shots=shots, kind=kind), sample.image) for sample in samples]
    files = [root / name for names in shown for name in names]
    mask_files = {image: _mask_files(path) for image, path in (masks or {}).items()}
    digests = image_digests([*files, *(file for some in mask_files.values() for file in some)], folder=folder)
    found = []
    for sample, names in zip(samples, shown, strict=True):
        paths = tuple(root / name for name in names)
        group = content_key("mmad-bbox", names, [digests[path] for path in paths], parts)
        ask: list[tuple[str, str, dict[str, str] | None]] = [("boxes", question, None)]
        if with_score and own and not thinking:
            ask = [("boxes", question, OPTIONS)]
        elif with_score and own:
            ask.append(("score", question, OPTIONS))
        elif with_score:
            ask.append(("score", f"\n{_DEFECTIVE}", {"A": "Yes.", "B": "No."}))
        for role, text, options in ask:
            # The score is the probability of the first word, which reasoning would take the place of.
            words = family.question(text, thinking=True) if thinking and role == "boxes" else text
            found.append(
                Item(
                    key=content_key(group, role, words, options),
                    group=group,
                    images=paths,
                    prefix=parts,
                    question=words,
                    options=options,
                    meta={
                        "image": sample.image,
                        "templates": list(names[:-1]),
                        "dataset": sample.dataset,
                        "category": sample.category,
                        "kind": sample.kind,
                        "normal": sample.normal,
                        "role": role,
                        **(
                            {"mask_hash": content_key([digests[file] for file in mask_files[sample.image]])}
                            if role == "boxes" and sample.image in mask_files
                            else {}
                        ),
                    },
                )
            )
    return found


def _mask_files(path: Path) -> list[Path]:
    """A mask's file, or those of a folder of masks."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def truth_fields(
    item: Item, *, masks: Mapping[str, Path], model_size: Callable[[tuple[int, int]], tuple[int, int]]
) -> dict[str, Any]:
    """What a line of the run carries so that it can be scored alone: sizes, and the mask as run lengths.

    Raises:
        UserError: the mask cannot be read, or is not of the image's size.
    """
    if item.meta["role"] != "boxes":
        return {}
    size = image_size(item.images[-1])
    fields: dict[str, Any] = {"size": list(size), "model_size": list(model_size(size))}
    path = masks.get(item.meta["image"])
    if path is not None:
        fields["mask"] = encode_mask(read_mask(path, size=size))
    return fields


def results(
    records: Sequence[Mapping[str, Any]], *, family: Family, rule: BoxRule
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Table III, and the images that it is made of.

    Returns:
        (scores, images). Scores: `overall`, the means over all anomalous images (`box_scores.summarise`), the same by
        `datasets`, `categories` and defect `sizes`, `masks`: how many mark nothing (`empty`: those images are in no
        mean, there is nothing to find) and how many more than half of their image (`over_half`: perhaps inverted),
        `dataset_average` (the mean of the datasets' numbers), `normal` and `with_normal` where normal images were
        asked about, `ranking` (AUROC and average precision by dataset and their `average`, percent) where the anomaly
        score is known, `unread` (why an answer says nothing → how many; it counts as one without boxes), and the rule
        for boxes. Images: one object each, with predicted and true boxes in pixels of the original.
    """
    images, scores, unread = [], {}, Counter()
    for record in records:
        meta = record["meta"]
        value = _anomaly_score(record)
        if record["reply"].get("refused"):
            unread["were refused by the endpoint"] += 1
        elif meta["role"] == "score" and value is None:
            unread["have no probability to rank by"] += 1
        if value is not None:
            scores[meta["image"]] = (value, meta["dataset"], meta["normal"])
        if meta["role"] != "boxes":
            continue
        size, model_size = tuple(record["size"]), tuple(record["model_size"])
        boxes = read_boxes(record["reply"]["text"], family=family, size=size, model_size=model_size)
        if not boxes and not record["reply"].get("refused"):
            said = split_thinking(record["reply"]["text"])[1]
            unread["hold neither a box nor a word that there is none"] += not says_nothing_is_there(said)
        mask = None if "mask" not in record else decode_mask(record["mask"])
        images.append(
            {
                **meta,
                "size": record["size"],
                "text": record["reply"]["text"],
                "predicted": [box["bbox_2d"] for box in boxes],
                "labels": [box["label"] for box in boxes],
                **score_image([box["bbox_2d"] for box in boxes], mask, size=size, rule=rule),
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
        found["ranking"] = _ranking(list(scores.values()))
    return found, images


def _anomaly_score(record: Mapping[str, Any]) -> float | None:
    options = record["options"]
    if not options:
        return None
    return anomaly_score(record["reply"].get("option_logprobs"), options, next(iter(options)))


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


def _ranking(scores: Sequence[tuple[float, str, bool]]) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(one[1] for one in scores):
        values = [value for value, dataset_name, _ in scores if dataset_name == name]
        labels = [not normal for _, dataset_name, normal in scores if dataset_name == name]
        row = {"auroc": auroc(values, labels), "average_precision": average_precision(values, labels)}
        table[name] = {column: None if value is None else 100 * value for column, value in row.items()}
    known = {
        column: [row[column] for row in table.values() if row[column] is not None]
        for column in ("auroc", "average_precision")
    }
    table["average"] = {column: sum(values) / len(values) if values else None for column, values in known.items()}
    return table


def _family(manifest: Mapping[str, Any]) -> Family:
    return FAMILIES.get(manifest["identity"].get("backend", {}).get("family"), FAMILIES["generic"])


def show(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print scores: one JSON object, or Table III's columns by dataset."""
    if as_json:
        print_json(found)
        return
    masks = found.get("masks", {})
    if masks.get("empty"):
        print(
            f"{masks['empty']} defective images have a mask that marks nothing and are in no score: "
            f"{', '.join(masks['examples'])}{' …' if masks['empty'] > 3 else ''}"
        )
    if masks.get("over_half"):
        print(f"{masks['over_half']} masks mark more than half of their image: look whether they are inverted")
    rows = {**found["datasets"], "All images": found["overall"]}
    width = max(map(len, rows))
    heads = ["images", "mIoU", *(f"@{one}" for one in THRESHOLDS), "mask mIoU", "no box"]
    print(" ".join([" " * width, *(f"{head:>9}" for head in heads)]))
    for name, row in rows.items():
        values = [row["mean_iou"], *row["accuracy"].values(), row["mask_mean_iou"], row["empty"]]
        cells = [str(row["images"]), *("-" if value is None else f"{value:.2f}" for value in values)]
        print(" ".join([f"{name:<{width}}", *(f"{cell:>9}" for cell in cells)]))
    if "normal" in found:
        print(f"normal images without a box: {found['normal']['without_boxes']:.2f} % of {found['normal']['images']}")
    average = found.get("ranking", {}).get("average", {}).get("auroc")
    if average is not None and math.isfinite(average):
        print(f"AUROC of the anomaly score, mean over datasets: {average:.2f}")
