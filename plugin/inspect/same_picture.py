"""Whether a template is the query itself, under whatever name and in whatever lossless format."""

from __future__ import annotations

from PIL import Image

__all__ = ["SAME_PICTURE", "is_same_picture", "pixel_counts"]

#: Why there is no verdict about such a pair.
SAME_PICTURE = "the template is the query itself, so there is nothing to compare; give a picture of another, good part"

_TURNS = tuple(Image.Transpose)


def pixel_counts(image: Image.Image) -> int:
    """A number that is equal for the same picture in all its orientations: its sides, and how often each value is."""
    return hash((*sorted(image.size), *image.histogram()))


def is_same_picture(one: Image.Image, other: Image.Image) -> bool:
    """Whether two upright RGB pictures have the same pixels, in one of the eight orientations.

    Links, copies, other names, other lossless formats and other EXIF orientations of one picture are the same. A copy
    that was compressed with loss has other pixels, as a second photograph of the same part has.
    """
    if pixel_counts(one) != pixel_counts(other):
        return False
    pixels = one.tobytes()
    if one.size == other.size and pixels == other.tobytes():
        return True
    turned = (other.transpose(turn) for turn in _TURNS)
    return any(copy.size == one.size and copy.tobytes() == pixels for copy in turned)
