"""What both tabs work with: the model, the visitors' files, the limits."""

from __future__ import annotations

import os
import re
import sys
import traceback
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import gradio as gr
import numpy as np
from PIL import Image

from ..answering.families import Family
from ..errors import UserError
from ..inspect.question import Question
from ..inspect.result import Result
from ..prompts import thinking_question
from .limits import Limits, open_upload
from .store import Store

__all__ = ["Engine", "Service"]


class Engine(Protocol):
    """Who answers: `LocalEngine` or `EndpointEngine`.

    Attributes:
        family: how the model is talked to.
        title: its name for visitors.
        has_heat: whether `ask` gives attention maps.
        concurrency: questions worth answering at the same time.
    """

    family: Family
    title: str
    has_heat: bool
    concurrency: int

    def ask(self, question: Question) -> tuple[Result, np.ndarray | None]:
        """One answer, and the comparison tokens' attention over the query (rows, columns)."""

    def inspect(self, pairs: Any) -> Any:
        """(pair, `adcopilot inspect`'s line) for each pair."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What both tabs work with.

    Attributes:
        engine: who answers.
        store: the visitors' files.
        limits: how much they may bring.
        threshold: a score from here on is defective.
        thinking: ask for the reasoning before each answer.
        page: the page that is being built.
    """

    engine: Engine
    store: Store
    limits: Limits
    threshold: float = 0.5
    thinking: bool = False
    page: gr.Blocks = field(repr=False)

    def open(self, path: str | os.PathLike, *, visitor: str) -> Image.Image:
        """A visitor's picture.

        Raises:
            UserError: as `Store.use` and `open_upload`; it names the file as the visitor does.
        """
        found = self.store.use(path, visitor=visitor)
        return open_upload(found, name=found.name, limits=self.limits)

    def free_question(self, words: str) -> str:
        """A visitor's own words as they are put to the model.

        Raises:
            UserError: they are too long.
        """
        words = words.strip()
        if len(words) > self.limits.question:
            raise UserError(f"The question has {len(words)} letters, expected at most {self.limits.question}")
        return thinking_question(words) if self.thinking else words

    def ask(self, question: Question) -> tuple[Result, np.ndarray | None]:
        """The engine's answer.

        Raises:
            UserError: there is none, in words for visitors; what happened is on stderr for the operator.
        """
        try:
            result, heat = self.engine.ask(question)
        except UserError as error:
            print(f"model: {error}", file=sys.stderr, flush=True)
            raise UserError(self.without_paths(str(error))) from error
        except Exception as error:
            traceback.print_exc()
            raise UserError(
                "Something went wrong on the server; it has been written down there. Try again."
            ) from error
        if result.error:
            raise UserError(self.without_paths(result.error))
        return replace(result, reason=result.reason and self.without_paths(result.reason)), heat

    def without_paths(self, text: str, *folders: os.PathLike) -> str:
        """A message without this machine's folders: of a stored file only its name is left."""
        text = re.sub(
            rf"{re.escape(str(self.store.served))}{re.escape(os.sep)}(?:[0-9a-f]+{re.escape(os.sep)})?", "", text
        )
        for folder in folders:
            text = text.replace(f"{os.fspath(folder)}{os.sep}", "")
        return text
