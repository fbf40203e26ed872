"""Which rooms may know of which: `plugin/` of neither `data/` nor `evaluation/`, and those two not of each other; and
that a name means one thing in all of them."""

import ast
from collections import defaultdict
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


def modules(room: str) -> dict[str, Path]:
    """Module → file."""
    package = ROOMS[room][0]
    found = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT / room).with_suffix("").parts
        found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def imports(path: Path, module: str) -> list[tuple[str, str, str]]:
    """(module, name in it or "", name here) of every import statement of a file, modules absolute."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            above = ".".join([*base, *([node.module] if node.module else [])])
            found += [(above, alias.name, alias.asname or alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    wrong = []
    for module, path in modules(room).items():
        for above, name, _ in imports(path, module):
            reached = f"{above}.{name}" if name else above
            if any(f"{reached}.".startswith(f"{one}.") for one in ROOMS[room][1]):
                wrong.append(f"{path.relative_to(ROOT)} imports {reached}")
    assert wrong == []


def test_the_walk_sees_relative_imports(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("from ..evaluation import x\nfrom . import y as z\nimport adcopilot.sample.demo\n")
    assert imports(path, "adcopilot.demo.a") == [
        ("adcopilot.evaluation", "x", "x"),
        ("adcopilot.demo", "y", "z"),
        ("adcopilot.sample.demo", "", "adcopilot.sample.demo"),
    ]


#: What each reader, benchmark or task brings under the same name: there the name is the role.
ROLES = {"items", "own_wording", "results_of_records", "scan", "show", "truth_fields"}


def test_a_name_means_one_thing():
    """A class has a name of its own, and a function that is imported by its bare name too; neither is renamed on the
    way. vLLM knows the model by the name of its architecture."""
    trees = {module: path for room in ROOMS for module, path in modules(room).items()}
    own = {
        module: {
            node.name: isinstance(node, ast.ClassDef)
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        }
        for module, path in trees.items()
    }
    known = {module: imports(path, module) for module, path in trees.items()}

    def origin(module: str, name: str) -> tuple[str, str] | None:
        """Where what a module offers is written."""
        if name in own.get(module, ()):
            return module, name
        places = (one for *one, here in known.get(module, ()) if here == name and one != [module, name])
        return next((origin(*one) for one in places), None)

    meant, renamed = defaultdict(set), []
    for module, names in own.items():
        for name, is_class in names.items():
            if is_class and not name.startswith("_"):
                meant[name].add((module, name))
    for module, found in known.items():
        for above, name, here in found:
            if (written := origin(above, name)) is not None:
                meant[here].add(written)
                renamed += [f"{module}: {name} as {here}"] if here != name else []
    twice = {name: places for name, places in meant.items() if len(places) > 1 and name not in ROLES}
    assert twice.pop("AdCopilotForConditionalGeneration") == {
        ("adcopilot.model.modeling", "AdCopilotForConditionalGeneration"),
        ("adcopilot.vllm.model", "AdCopilotForConditionalGeneration"),
    }
    assert (twice, renamed) == ({}, [])


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
