"""examples/inspect.ipynb runs from beginning to end, without a network, and is kept without what it showed."""

import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

FILE = Path(__file__).resolve().parents[2] / "examples/inspect.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(FILE, as_version=4)


def test_it_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_it_runs(notebook, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # the command that it calls is this environment's
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    where = {"metadata": {"path": str(FILE.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    shown = {
        cell.source: [output.get("text") or output["data"] for output in cell.get("outputs", []) if "name" in output
                      or "data" in output]
        for cell in notebook.cells
    }  # fmt: skip
    [[picture]] = [said for source, said in shown.items() if source.endswith("\nresult")]
    assert "image/png" in picture  # a result shows itself
    [[same]] = [said for source, said in shown.items() if "bgr" in source and said]
    assert same["text/plain"] == "True"
    [[table]] = [said for source, said in shown.items() if "inspect_many" in source]
    lines = [line.split() for line in table.splitlines()]
    assert [line[1] == "anomalous" for line in lines] == [line[3] != "good" for line in lines]
    last = notebook.cells[-1].outputs[-1].data["text/plain"]
    assert "'map_boxes': [{'bbox_2d': [" in last
