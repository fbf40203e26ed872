"""`adcopilot inspect` over folders, as a user runs it: killed, resumed, with damaged files among the good ones."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from ..helpers.waiting import until

pytestmark = pytest.mark.forward

QUERIES = 14
BAD = {"query/bad.png": "damaged", "query/one.png": "too small", "query/sub/zero.jpg": "0 bytes"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Templates, queries with three unusable files among them and a JPEG that EXIF turns by 90°."""
    root = tmp_path_factory.mktemp("folders")
    base = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for folder in ("template", "query/sub"):
        (root / folder).mkdir(parents=True)
    for shift in range(3):
        Image.fromarray(np.roll(base, 9 * shift, 1)).save(root / f"template/{shift:03d}.png")
    for shift in range(QUERIES):
        Image.fromarray(np.roll(base, 5 * shift, 1)).save(root / f"query/{shift:03d}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(base).save(root / "query/sub/turned.jpg", exif=exif)
    (root / "query/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n??")
    (root / "query/sub/zero.jpg").touch()
    Image.new("RGB", (1, 1)).save(root / "query/one.png")
    return root


def words(model, *options):
    fixed = ("--template-dir", "template", "--query-dir", "query", "--max-new-tokens", "12", "--device", "cpu")
    return ["inspect", "--model", str(model), *fixed, *options]


@pytest.fixture
def inspect(nursery, folders):
    """The command in a process of its own, which stands in the folder of both folders; what it returned and said."""
    return lambda model, *options: nursery.run(*words(model, *options), cwd=folders)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_answers(found, expected):
    assert {line["query"] for line in found} == {line["query"] for line in expected}
    expected = {line["query"]: line for line in expected}
    for line in found:
        other = expected[line["query"]]
        assert line.get("error") == other.get("error")
        if "error" not in line:
            assert (line["template"], line["text"], line["boxes"]) == tuple(
                other[k] for k in ("template", "text", "boxes")
            )
            assert line["score"] == pytest.approx(other["score"], abs=2e-5)  # sums in another order


@pytest.fixture(scope="module")
def whole_run(nursery, adcopilot_dir, folders, tmp_path_factory):
    """An undisturbed run, four pairs at a time; the killed one takes two."""
    output = tmp_path_factory.mktemp("whole") / "results.jsonl"
    options = ("--batch-size", "4", "--output", str(output), "--json")
    done = nursery.run(*words(adcopilot_dir, *options), cwd=folders)
    return done, lines(output)


def test_damaged_files_become_lines_and_the_run_goes_on(whole_run):
    done, written = whole_run
    assert done.returncode == 1
    assert len(written) == QUERIES + 1 + len(BAD)
    assert {line["query"]: line["error"] for line in written if "error" in line}.keys() == BAD.keys()
    for line in written:
        if "error" in line:
            assert line["error"].startswith(f"{line['query']}: ")
            assert BAD[line["query"]] in line["error"]
            assert line["anomalous"] is None
        else:
            assert 0 <= line["score"] <= 1
            assert line["verdict"] == "undecided"  # an untrained model means to say neither word
            assert line["anomalous"] is None
            assert line["reason"]
            for box in line["boxes"]:
                x1, y1, x2, y2 = box["bbox_2d"]
                assert 0 <= x1 < x2 <= line["size"][0]
                assert 0 <= y1 < y2 <= line["size"][1]
    turned = next(line for line in written if line["query"].endswith("turned.jpg"))
    assert turned["size"] == [60, 90]
    assert len(done.stdout.splitlines()) == len(written)
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{len(written)} queries: ")
    assert "3 could not be inspected" in last


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_with_a_torn_line_then_resumed(nursery, inspect, adcopilot_dir, folders, whole_run, tmp_path):
    output = tmp_path / "r.jsonl"
    options = ("--batch-size", "2", "--output", str(output))
    enough = 5
    process = nursery.start(*words(adcopilot_dir, *options), cwd=folders)
    written = lambda: output.read_bytes().count(b"\n") if output.exists() else 0  # noqa: E731
    until(lambda: written() >= enough or process.poll() is not None, "the first lines", pause=0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    data = output.read_bytes()
    kept = data.count(b"\n")
    assert enough <= kept <= len(whole_run[1])
    whole = data[: data.rindex(b"\n") + 1]
    output.write_bytes(whole + whole.splitlines()[-1].replace(b'"key": "', b'"key": "f')[:60])
    assert inspect(adcopilot_dir, *options).returncode == 1
    assert output.read_bytes().startswith(whole)  # what was there is not touched
    found = lines(output)
    assert [line["query"] for line in found] == [line["query"] for line in whole_run[1]]
    assert len(found) == len({line["key"] for line in found}) == len(whole_run[1])
    assert_same_answers(found, whole_run[1])
    # Another run has nothing to do and says the same.
    before = output.read_bytes()
    again = inspect(adcopilot_dir, *options, "--json")
    assert output.read_bytes() == before
    assert_same_answers([json.loads(line) for line in again.stdout.splitlines()], whole_run[1])
