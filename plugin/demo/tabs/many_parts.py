"""The second tab: many pictures at once, from files, a folder or a zip; a table sorted by score, and a CSV."""

from __future__ import annotations

import enum
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr

from ...errors import UserError
from ...files import path_inside
from ...images import open_image
from ...inspect.pairs import Pair, TemplatePool, find_images, find_pairs, mvtec_queries
from ...inspect.result import Result
from ...inspect.spreadsheet import write_rows
from .. import fragments
from ..answer import Answer
from ..archive import unpack
from ..belonging import files_of, mark
from ..components import UploadedFiles
from ..fragments import VERDICTS
from ..limits import MIB, check_pixels
from ..service import Service
from .marking import MarkRow, told

__all__ = ["ManyParts", "ServerFolder"]

#: The table is sent again at most so often, in seconds; the progress with every batch.
TABLE_EVERY = 5.0
COLUMNS = ("file", "good part", "verdict", "reason", "score", "boxes", "answer", "error")


@dataclass(frozen=True, kw_only=True)
class ServerFolder:
    """A folder of this machine that visitors may have inspected; only the command line names one.

    Attributes:
        queries: with the pictures to inspect, or an MVTec-style tree.
        templates: with pictures of good parts; None for an MVTec-style tree, which brings them.
    """

    queries: Path
    templates: Path | None


class _End(enum.Enum):
    """Why a visitor's folder is not inspected to its end."""

    STOPPED = enum.auto()
    CHANGED = enum.auto()


_OFF = gr.DownloadButton(value=None, interactive=False)
_NONE = gr.Dropdown([], value=None)  # nothing to mark
#: Where a part that can be marked lies: among the visitor's files, or in the folder of the command line.
_UPLOAD, _SERVER = "upload", "server"


