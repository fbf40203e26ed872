"""Every file that a user gets is the one that it was."""

import difflib
import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("llamafactory", reason="goldens are those of the environment of `make setup`")
pytest.importorskip("selenium", reason="goldens are those of the environment of `make setup`")

from .outputs import AREAS, builds

HERE = Path(__file__).parent
#: Longer ones are kept as size and digest.
SHORT = 400_000
WRITE = os.environ.get("ADCOPILOT_GOLDEN") == "write"


def kept(data: bytes | str, *, whole: bool) -> str:
    """What is kept of an output."""
    if isinstance(data, str):
        return data
    return data.decode() if whole else f"{len(data)} bytes {hashlib.sha256(data).hexdigest()}"


def compare(area: str, found: dict[str, bytes | str]) -> None:
    """Fail with the names that differ, and with the lines of those kept as text."""
    path = HERE / f"{area}.json"
    now = {name: kept(data, whole=False) for name, data in sorted(found.items())}
    if WRITE:
        path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", "utf-8")
    then = json.loads(path.read_text("utf-8"))
    problems = [f"{name}: gone" for name in then.keys() - now.keys()]
    problems += [f"{name}: new" for name in now.keys() - then.keys()]
    for name in sorted(then.keys() & now.keys()):
        if then[name] != now[name]:
            lines = difflib.unified_diff(
                then[name].splitlines(), now[name].splitlines(), "then", "now", lineterm="", n=0
            )
            problems.append("\n".join([f"{name}:", *list(lines)[:60]]))
    assert not problems, "\n".join([*sorted(problems), "wanted? `make golden`, and the reason in the commit"])


@pytest.mark.parametrize("area", AREAS)
def test_the_same_as_before(area, tmp_path, monkeypatch):
    if area == "helps" and sys.version_info[:2] != (3, 11):
        pytest.skip("argparse lays its help out in another way")
    monkeypatch.setenv("COLUMNS", "120")  # to which argparse wraps its help; xdist says 80
    compare(area, AREAS[area](tmp_path))


@pytest.mark.skipif(WRITE, reason="written by one worker")
def test_two_workers_make_the_same(tmp_path):
    compare("builds", builds(tmp_path, workers=2))
