"""The benchmark's file, and what its boxes mean.

    ROOT/data/benchmark/generated/generate_vqa_bilingual_test/all_vqa_data_bilingual_*.json
    ROOT/data/benchmark/raw/…                                        the images, as the file names them

The file is a list of samples: `images` (one, or a defect-free reference and then the query), `image_size`, `dataset`,
`dataset_type` (P1: classes and boxes are known, P2: boxes drawn into the image, P3: nothing is marked), `language`
and a `conversation` of questions. A question with `options` is a choice; one whose `type` speaks of coordinates has
a JSON text `{"class": [[x1, y1, x2, y2], …]}` for its answer; the others are open.

Two things about the boxes are not said anywhere, so both are switches:

- the order of `image_size`. The benchmark's metadata says width first, its own evaluation reads height first. `auto`
  takes, for each image, the order whose aspect ratio is the image's own.
- the frame. `image_size` is not the size of the files but that of a resized copy (640 pixels become 644, a multiple
  of 28), and boxes are taken to be pixels of that copy; `original` takes them for pixels of the file.

Here boxes become pixels of the original image, whatever they were.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.files import read_json
from adcopilot.images import image_size

from .classes import ClassNames

__all__ = ["FRAMES", "LEVELS", "SIZE_ORDERS", "PcbQuestion", "PcbSample", "Prepared", "find_annotations", "load"]

LEVELS = ("P1", "P2", "P3")
SIZE_ORDERS = ("auto", "hw", "wh")
FRAMES = ("image_size", "original")

_FOLDER = "data/benchmark/generated/generate_vqa_bilingual_test"
_NAME = "all_vqa_data_bilingual*.json"
_OPTION = re.compile(r"\s*\(?([A-Za-z])\s*[.)、:：．]\s*(.*)", re.DOTALL)
_BOXES = re.compile(r"coordinate|bbox", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PcbSample:
    """An image with its questions.

    Attributes:
        number: its place in the file, from 0.
        entry: the file's object.
        names: of its images, as the file has them.
        images: their paths.
        turns: the file's questions.
        level: of `LEVELS`.
        language: `en` or `zh`.
        dataset: where the images are from.
    """

    number: int
    entry: Mapping[str, Any]
    names: tuple[str, ...]
    images: tuple[Path, ...]
    turns: tuple[Mapping[str, Any], ...]
    level: str
    language: str
    dataset: str


@dataclass(frozen=True, kw_only=True)
class PcbQuestion:
    """A question that can be scored.

    Attributes:
        sample: whose it is.
        turn: its place in the conversation, from 0.
        form: `choice`, `boxes` or `open`.
        options: letter → text, for a choice.
        reference: a letter, a text, or boxes in pixels of the original: `bbox_2d`, `label`, `names`.
        size, frame: for boxes, (width, height) of the original and of what the file's boxes are pixels of.
    """

    sample: PcbSample
    turn: int
    form: str
    options: Mapping[str, str] | None
    reference: Any
    size: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None


def find_annotations(root: Path) -> Path:
    """The benchmark's file below `root`, the newest by its name.

    Raises:
        UserError: there is none.
    """
    for folder in (root / _FOLDER, root):
        found = sorted(folder.glob(_NAME))
        if found:
            return found[-1]
    raise UserError(
        f"{root}: no {_FOLDER}/{_NAME} there; --data-root is the benchmark's repository, or name the file with "
        "--annotations"
    )


def load(path: Path, *, root: Path) -> list[PcbSample]:
    """Read the benchmark's file.

    Args:
        path: the file.
        root: where image paths start.

    Raises:
        UserError: the file is missing or is no such list, or a sample is not of the form above.
    """
    entries = read_json(path, check="check --annotations", again="download it again")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: expected a list of samples, got {type(entries).__name__}; is it UniPCB's file?")
    samples = []
    for number, entry in enumerate(entries):
        names, turns, level, language = _checked(entry, f"{path}: sample {number}")
        samples.append(
            PcbSample(
                number=number,
                entry=entry,
                names=tuple(names),
                images=tuple(_image(root, name) for name in names),
                turns=tuple(turns),
                level=level,
                language=language,
                dataset=str(entry.get("dataset", "")),
            )
        )
    return samples


def _image(root: Path, name: str) -> Path:
    # Some keep the images in ROOT/raw, without the repository around them.
    short = root / name.removeprefix("data/benchmark/")
    return short if not (root / name).is_file() and short.is_file() else root / name


class Prepared:
    """References made of the file's answers to some samples; image files are opened for their sizes only.

    Args:
        samples: their images must be there.
        names: the benchmark's names of classes.
        size_order: of `SIZE_ORDERS`.
        frame: of `FRAMES`.

    Attributes:
        questions: those that can be scored.
        unusable: why the others cannot → how many.
        notes: what the boxes gave reason to doubt.

    Raises:
        UserError: `image_size` or an image cannot be read.
    """

    def __init__(
        self, samples: Sequence[PcbSample], *, names: ClassNames, size_order: str = "auto", frame: str = "image_size"
    ) -> None:
        self._names, self._size_order, self._frame = names, size_order, frame
        self._odd: set[int] = set()
        self._outside = 0
        self.questions: list[PcbQuestion] = []
        self.unusable: Counter[str] = Counter()
        for sample in samples:
            for turn, entry in enumerate(sample.turns):
                question = self._question(sample, turn, entry)
                if question.reference is None or question.reference == "":
                    self.unusable[f"{question.form} question without a usable answer"] += 1
                else:
                    self.questions.append(question)
        self.notes: list[str] = []
        if self._odd:
            self.notes.append(
                f"{len(self._odd)} samples have another aspect ratio in image_size than their image has; "
                "see --image-size-order"
            )
        if self._outside:
            self.notes.append(f"{self._outside} reference boxes reach out of their frame; see --box-frame")

    def _question(self, sample: PcbSample, turn: int, entry: Mapping[str, Any]) -> PcbQuestion:
        options = _options(entry.get("options"))
        given = entry.get("correct_option")
        if options:
            letter = _right_letter(entry, options)
            return PcbQuestion(sample=sample, turn=turn, form="choice", options=options, reference=letter)
        kind = str(entry.get("type", ""))
        if not _BOXES.search(kind):
            text = given.strip() if isinstance(given, str) else None
            return PcbQuestion(sample=sample, turn=turn, form="open", options=None, reference=text)
        size = image_size(sample.images[-1])
        frame = self._frame_size(sample, size)
        boxes = self._boxes(given, frame, size)
        for box in boxes or ():
            box["names"] = self._names.names(box["label"], dataset=sample.dataset, kind=kind)
        return PcbQuestion(
            sample=sample, turn=turn, form="boxes", options=None, reference=boxes, size=size, frame=frame
        )

    def _frame_size(self, sample: PcbSample, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the frame that the boxes are pixels of."""
        if self._frame == "original":
            return size
        written = sample.entry.get("image_size")
        if not (
            isinstance(written, list) and len(written) == 2 and all(_is_number(side) and side > 0 for side in written)
        ):
            raise UserError(
                f"sample {sample.number} ({sample.names[-1]}): image_size is {written!r:.60}, expected two positive "
                "numbers"
            )
        orders = {"wh": (written[0], written[1]), "hw": (written[1], written[0])}
        misfit = {order: abs(math.log(w / h) - math.log(size[0] / size[1])) for order, (w, h) in orders.items()}
        order = min(misfit, key=misfit.__getitem__) if self._size_order == "auto" else self._size_order
        # Rounding to multiples of 28 changes a ratio by some percent, a swapped order usually by much more.
        if misfit[order] > 0.15:
            self._odd.add(sample.number)
        return orders[order]

    def _boxes(self, text: Any, frame: tuple[int, int], size: tuple[int, int]) -> list[dict[str, Any]] | None:
        """The reference boxes in pixels of the original; None if the text is not such an answer."""
        try:
            classes = json.loads(text) if isinstance(text, str) else text
        except (ValueError, RecursionError):
            return None
        if not isinstance(classes, dict):
            return None
        boxes = []
        for label, entries in classes.items():
            if isinstance(entries, list) and len(entries) == 4 and all(_is_number(value) for value in entries):
                entries = [entries]
            if not isinstance(entries, list):
                return None
            for entry in entries:
                if not (isinstance(entry, list) and len(entry) == 4 and all(_is_number(value) for value in entry)):
                    return None
                shares = [value / side for value, side in zip(entry, (*frame, *frame), strict=True)]
                # A resized copy's boxes are rounded to its pixels: one too many is no doubt.
                self._outside += max(shares) > 1 + 2 / min(frame) or min(shares) < 0
                shares = [min(max(share, 0.0), 1.0) for share in shares]
                x1, x2 = sorted(share * size[0] for share in shares[0::2])
                y1, y2 = sorted(share * size[1] for share in shares[1::2])
                if x1 < x2 and y1 < y2:
                    boxes.append({"bbox_2d": [round(value, 3) for value in (x1, y1, x2, y2)], "label": label})
        return boxes


