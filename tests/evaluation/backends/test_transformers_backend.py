"""Answers with a shared prefix are those of transformers' own `generate` on whole prompts, token by token."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from adcopilot.answering.items import Item
from adcopilot.answering.sizing import Sizing
from adcopilot.errors import UserError
from adcopilot.evaluation.backends import branching, transformers_backend
from adcopilot.evaluation.backends.prompting import prompt_text, sorted_groups
from adcopilot.evaluation.backends.transformers_backend import TransformersBackend
from adcopilot.images import open_image

from .conftest import QUESTIONS, make_group, picture

NEW_TOKENS = 10


def speaking(source, folder):
    """A copy with weights large enough that other images mean other answers."""
    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(3)
    for file in sorted(folder.glob("*.safetensors")):
        weights = load_file(file)
        for name, weight in sorted(weights.items()):
            if weight.dim() > 1 and "embed" not in name:
                weight.normal_(std=0.15, generator=generator)
        save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folders(qwen_base_dir, adcopilot_dir, tmp_path_factory):
    """AD-Copilot (comparison tokens along their image's diagonal, stepping out of it, none for the first image), and
    Qwen2.5-VL."""
    root = tmp_path_factory.mktemp("models")
    found = {name: speaking(source, root / name) for name, source in (("ad", adcopilot_dir), ("qwen", qwen_base_dir))}
    for name, settings, files in (
        ("fixed", {"comparison_position_ids": "fixed"}, ["config.json"]),
        ("later", {"comparison_of_first": False}, ["config.json", "processor_config.json"]),
    ):
        found[name] = root / name
        shutil.copytree(found["ad"], found[name])
        for file in files:
            path = found[name] / file
            path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return found


@pytest.fixture(scope="module")
def backends(folders):
    made = {}

    def backend(name, *, batch_size=16, reuse=True):
        if name not in made:
            made[name] = TransformersBackend(model=folders[name], device="cpu", dtype="float32")
        made[name].batch_size, made[name].reuse = batch_size, reuse
        return made[name]

    return backend


def tokens_and_replies(backend, items, monkeypatch):
    """Item key → (new token ids, reply)."""
    seen = {}
    original = TransformersBackend._replies

    def replies(self, some, answered):
        seen.update({item.key: list(ids) for item, ids in zip(some, answered.tokens, strict=True)})
        return original(self, some, answered)

    monkeypatch.setattr(TransformersBackend, "_replies", replies)
    found = {item.key: reply for item, reply in backend.answer(items, max_new_tokens=NEW_TOKENS)}
    return {key: (seen.get(key), reply) for key, reply in found.items()}


def by_generate(backend, item):
    """(new token ids, log-probabilities of the first) by the processor and `generate` alone, one item."""
    images = [backend.sizing.apply(open_image(path)) for path in item.images]
    inputs = backend.processor(text=[prompt_text(item, backend.processor)], images=images or None, return_tensors="pt")
    output = backend.model.generate(
        **inputs,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    new = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    return new, output.scores[0][0].float().log_softmax(-1)


@pytest.fixture(scope="module")
def generated():
    """What `by_generate` found, by (folder, item key): it knows no batches and no reuse, so once is enough."""
    return {}


@pytest.mark.forward
@pytest.mark.parametrize("name", ["ad", "fixed", "qwen"])
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_same_tokens_as_generate(backends, items, generated, name, reuse, batch_size, monkeypatch):
    backend = backends(name, batch_size=batch_size, reuse=reuse)
    found = tokens_and_replies(backend, items, monkeypatch)
    assert set(found) == {item.key for item in items}
    letters = {letter: backend.processor.tokenizer.encode(letter)[0] for letter in "AB"}
    for item in items:
        tokens, reply = found[item.key]
        if (name, item.key) not in generated:
            generated[name, item.key] = by_generate(backend, item)
        expected, logprobs = generated[name, item.key]
        assert tokens == expected, item.key
        assert reply.error is None
        assert reply.truncated == (expected[-1] not in backend.greedy.ends)
        if item.options is None:
            assert reply.option_logprobs is None
        else:
            assert set(reply.option_logprobs) == {"A", "B"}
            for letter, value in reply.option_logprobs.items():
                spaced = backend.processor.tokenizer.encode(" " + letter)
                ids = [letters[letter], *(spaced if len(spaced) == 1 else [])]
                assert value == pytest.approx(logprobs[ids].logsumexp(0).item(), abs=1e-3)


def test_answers_tell_images_and_questions_apart(backends, items):
    replies = {item.key: reply.text for item, reply in backends("ad").answer(items, max_new_tokens=NEW_TOKENS)}
    assert len(set(replies.values())) == len(items)


@pytest.mark.parametrize("name", ["ad", "qwen"])
def test_images_and_prefix_run_once_for_a_group(backends, items, name, monkeypatch):
    backend = backends(name, batch_size=4)
    calls = {"images": 0, "prefixes": 0}
    inner = type(backend.model.model)
    for method in ("get_image_features",):
        original = getattr(inner, method)

        def counted(self, pixel_values, grid, *args, _original=original, **kwargs):
            calls["images"] += len(grid)
            return _original(self, pixel_values, grid, *args, **kwargs)

        monkeypatch.setattr(inner, method, counted)
    run = transformers_backend.grow

    def prefixes(model, groups, *more, **kwargs):
        calls["prefixes"] += len(groups)
        return run(model, groups, *more, **kwargs)

    monkeypatch.setattr(transformers_backend, "grow", prefixes)
    assert len(list(backend.answer(items, max_new_tokens=2))) == len(items)
    groups = {item.group: len(item.images) for item in items}
    assert calls == {"images": sum(groups.values()), "prefixes": len(groups)}


@pytest.mark.parametrize("reuse", [True, False])
def test_reading_threads_leave_the_cores_to_the_model(backends, items, reuse, monkeypatch):
    backend = backends("ad", reuse=reuse)
    teams = {"reading": set(), "answering": set()}

    def watched(name, original):
        def call(*args, **options):
            teams[name].add(torch.get_num_threads())
            return original(*args, **options)

        return call

    monkeypatch.setattr(backend, "images", watched("reading", backend.images))
    monkeypatch.setattr(backend, "_replies", watched("answering", backend._replies))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(backend.answer(items, max_new_tokens=1))
        assert teams == {"reading": {1}, "answering": {2}}
    finally:
        torch.set_num_threads(before)


def test_rows_that_have_ended_leave_the_batch(backends, items, monkeypatch):
    backend = backends("ad")
    replies = tokens_and_replies(backend, items[:5], monkeypatch)
    ends = sorted({tokens[1] for tokens, _ in replies.values()})  # whatever comes second ends an answer now
    monkeypatch.setattr(backend.greedy, "ends", ends[:2])
    shorter = tokens_and_replies(backend, items[:5], monkeypatch)
    lengths = set()
    for key, (tokens, _) in replies.items():
        stop = next((index for index, token in enumerate(tokens) if token in ends[:2]), len(tokens) - 1)
        assert shorter[key][0] == tokens[: stop + 1]
        assert shorter[key][1].truncated == (tokens[stop] not in ends[:2])
        lengths.add(stop)
    assert len(lengths) > 1


def test_pads_are_never_generated(backends, items, monkeypatch):
    backend = backends("ad")
    pads = {backend.model.config.image_token_id, backend.model.config.comparison_token_id}
    assert pads <= set(backend.greedy.banned)
    monkeypatch.setattr(backend.greedy, "banned", [])
    head = backend.model.lm_head.weight

    def favour(module, args, output):
        output[..., list(pads)] += 1e4

    handle = backend.model.lm_head.register_forward_hook(favour)
    try:
        free = tokens_and_replies(backend, items[:1], monkeypatch)
        assert set(free[items[0].key][0]) <= pads  # the hook does what it is meant to
        monkeypatch.undo()
        banned = tokens_and_replies(backends("ad"), items[:1], monkeypatch)
        assert not set(banned[items[0].key][0]) & pads
    finally:
        handle.remove()
    assert head is backend.model.lm_head.weight


def test_repetition_penalty_of_the_folder_does_not_count(folders, items, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folders["qwen"], folder)
    file = folder / "generation_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "repetition_penalty": 5.0, "do_sample": True, "temperature": 3.0}))
    plain = TransformersBackend(model=folders["qwen"], device="cpu")
    for reuse in (True, False):
        other = TransformersBackend(model=folder, device="cpu", reuse=reuse)
        assert [(item.key, reply.text) for item, reply in other.answer(items[:3], max_new_tokens=NEW_TOKENS)] == [
            (item.key, reply.text) for item, reply in plain.answer(items[:3], max_new_tokens=NEW_TOKENS)
        ]


@pytest.mark.parametrize("reuse", [True, False])
def test_unreadable_image_is_its_groups_error(backends, items, tmp_path, reuse):
    broken = make_group(tmp_path, "broken", [(60, 60), (60, 60)], QUESTIONS[:2])
    broken[0].images[1].write_bytes(broken[0].images[1].read_bytes()[:90])
    found = {i.key: r for i, r in backends("ad", reuse=reuse).answer([*broken, *items[:2]], max_new_tokens=2)}
    assert len(found) == 4
    for item in broken:
        assert str(broken[0].images[1]) in found[item.key].error
        assert "\n" not in found[item.key].error
        assert found[item.key].text == ""
    assert all(found[item.key].error is None for item in items[:2])


@pytest.mark.parametrize("reuse", [True, False])
def test_image_too_long_and_thin_is_its_groups_error(backends, items, tmp_path, reuse):
    path = tmp_path / "thin.png"
    Image.new("RGB", (8 * 250, 8)).save(path)
    thin = Item(key="thin", group="thin", images=(path,), prefix=(0,), question="?")
    found = {i.key: r for i, r in backends("qwen", reuse=reuse).answer([thin, items[0]], max_new_tokens=2)}
    assert str(path) in found["thin"].error
    assert "200 times" in found["thin"].error
    assert found[items[0].key].error is None


@pytest.mark.parametrize("reuse", [True, False])
def test_chat_template_that_fails_ends_the_run(folders, items, reuse):
    backend = TransformersBackend(model=folders["qwen"], device="cpu", reuse=reuse)
    backend.processor.chat_template = "{{ raise_exception('one image only') }}"
    with pytest.raises(UserError, match=r"chat template cannot be applied \(one image only\)"):
        list(backend.answer(items, max_new_tokens=2))


@pytest.mark.parametrize("reuse", [True, False])
def test_what_does_not_fit_into_memory_is_done_in_parts(backends, items, reuse, monkeypatch):
    backend = backends("ad", reuse=reuse)
    expected = {item.key: reply.text for item, reply in backend.answer(items, max_new_tokens=3)}
    name = "_branch" if reuse else "_generate"
    work, most = getattr(backend, name), 2

    def limited(batch, max_new_tokens):
        if sum(len(one.items) for one in batch) > most or batch[0].items[0].key == "shots/1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(batch, max_new_tokens)

    monkeypatch.setattr(backend, name, limited)
    found = {item.key: reply for item, reply in backend.answer(items, max_new_tokens=3)}
    assert len(found) == len(items)
    failed = {key for key, reply in found.items() if reply.error}
    assert failed <= {"shots/0", "shots/1"}
    assert "shots/1" in failed
    assert "out of memory with one question" in found["shots/1"].error
    assert {key: reply.text for key, reply in found.items() if key not in failed} == {
        key: text for key, text in expected.items() if key not in failed
    }


def test_question_with_tokens_that_stand_for_images(backends, tmp_path):
    """A benchmark's text that quotes a special token does not become an image."""
    path = picture(tmp_path / "a.png", (60, 60), 1)
    items = [
        Item(key=str(n), group="g", images=(path,), prefix=("<|image_pad|>", 0), question=question)
        for n, question in enumerate(("What is <|image_pad|>?", "And <|vision_end|> <|compare_pad|>?"))
    ]
    for reuse in (True, False):
        replies = dict(backends("ad", reuse=reuse).answer(items, max_new_tokens=4))
        assert [reply.error for reply in replies.values()] == [None, None]


def test_prompts_without_a_common_beginning_after_the_images_share_the_images(backends, tmp_path):
    group = make_group(tmp_path, "g", [(60, 60), (60, 60)], ("Yes?", "No?"))
    bare = [Item(key=i.key, group="g", images=i.images, prefix=(0, 1), question=i.question) for i in group]
    backend = backends("ad")
    prepared = backend._prepare(bare)
    assert prepared.prompts[0].ids[prepared.shared - 1] == backend.model.config.vision_end_token_id
    expected = {item.key: backend.processor.tokenizer.decode(by_generate(backend, item)[0]) for item in bare}
    for item, reply in backend.answer(bare, max_new_tokens=NEW_TOKENS):
        assert reply.text == expected[item.key].replace("<|im_end|>", "").strip()


@pytest.mark.parametrize("name", ["ad", "fixed", "qwen"])
def test_positions_are_the_models_own(backends, items, name):
    """Of every prompt of a group, though only the first is asked for."""
    backend = backends(name)
    groups = [[item for item in items if item.group == name] for name in ("pair", "shots", "text")]
    for group in groups:
        prepared = backend._prepare(group)
        for prompt in prepared.prompts:
            row = torch.tensor([prompt.ids])
            if prepared.grid is None:
                expected, delta = torch.arange(len(prompt.ids)).expand(3, 1, -1), torch.zeros(1, 1)
            else:
                expected, delta = backend.model.model.get_rope_index(
                    row, image_grid_thw=prepared.grid, attention_mask=torch.ones_like(row)
                )
            assert torch.equal(prompt.positions, expected[:, 0])
            assert prompt.following == len(prompt.ids) + int(delta)


def test_patches_as_one_product_are_the_convolutions(backends):
    """And the model is as it was afterwards."""
    model = backends("ad").model
    embed = model.model.visual.patch_embed
    pixels = torch.randn(64, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = embed(pixels)
        with branching.patches_as_product(model):
            product = embed(pixels)
        assert torch.equal(embed(pixels), plain)
    assert product.shape == plain.shape
    torch.testing.assert_close(product, plain, atol=1e-5, rtol=1e-5)
    assert "forward" not in vars(embed)


def test_shared_length():
    assert branching.shared_length([[1, 2, 3, 4], [1, 2, 5]]) == 2
    assert branching.shared_length([[1, 2, 3], [1, 2, 3, 4]]) == 2  # something is left to be asked
    assert branching.shared_length([[1, 2, 3]]) == 2
    assert branching.shared_length([[1], [2]]) == 0


def test_like_sizes_stand_together(tmp_path):
    sides = (200, 60, 190, 70)
    groups = [make_group(tmp_path, str(side), [(side, side)] * 2, QUESTIONS[:1]) for side in sides]
    gone = [Item(key="x", group="x", images=(tmp_path / "no.png",), prefix=(0,), question="?")]
    found = [group[0].group for group in sorted_groups([*groups, gone], Sizing())]
    assert found == ["x", "60", "70", "190", "200"]


def test_image_budget_and_size(folders):
    ad = TransformersBackend(model=folders["ad"], device="cpu", image_side=512)
    assert ad.model_size((1024, 512)) == (504, 252)
    assert ad.describe()["images"]["training"] == [1024, 589824]
    small = TransformersBackend(model=folders["ad"], device="cpu", image_max_pixels=56 * 56)
    assert small.model_size((1024, 1024)) == (56, 56)
    qwen = TransformersBackend(model=folders["qwen"], device="cpu")
    assert qwen.describe()["images"]["processor"] == [50176, 1003520]
    for backend, size in ((ad, (1024, 700)), (small, (300, 200)), (qwen, (1100, 733)), (qwen, (60, 60))):
        image = backend.sizing.apply(Image.new("RGB", size))
        grid = backend.processor.image_processor(images=[image], return_tensors="pt")["image_grid_thw"][0].tolist()
        assert backend.model_size(size) == (grid[2] * 14, grid[1] * 14)


def test_description_leaves_out_what_does_not_change_answers(folders):
    one = TransformersBackend(model=folders["ad"], device="cpu", batch_size=1, reuse=False).describe()
    other = TransformersBackend(model=folders["ad"], device="cpu", batch_size=8).describe()
    assert json.loads(json.dumps(one)) == other
    assert one["family"] == "adcopilot"
    assert one["dtype"] == "float32"
    assert TransformersBackend(model=folders["qwen"], device="cpu").describe()["model_digest"] != one["model_digest"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"image_side": 3}, "--image-side is 3"),
        ({"image_max_pixels": 10, "image_min_pixels": 20}, "expected 0 < min <= max"),
        ({"dtype": "float31"}, "--dtype is 'float31'"),
        ({"family": "qwen"}, "--family is 'qwen'"),
    ],
)
def test_wrong_settings(folders, options, message):
    with pytest.raises(UserError, match=message):
        TransformersBackend(**{"model": folders["ad"], "device": "cpu", **options})


