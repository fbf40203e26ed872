"""Draw what was found: the template, the query with its boxes and labels beside it, the anomaly map if there is one,
the verdict above."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from .anomaly_map.picture import map_over
from .errors import UserError
from .jsonl import atomic_write

if TYPE_CHECKING:
    from .anomaly_map.comparing import AnomalyMap

__all__ = [
    "PANEL_MAX",
    "PANEL_MIN",
    "draw_boxes",
    "draw_map",
    "draw_result",
    "line_width",
    "panel_of",
    "panel_scale",
    "save_picture",
]

#: A panel's longer side in pixels: smaller images are enlarged, larger ones shrunk.
PANEL_MIN, PANEL_MAX = 448, 1200

MARGIN = 16
#: From one line of a reason to the next.
LINE = 22
ANOMALOUS = (200, 30, 45)
NORMAL = (25, 125, 70)
UNDECIDED = (146, 94, 0)
INK = (30, 34, 40)
FAINT = (105, 112, 122)
PAPER = (255, 255, 255)
FRAME = (205, 210, 216)
#: One colour for each label, told apart by people with colour-blindness too (Okabe and Ito's, the brighter ones).
BOX_COLOURS = ((230, 30, 60), (0, 114, 178), (230, 120, 0), (0, 158, 115), (204, 60, 167), (140, 90, 20))


#: Fonts for what Pillow's own font (Latin letters) cannot write, by the names systems have them under.
OTHER_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "msyh.ttc", "PingFang.ttc", "DejaVuSans.ttf", "arial.ttf")


@cache
def _font(size: int, *, latin: bool = True) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in () if latin else OTHER_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:  # not on this machine
            continue
    return ImageFont.load_default(size=size)


def _is_latin(*texts: str) -> bool:
    return all(ord(letter) < 0x250 or letter == "…" for text in texts for letter in text)


def panel_scale(size: tuple[int, int]) -> float:
    """By how much an image of (width, height) is enlarged (more than 1) or shrunk to be looked at."""
    longer = max(size)
    return min(max(longer, PANEL_MIN), PANEL_MAX) / longer


def line_width(size: tuple[int, int]) -> int:
    """Of what is drawn into a panel of (width, height)."""
    return max(2, round(max(size) / 220))


def panel_of(image: Image.Image) -> Image.Image:
    """A copy of an image at its panel's size, RGB."""
    scale = panel_scale(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Few large pixels stay visible as such: smoothing them would hide what the model saw.
    method = Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, method) if size != image.size else image.convert("RGB")


def draw_boxes(image: Image.Image, boxes: Sequence[dict], *, numbered: bool = False) -> Image.Image:
    """The image at its panel's size with boxes and labels.

    Args:
        image: upright, RGB.
        boxes: `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}` in pixels of `image`.
        numbered: write each box's number, from 1 on, instead of its label, which then stands beside the picture.

    Returns:
        A new picture of `image.size` times `panel_scale(image.size)`.
    """
    panel = panel_of(image)
    scale = panel.width / image.width, panel.height / image.height
    draw = ImageDraw.Draw(panel)
    line = line_width(panel.size)
    labels = list(dict.fromkeys(box["label"] for box in boxes))
    font = _font(min(max(13, round((panel.width * panel.height) ** 0.5 / 34)), 30), latin=_is_latin(*labels))
    taken: list[tuple[float, float, float, float]] = []
    outlines = []
    for number, box in enumerate(boxes, 1):
        colour = BOX_COLOURS[labels.index(box["label"]) % len(BOX_COLOURS)]
        x1, y1, x2, y2 = (value * scale[index % 2] for index, value in enumerate(box["bbox_2d"]))
        x1, y1, x2, y2 = round(x1), round(y1), max(round(x2) - 1, round(x1)), max(round(y2) - 1, round(y1))
        # A white edge keeps the line visible on a ground of its own colour; it lies outside the box.
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER, width=1)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        outlines.append(((x1, y1, x2, y2), colour, str(number) if numbered else box["label"]))
    for (x1, y1, x2, y2), colour, label in outlines:  # after all boxes: no line runs through a label
        if not label:
            continue
        text = _shorten(label, draw, font, panel.width - 2 * line)
        place = _label_place(draw.textbbox((0, 0), text, font=font), (x1, y1, x2, y2), panel.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=colour)
        draw.text((place[0] + 4, place[1] + 2), text, fill=PAPER, font=font)
    return panel


def draw_map(image: Image.Image, anomaly_map: AnomalyMap, *, threshold: float | None) -> Image.Image:
    """The anomaly map over the image at its panel's size.

    Args:
        image: the map's query, upright, RGB.
        threshold: of the map's score, which the colours are tied to; None where none is known.
    """
    return map_over(panel_of(image), anomaly_map, threshold=threshold)


