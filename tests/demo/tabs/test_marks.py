"""From a mark on the page to a file that `adcopilot calibrate --marks` reads, with its picture."""

import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: the extra web")

from adcopilot.demo.limits import Limits  # noqa: E402
from adcopilot.demo.service import Service  # noqa: E402
from adcopilot.demo.tabs.many_parts import ManyParts, ServerFolder  # noqa: E402
from adcopilot.demo.tabs.marking import Marks  # noqa: E402
from adcopilot.demo.tabs.one_part import OnePart  # noqa: E402
from adcopilot.errors import UserError  # noqa: E402
from adcopilot.inspect.judging import Judge  # noqa: E402
from adcopilot.jsonl import file_digest  # noqa: E402
from adcopilot.line.marks import append_mark, find_marked, read_marks  # noqa: E402

from ...inspect.conftest import part  # noqa: E402
from ..engines.making import map_engine  # noqa: E402

REQUEST = SimpleNamespace(session_hash="anna")


@pytest.fixture
def service(store, tmp_path):
    judge = Judge(source="map", map_threshold=0.2)
    marks = Marks(tmp_path / "line 3" / "marks.jsonl", most_bytes=1 << 20)
    return Service(engine=map_engine(judge), store=store, limits=Limits(), judge=judge, marks=marks)


def asked(tab, template, query):
    """The mark of what is on the page after an answer."""
    coming = tab.task_event(tab.questions[0])(template, [], query, REQUEST)[0]
    return tab.on_answer(coming, [], "", template, [], query)[8]


def test_a_mark_has_a_form_that_reports_write_too(service, upload, tmp_path, monkeypatch):
    tab = OnePart(service=service, examples=())
    template, query = upload(part(1), "good.png"), upload(part(6), "../../our <part>.png".replace("/", "_"))
    about = asked(tab, template, query)
    said = tab.marking.event(False)(" deep\n scratch ", about, template, [], query, REQUEST)
    assert "is marked as defective: deep scratch." in said
    assert said.startswith(f'<div data-about="{about}">')
    assert "<part>" not in said
    [line] = (tmp_path / "line 3/marks.jsonl").read_text().splitlines()
    digest = file_digest(query)
    kept = tmp_path / "line 3/marks-pictures" / f"{digest}.png"
    mark = json.loads(line)
    assert list(mark) == ["query", "digest", "good", "kind", "when"]
    assert mark == {**mark, "query": str(kept), "digest": digest, "good": False, "kind": "deep scratch"}
    assert mark["when"].endswith("Z")
    # The visitor leaves and his files go; the marked picture is found from anywhere.
    service.store.leave("anna")
    assert not Path(query).exists()
    monkeypatch.chdir("/")
    marks = read_marks(tmp_path / "line 3/marks.jsonl")
    [(path, found)] = find_marked(marks, [])
    assert (path, found.good, found.kind) == (kept, False, "deep scratch")
    from adcopilot.line.pictures import labelled

    (tmp_path / "good").mkdir()
    for index in range(3):
        part(index).save(tmp_path / f"good/{index}.png")
    pictures = labelled(tmp_path / "good", None, tmp_path / "line 3/marks.jsonl")
    assert [one.kind for one in pictures if one.bad and one.marked] == ["deep scratch"]


def test_the_last_mark_counts_and_a_good_part_has_no_kind(service, upload, tmp_path):
    tab = OnePart(service=service, examples=())
    template, query = upload(part(1), "good.png"), upload(part(6), "part.png")
    about = asked(tab, template, query)
    for good in (False, True):
        tab.marking.event(good)("dent", about, template, [], query, REQUEST)
    [mark] = read_marks(tmp_path / "line 3/marks.jsonl").values()
    assert (mark.good, mark.kind) == (True, "")
    assert len(list((tmp_path / "line 3/marks-pictures").iterdir())) == 1


def test_the_upload_is_kept_where_a_png_is_shown(service, upload, tmp_path):
    """Its digest is that of the file on the visitor's machine."""
    tab = OnePart(service=service, examples=())
    template, tiff = upload(part(1), "good.png"), upload(part(6), "part.tif")
    png, _ = tab.upload_event("the part to inspect")(tiff, REQUEST)
    about = asked(tab, template, png)
    assert "part.tif" in tab.marking.event(True)("", about, template, [], png, REQUEST)
    [mark] = read_marks(tmp_path / "line 3/marks.jsonl").values()
    assert mark.digest == file_digest(tiff)
    assert Path(mark.query).suffix == ".tif"


