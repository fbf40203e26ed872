"""What the tiny preset answers and how it learns: numbers with a tolerance, since they differ between CPUs.

Its words are exact here: they are the same with torch's kernels for AVX-512, for AVX2 and for none of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.evaluation.benchmarks.mmad import mini_mmad
from tests.grpo.conftest import grpo_settings, policy_dir, policy_processor, rl_data, untrained_policy  # noqa: F401
from tests.inspect.conftest import part

from .killing import killed, lines
from .store import Numbers

pytestmark = pytest.mark.filterwarnings("ignore")

LOCAL = ("--device", "cpu", "--dtype", "float32")
PIECES = ("--mvtec", "tree")


#: Digests of the preset's weights, and of questions with them: the comparison encoder is drawn by torch, whose normal
#: numbers differ in the last bit between kernels.
OF_WEIGHTS = re.compile(r'"(key|model|model_digest|answers_hash)": "[0-9a-f]{32}"')


def numbers(here, *names: str) -> dict:
    """The files, numbers with a tolerance."""
    found = {}
    for name, one in here.files(*names).items():
        text = OF_WEIGHTS.sub(r'"\1": "<of the weights>"', one.decode())
        if name.endswith("answers.jsonl"):
            text = "".join(sorted(text.splitlines(keepends=True)))
        if not name.endswith("image-digests.json"):  # which holds times of files
            found[name] = Numbers(text)
    return found


@pytest.fixture
def model(here, untrained_policy):  # noqa: F811
    """The tiny preset as `tiny` in the working directory."""
    (here.folder / "tiny").symlink_to(untrained_policy)
    here.places[str(untrained_policy)] = "<tiny>"
    return "tiny"


@pytest.fixture
def pictures(here):
    """A tree in MVTec's form: two templates, three queries of three sizes."""
    sizes = [(84, 56), (120, 90), (56, 56)]
    for index in range(2):
        save(here.folder / f"tree/nut/train/good/{index}.png", part(index, size=sizes[index]))
    for index, kind in enumerate(("good", "scratch", "scratch")):
        save(here.folder / f"tree/nut/test/{kind}/{index}.png", part(15 + index, size=sizes[index], defect=index > 0))


def save(path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_inspect(area, here, model, pictures, nursery):
    command = ("inspect", "--model", model, *LOCAL, *PIECES, "--batch-size", 1, "--output", "lines.jsonl", "--json")
    said = here.run(*command, "--draw", "drawn")
    outputs = {"stdout": Numbers(here.text(said).decode()), **numbers(here, "lines.jsonl")}
    area.check("inspect", {**outputs, **here.files("drawn")})
    words = here.run("inspect", "--model", model, *LOCAL, *PIECES)
    area.check("inspect in words", {"stdout": Numbers(here.text(words).decode())})
    log = Path("lines.jsonl")
    killed(nursery, log, *command, when=lambda: lines(log) >= 1, over=lambda: lines(log) == 3)
    said = here.run(*command, "--draw", "drawn")
    outputs = {"stdout": Numbers(here.text(said).decode()), **numbers(here, "lines.jsonl")}
    area.check("inspect", {**outputs, **here.files("drawn")})


@pytest.mark.parametrize("benchmark", ["mmad", "mmad-bbox", "attention"])
def test_eval(area, here, model, benchmark):
    mini_mmad.build(here.folder / "MMAD", per_kind=1)
    where = ("--data-root", "MMAD", "--output", "run", "--model", model, *LOCAL)
    said = here.run("eval", benchmark, *where, "--limit", 2, "--max-new-tokens", 6, *LOST.get(benchmark, ()))
    area.check(benchmark, {"stdout": Numbers(here.text(said).decode()), **numbers(here, "run")})


#: `eval attention` reads no answers, so it loses none.
LOST = {"mmad": ("--max-lost", 1), "mmad-bbox": ("--max-lost", 1)}


def test_three_steps_of_grpo(area, here, policy_dir, rl_data):  # noqa: F811
    """Rewards, losses and completions of the first three steps, and the page about them."""
    settings = grpo_settings(policy_dir, rl_data, here.folder / "out", max_steps=3, save_steps=3, beta=0.05)
    (here.folder / "run.yaml").write_text(yaml.safe_dump(settings))
    for place, what in ((policy_dir, "<policy>"), (rl_data, "<data>")):
        here.places[str(place)] = what
    here.run("grpo", "run.yaml")
    state = json.loads((here.folder / "out/trainer_state.json").read_text())
    steps = [
        {name: value for name, value in row.items() if not name.startswith(TIMES)} for row in state["log_history"]
    ]
    log = "".join(json.dumps(row, sort_keys=True) + "\n" for row in steps)
    page = here.run("rollouts", "out")
    files = numbers(here, "out/rollouts.jsonl", "out/grpo.json")
    area.check("grpo", {"log": Numbers(log), "stdout": here.text(page), **files})


#: What is measured of a step, not learned in it.
TIMES = ("seconds", "step_time", "train_", "epoch", "total_flos")
