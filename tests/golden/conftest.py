"""A place to run commands in, and the area of goldens that a test file is named after."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adcopilot import cli

from .normal import normalised
from .store import Area, Numbers, writing

#: What the width of a help text, colours and the user's own keys would change.
ENVIRONMENT = {"COLUMNS": "100", "NO_COLOR": "1", "NO_PROXY": "127.0.0.1", "TZ": "UTC"}


#: Areas that hold the full text of all outputs: reviewing their diff is what they are for.
IN_FULL = ("texts",)


@pytest.fixture(scope="module")
def area(request) -> Iterator[Area]:
    """`tests/golden/AREA.json` of `test_AREA.py`; written when its tests have ended, if goldens are written."""
    name = request.path.stem.removeprefix("test_")
    made = Area(name, short=1 << 20) if name in IN_FULL else Area(name)
    failed = request.session.testsfailed
    yield made
    if writing() and request.session.testsfailed == failed:
        made.write()


class Workplace:
    """A working directory of its own, in which commands run with relative paths as a user types them."""

    def __init__(self, folder: Path, project: Path, capsys) -> None:
        self.folder, self._capsys = folder, capsys
        self.places = {str(folder): "<here>", str(folder.resolve()): "<here>", str(project): "<checkout>"}

    def run(self, *words, code: int | None = 0) -> str:
        """Run `adcopilot …` in this process; what it printed. It must end with `code`, if that is one."""
        self._capsys.readouterr()
        try:
            found = cli.main([str(word) for word in words])
        except SystemExit as stop:  # argparse, after a help text
            found = stop.code
        said = self._capsys.readouterr()
        assert code in (found, None), said.err[-2000:]
        return said.out

    def text(self, text: str) -> bytes:
        """A printed text as it is compared."""
        return normalised("stdout", text.encode(), self.places)

    def files(self, *names: str, without: tuple[str, ...] = (".work/",)) -> dict[str, bytes | str | Numbers]:
        """Name → content of all files below these folders (or of these files), as they are compared."""
        found = {}
        for name in names:
            top = self.folder / name
            for path in [top] if top.is_file() else sorted(top.rglob("*")):
                inside = path.relative_to(top).as_posix()
                # A hidden file is half of one, left by a kill at that moment: its name is drawn anew each time.
                if path.is_file() and not inside.startswith(without) and not path.name.startswith("."):
                    key = path.relative_to(self.folder).as_posix()
                    found[key] = normalised(key, path.read_bytes(), self.places)
        return found

    def varies(self, digest: str, what: str) -> None:
        """Say that a digest, wherever it stands, is of something that has a path or a port of this run in it."""
        self.places[digest] = f"<{what}>"

    def made(self, *patterns: str) -> list[str]:
        """The names of files here that match one of these."""
        return sorted({path.name for pattern in patterns for path in self.folder.glob(pattern)})


@pytest.fixture
def here(tmp_path, project_root, monkeypatch, capsys) -> Workplace:
    """An empty working directory, the current one."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("ADCOPILOT_") and name.endswith("KEY")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Workplace(folder, project_root, capsys)
