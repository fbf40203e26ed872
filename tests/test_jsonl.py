"""The append-only log: nothing lost, nothing doubled, whatever a kill leaves behind."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.errors import UserError
from adcopilot.jsonl import (
    JsonlLog,
    atomic_write,
    content_key,
    file_digest,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)

from .helpers.refusals import refused

pytestmark = pytest.mark.forward


def test_content_key_depends_on_content_only():
    assert content_key({"a": 1, "b": 2}, "x") == content_key({"b": 2, "a": 1}, "x")
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key(1) != content_key("1")
    assert len(content_key()) == 32


def test_append_read_and_refuse_doubles(tmp_path):
    with JsonlLog(path=tmp_path / "new" / "a.jsonl") as log:
        log.append({"key": "1", "text": "ä\n"}, {"key": "2"})
        assert "1" in log
        assert len(log) == 2
        for bad in ({"key": "2"}, {"text": "no key"}):
            with pytest.raises(ValueError, match="missing or already there"):
                log.append(bad)
        with pytest.raises(ValueError, match="already there"):
            log.append({"key": "3"}, {"key": "3"})
        assert list(log.records()) == [{"key": "1", "text": "ä\n"}, {"key": "2"}]
    assert (tmp_path / "new" / "a.jsonl").read_bytes() == '{"key": "1", "text": "ä\\n"}\n{"key": "2"}\n'.encode()


@pytest.mark.parametrize("torn", [b'{"key": "2", "te', b"{", b'{"key": "2", "text": "\xc3', b"\0\0\0"])
def test_torn_last_line_is_cut_off(tmp_path, torn):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"key": "1"}\n' + torn)
    with JsonlLog(path=path) as log:
        assert len(log) == 1
        log.append({"key": "2"})
    assert path.read_bytes() == b'{"key": "1"}\n{"key": "2"}\n'


def test_whole_last_line_without_newline_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"key": "1"}\n\n{"key": "2"}')
    with JsonlLog(path=path) as log:
        log.append({"key": "3"})
    assert [record["key"] for _, record in read_jsonl(path)] == ["1", "2", "3"]


@pytest.mark.parametrize(("line", "message"), [(b"oops", "not JSON"), (b"[1]", "got list"), (b'{"a": 1}', "no 'key'")])
def test_a_bad_line_inside_is_named_and_left_alone(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    content = b'{"key": "1"}\n' + line + b'\n{"key": "2"}\n'
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        JsonlLog(path=path)
    assert f"{path}:2: " in str(error.value)
    assert path.read_bytes() == content


def test_a_second_writer_is_refused(tmp_path):
    with JsonlLog(path=tmp_path / "a.jsonl"), pytest.raises(UserError, match="another process is writing"):
        JsonlLog(path=tmp_path / "a.jsonl")
    with JsonlLog(path=tmp_path / "a.jsonl"):
        pass


def test_unusable_paths(tmp_path):
    with pytest.raises(UserError, match="is a folder, expected a file"):
        JsonlLog(path=tmp_path)
    with pytest.raises(UserError, match="cannot be opened"):
        JsonlLog(path=tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_jsonl(tmp_path / "none"))
    with pytest.raises(UserError, match=r"none: cannot be read \(No such file"):
        file_digest(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "a", lambda file: file.write(b""))


def test_text_and_json_hold_names_that_no_utf8_can(tmp_path):
    write_json(tmp_path / "a.json", {"name": "é\udcff.png"})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "name": "é\\udcff.png"\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": "é\udcff.png"}
    write_text(tmp_path / "a.html", "é\udcff", errors="replace")
    assert (tmp_path / "a.html").read_text("utf-8") == "é?"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", {"score": float("nan")}, allow_nan=False)
    assert not (tmp_path / "b.json").exists()


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"x": 1}])

    def half(file):
        file.write(b"half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        atomic_write(tmp_path / "a.jsonl", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"x": 1}


def test_lone_surrogates_in_file_names_survive(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"name": "a\udcff.png"}])
    assert [record for _, record in read_jsonl(tmp_path / "a.jsonl")] == [{"name": "a\udcff.png"}]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_in_the_middle_and_resumed(tmp_path):
    """A writer killed at any moment loses at most the record it was writing."""
    script = """
import sys, time
from adcopilot.jsonl import JsonlLog
with JsonlLog(path=sys.argv[1]) as log:
    for number in range(200):
        if str(number) not in log:
            log.append({"key": str(number), "text": "x" * 20000})
            print(number, flush=True)
