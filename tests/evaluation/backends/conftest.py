"""Small questions about small images, for every backend."""

import random
from pathlib import Path

import pytest

from adcopilot.answering.items import Item

QUESTIONS = (
    "Is there a defect in the second image?",
    "What is it?\nA. A scratch.\nB. Nothing.\nAnswer with the letter.",
    "Where is the defect? Answer in JSON with boxes, please, and be exact about it.",
    "Describe the images.",
    "Yes or No?",
)


def picture(path: Path, size: tuple[int, int], seed: int) -> Path:
    """A PNG with rectangles at random places."""
    from PIL import Image, ImageDraw

    rng = random.Random(seed)
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.randrange(size[0] - 8), rng.randrange(size[1] - 8)
        draw.rectangle((x, y, x + 8, y + rng.randrange(4, 9)), fill=tuple(rng.randrange(256) for _ in range(3)))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def make_group(folder: Path, name: str, sizes: list[tuple[int, int]], questions=QUESTIONS) -> list[Item]:
    """Items about images of these sizes: templates, then the query."""
    seed = sum(map(ord, name))
    images = tuple(picture(folder / f"{name}-{index}.png", size, seed + index) for index, size in enumerate(sizes))
    prefix: list[str | int] = ["You inspect parts.\n"]
    for index in range(len(images)):
        prefix += ["Query:\n" if index == len(images) - 1 else f"Template {index + 1}:\n", index]
    prefix.append("\nLook closely. ")
    return [
        Item(
            key=f"{name}/{index}",
            group=name,
            images=images,
            prefix=tuple(prefix),
            question=question,
            options={"A": "A scratch.", "B": "Nothing."} if "\nA. " in question else None,
        )
        for index, question in enumerate(questions)
    ]


@pytest.fixture(scope="session")
def items(tmp_path_factory) -> list[Item]:
    """Four groups: a pair, a pair of other sizes, three templates, no image at all; one question alone."""
    folder = tmp_path_factory.mktemp("items")
    return [
        *make_group(folder, "pair", [(84, 56), (84, 84)]),
        *make_group(folder, "large", [(140, 112), (112, 168)]),
        *make_group(folder, "shots", [(56, 56), (84, 56), (56, 84), (70, 70)], QUESTIONS[:3]),
        *make_group(folder, "text", [], QUESTIONS[3:]),
        *make_group(folder, "alone", [(60, 90), (90, 60)], QUESTIONS[1:2]),
    ]