def test_what_cannot_be_marked_is_words(service, upload, tmp_path, capsys):
    tab = OnePart(service=service, examples=())
    template, query, other = upload(part(1), "good.png"), upload(part(6), "part.png"), upload(part(7), "other.png")
    about = asked(tab, template, query)
    event = tab.marking.event(True)
    for wrong in (("", "", template, [], query), ("", about, template, [], other), ("", about, template, [], None)):
        assert "Ask about the part first, then mark it." in event(*wrong, REQUEST)
    service.store.leave("anna")
    assert "no longer here" in event("", about, template, [], query, REQUEST)
    assert not (tmp_path / "line 3").exists()
    template, query = upload(part(1), "good.png"), upload(part(6, size=(1400, 1000)), "part.png")
    about = asked(tab, template, query)
    said = event("", about, template, [], query, REQUEST)
    assert "The mark could not be kept on the server" in said
    assert str(tmp_path) not in said
    assert "MiB of marked pictures, expected at most 1 (--max-stored-mb)" in capsys.readouterr().err
    assert not (tmp_path / "line 3/marks.jsonl").exists()
    plain = OnePart(service=replace(service, marks=None), examples=())
    assert "This page keeps no marks." in plain.marking.event(True)("", about, template, [], query, REQUEST)


def test_parts_of_a_zip_and_of_the_servers_folder(service, upload, tmp_path):
    """An upload is kept; what lies in the folder of the command line stays there."""
    folder = tmp_path / "today"
    folder.mkdir()
    part(8).save(folder / "8.png")
    (tmp_path / "secret.png").write_bytes((folder / "8.png").read_bytes())
    tab = ManyParts(service=service, folder=ServerFolder(queries=folder, templates=folder))
    part(6).save(tmp_path / "6.png")
    archive = service.store.new_file("lot.zip", visitor="anna")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(tmp_path / "6.png", "lot 7/6.png")
        opened.writestr("lot 7/7.png", b"no picture")
    slots = ([], [(str(archive), "lot.zip")], [])
    assert "lot 7/6.png" in tab.marking.event(False)("dent", "upload/lot 7/6.png", *slots, REQUEST)
    assert "8.png" in tab.marking.event(True)("", "server/8.png", *slots, REQUEST)
    marks = read_marks(tmp_path / "line 3/marks.jsonl")
    found = {path: (mark.good, mark.kind) for path, mark in find_marked(marks, [])}
    kept = tmp_path / "line 3/marks-pictures" / f"{file_digest(tmp_path / '6.png')}.png"
    assert found == {kept: (False, "dent"), folder / "8.png": (True, "")}
    for name in ("upload/lot 7/9.png", "upload/lot 7/7.png", "upload/../../x.png", "server/../secret.png", "server/"):
        said = tab.marking.event(True)("", name, *slots, REQUEST)
        assert "is not among the parts any more" in said
        assert str(tmp_path) not in said
    assert "Choose a part of the table first." in tab.marking.event(True)("", None, *slots, REQUEST)
    assert len(read_marks(tmp_path / "line 3/marks.jsonl")) == 2
    assert list(service.store.work.iterdir()) == []


def test_lines_are_whole_whoever_writes(tmp_path):
    """Several at once, and after a line without an end."""
    path = tmp_path / "marks.jsonl"
    pictures = []
    for index in range(8):
        pictures.append(tmp_path / f"{index}.png")
        part(index).save(pictures[-1])
    path.write_text(json.dumps({"query": "x.png", "digest": "0" * 64, "good": True}))  # by hand
    writers = [
        threading.Thread(target=append_mark, args=(path,), kwargs={"query": one, "good": False}) for one in pictures
    ]
    append_mark(path, query=pictures[0], good=True)
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(path.read_text().splitlines()) == 10
    assert len(read_marks(path)) == 9
    with pytest.raises(UserError, match=r"cannot be written .*; give another --marks FILE"):
        append_mark(tmp_path, query=pictures[0], good=True)
    with pytest.raises(UserError, match=r"9\.png: cannot be read"):
        append_mark(path, query=tmp_path / "9.png", good=True)
