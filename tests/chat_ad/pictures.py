"""Pictures drawn for tests: textured, each unlike the others; a defect is a bright rectangle where its mask says."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 48)


#: A defect's rectangle in most of the trees: (x1, y1, x2, y2).
BOX = (20, 10, 32, 18)


def picture(seed, size=SIZE, box=None):
    """A texture of its own for each seed (bytes), (height, width, 3), with a bright rectangle if a box is given."""
    rng = np.random.default_rng(zlib.crc32(seed))
    width, height = size
    ys, xs = np.mgrid[:height, :width]
    phase, tilt = rng.uniform(0, 6.28, 2)
    base = 110 + 50 * np.sin(xs * (0.3 + rng.uniform(0, 0.5)) + phase) * np.cos(ys * (0.3 + tilt / 9))
    image = np.clip(base[..., None] + rng.normal(0, 8, (height, width, 3)), 0, 200).astype(np.uint8)
    for x1, y1, x2, y2 in [] if box is None else [box]:
        image[y1:y2, x1:x2] = 250
    return image


def mask_of(*boxes, size=SIZE, value=255):
    """A mask (height, width) with rectangles; `value` may be one number a box."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    values = value if isinstance(value, (list, tuple)) else [value] * len(boxes)
    for (x1, y1, x2, y2), number in zip(boxes, values, strict=True):
        mask[y1:y2, x1:x2] = number
    return mask


def save(path, array):
    """Write an array as the image that the path's suffix says."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format={".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower()), quality=95)
    return path


def flood(mask):
    """Components by a plain flood fill: [(box, area, pixels)] in reading order of their boxes."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        pending, pixels = [left.pop()], []
        while pending:
            y, x = pending.pop()
            pixels.append((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    pending.append(near)
        ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
        found.append(((min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(pixels), pixels))
    return sorted(found, key=lambda one: (one[0][1], one[0][0], one[0][3], one[0][2], one[1]))
