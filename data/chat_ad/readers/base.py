"""What all readers share: the items they find, the problems they name, and listing folders without following traps.

A reader turns a dataset's layout into `ListedImage`s: which image, what is said about it, and where its mask is. It
reads names and small text files only; `measure` opens images and masks afterwards. So everything that is wrong with a
layout is known before the long work begins.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ...errors import UserError
from ...images import IMAGE_SUFFIXES, UNREAD, photograph_names
from ...masks import MASK_SUFFIXES

__all__ = [
    "LayoutError",
    "ListedImage",
    "Option",
    "Problem",
    "Reader",
    "Source",
]

# Of zip files of macOS, of network disks, of Windows.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


class LayoutError(UserError):
    """The root does not look like the dataset that it was said to be."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One of a reader's settings: its default (None where it must be given), what else it may be (None for any text),
    and one line of help."""

    default: str | None
    choices: Sequence[str] | None = None
    help: str


class Reader(NamedTuple):
    """How a dataset is read.

    Attributes:
        module: has `OPTIONS`, `looks_like(source)` and `scan(source)`.
        licence: what is known about the terms. Read the dataset's own text before relying on it.
        built: whether a build or the like wrote it: its masks are named by their content, so images may share one, and
            they mark what is left after somebody has looked at them; its root may hold what is built of it.
    """

    module: ModuleType
    licence: str = "the user's own"
    built: bool = False


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something in a dataset that the table cannot or will not hold.

    Attributes:
        file: relative to the root, as far as it lies inside.
        reason: one line.
        kind: a word to count by, such as "missing-mask".
        blocking: the run refuses to go on unless problems are skipped; otherwise it is only told.
        count: images that are left out by it.
    """

    file: str
    reason: str
    kind: str
    blocking: bool = True
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """An image (or a strip of views) as a layout describes it, not yet opened.

    Attributes:
        image: its reference.
        category, split, view, group, notes: as in the table.
        anomalous: what the layout says. A view whose mask is empty is normal nevertheless, see `views`.
        defect: the kind of defect, "" when normal, unknown, or to be read from the mask's classes.
        mask: reference of the mask, "" for none.
        views: more than 1 for a horizontal strip of so many views, each of which becomes a row.
        classes: (number in the mask, name) pairs, where a mask says what each region is.
        boxes: annotated (box, label) pairs in pixels, for datasets that have boxes and no masks.
        size: (width, height) that the annotation says the image has, in pixels, None where it says none.
    """

    image: str
    category: str
    anomalous: bool
    split: str = ""
    defect: str = ""
    mask: str = ""
    view: str = ""
    group: str = ""
    notes: str = ""
    views: int = 1
    classes: tuple[tuple[int, str], ...] = ()
    boxes: tuple[tuple[tuple[int, int, int, int], str], ...] | None = None
    size: tuple[int, int] | None = None


