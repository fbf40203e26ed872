"""Where boxes stand in a text, and in which notation: the one reader that all others ask.

`scan_boxes` finds every expression that a family of models, or a labelling tool, writes boxes in. It says where each
number stands and what surrounds it, and judges nothing: what a reader of training data refuses (`records.py`), what is
converted (`box_conversion.py`) and what is read out of an answer (`boxes.py`) is decided there.

    syntax     looks like                                                     written by
    bbox_2d    "bbox_2d": [x1, y1, x2, y2]                                    Chat-AD, Qwen2.5-VL, Qwen3-VL
    box_2d     "box_2d": [y1, x1, y2, x2]                                     Gemini
    bbox       "bbox": [a, b, c, d]; also "box", "boxes", "bounding_box", …   COCO and many labelling tools
    qwen2-vl   <|box_start|>(x1,y1),(x2,y2)<|box_end|>                        Qwen2-VL
    internvl   <box>[[x1, y1, x2, y2], …]</box>, <box>(x1,y1),(x2,y2)</box>   InternVL, Qwen-VL
    seed       <bbox>x1 y1 x2 y2</bbox>                                       Seed-VL
    deepseek   <|det|>[[x1, y1, x2, y2], …]<|/det|>                           DeepSeek-VL2
    points     "point_2d": [x, y], "polygon": […], <quad>…</quad>, …          no boxes, but places all the same
    pairs      (x1,y1),(x2,y2) in no tag; "x1": …, "y1": …; <xmin>…</xmin>    Qwen-VL without its tags; VOC and others
    locations  <loc_12><loc_34><loc_56><loc_78>, <patch_index_0044>…          PaliGemma, Florence-2, Kosmos-2

A value may be a list of four numbers, several of those, two corner pairs, numbers in quotes, and JSON inside a JSON
string. Time is linear in the length of the text, whatever it holds: every expression below is possessive, and what was
read once is not read again. Nothing is ever evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["KEYS", "Expression", "Number", "bare_lists", "scan_boxes"]


class Number(NamedTuple):
    """A number of a text: its value, and where it stands."""

    value: int | float
    start: int
    stop: int


@dataclass
class Expression:
    """A place in a text where boxes, or points, are written.

    Attributes:
        syntax: as in the table above.
        start, stop: all of it, label tags included.
        key: where the name of a JSON key stands; None for tags and bare lists.
        value: where what holds the numbers stands.
        items: the innermost lists of numbers in order: four for a box (two corner pairs are one item of four), any
            other count for what is no box; an empty list has none.
        closed: whether the value has its end.
        plain: whether it is nothing but numbers in square brackets: no quotes, no corner pairs.
        label: of the boxes, "" where there is none.
    """

    syntax: str
    start: int
    stop: int
    key: tuple[int, int] | None
    value: tuple[int, int]
    items: list[tuple[Number, ...]] = field(default_factory=list)
    closed: bool = True
    plain: bool = True
    label: str = ""

    @property
    def boxes(self) -> list[tuple[Number, ...]]:
        """The items that are four numbers."""
        return [item for item in self.items if len(item) == 4]

    @property
    def places(self) -> int:
        """How many boxes or points it holds, as far as its syntax says that its numbers are some."""
        if self.syntax in ("locations", "pairs"):
            return 1
        if self.syntax == "bbox":  # the words are common: only four numbers make a box of them
            return len(self.boxes)
        return sum(len(item) > 1 for item in self.items)


#: Possessive throughout: `\d+\.?\d*` tries every division of a long row of digits.
_NUMBER = r"[-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?+\d++)?+(?![\w.])"
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER})|(?P<open>[\[(])|(?P<close>[\])])|(?P<space>\s++|\\[nrt]|[,;])|(?P<quote>\\*+[\"'])"
)
#: Key of a box or point in JSON, in small letters → its syntax.
KEYS = {
    "bbox_2d": "bbox_2d",
    "box_2d": "box_2d",
    **dict.fromkeys(("bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes", "bndbox"), "bbox"),
    **dict.fromkeys(("bbox2d", "bbox-2d", "bboxes_2d", "boxes_2d", "boundingbox", "bounding-box"), "bbox"),
    **dict.fromkeys(("bbox_xyxy", "xyxy", "rect", "rectangle"), "bbox"),
    # No corners, though a list of four numbers.
    **dict.fromkeys(("bbox_xywh", "xywh", "bbox_cxcywh", "cxcywh"), "points"),
    **dict.fromkeys(("point_2d", "points_2d", "point", "polygon", "polygons", "quad", "quad_2d"), "points"),
    **dict.fromkeys(("segmentation", "keypoints", "points", "center", "top_left", "bottom_right"), "points"),
}
#: Opening tag → (syntax, closing tag).
_TAGS = {
    "<|box_start|>": ("qwen2-vl", "<|box_end|>"),
    "<box>": ("internvl", "</box>"),
    "<bbox>": ("seed", "</bbox>"),
    "<|det|>": ("deepseek", "<|/det|>"),
    "<|quad_start|>": ("points", "<|quad_end|>"),
    "<quad>": ("points", "</quad>"),
    "<poly>": ("points", "</poly>"),
    "<point>": ("points", "</point>"),
}
_REFERENCES = (("<ref>", "</ref>"), ("<|object_ref_start|>", "<|object_ref_end|>"), ("<|ref|>", "<|/ref|>"))


def _either(words) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_EVENT = re.compile(
    # The key in either kind of quotes, possibly escaped, or one that is no common word without any.
    rf"""["'](?P<key>{_either(KEYS)})\\*+["']\s*+[:=]\s*+"""
    rf"""|(?<![\w"'])(?P<bare>bbox_2d|box_2d|bbox|point_2d)\s*+[:=]\s*+"""
    rf"|(?:(?:{_either(start for start, _ in _REFERENCES)})(?P<label>[^<]{{0,200}}+)"
    rf"(?:{_either(end for _, end in _REFERENCES)})\s*+)?+(?P<tag>{_either(_TAGS)})"
    r"|(?P<points><points?\s[^<>]{0,500}+>)"
    r"|(?P<locations>(?:<loc_?\d{1,4}>){4}|(?:<patch_index_\d{1,4}>){2})"
    # A coordinate under a key or a tag of its own; two corners, written as no prose writes them, without any space.
    rf"""|(?P<pairs>["'](?:x_?1|x_?min|xtl|left|x|cx|x_?center)["']\s*+:\s*+{_NUMBER}\s*+,\s*+"""
    rf"""["'](?:y_?1|y_?min|ytl|top|y|cy|y_?center)["']\s*+:\s*+{_NUMBER}|<xmin>\s*+{_NUMBER}\s*+</xmin>"""
    r"|\(\d{1,5},\d{1,5}\),\(\d{1,5},\d{1,5}\))",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"[\[(]")
