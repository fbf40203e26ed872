"""The rehearsal of `make bench-gpu`: the same code on a narrow model, and a page without a claim."""

import json
from importlib.util import find_spec

import pytest
import torch

from benchmarks import gpu


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    assert gpu.main(["--rehearse", "--side", "56", "--rounds", "1", "--output", str(folder / "gpu")]) == 0
    return json.loads((folder / "gpu.json").read_text()), (folder / "gpu.md").read_text()


def test_each_row_has_both_models(rehearsed):
    result, _ = rehearsed
    found = {(row["what"], row["model"]) for row in result["rows"]}
    stages = {(f"stage {stage}", model) for stage in (1, 2) for model in gpu.MODELS}
    assert found == {("generation", model) for model in gpu.MODELS} | stages | {("stage 0", "AD-Copilot")}
    for row in result["rows"]:
        keys = ("prefill_seconds", "decode_seconds") if row["what"] == "generation" else ("step_seconds",)
        assert all(0 < row[key]["least"] <= row[key]["median"] <= row[key]["most"] for key in keys)
    assert result["versions"]["torch"] == torch.__version__.partition("+")[0] or result["versions"]["torch"]
    # tests/vllm/test_rollouts_benchmark.py has them
    assert result["left_out"] == ([] if find_spec("vllm") else ["rollouts: vLLM is not installed here"])


def test_the_page_says_that_it_is_a_rehearsal(rehearsed):
    _, page = rehearsed
    assert "its numbers mean nothing" in page
    assert page.count("| ratio |") == 3
    assert "`python benchmarks/gpu.py --rehearse" in page


def test_what_there_is_no_time_for_is_listed():
    bench = gpu.Bench(torch.device("cpu"), minutes=0, narrow=True, rounds=1)
    result = gpu.measure(bench, [56, 112])
    assert result["rows"] == []
    assert result["left_out"][:2] == ["generation, sdpa, 56", "generation, sdpa, 112"]
    assert len(result["left_out"]) == 9
    assert result["left_out"][-1].startswith("rollouts")


def test_what_does_not_fit_is_said():
    bench = gpu.Bench(torch.device("cpu"), minutes=1, narrow=True, rounds=1)

    def too_large():
        raise torch.OutOfMemoryError("no")

    bench.row({"what": "generation", "attention": "sdpa", "side": 9}, {"AD-Copilot": too_large}, 0)
    result = {"rows": bench.rows, "left_out": [], "narrow": False, "command": "c", "seconds": 1.0}
    page = gpu.page({**result, "date": "d", "hardware": {}, "versions": {}})
    assert "| generation | sdpa | 2 × 9² | AD-Copilot | – | – | – | – | does not fit |" in page


def test_a_stage_leaves_the_model_as_it_was():
    bench = gpu.Bench(torch.device("cpu"), minutes=1, narrow=True, rounds=1)
    model = bench.models()["AD-Copilot"]
    names = [name for name, _ in model.named_parameters()]
    for stage in (0, 1, 2):
        one = gpu.Trained(model, stage)
        weights = {name for name, weight in one.run.named_parameters() if weight.requires_grad}
        assert any("comparison_encoder" in name for name in weights)
        assert any("language_model" in name for name in weights) == (stage > 0)
        assert any("visual" in name for name in weights) == (stage == 2)
        one.undo()
        assert [name for name, _ in model.named_parameters()] == names


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--rehearse" in capsys.readouterr().err
