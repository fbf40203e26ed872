"""Tables of images that this package draws, for the tests of filtering and pairing."""

import hashlib

import numpy as np
from PIL import Image

from adcopilot.chat_ad.fitness.fingerprints import Fingerprints, measure_table
from adcopilot.chat_ad.fitness.measures import judge
from adcopilot.chat_ad.sources.references import content_sha256
from adcopilot.chat_ad.table import SCHEMA, Entry, make_metadata, read_batches, to_batch, write_table
from adcopilot.sample.pairs import draw_pair, stream

CATEGORIES = ("washer", "pcb", "connector")


def entry(root, image, **changes):
    """The row of an image file; its mask is `image` with `_mask` before the suffix, if that is there."""
    mask = image.rpartition(".")[0] + "_mask.png"
    with Image.open(root / image) as opened:
        width, height = opened.size
    columns = {
        "image": image,
        "category": image.split("/")[0],
        "label": "normal",
        "width": width,
        "height": height,
        "sha256": content_sha256(root, image),
        "source": "drawn",
        "mask": mask if (root / mask).is_file() else "",
    }
    return Entry(**{**columns, **changes})


def invented(image, **changes):
    """The row of an image that is only invented: normal, and with a content of its own, unless said otherwise."""
    content = hashlib.sha256(image.encode()).hexdigest()
    columns = {"category": "c", "label": "normal", "width": 9, "height": 9, "sha256": content, "source": "s"}
    return Entry(image=image, **{**columns, **changes})


def draw_dataset(root, *, categories=CATEGORIES, normal=4, anomalous=2, size=128, seed=0):
    """Draw images below `root` and return their rows: CATEGORY/normal/N.png, CATEGORY/bad/N.png, …_mask.png."""
    entries = []
    for index, category in enumerate(categories):
        for number in range(normal + anomalous):
            bad = number >= normal
            pair = draw_pair(stream(seed, index, number), category=category, size=size, anomalous=bad)
            name = f"{category}/{'bad' if bad else 'normal'}/{number:03d}.png"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            pair.query.save(root / name)
            changes = {}
            if bad:
                Image.fromarray(pair.mask.astype(np.uint8) * 255).save(root / name.replace(".png", "_mask.png"))
                boxes = tuple(tuple(box) for box in pair.boxes)
                changes = {
                    "label": "anomalous",
                    "defect": pair.kind,
                    "boxes": boxes,
                    "box_labels": (pair.kind,) * len(boxes),
                }
            entries.append(entry(root, name, **changes))
    return entries


def write(path, root, entries):
    """A table of the entries; returns its path."""
    write_table(path, [to_batch(entries)], metadata=make_metadata(root=root, dataset="drawn"))
    return path


def entry_of(row):
    """The entry that a table's row is; further columns are passed over."""
    values = {name: row[name] for name in SCHEMA.names}
    return Entry(**{**values, "boxes": tuple(map(tuple, row["boxes"])), "box_labels": tuple(row["box_labels"])})


def read_entries(path):
    """A table's rows as entries."""
    return [entry_of(row) for batch in read_batches(path) for row in batch.to_pylist()]


def filter_table(rows, root, *, options=None):
    """The rows that stay of a whole table, and a record for each of the others, as a build's filter has them."""
    drops = judge(rows, Fingerprints([measure_table(rows, root)]), options=options)
    keep = [row for row in range(rows.num_rows) if row not in drops]
    return rows.take(keep), [drops[row] for row in sorted(drops)]


def as_table(entries):
    """The entries as an Arrow table."""
    import pyarrow as pa

    return pa.Table.from_batches([to_batch(entries)])
