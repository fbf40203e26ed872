"""`adcopilot data convert olmo-sft`: OLMo 2's instruction mixture, text without images.

ROOT/data/train-….parquet      columns id, messages [{role, content}, …], source
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .command import add_common_arguments, run_source
from .parquet import parquet_files, parquet_rows
from .source import GeneralSource, RawSample
from .texts import checked_record, conversation_turns


class OlmoSft(GeneralSource):
    """OLMo 2's mixture as a `source.GeneralSource` of text without images.

    Args:
        root: the folder that holds the Parquet files.

    Raises:
        UserError: there are none.
    """

    name = "OLMo-2-SFT"
    licence = "tulu-3-sft-olmo-2-mixture (Ai2): ODC-BY 1.0, parts under their own terms"

    def __init__(self, *, root: Path) -> None:
        self.root, self.files = root, parquet_files(root)
        self.options: dict[str, Any] = {}

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """As `GeneralSource.items`, in the order of the files and their rows."""
        for ordinal, path, row, values in parquet_rows(self.files, columns=["id", "messages"], chosen=chosen):
            key = f"{values['id']}#{ordinal}"
            yield RawSample(ordinal=ordinal, key=key, where=f"{path}: row {row} ({key[:80]})", data=values)

    def check(self, item: RawSample) -> None:
        """The conversation is sound."""
        conversation_turns(item.data["messages"], role="role", content="content", images=0)

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The conversation as it is."""
        system, turns = conversation_turns(item.data["messages"], role="role", content="content", images=0)
        return checked_record(self.name, item.key, turns=turns, system=system)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    root = "the folder of allenai/tulu-3-sft-olmo-2-mixture (Parquet)"
    add_common_arguments(parser, OlmoSft.name, root=root, images=False)


def opened(args: argparse.Namespace) -> OlmoSft:
    """The source that the options name."""
    return OlmoSft(root=args.root)


run = partial(run_source, opened)
