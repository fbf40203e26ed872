"""The append-only log: nothing lost, nothing doubled, whatever a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from adcopilot.errors import UserError
from adcopilot.jsonl import JsonlLog, atomic_write, content_key, file_digest, read_jsonl, write_jsonl

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
    with pytest.raises(UserError, match="cannot be opened"):
        JsonlLog(path=tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        list(read_jsonl(tmp_path / "none"))
    with pytest.raises(UserError, match=r"none: cannot be read \(No such file"):
        file_digest(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "a", lambda file: file.write(b""))


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