def test_wrong_models(folders, tmp_path):
    near = folders["qwen"].parent / "qwenn"
    with pytest.raises(UserError, match=r"no such folder; did you mean .*/qwen\?"):
        TransformersBackend(model=near, device="cpu")
    with pytest.raises(UserError, match=r"config.json: not found"):
        TransformersBackend(model=tmp_path, device="cpu")
    with pytest.raises(UserError, match="not to be had from huggingface"):
        TransformersBackend(model="nobody/no-such-model", device="cpu")
    strange = tmp_path / "strange"
    shutil.copytree(folders["qwen"], strange)
    config = json.loads((strange / "config.json").read_text())
    config |= {"architectures": ["TheirModel"], "auto_map": {"AutoModelForImageTextToText": "modeling.TheirModel"}}
    (strange / "config.json").write_text(json.dumps(config))
    (strange / "modeling.py").write_text("raise SystemExit('code of a model was run')")
    with pytest.raises(UserError, match="add --trust-remote-code"):
        TransformersBackend(model=strange, device="cpu")


def test_eager_attention_answers_the_same(folders, backends, items, monkeypatch):
    eager = TransformersBackend(model=folders["ad"], device="cpu", attention="eager")
    assert eager.reuse
    expected = {item.key: reply.text for item, reply in backends("ad").answer(items, max_new_tokens=NEW_TOKENS)}
    assert {item.key: r.text for item, r in eager.answer(items, max_new_tokens=NEW_TOKENS)} == expected


def test_branches_use_attention_that_takes_their_mask(backends):
    """Flash-attention would ignore which question a token belongs to."""
    model = backends("ad").model
    config = model.model.language_model.config
    given = config._attn_implementation
    try:
        config._attn_implementation = "flash_attention_2"
        with branching._masked_attention(model):
            assert config._attn_implementation == "sdpa"
        assert config._attn_implementation == "flash_attention_2"
    finally:
        config._attn_implementation = given


def test_a_branch_sees_its_prefix_and_itself():
    owners = torch.tensor([[-2, -1, -1, 0, 1, 1, -2], [-1, -1, -1, 2, 2, 3, 3]])
    seen = branching._branch_mask(owners, 4, dtype=torch.float32)[:, 0] == 0
    assert seen.int().tolist() == [
        [[0, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 1]],
        [[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 1]],
    ]
