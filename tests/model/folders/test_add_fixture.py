"""The fixture that a new folder gets: where there is none, one line says why, and the folder is whole."""

import shutil

import pytest
import torch

from adcopilot.cli import main
from adcopilot.errors import UserError
from adcopilot.model import add_fixture as step
from adcopilot.model.check import FIXTURE, read_fixture

pytestmark = pytest.mark.forward


@pytest.fixture
def folder(checked_dir, tmp_path):
    """Without a fixture."""
    folder = shutil.copytree(checked_dir, tmp_path / "model")
    (folder / FIXTURE).unlink()
    return folder


def lacks(folder, reason: str) -> str:
    return f"{folder} has no fixture for `adcopilot check` ({reason}); `adcopilot check {folder} --write` makes it"


def test_it_is_written(folder):
    assert step.add_fixture(folder) is None
    assert len(read_fixture(folder).tokens) == 8


def test_by_a_model_in_memory_no_weights_are_read(folder, model, processor):
    (folder / "model.safetensors").unlink()
    assert step.add_fixture(folder, (model, processor)) is None
    assert len(read_fixture(folder).tokens) == 8


@pytest.mark.parametrize("value", ["0", "off", " False "])
def test_left_out_on_request(folder, monkeypatch, value):
    monkeypatch.setenv(step.SWITCH, value)
    assert step.add_fixture(folder) == lacks(folder, "ADCOPILOT_FIXTURE=0 leaves it out")
    assert not (folder / FIXTURE).exists()
    assert main(["check", str(folder), "--write", "--device", "cpu"]) == 0, "which asks for it all the same"


def test_large_weights_are_not_loaded(folder, monkeypatch):
    monkeypatch.setattr(step, "MOST_BYTES", 2**20)
    monkeypatch.setattr("adcopilot.inspect.loading.load_model", lambda *_, **__: pytest.fail("loaded"))
    size = (folder / "model.safetensors").stat().st_size / 2**30
    assert step.add_fixture(folder) == lacks(folder, f"weights of {size:.1f} GiB are not loaded for it, 0 at most")


def test_what_takes_long_is_left_out(folder, model, processor, monkeypatch):
    monkeypatch.setattr(step, "expected_seconds", lambda _: 421.0)
    monkeypatch.setattr(step, "make_fixture", lambda *_: pytest.fail("asked"))
    found = step.add_fixture(folder, (model, processor))
    assert found == lacks(folder, "it would take about 7 minutes on this cpu")


def test_the_time_is_that_of_all_weights(model):
    """Which are 100 times those of the matrix that is timed, or so; a matrix that takes a second makes it minutes."""
    share = sum(weight.numel() for weight in model.parameters())
    matrix = model.model.language_model.layers[0].mlp.gate_proj
    share /= matrix.weight.numel()
    assert 0 < step.expected_seconds(model) < step.MOST_SECONDS

    class Slow(torch.nn.Linear):
        def forward(self, given):
            clock[0] += len(given) / 100
            return super().forward(given)

    clock = [0.0]
    matrix.__class__ = Slow
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step.time, "perf_counter", lambda: clock[0])
            # two prompts of two images with 5 comparison tokens each, and an answer of 8
            assert step.expected_seconds(model) == pytest.approx(share * (2 * 1.00 + 8 * 0.01))
    finally:
        matrix.__class__ = torch.nn.Linear


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("out of\nmemory"), "RuntimeError: out of memory"),
        (ZeroDivisionError(), "ZeroDivisionError: ZeroDivisionError"),
        (UserError("is not finite"), "is not finite"),
    ],
)
def test_whatever_happens_is_one_line(folder, model, processor, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(step, "make_fixture", fail)
    assert step.add_fixture(folder, (model, processor)) == lacks(folder, said)


def test_init_writes_it_or_says_why_not(qwen_base_dir, tmp_path, monkeypatch, capsys):
    def init(name) -> tuple:
        assert main(["init", "--base", str(qwen_base_dir), "--output", str(tmp_path / name)]) == 0
        return tmp_path / name, capsys.readouterr().out.splitlines()

    folder, said = init("small")
    assert said == [f"wrote {folder}"]
    assert len(read_fixture(folder).tokens) == 8
    monkeypatch.setattr(step, "MOST_BYTES", 1000)
    folder, said = init("large")
    assert not (folder / FIXTURE).exists()
    assert said == [f"wrote {folder}", lacks(folder, "weights of 0.0 GiB are not loaded for it, 0 at most")]
