"""The report knows no benchmark: what it shows of one is what the benchmark says."""

import re
from pathlib import Path

import pytest

from adcopilot.evaluation import report
from adcopilot.evaluation.benchmarks import NAMES, benchmark

FILES = sorted(path for path in Path(report.__file__).parent.rglob("*") if path.suffix in (".py", ".jinja", ".css"))
#: What a benchmark is called by, and words that are plain English in a report.
CALLED = {word for name, folder in NAMES.items() for word in (name, folder, benchmark(name).title)}
PLAIN = {"caption", "captions", "records", "attention"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_of_the_report_names_a_benchmark(path):
    text = path.read_text("utf-8")
    named = [word for word in CALLED - PLAIN if re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text, re.I)]
    # The others as code would have them: quoted, or as a module.
    named += [word for word in PLAIN if re.search(rf"""["']{word}["']|benchmarks\.{word}\b""", text)]
    assert named == []


def test_the_files_are_found():
    assert len(FILES) > 8
    assert {"mmad", "MMAD-BBox", "UniPCB", "records"} <= CALLED
