"""Install lines that exist: this package is on no index."""

import json
import re
import subprocess
from types import SimpleNamespace

import pytest

from adcopilot.cli import installed


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (None, "pip install -e '.[web]'` in the checkout"),
        ({}, "pip install -e '.[web]'` in the checkout"),
        ({"url": "https://example.org/adcopilot.whl"}, "pip install -e '.[web]'` in the checkout"),
        (
            {"url": "file:///src/ad%20copilot", "dir_info": {"editable": True}},
            "pip install -e '/src/ad copilot[web]'`",
        ),
        ({"url": "file:///src/adcopilot", "dir_info": {}}, "pip install '/src/adcopilot[web]'`"),
        ({"url": "file:///a/adcopilot-1-py3-none-any.whl"}, "pip install '/a/adcopilot-1-py3-none-any.whl[web]'`"),
    ],
)
def test_the_line_names_where_it_was_installed_from(told, line, monkeypatch):
    def distribution(name):
        return SimpleNamespace(read_text=lambda file: None if told is None else json.dumps(told))

    monkeypatch.setattr(installed.importlib.metadata, "distribution", distribution)
    assert installed.install_line("web") == line


def test_without_metadata_it_is_the_checkouts(monkeypatch):
    def distribution(name):
        raise installed.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(installed.importlib.metadata, "distribution", distribution)
    assert installed.install_line("data").endswith("in the checkout")


def test_nothing_is_to_be_had_from_an_index(project_root):
    """F5: `pip install 'adcopilot[web]'` stood in docs and messages, and there is no such distribution."""
    listed = subprocess.run(["git", "ls-files"], cwd=project_root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a checkout of git")
    kinds = (".md", ".py", ".yaml", ".yml", ".txt", ".toml", ".Dockerfile")
    wanted = re.compile(r"pip install [^`\n]*['\" ]adcopilot(?:\[\w+\])?(?![\w./=-])")
    wrong = []
    for path in (project_root / name for name in listed.stdout.splitlines()):
        if path.suffix in kinds and path.is_file() and path.name != "test_installed.py":
            wrong += [f"{path}: {found}" for found in wanted.findall(path.read_text("utf-8"))]
    assert wrong == []
