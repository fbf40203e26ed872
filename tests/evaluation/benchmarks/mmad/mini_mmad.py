"""MMAD in miniature: its real layout and files, all four sources, eight types of questions, drawn here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {
    "DS-MVTec": ("bottle", "image", "broken_large", "png"),
    "MVTec-LOCO": ("screw_bag", "test", "logical_anomalies", "png"),
    "VisA": ("pcb1", "test", "bad", "JPG"),
    "GoodsAD": ("drink_can", "test", "straw_missing", "jpg"),
}
TYPES = (
    "Anomaly Detection",
    "Defect Classification",
    "Defect Localization",
    "Defect Description",
    "Defect Analysis",
    "Object Classification",
    "Object Structure",
    "Object Details",
)


def build(root: Path, *, per_kind: int = 2, templates: int = 2, knowledge: bool = True) -> Path:
    """Write the files below `root` and return it: per source `per_kind` normal and as many defective images."""
    dice = np.random.default_rng(17)
    entries = {}
    for number, (dataset, (product, folder, defect, suffix)) in enumerate(KINDS.items()):
        width, height = 84 + 28 * (number % 2), 84 + 28 * (number // 2)
        good_root = "MVTec-AD" if dataset == "DS-MVTec" else dataset
        plain = drawing(width, height, number)
        names = []
        for index in range(templates):
            name = f"{good_root}/{product}/train/good/{index:03}.{suffix}"
            save(root / name, noisy(plain, dice))
            names.append(name)
        for kind in ("good", defect):
            for index in range(per_kind):
                stem = f"{number:03}_{index:03}" if dataset == "GoodsAD" else f"{index:03}"
                image = f"{dataset}/{product}/{folder}/{kind}/{stem}.{suffix}"
                picture, mask = noisy(plain, dice), np.zeros((height, width), np.uint8)
                entry = {
                    "image_path": f"{folder}/{kind}/{stem}.{suffix}",
                    "similar_templates": names[::-1],
                    "random_templates": names,
                    "conversation": conversation(kind == "good", index),
                }
                if kind != "good":
                    x, y = 10 + 9 * index, 14 + 7 * index
                    mask[y : y + 12, x : x + 20] = 200
                    mask[height - 8 : height - 4, width - 9 : width - 3] = 255
                    picture[mask > 0] = (250, 10, 200)
                    entry["mask_path"] = mask_path(root, dataset, product, kind, stem, mask)
                save(root / image, picture)
                entries[image] = entry
    root.mkdir(parents=True, exist_ok=True)
    (root / "mmad.json").write_text(json.dumps(entries))
    if knowledge:
        told = {
            "MVTec" if dataset == "DS-MVTec" else dataset: {
                product: {"good": f"<{product}> clean", defect: f"<{defect}>"}
            }
            for dataset, (product, _, defect, _) in KINDS.items()
            if dataset != "GoodsAD"  # a product that the file lacks
        }
        (root / "domain_knowledge.json").write_text(json.dumps(told))
    return root


def conversation(normal: bool, seed: int) -> list[dict]:
    """Five questions on a defective image, four on a normal one; over both, all eight types."""
    turns = [
        {
            "Question": "Is there any defect in the object?",
            "Options": {"A": "Yes.", "B": "No."},
            "Answer": "B" if normal else "A",
            "type": "Anomaly Detection",
            "annotation": True,
        }
    ]
    for place, kind in enumerate(TYPES[5:] if normal else TYPES[1:5]):
        words = dict(zip("ABCD", ("one", "two", "three", "four"), strict=True))
        turns.append(
            {
                "Question": f"There is a question of {kind}. What is right?",
                "Options": {letter: f"{kind} {word}" for letter, word in words.items()},
                "Answer": "ABCD"[(place + seed) % 4],
                "type": kind,
                "annotation": False,
            }
        )
    return turns


def mask_path(root: Path, dataset: str, product: str, kind: str, stem: str, mask: np.ndarray) -> str:
    """Save a mask in its source's own way; its path as mmad.json has it."""
    if dataset == "DS-MVTec":
        name = f"rbg_mask/{kind}/{stem}_rbg_mask.png"
        save(root / dataset / product / name, np.stack([mask, mask * 0, mask // 2], axis=2))
        return name
    if dataset == "MVTec-LOCO":  # a folder with one file a region
        name = f"ground_truth/{kind}/{stem}"
        for part in range(2):
            half = mask.copy()
            half[:, : mask.shape[1] // 2] *= part
            half[:, mask.shape[1] // 2 :] *= 1 - part
            save(root / dataset / product / name / f"{part:03}.png", half)
        return name
    name = f"ground_truth/{kind}/{stem}.png"
    save(root / dataset / product / name, mask)
    return name


def drawing(width: int, height: int, number: int) -> np.ndarray:
    yy, xx = np.mgrid[:height, :width]
    picture = np.full((height, width, 3), (40 + 40 * number, 90, 160 - 30 * number), np.uint8)
    picture[(yy - height / 2) ** 2 + (xx - width / 2) ** 2 < (width / 4) ** 2] = (220, 200 - 40 * number, 60)
    return picture


def noisy(picture: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    return np.clip(picture + dice.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {} if path.suffix == ".png" else {"quality": 95, "format": "JPEG"}
    Image.fromarray(picture).save(path, **options)
