"""`adcopilot inspect`: compare query images with templates of good parts, one pair or folders of them."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..answering.families import split_thinking
from ..cli import StoreOnce
from ..errors import UserError
from ..images import open_image, used_bits
from ..jsonl import JsonlLog, content_key, file_digest
from ..trained_sizes import FAR_OUTSIDE
from ..verdict import decide
from .loading import check_folder, model_digest
from .pairs import (
    IMAGE_SUFFIXES,
    NamePattern,
    Pair,
    TemplatePool,
    check_readable,
    find_images,
    find_pairs,
    mvtec_queries,
)
from .pictures import Pictures, printable
from .result import Result
from .same_picture import SAME_PICTURE, is_same_picture

if TYPE_CHECKING:  # it needs torch, which takes seconds: only once the command line is known to be right
    from .inspector import Inspector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.register("action", None, StoreOnce)
    parser.add_argument("--model", required=True, type=Path, help="folder of an AD-Copilot (or Qwen2.5-VL) model")
    what = parser.add_argument_group("what to inspect (one pair, folders, or a tree)")
    what.add_argument(
        "--template", type=Path, metavar="FILE", help="image of a good part; one, as in training (else --template-dir)"
    )
    what.add_argument("--query", type=Path, metavar="FILE", help="image to inspect")
    what.add_argument("--template-dir", type=Path, metavar="DIR", help="images of good parts to choose from")
    what.add_argument("--query-dir", type=Path, metavar="DIR", help="images to inspect, in folders too")
    what.add_argument(
        "--pair-pattern",
        metavar="QUERY=TEMPLATE",
        help="which names belong together, in one folder or two: --query-dir PCB --pair-pattern "
        "'{}_test.jpg={}_temp.jpg'; '{}={}' for equal names",
    )
    what.add_argument("--mvtec", type=Path, metavar="DIR", help="tree with <category>/train/good and <category>/test")
    out = parser.add_argument_group("what to write")
    out.add_argument("--json", action="store_true", help="print one JSON object a line instead of words")
    out.add_argument("--output", type=Path, metavar="FILE", help="JSON lines file; continues an earlier run")
    out.add_argument("--draw", metavar="FILE|DIR", help="picture of the pair with its boxes; a folder for several")
    how = parser.add_argument_group("how")
    how.add_argument("--question", help="ask this instead of training's question (to be answered by yes or no)")
    how.add_argument("--threshold", type=float, default=0.5, help="a score from here on is anomalous (0.5)")
    how.add_argument(
        "--any-size", action="store_true", help="a verdict for pictures far outside the sizes of training too"
    )
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
    check_folder(args.model)
    bits = depth(args)
    if single:  # a bad file is the whole run's error here
        open_image(args.template, bits=bits)
        open_image(args.query, bits=bits)
    pictures = Pictures(args, single=single, bits=bits) if args.draw else None
    work, pools, total = plan(args, bits=bits)

    options = ("device", "dtype", "attention", "image_max_pixels", "image_min_pixels", "threshold", "max_new_tokens")
    options = {name: getattr(args, name) for name in (*options, "batch_size", "any_size")}
    if args.question is not None:
        options["question"] = args.question
    from tqdm import tqdm

    from .inspector import Inspector

    with JsonlLog(path=args.output) if args.output else nullcontext() as log, one_line_warnings():
        inspector = Inspector(model=args.model, **options)
        inspector.bits = bits
        digest = model_digest(args.model) if args.output else ""
        counts = Counter()
        with tqdm(total=total, unit="pair", disable=single, file=sys.stderr) as bar:
            for pair, line in inspect_all(inspector, work, model=digest, log=log):
                bar.update()
                counts["error" if "error" in line else line["verdict"]] += 1
                if FAR_OUTSIDE in line.get("reason", "") and not args.any_size:
                    counts["far"] += 1
                    if counts["far"] == 1:
                        told = f"undecided: {printable(line['reason'])}; --any-size gives a verdict all the same"
                        bar.write(told, file=sys.stderr)
                if pictures and "error" not in line:
                    pictures.draw(pair, line)
                if args.json or not args.output:
                    with bar.external_write_mode(file=sys.stdout):
                        print(as_json(line) if args.json else in_words(line), flush=True)
    unusable = [message for pool in pools for message in pool.unusable]
    for message in unusable:
        print(f"left out as a template: {message}", file=sys.stderr)
    if not single:
        print(f"templates: {how_chosen(args, pools)}", file=sys.stderr)
        print(
            f"{total} queries: {counts['anomalous']} anomalous, {counts['normal']} normal, "
            f"{counts['undecided']} undecided, {counts['error']} could not be inspected, "
            f"{len(unusable)} templates could not be used",
            file=sys.stderr,
        )
    return 1 if counts["error"] or unusable or (pictures and pictures.undrawn) else 0


def how_chosen(args: argparse.Namespace, pools: list[TemplatePool]) -> str:
    """How templates were chosen, in words."""
    if not pools:
        return f"{printable(str(args.template))} for every query"
    chosen = sum((pool.chosen for pool in pools), Counter())
    return ", ".join(f"{chosen[way]} by {way}" for way in ("pattern", "equal names", "likeness"))


def depth(args: argparse.Namespace) -> int:
    """The bits a channel that all pictures of the run use, templates and queries alike; said once where files have
    more of them."""
    files = [path for path in (args.template, args.query) if path]
    for folder in (args.template_dir, args.query_dir, args.mvtec):
        files += find_images(folder) if folder else []
    bits = used_bits(files)
    if bits is not None and bits < 16:
        print(
            f"pictures of 16 bits a channel use {bits} of them: all are scaled by {(1 << bits) - 1}", file=sys.stderr
        )
    return bits or 8


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show the package's own warnings (an animation, of which only the first frame counts) as one line."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        yield


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


def plan(args: argparse.Namespace, *, bits: int | None = None) -> tuple[Iterator[Pair], list[TemplatePool], int]:
    """All pairs, found lazily; the pools that templates come from; the number of pairs."""
    if args.mvtec:
        categories = mvtec_queries(args.mvtec)
        # Equal names mean nothing in such a tree: every folder has its own 000.png.
        pools = [TemplatePool(folder=good, by_name=False, bits=bits) for _, good, _ in categories]

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
            print(f"{len(queries) - len(found)} images are no queries by --pair-pattern", file=sys.stderr)
        queries = found
    # Pictures to inspect that lie among the templates are not known to be good.
    among = args.query_dir and not pattern and is_inside(args.query_dir, args.template_dir)
    pool = TemplatePool(
        folder=args.template_dir,
        by_name=True,
        bits=bits,
        pattern=pattern,
        without=args.query_dir if among else None,
    )
    return find_pairs(queries, pool), [pool], len(queries)


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


def inspect_all(
    inspector: Inspector, work: Iterable[Pair], *, model: str, log: JsonlLog | None
) -> Iterator[tuple[Pair, dict[str, Any]]]:
    """The line of each pair, in order: the stored one if the log has it, otherwise computed and appended."""
    settings = inspector.settings()
    stored = {record["key"]: record for record in log.records()} if log is not None else {}
    waiting: deque[tuple[Pair, str]] = deque()  # read ahead by the inspector, not given out yet

    def is_new(pair: Pair, key: str) -> bool:
        return pair.error is None and key not in stored

    def new_pairs() -> Iterator[tuple[Path, Path]]:
        for pair in work:
            key = pair_key(pair, model, settings) if log is not None else ""
            waiting.append((pair, key))
            if is_new(pair, key):
                yield pair.template, pair.query

    def old_line(pair: Pair, key: str) -> dict[str, Any]:
        names = {"query": str(pair.query), "template": str(pair.template) if pair.template else None}
        if key in stored:  # the same images under another path are still the same result
            return with_verdict({**stored[key], **names}, threshold=inspector.threshold)
        return write(pair, key, Result(**names, error=pair.error))

    def write(pair: Pair, key: str, result: Result) -> dict[str, Any]:
        line = {**result.as_dict(), **pair.extra}
        if log is not None:
            line = {"key": key, **line, "settings": {"model": str(inspector.folder), **settings}}
            log.append(line)
        return line

    for result in inspector.inspect(new_pairs()):
        while not is_new(*waiting[0]):
            pair, key = waiting.popleft()
            yield pair, old_line(pair, key)
        pair, key = waiting.popleft()
        yield pair, write(pair, key, result)
    while waiting:
        pair, key = waiting.popleft()
        yield pair, old_line(pair, key)


def with_verdict(line: dict[str, Any], *, threshold: float) -> dict[str, Any]:
    """A stored line; one of a version that knew no third verdict gets the one that it would get today."""
    if "verdict" in line or "error" in line:
        return line
    doubts = [SAME_PICTURE] if is_same_file(line["template"], line["query"]) else []
    said = split_thinking(line["text"])[1]
    counts = said == line["text"].strip()  # else reasoning came first, and the score is not the answer's
    found = decide(
        score=line["score"] if counts else None,
        yes_no_mass=line.get("yes_no_mass") if counts else None,
        threshold=threshold,
        answer=said,
        doubts=doubts,
    )
    line = {**line, "verdict": found.word, "anomalous": found.anomalous}
    return line if found.reason is None else {**line, "reason": found.reason}


def is_same_file(template: str | None, query: str) -> bool:
    """Whether two files hold the same picture; False where one cannot be opened any more."""
    try:
        return template is not None and is_same_picture(open_image(template), open_image(query))
    except UserError:
        return False


def pair_key(pair: Pair, model: str, settings: dict[str, Any]) -> str:
    """What a stored result is found again by: the content of model, query and template, the settings, the name."""

    def digest(file: Path | None) -> str:
        try:
            return file_digest(file) if file else "none"
        except UserError:
            return "unreadable"

    return content_key(model, settings, pair.name, digest(pair.query), digest(pair.template))


def as_json(line: dict[str, Any]) -> str:
    """A result for programs; what only resuming needs stays in the file of results."""
    line = {name: value for name, value in line.items() if name not in ("key", "settings")}
    text = json.dumps(line, ensure_ascii=False)
    # A file name that is not UTF-8 can be printed only escaped.
    return text if text.isprintable() else json.dumps(line)


def in_words(line: dict[str, Any]) -> str:
    """A result for people, in one line: verdict, score, file, what was said."""
    if "error" in line:
        return f"ERROR      -----  {printable(line['error'])}"
    verdict = "normal" if line["verdict"] == "normal" else line["verdict"].upper()
    score = "-----" if line["score"] is None else f"{line['score']:.3f}"
    text = " ".join((line.get("reason") or line["text"]).split())
    text = text if len(text) <= 400 else text[:399] + "…"
    return printable(f"{verdict:<9}  {score}  {line['query']}  {text}").rstrip()
