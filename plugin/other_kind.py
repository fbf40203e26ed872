"""Whether a query was photographed in another way than its template: grey instead of colour, 8 bits instead of 12.

Such pictures can be compared, and what differs then may be the camera and not the part. Nothing is refused for it: the
result says so beside its verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .images import ImageSource, frames_left_out, has_depth

__all__ = ["notes_about", "other_kind"]

#: Channels of a picture that differ by so much at most are those of a grey one (JPEG rounds), on the average pixel by
#: so much or more those of one in colour. Between the two lie grey parts before a camera for colours.
GREY, COLOUR = 2, 8
#: Side in pixels of the grid at whose points a picture is looked at.
LOOKED_AT = 64


def notes_about(
    query: Image.Image,
    templates: Sequence[Image.Image],
    *,
    sources: Sequence[ImageSource],
    name: str,
    bits: int | None,
) -> list[str]:
    """What speaks against a verdict that is given all the same: frames that were not seen, and `other_kind`.

    Args:
        query, templates, sources, bits: as in `other_kind`.
        name: of the query, for messages.
    """
    notes = (
        frames_left_out(sources[0], name=name),
        other_kind(query, templates, sources=sources, bits=bits),
    )
    return [note for note in notes if note]


def other_kind(
    query: Image.Image, templates: Sequence[Image.Image], *, sources: Sequence[ImageSource], bits: int | None
) -> str | None:
    """What differs between how a query and how its templates were photographed, in words; None where nothing does.

    Args:
        query, templates: upright, RGB.
        sources: the same as they were given, the query first.
        bits: that pictures of 16 bits a channel were scaled by.
    """
    told = []
    colours, others = _colours(query), [_colours(template) for template in templates]
    if colours == "grey" and others and all(one == "colour" for one in others):
        told.append("it is grey and its template is in colour")
    if colours == "colour" and others and all(one == "grey" for one in others):
        told.append("it is in colour and its template is grey")
    deep, *deep_others = map(has_depth, sources) if (bits or 8) > 8 else (False,)
    if deep_others and not deep and all(deep_others):
        told.append(f"it has 8 bits a channel and its template more, of which {bits} are used")
    if deep and not any(deep_others):
        told.append("it has 16 bits a channel and its template 8")
    if not told:
        return None
    return f"{' and '.join(told)}, which is a difference too; inspect pictures as the camera took those of good parts"


def _colours(image: Image.Image) -> str:
    """`grey`, `colour`, or `` where it may be either."""
    small = image.resize((LOOKED_AT, LOOKED_AT), Image.Resampling.NEAREST)
    values = np.asarray(small).astype(np.int16)
    apart = values.max(-1) - values.min(-1)
    return "grey" if apart.max() <= GREY else "colour" if apart.mean() >= COLOUR else ""
