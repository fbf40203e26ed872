"""What a report is made of: folders of runs, and files of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.pages.text import shorten

from ..benchmark import Benchmark
from ..benchmarks import FROM_FILES, benchmark, shown
from ..run_folder import read_manifest
from ..source import ReportSource

__all__ = ["read_source"]


def read_source(text: str) -> ReportSource:
    """A run's folder or a file of answers, `NAME=` before it where it is to be called so.

    Raises:
        UserError: there is none, it has no scores yet, or they are not this version's.
    """
    files = benchmark(FROM_FILES)
    name, path = "", Path(text)
    if not path.exists():
        # A name may have the sign in it, and so may a path.
        cuts = [place for place, letter in enumerate(text) if letter == "=" and Path(text[place + 1 :]).exists()]
        if cuts and text[cuts[0] + 1 :]:
            name, path = text[: cuts[0]], Path(text[cuts[0] + 1 :])
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a run, or {files.title}'s answer file")
    found = files.read_file(path) if path.is_file() else _run(path)
    found.name = shorten(name or found.name, 60) or "run"
    return found


def _run(path: Path) -> ReportSource:
    manifest = read_manifest(path)
    identity, selection = manifest["identity"], manifest.get("selection", {})
    found = identity.get("benchmark")
    asked = next((one for one in shown() if one.name == found), None)
    if asked is None:
        known = ", ".join(one.name for one in shown())
        raise UserError(f"{path}: is a run of {found!r:.60}, expected one of {known}")
    model = selection.get("model") or identity.get("backend", {}).get("model")
    thinks = "†" if identity.get("thinking") else ""
    return ReportSource(
        name=Path(str(model).rstrip("/\\")).name + thinks if model else path.name,
        path=path,
        benchmark=asked,
        results=_results(path, asked),
        identity=identity,
        selection=selection,
        version=str(manifest.get("adcopilot", "")),
    )


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _results(folder: Path, asked: Benchmark) -> dict[str, Any]:
    file = folder / "results.json"
    again = f"run `adcopilot eval {asked.name} --output {folder} …` to its end, which writes it"
    try:
        value = json.loads(file.read_bytes(), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(f"{file}: there are no scores yet; {again}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); check the folder") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: not JSON; {again}") from None
    missing = [name for name in asked.needed if not isinstance(value, dict) or name not in value]
    if missing:
        raise UserError(f"{file}: has no {', '.join(missing)}, expected the scores of {asked.name}; {again}")
    return value
