"""`make clean` cleans up and keeps what was trained; deleting that takes another word and an answer.

`make test` begins with the files that take longest."""

import shutil
import subprocess

import pytest

from .conftest import LONGEST, pytest_collection_modifyitems

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def checkout(project_root, tmp_path):
    """A folder with the Makefile, something built, and something trained."""
    shutil.copy2(project_root / "Makefile", tmp_path)
    for name in (
        "build/lib",
        "saves/7b/stage0",
        "outputs",
        ".pytest_cache",
        "plugin/__pycache__",
        "saves/__pycache__",
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    return tmp_path


def make(folder, *words, typed=""):
    return subprocess.run(["make", *words], cwd=folder, input=typed, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("target", ["clean", "distclean"])
def test_what_was_trained_stays(checkout, target):
    assert make(checkout, target).returncode == 0
    assert sorted(path.name for path in checkout.iterdir()) == ["Makefile", "outputs", "plugin", "saves"]
    assert (checkout / "saves/7b/stage0/file").is_file()
    assert (checkout / "saves/__pycache__/file").is_file()
    assert not (checkout / "plugin/__pycache__").exists()


@pytest.mark.parametrize("typed", ["", "no\n", "y\n"])
def test_without_a_yes_nothing_is_deleted(checkout, typed):
    result = make(checkout, "clean-models", typed=typed)
    assert result.returncode != 0
    assert "nothing was deleted" in result.stdout
    assert (checkout / "saves/7b/stage0/file").is_file()


@pytest.mark.parametrize(("words", "typed"), [([], "yes\n"), (["YES=1"], "")])
def test_with_one_models_and_results_are(checkout, words, typed):
    assert make(checkout, "clean-models", *words, typed=typed).returncode == 0
    assert not (checkout / "saves").exists()
    assert not (checkout / "outputs").exists()
    assert (checkout / "build").exists()
    assert "neither" in make(checkout, "clean-models").stdout


def test_the_longest_files_come_first(project_root):
    assert [name for name in LONGEST if not (project_root / "tests" / name).is_file()] == []

    class Item:
        def __init__(self, name):
            self.path = project_root / "tests" / name

    names = ["a.py", LONGEST[1], "b.py", LONGEST[0], LONGEST[1], "a.py"]
    items = [Item(name) for name in names]
    pytest_collection_modifyitems(object(), items)
    assert [item.path.relative_to(project_root / "tests").as_posix() for item in items] == names

    class Worker:
        workerinput = {}

    pytest_collection_modifyitems(Worker, items)
    found = [item.path.relative_to(project_root / "tests").as_posix() for item in items]
    assert found == [LONGEST[0], LONGEST[1], LONGEST[1], "a.py", "b.py", "a.py"]


#: In the place of an environment's Python: a pip that says what pip says.
PIP = """#!/bin/bash
case "$*" in
*" check"*) ;;
*" install"*) printf 'Collecting a\\n  Downloading a.whl (800 MB)\\nInstalling a-1\\n'; exit {status} ;;
esac
"""


@pytest.mark.parametrize("status", [0, 1])
def test_set_up_is_not_silent_and_fails_where_pip_does(checkout, project_root, status):
    shutil.copy2(project_root / "setup.py", checkout)
    shutil.copytree(project_root / "constraints", checkout / "constraints")
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PIP.format(status=status))
    python.chmod(0o755)
    result = make(checkout, "setup")
    said = [line.strip() for line in result.stderr.splitlines()]
    assert said[1:3] == ["Downloading a.whl (800 MB)", "Installing a-1"]
    assert (result.returncode == 0) is (status == 0)
    assert (checkout / ".venv/adcopilot.stamp").is_file() is (status == 0)
