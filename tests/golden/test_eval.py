"""`adcopilot eval …`: answers, scores and pages of every benchmark, asked of a stub endpoint."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.evaluation.backends.endpoint import Endpoint, completion, question
from tests.evaluation.benchmarks.captions.test_captions_dataset import clevr_folder, pairs_folder, spot_the_diff_folder
from tests.evaluation.benchmarks.mmad import mini_mmad, mini_mmad_repository
from tests.evaluation.benchmarks.records.test_records_command import file  # noqa: F401 - a fixture
from tests.evaluation.benchmarks.unipcb import mini_unipcb
from tests.evaluation.report.report_runs import EVIL

from .killing import killed, lines

#: Run → the benchmark, its data, further options.
RUNS = {
    "mmad": ("mmad", "MMAD"),
    "mmad-shots": ("mmad", "MMAD", "--shots", 2, "--domain-knowledge"),
    "mmad-thinking": ("mmad", "MMAD", "--thinking", "--image-side", 56),
    "mmad-logprobs": ("mmad", "MMAD", "--option-logprobs"),
    "mmad-protocol": ("mmad", "MMAD", "--protocol", "checkout"),
    "boxes": ("mmad-bbox", "MMAD", "--with-normal"),
    "boxes-whole": ("mmad-bbox", "MMAD", "--truth", "whole", "--min-area", 30),
    "unipcb": ("unipcb", "UniPCB", "--sbert", "none", "--bertscore", "none", "--judge-model", "judge"),
    "captions": ("caption", "pairs", "--tokenizer", "plain"),
    "captions-spot": ("caption", "spot", "--layout", "spot-the-diff", "--tokenizer", "plain"),
    "captions-clevr": ("caption", "clevr", "--layout", "clevr-change", "--tokenizer", "plain"),
}
PLAN = "run,name,samples,Encoder\nruns/mmad,Base,1000,no\nruns/mmad-shots,Shots,4000,yes\nruns/boxes,Base,1000,no\n"


def says(body, number: int = 0):
    """What the stub answers: in the form that is asked for, the rest drawn from all that it was sent."""
    seen = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    text = question(body)
    if "Answer to be graded" in text:
        return completion(json.dumps({"overall": 1 + seen[0] % 10}))
    if body.get("logprobs"):
        return with_logprobs("ABCD"[seen[0] % 4])
    if "A. " in text or "A) " in text:
        answer = "ABCD"[seen[0] % 4]
    elif "box" in text or "coordinates" in text or "坐标" in text:
        x, y = seen[0] % 30, seen[1] % 30
        answer = json.dumps([{"bbox_2d": [x, y, x + 20, y + 20], "label": "dent"}])
    else:
        answer = " ".join(["cup", "lamp", "car", "gone", "red"][value % 5] for value in seen[:4])
    return completion(f"<think>so</think><answer>{answer}</answer>" if "<think>" in text else answer)


def with_logprobs(letter: str):
    """A letter, and what the first token might have been."""
    top = [{"token": one, "logprob": -0.1 if one == letter else -3.0} for one in "ABCD"]
    found = completion(letter)
    found["choices"][0]["logprobs"] = {"content": [{"token": letter, "top_logprobs": top}]}
    return found


def asked(endpoint) -> str:
    """What an endpoint was asked, whatever came first, once each."""
    return "\n".join(sorted({json.dumps(body, ensure_ascii=False, sort_keys=True) for body in endpoint.bodies})) + "\n"


def words(run: str, endpoint, *more) -> tuple:
    """The command line of a run."""
    benchmark, data, *options = RUNS[run]
    judge = ["--judge-url", endpoint.url] if "--judge-model" in options else []
    return ("eval", benchmark, "--data-root", data, *asks(run, endpoint), *options, *judge, *more)


def asks(run: str, endpoint) -> list:
    """The options that say who is asked, and where to."""
    api = ["--backend", "api", "--base-url", endpoint.url, "--model", "stub-7B", "--family", "adcopilot"]
    return ["--output", f"runs/{run}", "--max-lost", 1, *api]


@pytest.fixture
def benchmarks(here, monkeypatch):
    """The four benchmarks in miniature; no Java, whose METEOR takes a quarter of a minute."""
    monkeypatch.setenv("PATH", str(here.folder))
    mini_mmad.build(Path("MMAD"))
    mini_mmad_repository.build(Path("checkout"))
    mini_unipcb.build(Path("UniPCB"))
    pairs_folder(Path("pairs"))  # whose colours are those of the length of its path
    spot_the_diff_folder(Path("spot"))
    clevr_folder(Path("clevr"))


def made(here, *names: str) -> dict:
    """The files of runs, without that which holds times of files."""
    return {name: one for name, one in here.files(*names).items() if not name.endswith("image-digests.json")}


def test_every_benchmark_and_the_report(area, here, benchmarks):
    with Endpoint(says) as endpoint:
        for run in RUNS:
            said = here.run(*words(run, endpoint, "--concurrency", 1))
            found = {"stdout": here.text(said), "requests": asked(endpoint), **made(here, f"runs/{run}")}
            endpoint.bodies.clear()
            area.check(run, found)
    again = {run: here.text(here.run("eval", RUNS[run][0], "--score", f"runs/{run}", "--max-lost", 1, "--json"))
             for run in ("mmad", "boxes")}  # fmt: skip
    area.check("scored again", again)
    (here.folder / "plan.csv").write_text(PLAN)
    runs = [f"{EVIL}=runs/{run}" if run == "mmad-logprobs" else f"runs/{run}" for run in RUNS]
    said = here.run("eval", "report", "--plan", "plan.csv", *runs, "--output", "report", "--against", "published")
    area.check("report", {"stdout": here.text(said), **here.files("report")})


def test_records(area, here, file):  # noqa: F811
    here.places[str(file.parent)] = "<above>"
    with Endpoint(says) as endpoint:
        said = here.run("eval", "records", "../parts.jsonl", *asks("records", endpoint), "--concurrency", 1)
        area.check("records", {"stdout": here.text(said), "requests": asked(endpoint), **made(here, "runs/records")})
    said = here.run("eval", "report", "runs/records", "again=runs/records", "--output", "report")
    area.check("report of records", {"stdout": here.text(said), **here.files("report")})


def test_several_requests_at_a_time_and_killed(area, here, benchmarks, nursery):
    """The same as one after another, after kill -9 in the middle too."""

    def slowly(body, number):
        time.sleep(0.03)
        return says(body)

    run, log = Path("runs/mmad"), Path("runs/mmad/answers.jsonl")
    with Endpoint(slowly) as endpoint:
        command = words("mmad", endpoint, "--concurrency", 4)
        killed(nursery, run, *command, when=lambda: lines(log) >= 5, over=lambda: lines(log) == 72)
        said = here.run(*command)
        area.check("mmad", {"stdout": here.text(said), "requests": asked(endpoint), **made(here, "runs/mmad")})
