"""By transformers' auto classes, its pipeline and TRL: the installed classes, and a folder's own code without them."""

import json

import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from adcopilot.model import (
    AdCopilotConfig,
    AdCopilotForConditionalGeneration,
    AdCopilotModel,
    AdCopilotProcessor,
    register_auto_classes,
)
from adcopilot.model.configuration import AUTO_MAP

from .conftest import TRANSFORMERS_5, encode, random_image

pytestmark = pytest.mark.forward

#: Of the auto classes for models those that this transformers has.
WHOLE = [
    name
    for name in ("AutoModelForImageTextToText", "AutoModelForVision2Seq", "AutoModelForMultimodalLM")
    if hasattr(transformers, name)
]


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_auto_classes()


def test_whole_models(adcopilot_dir):
    assert len(WHOLE) == 2
    for name in WHOLE:
        loaded, info = getattr(transformers, name).from_pretrained(adcopilot_dir, output_loading_info=True)
        assert type(loaded) is AdCopilotForConditionalGeneration
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]


def test_auto_model_has_the_folders_weights(adcopilot_dir, tmp_path):
    """Not random ones: the folder's weights are named for the whole model."""
    inner, info = AutoModel.from_pretrained(adcopilot_dir, output_loading_info=True)
    assert type(inner) is AdCopilotModel
    assert not info["missing_keys"]
    whole = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir)
    expected = whole.model.state_dict()
    assert inner.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in inner.state_dict().items())

    inner.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert all(torch.equal(weight, expected[name]) for name, weight in again.state_dict().items())


def test_parts_of_the_processor(adcopilot_dir):
    assert type(AutoConfig.from_pretrained(adcopilot_dir)) is AdCopilotConfig
    processor = AutoProcessor.from_pretrained(adcopilot_dir)
    assert type(processor) is AdCopilotProcessor
    tokenizer = AutoTokenizer.from_pretrained(adcopilot_dir)
    assert tokenizer.convert_tokens_to_ids("<|compare_pad|>") == processor.comparison_token_id
    assert type(AutoImageProcessor.from_pretrained(adcopilot_dir)) is type(processor.image_processor)


def test_pipeline(model, processor, adcopilot_dir):
    """`pipeline("image-text-to-text", model=folder)`, with two images in a chat."""
    pipeline = transformers.pipeline("image-text-to-text", model=str(adcopilot_dir), dtype=torch.float32)
    pipeline.model.load_state_dict(model.state_dict())
    images = [random_image(0), random_image(1)]
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": "Same?"}]
    chat = [{"role": "user", "content": content}]
    settings = {"max_new_tokens": 4, "do_sample": False}
    found = pipeline(text=chat, return_full_text=False, generate_kwargs=settings)[0]["generated_text"]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = encode(processor, [(text, images)])
    answer = model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
    assert found == processor.decode(answer, skip_special_tokens=True)


def test_auto_map_names_every_auto_class_and_its_code(adcopilot_dir, tmp_path):
    AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir).save_pretrained(tmp_path)
    for folder in (adcopilot_dir, tmp_path):
        auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
        assert auto_map == AUTO_MAP
        for path in auto_map.values():
            module, name = path.split(".")
            if module != "processing" or folder == adcopilot_dir:
                assert f"class {name}(" in (folder / f"{module}.py").read_text()

    # a configuration alone brings no model's code along, and does not say so
    AdCopilotConfig.from_dict({}).save_pretrained(tmp_path / "config")
    alone = json.loads((tmp_path / "config" / "config.json").read_text())
    assert set(alone["auto_map"]) == {"AutoConfig"}


def test_without_this_package(nursery, adcopilot_dir):
    """A folder's own code by each auto class, in a process that cannot import `adcopilot`."""
    code = f"""
import sys
sys.modules["adcopilot"] = None
import transformers
folder, found = {str(adcopilot_dir)!r}, []
for name in {["AutoModel", *WHOLE]!r}:
    auto = getattr(transformers, name)
    model, info = auto.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    found.append([name, type(model).__name__, len(info["missing_keys"])])
processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=True)
print([*found, type(processor).__name__])
"""
    found = nursery.said(code=code, env={"ADCOPILOT_PLUGIN": "0", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    whole = [[name, "AdCopilotForConditionalGeneration", 0] for name in WHOLE]
    assert found == str([["AutoModel", "AdCopilotModel", 0], *whole, "AdCopilotProcessor"])


@pytest.fixture
def trainer_of(adcopilot_dir, tmp_path):
    """A trainer of TRL on the folder, on a CPU: by its name, with rows of data, and more of its settings."""
    datasets = pytest.importorskip("datasets")
    if TRANSFORMERS_5:
        # it does not import, or stops at a field that models no longer have, by what was imported before
        pytest.skip("TRL 0.24 does not work under transformers 5")
    trl = pytest.importorskip("trl")

    def make(name, rows, *, settings, **more):
        here = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": []}
        args = getattr(trl, f"{name}Config")(**here, per_device_train_batch_size=2, **settings)
        data = datasets.Dataset.from_list(rows)
        return getattr(trl, f"{name}Trainer")(model=str(adcopilot_dir), args=args, train_dataset=data, **more)

    return make


def test_trl_by_folder(trainer_of):
    """TRL looks a model's class up in the package `transformers`, by the name in config.json."""
    rewards = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    trainer = trainer_of("GRPO", [{"prompt": "Hi."}], settings={"num_generations": 2}, **rewards)
    assert type(trainer.model) is AdCopilotForConditionalGeneration
    assert type(trainer.processing_class).__name__ == "AdCopilotProcessor"


def test_trl_sft(trainer_of):
    """Its metrics are of the logits of the whole text, of which only the answer is trained on."""
    images = [Image.new("RGB", (84, 56), colour) for colour in ("red", "green")]
    sample = {
        "images": images,
        "prompt": [{"role": "user", "content": "Compare."}],
        "completion": [{"role": "assistant", "content": "They differ."}],
    }
    settings = {"max_length": None, "max_steps": 1, "logging_steps": 1}
    trainer = trainer_of("SFT", [sample, sample], settings=settings)
    trainer.train()
    assert trainer.state.log_history[0]["entropy"] > 0
