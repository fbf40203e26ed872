"""Which LlamaFactory is worked with: one that has what is used; with any other, nobody else's model is touched."""

from types import SimpleNamespace

import pytest

from adcopilot.errors import UserError
from adcopilot.llamafactory import gate

pytestmark = pytest.mark.forward

#: Runs before LlamaFactory is imported, which then looks like one without some of what is used.
LACKS = """
from adcopilot.llamafactory import gate
fault = gate._fault
hidden = (":patch_config", ":get_dataset", "Qwen2VLPlugin._validate_messages")
gate._fault = lambda path, parameters: [path.replace(":", ".")] if path.endswith(hidden) else fault(path, parameters)
"""


@pytest.fixture
def python(nursery):
    """Run code in a process where LlamaFactory and this package are still to be imported."""
    return lambda code, **environment: nursery.run(code=code, env=environment)


def read(folder, template, reader="get_infer_args") -> str:
    arguments = {"model_name_or_path": str(folder), "template": template, "trust_remote_code": True}
    if reader == "get_train_args":
        arguments |= {"dataset": "x", "output_dir": "/nowhere", "use_cpu": True, "stage": "sft", "do_train": True}
    return f"""
from llamafactory.hparams import {reader}
{reader}({arguments})
print("read")
"""


def test_this_llamafactory_has_all(python):
    code = """
import llamafactory.train.tuner, llamafactory.chat.hf_engine, llamafactory.webui.interface, llamafactory.v1.config
from adcopilot.llamafactory import gate
print(gate._lacking)
"""
    result = python(code)
    assert result.stdout.splitlines()[-1:] == ["{}"], result.stderr
    assert "this LlamaFactory lacks" not in result.stderr


def test_the_number_of_the_version_does_not_matter(python, adcopilot_dir):
    code = "import llamafactory.extras.env as env; env.VERSION = '0.9.6.dev0'\n"
    result = python(code + read(adcopilot_dir, "adcopilot", "get_train_args"))
    assert result.stdout.splitlines()[-1:] == ["read"], result.stderr


def test_what_is_missing_is_named_for_our_model_whatever_its_template(python, adcopilot_dir):
    result = python(LACKS + read(adcopilot_dir, "qwen2_vl"))
    assert result.returncode == 1
    assert "read" not in result.stdout
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: adcopilot ")
    for name in ("data.loader.get_dataset", "data.mm_plugin.Qwen2VLPlugin._validate_messages"):
        assert f"llamafactory.{name}" in last
    assert "other models are not touched" in last


@pytest.mark.parametrize(
    ("template", "model", "refused"),
    [
        ("adcopilot", "ours", True),
        ("adcopilot", "stock", True),
        ("qwen2_vl", "ours", True),
        ("qwen2_vl", "stock", False),
        (None, "stock", False),
    ],
)
def test_who_is_refused(llamafactory, adcopilot_dir, qwen_base_dir, monkeypatch, template, model, refused):
    folder = adcopilot_dir if model == "ours" else qwen_base_dir
    loaded = SimpleNamespace(model_name_or_path=str(folder), cache_dir=None, model_revision="main", hf_hub_token=None)
    chosen = SimpleNamespace(template=template)
    gate.check(loaded, chosen)  # nothing is missing
    monkeypatch.setattr(gate, "_lacking", {"loader": ["a", "b"], "template": ["c", "d"]})
    if not refused:
        gate.check(loaded, chosen)
        return
    with pytest.raises(UserError, match=r"lacks a, b, c and 1 more: take a newer adcopilot"):
        gate.check(loaded, chosen)


TRAIN = """
from llamafactory.train.tuner import run_exp
run_exp({arguments})
"""


def test_a_stock_model_trains_as_without_us(python, qwen_base_dir, mixed, tmp_path):
    """Under a LlamaFactory that lacks three of the things that are used: the same losses, and no word of ours."""
    import json

    arguments = {
        **mixed,
        "model_name_or_path": str(qwen_base_dir),
        "template": "qwen2_vl",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "max_steps": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "flash_attn": "disabled",
    }
    losses = []
    for code, switch in ((LACKS, "1"), ("", "0")):
        out = tmp_path / switch
        result = python(code + TRAIN.format(arguments={**arguments, "output_dir": str(out)}), ADCOPILOT_PLUGIN=switch)
        assert result.returncode == 0, result.stderr[-3000:]
        assert "adcopilot" not in result.stderr
        history = json.loads((out / "trainer_state.json").read_text())["log_history"]
        losses.append([row["loss"] for row in history if "loss" in row])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


@pytest.fixture
def mixed(tmp_path) -> dict:
    from tests.training.conftest import write_samples

    return write_samples(tmp_path / "data", (2, 0, 1, 2))


def test_the_new_trainer_is_refused(python, adcopilot_dir, tmp_path):
    file = tmp_path / "v1.yaml"
    file.write_text(f"model: {adcopilot_dir}\n")
    code = f"import sys; sys.argv = ['llamafactory-cli', {str(file)!r}]\n"
    code += "from llamafactory.v1.trainers.sft_trainer import run_sft; run_sft()"
    result = python(code, USE_V1="1")
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: USE_V1=1: {adcopilot_dir} is an AD-Copilot model")


@pytest.mark.parametrize(
    ("parameters", "faults"),
    [
        (("path", "parameters"), []),
        (("path",), ["adcopilot.llamafactory.gate._fault without parameters"]),
        (("path", "parameters", "more"), ["the parameter more of adcopilot.llamafactory.gate._fault"]),
        (None, []),
    ],
)
def test_what_counts_as_a_fault(parameters, faults):
    assert gate._fault("adcopilot.llamafactory.gate:_fault", parameters) == faults


def test_a_module_that_is_gone():
    assert gate._fault("adcopilot.llamafactory.nowhere:thing", None) == ["adcopilot.llamafactory.nowhere.thing"]
