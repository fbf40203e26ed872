"""Adapters as folders that appear whole: what a trainer writes and servers read at the same time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError, reason_of

__all__ = ["publish_adapter"]

#: Folders of adapters that are kept: the current one, and the one that a slow server may still be reading.
KEPT_ADAPTERS = 2


def publish_adapter(folder: Path, save: Callable[[str], None]) -> None:
    """Write an adapter's folder so that it is there whole or not at all, and remove old ones.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        save(str(part))
        os.replace(part, folder)
        written = sorted(folder.parent.glob("policy-*"), key=lambda path: path.stat().st_mtime)
        for old in written[:-KEPT_ADAPTERS]:
            shutil.rmtree(old, ignore_errors=True)
    except Exception as error:  # safetensors has its own errors for a full disk
        raise UserError(
            f"{folder}: the adapter cannot be written ({reason_of(error)}); make room and start again"
        ) from None
