"""Which of MMAD's samples a command asks about, and with which templates: for all commands over MMAD's images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from adcopilot.errors import UserError

from ... import selection
from ...options import add_benchmark_arguments
from . import dataset

__all__ = ["add_arguments", "choose"]


def add_arguments(parser: argparse.ArgumentParser, **helps: str) -> Any:
    """`add_benchmark_arguments` with the number and choice of templates; the group "the benchmark"."""
    group = add_benchmark_arguments(parser, data_root="MMAD's folder, with mmad.json", **helps)
    group.add_argument("--shots", type=int, default=1, metavar="K", help="templates shown with each query image (1)")
    group.add_argument(
        "--template", default="random", choices=tuple(dataset.TEMPLATE_FIELDS), help="which templates (random)"
    )
    return group


def choose(
    args: argparse.Namespace, *, keep: Callable[[dataset.MmadSample], bool] | None = None
) -> tuple[list[dataset.MmadSample], str]:
    """The samples that the options ask for, their images all in place, and the hash of `mmad.json`.

    Args:
        args: the command line.
        keep: those samples it is false for are left out before anything is counted.

    Raises:
        UserError: the layout is wrong, a category is unknown, images are missing, or nothing is left.
    """
    if args.shots < 0:
        raise UserError(f"--shots is {args.shots}, expected 0 or more")
    samples, digest = dataset.load(args.data_root)

    def files(sample: dataset.MmadSample) -> tuple[str, ...]:
        return sample.image, *dataset.templates(sample, shots=args.shots, kind=args.template)

    def missing(names: list[str]) -> tuple[list[str], str]:
        gone = dataset.check_files(args.data_root, names)
        return gone, dataset.missing_files_message(args.data_root, gone, total=len(names))

    chosen = selection.choose(
        args,
        samples,
        keep=keep,
        names=lambda sample: (sample.dataset, sample.category, f"{sample.dataset}/{sample.category}"),
        kinds="category or dataset",
        outer=lambda sample: sample.dataset,
        inner=lambda sample: (sample.category, sample.normal),
        name=lambda sample: sample.image,
        files=files,
        missing=missing,
        plural="samples",
    )
    return chosen, digest
