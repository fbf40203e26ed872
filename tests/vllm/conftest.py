"""What the tests of the vLLM model share: a tiny model, adapters, transformers' answers to compare with, one server.

Tests marked `vllm` run by `make test-vllm`; elsewhere they are skipped and say so.
"""

import base64
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.model_folders import change_json
from tests.vllm import serving

QUESTION = "Is there a defect?"

# for the engines inside the tests' own process
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", serving.own_core())


def pytest_runtest_setup(item):
    """Before any fixture: those of the whole session start servers."""
    if item.get_closest_marker("vllm") and os.environ.get("ADCOPILOT_TEST_VLLM") != "1":
        pytest.skip("starts vLLM, which takes minutes: run by `make test-vllm`")


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory) -> Path:
    """The embedded tiny model: its base is trained, so that answers depend on the images; the encoder is Gaussian."""
    from adcopilot.model.conversion import convert_base
    from adcopilot.model.init_command import TINY_BASE

    folder = tmp_path_factory.mktemp("tiny") / "model"
    convert_base(base=TINY_BASE, output=folder, num_comparison_tokens=8, comparison_position_encoding="rope2d")
    return folder


@pytest.fixture(scope="session")
def later_dir(tiny_dir, tmp_path_factory) -> Path:
    """The same model without comparison tokens for the first image of a conversation."""
    folder = shutil.copytree(tiny_dir, tmp_path_factory.mktemp("later") / "model")
    for name in ("config.json", "processor_config.json"):
        change_json(folder / name, comparison_of_first=False)
    return folder


@pytest.fixture(scope="session")
def images() -> dict:
    """RGB noise under one letter each; b and e differ from the others in size."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    sizes = {"a": (56, 56), "b": (84, 56), "c": (56, 56), "d": (56, 56), "e": (112, 140)}
    return {name: Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for name, size in sizes.items()}


@pytest.fixture(scope="session")
def adapters(tiny_dir, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Two different adapters of the language model as peft saves them, each with the weights it merges into."""
    import torch
    from peft import LoraConfig, get_peft_model

    from adcopilot.model import AdCopilotForConditionalGeneration

    made = {}
    for seed, name in enumerate(("first", "second"), start=1):
        folder = tmp_path_factory.mktemp(name)
        model = AdCopilotForConditionalGeneration.from_pretrained(tiny_dir, dtype="float32")
        targets = r"model\.language_model\..*_proj"
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets))
        generator = torch.Generator().manual_seed(seed)
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.15, generator=generator)
        model.save_pretrained(folder / "adapter")
        model.merge_and_unload().save_pretrained(folder / "merged")
        made[name] = folder / "adapter", folder / "merged"
    return made


@dataclass(frozen=True)
class Answer:
    """Prompt and answer as token ids, and the log-probability of each token of the answer."""

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]

    def __eq__(self, other) -> bool:
        return (
            self.prompt == other.prompt
            and self.tokens == other.tokens
            and self.logprobs == pytest.approx(other.logprobs, abs=2e-3)
        )


@pytest.fixture(scope="session")
def ask_transformers(tiny_dir, images):
    """`ask_transformers("ab", question, weights=…)`: the greedy answer of transformers' model about images a and b."""
    import torch

    from adcopilot.model import AdCopilotForConditionalGeneration, AdCopilotProcessor

    models, answers, processors = {}, {}, {}

    def ask(names: str, question: str = QUESTION, *, weights: Path = tiny_dir, max_tokens: int = 16) -> Answer:
        key = names, question, weights, max_tokens
        if key in answers:
            return answers[key]
        if weights not in models:
            model = AdCopilotForConditionalGeneration.from_pretrained(weights, dtype="float32").eval()
            models[weights] = model
            own = (weights / "processor_config.json").exists()  # merged adapters have none
            processors[weights] = AdCopilotProcessor.from_pretrained(weights if own else tiny_dir)
        processor = processors[weights]
        pictures = [images[name] for name in names]
        text = processor.apply_chat_template(messages(pictures, question), tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=pictures or None, return_tensors="pt")
        out = models[weights].generate(
            **inputs, do_sample=False, max_new_tokens=max_tokens, return_dict_in_generate=True, output_scores=True
        )
        prompt = inputs["input_ids"][0].tolist()
        tokens = out.sequences[0, len(prompt) :].tolist()
        logprobs = [torch.log_softmax(row[0], -1)[token].item() for row, token in zip(out.scores, tokens, strict=True)]
        answers[key] = Answer(prompt, tokens, logprobs)
        return answers[key]

    return ask


def messages(pictures: list, question: str) -> list[dict]:
    """One user turn, images first, as OpenAI-style chat."""
    content = [{"type": "image_url", "image_url": {"url": as_url(picture)}} for picture in pictures]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def as_url(picture, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="session")
def vllm_server(tiny_dir, tmp_path_factory):
    """A server of `tiny_dir` with LoRA, caches on and cache blocks small enough for tiny prompts to fill some."""
    if reason := serving.why_not():
        pytest.skip(reason)
    log = tmp_path_factory.mktemp("server") / "server.log"
    with serving.serve(tiny_dir, log=log, arguments=["--block-size=32"]) as server:
        yield server
