"""The contrastive caption of the paper's Figure 1, written, checked and written again until nothing is wrong:

{"description": "…", "defect_details": [{"bbox_2d": [x1, y1, x2, y2], "label": "…"}], "defect_description": "…"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...endpoint.client import Refused
from ...errors import shortened
from .generator import Generator, write_checked
from .pair_view import MAX_BOXES, TOO_MANY, PairView
from .verify import Verifier
from .words import Words

__all__ = ["Caption", "details", "read_caption", "write_caption"]


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption.

    Attributes:
        description: what both images show and how they compare.
        details: `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}` of each defect, in pixels of the query.
        defect_description: the defect, or that there is none.
    """

    description: str
    details: tuple[dict[str, Any], ...]
    defect_description: str

    def text(self) -> str:
        """As JSON on one line, keys in Figure 1's order."""
        return json.dumps(
            {
                "description": self.description,
                "defect_details": list(self.details),
                "defect_description": self.defect_description,
            },
            ensure_ascii=False,
        )


def details(pair: PairView, words: Words) -> list[dict[str, Any]]:
    """The boxes of a pair in the answer format, labels in words."""
    return [
        {"bbox_2d": list(box), "label": words.label(label)} for box, label in zip(pair.boxes, pair.labels, strict=True)
    ]


def json_in_text(text: str) -> Any:
    """The JSON value of an answer, which may stand in a code fence or after a sentence.

    Raises:
        ValueError: there is none; the message says whether it looks cut off.
    """
    # An honest mistake of every model: fences. Thinking models put their thoughts first.
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
    text = fenced[1].strip() if fenced else text
    opening = re.search(r"[\[{]", text)
    if not opening:
        raise ValueError(f"the answer is not JSON: {shortened(text, 80)}")
    try:
        return json.JSONDecoder().raw_decode(text, opening.start())[0]
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the answer is cut off or damaged JSON ({error})") from None


def read_caption(text: str) -> Caption:
    """A generator's answer.

    Raises:
        ValueError: it is no JSON object with the three keys, each of its kind.
    """
    value = json_in_text(text)
    if not isinstance(value, dict):
        raise ValueError(f"the answer is a JSON {type(value).__name__}, expected an object")
    for key in ("description", "defect_description"):
        if not isinstance(value.get(key), str) or not value[key].strip():
            raise ValueError(f"{key} is {shortened(repr(value.get(key)), 80)}, expected a text")
    found = value.get("defect_details", [])
    if not isinstance(found, list):
        raise ValueError(f"defect_details is {shortened(repr(found), 80)}, expected a list")
    for item in found:
        box = item.get("bbox_2d") if isinstance(item, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(type(one) in (int, float) for one in box):
            found = shortened(repr(item), 80)
            raise ValueError(f"defect_details has {found}, expected bbox_2d with four numbers and label")
    return Caption(
        description=" ".join(value["description"].split()),
        details=tuple({"bbox_2d": item["bbox_2d"], "label": str(item.get("label", ""))} for item in found),
        defect_description=" ".join(value["defect_description"].split()),
    )


async def write_caption(pair: PairView, generator: Generator, *, verifier: Verifier) -> Caption:
    """Ask for a caption, check it, and have it refined as often as the generator allows.

    Boxes and labels of the result are the annotation's: what the generator wrote there is only checked, because a
    model repeats numbers with small mistakes.

    Raises:
        Refused: problems remain, the generator refuses, or the pair cannot be captioned.
    """
    if pair.anomalous and not pair.boxes:
        raise Refused("anomalous, but without boxes: a caption names them; give it a mask")
    if len(pair.boxes) > MAX_BOXES:
        raise Refused(TOO_MANY.format(len(pair.boxes)))

    async def check(text: str, round_number: int) -> tuple[Caption | None, Sequence[str]]:
        try:
            caption = read_caption(text)
        except ValueError as error:
            return None, [str(error)]
        problems = verifier.caption(pair, caption.description, caption.defect_description, caption.details)
        if not problems and generator.checks:
            problems = await _asked(pair, generator, text, round_number)
        return replace(caption, details=tuple(details(pair, verifier.words))), problems

    return await write_checked(pair, generator, "caption", check, what="caption", again="refine")


async def _asked(pair: PairView, generator: Generator, text: str, round_number: int) -> list[str]:
    """What the generator itself finds wrong with a caption."""
    answer = await generator.generate(pair, "verify", {"draft": text, "round": round_number})
    try:
        value = json_in_text(answer)
    except ValueError:
        return [f"the check gave no JSON: {shortened(answer, 80)}"]
    if not isinstance(value, dict) or not isinstance(value.get("ok"), bool):
        return [f"the check gave no ok: {shortened(answer, 80)}"]
    problems = value.get("problems")
    listed = [shortened(str(one), 200) for one in problems] if isinstance(problems, list) else []
    return [] if value["ok"] else listed or ["the check found it wrong without saying why"]
