"""`python -m adcopilot.evaluation.lmms.convert MMAD --output FILE.jsonl`: MMAD's questions as documents for lmms-eval.

Each line is a question of `adcopilot eval mmad`: the same words, templates and key. Options and what scoring needs are
JSON texts, for a table has columns of one type.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.jsonl import write_jsonl
from adcopilot.records import IMAGE_PLACEHOLDER

from ..benchmarks.mmad import dataset
from ..benchmarks.mmad.prompts import items, own_words, read_prompts

__all__ = ["convert", "documents"]


def documents(asked: Iterable[Item]) -> list[dict[str, Any]]:
    """Items as documents of one type a column."""
    return [
        {
            "key": item.key,
            "images": [str(path.resolve()) for path in item.images],
            "prefix": "".join(part if isinstance(part, str) else IMAGE_PLACEHOLDER for part in item.prefix),
            "question": item.question,
            "options": json.dumps(dict(item.options or {}), ensure_ascii=False),
            "reference": item.reference,
            "meta": json.dumps(dict(item.meta), ensure_ascii=False),
        }
        for item in asked
    ]


def convert(root: Path, output: Path, *, shots: int = 1, kind: str = "random", limit: int | None = None) -> int:
    """Write the documents of MMAD below `root`; how many.

    Raises:
        UserError: it is no MMAD, or images are missing.
    """
    samples, _ = dataset.load(root)
    samples = samples[:limit]
    names = [name for one in samples for name in (one.image, *dataset.templates(one, shots=shots, kind=kind))]
    missing = dataset.check_files(root, names)
    if missing:
        raise UserError(dataset.missing_files_message(root, missing, total=len(set(names))))
    words = own_words(read_prompts(None), shots=shots)
    made = documents(items(samples, root=root, shots=shots, kind=kind, words=words))
    write_jsonl(output, made)
    return len(made)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adcopilot.evaluation.lmms.convert", description=__doc__)
    parser.add_argument("root", type=Path, metavar="MMAD", help="the benchmark's folder, with mmad.json")
    parser.add_argument("--output", type=Path, default=Path("adcopilot_mmad.jsonl"), metavar="FILE")
    parser.add_argument("--shots", type=int, default=1, help="templates before each image (1)")
    parser.add_argument("--template", default="random", choices=("random", "similar"), help="which ones (random)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    args = parser.parse_args(argv)
    try:
        count = convert(args.root, args.output, shots=args.shots, kind=args.template, limit=args.limit)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {count} questions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
