"""SHA-256 of a benchmark's images, so that an answer is tied to what was seen and not to a file's name.

MMAD's full set is some 20 GB, read once: a run keeps the digests in its folder and reads again only files whose size
or time of change differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adcopilot.cli.saying import progress
from adcopilot.files import stored_object
from adcopilot.jsonl import file_digest, write_json

__all__ = ["FILE", "image_digests"]

#: In the folder of a run.
FILE = "image-digests.json"
#: From so many files on, reading them is worth a progress bar.
_MANY = 2000


def image_digests(paths: Iterable[Path], *, folder: Path | None = None) -> dict[Path, str]:
    """Path → SHA-256 of the file's bytes.

    Args:
        paths: of files that are there; each is read once.
        folder: of the run, where digests are kept.

    Raises:
        UserError: a file cannot be read, or the folder not written to.
    """
    wanted = list(dict.fromkeys(paths))
    stats = {path: path.stat() for path in wanted}
    seen = {path: [os.path.abspath(path), stats[path].st_size, stats[path].st_mtime_ns] for path in wanted}
    kept = _read(folder / FILE) if folder is not None else {}
    found = {path: kept[name][2] for path, (name, *stamp) in seen.items() if kept.get(name, [])[:2] == stamp}
    missing = [path for path in wanted if path not in found]
    with ThreadPoolExecutor(4) as readers:  # reading waits for the disk, and hashing lets other threads run
        digests = readers.map(file_digest, missing)
        bar = progress(digests, total=len(missing), desc="reading images", unit="file", hidden=len(missing) < _MANY)
        found.update(zip(missing, bar, strict=True))
    if folder is not None and missing:
        kept.update({name: [*stamp, found[path]] for path, (name, *stamp) in seen.items()})
        write_json(folder / FILE, kept, allow_nan=False)
    return {path: found[path] for path in wanted}


def _read(file: Path) -> dict[str, list]:
    """What an earlier start kept; nothing where it is no such file, for then it is only read again."""
    value = stored_object(file)
    good = all(isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], str) for entry in value.values())
    return value if good else {}
