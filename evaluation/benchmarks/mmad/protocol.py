"""MMAD's own wording, from the user's copy of its repository (GitHub: jam-cc/MMAD): which script, and of which commit.

Each model has a script of its own there, with words of its own. The one of the model's family is taken, and
Qwen2.5-VL's for all families without one.
"""

from __future__ import annotations

import re
from pathlib import Path

from adcopilot.errors import UserError

from ...wording import MMAD, Wording
from .script_module import load
from .script_text import read_words
from .words import PromptWords

__all__ = ["commit_of", "find_script", "read_protocol"]

#: Where scripts lie, in the present layout and in the first one.
_FOLDERS = ("evaluation/examples", "evaluation")
_OF_FAMILY = {"internvl": ("Transformers/internvl_query.py",), "gemini": ("Gemini/gemini_query.py",)}
#: For the other families, and where a version lacks the family's own; the first that is there.
_OTHERS = ("Transformers/qwen2_5_vl_query.py", "Transformers/qwen_query.py", "GPT4/gpt4v.py", "GPT4/gpt4o.py")
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_BYTES = 4 << 20


def read_protocol(
    checkout: Path, *, family: str, shots: int, told: bool, script: str | None = None
) -> tuple[PromptWords, Wording]:
    """The words of one of MMAD's scripts.

    Args:
        checkout: the folder of the repository.
        family: name of the model's family (`families.FAMILIES`).
        shots: number of templates.
        told: whether domain knowledge is told.
        script: a path below the checkout, instead of the family's script.

    Raises:
        UserError: it is no checkout of MMAD, the script is not there or not readable, or its text is not known.
    """
    path, notes = find_script(checkout, family=family, script=script)
    words, more = read_words(load(path, folder=path.parent.parent, root=checkout), shots=shots)
    if told and not words.told:
        raise UserError(
            f"{path}: tells no domain knowledge; leave --domain-knowledge out, or give another script with "
            "--protocol-file"
        )
    wording = Wording(
        whose=MMAD,
        text=words.text(told=told),
        file=path.relative_to(checkout).as_posix(),
        commit=commit_of(checkout),
        notes=(*notes, *more),
    )
    return words, wording


def find_script(checkout: Path, *, family: str, script: str | None = None) -> tuple[Path, list[str]]:
    """The script to read, and what is to be said of others.

    Raises:
        UserError: it is no checkout of MMAD, or the script is not there.
    """
    if not checkout.is_dir():
        raise UserError(f"--protocol {checkout}: no such folder; expected a copy of MMAD's repository (jam-cc/MMAD)")
    there = [folder for folder in _FOLDERS if (checkout / folder).is_dir()]
    if not there:
        above = next((one for one in checkout.resolve().parents if (one / "evaluation/examples").is_dir()), None)
        hint = f"; did you mean {above}?" if above else " (github.com/jam-cc/MMAD)"
        raise UserError(f"--protocol {checkout}: has no folder evaluation, expected a copy of MMAD's repository{hint}")
    known = [
        checkout / folder / name
        for name in (*_OF_FAMILY.get(family, ()), *_OTHERS)
        for folder in there
        if (checkout / folder / name).is_file()
    ]
    if script is not None:
        path = checkout / script
        if ".." in Path(script).parts or Path(script).is_absolute() or not path.is_file():
            listed = ", ".join(one.relative_to(checkout).as_posix() for one in known[:4]) or "none that is known"
            raise UserError(f"--protocol-file {script}: no such file below {checkout}; there are: {listed}")
        return path, []
    if not known:
        raise UserError(
            f"--protocol {checkout}: has none of the scripts {', '.join(_OTHERS)} below {there[0]}; give one with "
            "--protocol-file"
        )
    others = [one.relative_to(checkout).as_posix() for one in known[1:]]
    return known[0], [f"also there: {', '.join(others)}; --protocol-file takes another"] if others else []


def commit_of(checkout: Path) -> str:
    """The commit that is checked out, 40 (or 64) hexadecimal digits; "" where that is not known. Git is not run.

    Changes that were made to the files since are not seen by it; the text itself stands in the run.
    """
    folder = checkout / ".git"
    if folder.is_file():  # a work tree of another clone
        named = _small(folder).partition("gitdir:")[2].strip()
        folder = checkout / named if named else folder
    head = _small(folder / "HEAD")
    if _HEX.fullmatch(head):
        return head
    name = head.removeprefix("ref:").strip()
    if not head.startswith("ref:") or not re.fullmatch(r"refs/[\w./+@-]+", name) or ".." in name:
        return ""
    shared = _small(folder / "commondir")
    for place in (folder, folder / shared) if shared else (folder,):
        found = _small(place / name)
        if _HEX.fullmatch(found):
            return found
        for line in _small(place / "packed-refs").splitlines():
            value, _, ref = line.partition(" ")
            if ref.strip() == name and _HEX.fullmatch(value):
                return value
    return ""


def _small(path: Path) -> str:
    """The text of a small file; "" where there is none."""
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