def _checked(sample: Any, where: str) -> tuple[list[str], list[dict[str, Any]], str, str]:
    """(image names, questions, level, language) of a sample.

    Raises:
        UserError: it is not of the benchmark's form.
    """
    if not isinstance(sample, dict):
        raise UserError(f"{where}: expected an object, got {type(sample).__name__}")
    names, turns = sample.get("images"), sample.get("conversation")
    if not (isinstance(names, list) and 1 <= len(names) <= 2 and all(isinstance(name, str) for name in names)):
        raise UserError(f"{where}: images is {names!r:.80}, expected one or two paths")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        raise UserError(f"{where}: images is {names!r:.80}, expected paths inside --data-root")
    good = isinstance(turns, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("question"), str) and turn["question"].strip() for turn in turns
    )
    if not good:
        raise UserError(f"{where}: conversation is no list of objects with a question; is it UniPCB's file?")
    level, language = sample.get("dataset_type"), sample.get("language", "en")
    if level not in LEVELS:
        raise UserError(f"{where}: dataset_type is {level!r:.40}, expected {', '.join(LEVELS)}")
    if language not in ("en", "zh"):
        raise UserError(f"{where}: language is {language!r:.40}, expected en or zh")
    return names, turns, level, language


def _options(entries: Any) -> dict[str, str] | None:
    """Letter → text of `["A. …", …]`; None if there are none. Without letters, A, B, … in order."""
    if not isinstance(entries, list) or not entries:
        return None
    matches = [_OPTION.fullmatch(str(entry)) for entry in entries]
    letters = [match[1].upper() if match else "" for match in matches]
    expected = [chr(ord("A") + index) for index in range(len(entries))]
    if letters == expected:
        return {letter: match[2].strip() for letter, match in zip(letters, matches, strict=True) if match}
    return {letter: str(entry).strip() for letter, entry in zip(expected, entries, strict=True)}


def _right_letter(entry: Mapping[str, Any], options: Mapping[str, str]) -> str | None:
    letter = str(entry.get("correct_answer_letter") or "").strip().upper()
    if letter in options:
        return letter
    text = str(entry.get("correct_option") or "").strip().casefold()
    return next((letter for letter, option in options.items() if option.casefold() == text), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
