"""The probe against whole attention matrices and against a sum done by hand, and what it leaves alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.evaluation.backends.transformers_backend import TransformersBackend
from adcopilot.evaluation.benchmarks.attention.probe import AttentionProbe, image_sets, tokens_behind_images

QUESTIONS = (
    "Is there a defect in the second image?\nA. Yes\nB. No",
    "What is it?",
    "Describe the second image against the first in JSON.",
)
NEW_TOKENS = 5

pytestmark = pytest.mark.forward


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """A pair of images of unequal sizes with three questions, and one image with one question."""
    folder = tmp_path_factory.mktemp("attention")
    files = []
    for index, size in enumerate(((84, 56), (112, 84), (56, 56))):
        pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        files.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(files[-1])
    pair = ("Template:\n", 0, "\nQuery:\n", 1, "\n")
    made = [
        Item(key=str(number), group="pair", images=files[:2], prefix=pair, question=question,
             options={"A": "Yes", "B": "No"} if number == 0 else None)
        for number, question in enumerate(QUESTIONS)
    ]  # fmt: skip
    return [*made, Item(key="single", group="single", images=files[2:], prefix=(0, "\n"), question="What is it?")]


@pytest.fixture(scope="module")
def probe(adcopilot_dir):
    """With weights large enough that attention is far from uniform."""
    probe = AttentionProbe(model=str(adcopilot_dir))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in probe.model.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.normal_(std=0.15, generator=generator)
    return probe


@pytest.fixture(scope="module")
def answers(probe, items):
    found = {item.key: reply for item, reply in probe.answer(items, max_new_tokens=NEW_TOKENS)}
    return found, dict(probe.measured)


def whole(probe, item, tokens):
    """(layers, length, length) weights, averaged over heads, of prompt and answer in one eager pass, and the ids."""
    prepared = probe._prepare([item])
    prompt = prepared.prompts[0]
    ids = torch.tensor([prompt.ids + tokens[:-1]])
    new = prompt.following + torch.arange(len(tokens) - 1)
    positions = torch.cat([prompt.positions, new.expand(3, -1)], 1)[:, None]
    probe.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            output = probe.model(input_ids=ids, position_ids=positions, pixel_values=prepared.pixel_values,
                                 image_grid_thw=prepared.grid, output_attentions=True)  # fmt: skip
    finally:
        probe.model.set_attn_implementation("sdpa")
    assert output.logits[0, len(prompt.ids) - 1 :].argmax(-1).tolist() == tokens
    return torch.stack([layer[0].mean(0) for layer in output.attentions]).double(), prompt.ids


def expected(probe, item, tokens):
    """The definition, over whole matrices: sums over keys by image, means over queries."""
    weights, ids = whole(probe, item, tokens)
    config = probe.model.config
    last_image = max(index for index, token in enumerate(ids) if token == config.vision_end_token_id)
    queries = {
        "answer": list(range(len(ids) - 1, weights.shape[1])),
        "question": list(range(last_image + 1, len(ids) - 1)),
    }
    assert len(queries["answer"]) == len(tokens)
    image, sets = -1, {}
    for index, token in enumerate(ids):
        image += token == config.vision_start_token_id
        for name, pad in (("base", config.image_token_id), ("comparison", config.comparison_token_id)):
            if token == pad:
                sets.setdefault(name, {}).setdefault(image, []).append(index)
    return {
        kind: {
            name: [
                [weights[layer][rows][:, columns].sum(-1).mean().item() for columns in sets[name].values()]
                for layer in range(len(weights))
            ]
            for name in sets
        }
        for kind, rows in queries.items()
    } | {"tokens": {name: [len(columns) for columns in sets[name].values()] for name in sets}}


def greedy(probe, item):
    """Tokens of the answer by transformers' own generate."""
    prepared = probe._prepare([item])
    ids = torch.tensor([prepared.prompts[0].ids])
    output = probe.model.generate(
        input_ids=ids, pixel_values=prepared.pixel_values, image_grid_thw=prepared.grid, max_new_tokens=NEW_TOKENS
    )
    return output[0, ids.shape[1] :].tolist()


def test_equal_to_whole_attention_matrices(probe, items, answers):
    _, measured = answers
    assert measured.keys() == {item.key for item in items}
    shares = set()
    for item in items:
        wanted = expected(probe, item, greedy(probe, item))
        found = measured[item.key]
        assert found["tokens"] == wanted["tokens"]
        for kind in ("answer", "question"):
            for name in ("base", "comparison"):
                np.testing.assert_allclose(found[kind][name], wanted[kind][name], atol=2e-5, rtol=1e-4)
        shares.add(round(sum(found["answer"]["comparison"][0]), 5))
    assert measured["0"]["tokens"] == {"base": [6, 12], "comparison": [5, 5]}
    assert measured["single"]["tokens"] == {"base": [4], "comparison": [5]}
    assert len(shares) == 4


