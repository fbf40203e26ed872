"""`adcopilot data convert pixmo-cap`: photographs from the web with detailed descriptions.

    ROOT/data/train-….parquet      columns image_url, caption, transcripts

The data set has URLs, no images. `--download` fetches those that are drawn (many links are dead; the next in the draw
takes their place) into OUTPUT/PixMo-cap; without it only what an earlier run has fetched there is used.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from ...errors import UserError
from .command import add_common_arguments, run_source
from .fetching import Fetcher, is_web_url, url_key
from .media import ImageFolder
from .parquet import parquet_files, parquet_rows
from .questions import ASK_DESCRIPTION
from .source import GeneralSource, RawSample, Rejected
from .texts import caption_record, checked_text


class PixMoCap(GeneralSource):
    """PixMo-cap as a `source.GeneralSource`.

    Args:
        root: the folder that holds the Parquet files.
        fetcher: knows or fetches the images.
        media_dir: the YAML's.
        workers: downloads at a time.

    Raises:
        UserError: there are no Parquet files, or the fetcher's folder is not in `media_dir`.
    """

    name = "PixMo-cap"
    licence = "PixMo-cap (Ai2): ODC-BY 1.0 for the texts; each image keeps the terms of the site it is from"

    def __init__(self, *, root: Path, fetcher: Fetcher, media_dir: Path, workers: int = 1) -> None:
        self.root, self.workers = root, workers
        self.files = parquet_files(root)
        self.fetcher = fetcher
        self.folder = ImageFolder(folder=fetcher.folder, media_dir=media_dir, option="--output")
        # What is drawn also depends on which links live; the log of downloads says which did.
        self.options: dict[str, Any] = {"images": self.folder.prefix}

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """As `GeneralSource.items`, in the order of the files and their rows."""
        columns = ["image_url", "caption"]
        for ordinal, path, row, data in parquet_rows(self.files, columns=columns, chosen=chosen):
            url = data["image_url"]
            key = url_key(url)[:32] if isinstance(url, str) else f"#{ordinal}"
            yield RawSample(ordinal=ordinal, key=key, where=f"{path}: row {row} ({url!s:.100})", data=data)

    def check(self, item: RawSample) -> None:
        """There is a caption, and a URL that is not known to be dead."""
        checked_text(item.data["caption"], what="the caption")
        if "<image>" in item.data["caption"]:
            raise Rejected("special token in a text", "<image> in the caption", expected=True)
        url = item.data["image_url"]
        if not is_web_url(url):
            raise Rejected("not a web address", f"{url!r:.100}", expected=True)
        found = self.fetcher.known(url)
        if found is not None and not found.file:
            raise Rejected("image not reachable", found.reason, expected=True)
        if found is None and not self.fetcher.downloads:
            raise Rejected("image not downloaded", expected=True)

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The image with its description; fetches the image."""
        found = self.fetcher.get(item.data["image_url"])
        if not found.file:
            raise Rejected("image not reachable", found.reason, expected=True)
        pictures = self.folder.opened([found.file])
        answer = checked_text(item.data["caption"], what="the caption")
        return caption_record(self.name, item.key, rng=rng, questions=ASK_DESCRIPTION, caption=answer, **pictures)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, PixMoCap.name, root="the folder of allenai/pixmo-cap (Parquet)")
    add = parser.add_argument
    add("--download", action="store_true", help="fetch the images that are drawn from the web")
    add("--retry-failed", action="store_true", help="also ask again for images that an earlier run did not get")
    add("--workers", type=int, default=16, help="downloads at a time (16)")
    add(
        "--timeout",
        type=float,
        default=20.0,
        help="seconds for a connection and for each read, a tenth of a file's (20)",
    )
    add("--max-bytes", type=int, default=50_000_000, help="refuse larger files (50000000)")
    add("--private-hosts", action="store_true", help="also servers on private or local addresses")


def run(args: argparse.Namespace) -> int:
    """Convert and say what came out.

    Raises:
        UserError: an option is out of range, or as `writing.convert`.
    """
    for option, value in (("--workers", args.workers), ("--timeout", args.timeout), ("--max-bytes", args.max_bytes)):
        if value <= 0:
            raise UserError(f"{option} {value}: expected more than 0")
    parquet_files(args.root)
    folder = args.output / PixMoCap.name
    if not args.download and not (folder / "fetched.jsonl").is_file():
        raise UserError(
            f"{folder}: no images were downloaded there yet, and PixMo-cap has only their addresses; add --download"
        )
    ImageFolder(folder=folder, media_dir=args.media_dir, option="--output")  # before anything is written
    fetcher = Fetcher(
        folder=folder,
        download=args.download,
        retry_failed=args.retry_failed,
        timeout=args.timeout,
        max_bytes=args.max_bytes,
        private_hosts=args.private_hosts,
    )
    with fetcher:
        source = PixMoCap(root=args.root, fetcher=fetcher, media_dir=args.media_dir, workers=args.workers)
        return run_source(lambda _: source, args)
