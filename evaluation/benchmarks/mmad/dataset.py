"""MMAD on the disk: `mmad.json`, and the images, templates and masks that it names.

ROOT/mmad.json            {"DS-MVTec/bottle/image/broken_large/000.png": {"mask_path": …, "random_templates": […],
                            "similar_templates": […], "conversation": [{"Question", "Answer", "Options", "type"}]}}
ROOT/domain_knowledge.json                  only for questions with domain knowledge
ROOT/{DS-MVTec,MVTec-LOCO,VisA,GoodsAD}/…   the query images and their masks
ROOT/MVTec-AD/…                             the templates of DS-MVTec; the other sources bring their own
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adcopilot.errors import UserError
from adcopilot.files import read_json
from adcopilot.jsonl import file_digest

from .scoring import DATASETS, TYPES, is_normal, plain_type

__all__ = ["MmadQuestion", "MmadSample", "check_files", "domain_knowledge", "load", "mask_places", "templates"]

#: The letters that options get, in the order in which they stand in the file, as in MMAD's scripts.
_LETTERS = "ABCDE"

_TYPES = {plain_type(name): name for name in TYPES}

TEMPLATE_FIELDS = {"random": "random_templates", "similar": "similar_templates"}


@dataclass(frozen=True, kw_only=True)
class MmadQuestion:
    """A question about an image.

    Attributes:
        index: its place in the image's conversation, from 0.
        text: the question alone.
        options: letter → text, lettered from A in the file's order.
        answer: the right letter.
        type: one of MMAD's eight types.
    """

    index: int
    text: str
    options: dict[str, str]
    answer: str
    type: str


@dataclass(frozen=True, kw_only=True)
class MmadSample:
    """A query image with its questions.

    Attributes:
        image: its path below the root, with slashes; MMAD's name for it.
        mask_path: as the file has it, None for a normal image.
        templates: `random` and `similar` → paths below the root.
    """

    image: str
    mask_path: str | None
    templates: Mapping[str, tuple[str, ...]]
    questions: tuple[MmadQuestion, ...]

    @property
    def dataset(self) -> str:
        """`DS-MVTec`, `MVTec-LOCO`, `VisA` or `GoodsAD`."""
        return self.image.split("/")[0]

    @property
    def category(self) -> str:
        """The product, such as `bottle`; unique within its dataset only."""
        return self.image.split("/")[1]

    @property
    def kind(self) -> str:
        """The folder that the image lies in: `good` or a kind of defect."""
        return self.image.split("/")[-2]

    @property
    def normal(self) -> bool:
        return is_normal(self.image)

    def meta(self, templates: Sequence[str]) -> dict[str, Any]:
        """What each item about it says of it, shown with these templates."""
        return {
            "image": self.image,
            "templates": list(templates),
            "dataset": self.dataset,
            "category": self.category,
            "kind": self.kind,
            "normal": self.normal,
        }

    def masks(self, root: Path) -> list[Path]:
        """Where the mask may be, likeliest first: MMAD's paths are relative to dataset and category in one place and
        to three folders in another. A folder of masks (MVTec-LOCO) is a mask too."""
        return mask_places(root, self.image, self.mask_path) if self.mask_path else []


def mask_places(root: Path, image: str, mask_path: str) -> list[Path]:
    """As `MmadSample.masks`, from an image's name and `mask_path` as `mmad.json` has them."""
    parts = PurePosixPath(image).parts
    name = mask_path.replace("\\", "/").strip("/")
    starts = ["/".join(parts[:2]), "/".join(parts[:3]), parts[0], ""]
    return [root / start / name for start in starts]


def load(root: str | os.PathLike) -> tuple[list[MmadSample], str]:
    """Read `mmad.json`.

    Returns:
        The samples in the file's order, and the SHA-256 of the file.

    Raises:
        UserError: the folder or the file is not there (it says what was found instead), or an entry cannot be used.
    """
    root = Path(root)
    file = root / "mmad.json"
    if not file.is_file():
        raise UserError(_wrong_layout(root))
    data = read_json(file, check="download it again", again="download it again")
    if not isinstance(data, dict) or not data:
        found = "an empty object" if data == {} else type(data).__name__
        raise UserError(f"{file}: expected a JSON object of images, got {found}; is it MMAD's mmad.json?")
    return [_sample(image, entry, file) for image, entry in data.items()], file_digest(file)


def _sample(image: str, entry: Any, file: Path) -> MmadSample:
    where = f"{file}: {image!r}"
    parts = PurePosixPath(image).parts
    # A dataset is the first folder of a name, whatever stands before it.
    if len(parts) < 3 or ".." in parts or image != str(PurePosixPath(image)) or image.startswith("/") or "\\" in image:
        raise UserError(f"{where}: expected a path such as 'VisA/pcb1/test/bad/000.JPG'")
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object with 'conversation', got {type(entry).__name__}")
    # MMAD's scripts take the first key that begins so.
    conversation = next((entry[key] for key in entry if key.startswith("conversation")), None)
    if not isinstance(conversation, list):
        raise UserError(f"{where}: has no 'conversation' with its questions")
    chosen = {}
    for name, field in TEMPLATE_FIELDS.items():
        paths = entry.get(field) or []
        if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
            raise UserError(f"{where}: {field!r} is {str(paths)[:60]!r}, expected a list of paths")
        if any(".." in PurePosixPath(path).parts or path.startswith("/") for path in paths):
            raise UserError(f"{where}: {field!r} names a file outside MMAD's folder")
        chosen[name] = tuple(paths)
    mask = entry.get("mask_path") or None
    if mask is not None and (not isinstance(mask, str) or ".." in PurePosixPath(mask).parts):
        raise UserError(f"{where}: 'mask_path' is {str(mask)[:60]!r}, expected a path below the category")
    return MmadSample(
        image=image,
        mask_path=mask,
        templates=chosen,
        questions=tuple(_question(index, turn, where) for index, turn in enumerate(conversation)),
    )


