"""`adcopilot data convert olmo-sft`: OLMo 2's instruction mixture, text without images.

ROOT/data/train-….parquet      columns id, messages [{role, content}, …], source
"""

from __future__ import annotations

import argparse

from .command import add_common_arguments, run_source
from .conversations import ParquetText

NAME = "OLMo-2-SFT"
LICENCE = "tulu-3-sft-olmo-2-mixture (Ai2): ODC-BY 1.0, parts under their own terms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, NAME, root="the folder of allenai/tulu-3-sft-olmo-2-mixture (Parquet)", images=False)


def run(args: argparse.Namespace) -> int:
    """Convert and say what came out.

    Raises:
        UserError: as `writing.convert`.
    """
    return run_source(ParquetText(name=NAME, version=1, licence=LICENCE, root=args.root), args)
