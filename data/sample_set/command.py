"""`adcopilot data sample`: make the sample set."""

import argparse
from pathlib import Path

from adcopilot.cli.saying import say
from adcopilot.errors import UserError, writing
from adcopilot.sample.generate import SampleSplit, grpo_splits, standard_splits, varied_splits, write_sample
from adcopilot.sample.hints import media_root, write_hints
from adcopilot.sample.pairs import CATEGORIES
from adcopilot.sample.photographs import photographs
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
    parser.add_argument(
        "--hints",
        choices=("map",),
        help="also write each training split as NAME_hinted, told which places the anomaly map marks, as in inspect",
    )
    parser.add_argument(
        "--photographs",
        type=int,
        metavar="N",
        help="instead of all this: N good photographs of one part and half as many defective ones, in folders as "
        "`adcopilot adapt` reads them",
    )
    parser.add_argument("--part", choices=sorted(CATEGORIES), default="assembly", help="of --photographs (assembly)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefix", default="", help="put before the records' image paths, for a media_dir further up")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")


def run(args: argparse.Namespace) -> int:
    if args.photographs is not None:
        return _photographs(args)
    splits = standard_splits(args.count, test_count=args.test_count) if args.count else []
    if args.scenes:
        splits.insert(0, SampleSplit(name="base", count=args.scenes, number=1, single=True))

    if args.varied_tests:
        splits += varied_splits(args.test_count)
    if args.rl:
        splits += grpo_splits(args.rl, test_count=args.test_count)

    if args.hints:  # before the set is drawn
        media_root(args.output, args.prefix)
        if not args.count:
            raise UserError("--hints map finds its threshold on stage1, and --count 0 makes none; give a larger one")

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
    if args.hints:
        names = [split.name for split in splits]
        threshold = write_hints(args.output, names, prefix=args.prefix, workers=args.workers, progress=say)
        print(f"the same hints at inference: adcopilot inspect --hints map --map-threshold {threshold!r}")
    print(args.output / "manifest.json")
    return 0


def _photographs(args: argparse.Namespace) -> int:
    if args.photographs < 1 or args.size < 28:
        raise UserError(
            f"--photographs {args.photographs} --size {args.size}: expected 1 or more, of 28 pixels or more"
        )
    if args.output.is_dir() and any(args.output.iterdir()):
        raise UserError(f"{args.output}: not empty; photographs are drawn into a new folder: choose another --output")
    with writing(args.output, "make room, delete what was written, and run the same command again"):
        photographs(
            args.output,
            good=args.photographs,
            bad=args.photographs // 2,
            size=args.size,
            category=args.part,
            seed=args.seed,
        )
    print(args.output)
    return 0
