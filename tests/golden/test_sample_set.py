"""`adcopilot data sample`, and the checkpoint of `adcopilot init`: what this package makes from nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from .killing import killed

SAMPLE = ("data", "sample", "--count", 24, "--test-count", 6, "--scenes", 4, "--rl", 6, "--seed", 2, "--output", "out")


def test_sample(area, here, nursery):
    area.check("sample", {"stdout": here.text(here.run(*SAMPLE)), **here.files("out")})
    shutil.rmtree("out")
    area.check("sample", {"stdout": here.text(here.run(*SAMPLE, "--workers", 2)), **here.files("out")})
    out, last = Path("out"), Path("out/dataset_info.json")
    killed(nursery, out, *SAMPLE, when=lambda: len(list(out.rglob("*.png"))) >= 4, over=last.exists)
    area.check("sample", {"stdout": here.text(here.run(*SAMPLE)), **here.files("out")})


def test_init(area, here):
    """Names of all files; content of what is neither code nor weights nor about them: torch draws some of those."""
    said = here.run("init", "--preset", "tiny", "--output", "tiny")
    made = here.files("tiny")
    listed = "".join(f"{name}\n" for name in made)
    content = {name: one for name, one in made.items() if name.endswith((".json", ".jinja", ".txt"))}
    del content["tiny/adcopilot_check.json"]
    area.check("init", {"stdout": here.text(said), "names": listed, **content})
