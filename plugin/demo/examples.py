"""Pairs of pictures to try the page with, drawn by the sample set's own code when the server starts."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ..sample.pairs import draw_pair, stream

__all__ = ["Example", "draw_examples"]

#: Side in pixels: what the tiny model was trained with. The numbers belong to no split of the sample set.
SIDE, SEED, NUMBER = 56, 0, 90
#: Category of the sample set, and whether the part is defective.
CHOSEN = (("pcb", True), ("gear", True), ("bracket", True), ("washer", False))
NAMES = {"pcb": "Circuit board", "gear": "Gear", "bracket": "Bracket", "washer": "Washer"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A pair of RGB images of 56×56 pixels, and what there is to see in words."""

    title: str
    template: Image.Image
    query: Image.Image


def draw_examples() -> list[Example]:
    """The pairs."""
    examples = []
    for index, (category, anomalous) in enumerate(CHOSEN):
        pair = draw_pair(stream(SEED, NUMBER, index), category=category, size=SIDE, anomalous=anomalous)
        title = f"{NAMES[category]}: {pair.kind or 'no defect'}"
        examples.append(Example(title=title, template=pair.template, query=pair.query))
    return examples
