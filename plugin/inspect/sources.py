"""What a run of `adcopilot inspect` is about: its pairs, from files, folders or a tree."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..cli.saying import say
from ..errors import UserError
from ..images import IMAGE_SUFFIXES, open_image, used_bits
from ..line.inspection import CALIBRATION, FILE
from .pairs import (
    NamePattern,
    Pair,
    TemplatePool,
    check_readable,
    find_images,
    find_pairs,
    masks_below,
    mvtec_queries,
)
from .result import printable

__all__ = ["check_outputs", "check_sources", "depth", "how_chosen", "plan"]


def check_sources(args: argparse.Namespace) -> bool:
    """Whether one pair is asked for (True) or several.

    Raises:
        UserError: not exactly one kind of template and one of query, or JSON lines under a picture's name.
    """
    if args.output and args.output.suffix.lower() in IMAGE_SUFFIXES:
        raise UserError(
            f"--output {args.output}: takes JSON lines, and this is a picture's name; write --draw {args.output}"
        )
    if args.mvtec:
        if args.template or args.query or args.template_dir or args.query_dir or args.pair_pattern:
            raise UserError("--mvtec brings templates and queries; leave out the other five options")
        return False
    if args.pair_pattern:
        if args.template or args.query or not args.query_dir:
            raise UserError(
                "--pair-pattern is for folders: give --query-dir DIR, and --template-dir DIR if it is another"
            )
        args.template_dir = args.template_dir or args.query_dir
    for kind in ("template", "query"):
        file, folder = getattr(args, kind), getattr(args, f"{kind}_dir")
        if bool(file) == bool(folder):
            raise UserError(f"give either --{kind} FILE or --{kind}-dir DIR (or --mvtec DIR alone)")
    folders = args.template_dir, args.query_dir
    pattern = NamePattern.parse(args.pair_pattern) if args.pair_pattern else None
    apart = pattern and pattern.query != pattern.template
    if all(folders) and not apart and folders[0].resolve() == folders[1].resolve():
        raise UserError(
            f"--template-dir and --query-dir are both {folders[1]}, whose pictures would be compared with each other; "
            "give a folder of good parts, or say which names belong together, such as "
            "--pair-pattern '{}_test.jpg={}_temp.jpg'"
        )
    return bool(args.template and args.query)


def check_outputs(args: argparse.Namespace) -> None:
    """Whether all that is written has a place of its own, where nothing is that is read.

    Raises:
        UserError: it names the two.
    """
    taken = {
        path.resolve(): name
        for name, path in (
            ("--query", args.query),
            ("--template", args.template),
            ("the line's file", Path(args.model) / FILE),
            ("the line's file", Path(args.model) / CALIBRATION),
        )
        if path
    }
    for name in ("output", "csv", "report", "draw", "save_maps"):
        path = getattr(args, name)
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        known = taken.setdefault(Path(path).resolve(), option)
        if known != option:
            raise UserError(f"{option} {path}: {known} is there too, and one would overwrite the other; give another")
    if args.csv and args.csv.suffix.lower() in IMAGE_SUFFIXES:
        raise UserError(f"--csv {args.csv}: takes a table, and this is a picture's name; give one that ends in .csv")


def plan(args: argparse.Namespace, *, bits: int | None = None) -> tuple[Iterator[Pair], list[TemplatePool], int]:
    """All pairs, found lazily; the pools that templates come from; the number of pairs."""
    each = args.map_templates
    if args.mvtec:
        categories = mvtec_queries(args.mvtec)
        # Equal names mean nothing in such a tree: every folder has its own 000.png.
        pools = [TemplatePool(folder=good, by_name=False, bits=bits) for _, good, _ in categories]

        def tree() -> Iterator[Pair]:
            for (category, _, queries), pool in zip(categories, pools, strict=True):
                for query in queries:
                    name = str(query.relative_to(args.mvtec))
                    yield from find_pairs(
                        [(query, name)], pool, templates=each, category=category, defect=query.parent.name
                    )

        return tree(), pools, sum(len(queries) for _, _, queries in categories)
    if args.query:
        queries = [(args.query, args.query.name)]
    else:
        queries = [(file, str(file.relative_to(args.query_dir))) for file in find_images(args.query_dir)]
        if masks := masks_below(args.query_dir):
            say(f"left out as masks, not inspected: {', '.join(str(path) for path in masks[:3])}")
    if args.template:
        if not args.query:
            open_image(args.template, bits=bits)  # one bad template for everything: say so before the model loads
        return one_template(queries, args.template), [], len(queries)
    pattern = NamePattern.parse(args.pair_pattern) if args.pair_pattern else None
    if pattern:
        found = [(file, name) for file, name in queries if pattern.template_for(Path(name).as_posix())]
        if not found:
            raise UserError(
                f"{args.query_dir}: none of its {len(queries)} images is a query by --pair-pattern "
                f"{args.pair_pattern!r}; one is called {queries[0][1]!r}"
            )
        if len(found) < len(queries):
            say(f"{len(queries) - len(found)} images are no queries by --pair-pattern")
        queries = found
    # Pictures to inspect that lie among the templates are not known to be good.
    among = args.query_dir and not pattern and is_inside(args.query_dir, args.template_dir)
    pool = TemplatePool(
        folder=args.template_dir,
        # a line's own templates are called as the pictures of some other day were
        by_name=not is_inside(args.template_dir, Path(args.model)),
        bits=bits,
        pattern=pattern,
        without=args.query_dir if among else None,
    )
    return find_pairs(queries, pool, templates=each), [pool], len(queries)


def is_inside(folder: Path, other: Path) -> bool:
    """Whether a folder lies in another, links followed."""
    return folder.resolve().is_relative_to(other.resolve())


def one_template(queries: Iterable[tuple[Path, str]], template: Path) -> Iterator[Pair]:
    """The same template for all queries."""
    for query, name in queries:
        try:
            check_readable(query)
            yield Pair(query=query, template=template, name=name)
        except UserError as error:
            yield Pair(query=query, template=template, name=name, error=str(error))


def depth(args: argparse.Namespace) -> int:
    """The bits a channel that all pictures of the run use, templates and queries alike; said once where files have
    more of them."""
    files = [path for path in (args.template, args.query) if path]
    for folder in (args.template_dir, args.query_dir, args.mvtec):
        files += find_images(folder) if folder else []
    bits = used_bits(files)
    if bits is not None and bits < 16:
        say(f"pictures of 16 bits a channel use {bits} of them: all are scaled by {(1 << bits) - 1}")
    return bits or 8


def how_chosen(args: argparse.Namespace, pools: list[TemplatePool]) -> str:
    """How templates were chosen, in words."""
    if not pools:
        return f"{printable(str(args.template))} for every query"
    chosen = sum((pool.chosen for pool in pools), Counter())
    return ", ".join(f"{chosen[way]} by {way}" for way in ("pattern", "equal names", "likeness"))
