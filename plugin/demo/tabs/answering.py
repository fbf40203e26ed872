"""How the first tab's answers come about: what goes to the page next, and the conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr
from PIL import Image

from ...errors import UserError
from ...images import open_image
from ...inspect.pairs import Pair
from ...inspect.question import Question
from .. import fragments
from ..belonging import Asked, Coming, Talk, mark, nothing
from ..engines.answer import Answer
from ..service import Service
from .pictures import kept_entry, save_answer

__all__ = ["MOST_TEMPLATES", "Answering"]

#: Pictures of good parts beside the first.
MOST_TEMPLATES = 8


class Answering:
    """Asks the engine, and makes what the page shows of it.

    Args:
        service: model, store and limits.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def answer(self, talk: Talk, asked: Asked, text: str, *, yes_or_no: bool) -> tuple:
        """What goes to the page next, and the conversation with it: an answer, or words on why there is none."""
        try:
            with self.service.for_visitors():
                answer, images = self.ask(talk, asked, text, yes_or_no=yes_or_no)
                return self._found(talk, asked, answer, images)
        except UserError as error:
            return self.problem(asked, str(error))

    def _found(self, talk: Talk, asked: Asked, answer: Answer, images: list[Image.Image]) -> tuple[Coming, Talk]:
        about = mark(asked.files)
        turns = talk.answers if talk.about == about else ()
        talk = Talk(about=about, answers=(*turns, answer.without_pictures()))
        files = save_answer(self.service, answer, images, visitor=asked.visitor)
        results = (
            fragments.of(about, fragments.verdict(answer)),
            files["marked"],
            fragments.of(about, fragments.name(answer.result.query)),
            files["compared"],
            fragments.of(about, fragments.conversation(talk.answers)),
            *(gr.DownloadButton(value=files[name], interactive=True) for name in ("json", "inspected")),
            about,
            files["differs"],
            fragments.of(about, fragments.map_about(answer)) if self.service.engine.has_map else "",
            "",
            files["good part"],
            fragments.of(about, fragments.name(answer.templates[-1] if answer.templates else "")),
            fragments.of(about, fragments.heat_about(answer)),
            fragments.of(about, fragments.places(answer)),
        )
        return Coming(asked=asked, results=results, entry=kept_entry(answer, images[-1])), talk

    def problem(self, asked: Asked, message: str) -> tuple:
        """Words in the place for problems, and no verdict; a conversation about these pictures can go on."""
        message = message if message.endswith(".") else f"{message}."
        verdict, boxes, caption, heat, _, as_json, as_png, _, *rest = nothing()
        results = verdict, boxes, caption, heat, gr.skip(), as_json, as_png, mark(asked.files), *rest
        return Coming(asked=asked, results=results, problem=fragments.notice(message)), gr.skip()

    def ask(self, talk: Talk, asked: Asked, text: str, *, yes_or_no: bool) -> tuple[Answer, list[Image.Image]]:
        """The answer, and the pictures it is about (templates first).

        Raises:
            UserError: the pictures cannot be used, or nobody answers.
        """
        if asked.query is None:
            raise UserError("Add a picture of the part to inspect first.")
        service, visitor = self.service, asked.visitor
        files = tuple(str(service.store.use(path, visitor=visitor)) for path in (*asked.templates, asked.query))
        if len(files) > MOST_TEMPLATES + 2:
            raise UserError(f"{len(files) - 1} pictures of good parts, expected at most {MOST_TEMPLATES + 1}")
        images = [service.open(path, visitor=visitor) for path in files]
        more = ()
        if not asked.templates and service.good_parts is not None:
            pair = service.good_parts.pair(Path(files[-1]), each=service.templates_each)
            files, more = (str(pair.template), *files), tuple(map(str, pair.more))
            images.insert(0, open_image(pair.template))
        turns = talk.answers if talk.about == mark(asked.files) else ()
        question = Question(
            templates=files[:-1],
            query=files[-1],
            text=text,
            more=more,
            turns=tuple((turn.question, turn.result.answer) for turn in turns),
        )
        result, heat = service.ask(question)
        threshold = service.threshold_of(_each_with_others(files[:-1]))
        *good, part = names = [Path(path).name for path in files]
        result = replace(result, query=part, template=names[-2] if good else None)
        about = {"question": text, "yes_or_no": yes_or_no, "templates": tuple(good), "heat": heat}
        return service.answer(result, threshold=threshold, **about), images


def _each_with_others(good: Sequence[str]) -> Iterator[Pair]:
    """Each good part, compared with all others; nothing of one alone."""
    for one in good if len(good) > 1 else ():
        template, *more = (Path(other) for other in good if other != one)
        yield Pair(query=Path(one), template=template, name=one, more=tuple(more))
