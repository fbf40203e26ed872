"""A small model and conversations of random images, shared by the model's tests."""

import pytest
import torch
import transformers

from ..helpers.awake import awake, random_image

TRANSFORMERS_5 = not transformers.__version__.startswith("4.")

PROMPTS = ("Is there a defect?", "What is different in the second part, and where is it?", "Hi.", "Compare.")


@pytest.fixture(scope="session")
def processor(adcopilot_dir):
    from adcopilot.model import AdCopilotProcessor

    return AdCopilotProcessor.from_pretrained(adcopilot_dir)


@pytest.fixture(scope="session")
def model(adcopilot_dir):
    return awake(adcopilot_dir)


@pytest.fixture(scope="session")
def base_model(model, qwen_base_dir):
    """Stock Qwen2.5-VL with the same weights."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen_base_dir, dtype=torch.float32).eval()
    weights = {name: weight for name, weight in model.state_dict().items() if "comparison" not in name}
    base.load_state_dict(weights)
    return base


def chat(processor, *turns) -> str:
    """A prompt from turns of (number of images, text); all but the last are answered with "No."."""
    messages = []
    for number, text in turns:
        images = [{"type": "image"}] * number
        messages += [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]
        messages += [{"role": "assistant", "content": [{"type": "text", "text": "No."}]}]
    return processor.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)


@pytest.fixture(scope="session")
def conversations(processor):
    """Four conversations of 2, 1, 0 and 3 images of several sizes: (text, images)."""
    images = [
        [random_image(0), random_image(1)],
        [random_image(2, 56, 112)],
        [],
        [random_image(3, 140, 84), random_image(4, 84, 84), random_image(5, 112, 84)],
    ]
    return [(chat(processor, (len(images), prompt)), images) for images, prompt in zip(images, PROMPTS, strict=True)]


def encode(processor, conversations, **kwargs):
    """Processor output for some of the conversations, left padded."""
    images = [image for _, images in conversations for image in images]
    return processor(
        text=[text for text, _ in conversations],
        images=images or None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        **kwargs,
    )


@pytest.fixture(scope="session")
def checked_dir(model, processor, tmp_path_factory):
    """`model` in float32 as an export leaves it, with the fixture of `adcopilot check`. To be copied, not changed."""
    from adcopilot.model.check import make_fixture, write_fixture

    folder = tmp_path_factory.mktemp("checked") / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_fixture(folder, make_fixture(model, processor))
    return folder


@pytest.fixture
def command(capsys):
    """Runs `adcopilot …`: (exit code, lines of stdout; where it fails, its one line on stderr)."""
    from adcopilot.cli import main

    def run(*words) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        lines = (
            out.strip().splitlines() if code == 0 else [one for one in err.splitlines() if one.startswith("error:")]
        )
        assert code == 0 or len(lines) == 1
        return code, lines

    return run