def _question(index: int, turn: Any, where: str) -> MmadQuestion:
    where = f"{where}, question {index}"
    if not isinstance(turn, dict):
        raise UserError(f"{where}: expected an object with 'Question', 'Answer', 'Options' and 'type'")
    for field in ("Question", "Answer", "type"):
        if not isinstance(turn.get(field), str) or not turn[field]:
            raise UserError(f"{where}: {field!r} is {str(turn.get(field))[:60]!r}, expected a text")
    options = turn.get("Options")
    if not isinstance(options, dict) or not all(isinstance(text, str) for text in options.values()):
        raise UserError(f"{where}: 'Options' is {str(options)[:60]!r}, expected letters with their texts")
    if not 2 <= len(options) <= len(_LETTERS):
        raise UserError(f"{where}: has {len(options)} options, expected 2 to {len(_LETTERS)}")
    if turn["Answer"] not in options:
        raise UserError(f"{where}: the answer {turn['Answer']!r} is none of the options {', '.join(options)}")
    return MmadQuestion(
        index=index,
        text=turn["Question"],
        options=dict(zip(_LETTERS, options.values(), strict=False)),
        answer=_LETTERS[list(options).index(turn["Answer"])],
        type=_TYPES.get(plain_type(turn["type"]), turn["type"]),
    )


def _wrong_layout(root: Path) -> str:
    expected = f"expected {root / 'mmad.json'} beside the folders {', '.join(DATASETS)} and MVTec-AD"
    if not root.is_dir():
        return f"{root}: no such folder; --data-root is MMAD's folder, {expected}"
    inner = [folder for folder in ("MMAD", "dataset/MMAD", "..", "data") if (root / folder / "mmad.json").is_file()]
    if inner:
        return f"{root}: has no mmad.json, but {(root / inner[0]).resolve()} has: give that as --data-root"
    there = [name for name in (*DATASETS, "MVTec-AD") if (root / name).is_dir()]
    if there:
        return (
            f"{root}: has the folders {', '.join(there)} but no mmad.json; copy it there from MMAD's repository "
            "(jiang-cc/MMAD on Hugging Face)"
        )
    archives = sorted(path.name for path in root.glob("*.zip"))[:3]
    if archives:
        return f"{root}: holds {', '.join(archives)}, not unpacked; unzip it there: {expected}"
    found = sorted(path.name for path in root.iterdir())[:6]
    return f"{root}: is not MMAD's folder (it holds {', '.join(found) or 'nothing'}); {expected}"


def templates(sample: MmadSample, *, shots: int, kind: str) -> tuple[str, ...]:
    """The first `shots` templates of a sample.

    Raises:
        UserError: the file lists fewer.
    """
    listed = sample.templates[kind]
    if len(listed) < shots:
        raise UserError(
            f"mmad.json: {sample.image!r} has {len(listed)} {TEMPLATE_FIELDS[kind]}, --shots {shots} needs {shots}; "
            "ask with fewer"
        )
    return listed[:shots]


def check_files(root: Path, names: Iterable[str]) -> list[str]:
    """Which of the files below `root` are not there, or hold no picture, in order; each folder is listed once.

    No picture is an empty file, or a pointer that Git LFS left in the place of one.

    A name that differs in the case of its letters only is missing: on the system that the results are compared with it
    would be.
    """
    listings: dict[Path, set[str]] = {}
    missing = []
    for name in dict.fromkeys(names):
        path = root / name
        if path.parent not in listings:
            try:
                listings[path.parent] = set(os.listdir(path.parent))
            except OSError:
                listings[path.parent] = set()
        if path.name not in listings[path.parent] or _is_placeholder(path):
            missing.append(name)
    return missing


def _is_placeholder(path: Path) -> bool:
    try:
        size = path.stat().st_size
        if size >= 512:
            return False
        return size == 0 or path.read_bytes().startswith(b"version https://git-lfs")
    except OSError:
        return True


def missing_files_message(root: Path, missing: Sequence[str], *, total: int) -> str:
    """One line about files that are not there, with how many of which dataset and the first few."""
    by_dataset = Counter(name.split("/")[0] for name in missing)
    counts = ", ".join(f"{name} {count}" for name, count in by_dataset.items())
    return (
        f"{root}: {len(missing)} of {total} images that mmad.json names are not there, empty, or Git LFS pointers "
        f"({counts}): {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
    )


def domain_knowledge(root: Path, file: Path | None = None) -> dict[tuple[str, str], str]:
    """(dataset, category) → what MMAD's `domain_knowledge.json` says about the product, its texts on lines.

    A product that the file lacks is absent from the result, and its questions are asked without.

    Raises:
        UserError: the file is missing or not of MMAD's form.
    """
    file = file or root / "domain_knowledge.json"
    data = read_json(file, check="--domain-knowledge needs MMAD's file there", again="download it again")
    found = {}
    try:
        for dataset, products in data.items():
            for product, texts in products.items():
                # MMAD's file knows DS-MVTec by the name of its origin.
                name = "DS-MVTec" if dataset == "MVTec" else dataset
                found[name, product] = "\n".join(texts.values())
    except (AttributeError, TypeError):
        raise UserError(f"{file}: expected dataset → product → kind of defect → text") from None
    return found