def _label_place(extent, box, size, taken) -> tuple[float, float, float, float]:
    """Above the box, below, left, right, else inside at its top, where it hides something: within the picture, and not
    over another label if it can."""
    width, height = extent[2] + 8, extent[3] + 5
    x, y = (min(max(box[axis], 0), max(size[axis] - (width, height)[axis], 0)) for axis in (0, 1))
    tried = [(x, box[1] - height - 1), (x, box[3] + 2), (box[0] - width - 1, y), (box[2] + 2, y), (x, box[1] + 1)]
    tried = [at for at in tried if 0 <= at[0] <= size[0] - width and 0 <= at[1] <= size[1] - height] or [(x, y)]
    places = [(left, top, left + width, top + height) for left, top in tried]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    return (free or places)[0]


def _overlap(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shorten(text: str, draw: ImageDraw.ImageDraw, font, width: float) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def _lines(text: str, font, width: float) -> list[str]:
    """A text in lines of a width in pixels, broken between words, or within one that is longer than a line (Chinese
    has no spaces)."""
    lines = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        while font.getlength(word) > width:
            cut = next(end for end in range(len(word), 0, -1) if end == 1 or font.getlength(word[:end]) <= width)
            lines.append(word[:cut])
            word = word[cut:]
        lines += [word] if word else []
    return lines


def draw_result(
    *,
    template: Image.Image,
    query: Image.Image,
    boxes: Sequence[dict],
    anomalous: bool | None,
    score: float | None,
    reason: str | None = None,
    template_name: str = "",
    query_name: str = "",
    anomaly_map: AnomalyMap | None = None,
    map_threshold: float | None = None,
) -> Image.Image:
    """Template on the left, query with its boxes beside it, the verdict and the score above, names below; on the right
    the anomaly map, where there is one.

    Args:
        template, query: upright RGB images of any size.
        boxes: in pixels of `query`, as `adcopilot.inspect.Result.boxes`.
        anomalous, score, reason: the verdict; `anomalous` is None where it is undecided, and `reason` says why.
        template_name, query_name: written below the panels, shortened where they do not fit.
        anomaly_map: of the query.
        map_threshold: of its score, which its colours are tied to; None where none is known.
    """
    panels = [panel_of(template), draw_boxes(query, boxes)]
    captions = [
        f"{role}: {name}" if name else role for role, name in (("template", template_name), ("query", query_name))
    ]
    if anomaly_map is not None:
        panels.append(draw_map(query, anomaly_map, threshold=map_threshold))
        scale = (
            f"yellow is {map_threshold:.3f}, red is twice that" if map_threshold else "no threshold: red is most here"
        )
        captions.append(f"map {anomaly_map.pred_score:.3f}; {scale}")
    height = max(panel.height for panel in panels)
    title, small = _font(26), _font(16, latin=_is_latin(template_name, query_name))
    width = sum(panel.width for panel in panels) + (len(panels) + 1) * MARGIN
    why = _font(16, latin=_is_latin(reason or ""))
    told = _lines(reason or "", why, width - 2 * MARGIN)
    top, bottom = 56 + LINE * len(told), 40
    canvas = Image.new("RGB", (width, top + height + bottom), PAPER)
    draw = ImageDraw.Draw(canvas)
    verdict, colour = {True: ("ANOMALOUS", ANOMALOUS), False: ("NORMAL", NORMAL), None: ("UNDECIDED", UNDECIDED)}[
        anomalous
    ]
    chip = draw.textlength(verdict, font=title)
    draw.rounded_rectangle((MARGIN, 10, MARGIN + chip + 24, 46), radius=6, fill=colour)
    draw.text((MARGIN + 12, 28), verdict, fill=PAPER, font=title, anchor="lm")
    count = f"{len(boxes)} box{'es' * (len(boxes) != 1)}" if boxes else "no boxes"
    found = count if score is None else f"score {score:.3f}   {count}"
    draw.text((MARGIN + chip + 40, 28), found, fill=INK, font=title, anchor="lm")
    for index, line in enumerate(told):
        draw.text((MARGIN, 54 + LINE * index), line, fill=FAINT, font=why)
    x = MARGIN
    for panel, caption in zip(panels, captions, strict=True):
        canvas.paste(panel, (x, top))
        draw.rectangle((x - 1, top - 1, x + panel.width, top + panel.height), outline=FRAME)
        caption = _shorten(caption, draw, small, panel.width)
        draw.text((x, top + panel.height + 8), caption, fill=FAINT, font=small)
        x += panel.width + MARGIN
    return canvas


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture atomically, in the format of the suffix.

    Raises:
        UserError: the suffix is none of a picture format, or the file cannot be written.
    """
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; expected .png or .jpg")
    atomic_write(path, lambda file: picture.save(file, format=kind))
