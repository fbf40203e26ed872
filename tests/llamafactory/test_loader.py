"""Loading through LlamaFactory: which class, liger's kernels, and a careful export."""

import sys
from contextlib import suppress
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from adcopilot.errors import UserError
from adcopilot.model import AdCopilotForConditionalGeneration

from .conftest import export

pytestmark = pytest.mark.forward


@pytest.mark.parametrize("trust_remote_code", [False, True])
def test_model_is_the_installed_class(llamafactory, adcopilot_dir, trust_remote_code):
    """Not the copy of its code beside the weights: LlamaFactory would not know that class as an image-text model."""
    from llamafactory.hparams import FinetuningArguments, ModelArguments
    from llamafactory.model import load_model, load_tokenizer

    arguments = ModelArguments(model_name_or_path=str(adcopilot_dir), trust_remote_code=trust_remote_code)
    arguments.device_map = {"": "cpu"}
    tokenizer = load_tokenizer(arguments)["tokenizer"]
    model = load_model(tokenizer, arguments, FinetuningArguments())
    assert type(model) is AdCopilotForConditionalGeneration
    assert model.logits_where_labels


def test_export_refuses_a_folder_that_holds_something(llamafactory, adcopilot_dir, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "precious.txt").write_text("keep", "utf-8")
    with pytest.raises(
        UserError, match=r"export_dir .*export already exists and holds precious\.txt; nothing was written"
    ):
        export(adcopilot_dir, folder)
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]


def test_export_into_a_new_or_an_empty_folder(llamafactory, adcopilot_dir, tmp_path):
    """With the model's own code beside the weights, so that it loads without this package."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        export(adcopilot_dir, tmp_path / name)
        found = {path.name for path in (tmp_path / name).iterdir()}
        assert {"config.json", "modeling.py", "processing.py", "configuration.py", "tokenizer_config.json"} <= found
    before, after = (
        AdCopilotForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (adcopilot_dir, tmp_path / "new")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_liger_is_applied_as_for_qwen(llamafactory, monkeypatch):
    """LlamaFactory chooses liger's kernels by model type; ours takes Qwen2.5-VL's, once, with the same settings."""
    from llamafactory.model import loader

    calls = []
    stand_in = ModuleType("liger_kernel.transformers")
    stand_in.apply_liger_kernel_to_qwen2_5_vl = lambda **settings: calls.append(settings)
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", stand_in)

    def apply(model_type, *, enabled=True, require_logits=False):
        model_args = SimpleNamespace(enable_liger_kernel=enabled)
        config = SimpleNamespace(model_type=model_type)
        loader.apply_liger_kernel(config, model_args, is_trainable=True, require_logits=require_logits)

    apply("qwen2_5_vl")
    apply("adcopilot")
    assert len(calls) == 2
    assert calls[0] == calls[1]
    apply("adcopilot", enabled=False)
    assert len(calls) == 2
    apply("adcopilot", require_logits=True)
    apply("qwen2_5_vl", require_logits=True)
    assert calls[2] == calls[3]


@pytest.mark.parametrize("liger", [True, False])
def test_a_model_that_llamafactory_loads_makes_logits_where_answers_are(llamafactory, liger):
    from llamafactory.model import loader

    model = SimpleNamespace(config=SimpleNamespace(model_type="adcopilot"))
    stock = SimpleNamespace(config=SimpleNamespace(model_type="qwen2_5_vl"))
    for one in (model, stock):
        with suppress(AttributeError):  # LlamaFactory goes on to look at the rest of a model
            loader.patch_model(one, None, SimpleNamespace(enable_liger_kernel=liger), True, False)
    assert model.logits_where_labels is not liger
    assert not hasattr(stock, "logits_where_labels")


def test_liger_gets_every_hidden_state(adcopilot_dir, monkeypatch):
    """Its fused loss sits in Qwen2.5-VL's forward, which ours calls; it cuts the labels' places out by itself."""
    model = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir).train()
    given = []
    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "forward", lambda self, **kwargs: given.append(kwargs))
    ids = torch.arange(4)[None]
    model(input_ids=ids, labels=ids)
    assert list(given[0]) == ["input_ids", "labels"]