def test_by_hand_where_attention_is_uniform(probe, items):
    """Without keys every token before is attended to alike: the sum over n keys from the i-th token is n / i."""
    layers = probe.model.model.language_model.layers
    kept = [(layer.self_attn.k_proj.weight.clone(), layer.self_attn.k_proj.bias.clone()) for layer in layers]
    try:
        with torch.no_grad():
            for layer in layers:
                layer.self_attn.k_proj.weight.zero_()
                layer.self_attn.k_proj.bias.zero_()
        [(item, reply)] = probe.answer([items[1]], max_new_tokens=3)
        found = probe.measured.pop(item.key)
        ids = probe._prepare([item]).prompts[0].ids
    finally:
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, kept, strict=True):
                layer.self_attn.k_proj.weight.copy_(weight)
                layer.self_attn.k_proj.bias.copy_(bias)
    assert reply.truncated
    behind = tokens_behind_images(ids, probe.model.config)
    visible = {"answer": [len(ids), len(ids) + 1, len(ids) + 2], "question": list(range(behind + 1, len(ids)))}
    for kind, lengths in visible.items():
        for name, counts in (("base", [6, 12]), ("comparison", [5, 5])):
            wanted = [count * np.mean([1 / length for length in lengths]) for count in counts]
            for layer in found[kind][name]:
                np.testing.assert_allclose(layer, wanted, atol=1e-6)


def test_answers_are_the_backends_own(probe, items, answers):
    plain = TransformersBackend(model=str(probe.model_name))
    plain.model.load_state_dict(probe.model.state_dict())
    replies, _ = answers
    for item, reply in plain.answer(items, max_new_tokens=NEW_TOKENS):
        assert replies[item.key].text == reply.text
        assert replies[item.key].truncated == reply.truncated
        if reply.option_logprobs:
            assert replies[item.key].option_logprobs == pytest.approx(reply.option_logprobs, abs=1e-3)
    assert len({reply.text for reply in replies.values()}) > 2


def test_no_matrix_of_the_whole_length_is_ever_formed(probe, items, monkeypatch):
    """And the kernels are what they were before."""
    sizes = []
    softmax = torch.nn.functional.softmax

    def spy(values, *args, **options):
        sizes.append(tuple(values.shape))
        return softmax(values, *args, **options)

    def hooks():
        return [len(layer.self_attn._forward_hooks) for layer in probe.model.model.language_model.layers]

    hooked = hooks()  # transformers 5 leaves hooks of its own behind where `output_attentions` was asked for
    monkeypatch.setattr(torch.nn.functional, "softmax", spy)
    before = probe.model.model.language_model.config._attn_implementation
    list(probe.answer(items[:1], max_new_tokens=2))
    probe.measured.clear()
    assert before == "sdpa" == probe.model.model.language_model.config._attn_implementation
    ids = probe._prepare(items[:1]).prompts[0].ids
    behind = len(ids) - tokens_behind_images(ids, probe.model.config)
    heads = probe.model.config.text_config.num_attention_heads
    layers = probe.model.config.text_config.num_hidden_layers
    assert sizes == [(1, heads, behind, len(ids))] * layers + [(1, heads, 1, len(ids) + 1)] * layers
    assert hooks() == hooked


def test_image_sets_belong_to_their_image(probe):
    config = probe.model.config
    start, end = config.vision_start_token_id, config.vision_end_token_id
    pad, compare = config.image_token_id, config.comparison_token_id
    sets = image_sets([9, start, pad, pad, compare, end, 9, start, pad, compare, compare, end], config)
    assert sets.T.nonzero().tolist() == [[0, 2], [0, 3], [1, 8], [2, 4], [3, 9], [3, 10]]


def test_errors_of_one_question(probe, items, tmp_path):
    gone = Item(key="gone", group="gone", images=[tmp_path / "none.png"], prefix=(0,), question="What is it?")
    bare = Item(key="bare", group="bare", images=[], prefix=(), question="What is it?")
    replies = {item.key: reply for item, reply in probe.answer([gone, bare, items[3]], max_new_tokens=2)}
    probe.measured.clear()
    assert "no such image file" in replies["gone"].error
    assert replies["bare"].error == "has no image to attend to"
    assert replies["single"].error is None


def test_memory_that_runs_out_between_two_layers(probe, items, answers, monkeypatch):
    """Some layers' caches have grown then and others not; the group's next question is answered as ever."""
    replies, measured = answers
    second = probe.model.model.language_model.layers[1]
    forward, calls = second.forward, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # after the prefix and the question's first token
            raise torch.OutOfMemoryError
        return forward(*args, **kwargs)

    monkeypatch.setattr(second, "forward", failing)
    (_, failed), (item, reply) = probe.answer(items[:2], max_new_tokens=NEW_TOKENS)
    assert "out of memory" in failed.error
    assert reply.text == replies[item.key].text
    assert probe.measured.pop(item.key) == measured[item.key]


def test_models_without_comparison_tokens_are_refused(qwen_base_dir, tmp_path):
    with pytest.raises(UserError, match="is no AD-Copilot model"):
        AttentionProbe(model=str(qwen_base_dir))
    with pytest.raises(UserError, match="no such model folder"):
        AttentionProbe(model=str(tmp_path / "none"))
