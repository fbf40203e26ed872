"""The second tab: many pictures at once, from files, a folder or a zip; a table sorted by score, and a CSV."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import UserError
from ..images import open_image
from ..inspect.pairs import Pair, TemplatePool, find_images, find_pairs, mvtec_queries
from ..inspect.result import Result
from . import fragments
from .answer import Answer
from .archive import unpack
from .components import UploadedFiles
from .limits import MIB, check_pixels
from .service import Service

__all__ = ["ManyParts", "ServerFolder"]

#: The table is sent again at most so often, in seconds; the progress with every batch.
TABLE_EVERY = 5.0
COLUMNS = ("file", "good part", "verdict", "score", "boxes", "answer", "error")


@dataclass(frozen=True, kw_only=True)
class ServerFolder:
    """A folder of this machine that visitors may have inspected; only the command line names one.

    Attributes:
        queries: with the pictures to inspect, or an MVTec-style tree.
        templates: with pictures of good parts; None for an MVTec-style tree, which brings them.
    """

    queries: Path
    templates: Path | None


class ManyParts:
    """The tab.

    Args:
        service: model, store and limits.
        folder: what the command line allows besides uploads.
    """

    def __init__(self, *, service: Service, folder: ServerFolder | None) -> None:
        self.service, self.folder = service, folder
        self._wanted: dict[str, bool] = {}  # whether a visitor whose folder is under way still wants it

    def stop(self, request: gr.Request) -> None:
        """End a visitor's folder after the pictures under way; what is finished stays and can be saved."""
        if request.session_hash in self._wanted:
            self._wanted[request.session_hash] = False

    def build(self) -> None:
        """Put the components into the tab that is open, and connect them."""
        limits = self.service.limits
        gr.HTML(
            "<p>Add pictures of good parts and pictures to inspect. Each part is compared with the good part of the "
            "same file name, otherwise with the one that looks most alike. "
            f"Up to {limits.files} pictures, {limits.upload_bytes / MIB:g} MB each.</p>"
        )
        with gr.Row():
            good = UploadedFiles(label="Good parts: pictures or a zip", file_count="multiple", height=180)
            parts = UploadedFiles(label="Parts to inspect: pictures or a zip", file_count="multiple", height=180)
        with gr.Accordion("Take a whole folder instead", open=False):
            tree = UploadedFiles(label="Folder of parts to inspect", file_count="directory", height=140)
        with gr.Row():
            start = gr.Button("Inspect all", variant="primary", min_width=150)
            served = gr.Button(
                f"Inspect the folder “{self.folder.queries.name}” of the server" if self.folder else "",
                visible=self.folder is not None,
                min_width=150,
            )
            stop = gr.Button("Stop", min_width=90)
        state = gr.HTML("", elem_id="adc-progress", min_height=60)
        shown = gr.HTML("", elem_id="adc-results")
        as_csv = gr.DownloadButton("Save the table (CSV)", interactive=False)
        running = {
            "outputs": [state, shown, as_csv],
            "concurrency_limit": 1,
            "concurrency_id": "folders",
            "show_progress": "full",
            "show_progress_on": [state],
            "api_name": False,
        }
        start.click(self.on_start, [good, parts, tree], **running)
        if self.folder:
            served.click(self.on_server_folder, None, **running)
        stop.click(self.stop, None, None, queue=False, api_name=False)

    def on_start(self, good, parts, tree, request: gr.Request) -> Iterator[tuple]:
        """Inspect what a visitor has uploaded."""
        try:
            with self.service.store.work_folder() as folder:
                for what, name, files in (
                    ("good parts", "good", good),
                    ("parts to inspect", "parts", [*parts, *tree]),
                ):
                    if not files:
                        raise UserError(f"Add pictures of {what} first")
                    self._collect(files, folder / name, request)
                unusable = self._leave_out_unusable(folder / "good")
                queries = [(file, str(file.relative_to(folder / "parts"))) for file in find_images(folder / "parts")]
                groups = [(queries, folder / "good", True)]
                yield from self._inspect(groups, (folder / "parts", folder / "good"), unusable, request)
        except UserError as error:
            yield fragments.notice(f"{self.service.without_paths(str(error))}."), gr.skip(), gr.skip()

    def on_server_folder(self, request: gr.Request) -> Iterator[tuple]:
        """Inspect the folder of the command line."""
        try:
            if self.folder is None:
                raise UserError("This page has no folder of its own")
            root = self.folder.queries
            if self.folder.templates:
                queries = [(file, str(file.relative_to(root))) for file in find_images(root)]
                groups = [(queries, self.folder.templates, True)]
            else:
                groups = [
                    ([(file, str(file.relative_to(root))) for file in files], good, False)
                    for _, good, files in mvtec_queries(root)
                ]
            folders = (root, self.folder.templates) if self.folder.templates else (root,)
            yield from self._inspect(groups, folders, [], request)
        except UserError as error:
            yield fragments.notice(f"{self.service.without_paths(str(error), root)}."), gr.skip(), gr.skip()

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

    def _inspect(self, groups, folders: tuple[Path, ...], unusable: list[str], request: gr.Request) -> Iterator[tuple]:
        """Results of some groups of (queries, folder of templates, whether equal names belong together)."""
        total = sum(len(queries) for queries, _, _ in groups)
        rows: list[dict[str, Any]] = []
        last = time.monotonic()
        off = gr.DownloadButton(value=None, interactive=False)
        yield fragments.progress(0, total, message="Getting ready."), "", off
        pools: list[TemplatePool] = []
        message = "Done."
        self._wanted[request.session_hash] = True
        try:
            with closing(self.service.engine.inspect(self._pairs(groups, pools))) as lines:
                for pair, line in lines:
                    rows.append(self._row(pair, line, folders))
                    if not self._wanted[request.session_hash]:
                        message = "Stopped."
                        break
                    table = gr.skip()
                    if time.monotonic() - last > TABLE_EVERY:
                        table, last = self._table(rows), time.monotonic()
                    yield fragments.progress(len(rows), total), table, gr.skip()
        except UserError as error:
            message = f"It ended early: {self.service.without_paths(str(error), *folders)}"
        finally:
            del self._wanted[request.session_hash]
        unusable = [*unusable, *(message for pool in pools for message in pool.unusable)]
        problems = sum(bool(row["error"]) for row in rows)
        if problems:
            message += f" {problems} of them could not be inspected; they stand at the end of the table."
        if unusable:
            message += f" {len(unusable)} of the pictures of good parts could not be used."
        path = self.service.store.new_file("inspection.csv", visitor=request.session_hash)
        _write_csv(path, _sorted(rows))
        save = gr.DownloadButton(value=str(path), interactive=True)
        yield fragments.progress(len(rows), total, message=message), self._table(rows), save

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
                yield from find_pairs([(query, name)], pool)

    def _row(self, pair: Pair, line: dict[str, Any], folders: tuple[Path, ...]) -> dict[str, Any]:
        error = line.pop("error", None)
        answer = Answer(question="", result=Result(**{**line, "error": None}), yes_or_no=True)
        row = {
            "name": pair.name,
            "template": pair.template.name if pair.template else "",
            "score": answer.score,
            "anomalous": answer.anomalous,
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

    def _table(self, rows: list[dict[str, Any]]) -> str:
        return fragments.table(_sorted(rows), total=len(rows))


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The highest score first; without a score the verdict decides; what could not be inspected comes last."""

    def place(row: dict[str, Any]) -> tuple:
        score = row["score"] if row["score"] is not None else {True: 1.0, False: 0.0}.get(row["anomalous"], 0.5)
        return bool(row["error"]), -score, row["name"]

    return sorted(rows, key=place)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """The table for a spreadsheet, with a byte order mark, by which Excel knows that it is UTF-8."""
    with path.open("w", newline="", encoding="utf-8-sig", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            verdict = {True: "defect found", False: "no defect found", None: ""}[row["anomalous"]]
            score = "" if row["score"] is None else row["score"]
            cells = [row["name"], row["template"], verdict, score, row["boxes"], row["answer"], row["error"]]
            writer.writerow([_plain(cell) if isinstance(cell, str) else cell for cell in cells])


def _plain(cell: str) -> str:
    """A text that no spreadsheet takes for a formula, as a file's name or an answer could be meant to be."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
