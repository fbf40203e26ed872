"""Answers that were paid for, in an append-only JSONL file: a killed run asks for none of them again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...jsonl import JsonlLog

__all__ = ["AnswerCache"]


class AnswerCache:
    """Looks answers up by a key of their content, and appends new ones.

    In memory it holds the place of each answer, not its text.

    Args:
        path: the file to append to; one process at a time.

    Raises:
        UserError: a line of it is no answer, or another process writes to it.
    """

    def __init__(self, *, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._places: dict[str, int] = {}
        #: (prompt tokens, completion tokens) of the answers that were in it when it was opened.
        self.spent = (0, 0)
        self._log = JsonlLog(path=path)  # also cuts off what a killed run left of a line
        self._file = open(path, "rb")  # noqa: SIM115 - closed in close()
        try:
            self._index()
        except UserError:
            self.close()
            raise

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer with this key, as it was given to `put`."""
        if key not in self._places:
            return None
        self._file.seek(self._places[key])
        return json.loads(self._file.readline())

    def put(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer; it is on the disk when this returns.

        Raises:
            UserError: the disk is full or gone.
        """
        offset = self.path.stat().st_size
        self._log.append({"key": key, **answer})
        self._places[key] = offset

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._log.close()

    def _index(self) -> None:
        offset = 0
        for count, line in enumerate(self._file, 1):
            try:
                record = json.loads(line)
                key = record["key"]
                spent = (int(record["prompt_tokens"]), int(record["completion_tokens"]))
            except (ValueError, RecursionError, TypeError, KeyError):
                raise UserError(f"{self.path}:{count}: not an answer of an endpoint; remove this line") from None
            self._places.setdefault(key, offset)
            self.spent = (self.spent[0] + spent[0], self.spent[1] + spent[1])
            offset += len(line)
