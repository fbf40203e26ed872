"""`rollouts.jsonl`: every prompt with its sampled completions and their rewards, for a person to read.

One line a group of completions to one prompt:

    {"key": "train-000012-003", "mode": "train", "step": 12, "record": KEY, "task": "mc", "images": […],
     "question": "…", "truth": "B", "size": [w, h], "boxes": [[x1, y1, x2, y2], …],
     "completions": [{"text": "…", "total": 2.0, "advantage": 0.7, "rewards": {"format": 1.0, "choice": 1.0}}, …]}

`step` counts the updates before the rollout. Boxes in texts are pixels of the original query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError, reason_of
from ..jsonl import read_jsonl, write_jsonl

__all__ = ["RolloutLog"]

FILE = "rollouts.jsonl"


class RolloutLog:
    """The file of a run; only the main process writes it.

    Args:
        folder: the run's `output_dir`.
        step: of the checkpoint that the run goes on from (0 at the start). What was logged after it is removed: those
            steps are about to be made again.
    """

    def __init__(self, *, folder: str | Path, step: int) -> None:
        self.path = Path(folder, FILE)
        if self.path.exists():
            _end_last_line(self.path)
            lines = list(read_jsonl(self.path))
            for number, row in lines:
                if not isinstance(row.get("step"), int) or not isinstance(row.get("mode"), str):
                    raise UserError(f"{self.path}:{number}: not a rollout of this command; move the file away")
            write_jsonl(self.path, [row for _, row in lines if _before(row, step)])

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows.

        Raises:
            UserError: the disk is full or gone.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({reason_of(error)}); make room and start the run again, it goes on "
                "from its last checkpoint"
            ) from None


def _before(row: dict[str, Any], step: int) -> bool:
    # An evaluation after N updates is made before checkpoint N is written; training's rollout N after it.
    return row["step"] < step or (row["mode"] == "eval" and row["step"] == step and step > 0)


def _end_last_line(path: Path) -> None:
    """Cut off what a killed process left half-written."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
