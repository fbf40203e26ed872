"""Does a text say what the annotation says? Rules, no model: each problem is a sentence that a generator can act on.

- The side of the image: a side that is named must have a box on it, and one of a few compact defects must be named.
- The type of the defect is named, in one of its forms or by a word of its family.
- Boxes overlap the annotation: each one does, and no annotated box is left alone.
- The text is about the difference between the two images, not about one of them.
- It does not speak of outlines, masks or annotations, which the reader of the text will never see.
- It is no refusal, and neither empty nor endless.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...errors import shortened
from .pair_view import PairView
from .words import Words, stem

__all__ = ["LONGEST", "Verifier", "is_refusal"]

#: Characters. The longest texts that are of use; one answer of a dialogue may have as many.
LONGEST = 2000
SHORTEST = 12

_REFUSAL = re.compile(
    r"\b(i'?m sorry|i am sorry|i apologi[sz]e|as an ai\b|i (?:can(?:no|')?t|am unable to|am not able to|'m unable to|"
    r"won't) (?:help|assist|comply|provide|see|view|analy[sz]e|process|determine|continue|fulfil|do that)|"
    r"unable to (?:view|see|process|assist)|against (?:my|our) (?:policy|guidelines)|content policy)",
    re.IGNORECASE,
)
_LEAK = re.compile(
    r"\b(bounding[- ]box(?:es)?|annotat\w*|ground[- ]truth|segmentation|metadata|defect mask|binary mask|"
    r"(?:red|green|yellow|blue|coloured|colored|drawn|highlighted|marked) (?:box|rectangle|contour|outline|line|border"
    r"|circle|area|region)|contour|highlighted|third image|visual prompt|given label|provided label)",
    re.IGNORECASE,
)
_MARKS = re.compile(r"<(?:image|video|audio)>|<\|[^|<>]{1,30}\|>")
_BOXES = re.compile(r"""\[\{"bbox_2d".*?\}\]""")
_COMPARES = re.compile(
    r"\b(compar\w*|differ\w*|distinguish\w*|unlike|whereas|while|in contrast|contrary|template|reference|"
    r"first (?:image|one|picture|photo|sample)|other image|depart\w*|deviat\w*|agree\w*|match\w*|same as|identical|"
    r"not (?:present|found|seen|visible) in|instead of|normal (?:sample|image|one|product|state)|"
    r"than (?:in )?the first)",
    re.IGNORECASE,
)
_NO_DEFECT = re.compile(
    r"\b(no (?:\w+ ){0,3}(?:defects?|anomal(?:y|ies)|differences?|deviations?|damage|flaws?|irregularit\w+)|"
    r"(?:defect|fault|flaw)[- ]?(?:free|less)|free (?:of|from) (?:\w+ )?(?:defects?|anomalies|flaws)|"
    r"without (?:any )?(?:defects?|anomalies|damage|flaws)|(?:identical|agrees?|match(?:es)?|consistent|same)\b|"
    r"(?:is|looks|appears) (?:normal|flawless|intact|good|fine))",
    re.IGNORECASE,
)
# "The first image has no defect", "free of defects" there, is what an anomalous pair's caption may well say.
_DENIES = re.compile(
    r"\b(?:second (?:image|one)|query|inspected (?:image|sample|product)|product under inspection)\b[^.;]{0,60}?\b(?:"
    r"(?:has|have|shows?|contains?|there is) no (?:\w+ ){0,2}(?:defects?|anomal(?:y|ies)|differences?|damage|flaws?)|"
    r"(?:is|looks|appears) (?:normal|flawless|intact|identical|free of|defect[- ]free)|identical to|"
    r"matches the (?:template|first|reference))",
    re.IGNORECASE,
)
_TEMPLATE_BLAMED = re.compile(
    r"\b(?:first image|template|reference(?: image)?) (?:shows?|has|contains?|exhibits?) (?:an? |the |some |visible )?"
    r"(?:\w+ )?(?:defects?|anomal(?:y|ies)|damage|flaws?)\b",
    re.IGNORECASE,
)

# A word of place, unless it means something else.
_ROW = (
    r"(?:top|upper(?:most)?|bottom|lower(?:most)?(?! than| quality| contrast| limit)|middle|"
    r"cent(?:er|re)(?:d|s)?|central)"
)
_COLUMN = (
    r"(?:left(?! behind| over| out| by| in place| from)(?:most)?|"
    r"(?<!all )(?<!is )(?<!be )right(?! angle| angled| one| part| type| kind| answer| now| amount)(?:most)?)"
)
_SIDE = re.compile(rf"\b(?:(?P<row>{_ROW})(?:[- ]+(?P<side>{_COLUMN}))?|(?P<alone>{_COLUMN}))\b", re.IGNORECASE)
_ROWS = {"top": "top", "upp": "top", "bot": "bottom", "low": "bottom", "mid": "middle", "cen": "middle"}

# A normal query with one of these would not be normal.
_CLAIM = re.compile(
    r"\b(?:shows?|has|have|contains?|exhibits?|there (?:is|are)|with) (?:an?|some|several|visible|clear|two|three) "
    r"(?:[\w-]+ ){0,2}?(?:scratch|scrape|crack|fracture|chip|dent|stain|contamination|impurit|rust|corrosion|blister|"
    r"deformation|defect|anomal|damage|flaw)",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:except|apart|aside|other than|but|however|save)\b", re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether a model declined instead of answering: an apology or the like near the beginning of its answer."""
    return bool(_REFUSAL.search(text[:300].replace("’", "'")))


