"""The first tab: pictures of good parts, a part to inspect, questions and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from ...errors import UserError
from .. import fragments
from ..belonging import Asked, Coming, Talk, files_of, mark, nothing
from ..components import UploadedFiles, UploadedImage
from ..examples import Example
from ..questions import QUESTIONS, PageQuestion, wording
from ..service import Service
from ..words import bilingual, label
from .answering import MOST_TEMPLATES, Answering
from .marking import MarkRow
from .pictures import shown_upload

__all__ = ["OnePart"]

#: Answers that the visitor's browser keeps.
KEPT = 20


class OnePart:
    """The tab. Its methods are what the browser's events call.

    Args:
        service: model, store and limits.
        examples: pairs to try.
    """

    def __init__(self, *, service: Service, examples: Sequence[Example]) -> None:
        self.service, self.examples, self.answering = service, examples, Answering(service)
        kind = "Was the verdict wrong? Kind of defect (may be empty)"
        self.marking = MarkRow(service=service, part=self.marked, name="one", label=kind)
        self.questions = (service.inspects, *(QUESTIONS[1:] if service.engine.speaks else ()))

    def build(self) -> None:
        """Put the components into the tab that is open, and connect them."""
        service = self.service
        talk = gr.State(Talk(), time_to_live=service.limits.seconds)
        coming = gr.State(None, time_to_live=service.limits.seconds)  # an answer on its way to the page
        about = gr.State("", time_to_live=service.limits.seconds)  # the mark of what is on the page
        kept = gr.BrowserState([], storage_key="adcopilot-demo-history")
        with gr.Column(elem_id="adc-desk"):  # its three parts are side by side where there is room (page.css)
            with gr.Column(elem_id="adc-ask"):
                with gr.Row():
                    template = self._upload("Good part", "adc-good")
                    query = self._upload("Part to inspect", "adc-part")
                gr.HTML(fragments.chosen("adc-good", "adc-part"), padding=False)
                start, *others = (task for task in self.questions)
                with gr.Row(equal_height=True):
                    main = {"variant": "primary", "elem_id": "adc-start", "scale": 2, "min_width": 150}
                    buttons = [gr.Button(label(start.title), **main)]
                    anew = gr.Button(label("Start again"), size="md", scale=1, min_width=110)
                with gr.Accordion(label("More pictures of good parts (optional)"), open=False):
                    more = UploadedFiles(
                        label=label("Up to 8 pictures"), elem_id="adc-more", file_count="multiple", height=140
                    )
            with gr.Column(elem_id="adc-one"):
                said = gr.HTML("", elem_id="adc-problem", padding=False)
                has_good_parts = service.good_parts is not None
                gr.HTML(fragments.waiting(has_good_parts=has_good_parts), elem_id="adc-empty", padding=False)
                verdict = gr.HTML("", elem_id="adc-verdict", padding=False)
                good, good_about, boxes, caption, places, differs, differs_about, heat, heat_about = (
                    self._build_pictures()
                )
                gr.Slider(
                    1,
                    8,
                    value=1,
                    step=0.5,
                    label=label("Zoom all pictures"),
                    elem_id="adc-zoom",
                    show_reset_button=False,
                    interactive=True,
                )
                talked = gr.HTML("", elem_id="adc-conversation", padding=False, visible=service.engine.speaks)
                marks = self.marking.build()
                with gr.Row(elem_id="adc-saving"):
                    saving = {"interactive": False, "elem_classes": "adc-save", "min_width": 130, "size": "md"}
                    as_json = gr.DownloadButton(label("Save as JSON"), **saving)
                    as_png = gr.DownloadButton(label("Save as picture (PNG)"), **saving)
            with gr.Column(elem_id="adc-rest"):
                with gr.Column(visible=service.engine.speaks):
                    gr.HTML(f"<h3>{bilingual('More questions')}</h3>", padding=False)
                    with gr.Row(elem_classes="adc-tasks"):
                        buttons += [gr.Button(label(task.title), size="md", min_width=120) for task in others]
                    with gr.Row(equal_height=True):
                        words = gr.Textbox(
                            label=label("Your own question (goes on with the conversation)"),
                            placeholder=label("For example: What is it?"),
                            max_lines=4,
                            max_length=service.limits.question,
                            scale=5,
                        )
                        ask = gr.Button(label("Ask"), scale=1, min_width=80)
                example_buttons = self._build_examples()
        with gr.Accordion(label("Earlier answers"), open=False):
            earlier = gr.HTML(fragments.history_list([]), elem_id="adc-earlier")
            forget = gr.Button(label("Forget them"), size="sm")

        pictures = [template, more, query]
        results = [verdict, boxes, caption, heat, talked, as_json, as_png, about, differs, differs_about, marks[-1]]
        results += [good, good_about, heat_about, places]
        quick = {"queue": False, "api_name": False, "show_progress": "hidden"}
        asking = {
            "outputs": [coming, talk],
            "concurrency_limit": service.engine.concurrency,
            "concurrency_id": "model",
            "show_progress": "full",
            "show_progress_on": [verdict],
            "trigger_mode": "always_last",  # other pictures may be asked about while an answer is under way
            "api_name": False,
        }
        asked = [
            button.click(self.task_event(task), pictures, **asking)
            for task, button in zip(self.questions, buttons, strict=True)
        ]
        asked += [event(self.on_question, [words, *pictures, talk], **asking) for event in (ask.click, words.submit)]
        for event in asked:
            event.success(
                self.on_answer, [coming, kept, words, *pictures], [said, *results, words, kept, coming], **quick
            )
        # Not `change`: while a file comes in, the browser refuses events that send the picture, and says so.
        changes = [event for one in pictures for event in (one.upload, one.clear)]
        gr.on([*changes, more.delete], self.on_change, [about, *pictures], results, **quick)
        checking = {"concurrency_limit": 4, "concurrency_id": "files", "api_name": False, "show_progress": "hidden"}
        for component, name in ((template, "the good part"), (query, "the part to inspect")):
            component.upload(self.upload_event(name), [component], [component, said], **checking)
        more.upload(self.on_more, [more], [more, said], **checking)
        for example, button in zip(self.examples, example_buttons, strict=True):
            button.click(self.example_event(example), None, [*pictures, said, *results], **checking)
        anew.click(self.on_start_again, None, [*pictures, said, *results, words, talk], **quick)
        self.marking.connect(marks, about, pictures)
        forget.click(list, None, [kept], **quick)
        gr.on(None, fragments.history_list, [kept], [earlier], **quick)  # when it changes, and at the start

        hidden = gr.Button(visible=False)
        hidden.click(
            self.on_api,
            [template, query, words],
            [gr.JSON(visible=False)],
            api_name="inspect",
            concurrency_limit=service.engine.concurrency,
            concurrency_id="model",
        )

    @staticmethod
    def _upload(name: str, elem_id: str) -> UploadedImage:
        return UploadedImage(
            label=label(name),
            elem_id=elem_id,
            sources=["upload", "clipboard"],
            image_mode=None,
            height=240,
            min_width=130,
        )

    def _build_pictures(self) -> list:
        """The pictures of an answer, and what stands below each: good part, part with its places, map, attention."""
        engine = self.service.engine
        shown = (
            ("Compared with", "compared", True),
            ("Marked places", "marked", True),
            ("Where it differs", "differs", engine.has_map),
            ("Where the model compared", "heat", engine.has_heat),
        )
        found = []
        with gr.Row(elem_id="adc-looked", elem_classes=f"adc-{sum(visible for *_, visible in shown)}"):
            for name, elem_id, visible in shown:
                with gr.Column(visible=visible, min_width=130):
                    picture = gr.Image(label=label(name), interactive=False, format="png", elem_id=f"adc-{elem_id}")
                    found += [picture, gr.HTML("", elem_id=f"adc-{elem_id}-about", padding=False)]
                    if elem_id == "marked":
                        found.append(gr.HTML("", elem_id="adc-places", padding=False))
        return found

    def _build_examples(self) -> list[gr.Button]:
        if not self.examples:
            return []
        gr.HTML(f"<h3>{bilingual('Or try an example')}</h3>", padding=False)
        buttons = []
        with gr.Row(elem_classes="adc-examples"):
            for example in self.examples:
                with gr.Column(min_width=80):
                    gr.HTML(fragments.pair_strip(example.template, example.query), padding=False)
                    buttons.append(gr.Button(label(example.title), size="sm"))
        return buttons

    # What events call. A mistake of the visitor's comes back as words in the place for problems.

    def upload_event(self, role: str) -> Callable[..., tuple[Any, str]]:
        """Look at a picture as soon as it is there; one that no browser shows is replaced by a PNG of it."""

        def on_upload(path: str | None, request: gr.Request) -> tuple[Any, str]:
            if path is None:
                return gr.skip(), ""
            try:
                return shown_upload(self.service, path, visitor=request.session_hash), ""
            except UserError as error:
                return None, fragments.notice(f"{error}. It was not taken as {role}.")

        return on_upload

    def on_more(self, files: list[tuple[str, str]], request: gr.Request) -> tuple[Any, str]:
        """The same for further pictures of good parts."""
        try:
            if len(files) > MOST_TEMPLATES:
                raise UserError(f"{len(files)} pictures of good parts, expected at most {MOST_TEMPLATES}")
            for path, _ in files:
                self.service.open(path, visitor=request.session_hash)
        except UserError as error:
            return None, fragments.notice(f"{error}.")
        return gr.skip(), ""

    def example_event(self, example: Example) -> Callable[..., tuple]:
        """Both pictures of an example, as this visitor's own files."""

        def on_example(request: gr.Request) -> tuple:
            good, part = (
                self.service.store.save(image, f"{name}.png", visitor=request.session_hash, compress_level=1)
                for name, image in (("good part", example.template), ("part to inspect", example.query))
            )
            return good, None, part, "", *nothing()

        return on_example

    def task_event(self, task: PageQuestion) -> Callable[..., tuple]:
        """A button begins a conversation, so that its answer depends on the pictures alone."""
        service = self.service

        def on_task(template, more, query, request: gr.Request) -> tuple:
            asked = Asked(files=files_of(template, more, query), visitor=request.session_hash)
            question = wording(
                task,
                templates=len(asked.templates) or bool(service.good_parts),
                family=service.engine.family,
                thinking=service.thinking,
            )
            if question is None:
                return self.answering.problem(
                    asked, "Add a picture of a good part first: it is what the part is compared with."
                )
            return self.answering.answer(Talk(), asked, question, yes_or_no=task is service.inspects)

        return on_task

    def on_question(self, words, template, more, query, talk: Talk, request: gr.Request) -> tuple:
        """A question of the visitor's own goes on with the conversation if the pictures are still the same.

        Its yes may mean anything ("Is it fine?"), so there is no verdict.
        """
        asked = Asked(files=files_of(template, more, query), visitor=request.session_hash, words=words)
        if not words.strip():
            return self.answering.problem(asked, "Write a question first, or use one of the buttons.")
        try:
            question = self.service.free_question(words)
        except UserError as error:
            return self.answering.problem(asked, str(error))
        return self.answering.answer(talk, asked, question, yes_or_no=False)

    def on_answer(self, coming: Coming | None, kept, words, template, more, query) -> tuple:
        """Put an answer on the page if the pictures that it is about are still there, and into the history."""
        if coming is None:  # another has taken its place
            return (gr.skip(),) * 19
        kept = [coming.entry, *(kept if isinstance(kept, list) else [])][:KEPT] if coming.entry else gr.skip()
        if mark(files_of(template, more, query)) != mark(coming.asked.files):
            late = coming.late if template or more or query else ""
            return late, *(gr.skip(),) * 16, kept, None
        answered = coming.asked.words and not coming.problem
        words = "" if answered and words == coming.asked.words else gr.skip()
        return coming.problem, *coming.results, words, kept, None

    def on_change(self, about: str, template, more, query) -> tuple:
        """Other pictures: what is about the ones before goes."""
        return (gr.skip(),) * 15 if about == mark(files_of(template, more, query)) else nothing()

    @contextmanager
    def marked(self, about: str, slots: tuple, visitor: str) -> Iterator[tuple[Path, str, bool]]:
        """The part that an answer on the page is about."""
        asked = Asked(files=files_of(*slots), visitor=visitor)
        if asked.query is None or about != mark(asked.files):
            raise UserError("Ask about the part first, then mark it.")
        picture = self.service.store.original(asked.query, visitor=visitor)
        yield picture, picture.name, True

    def on_start_again(self) -> tuple:
        """Everything as at the beginning, except what the browser keeps."""
        return None, None, None, "", *nothing(), "", Talk()

    def on_api(self, template, query, words, request: gr.Request) -> dict[str, Any]:
        """`/inspect` for programs: `adcopilot inspect --json`'s line. An empty question is `inspect`'s own.

        Raises:
            gr.Error: the pictures cannot be used; the message says why.
        """
        engine = self.service.engine
        words = (words or "").strip()
        try:
            with self.service.for_visitors():
                text = self.service.free_question(words) if words else ""
                text = text or wording(
                    self.service.inspects, templates=1, family=engine.family, thinking=self.service.thinking
                )
                if words and not engine.speaks:
                    raise UserError("there is no model here that a question could be put to; leave it empty")
                if not template and self.service.good_parts is None:
                    raise UserError("the picture of a good part is missing")
                asked = Asked(files=files_of(template, [], query), visitor=request.session_hash)
                return self.answering.ask(Talk(), asked, text, yes_or_no=not words)[0].to_dict()
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