class ManyParts:
    """The tab.

    Args:
        service: model, store and limits.
        folder: what the command line allows besides uploads.
    """

    def __init__(self, *, service: Service, folder: ServerFolder | None) -> None:
        self.service, self.folder = service, folder
        self._ends: dict[str, _End | None] = {}  # of visitors whose folder is under way

    def build(self) -> None:
        """Put the components into the tab that is open, and connect them."""
        limits = self.service.limits
        gr.HTML(
            "<p>Add pictures of good parts and pictures to inspect. Each part is compared with the good part that "
            "looks most alike; one of the same file name comes first if it is of the same shape and looks alike too. "
            f"Up to {limits.files} pictures, {limits.upload_bytes / MIB:g} MB each.</p>"
        )
        with gr.Row():
            good = UploadedFiles(
                label="Good parts: pictures or a zip", elem_id="adc-goods", file_count="multiple", height=180
            )
            parts = UploadedFiles(
                label="Parts to inspect: pictures or a zip", elem_id="adc-parts", file_count="multiple", height=180
            )
        with gr.Accordion("Take a whole folder instead", open=False):
            tree = UploadedFiles(
                label="Folder of parts to inspect", elem_id="adc-tree", file_count="directory", height=140
            )
        with gr.Row():
            start = gr.Button("Inspect all", variant="primary", min_width=150)
            served = gr.Button(
                f"Inspect the folder “{self.folder.queries.name}” of the server" if self.folder else "",
                visible=self.folder is not None,
                min_width=150,
            )
            stop = gr.Button("Stop", min_width=90)
        with gr.Column(elem_id="adc-many"):
            state = gr.HTML("", elem_id="adc-progress", min_height=60)
            shown = gr.HTML("", elem_id="adc-results")
            as_csv = gr.DownloadButton("Save the table (CSV)", interactive=False, elem_classes="adc-save")
            which = gr.Dropdown(
                [],
                label="Was a verdict wrong? Choose the part and mark it",
                elem_id="adc-which",
                visible=self.service.marks is not None,
            )
            marking = MarkRow(name="many", visible=self.service.marks is not None)
            marks = marking.build()
        pictures, results = [good, parts, tree], [state, shown, as_csv, which]
        marking.connect(marks, self.mark_event, [which, *pictures])
        running = {
            "inputs": pictures,
            "outputs": results,
            "concurrency_limit": 1,
            "concurrency_id": "folders",
            "show_progress": "full",
            "show_progress_on": [state],
            "trigger_mode": "always_last",  # other pictures may be there before a run has ended
            "api_name": False,
        }
        start.click(self.on_start, **running)
        if self.folder:
            served.click(self.on_server_folder, **running)
        quick = {"queue": False, "api_name": False, "show_progress": "hidden"}
        stop.click(self.stop, None, None, **quick)
        gr.on([one.change for one in pictures], self.on_change, None, [*results, marks[-1]], **quick)

    def stop(self, request: gr.Request) -> None:
        """End a visitor's folder after the pictures under way; what is finished stays and can be saved."""
        self._end(request, _End.STOPPED)

    def on_change(self, request: gr.Request) -> tuple:
        """Other pictures: a folder under way ends, and nothing of it is shown any more."""
        self._end(request, _End.CHANGED)
        return "", "", _OFF, _NONE, ""

    def _end(self, request: gr.Request, end: _End) -> None:
        if request.session_hash in self._ends:
            self._ends[request.session_hash] = end

    def on_start(self, good, parts, tree, request: gr.Request) -> Iterator[tuple]:
        """Inspect what a visitor has uploaded."""
        try:
            with self._run(request), self.service.store.work_folder() as folder:
                own = None if good or self.service.good_parts is None else self.service.good_parts.folder
                for what, name, files in (
                    ("good parts", "good", good),
                    ("parts to inspect", "parts", [*parts, *tree]),
                ):
                    if not files and not (name == "good" and own):
                        raise UserError(f"Add pictures of {what} first")
                    self._collect(files, folder / name, request)
                unusable = [] if own else self._leave_out_unusable(folder / "good")
                queries = [(file, str(file.relative_to(folder / "parts"))) for file in find_images(folder / "parts")]
                groups = [(queries, own or folder / "good", True)]
                about = mark(files_of(good, parts, tree))
                yield from self._inspect(
                    groups, (folder / "parts", folder / "good"), unusable, request, about, _UPLOAD
                )
        except UserError as error:
            yield fragments.notice(f"{self.service.without_paths(str(error))}."), "", _OFF, _NONE

    def on_server_folder(self, good, parts, tree, request: gr.Request) -> Iterator[tuple]:
        """Inspect the folder of the command line. The visitor's own pictures tell only whether they have changed."""
        if self.folder is None:
            yield fragments.notice("This page has no folder of its own."), "", _OFF, _NONE
            return
        root = self.folder.queries
        try:
            if self.folder.templates:
                queries = [(file, str(file.relative_to(root))) for file in find_images(root)]
                groups = [(queries, self.folder.templates, True)]
            else:
                groups = [
                    ([(file, str(file.relative_to(root))) for file in files], good, False)
                    for _, good, files in mvtec_queries(root)
                ]
            folders = (root, self.folder.templates) if self.folder.templates else (root,)
            with self._run(request):
                yield from self._inspect(groups, folders, [], request, mark(files_of(good, parts, tree)), _SERVER)
        except UserError as error:
            yield fragments.notice(f"{self.service.without_paths(str(error), root)}."), "", _OFF, _NONE

    def mark_event(self, good: bool) -> Callable[..., str]:
        """Write down what a part of the table is."""

        def on_mark(kind: str, which: str | None, goods, parts, tree, request: gr.Request) -> str:
            if self.service.marks is None:
                return fragments.notice("This page keeps no marks.")
            if not which:
                return fragments.notice("Choose a part of the table first.")
            place, _, name = which.partition("/")
            about, kind = mark(files_of(goods, parts, tree)), kind or ""
            try:
                if place == _SERVER and self.folder is not None:
                    self._mark(self.folder.queries, name, good=good, kind=kind, is_upload=False)
                else:  # unpacked again, the same way: nothing of a visitor's is kept between two of his requests
                    with self.service.store.work_folder() as folder:
                        self._collect([*parts, *tree], folder / "parts", request)
                        self._mark(folder / "parts", name, good=good, kind=kind, is_upload=True)
            except UserError as error:
                return fragments.notice(f"{self.service.without_paths(str(error))}".removesuffix(".") + ".")
            return told(name, good=good, kind=kind, about=about)

        return on_mark

    def _mark(self, folder: Path, name: str, *, good: bool, kind: str, is_upload: bool) -> None:
        try:
            picture = path_inside(folder, name)
            check_pixels(picture, name=name, limits=self.service.limits)
        except UserError:
            raise UserError(f"{name} is not among the parts any more. Inspect them again") from None
        self.service.marks.add(picture, good=good, kind=kind, is_upload=is_upload)

    @contextmanager
    def _run(self, request: gr.Request) -> Iterator[None]:
        """As long as the block runs, `stop` and `on_change` end it."""
        self._ends[request.session_hash] = None
        try:
            yield
        finally:
            del self._ends[request.session_hash]

    def _collect(self, files: list[tuple[str, str]], folder: Path, request: gr.Request) -> None:
        """Copy uploads into a new folder, zips unpacked."""
        folder.mkdir()
        number = 0
        for path, name in files:
            found, name = self.service.store.use(path, visitor=request.session_hash), Path(name).name
            if found.suffix.lower() == ".zip":
                number += unpack(found, folder, name=name, limits=self.service.limits)
                continue
            target, copies = folder / found.name, 1
            while target.exists():  # the same name from two folders
                copies += 1
                target = folder / f"{found.stem} ({copies}){found.suffix}"
            shutil.copyfile(found, target)
            number += 1
        if number > self.service.limits.files:
            raise UserError(f"{number} pictures, this page takes {self.service.limits.files} at a time")

    def _leave_out_unusable(self, folder: Path) -> list[str]:
        """Delete pictures of good parts that are none, or too large to be decoded; says which."""
        problems = []
        files = find_images(folder)
        for file in files:
            try:
                check_pixels(file, name=str(file.relative_to(folder)), limits=self.service.limits)
            except UserError as error:
                problems.append(str(error))
                file.unlink()
        if len(problems) == len(files):
            raise UserError(f"none of the pictures of good parts can be used: {problems[0]}")
        return problems

    def _inspect(
        self, groups, folders: tuple[Path, ...], unusable: list[str], request: gr.Request, about: str, place: str
    ) -> Iterator[tuple]:
        """Results of some groups of (queries, folder of templates, whether equal names belong together)."""
        total = sum(len(queries) for queries, _, _ in groups)
        rows: list[dict[str, Any]] = []
        last = time.monotonic()

        def progress(message: str) -> str:
            return fragments.of(about, fragments.progress(len(rows), total, message=message))

        def table() -> str:
            return fragments.of(about, fragments.table(_sorted(rows), total=len(rows)))

        yield progress("Getting ready."), "", _OFF, _NONE
        pools: list[TemplatePool] = []
        message = "Done."
        try:
            with closing(self.service.engine.inspect(self._pairs(groups, pools))) as lines:
                for pair, line in lines:
                    rows.append(self._row(pair, line, folders))
                    if self._ends[request.session_hash]:
                        message = "Stopped."
                        break
                    is_time = time.monotonic() - last > TABLE_EVERY
                    last = time.monotonic() if is_time else last
                    yield progress(_counts(rows)), table() if is_time else gr.skip(), gr.skip(), gr.skip()
        except UserError as error:
            message = f"It ended early: {self.service.without_paths(str(error), *folders)}"
        except Exception:
            traceback.print_exc()
            message = "It ended early: something went wrong on the server; it has been written down there."
        if self._ends[request.session_hash] is _End.CHANGED:
            yield "", "", _OFF, _NONE
            return
        message = f"{message} {_counts(rows)}"
        unusable = [*unusable, *(message for pool in pools for message in pool.unusable)]
        problems = sum(bool(row["error"]) for row in rows)
        if problems:
            message += f" {problems} of them could not be inspected; they stand at the end of the table."
        if unusable:
            message += f" {len(unusable)} of the pictures of good parts could not be used."
        path = self.service.store.new_file("inspection.csv", visitor=request.session_hash)
        _write_csv(path, _sorted(rows))
        names = [(row["name"], f"{place}/{row['name']}") for row in _sorted(rows) if not row["error"]]
        which = gr.Dropdown(names, value=None)
        yield progress(message), table(), gr.DownloadButton(value=str(path), interactive=True), which

    def _pairs(self, groups, pools: list[TemplatePool]) -> Iterator[Pair]:
        """Each query with its template; too large pictures become errors before anything decodes them."""
        for queries, folder, by_name in groups:
            pool = TemplatePool(folder=folder, by_name=by_name)
            pools.append(pool)
            for query, name in queries:
                try:
                    check_pixels(query, name=name, limits=self.service.limits)
                except UserError as error:
                    yield Pair(query=query, template=None, name=name, error=str(error))
                    continue
                each = self.service.good_parts.each if self.service.good_parts else 1
                yield from find_pairs([(query, name)], pool, templates=each)

    def _row(self, pair: Pair, line: dict[str, Any], folders: tuple[Path, ...]) -> dict[str, Any]:
        error = line.pop("error", None)
        known = {field.name: line[field.name] for field in fields(Result) if field.name in line}
        if reason := known.get("reason"):
            known["reason"] = self.service.without_paths(reason, *folders)
        answer = Answer(
            question="",
            result=Result(**known),
            yes_or_no=True,
            judge=self.service.judge,
            by_map=not self.service.engine.speaks,
        )
        row = {
            "name": pair.name,
            "template": pair.template.name if pair.template else "",
            "score": answer.score,
            "verdict": None if error else answer.verdict,
            "boxes": len(line["boxes"]),
            "answer": answer.words[:200],
            "error": self.service.without_paths(error, *folders) if error else "",
            "image": "",
            "template_image": "",
        }
        if not error and pair.template:
            row["image"] = fragments.thumbnail(open_image(pair.query), boxes=line["boxes"])
            row["template_image"] = fragments.thumbnail(open_image(pair.template))
        return row


def _counts(rows: list[dict[str, Any]]) -> str:
    """How many of each verdict, in words."""
    counts = Counter(row["verdict"].word for row in rows if row["verdict"] is not None)
    return ", ".join(f"{words}: {counts[word]}" for word, words in VERDICTS.items()) + "."


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Defects first, then what is undecided, then parts without defects, and within each the highest score; what
    could not be inspected comes last."""

    def place(row: dict[str, Any]) -> tuple:
        verdict, score = row["verdict"], row["score"]
        rank = len(VERDICTS) if verdict is None else list(VERDICTS).index(verdict.word)
        if score is None:
            score = float(verdict is not None and verdict.word == "anomalous")
        return rank, -score, row["name"]

    return sorted(rows, key=place)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """The table for a spreadsheet."""
    cells = []
    for row in rows:
        verdict, score = row["verdict"], "" if row["score"] is None else row["score"]
        words, reason = ("", "") if verdict is None else (VERDICTS[verdict.word].lower(), verdict.reason or "")
        cells.append([row["name"], row["template"], words, reason, score, row["boxes"], row["answer"], row["error"]])
    write_rows(path, [COLUMNS, *cells])
