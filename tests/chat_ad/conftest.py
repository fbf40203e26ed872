"""A small dataset in DeepPCB's layout, drawn here."""

import numpy as np
import pytest
from PIL import Image

SIDE = 160


def write_pair(root, split, number, boxes, *, seed):
    """One source pair under `root` (the folder that holds the lists), and its line in the split's list."""
    rng = np.random.default_rng(seed)
    stem = f"9{number:07d}"
    images, notes = root / "group90000/90000", root / "group90000/90000_not"
    images.mkdir(parents=True, exist_ok=True)
    notes.mkdir(parents=True, exist_ok=True)
    template = np.full((SIDE, SIDE), 255, np.uint8)
    for _ in range(6):
        at = int(rng.integers(0, SIDE - 8))
        template[at : at + 4] = 0
        template[:, at : at + 4] = 0
    query = template.copy()
    for x1, y1, x2, y2, _ in boxes:
        query[y1:y2, x1:x2] = 255 - query[y1:y2, x1:x2]
    Image.fromarray(template).save(images / f"{stem}_temp.jpg", quality=95)
    Image.fromarray(query).save(images / f"{stem}_test.jpg", quality=95)
    (notes / f"{stem}.txt").write_text("".join(" ".join(map(str, box)) + "\n" for box in boxes))
    with open(root / {"train": "trainval.txt", "test": "test.txt"}[split], "a") as file:
        file.write(f"group90000/90000/{stem}.jpg group90000/90000_not/{stem}.txt\n")
    return stem


@pytest.fixture
def pcb(tmp_path):
    """The folder that `--root` names: four training pairs and two test pairs, all classes."""
    root = tmp_path / "source" / "PCBData"
    for number in range(6):
        base = 10 + 3 * number
        boxes = [
            (base, 20, base + 12, 30, number + 1),
            (base + 60, 100, base + 75, 112, (number + 1) % 6 + 1),
            (base + 40, 60, base + 48, 70, (number + 2) % 6 + 1),
        ]
        write_pair(root, "test" if number >= 4 else "train", number, boxes, seed=number)
    (tmp_path / "source" / "LICENSE").write_text("MIT License\n")
    return tmp_path / "source"
