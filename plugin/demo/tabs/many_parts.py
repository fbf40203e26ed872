"""The second tab: many pictures at once, from files, a folder or a zip; a table sorted by score, and a CSV."""

from __future__ import annotations

import enum
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr

from ...errors import UserError
from ...files import path_inside
from ...inspect.pairs import Pair, TemplatePool, find_images, find_pairs, mvtec_queries
from ...inspect.result import Result
from ...line.thresholds import Threshold
from .. import fragments, table
from ..belonging import files_of, mark
from ..components import UploadedFiles
from ..limits import MIB, check_pixels
from ..service import Service
from ..table import PartRow
from ..words import bilingual, label
from .collecting import collect, leave_out_unusable
from .marking import MarkRow
from .part_pictures import PartPictures, write_zip

__all__ = ["ManyParts", "ServerFolder"]

#: The table is sent again at most so often, in seconds; the progress with every batch.
TABLE_EVERY = 5.0
#: Rows of the table on the page, while a folder is under way and at its end; the CSV has all.
MOST_UNDER_WAY, MOST_ROWS = 200, 2000


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


def _nothing(state: str = "") -> tuple:
    """Values of the components with results where there are none."""
    return state, "", _OFF, gr.Dropdown([], value=None), _OFF


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
        self.marking = MarkRow(service=service, part=self.marked, name="many")
        self._ends: dict[str, _End | None] = {}  # of visitors whose folder is under way

    def build(self) -> None:
        """Put the components into the tab that is open, and connect them."""
        limits = self.service.limits
        words = bilingual(
            "Add pictures of good parts and pictures to inspect. Each part is compared with the good part that looks "
            "most alike; one of the same file name comes first if it is of the same shape and looks alike too. Up to "
            "{files} pictures, {size} MB each.",
            files=limits.files,
            size=f"{limits.upload_bytes / MIB:g}",
        )
        gr.HTML(f"<p>{words}</p>", padding=False)
        with gr.Row():
            several = {"file_count": "multiple", "height": 140}
            good = UploadedFiles(label=label("Good parts: pictures or a zip"), elem_id="adc-goods", **several)
            parts = UploadedFiles(label=label("Parts to inspect: pictures or a zip"), elem_id="adc-parts", **several)
        with gr.Accordion(label("Take a whole folder instead"), open=False):
            tree = UploadedFiles(
                label=label("Folder of parts to inspect"), elem_id="adc-tree", file_count="directory", height=140
            )
        with gr.Row():
            start = gr.Button(label("Inspect all"), variant="primary", min_width=150)
            served = gr.Button(
                label("Inspect the server's folder") + f": {self.folder.queries.name}" if self.folder else "",
                visible=self.folder is not None,
                min_width=150,
            )
            stop = gr.Button(label("Stop"), min_width=90)
        with gr.Column(elem_id="adc-many"):
            state = gr.HTML("", elem_id="adc-progress", min_height=60, padding=False)
            with gr.Row():
                saving = {"interactive": False, "elem_classes": "adc-save", "min_width": 130, "size": "md"}
                as_csv = gr.DownloadButton(label("Save the table (CSV)"), **saving)
                as_zip = gr.DownloadButton(label("Save the marked pictures (ZIP)"), **saving)
            shown = gr.HTML("", elem_id="adc-results", padding=False)
            gr.HTML(table.enlarged(), elem_classes="adc-dialogue", padding=False)
            which = gr.Dropdown(
                [],
                label=label("Was a verdict wrong? Choose the part and mark it"),
                elem_id="adc-which",
                visible=self.service.marks is not None,
            )
            marks = self.marking.build()
        pictures, results = [good, parts, tree], [state, shown, as_csv, which, as_zip]
        self.marking.connect(marks, which, pictures)
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
        return *_nothing(), ""

    def _end(self, request: gr.Request, end: _End) -> None:
        if request.session_hash in self._ends:
            self._ends[request.session_hash] = end

    def on_start(self, good, parts, tree, request: gr.Request) -> Iterator[tuple]:
        """Inspect what a visitor has uploaded."""
        try:
            with self._run(request), self.service.store.work_folder() as folder:
                own = None if good or self.service.good_parts is None else self.service.good_parts.folder
                for missing, name, files in (
                    ("Add pictures of good parts first", "good", good),
                    ("Add pictures of parts to inspect first", "parts", [*parts, *tree]),
                ):
                    if not files and not (name == "good" and own):
                        raise UserError(missing)
                    collect(self.service, files, folder / name, visitor=request.session_hash)
                unusable = [] if own else leave_out_unusable(self.service, folder / "good")
                groups = [(find_images(folder / "parts"), own or folder / "good", True)]
                about = mark(files_of(good, parts, tree))
                yield from self._inspect(folder / "parts", groups, request, about, _UPLOAD, unusable)
        except UserError as error:
            yield _nothing(fragments.notice(f"{self.service.without_paths(str(error))}."))

    def on_server_folder(self, good, parts, tree, request: gr.Request) -> Iterator[tuple]:
        """Inspect the folder of the command line. The visitor's own pictures tell only whether they have changed."""
        if self.folder is None:
            yield _nothing(fragments.notice("This page has no folder of its own."))
            return
        root = self.folder.queries
        try:
            if self.folder.templates:
                groups = [(find_images(root), self.folder.templates, True)]
            else:
                groups = [(files, own, False) for _, own, files in mvtec_queries(root)]
            with self._run(request):
                yield from self._inspect(root, groups, request, mark(files_of(good, parts, tree)), _SERVER)
        except UserError as error:
            yield _nothing(fragments.notice(f"{self.service.without_paths(str(error), root)}."))

    @contextmanager
    def marked(self, which: str | None, slots: tuple, visitor: str) -> Iterator[tuple[Path, str, bool]]:
        """A part of the table."""
        if not which:
            raise UserError("Choose a part of the table first.")
        place, _, name = which.partition("/")
        is_upload = place != _SERVER or self.folder is None
        # unpacked again, the same way: nothing of a visitor's is kept between two of his requests
        with self.service.store.work_folder() as work:
            folder = work / "parts" if is_upload else self.folder.queries
            if is_upload:
                collect(self.service, [*slots[1], *slots[2]], folder, visitor=visitor)
            try:
                picture = path_inside(folder, name)
                check_pixels(picture, name=name, limits=self.service.limits)
            except UserError:
                raise UserError(f"{name} is not among the parts any more. Inspect them again") from None
            yield picture, name, is_upload

    @contextmanager
    def _run(self, request: gr.Request) -> Iterator[None]:
        """As long as the block runs, `stop` and `on_change` end it."""
        self._ends[request.session_hash] = None
        try:
            yield
        finally:
            del self._ends[request.session_hash]

    def _inspect(
        self, root: Path, groups, request: gr.Request, about: str, place: str, unusable: Sequence[str] = ()
    ) -> Iterator[tuple]:
        """Results of some groups of (queries, folder of templates, whether equal names belong together), the queries
        named by their paths below a folder."""
        total = sum(len(queries) for queries, _, _ in groups)
        folders = (root, *(folder for _, folder, _ in groups))
        rows: list[PartRow] = []
        began = last = time.monotonic()
        pictures = PartPictures(self.service, visitor=request.session_hash)

        def progress(told: str, *, runs: bool = True) -> str:
            seconds = time.monotonic() - began
            return fragments.of(about, table.progress(len(rows), total, seconds=seconds, runs=runs, told=told))

        def shown(most: int) -> str:
            return fragments.of(about, table.table(table.in_order(rows), most=most))

        yield _nothing(progress(bilingual("Getting ready.")))
        pools: list[TemplatePool] = []
        thresholds: dict[Path, Threshold | None] = {}  # by query
        told = [bilingual("Done.")]
        try:
            with closing(self.service.engine.inspect(self._pairs(root, groups, pools, thresholds))) as results:
                for pair, result in results:
                    rows.append(self._row(pair, result, folders, thresholds.get(pair.query), pictures))
                    if self._ends[request.session_hash]:
                        told = [bilingual("Stopped.")]
                        break
                    is_time = time.monotonic() - last > TABLE_EVERY
                    last = time.monotonic() if is_time else last
                    table_now = shown(MOST_UNDER_WAY) if is_time else gr.skip()
                    yield progress(table.told(rows)), table_now, gr.skip(), gr.skip(), gr.skip()
        except UserError as error:
            reason = self.service.without_paths(str(error), *folders).removesuffix(".")
            told = [bilingual("It ended early: {reason}.", reason=fragments.escaped(reason))]
        except Exception:
            traceback.print_exc()
            reason = bilingual("something went wrong on the server; it has been written down there")
            told = [bilingual("It ended early: {reason}.", reason=reason)]
        if self._ends[request.session_hash] is _End.CHANGED:
            yield _nothing()
            return
        told.append(table.told(rows))
        failed = [row for row in rows if row.error]
        unusable = [*unusable, *(message for pool in pools for message in pool.unusable)]
        for words, number in {
            "{number} of them could not be inspected; they stand at the end of the table.": len(failed),
            "{number} of the pictures of good parts could not be used.": len(unusable),
            "There was no room for the pictures of {number} parts.": pictures.left_out,
        }.items():
            told += [bilingual(words, number=number)] if number else []
        for threshold in dict.fromkeys(filter(None, thresholds.values())):
            told.append(fragments.threshold(threshold))
        csv, archive = (
            self.service.store.new_file(f"inspection.{suffix}", visitor=request.session_hash)
            for suffix in ("csv", "zip")
        )
        table.write_csv(csv, table.in_order(rows))
        write_zip(archive, table.in_order(rows))
        names = [(row.name, f"{place}/{row.name}") for row in table.in_order(rows) if not row.error]
        as_csv, as_zip = (gr.DownloadButton(value=str(path), interactive=True) for path in (csv, archive))
        yield progress(" ".join(told), runs=False), shown(MOST_ROWS), as_csv, gr.Dropdown(names, value=None), as_zip

    def _pairs(
        self, root: Path, groups, pools: list[TemplatePool], thresholds: dict[Path, Threshold | None]
    ) -> Iterator[Pair]:
        """Each query with its template; too large pictures become errors before anything decodes them. Where nobody
        knows a threshold of the map, which is all there is, each group's good parts give one."""
        for queries, folder, by_name in groups:
            # a line's own are called as the pictures of some other day were
            own = self.service.good_parts and self.service.good_parts.folder.resolve() == folder.resolve()
            pool = TemplatePool(folder=folder, by_name=by_name and not own)
            pools.append(pool)
            good = find_pairs([(file, "") for file in pool.files], pool, templates=self.service.templates_each)
            threshold = self.service.threshold_of(good if len(pool.files) > 1 else ())
            for query in queries:
                name, thresholds[query] = str(query.relative_to(root)), threshold
                try:
                    check_pixels(query, name=name, limits=self.service.limits)
                except UserError as error:
                    yield Pair(query=query, template=None, name=name, error=str(error))
                    continue
                yield from find_pairs([(query, name)], pool, templates=self.service.templates_each)

    def _row(
        self,
        pair: Pair,
        result: Result,
        folders: tuple[Path, ...],
        threshold: Threshold | None,
        pictures: PartPictures,
    ) -> PartRow:
        if result.error:
            return PartRow(name=pair.name, error=self.service.without_paths(result.error, *folders))
        answer = self.service.answer(result, threshold=threshold, question="", yes_or_no=True)
        if reason := answer.result.reason:
            told = self.service.without_paths(reason, *folders)
            answer = replace(answer, result=replace(answer.result, reason=told))
        small, large = pictures.write(pair, answer)
        return PartRow(
            name=pair.name,
            template=pair.template.name,
            score=answer.score,
            verdict=answer.verdict,
            boxes=answer.result.boxes,
            answer="" if answer.by_map else answer.words[:200],
            small=small,
            large=large,
        )
