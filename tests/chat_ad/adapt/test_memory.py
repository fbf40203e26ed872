"""A base that does not fit into the memory at hand is refused before anything long; sizes are the tests' own."""

import json

import pytest

from adcopilot.chat_ad.adapt import command, memory
from adcopilot.chat_ad.adapt.memory import GIB, check_memory, memory_at_hand, needed
from adcopilot.chat_ad.adapt.training import Base, method, open_base
from adcopilot.cli import main
from adcopilot.errors import UserError
from adcopilot.sample.photographs import photographs
from benchmarks.counts import config_of

#: Weights of AD-Copilot-7B.
WEIGHTS = 8_400_000_000


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seven")
    config_of("AD-Copilot", "7B").save_pretrained(folder)
    return folder


def base(folder, *, gpu, weights=WEIGHTS):
    return Base(folder=folder, family="adcopilot", weights=weights, gpu=gpu)


def test_seven_billion_weights(seven):
    """An adapter in bfloat16 on a GPU; the same in float32 on a CPU takes more, and answering alone less."""
    on_gpu, on_cpu = base(seven, gpu=True), base(seven, gpu=False)
    training, answering = (needed(on_gpu, settings=one) / GIB for one in (method(on_gpu), None))
    assert 15 < answering < 17 < training < 24
    assert 1.7 * training < needed(on_cpu, settings=method(on_cpu)) / GIB < 2.1 * training
    check_memory(on_gpu, free=80 * GIB, settings=method(on_gpu))
    told = (
        r"training it takes about 19\.\d GiB of memory, counted from its shapes, and this GPU has 16\.0 free; give a"
    )
    with pytest.raises(UserError, match=rf"{seven}: {told} smaller --base, or --no-train$"):
        check_memory(on_gpu, free=16 * GIB, settings=method(on_gpu))
    with pytest.raises(UserError, match=r"answering with it .* this machine has 8\.0 free; give a smaller --base$"):
        check_memory(on_cpu, free=8 * GIB, settings=None)


def test_what_is_free(tmp_path, monkeypatch):
    """Of this machine, and no more than its container may have."""
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    free = memory_at_hand(gpu=False)
    assert free > 0.1 * GIB
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_at_hand(gpu=False) > 1000
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory_at_hand(gpu=False) == 4000


def test_adapt_says_so_before_it_writes_anything(tmp_path, capsys, monkeypatch):
    few, model, line = photographs(tmp_path / "few", good=4, bad=4, size=56), tmp_path / "base", tmp_path / "line"
    assert main(["init", "--preset", "tiny", "--output", str(model)]) == 0
    found = open_base(model, device="cpu")
    assert needed(found, settings=None) < needed(found, settings=method(found)) < GIB

    def said(*words, free):
        monkeypatch.setattr(command, "memory_at_hand", lambda *, gpu: free)
        capsys.readouterr()
        code = main(["adapt", str(few), "--output", str(line), "--base", str(model), "--device", "cpu", *words])
        assert code == 2
        assert not line.exists()
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "training it takes about" in said("--steps", "1", free=2**20)
    assert "answering with it takes about" in said("--no-train", free=2**20)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    assert "is quantised, which cannot be trained here" in said("--steps", "1", free=2**40)
