"""What an export by LlamaFactory leaves for `adcopilot check`, and that it is an export without it too."""

import json
import logging
from types import SimpleNamespace

import pytest

from adcopilot import __version__
from adcopilot.llamafactory import export as step
from adcopilot.model import AdCopilotForConditionalGeneration as Model
from adcopilot.model import AdCopilotProcessor
from adcopilot.model import add_fixture as module
from adcopilot.model.check import FIXTURE, MARGIN_LIMITS, comparable, read_fixture

from .conftest import export

pytestmark = pytest.mark.forward


@pytest.fixture(scope="module")
def trained_dir(model, adcopilot_dir, tmp_path_factory):
    """A folder whose weights are large enough to be sure of a token."""
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    AdCopilotProcessor.from_pretrained(adcopilot_dir).save_pretrained(folder)
    return folder


@pytest.fixture
def check(run, capsys):
    """Runs `adcopilot check` on a CPU: (exit code, its last line)."""

    def check(folder, *options) -> tuple[int, str]:
        capsys.readouterr()
        code, out, err = run("check", folder, *options, "--device", "cpu")
        return code, (out or err).strip().splitlines()[-1]

    return check


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_export_can_be_checked(llamafactory, trained_dir, tmp_path, check, dtype):
    import transformers

    folder = tmp_path / "export"
    export(trained_dir, folder, dtype=dtype)
    fixture = read_fixture(folder)
    versions = (fixture.adcopilot, fixture.transformers, fixture.dtype, fixture.device)
    assert versions == (__version__, transformers.__version__, dtype, "cpu")
    count = comparable(fixture.margins, limit=MARGIN_LIMITS[dtype])
    assert count > 0
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert f"written by adcopilot {__version__}, with transformers {transformers.__version__}" in text
    code, line = check(folder)
    assert code == 0
    assert f"{count} of 8 tokens compared and equal" in line


def test_the_fixture_is_of_the_model_in_memory(llamafactory, trained_dir, tmp_path, check, monkeypatch):
    """So a folder that was not written as it should have been fails its first check."""
    save = Model.save_pretrained

    def save_another(self, *args, **kwargs):
        weight = self.model.language_model.layers[0].mlp.down_proj.weight
        weight.data.neg_()
        save(self, *args, **kwargs)
        weight.data.neg_()

    monkeypatch.setattr(Model, "save_pretrained", save_another)
    export(trained_dir, tmp_path / "export")
    code, line = check(tmp_path / "export")
    assert code == 2
    assert "that are compared is another: `generate` gave" in line


def test_where_it_cannot_be_made_the_export_is_whole_and_one_line_says_so(
    llamafactory, trained_dir, tmp_path, caplog, check, monkeypatch
):
    def fail(*_):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(module, "make_fixture", fail)
    folder = tmp_path / "export"
    with caplog.at_level(logging.WARNING, logger=step.__name__):
        export(trained_dir, folder)
    (line,) = [record.getMessage() for record in caplog.records if record.name == step.__name__]
    assert "\n" not in line
    assert line.startswith(f"adcopilot: the export is whole, but {folder} has no fixture")
    assert "(RuntimeError: out of memory)" in line
    assert line.endswith(f"`adcopilot check {folder} --write` makes it")
    assert not (folder / FIXTURE).exists()
    assert (folder / "Modelfile").is_file(), "LlamaFactory's last file"

    monkeypatch.undo()
    assert check(folder, "--write")[0] == 0
    assert check(folder)[0] == 0


def test_without_a_card_the_export_is_whole_and_one_line_says_so(tmp_path, caplog, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("adcopilot.cards.model.write_export_card", fail)
    with caplog.at_level(logging.WARNING, logger=step.__name__):
        step._add_card(SimpleNamespace(export_dir=str(tmp_path), model_name_or_path="a", adapter_name_or_path=None))
    assert f"adcopilot: the export is whole, but {tmp_path} has no README.md (disk full)" in caplog.text


def test_a_failed_export_has_none(llamafactory, trained_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "save_pretrained", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export(trained_dir, tmp_path / "export")
    assert not (tmp_path / "export" / FIXTURE).exists()
    assert step._loaded.get() is None


def test_other_models_are_exported_as_ever(llamafactory, qwen_base_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "_add_fixture", lambda *_: pytest.fail("of another model"))
    export(qwen_base_dir, tmp_path / "export", template="qwen2_vl")
    assert json.loads((tmp_path / "export" / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    assert not (tmp_path / "export" / FIXTURE).exists()


def test_a_llamafactory_without_what_is_wrapped_exports_without_it(llamafactory, monkeypatch, caplog):
    """What is missing is said once, and costs nothing else."""
    from llamafactory.train import tuner

    from adcopilot.llamafactory import gate

    assert gate.has_what_it_needs("export", alone=True)
    monkeypatch.delattr(tuner, "load_model")
    lacking = dict(gate._lacking)
    with caplog.at_level(logging.WARNING):
        assert not gate.has_what_it_needs("export", alone=True)
    assert gate._lacking == lacking
    assert "lacks llamafactory.train.tuner.load_model, so export is left out" in caplog.text