"""
    path = tmp_path / "a.jsonl"
    for stop_after in (3, 20, 57):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
        reported = [process.stdout.readline() for _ in range(stop_after)]
        time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        on_disk = {json.loads(line)["key"] for line in path.read_bytes().split(b"\n")[:-1]}
        assert {line.strip() for line in reported} <= on_disk
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True)
    assert [record["key"] for _, record in read_jsonl(path)] == [str(number) for number in range(200)]


#: What happens to a file that is written → how, and what is said of it.
MEANWHILE = {
    "removed": (lambda path: path.unlink(), "was removed or renamed"),
    "renamed": (lambda path: path.rename(path.with_suffix(".old")), "was removed or renamed"),
    "its folder renamed": (lambda path: path.parent.rename(path.parent.with_name("other")), "was removed or renamed"),
    "its folder removed": (lambda path: shutil.rmtree(path.parent), "was removed or renamed"),
    "replaced": (lambda path: os.replace(shutil.copy(path, f"{path}.new"), path), "was replaced by another file"),
    "cut": (lambda path: path.write_bytes(b""), "was cut"),
}


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
@pytest.mark.parametrize("name", MEANWHILE)
@pytest.mark.parametrize("then", ["append", "end"])
def test_a_file_that_is_no_longer_there_is_an_error(tmp_path, name, then):
    """It went on, and ended with 0 and without a file."""
    happens, said = MEANWHILE[name]
    path = tmp_path / "out" / "a.jsonl"

    def work():
        with JsonlLog(path=path) as log:
            log.append({"key": "1"})
            happens(path)
            if then == "append":
                log.append({"key": "2"})

    with refused(said) as error:
        work()
    assert str(error.value).startswith(f"{path}: ")


def test_the_first_error_is_the_one_that_is_told(tmp_path):
    def work():
        with JsonlLog(path=tmp_path / "a.jsonl") as log:
            log.append({"key": "1"})
            (tmp_path / "a.jsonl").unlink()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_full_disk_is_one_line_and_closing_says_nothing_more(tmp_path):
    """A buffered file tried again in close(), with a traceback."""
    resource = pytest.importorskip("resource")
    given = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def work():
        with JsonlLog(path=tmp_path / "a.jsonl") as log:
            log.append({"key": "1", "text": "x" * 900})
            log.append({"key": "2", "text": "x" * 900})

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, given[1]))
        with pytest.raises(UserError, match=r"a.jsonl: cannot be written \(File too large\); what is in it is kept"):
            work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, given)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [record["key"] for _, record in read_jsonl(tmp_path / "a.jsonl")] == ["1"]


def test_after_half_a_line_the_next_record_begins_a_new_one(tmp_path):
    with JsonlLog(path=tmp_path / "a.jsonl") as log:
        log.append({"key": "1"})
        whole = log._file

        class Full:
            def __getattr__(self, name):
                return getattr(whole, name)

            def write(self, data):
                if len(data) < 10:
                    raise OSError(28, "No space left on device")
                return whole.write(data[:6])

        log._file = Full()
        with pytest.raises(UserError, match="No space left"):
            log.append({"key": "2"})
        log._file = whole
        log.append({"key": "2"})
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"key": "1"}\n{"key": "2"}\n'


@pytest.mark.parametrize("content", [b"hello", b"\xff\xd8\xff\xe0", b"a,b\n1,2"])
def test_somebodys_own_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not JSON"):
        JsonlLog(path=path)
    assert path.read_bytes() == content


def test_a_pipe_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), ("/dev/full", "a device"), (tmp_path, "a folder")):
        with pytest.raises(UserError, match=f"is {kind}, expected a file or a new name"):
            JsonlLog(path=path)
    with pytest.raises(UserError, match="is a named pipe, expected a file"):
        file_digest(tmp_path / "pipe")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"key": "1"}\n')
    assert list(read_jsonl(path)) == [(1, {"key": "1"})]
    with JsonlLog(path=path) as log:
        assert "1" in log
    path.write_bytes(b"\xef\xbb\xbf\r\n\n")
    assert list(read_jsonl(path)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "99999999999999999… is no number"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e999}', "1e999 is no number"),
        (b'{"a": "\xff"}', "not JSON"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with refused(said) as error:
        list(read_jsonl(path))
    assert str(error.value).startswith(f"{path}:2: ")
    assert len(str(error.value)) < 400


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(data)
    with suppress(UserError):
        for _, record in read_jsonl(path):
            assert isinstance(record, dict)


def test_a_key_of_a_name_that_is_no_utf8():
    assert content_key("a\udcff.png") != content_key("a\udcfe.png")


def test_a_file_that_says_it_is_empty_is_not_read(tmp_path, monkeypatch):
    """A link to /proc/kmsg is a file of 0 bytes, and to read it waits for ever."""
    (tmp_path / "link.png").touch()
    monkeypatch.setattr("builtins.open", None)
    assert file_digest(tmp_path / "link.png") == hashlib.sha256(b"").hexdigest()
