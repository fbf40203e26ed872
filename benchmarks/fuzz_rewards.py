"""A million broken, hostile and nearly right completions through the rewards.

None may raise, leave [0, 1 + lambda], or take long.

    python benchmarks/fuzz_rewards.py [--count 1000000] [--output docs/results/fuzz-rewards.md]

Completions are put together from pieces of right answers, damaged JSON, deep nesting, huge numbers, look-alike tags
and random characters; some are then cut. The seed makes them; a failure prints its number and text.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from adcopilot import __version__
from adcopilot.grpo.rewards import score

PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "<THINK>", "< think>", "<think/>", "<<answer>>", "</answer",
    "think>", "A", "B", "C.", "(D)", "A and B", "The answer is C", "ABCD", "B. scratch", "none", "\n", "  ", "\t", "",
    '[{"bbox_2d": [10, 20, 300, 400], "label": "scratch"}]', '{"bbox_2d": [1e308, -1e308, 5, 5]}', '"bbox_2d": [',
    "]]]]", '{"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]]}', "{'bbox_2d': [0, 0, 50, 50], 'label': 'x'}",
    '{"bbox_2d": [NaN, 1, 2, 3]}',
    "}{", '{"bbox_2d": [3, 2, 1, 0]}',
    '{"bbox_2d": [' + "9" * 400 + ", 1, 2, 3]}", "[" * 60, "{" * 60, '{"a":' * 40, '"' * 31,
    "```json\n", "```", "\\", '\\"', "\u200b", "\u202e", "\x00", "\ud7ff", "é" * 20, "<|image_pad|>", "<image>", "𝔸",
    '"bbox_2d": [1, 2, 3, 4]' * 12, "1,2,3,4," * 30, " " * 200, "[1, 2, 3, 4]", '{"label": "a"}', "null", "Infinity",
]  # fmt: skip


def completion(rng: random.Random) -> str:
    """One text; usually short, now and then some thousand characters."""
    kind = rng.random()
    parts = [rng.choice(PIECES) for _ in range(rng.randint(0, 12))]
    if kind < 0.3:
        parts = ["<think>", *parts[:4], "</think>", "<answer>", *parts[4:7], "</answer>", *parts[9:]]
    elif kind < 0.4:
        parts += ["".join(chr(rng.choice((rng.randint(1, 126), rng.randint(1, 0xD7FF)))) for _ in range(40))]
    elif kind < 0.42:
        parts *= 20
    text = "".join(parts)
    if rng.random() < 0.2 and text:
        start, stop = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
        text = text[start:stop] if rng.random() < 0.5 else text[:start] + text[stop:]
    return text


def records(folder: Path) -> list[dict]:
    """One record of each kind of truth: letter, mask, boxes, nothing to find."""
    rng = np.random.default_rng(0)
    Image.new("RGB", (640, 480)).save(folder / "q.png")
    mask = np.zeros((480, 640), dtype=bool)
    for _ in range(5):
        x, y = rng.integers(0, 560), rng.integers(0, 400)
        mask[y : y + 60, x : x + 70] = True
    Image.fromarray(mask).save(folder / "m.png")
    question = {"role": "user", "content": "<image><image>What is it?\nA. hole\nB. scratch\nC. dent\nD. none"}
    common = {"messages": [question], "images": ["q.png", "q.png"]}
    box = [[10, 20, 300, 400]]
    return [
        {**common, "key": "mc", "answer": "B"},
        {**common, "key": "mask", "answer": json.dumps([{"bbox_2d": box[0]}]), "mask": "m.png", "boxes": box},
        {**common, "key": "boxes", "answer": "[]", "mask": "", "boxes": box},
        {**common, "key": "nothing", "answer": "[]", "mask": "", "boxes": []},
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rng, weight = random.Random(args.seed), 0.5
    times = np.zeros(args.count, dtype=np.float32)
    seen = {"format kept": 0, "answer above 0": 0, "both": 0}
    longest = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        some = records(folder)
        for number in tqdm(range(args.count), disable=None):
            text, record = completion(rng), some[number % len(some)]
            start = time.thread_time()  # of the processor: the machine may do other work
            try:
                found = score(text, record, format_weight=weight, media_dir=folder)
            except Exception as error:
                print(f"{number}: {type(error).__name__} {error}; record {record['key']}, text {text!r}")
                return 1
            times[number] = time.thread_time() - start
            fits = found["format"] in (0, 1) and 0 <= found["answer"] <= 1 and 0 <= found["total"] <= 1 + weight
            if not fits:
                print(f"{number}: {found}; record {record['key']}, text {text!r}")
                return 1
            longest = max(longest, len(text))
            seen["format kept"] += found["format"] == 1
            seen["answer above 0"] += found["answer"] > 0
            seen["both"] += found["format"] == 1 and found["answer"] > 0
    milliseconds = 1000 * times
    lines = [
        "# Rewards of a million fuzzed completions",
        "",
        f"`python benchmarks/fuzz_rewards.py`, {date.today()}, seed {args.seed}, adcopilot {__version__}.",
        "",
        f"{args.count:,} completions of up to {longest:,} characters, against a letter, a mask of 640 × 480, boxes,",
        f"and nothing to find: none raised an exception or left [0, 1 + {weight}]. "
        + ", ".join(f"{name}: {count:,}" for name, count in seen.items())
        + ".",
        "",
        "Milliseconds each: "
        + ", ".join(
            f"{name} {value:.3f}"
            for name, value in (
                ("mean", milliseconds.mean()),
                ("median", np.median(milliseconds)),
                ("99.9 %", np.percentile(milliseconds, 99.9)),
                ("longest", milliseconds.max()),
            )
        )
        + " of processor time.",
        "",
    ]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
