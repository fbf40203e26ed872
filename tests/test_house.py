"""Which rooms may know of which: `plugin/` of neither `data/` nor `evaluation/`, and those two not of each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Room → the package that it is, and the packages that it may not import, anywhere in a file.
ROOMS = {
    "plugin": ("adcopilot", ("adcopilot.chat_ad", "adcopilot.sample", "adcopilot.evaluation")),
    "data/chat_ad": ("adcopilot.chat_ad", ("adcopilot.evaluation",)),
    "data/sample_set": ("adcopilot.sample", ("adcopilot.evaluation",)),
    "evaluation": ("adcopilot.evaluation", ("adcopilot.chat_ad", "adcopilot.sample")),
}


def imported(path: Path, module: str) -> set[str]:
    """Every module that a file imports by a statement, absolute, names of `from` included."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            above = ".".join([*base, *([node.module] if node.module else [])])
            found |= {above, *(f"{above}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    package, forbidden = ROOMS[room]
    wrong = []
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT / room).with_suffix("").parts
        module = ".".join([package, *(part for part in parts if part != "__init__")])
        for name in imported(path, module):
            if any(name == one or name.startswith(f"{one}.") for one in forbidden):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_walk_sees_relative_imports(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("from ..evaluation import x\nfrom . import y\nimport adcopilot.sample.demo\n")
    found = imported(path, "adcopilot.demo.a")
    assert {"adcopilot.evaluation", "adcopilot.evaluation.x", "adcopilot.demo.y", "adcopilot.sample.demo"} <= found


def test_no_folder_has_more_than_twenty_files():
    """Then it has an idea too many."""
    tops = {name.split("/")[0] for name in ROOMS} | {"tests", "benchmarks"}
    folders = {path.parent for top in tops for path in (ROOT / top).rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > 20} == {}


@pytest.mark.parametrize(
    ("words", "place"),
    [("Bearer ", "plugin/endpoint/address.py"), (";base64,{", "plugin/endpoint/images.py")],
    ids=["a key", "a data URL"],
)
def test_the_one_client(words, place):
    """A key is put into a request, and a picture into a data URL, in one place."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if words in path.read_text("utf-8")] == [place]
