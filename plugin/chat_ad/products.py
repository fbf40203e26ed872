"""Which names of folders are names of products: `metal nut` is one, `p`, `12`, `images` and `my parts` are none.

A text that says "a normal p sample" teaches nothing; where a folder's name is no product's, texts say "part".
"""

from __future__ import annotations

import re

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
    letters = [char for char in name if char.isalpha()]
    # A single sign of Chinese is a word; one letter of an alphabet is a code.
    if not letters or (len(letters) == 1 and letters[0].lower() != letters[0].upper()):
        return False
    words = ("".join(char if char.isalnum() else " " for char in name)).split()
    return not all(word in _GENERIC or word.isdigit() for word in words)
