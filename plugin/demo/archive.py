"""Unpack a visitor's zip: images only, inside one folder, and no more of them than was agreed."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..inspect.pairs import IMAGE_SUFFIXES
from .limits import MIB, Limits

__all__ = ["unpack"]

CHUNK = 1 << 20


def unpack(archive: Path, folder: Path, *, name: str, limits: Limits) -> int:
    """Write the images of a zip below a folder, under the paths they have in the zip.

    Other files, hidden ones and macOS's `__MACOSX` are passed over. A link in a zip is never followed or made: it
    comes out as a small file that is no image. Sizes are counted while unpacking, whatever the zip says about itself.

    Args:
        archive: the zip.
        folder: an existing folder.
        name: what the visitor calls the zip.
        limits: `files`, `upload_bytes` for each file and `unpacked_bytes` for all of them hold.

    Returns:
        The number of images written.

    Raises:
        UserError: it is no zip, damaged or encrypted, has no images, a path that leads out of it, or too much in it.
    """
    written, total = 0, 0
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [(info, _inside(info.filename, name)) for info in opened.infolist() if not info.is_dir()]
            members = [(info, path) for info, path in found if _is_wanted(path)]
            if not members:
                raise UserError(f"{name}: no pictures in it, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
            if len(members) > limits.files:
                raise UserError(f"{name}: {len(members)} pictures in it, this page takes {limits.files} at a time")
            for info, inside in members:
                path = folder / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, path.open("xb") as target:
                    size = 0
                    while chunk := source.read(CHUNK):
                        size, total = size + len(chunk), total + len(chunk)
                        if size > limits.upload_bytes:
                            raise UserError(f"{name}: {info.filename} is larger than {limits.upload_bytes / MIB:g} MB")
                        if total > limits.unpacked_bytes:
                            raise UserError(f"{name}: unpacked it is larger than {limits.unpacked_bytes / MIB:g} MB")
                        target.write(chunk)
                written += 1
    except NotImplementedError:  # a RuntimeError too
        raise UserError(f"{name}: is packed in a way that cannot be read here; make an ordinary zip") from None
    except RuntimeError:  # what zipfile raises for an encrypted member
        raise UserError(f"{name}: is locked with a password; make a zip without one") from None
    except FileExistsError as error:
        twice = Path(error.filename).name
        raise UserError(f"{name}: has {twice} twice in the same folder; make the zip again") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name}: is no zip, or it is damaged; make it again") from None
    except OSError:  # a name that is too long or not allowed here, or no space
        raise UserError(f"{name}: cannot be unpacked here; use short file names, or fewer pictures") from None
    return written


def _is_wanted(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _inside(filename: str, name: str) -> PurePosixPath:
    """The path of a member; some Windows programs write it with backslashes."""
    path = PurePosixPath(filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{name}: has a file named {filename[:80]!r}, which leads out of it; make the zip again")
    return path
