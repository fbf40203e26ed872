"""`adcopilot inspect`: compare query images with templates of good parts, one pair or folders of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..images import open_image
from ..jsonl import JsonlLog, content_key, file_digest
from .pairs import IMAGE_SUFFIXES, Pair, TemplatePool, find_images, find_pairs, mvtec_queries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=Path, help="folder of an AD-Copilot (or Qwen2.5-VL) model")
    what = parser.add_argument_group("what to inspect (one pair, folders, or a tree)")
    what.add_argument("--template", type=Path, metavar="FILE", help="image of a good part")
    what.add_argument("--query", type=Path, metavar="FILE", help="image to inspect")
    what.add_argument("--template-dir", type=Path, metavar="DIR", help="images of good parts to choose from")
    what.add_argument("--query-dir", type=Path, metavar="DIR", help="images to inspect, in folders too")
    what.add_argument("--mvtec", type=Path, metavar="DIR", help="tree with <category>/train/good and <category>/test")
    out = parser.add_argument_group("what to write")
    out.add_argument("--json", action="store_true", help="print one JSON object a line instead of words")
    out.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON lines file; goes on where an earlier run stopped"
    )
    out.add_argument("--draw", metavar="FILE|DIR", help="picture of the pair with its boxes; a folder for several")
    how = parser.add_argument_group("how")
    how.add_argument("--question", help="ask this instead of training's question (to be answered by yes or no)")
    how.add_argument("--threshold", type=float, default=0.5, help="a score from here on is anomalous (0.5)")
    how.add_argument("--batch-size", type=int, default=4, help="pairs answered together (4)")
    how.add_argument("--max-new-tokens", type=int, default=512, help="longest answer (512)")
    how.add_argument("--image-max-pixels", type=int, help="as in training (the model folder's, else 589824)")
    how.add_argument("--image-min-pixels", type=int, help="as in training (the model folder's, else 1024)")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto)")
    how.add_argument("--dtype", default="auto", help="auto (bfloat16 on a GPU), float32, bfloat16, float16")
    how.add_argument(
        "--attention", default="sdpa", choices=("sdpa", "eager", "flash_attention_2"), help="kernels (sdpa)"
    )


def run(args: argparse.Namespace) -> int:
    single = check_sources(args)
    from .loading import check_folder

    check_folder(args.model)
    if single:  # a bad file is the whole run's error here
        open_image(args.template)
        open_image(args.query)
    pictures = Pictures(args.draw, single=single) if args.draw else None

    from tqdm import tqdm

    work, pools, total = plan(args)
    from .inspector import Inspector
    from .loading import model_digest

    options = ("device", "dtype", "attention", "image_max_pixels", "image_min_pixels", "threshold", "max_new_tokens")
    options = {name: getattr(args, name) for name in (*options, "batch_size")}
    if args.question is not None:
        options["question"] = args.question
    inspector = Inspector(model=args.model, **options)

    errors = 0
    with JsonlLog(path=args.output) if args.output else nullcontext() as log:
        stored = {record["key"]: record for record in log.records()} if args.output else {}
        digest = model_digest(args.model) if args.output else ""
        bar = tqdm(total=total, unit="pair", disable=single, file=sys.stderr)
        for batch in batches(work, args.batch_size):
            for pair, line in inspect_batch(inspector, batch, stored=stored, model=digest, log=log):
                bar.update()
                errors += "error" in line
                if pictures and "error" not in line:
                    pictures.draw(pair, line)
                shown = {key: value for key, value in line.items() if key not in ("key", "settings")}
                with bar.external_write_mode(file=sys.stdout):
                    print(json.dumps(shown, ensure_ascii=False) if args.json else in_words(shown), flush=True)
        bar.close()
    unusable = [message for pool in pools for message in pool.unusable]
    for message in unusable:
        print(f"left out as a template: {message}", file=sys.stderr)
    if errors or unusable:
        print(f"{errors} of {total} queries and {len(unusable)} templates could not be used", file=sys.stderr)
        return 1
    return 0


def check_sources(args: argparse.Namespace) -> bool:
    """Whether one pair is asked for (True) or several.

    Raises:
        UserError: not exactly one kind of template and one of query.
    """
    if args.mvtec:
        if args.template or args.query or args.template_dir or args.query_dir:
            raise UserError("--mvtec brings templates and queries; leave out the other four options")
        return False
    for kind in ("template", "query"):
        file, folder = getattr(args, kind), getattr(args, f"{kind}_dir")
        if bool(file) == bool(folder):
            raise UserError(f"give either --{kind} FILE or --{kind}-dir DIR (or --mvtec DIR alone)")
    return bool(args.template and args.query)


def plan(args: argparse.Namespace) -> tuple[Iterator[Pair], list[TemplatePool], int]:
    """All pairs, found lazily; the pools that templates come from; the number of pairs."""
    if args.mvtec:
        categories = mvtec_queries(args.mvtec)
        # Equal names mean nothing in such a tree: every folder has its own 000.png.
        pools = [TemplatePool(folder=good, by_name=False) for _, good, _ in categories]

        def tree() -> Iterator[Pair]:
            for (category, _, queries), pool in zip(categories, pools, strict=True):
                for query in queries:
                    name = str(query.relative_to(args.mvtec))
                    yield from find_pairs([(query, name)], pool, category=category, defect=query.parent.name)

        return tree(), pools, sum(len(queries) for _, _, queries in categories)
    if args.query:
        queries = [(args.query, args.query.name)]
    else:
        queries = [(file, str(file.relative_to(args.query_dir))) for file in find_images(args.query_dir)]
    if args.template:
        if not args.query:
            open_image(args.template)  # one bad template for everything: say so before the model loads
        return (Pair(query=query, template=args.template, name=name) for query, name in queries), [], len(queries)
    pool = TemplatePool(folder=args.template_dir, by_name=True)
    return iter(find_pairs(queries, pool)), [pool], len(queries)


def batches(work: Iterator[Pair], size: int) -> Iterator[list[Pair]]:
    """Lists of `size` pairs."""
    while batch := list(islice(work, size)):
        yield batch


def inspect_batch(
    inspector, batch: list[Pair], *, stored: dict[str, dict], model: str, log: JsonlLog | None
) -> Iterator[tuple[Pair, dict[str, Any]]]:
    """The line of each pair, in order: from the file of results if it is there, otherwise computed and written."""
    settings = inspector.settings()
    keys = [pair_key(pair, model, settings) if log is not None else "" for pair in batch]
    new = [pair for pair, key in zip(batch, keys, strict=True) if key not in stored]
    results = inspector.inspect((pair.template, pair.query) for pair in new if pair.error is None)
    for pair, key in zip(batch, keys, strict=True):
        if key in stored:
            yield pair, stored[key]
            continue
        if pair.error is not None:
            from .inspector import Result

            result = Result(query=str(pair.query), template=str(pair.template or ""), error=pair.error)
        else:
            result = next(results)
        line = {**result.as_dict(), **pair.extra}
        if log is not None:
            line = {"key": key, **line, "settings": {"model": str(inspector.folder), **settings}}
            log.append(line)
        yield pair, line


def pair_key(pair: Pair, model: str, settings: dict[str, Any]) -> str:
    """What a stored result is found again by: the content of model, query and template, the settings, the name."""

    def digest(file: Path | None) -> str:
        try:
            return file_digest(file) if file else "none"
        except UserError:
            return "unreadable"

    return content_key(model, settings, pair.name, digest(pair.query), digest(pair.template))


def in_words(line: dict[str, Any]) -> str:
    """A result for people: a verdict line, then what was said."""
    if "error" in line:
        return f"ERROR      {line['error']}"
    verdict = "ANOMALOUS" if line["anomalous"] else "normal"
    labels = ", ".join(f"{box['label'] or 'box'} {box['bbox_2d']}" for box in line["boxes"])
    text = " ".join(line["text"].split())
    return f"{verdict:<9}  {line['score']:.3f}  {line['query']}  {labels or text[:160]}".rstrip()


class Pictures:
    """Where pictures go: a file for one pair, a folder (with the queries' own folders in it) for several.

    Raises:
        UserError: a file is given for several pairs, or its suffix is not one that can be written.
    """

    def __init__(self, target: str, *, single: bool) -> None:
        self.path = Path(target)
        suffix = self.path.suffix.lower()
        self.is_folder = self.path.is_dir() or target.endswith("/") or not suffix
        if not single and not self.is_folder:
            raise UserError(f"--draw {target}: several pairs need a folder, not a file")
        if not self.is_folder and suffix not in IMAGE_SUFFIXES:
            raise UserError(f"--draw {target}: cannot write {suffix}; expected .png or .jpg, or a folder")

    def draw(self, pair: Pair, line: dict[str, Any]) -> None:
        """Draw a result; in a folder, a picture that an earlier run made is kept."""
        from ..drawing import draw_result, save_picture

        path = self.path
        if self.is_folder:
            path = path / (pair.name if pair.name.lower().endswith(".png") else f"{pair.name}.png")
        picture = draw_result(
            template=open_image(line["template"]),
            query=open_image(line["query"]),
            boxes=line["boxes"],
            anomalous=line["anomalous"],
            score=line["score"],
            template_name=Path(line["template"]).name,
            query_name=pair.name,
        )
        save_picture(picture, path)
