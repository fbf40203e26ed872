"""The report knows no benchmark: what it shows of one is what the benchmark says."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from adcopilot.evaluation import report
from adcopilot.evaluation.benchmark import Benchmark
from adcopilot.evaluation.benchmarks import NAMES, benchmark

from .report_runs import report as write_report

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


class Riddles(Benchmark):
    """The least that a benchmark can say."""

    name = "riddles"
    title = "Riddles"
    needed = ("columns",)
    columns = (("solved", "Solved"),)
    main = "solved"


def test_a_benchmark_that_says_the_least_is_shown(tmp_path, monkeypatch, capsys):
    """One class, made known by one name: a table, bars, its settings; no cards, and nothing to compare."""
    module = SimpleNamespace(BENCHMARK=Riddles())
    monkeypatch.setitem(NAMES, "riddles", "riddles")
    monkeypatch.setitem(sys.modules, "adcopilot.evaluation.benchmarks.riddles.benchmark", module)
    runs = []
    for name, solved in (("a", 40.0), ("b", 60.0)):
        (tmp_path / name).mkdir()
        manifest = {"identity": {"benchmark": "riddles", "data": "d"}, "selection": {"model": name}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        (tmp_path / name / "results.json").write_text(json.dumps({"columns": {"solved": solved}}))
        runs.append(str(tmp_path / name))
    write_report(*runs, "--output", tmp_path / "out", "--against", "published")
    assert "could not be shown" not in capsys.readouterr().out
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.md", "riddles.csv", "pairs.csv", "settings.csv"}
    assert [line.split(",")[0::3] for line in (tmp_path / "out/riddles.csv").read_text().splitlines()] == [
        ["name", "Solved"], ["a", "40.0"], ["b", "60.0"]]  # fmt: skip
    text = (tmp_path / "out/report.md").read_text()
    assert "## Riddles\n" in text
    assert "**60.00**" in text
    assert "No question has an answer of both." in text
    (tmp_path / "plan.csv").write_text("run,samples\na,10\nb,20\n")
    write_report("--plan", tmp_path / "plan.csv", "--output", tmp_path / "plan")
    assert {"ablation-riddles.csv", "scaling-riddles.svg"} <= {file.name for file in (tmp_path / "plan").iterdir()}
