"""Unpack a visitor's zip: images only, inside one folder, and no more of them than was agreed."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..images import IMAGE_SUFFIXES, photograph_names
from .limits import MIB, Limits

__all__ = ["unpack"]

CHUNK = 1 << 20
#: Bytes of a zip's list of files: what there may be without pictures, and for each of those that are taken.
LIST_BYTES, LIST_BYTES_A_FILE = 1 << 20, 1 << 10
#: Where that list's size stands: within so many bytes from the end, a comment included.
LIST_END = (1 << 16) + 256


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
        _check_list(archive, name=name, limits=limits)
        with zipfile.ZipFile(archive) as opened:
            found = [(info, _inside(info.filename, name)) for info in opened.infolist() if not info.is_dir()]
            found = [(info, path) for info, path in found if not _is_hidden(path)]
            wanted = set(photograph_names(str(path) for _, path in found))
            members = [(info, path) for info, path in found if str(path) in wanted]
            if not members:
                raise UserError(f"{name}: no pictures in it, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
            if len(members) > limits.files:
                raise UserError(f"{name}: {len(members)} pictures in it, this page takes {limits.files} at a time")
            for info, inside in members:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise NotImplementedError  # the others are unpacked a megabyte at a time, into gigabytes
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


def _check_list(archive: Path, *, name: str, limits: Limits) -> None:
    """The list at a zip's end is read whole before anything in it is counted: here its size is."""
    with archive.open("rb") as file:
        file.seek(max(archive.stat().st_size - LIST_END, 0))
        tail = file.read()
    # As zipfile looks for it: at the very end, else before a comment.
    at = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0" else tail.rfind(b"PK\5\6")
    sizes = [int.from_bytes(tail[at + 12 : at + 16], "little")] if at >= 0 else []
    if at >= 76 and tail[at - 76 : at - 72] == b"PK\6\6":  # a zip of more than 65,535 files has another
        sizes.append(int.from_bytes(tail[at - 36 : at - 28], "little"))
    most = LIST_BYTES + LIST_BYTES_A_FILE * limits.files
    listed = [size for size in sizes if size != 0xFFFFFFFF]
    if any(size > most for size in listed):
        raise UserError(f"{name}: lists {max(listed):,} bytes of files, expected at most {most:,}; use fewer files")


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _inside(filename: str, name: str) -> PurePosixPath:
    """The path of a member; some Windows programs write it with backslashes."""
    path = PurePosixPath(filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{name}: has a file named {filename[:80]!r}, which leads out of it; make the zip again")
    return path
