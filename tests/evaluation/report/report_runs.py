"""Runs to report about: real commands on miniature benchmarks, with a backend whose answers a test decides."""

from __future__ import annotations

import csv
import hashlib
import random
from pathlib import Path
from typing import Any

from adcopilot import cli
from adcopilot.answering.base import Reply
from adcopilot.answering.families import FAMILIES
from adcopilot.evaluation.benchmarks import NAMES

EVIL = "</script><img src=x onerror='window.pwned = 1'>|*x*`"


class Scripted:
    """Right on a share of the questions that only the question and `luck` decide; what it says may be hostile."""

    def __init__(self, *, name: str, share: float, luck: str = "", words: str = "") -> None:
        self.name, self.share, self.luck, self.words = name, share, luck, words
        self.family = FAMILIES["qwen2.5-vl"]

    def describe(self) -> dict[str, Any]:
        return {"backend": "scripted", "model": self.name, "family": self.family.name, "decoding": "greedy",
                "images": {"max_pixels": 12_345}, "versions": {"adcopilot": "0", "torch": "9.9"}}  # fmt: skip

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def answer(self, items, *, max_new_tokens):
        for item in items:
            yield item, self.reply(item)

    def reply(self, item) -> Reply:
        name = f"{item.meta.get('image', item.key)}{item.meta.get('question')}{self.luck}"
        dice = random.Random(hashlib.sha256(name.encode()).hexdigest())
        right = dice.random() < self.share
        if item.options and item.meta.get("type"):
            others = [letter for letter in item.options if letter != item.reference]
            letter = item.reference if right else dice.choice(others)
            logprobs = {one: -0.1 if one == letter else -3.0 for one in item.options}
            return Reply(text=f"{self.words} {letter}".strip(), option_logprobs=logprobs, seconds=0.01)
        x, y = (10, 14) if right else (30, 40)
        x2, y2 = x + 20, y + 12
        return Reply(text=f'[{{"bbox_2d": [{x}, {y}, {x2}, {y2}], "label": "{self.words or "dent"}"}}]', seconds=0.01)


def evaluate(monkeypatch, benchmark: str, root: Path, run: Path, backend: Scripted, *options: Any) -> Path:
    """`adcopilot eval mmad` or `mmad-bbox` with the backend; the run's folder."""
    monkeypatch.setattr(f"adcopilot.evaluation.benchmarks.{NAMES[benchmark]}.command.make_backend", lambda _: backend)
    words = ["eval", benchmark, "--data-root", root, "--model", backend.name, "--output", run, *options]
    assert cli.main([str(word) for word in words]) == 0
    return run


def report(*args: Any, code: int = 0) -> None:
    """`adcopilot eval report` with these words."""
    assert cli.main(["eval", "report", *map(str, args)]) == code


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table of the report."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make_runs(monkeypatch, root: Path, folder: Path) -> list[str]:
    """Two models on MMAD, two on MMAD-BBox; the second of each better. One of them says hostile things."""
    weak, strong = Scripted(name="Weak-7B", share=0.4), Scripted(name="Strong-7B", share=0.85)
    evil = Scripted(name="Evil", share=0.6, luck="e", words=EVIL)
    return [
        str(evaluate(monkeypatch, "mmad", root, folder / "weak", weak)),
        str(evaluate(monkeypatch, "mmad", root, folder / "strong", strong)),
        f"{EVIL}={evaluate(monkeypatch, 'mmad', root, folder / 'evil', evil, '--shots', 2)}",
        str(evaluate(monkeypatch, "mmad-bbox", root, folder / "boxes-weak", weak, "--with-normal")),
        str(evaluate(monkeypatch, "mmad-bbox", root, folder / "boxes-strong", strong, "--with-normal")),
    ]
