"""Which names of folders are names of products or of defects: `metal nut` is one, `p`, `12` and `my parts` are none.

A text that says "a normal p sample" or "a defect of the type 3" teaches nothing; texts then say "part" and "defect".
"""

from __future__ import annotations

import re

from adcopilot.kinds import is_code

__all__ = ["PART", "is_product"]

#: What a product without a name is called.
PART = "part"

# What people call folders. A name is none of a product when all of its words are of these, or numbers.
_GENERIC = frozenset(
    re.findall(
        r"\w+",
        "a all and annotations anomalies anomaly backup bad categories category coco copy data dataset datasets "
        "default defect defects desktop detection dir directory documents download downloads examples export "
        "exports file files final folder folders for frames good image images img imgs in input inspection item "
        "items jpegimages jpg labelme labels misc mvtec my new normal object objects of ok old other others our "
        "out output part parts photo photographs photos pic pics picture pictures piece pieces png product "
        "products project projects raw roboflow root sample samples set temp test testing the tmp train training "
        "unknown unnamed untitled upload uploads val valid validation voc work workspace yolo",
    )
)


def is_product(name: str) -> bool:
    """Whether a name can stand for a product in a text.

    Args:
        name: in lower case, spaces between its words.
    """
    return not is_code(name) and not all(word in _GENERIC or word.isdigit() for word in re.findall(r"[^\W_]+", name))
