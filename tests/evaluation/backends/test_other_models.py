"""Models whose prefix is not shared answer whole prompts, in batches, as `generate` answers each alone."""

import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch

from adcopilot.errors import UserError
from adcopilot.evaluation.backends.loading import load_any_model
from adcopilot.evaluation.backends.prompting import prompt_text
from adcopilot.evaluation.backends.transformers_backend import TransformersBackend
from adcopilot.images import open_image

NEW_TOKENS = 8
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}


def save(model, processor, folder):
    """Random weights large enough that other images mean other answers."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() > 1:
                weight.normal_(std=1.0 if "embed" in name else 0.15, generator=generator)
    tokenizer = processor.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def qwen3_dir(qwen_base_dir, tmp_path_factory):
    """A random Qwen3-VL with the tiny base's tokenizer."""
    from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl_fast import Qwen2VLImageProcessorFast
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    tokenizer = AutoTokenizer.from_pretrained(qwen_base_dir)
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 4,
        "out_hidden_size": 64,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
    }
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(text_config={**TEXT, "vocab_size": 640, "rope_scaling": rope}, vision_config=vision, **ids)
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessorFast(
            patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 64 * 32 * 32}
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=(qwen_base_dir / "chat_template.jinja").read_text(),
    )
    folder = tmp_path_factory.mktemp("qwen3") / "model"
    torch.manual_seed(0)
    save(Qwen3VLForConditionalGeneration(config), processor, folder)
    return folder


@pytest.fixture(scope="module")
def internvl_dir(qwen_base_dir, tmp_path_factory):
    """A random InternVL over the tiny base's tokenizer, with InternVL's own tokens for images."""
    from transformers import (
        GotOcr2ImageProcessorFast,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(qwen_base_dir / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=names,
    )
    side = {"height": 56, "width": 56}
    vision = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": [56, 56],
        "patch_size": [14, 14],
    }
    config = InternVLConfig(
        text_config={**TEXT, "vocab_size": 700, "model_type": "qwen2"},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    template = (qwen_base_dir / "chat_template.jinja").read_text()
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessorFast(size=side, crop_to_patches=False),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=side),
        image_seq_length=4,
        chat_template=template.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n"),
    )
    folder = tmp_path_factory.mktemp("internvl") / "model"
    torch.manual_seed(0)
    save(InternVLForConditionalGeneration(config), processor, folder)
    return folder


@pytest.fixture(scope="module", params=["qwen3-vl", "internvl"])
def backend(request, qwen3_dir, internvl_dir):
    folder = {"qwen3-vl": qwen3_dir, "internvl": internvl_dir}[request.param]
    made = TransformersBackend(model=folder, device="cpu", dtype="float32")
    assert made.family.name == request.param
    assert not made.reuse  # asked for, and not proven for this model
    return made


def alone(backend, item):
    images = [open_image(path) for path in item.images]
    inputs = backend.processor(text=[prompt_text(item, backend.processor)], images=images or None, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    output = backend.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return backend.processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_batches_answer_as_one_prompt_alone(backend, items, batch_size, monkeypatch):
    monkeypatch.setattr(backend, "batch_size", batch_size)
    found = {item.key: reply for item, reply in backend.answer(items, max_new_tokens=NEW_TOKENS)}
    assert {item.key: alone(backend, item).strip() for item in items} == {
        key: reply.text for key, reply in found.items()
    }
    assert len({reply.text for reply in found.values()}) > len(items) // 2
    options = {key: reply.option_logprobs for key, reply in found.items() if reply.option_logprobs}
    assert set(options) == {item.key for item in items if item.options}


def test_budget_where_the_processor_has_one(qwen3_dir, internvl_dir):
    made = TransformersBackend(model=qwen3_dir, device="cpu", image_max_pixels=64 * 64, image_min_pixels=32 * 32)
    assert made.model_size((600, 600)) == (64, 64)
    grid = made.processor.image_processor(images=[open_blank(600)], return_tensors="pt")["image_grid_thw"]
    assert grid.tolist() == [[1, 4, 4]]
    with pytest.raises(UserError, match="use --image-side"):
        TransformersBackend(model=internvl_dir, device="cpu", image_max_pixels=64 * 64)


def open_blank(side):
    from PIL import Image

    return Image.new("RGB", (side, side))


def test_missing_weights_are_not_filled_with_random_numbers(qwen3_dir, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(qwen3_dir, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 weights are missing"):
        load_any_model(str(folder), family=None, device="cpu", dtype="float32", attention="sdpa")


def test_checkpoint_with_code_of_its_own(nursery, adcopilot_dir, tmp_path, items):
    """A folder whose code is not this package's, as the authors' checkpoints: not without leave, and then as usual."""
    folder = tmp_path / "theirs"
    shutil.copytree(adcopilot_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    assert "AutoModelForImageTextToText" in config["auto_map"]
    config |= {"model_type": "their_copilot", "architectures": ["TheirCopilot"]}
    (folder / "config.json").write_text(json.dumps(config))
    for file in folder.glob("*.py"):
        code = file.read_text().replace('model_type = "adcopilot"', 'model_type = "their_copilot"')
        file.write_text(code)
    with pytest.raises(UserError, match="add --trust-remote-code"):
        TransformersBackend(model=folder, device="cpu")
    script = f"""
from adcopilot.evaluation.backends.transformers_backend import TransformersBackend
import json, pickle
items = pickle.load(open({str(tmp_path / "items")!r}, "rb"))
made = TransformersBackend(model={str(folder)!r}, device="cpu", trust_remote_code=True, image_max_pixels=768 * 768)
assert not made.reuse and "transformers_modules" in type(made.model).__module__, type(made.model)
print(json.dumps({{i.key: r.text for i, r in made.answer(items, max_new_tokens=6)}}))
"""
    (tmp_path / "items").write_bytes(pickle.dumps([replace(item, meta={}) for item in items[:4]]))
    # A process of its own: the code of a checkpoint registers itself with transformers.
    done = nursery.run(code=script)
    assert done.returncode == 0, done.stderr[-2000:]
    ours = TransformersBackend(model=adcopilot_dir, device="cpu")
    expected = {item.key: reply.text for item, reply in ours.answer(items[:4], max_new_tokens=6)}
    assert json.loads(done.stdout.splitlines()[-1]) == expected