class Verifier:
    """Checks texts against pairs.

    Args:
        words: how labels are said.
    """

    def __init__(self, *, words: Words) -> None:
        self.words = words
        self._names = lru_cache(maxsize=1024)(self._pattern)

    def caption(
        self, pair: PairView, description: str, defect_description: str, boxes: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Problems of a caption; empty when it may be used. `boxes` are `{"bbox_2d": …}` in pixels of the query."""
        both = f"{description} {defect_description}"
        problems = self.wording(pair, description, "description")
        problems += self.wording(pair, defect_description, "defect_description")
        if not _COMPARES.search(both):
            problems.append("the text does not compare the second image with the template")
        if not pair.anomalous:
            if boxes:
                problems.append("defect_details holds boxes, but the second image is normal")
            if not _NO_DEFECT.search(defect_description):
                problems.append("defect_description does not say that the second image has no defect")
            return problems + _claims(both, "the text")
        problems += _denials(both, "the text") + self.named(pair, both)
        problems += self.sides(pair, defect_description, needed=True)
        return problems + self.boxes(pair, boxes)

    def answer(
        self, pair: PairView, text: str, *, name: str = "an answer", sides: bool = True, claims: bool = True
    ) -> list[str]:
        """Problems of one answer of a dialogue, or of a reasoning; what all answers together must say is not asked.

        Args:
            name: what to call the text.
            sides, claims: whether the sides that it names, and defects that it finds in a normal query, are checked.
        """
        problems = self.wording(pair, text, name, shortest=1)
        if not pair.anomalous:
            return problems + (_claims(text, name) if claims else [])
        return problems + _denials(text, name) + (self.sides(pair, text, needed=False) if sides else [])

    def named(self, pair: PairView, text: str) -> list[str]:
        """A problem for each type of defect that a text leaves out."""
        said = {stem(word) for word in re.findall(r"\w+", text)}
        problems = []
        for label in pair.types:
            stems = self.words.stems(label)
            if not self.words.vague(label) and stems and not stems & said:
                problems.append(f"the text does not name the defect, {self.words.label(label)}")
        return problems

    def sides(self, pair: PairView, text: str, *, needed: bool) -> list[str]:
        """Problems with the sides of the image that a text names.

        Args:
            needed: whether it must name one: not the side of many defects, or of one that is everywhere.
        """
        if not pair.boxes:
            return []
        named, problems = False, []
        for found in _SIDE.finditer(self._without_names(pair, text)):
            named = True
            row = _ROWS.get((found["row"] or "").lower()[:3], "")
            side = (found["side"] or found["alone"] or "").lower().removesuffix("most")
            if not any(_lies(box, pair.size, row, side) for box in pair.boxes):
                problems.append(f"the text says “{found[0]}”, but no defect lies there")
        compact = len(pair.boxes) <= 4 and all(_compact(box, pair.size) for box in pair.boxes)
        if needed and compact and not named:
            problems.append("the text does not say on which side of the second image the defect is")
        return list(dict.fromkeys(problems))

    def boxes(self, pair: PairView, boxes: Sequence[Mapping[str, Any]]) -> list[str]:
        """Problems with a generator's boxes: one beside the annotation, or an annotated one that none overlaps."""
        found = [box["bbox_2d"] for box in boxes]
        problems = [
            f"the box {box} overlaps no defect" for box in found if not any(_overlap(box, one) for one in pair.boxes)
        ]
        alone = [one for one in pair.boxes if not any(_overlap(box, one) for box in found)]
        if alone:
            problems.append(f"no box overlaps the defect at {list(alone[0])}")
        return problems

    def wording(self, pair: PairView, text: str, name: str, *, shortest: int = SHORTEST) -> list[str]:
        """Problems of any text, whatever it says: its length, refusals, what only the generator has seen."""
        problems = []
        length = len(_BOXES.sub("[]", text).strip())  # a list of boxes is as long as it must be
        if not shortest <= length <= LONGEST:
            problems.append(f"{name} has {length} characters, expected {shortest} to {LONGEST}")
        if is_refusal(text):
            problems.append(f"{name} is a refusal: {shortened(text, 80)}")
        if _MARKS.search(text):
            problems.append(f"{name} holds the mark {_MARKS.search(text)[0]}, which means something to the model")
        leak = _LEAK.search(self._without_names(pair, text))
        if leak:
            problems.append(f"{name} speaks of “{leak[0]}”, which the reader of the images does not see")
        return problems

    def _without_names(self, pair: PairView, text: str) -> str:
        """A text without the names of defects and product: a "thread at the top" is no place."""
        return self._names(pair.category, pair.types, pair.other_defects).sub("it", text)

    def _pattern(self, category: str, types: tuple[str, ...], others: tuple[str, ...]) -> re.Pattern:
        names = {self.words.category(category)}
        for label in {*types, *others} - {""}:
            names.update(self.words.names(label))
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


def _denials(text: str, name: str) -> list[str]:
    """Problems of a text about an anomalous query that finds it normal, or the template defective."""
    problems = []
    denial = _DENIES.search(text)
    if denial and not _BUT.search(text, denial.end(), denial.end() + 60):
        problems.append(f"{name} says that the second image has no defect, but it has one")
    if _TEMPLATE_BLAMED.search(text):
        problems.append(f"{name} finds a defect in the first image, which is the normal template")
    return problems


def _claims(text: str, name: str) -> list[str]:
    claim = _CLAIM.search(text)
    return [f"{name} says “{claim[0]}…”, but the second image is normal"] if claim else []


def _compact(box: Sequence[int], size: tuple[int, int]) -> bool:
    return box[2] - box[0] <= 0.5 * size[0] and box[3] - box[1] <= 0.5 * size[1]


def _lies(box: Sequence[int], size: tuple[int, int], row: str, side: str) -> bool:
    """Whether some of a box is where the words say: in that half of the image, or in the middle half."""
    x1, x2 = box[0] / size[0], box[2] / size[0]
    y1, y2 = box[1] / size[1], box[3] / size[1]
    if (row == "top" and y1 >= 0.5) or (row == "bottom" and y2 <= 0.5):
        return False
    if (side == "left" and x1 >= 0.5) or (side == "right" and x2 <= 0.5):
        return False
    if row == "middle":  # "in the middle", "centre left": along one direction at least it is central
        across, down = x2 > 0.25 and x1 < 0.75, y2 > 0.25 and y1 < 0.75
        return down if side else across or down
    return True


def _overlap(box: Sequence[float], other: Sequence[float]) -> bool:
    return max(box[0], other[0]) < min(box[2], other[2]) and max(box[1], other[1]) < min(box[3], other[3])