@dataclass(kw_only=True)
class Source:
    """A dataset being read: where it is, how it is to be read, and what was found on the way.

    Folders and files are named relative to the root, with `/`; "" is the root itself.

    Attributes:
        root: the dataset's folder.
        dataset: one of the names of `READERS`.
        options: the reader's settings, complete.
        categories: only these, all when empty.
        problems: what went wrong so far.
        found: which of several possible forms was found, counted where there may be several ("masks named NAME_mask").
        passed_over: files that are no images, counted by suffix.
        seen_categories: all that are there, asked for or not.
        bits: the depth that its images of 16 bits a channel use, None where there are none or they use all.
        disputed: what an earlier `scan` has found contradictions about, so that it is left out: masks of more than one
            image, and images of which records say different things.
        looked_at: folders whose images were listed.
        budget: folders that may still be listed; more of them look empty. None for no limit.
        recipe: the key of a build's recipe that says all this; for messages.
    """

    root: Path
    dataset: str
    options: Mapping[str, str]
    categories: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)
    found: Counter = field(default_factory=Counter)
    passed_over: Counter = field(default_factory=Counter)
    seen_categories: set[str] = field(default_factory=set)
    bits: int | None = None
    disputed: set[str] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)
    budget: int | None = None
    recipe: str = "datasets.SET"
    _recorded: set[tuple[str, str, str]] = field(default_factory=set)

    def problem(self, kind: str, file: str, reason: str, *, count: int = 1) -> None:
        """Record something that must not be lost silently, and how many images are left out by it."""
        self._record(Problem(file=file, reason=reason, kind=kind, count=count))

    def fault(self, kind: str, file: str, error: UserError) -> None:
        """Record a problem with a file in an error's words, which need not name the file again."""
        words = str(error).removeprefix(self.path(file)).removeprefix(file).lstrip(": ")
        self.problem(kind, file, " ".join(words.split()))

    def note(self, kind: str, file: str, reason: str) -> None:
        """Record something worth telling that is no reason to stop."""
        self._record(Problem(file=file, reason=reason, kind=kind, blocking=False))

    def _record(self, problem: Problem) -> None:
        # A folder may be listed more than once.
        if (problem.kind, problem.file, problem.reason) not in self._recorded:
            self._recorded.add((problem.kind, problem.file, problem.reason))
            self.problems.append(problem)

    def told(self) -> set[str]:
        """The files and folders that a problem or a note was about."""
        return {file for _, file, _ in self._recorded}

    def say(self, option: str, value: str) -> str:
        """How one of the reader's options is typed where it is read."""
        if not self.recipe:  # `adcopilot adapt`, which has no recipe
            return f"the option {option}={value} of `adcopilot data build`"
        return f"--set {self.recipe}.options.{option}={value}"

    def say_root(self, root: str | os.PathLike) -> str:
        """How another root is typed."""
        if not self.recipe:
            return shlex.quote(os.fspath(root))
        return f"--set {self.recipe}.root={shlex.quote(os.fspath(root))}"

    def wants(self, category: str) -> bool:
        """Whether a category is asked for; it is remembered as one that exists."""
        self.seen_categories.add(category)
        return not self.categories or category in self.categories

    def path(self, relative: str) -> str:
        """The path to open."""
        return os.path.join(self.root, relative)

    def is_folder(self, relative: str) -> bool:
        """Whether a folder is there."""
        return os.path.isdir(self.path(relative))

    def is_file(self, relative: str) -> bool:
        """Whether a file is there."""
        return os.path.isfile(self.path(relative))

    def walk(self, *, depth: int | None = None) -> Iterator[str]:
        """The root and all folders below it (`depth` levels of them), in order; where links lead to one a second time
        it is passed over."""
        seen, pending = set(), [("", 0)]
        while pending:
            one, level = pending.pop()
            real = os.path.realpath(self.path(one))
            if real not in seen:
                seen.add(real)
                yield one
                if level != depth:
                    pending += [(join(one, name), level + 1) for name in reversed(self.folders(one))]

    def contents(self) -> str:
        """What lies in the root itself, for a message that something else was expected there."""
        return f"there is {first_names(self.folders('') + self.files(''))}"

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder, sorted, without hidden ones."""
        return self._list(folder)[0]

    def files(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted, without hidden ones."""
        return self._list(folder)[1]

    def images(self, folder: str, *, nested: bool = False) -> list[str]:
        """The names of the images in a folder, sorted; other files are counted.

        Folders are a problem unless they are expected there (`nested`).
        """
        folders, files = self._list(folder)
        images = self._of(files, is_image)
        self.looked_at.add(folder)
        self.name_unread(folder, files)
        if not nested:
            for name in folders:
                reason = "a folder among images, which would be left out; expected images only"
                self.problem("unexpected-folder", join(folder, name), reason)
        return images

    def name_unread(self, folder: str, files: Sequence[str]) -> None:
        """Name the photographs among a folder's files whose format is not read."""
        for name in photograph_names(files):
            if not is_image(name):
                self.problem("unread-format", join(folder, name), UNREAD)

    def masks(self, folder: str) -> list[str]:
        """The names of the masks in a folder: images, and arrays of NumPy."""
        return self._of(self.files(folder), is_mask)

    def _of(self, files: list[str], wanted: Callable[[str], bool]) -> list[str]:
        """Those of some names that are wanted; the others are counted."""
        self.passed_over.update(os.path.splitext(name)[1].lower() or "no suffix" for name in files if not wanted(name))
        return [name for name in files if wanted(name)]

    def text(self, relative: str) -> str:
        """A small text file.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return Path(self.path(relative)).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise UserError(f"{self.path(relative)}: cannot be read ({reason})") from None

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = [], []
        if self.budget is not None:
            self.budget -= 1
            if self.budget < 0:
                return [], []
        try:
            with os.scandir(self.path(folder)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.problem("unreadable-folder", folder, f"cannot be listed ({error.strerror or error})")
            return [], []
        for entry in found:
            # Hidden files are no data; macOS leaves `._NAME.png` beside each NAME.png, and other systems folders.
            if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
                continue
            if not entry.name.isprintable() and _undecodable(entry.name):
                name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
                self.problem("name", join(folder, name), "the name is not UTF-8; rename it")
            elif entry.is_symlink() and not self._check_link(folder, entry):
                continue
            elif entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
            else:
                self.problem("not-a-file", join(folder, entry.name), "neither a file nor a folder; remove it")
        return folders, files

    def _check_link(self, folder: str, entry: os.DirEntry) -> bool:
        name = join(folder, entry.name)
        try:
            target, base = os.path.realpath(entry.path, strict=True), os.path.realpath(self.root)
        except OSError as error:
            self.problem("broken-link", name, f"a link that leads nowhere ({error.strerror or error})")
            return False
        if (base + os.sep).startswith(target.rstrip(os.sep) + os.sep):
            self.problem("loop", name, "a link to a folder above it, which would be read again and again; remove it")
            return False
        if not target.startswith(base.rstrip(os.sep) + os.sep):
            self.problem(
                "outside-root",
                name,
                f"a link that leads out of the root, to {target}; copy it into it, or name the folder that holds both",
            )
            return False
        return True


def join(folder: str, name: str) -> str:
    """`folder/name`, for "" too."""
    return f"{folder}/{name}" if folder else name


def inside(path: str) -> str | None:
    """A path from an annotation file with `/` and without `.` parts, None when it leads out of its folder."""
    path = path.replace("\\", "/")
    if _undecodable(path):
        return None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or not parts or "\0" in path or re.match(r"[A-Za-z]:", path):
        return None
    return "/".join(parts)


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_mask(name: str) -> bool:
    """Whether a name has the suffix of a mask, in any case."""
    return os.path.splitext(name)[1].lower() in MASK_SUFFIXES


def _undecodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def first_names(names: Sequence[str], *, count: int = 5) -> str:
    """Some names for a message."""
    shown = ", ".join(names[:count])
    return f"{shown}, … ({len(names)})" if len(names) > count else shown or "nothing"
