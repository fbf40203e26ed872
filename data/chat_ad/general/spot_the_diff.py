"""`adcopilot data convert spot-the-diff`: two frames of a surveillance camera and what people say has changed.

Its layout is in `change_sets`. An item is one person's description; several people described some pairs, and Table I's
12.5k counts all of them with the test split, which stays out here unless asked for. Someone's "no difference" about a
pair in which another person names one is left out.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...change_sets import spot_the_diff as layout
from ...errors import UserError
from ...files import read_json
from .command import AGAIN, add_common_arguments, run_source
from .media import ImageFolder
from .questions import ASK_DIFFERENCES
from .source import GeneralSource, RawSample, Rejected
from .texts import caption_record, checked_text, sentence

# People say in many ways that they see none, misspelt and without apostrophes ("i don t see a differnce").
_NOTHING = re.compile(
    r"\bno\s+(?:\w+\s+){0,2}(?:diff\w*|chang\w*)"
    r"|\b(?:not|cannot|unable|(?:don|can|couldn|didn)\W?t)\b.{0,25}\b(?:any|a|the)\s+(?:\w+\s+)?(?:diff\w*|chang\w*)"
    r"|\bnothing\b.{0,20}\b(?:chang\w*|diff\w*)"
    r"|\b(?:everything|images?|pictures?|photos?|both)\s+(?:is|are|look|looks|appear|appears)\b.{0,12}"
    r"\b(?:the\s+same|identical)\b",
    re.IGNORECASE,
)

# The authors' tokeniser took the apostrophes out.
_APOSTROPHE = re.compile(
    r"\b((?:do|does|did|is|are|was|were|ca|could|has|have|had|wo|would|should)n|can|won) t\b|\b(\w+) s\b"
)


class SpotTheDiff(GeneralSource):
    """Spot-the-diff as a `source.GeneralSource`.

    Args:
        root: the authors' repository, with the images in it.
        media_dir: the YAML's.
        splits: of train, val, test.

    Raises:
        UserError: files are missing or broken.
    """

    name = "Spot-the-diff"
    licence = "Spot-the-diff (Jhamtani, Berg-Kirkpatrick 2018): no licence stated; research use, do not redistribute"

    def __init__(self, *, root: Path, media_dir: Path, splits: list[str]) -> None:
        self.root = root
        first = layout.annotations(root, "train", option="--root")
        self.folder = ImageFolder(folder=layout.pictures(root, option="--root"), media_dir=media_dir)
        self.options: dict[str, Any] = {"splits": splits, "images": self.folder.prefix}
        self.files = [first.with_name(f"{split}.json") for split in splits]
        test = first.with_name("test.json")
        # A pair of the test split must not come in through another one.
        held_out = set()
        if "test" not in splits and test.is_file():
            held_out = {entry.get("img_id") for entry in _entries(test) if isinstance(entry, dict)}
        self._held_out = held_out
        self._entries: list[tuple[str, int, Any]] = []
        for split, path in zip(splits, self.files, strict=True):
            if not path.is_file():
                raise UserError(f"{path}: missing, expected the annotations of the {split} split; copy them")
            self._entries += [(split, index, entry) for index, entry in enumerate(_entries(path))]
        self._changed = {
            entry["img_id"] for _, _, entry in self._entries if _is_whole(entry) and not _says_nothing(entry)
        }

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """As `GeneralSource.items`; one for each entry."""
        for ordinal, (split, index, entry) in enumerate(self._entries):
            if chosen is None or ordinal in chosen:
                where = f"{self.files[self.options['splits'].index(split)]}: entry {index + 1}"
                yield RawSample(ordinal=ordinal, key=f"{split}/{index}", where=where, data=entry)

    def check(self, item: RawSample) -> None:
        """The entry is whole, does not contradict others, and both images are there."""
        entry = item.data
        if not _is_whole(entry):
            raise Rejected("broken item", "expected img_id (a text) and sentences (a list of texts)")
        self._answer(entry)
        if entry["img_id"] in self._held_out:
            raise Rejected("pair of the test split", entry["img_id"], expected=True)
        if _says_nothing(entry) and entry["img_id"] in self._changed:
            raise Rejected("contradicts another description", f"of {entry['img_id']}", expected=True)
        for name in layout.pair(entry["img_id"]):
            self.folder.path(name)

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The pair with one person's sentences."""
        pictures = self.folder.opened(layout.pair(item.data["img_id"]))
        answer = self._answer(item.data)
        return caption_record(self.name, item.key, rng=rng, questions=ASK_DIFFERENCES, caption=answer, **pictures)

    def _answer(self, entry: dict[str, Any]) -> str:
        sentences = [text for text in entry["sentences"] if text.strip()]
        if not sentences:
            raise Rejected("empty text", f"no sentence about {entry['img_id']}", expected=True)
        texts = [repaired(checked_text(text, what="a sentence")) for text in sentences]
        # Some people number what they see: 1 …, 2 ….
        if len(texts) > 1 and all(re.match(rf"{number}\W?\s", text) for number, text in enumerate(texts, 1)):
            texts = [text.split(maxsplit=1)[-1] for text in texts]
        return " ".join(map(sentence, texts))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, SpotTheDiff.name, root="the repository of Spot-the-diff with resized_images in it")
    parser.add_argument(
        "--include-test", action="store_true", help="also the test split, which models are compared on"
    )


def opened(args: argparse.Namespace) -> SpotTheDiff:
    """The source that the options name."""
    splits = ["train", "val", *(["test"] if args.include_test else [])]
    return SpotTheDiff(root=args.root, media_dir=args.media_dir, splits=splits)


run = partial(run_source, opened)


def repaired(text: str) -> str:
    """A sentence with its apostrophes and the capital I that the published files have lost."""
    text = _APOSTROPHE.sub(lambda found: f"{found[1]}'t" if found[1] else f"{found[2]}'s", text)
    return re.sub(r"\bi\b", "I", text)


def _is_whole(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("img_id"), str)
        and isinstance(entry.get("sentences"), list)
        and all(isinstance(text, str) for text in entry["sentences"])
    )


def _says_nothing(entry: dict[str, Any]) -> bool:
    return all(_NOTHING.search(text) for text in entry["sentences"] if text.strip())


def _entries(path: Path) -> list[Any]:
    return read_json(path, kind=list, check=AGAIN, again=AGAIN)
