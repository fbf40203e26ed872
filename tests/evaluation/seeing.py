"""The four benchmarks in miniature, asked of a backend whose answers depend on what it is shown."""

from __future__ import annotations

import hashlib
import json

from PIL import Image

from adcopilot import cli
from adcopilot.answering.base import Reply
from adcopilot.answering.families import FAMILIES
from adcopilot.evaluation.benchmarks import NAMES
from adcopilot.evaluation.report.sources import read_source

from .benchmarks.captions.test_captions_dataset import pairs_folder
from .benchmarks.mmad import mini_mmad
from .benchmarks.unipcb import mini_unipcb

MODULES = {name: NAMES[name] for name in ("mmad", "mmad-bbox", "unipcb", "caption")}
#: How a first part of a benchmark is asked, and an image of it.
PARTS = {
    "mmad": ("--category", "bottle"),
    "mmad-bbox": ("--category", "bottle"),
    "unipcb": ("--limit", "2"),
    "caption": ("--category", "street"),
}
IMAGES = {
    "mmad": "DS-MVTec/bottle/image/broken_large/000.png",
    "mmad-bbox": "DS-MVTec/bottle/image/broken_large/000.png",
    "unipcb": "data/benchmark/raw/FPIC/bbox_noclass/a.jpg",
    "caption": "real/c.png",
}


class Seeing:
    """What it says depends on the pixels that it is shown last, so another image has another answer."""

    name, family = "seeing", FAMILIES["qwen2.5-vl"]

    def __init__(self):
        self.asked = []

    def describe(self):
        return {"backend": "seeing", "model": "seeing", "family": self.family.name}

    def model_size(self, size):
        return size

    def answer(self, items, *, max_new_tokens):
        for item in items:
            self.asked.append(item.key)
            yield item, Reply(text=self.says(item))

    def says(self, item):
        seen = hashlib.sha256(item.images[-1].read_bytes() + item.question.encode()).digest()
        if item.options:
            return list(item.options)[seen[0] % len(item.options)]
        if item.meta.get("role") == "boxes" or item.meta.get("form") == "boxes":
            x, y = seen[0] % 30, seen[1] % 30
            return json.dumps([{"bbox_2d": [x, y, x + 20, y + 20], "label": "dent"}])
        return " ".join(["cup", "lamp", "car", "gone", "red"][value % 5] for value in seen[:4])


class Bench:
    """A miniature benchmark with its commands: `run`, `score`, and what is stored."""

    def __init__(self, benchmark, folder, monkeypatch, capsys):
        self.benchmark, self.folder, self.capsys = benchmark, folder / "run", capsys
        build = {"unipcb": mini_unipcb.build, "caption": pairs_folder}.get(benchmark, mini_mmad.build)
        self.root = build(folder / "data")
        self.backend = Seeing()
        module = f"adcopilot.evaluation.benchmarks.{MODULES[benchmark]}.command"
        monkeypatch.setattr(f"{module}.make_backend", lambda args: self.backend)
        none = ["--sbert", "none", "--bertscore", "none"]
        self.scoring = {"unipcb": none, "caption": ["--tokenizer", "plain"]}.get(benchmark, [])
        self.image = self.root / IMAGES[benchmark]

    def words(self, *options):
        return ["eval", self.benchmark, *self.scoring, "--json", "--max-lost", "1", *map(str, options)]

    def run(self, *options, code=0):
        self.backend.asked.clear()
        words = self.words("--data-root", self.root, "--model", "seeing", "--output", self.folder, *options)
        assert cli.main(words) == code
        captured = self.capsys.readouterr()
        self.err = captured.err
        return json.loads(captured.out) if captured.out else None

    def score(self, *options, code=0, folder=None):
        assert cli.main(self.words("--score", folder or self.folder, *options)) == code
        captured = self.capsys.readouterr()
        self.err = captured.err
        return json.loads(captured.out)

    def stored(self):
        return json.loads((self.folder / "results.json").read_text())

    def replace(self, image=None, colour=(9, 99, 199)):
        path = image or self.image
        old = path.read_bytes()
        with Image.open(path) as opened:
            size = opened.size
        Image.new("RGB", size, colour).save(path)
        return old

    def agree(self):
        """The figures of the last run, which --score and the report have too."""
        stored, again = self.stored(), self.score()
        for name, value in again.items():
            assert stored[name] == value, name
        source = read_source(str(self.folder))
        assert source.results == stored
        assert len(source.records) == stored["answered"]
        assert "older than its answers" not in source.partial
        return stored
