"""Where a source's images are, and how records name them: relative to LlamaFactory's `media_dir`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ...images import image_size
from ..sources.references import format_reference, resolve
from .source import Rejected

__all__ = ["ImageFolder", "checked_size"]


class ImageFolder:
    """A folder of images inside `media_dir`.

    A link to the folder itself is fine (that is how a data set on another disk gets into `media_dir`); a name inside
    it that leads out of it is not, because names come from the data.

    Args:
        folder: as the user named it.
        media_dir: as the training YAML will name it.
        option: what `folder` is called in messages.

    Raises:
        UserError: `folder` is not inside `media_dir`.
    """

    def __init__(self, *, folder: Path, media_dir: Path, option: str = "--root") -> None:
        self.folder = folder
        # Not resolved: a link inside media_dir counts as inside.
        inside = os.path.relpath(os.path.abspath(folder), os.path.abspath(media_dir))
        if inside.split(os.sep)[0] == os.pardir or os.path.isabs(inside):
            raise UserError(
                f"{option} {folder}: not inside --media-dir {media_dir}, where LlamaFactory looks for images; move or "
                f"link it there (ln -s), or name a folder above it and set media_dir in the YAML to that"
            )
        self.prefix = "" if inside == os.curdir else PurePosixPath(*inside.split(os.sep)).as_posix() + "/"

    def path(self, name: object) -> Path:
        """The file that `name` (relative, with slashes) means.

        Raises:
            Rejected: it leads out of the folder, is missing, or is empty.
        """
        if not isinstance(name, str) or not name:
            raise Rejected("no image named", repr(name)[:80])
        try:
            path = resolve(self.folder, format_reference(name))
        except UserError as error:
            raise Rejected("image outside the folder", str(error)) from None
        try:
            size = path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise Rejected("missing image", f"{name[:80]}: {error.strerror}") from None
        if size is None:
            raise Rejected("missing image", str(path))
        if size == 0:
            raise Rejected("empty image", f"{path} (0 bytes)")
        return path

    def opened(self, names: Sequence[str]) -> dict[str, list]:
        """What a record calls some images, and their (width, height): `images` and `sizes` of `checked_record`.

        Raises:
            Rejected: as `path` and `checked_size`.
        """
        sizes = [checked_size(self.path(name)) for name in names]
        return {"images": [self.reference(name) for name in names], "sizes": sizes}

    def reference(self, name: str) -> str:
        """What a record calls the image `name`."""
        return self.prefix + PurePosixPath(name).as_posix()


def checked_size(source: Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """(width, height) from the header of a file, or of what one holds, which `name` calls something in messages.

    Raises:
        Rejected: it cannot be opened as an image.
    """
    try:
        return image_size(source, name=name)
    except UserError as error:
        raise Rejected("unreadable image", str(error)) from None
