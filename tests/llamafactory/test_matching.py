"""A model meets the wrong template, processor, adapter or reference: refused, with the line to write, wherever one is
chosen and before anything else happens."""

import json
import re
import shutil

import pytest

from ..helpers import refusals

pytestmark = pytest.mark.forward

OURS = r"template {}: .* is an AD-Copilot model, .*; write `template: adcopilot`$"
THEIRS = (
    r"template adcopilot: .* is of model_type qwen2_5_vl .*; write `template: qwen2_vl`, or .*`adcopilot init --base "
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data set that could be trained on in every stage, so that only the combination is wrong."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "parts.jsonl").write_text(json.dumps({"instruction": "Hi.", "input": "", "output": "Hello."}) + "\n")
    (folder / "dataset_info.json").write_text(json.dumps({"parts": {"file_name": "parts.jsonl"}}))
    return folder


def refused(function, *args, **kwargs) -> str:
    """The one line that a call is refused with."""
    with refusals.refused() as error:
        function(*args, **kwargs)
    return str(error.value)


def train(model, template, data_dir, tmp_path, **settings):
    from llamafactory.train.tuner import run_exp

    run_exp(
        {
            "model_name_or_path": str(model),
            "template": template,
            "do_train": True,
            "dataset": "parts",
            "dataset_dir": str(data_dir),
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "report_to": "none",
            **settings,
        }
    )


@pytest.mark.parametrize("stage", ["pt", "sft", "rm", "ppo", "dpo", "kto"])
def test_training(llamafactory, adcopilot_dir, qwen_base_dir, data_dir, tmp_path, stage):
    for model, template, expected in (
        (adcopilot_dir, "qwen2_vl", OURS.format("qwen2_vl")),
        (qwen_base_dir, "adcopilot", THEIRS),
    ):
        settings = {"stage": stage, **({"reward_model": str(model)} if stage == "ppo" else {})}
        message = refused(train, model, template, data_dir, tmp_path, **settings)
        assert re.search(expected, message), message
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_reference_model_that_gets_no_images(llamafactory, adcopilot_dir, data_dir, tmp_path):
    settings = {"stage": "sft", "use_asft_loss": True}
    message = refused(train, adcopilot_dir, "adcopilot", data_dir, tmp_path, **settings)
    assert message.endswith("write `use_asft_loss: false`")


@pytest.mark.parametrize("template", ["default", "empty", "qwen", "qwen2_5_vl", "qwen3_vl", "llava", None])
def test_any_other_template(llamafactory, adcopilot_dir, data_dir, tmp_path, template):
    from llamafactory.data.template import TEMPLATES

    known = template is None or template in TEMPLATES
    if not known:  # LlamaFactory's own message
        with pytest.raises(ValueError, match=f"Template {template} does not exist"):
            train(adcopilot_dir, template, data_dir, tmp_path, stage="sft")
        return
    message = refused(train, adcopilot_dir, template, data_dir, tmp_path, stage="sft")
    assert message.endswith("write `template: adcopilot`")
    assert message.startswith(f"template {template or '(none given'}")


@pytest.mark.parametrize("way", ["chat", "export", "preflight"])
def test_every_other_way_to_a_model(llamafactory, adcopilot_dir, qwen_base_dir, data_dir, tmp_path, way):
    """Chat, API and pages all load it by `ChatModel`, which a server's address is given to as well."""
    from llamafactory.chat import ChatModel
    from llamafactory.train.tuner import export_model

    from adcopilot.llamafactory.preflight import check

    data = {"stage": "sft", "do_train": True, "dataset": "parts", "dataset_dir": str(data_dir)}
    function, more = {
        "chat": (ChatModel, {}),
        "export": (export_model, {"export_dir": str(tmp_path / "export"), "export_device": "cpu"}),
        "preflight": (lambda arguments: list(check(arguments)), data),
    }[way]
    cases = [(adcopilot_dir, "qwen2_vl", "adcopilot"), (qwen_base_dir, "adcopilot", "qwen2_vl")]
    if way != "preflight":
        cases.append((adcopilot_dir, None, "adcopilot"))
    if way == "chat":
        cases.append(("http://127.0.0.1:9/v1", "qwen2_vl", "adcopilot"))
    for model, template, right in cases:
        arguments = {"model_name_or_path": str(model), **({"template": template} if template else {}), **more}
        assert f"write `template: {right}`" in refused(function, arguments)
    assert not (tmp_path / "export").exists()


def test_boards_export_tab_tells_it_in_words(llamafactory, adcopilot_dir, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    import gradio as gr
    from llamafactory.webui.components import export

    told = []
    monkeypatch.setattr(gr, "Warning", told.append)
    arguments = ("en", "AD-Copilot", str(adcopilot_dir), "full", "", "qwen2_vl", 5, "none", "", "cpu", False)
    # a checkpoint is wanted by the tab; `full` takes it for the model's folder
    arguments = (*arguments[:4], str(adcopilot_dir), *arguments[5:], str(tmp_path / "export"), "", "{}")
    said = list(export.save_model(*arguments))
    assert said[-1].endswith("write `template: adcopilot`")
    assert told == said[-1:]


def load(folder, template, **settings):
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from llamafactory.model import load_tokenizer

    loaded = load_tokenizer(ModelArguments(model_name_or_path=str(folder), **settings))
    return get_template_and_fix_tokenizer(loaded["tokenizer"], DataArguments(template=template))


def test_right_combinations_pass(llamafactory, adcopilot_dir, qwen_base_dir):
    from llamafactory.data.template import TEMPLATES

    assert load(adcopilot_dir, "adcopilot") is TEMPLATES["adcopilot"]
    assert load(adcopilot_dir, "adcopilot", trust_remote_code=True) is TEMPLATES["adcopilot"]
    for template in ("qwen2_vl", "qwen", "default", "empty"):
        assert load(qwen_base_dir, template) is TEMPLATES[template]
    assert load(qwen_base_dir, None) is not TEMPLATES["adcopilot"]


def copy_with(source, other, names, folder):
    """A copy of a model's folder with some files of another."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    for name in names:
        (folder / name).unlink(missing_ok=True)
        if (other / name).exists():
            shutil.copy(other / name, folder / name)
    return folder


PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")


def test_processor_of_another_model(llamafactory, adcopilot_dir, qwen_base_dir, tmp_path):
    """Copied over, as advice on the net has it for "missing preprocessor_config.json"."""
    folder = copy_with(adcopilot_dir, qwen_base_dir, PROCESSOR_FILES, tmp_path / "ours")
    for template in ("adcopilot", "qwen2_vl"):
        message = refused(load, folder, template)
        assert "an AD-Copilot model, but the processor found there is Qwen2_5_VLProcessor" in message
        assert message.endswith("write `template: adcopilot`")

    folder = copy_with(qwen_base_dir, adcopilot_dir, PROCESSOR_FILES, tmp_path / "theirs")
    for template in ("adcopilot", "qwen2_vl"):
        message = refused(load, folder, template)
        assert "its processor is AD-Copilot's, but its config.json is of model_type qwen2_5_vl" in message
        assert "write `template: qwen2_vl`" in message


def test_no_processor(llamafactory, adcopilot_dir, tmp_path):
    folder = copy_with(adcopilot_dir, tmp_path, PROCESSOR_FILES[:2], tmp_path / "ours")
    assert "the processor found there is none" in refused(load, folder, "adcopilot")


def test_a_text_model(llamafactory, tmp_path, qwen_base_dir):
    """Whose template is not known to us, only that it is not ours."""
    folder = copy_with(qwen_base_dir, tmp_path, PROCESSOR_FILES[:2], tmp_path / "text")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    message = refused(load, folder, "adcopilot")
    assert "is of model_type llama (processor none)" in message
    assert message.endswith("write the template of that model")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_audio"}))
    assert refused(load, folder, "adcopilot").endswith("write `template: qwen2_audio`")


@pytest.fixture
def adapter(adcopilot_dir, tmp_path):
    """A LoRA adapter of an AD-Copilot model, with the comparison queries in it, as stage 2 saves it."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(adcopilot_dir)})
    )
    name = "base_model.model.model.comparison_encoder.comparison_queries.weight"
    save_file({name: torch.zeros(5, 4)}, folder / "adapter_model.safetensors")
    return folder


def test_adapter_of_ours_on_a_stock_model(llamafactory, adcopilot_dir, qwen_base_dir, adapter):
    """PEFT would drop the comparison encoder's weights with a warning among others."""
    message = refused(load, qwen_base_dir, "qwen2_vl", adapter_name_or_path=str(adapter))
    assert f"write `model_name_or_path: {adcopilot_dir}` and `template: adcopilot`" in message
    config = {"peft_type": "LORA", "base_model_name_or_path": "somewhere/gone"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert "adapter_name_or_path" in refused(load, qwen_base_dir, "qwen2_vl", adapter_name_or_path=str(adapter))
    (adapter / "adapter_model.safetensors").unlink()  # nothing tells any more
    load(qwen_base_dir, "qwen2_vl", adapter_name_or_path=str(adapter))


def test_adapter_on_its_own_base(llamafactory, adcopilot_dir, adapter):
    from llamafactory.data.template import TEMPLATES

    assert load(adcopilot_dir, "adcopilot", adapter_name_or_path=str(adapter)) is TEMPLATES["adcopilot"]
    assert "write `template: adcopilot`" in refused(load, adcopilot_dir, "qwen2_vl", adapter_name_or_path=str(adapter))


def test_an_adapters_folder_as_the_model(llamafactory, adcopilot_dir, adapter):
    """It has tokenizer and processor but no config.json: the processor tells."""
    for name in (*PROCESSOR_FILES, "video_preprocessor_config.json", "chat_template.jinja", "processing.py"):
        if (adcopilot_dir / name).exists():
            shutil.copy(adcopilot_dir / name, adapter / name)
    assert "write `template: adcopilot`" in refused(load, adapter, "qwen2_vl")


@pytest.mark.parametrize("setting", ["ref_model", "reward_model"])
def test_other_models_beside_ours(llamafactory, adcopilot_dir, qwen_base_dir, data_dir, tmp_path, setting):
    """A reference model of the other kind would be fed comparison tokens, or miss them."""
    stage = {"ref_model": "dpo", "reward_model": "ppo"}[setting]
    for model, other, template in (
        (adcopilot_dir, qwen_base_dir, "adcopilot"),
        (qwen_base_dir, adcopilot_dir, "qwen2_vl"),
    ):
        settings = {"stage": stage, setting: str(other), "reward_model_type": "full"}
        message = refused(train, model, template, data_dir, tmp_path, **settings)
        assert message.startswith(f"{setting} {other}: of model_type ")


def test_without_the_plugin_nothing_is_refused(nursery, adcopilot_dir, qwen_base_dir):
    """`ADCOPILOT_PLUGIN=0`: LlamaFactory as it comes, which does not know template adcopilot."""
    code = f"""
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments, ModelArguments
from llamafactory.model import load_tokenizer
tokenizer = load_tokenizer(ModelArguments(model_name_or_path={str(qwen_base_dir)!r}))["tokenizer"]
get_template_and_fix_tokenizer(tokenizer, DataArguments(template="qwen2_vl"))
arguments = ModelArguments(model_name_or_path={str(adcopilot_dir)!r}, trust_remote_code=True)
tokenizer = load_tokenizer(arguments)["tokenizer"]
get_template_and_fix_tokenizer(tokenizer, DataArguments(template="qwen2_vl"))
try:
    get_template_and_fix_tokenizer(tokenizer, DataArguments(template="adcopilot"))
except ValueError as error:
    print(error)
"""
    assert nursery.said(code=code, env={"ADCOPILOT_PLUGIN": "0"}) == "Template adcopilot does not exist."


def test_a_stage_that_is_missing_is_named_before_anything_is_loaded(
    llamafactory, adcopilot_dir, project_root, tmp_path, monkeypatch
):
    """`llamafactory-cli export` after a walk that left a stage out, as `examples/export/tiny.yaml` names them."""
    import yaml
    from llamafactory.hparams import get_infer_args

    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load((project_root / "examples/export/tiny.yaml").read_text("utf-8"))
    assert re.match(
        r"model_name_or_path saves/tiny/stage0: no such folder \(seen from .*\); train the stage that leaves it",
        refused(get_infer_args, settings),
    )
    shutil.copytree(adcopilot_dir, tmp_path / "saves/tiny/stage0")
    assert refused(get_infer_args, settings).endswith("go on without it: adapter_name_or_path=null")
    for stage in (1, 2):
        (tmp_path / f"saves/tiny/stage{stage}").mkdir()
    (tmp_path / "saves/tiny/stage1/adapter_config.json").write_text("{}")
    assert re.match(
        r"adapter_name_or_path saves/tiny/stage2: no adapter_config\.json there .*=saves/tiny/stage1$",
        refused(get_infer_args, settings),
    )
    (tmp_path / "saves/tiny/stage2/adapter_config.json").write_text("{}")
    get_infer_args(settings)


@pytest.mark.parametrize("name", ["jiang-cc/AD-Copilot", "gpt2", "http://127.0.0.1:8000/v1"])
def test_names_of_hubs_and_servers_are_no_folders(name):
    from types import SimpleNamespace

    from adcopilot.llamafactory.settings_checks import check_folders

    check_folders(SimpleNamespace(model_name_or_path=name, adapter_name_or_path=[name]))
