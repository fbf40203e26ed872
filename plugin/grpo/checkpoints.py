"""Which checkpoint a run goes on from: the newest that was written to its end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import UserError

__all__ = ["check_same_run", "last_checkpoint"]


def last_checkpoint(output_dir: str | Path, *, tidy: bool) -> tuple[Path, int] | None:
    """The newest whole checkpoint of a run and its step; None where there is none.

    transformers takes the one with the highest number, also if the process was killed, or the disk was full, while it
    was written.

    Args:
        output_dir: of the run.
        tidy: remove newer ones that are torn; one process does this.
    """
    found = []
    for folder in Path(output_dir).glob("checkpoint-*"):
        number = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if number:
            found.append((int(number[1]), folder))
    for step, folder in sorted(found, reverse=True):
        if _whole(folder):
            return folder, step
        if tidy:
            shutil.rmtree(folder, ignore_errors=True)
    return None


def check_same_run(checkpoint: Path, settings: dict) -> None:
    """Refuse to go on with other settings than the checkpoint was made with.

    Raises:
        UserError: naming what differs.
    """
    file = checkpoint.parent / "grpo.json"
    try:
        before = json.loads(file.read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    now = json.loads(json.dumps(settings))
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise UserError(
            f"{checkpoint.parent}: holds a run with other settings ({', '.join(changed[:6])}); give another "
            "output_dir, or the same settings to go on"
        )


def _whole(folder: Path) -> bool:
    """`trainer_state.json` is what transformers writes last; the adapter's file must hold what its header says."""
    try:
        json.loads((folder / "trainer_state.json").read_text())
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            return bool(list(file.keys()))
    except (OSError, ValueError, SafetensorError):
        return False
