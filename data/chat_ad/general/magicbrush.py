"""`adcopilot data convert magicbrush`: photographs, an edit somebody asked for, and the edited photograph.

    ROOT/data/train-….parquet      columns img_id, turn_index, source_img, mask_img, instruction, target_img
or  ROOT/edit_sessions.json        {id: [{input, mask, output, instruction}, …]} with ROOT/images/id/…

The answer is the instruction; the box is that of the region the editor worked in, which `mask_img` shows as
transparent pixels (in whatever resolution). Only the training split is read: the authors ask that the test split never
be trained on. From Parquet, images are written to OUTPUT/MagicBrush; otherwise only masks are.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ...files import read_json
from ...images import FORMATS
from ..sources.references import mask_components
from .command import AGAIN, add_box_share, add_common_arguments, run_source
from .media import ImageFolder, checked_size
from .parquet import parquet_files, parquet_rows
from .questions import ASK_EDIT
from .source import GeneralSource, RawSample, Rejected
from .texts import caption_record, checked_text, sentence

LABEL = "edited region"

_LIGHT = ["img_id", "turn_index", "instruction"]
_HEAVY = [*_LIGHT, "source_img", "mask_img", "target_img"]
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp"}

# A region below this share of the picture is a slip of the brush; above the other one it says nothing.
_SMALLEST, _LARGEST = 0.0005, 0.9


class MagicBrush(GeneralSource):
    """MagicBrush as a `source.GeneralSource`.

    Args:
        root: as downloaded, Parquet or unpacked.
        output: where the images of Parquet files and the masks go, in `OUTPUT/MagicBrush`.
        media_dir: the YAML's.
        box_share: of the pairs with boxes, how many are asked for them.

    Raises:
        UserError: files are missing or broken, or a folder is not in `media_dir`.
    """

    name = "MagicBrush"
    licence = "MagicBrush (Zhang et al. 2023): CC BY 4.0; its authors ask that the test split not be trained on"
    workers = 4

    def __init__(self, *, root: Path, output: Path, media_dir: Path, box_share: float = 0.5) -> None:
        self.root = root
        self._made = ImageFolder(folder=output / self.name, media_dir=media_dir, option="--output")
        self.options: dict[str, Any] = {"box_share": box_share, "images": self._made.prefix}
        sessions = root / "edit_sessions.json"
        self._sessions: list[tuple[str, int, Any]] | None = None
        if sessions.is_file():
            self.files = [sessions]
            self._found = ImageFolder(folder=root / "images", media_dir=media_dir)
            self._sessions = [
                (name, turn, entry)
                for name, turns in read_json(sessions, kind=dict, check=AGAIN, again=AGAIN).items()
                for turn, entry in enumerate(turns if isinstance(turns, list) else [turns], 1)
            ]
        else:
            self.files = parquet_files(root)

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """As `GeneralSource.items`; one for each turn of an editing session."""
        if self._sessions is not None:
            for ordinal, (name, turn, entry) in enumerate(self._sessions):
                if chosen is None or ordinal in chosen:
                    where = f"{self.files[0]}: turn {turn} of {name}"
                    yield RawSample(ordinal=ordinal, key=f"{name}/{turn}", where=where, data=entry)
            return
        columns, batch = (_LIGHT, 1024) if chosen is None else (_HEAVY, 8)
        for ordinal, path, row, data in parquet_rows(self.files, columns=columns, chosen=chosen, batch_size=batch):
            key = f"{data['img_id']}/{data['turn_index']}"
            yield RawSample(ordinal=ordinal, key=key, where=f"{path}: row {row} ({key})", data=data)

    def check(self, item: RawSample) -> None:
        """There is an instruction, a name that can be a file's, and, unpacked, images."""
        if not isinstance(item.data, dict):
            raise Rejected("broken item", f"{item.data!r:.60}, expected an object")
        checked_text(item.data.get("instruction"), what="the instruction")
        if not re.fullmatch(r"[\w-]{1,80}/\d{1,4}", item.key):
            raise Rejected("broken item", f"img_id and turn {item.key!r:.80}, expected letters and digits")
        if self._sessions is not None:
            for field in ("input", "output"):
                self._found.path(self._name(item, field))

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The pair with the instruction; writes what Parquet holds."""
        stem = item.key.replace("/", "-")
        before, after = self._bytes(item, "input", "source_img"), self._bytes(item, "output", "target_img")
        sizes = [checked_size(before, name=f"{item.key} before"), checked_size(after, name=f"{item.key} after")]
        if self._sessions is not None:
            images = [self._found.reference(self._name(item, field)) for field in ("input", "output")]
        else:
            images = [self._store(stem, "before", before), self._store(stem, "after", after)]
        mask = self._mask(item, sizes[1])
        boxes = region_boxes(mask) if mask is not None else []
        mask_name = ""
        if boxes:
            buffer = io.BytesIO()
            Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "png")
            mask_name = self._store(stem, "mask", buffer.getvalue())
        return caption_record(
            self.name,
            item.key,
            rng=rng,
            questions=ASK_EDIT,
            caption=sentence(item.data["instruction"]),
            boxes=boxes,
            label=LABEL,
            box_share=self.options["box_share"],
            images=images,
            sizes=sizes,
            mask=mask_name,
        )

    def _name(self, item: RawSample, field: str) -> str:
        value = item.data.get(field)
        if not isinstance(value, str) or not value:
            raise Rejected("no image named", f"{field} is {value!r:.60}")
        # The authors write the file's name alone; its folder is the session's.
        return value if "/" in value else f"{item.key.rpartition('/')[0]}/{value}"

    def _bytes(self, item: RawSample, field: str, column: str, *, required: bool = True) -> bytes | None:
        if self._sessions is not None:
            if not required and not item.data.get(field):
                return None
            return self._found.path(self._name(item, field)).read_bytes()
        value = item.data[column]
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(content, bytes) and content:
            return content
        if required:
            raise Rejected("missing image", f"{column} of {item.key} is empty")
        return None

    def _mask(self, item: RawSample, size: tuple[int, int]) -> np.ndarray | None:
        """Where the picture was edited, (height, width) of the second image, or None if that is not said."""
        content = self._bytes(item, "mask", "mask_img", required=False)
        return None if content is None else edited_region(content, size, name=f"{item.key} mask")

    def _store(self, stem: str, part: str, content: bytes) -> str:
        """Write an image unless it is there already; what a record calls it."""
        suffix = _SUFFIXES.get(Image.open(io.BytesIO(content), formats=FORMATS).format or "", ".png")
        path = self._made.folder / f"{stem}-{part}{suffix}"
        try:
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}.tmp")
                temporary.write_bytes(content)
                # Renamed, not synced: the next run compares the bytes.
                os.replace(temporary, path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error}); free some space") from None
        return self._made.reference(path.name)


def edited_region(content: bytes, size: tuple[int, int], *, name: str) -> np.ndarray:
    """The region of an edit as a boolean array (height, width) for an image of `size`.

    Args:
        content: the mask's file: transparent where the edit is, or, without transparency, white on black.
        size: (width, height) of the edited image.
        name: for messages.

    Raises:
        Rejected: it is no image, of another shape than the edited one, or of neither form.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        image.load()
    except Exception as error:  # a damaged file raises whatever its decoder stumbles on
        raise Rejected("unreadable image", f"{name}: {error!s:.100}") from None
    if abs(image.width * size[1] - image.height * size[0]) > 0.02 * image.width * size[1]:
        raise Rejected("mask of another shape", f"{name}: {image.width}×{image.height} for {size[0]}×{size[1]}")
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A").resize(size, Image.Resampling.NEAREST)
        return np.asarray(alpha) < 128
    grey = np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST)).astype(np.int16)
    if (np.ptp(grey, axis=2) > 8).any() or ((grey[..., 0] > 32) & (grey[..., 0] < 223)).mean() > 0.02:
        raise Rejected("mask of unknown form", f"{name}: neither transparent nor black and white")
    return grey[..., 0] > 127


def region_boxes(mask: np.ndarray) -> list[list[int]]:
    """The boxes [x1, y1, x2, y2] of a mask's regions; none if it covers nearly all, or next to nothing."""
    from scipy import ndimage

    if not mask.any() or mask.mean() > _LARGEST:
        return []
    # The brush leaves hairlines between strokes; regions that two pixels part are one.
    joined = ndimage.binary_closing(np.pad(mask, 4), np.ones((3, 3), bool), iterations=2)[4:-4, 4:-4] | mask
    found = mask_components(joined, min_area=max(4, round(_SMALLEST * mask.size)))
    return [list(map(int, component.box)) for component in found]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, MagicBrush.name, root="the folder of osunlp/MagicBrush: Parquet, or unpacked")
    add_box_share(parser)


def opened(args: argparse.Namespace) -> MagicBrush:
    """The source that the options name."""
    return MagicBrush(root=args.root, output=args.output, media_dir=args.media_dir, box_share=args.box_share)


run = partial(run_source, opened)
