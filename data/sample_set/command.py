"""`adcopilot data sample`: make the sample set."""

import argparse
from pathlib import Path

from adcopilot.cli.saying import say
from adcopilot.sample.generate import Split, grpo_splits, standard_splits, varied_splits, write_sample
from adcopilot.sample.variation import VARIATIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", required=True, type=Path, help="folder to write; a run that was killed goes on there"
    )
    parser.add_argument("--count", type=int, default=76_000, help="training pairs over the three stages (76000)")
    parser.add_argument("--test-count", type=int, default=400, help="pairs of each test set (400)")
    parser.add_argument("--scenes", type=int, default=0, help="single images for the tiny base's pretraining (0)")
    parser.add_argument(
        "--rl",
        type=int,
        default=0,
        help="prompts with verifiable answers for GRPO, and as many answered with reasons (0)",
    )
    parser.add_argument("--size", type=int, default=56, help="side of a pair's images in pixels (56)")
    parser.add_argument(
        "--variation",
        choices=VARIATIONS,
        default="none",
        help="what good parts may differ in besides pose: loose parts and prints, light, both (none)",
    )
    parser.add_argument(
        "--varied-tests",
        action="store_true",
        help="two more test sets in which parts and light vary, whatever --variation is",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefix", default="", help="put before the records' image paths, for a media_dir further up")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")


def run(args: argparse.Namespace) -> int:
    splits = standard_splits(args.count, test_count=args.test_count) if args.count else []
    if args.scenes:
        splits.insert(0, Split(name="base", count=args.scenes, number=1, single=True))

    if args.varied_tests:
        splits += varied_splits(args.test_count)
    if args.rl:
        splits += grpo_splits(args.rl, test_count=args.test_count)

    write_sample(
        args.output,
        splits,
        seed=args.seed,
        size=args.size,
        prefix=args.prefix,
        workers=args.workers,
        variation=args.variation,
        progress=say,
    )
    print(args.output / "manifest.json")
    return 0
