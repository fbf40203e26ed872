"""What lies in a folder that a reader can do nothing with: the reason in the words of whoever put it there."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ...images import UNREAD_SUFFIXES
from .base import Source, first_names, is_image

__all__ = ["what_is_there", "why_no_folder"]

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wmv", ".mpg", ".mpeg")
_PICTURES = UNREAD_SUFFIXES | {".raw", ".psd", ".svg", ".pdf"}

#: Folders that are looked into.
_MOST_FOLDERS = 200


def why_no_folder(root: Path) -> str:
    """Why a root is none: `no such folder`, `a zip archive: unpack it and name the folder`."""
    if not root.exists():
        return "a link that leads nowhere" if root.is_symlink() else "no such folder"
    return _what(root.name) or "is a file"


def what_is_there(source: Source) -> str:
    """`there are images in part/scratch (5)`, `it holds parts.zip, an archive: unpack it`, `it is empty`."""
    images: Counter[str] = Counter()
    others: list[str] = []
    for number, folder in enumerate(source.walk()):
        if number == _MOST_FOLDERS:
            break
        for name in source.files(folder):
            if is_image(name):
                images[folder or "."] += 1
            else:
                others.append(f"{folder}/{name}" if folder else name)
    if images:
        return f"there are images in {first_names([f'{folder} ({count})' for folder, count in images.items()])}"
    told = [f"it holds {name}, {what}" for name in others[:1000] if (what := _what(name))]
    if told:
        return f"there is no image in it: {told[0]}"
    return (
        f"there is no image in it, only {first_names(others)}"
        if others
        else "it is empty"
        if not source.problems
        else "nothing in it can be read"
    )


def _what(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _ARCHIVES:
        return "an archive: unpack it and name the folder"
    if suffix in _VIDEOS:
        return "a video: save pictures of it as PNG or JPEG files"
    if suffix in _PICTURES:
        return "a format that is not read: convert it to PNG or JPEG"
    return ""