_NEXT_PAIR = re.compile(r"\s*+,\s*+[\[(]")


_DIGITS = re.compile(r"\d+")


def scan_boxes(text: str) -> Iterator[Expression]:
    """The expressions of a text, in order; `closed` is False for one that breaks off or holds something else."""
    at, before = 0, 0
    waiting: Expression | None = None  # a keyed one whose label may follow it, up to the next expression
    while match := _EVENT.search(text, at):
        found = _expression(text, match)
        at = max(found.stop, match.end())
        if waiting is not None:
            waiting.label = waiting.label or _label_after(text, waiting.stop, found.start)
            yield waiting
            waiting = None
        if found.key is None:
            yield found
        else:
            found.label = _label_before(text, before, found.start)
            waiting = found
        before = at
    if waiting is not None:
        waiting.label = waiting.label or _label_after(text, waiting.stop, len(text))
        yield waiting


def bare_lists(text: str) -> list[Expression]:
    """The lists of numbers of a text that stand under no key and in no tag, for answers that hold nothing better."""
    # What is said to be no box (points, a corner with width and height) is none for want of anything better.
    text = _without(text, [(one.start, one.stop) for one in scan_boxes(text) if one.syntax == "points"])
    found, at = [], 0
    while match := _BRACKET.search(text, at):
        value = _Value(text, match.start())
        found.append(value.expression("bare", match.start(), key=None))
        at = max(value.stop, match.end())
    return found


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with blanks in these places, so that all others stay where they are."""
    pieces, at = [], 0
    for start, stop in spans:
        pieces += [text[at:start], " " * (stop - start)]
        at = stop
    return "".join([*pieces, text[at:]])


def _expression(text: str, match: re.Match) -> Expression:
    if syntax := next((name for name in ("locations", "points", "pairs") if match[name]), None):
        found = Expression(syntax, match.start(), match.end(), None, match.span())
        if syntax != "pairs":
            numbers = _DIGITS.finditer(text, *match.span())
            found.items = [tuple(Number(int(m[0]), m.start(), m.end()) for m in numbers)]
        return found
    if match["tag"]:
        syntax, closing = _TAGS[match["tag"].lower()]
        value = _Value(text, match.end(), tag=True)
        found = value.expression(syntax, match.start(), key=None)
        found.closed = text[value.stop : value.stop + len(closing)].lower() == closing
        found.stop += len(closing) if found.closed else 0
        found.label = " ".join((match["label"] or "").split())
        return found
    name = "key" if match["key"] else "bare"
    value = _Value(text, match.end())
    return value.expression(KEYS[match[name].lower()], match.start(), key=match.span(name))


class _Group:
    def __init__(self) -> None:
        self.numbers: list[Number] = []
        self.pairs: list[list[Number]] = []
        self.holds = False


class _Value:
    """Reads a value from `start`: up to the bracket that closes it, for a tag up to its end, or to what is no number.

    Brackets are kept on a list of their own and not in nested ones, so that a hundred thousand of them cost no
    recursion.
    """

    def __init__(self, text: str, start: int, *, tag: bool = False) -> None:
        self.start = self.stop = start
        self.items: list[tuple[Number, ...]] = []
        self.closed, self.plain = False, True
        groups = [_Group()]
        whole = False  # a quote around all of it
        previous = None
        while token := _TOKEN.match(text, self.stop):
            kind = token.lastgroup
            if kind == "quote":
                if len(groups) == 1 and not tag:
                    if whole:
                        self.stop, self.closed = token.end(), True
                        break
                    if self.items or groups[0].holds:
                        break
                    whole = True
                self.plain = False
            elif kind == "number":
                if len(groups) == 1 and not (tag or whole):
                    break  # a number by itself
                groups[-1].numbers.append(Number(_value(token[0]), token.start(), token.end()))
                groups[-1].holds = True
            elif kind == "open":
                self.plain = self.plain and token[0] == "["
                groups[-1].holds = True
                groups.append(_Group())
            elif kind == "close":
                if len(groups) == 1:
                    break
                self._close(groups.pop(), groups[-1])
                if len(groups) == 1 and not (tag or whole):
                    self.stop = token.end()
                    if len(groups[0].pairs) == 1 and _NEXT_PAIR.match(text, self.stop):
                        continue
                    self.closed = True
                    break
            self.stop, previous = token.end(), token
        if previous is not None and previous.lastgroup == "quote" and not self.closed:
            self.stop = previous.start()  # it opens the next key
        if tag or whole or groups[0].pairs:
            self._end(groups[0])

    def _close(self, group: _Group, above: _Group) -> None:
        if len(group.numbers) == 2 and not group.pairs:
            above.pairs.append(group.numbers)
        elif group.numbers or not group.holds:
            self.items.append(tuple(group.numbers))
        if group.pairs:
            self._end_pairs(group)

    def _end(self, base: _Group) -> None:
        numbers = base.numbers
        if len(numbers) >= 4:
            self.items += [tuple(numbers[at : at + 4]) for at in range(0, len(numbers) - 3, 4)]
        elif numbers:
            self.items.append(tuple(numbers))
        if base.pairs:
            self._end_pairs(base)

    def _end_pairs(self, group: _Group) -> None:
        self.plain = False
        self.items.append(tuple(number for pair in group.pairs for number in pair))

    def expression(self, syntax: str, start: int, *, key: tuple[int, int] | None) -> Expression:
        return Expression(
            syntax=syntax,
            start=start,
            stop=self.stop,
            key=key,
            value=(self.start, self.stop),
            items=self.items,
            closed=self.closed,
            plain=self.plain,
        )


def _value(text: str) -> int | float:
    # Python refuses to convert thousands of digits; as a float they are an infinity, which no reader takes.
    return int(text) if len(text) < 4000 and text.lstrip("+-").isdecimal() else float(text)


_LABEL = re.compile(
    r"""["']label\\*+["']\s*+:\s*+(?:"(?P<double>(?:[^"\\]|\\.)*+)"|'(?P<single>(?:[^'\\]|\\.)*+)'"""
    r"""|\\++"(?P<escaped>[^"\\]*+)\\|(?P<number>[-+.\w]++))"""
)


def _label_after(text: str, start: int, stop: int) -> str:
    """The first label of a stretch of text, if it stands in the same object as what ends at `start`."""
    match = _LABEL.search(text, start, stop)
    return _label(match) if match and not _leaves_object(text[start : match.start()]) else ""


def _label_before(text: str, start: int, stop: int) -> str:
    """The last label of a stretch of text, if it stands in the same object as what begins at `stop`."""
    match = next(reversed([*_LABEL.finditer(text, start, stop)]), None)
    return _label(match) if match and not _leaves_object(text[match.end() : stop]) else ""


def _leaves_object(text: str) -> bool:
    return "{" in text or "}" in text


def _label(match: re.Match) -> str:
    if match["double"] is not None:
        try:
            return json.loads(f'"{match["double"]}"', strict=False)
        except ValueError:
            return match["double"]
    if match["number"] is not None:
        return "" if match["number"] in ("null", "None") else match["number"]
    return match["single"] if match["single"] is not None else match["escaped"]
