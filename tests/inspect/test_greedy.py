"""The engine of inspect and of evaluation: greedy whatever a folder says, cut at the end, with its first logits."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from adcopilot.errors import UserError
from adcopilot.inspect.greedy import Greedy, chat_prompt, whole_tokens
from adcopilot.inspect.model_inspector import ModelInspector

from ..helpers.model_folders import change_json
from .conftest import NEW_TOKENS, part

pytestmark = pytest.mark.forward


def engine(*, ends=None, eos=None, pad=None, answers=()):
    """A `Greedy` whose model "generates" these token ids behind a prompt of two."""
    tokenizer = SimpleNamespace(eos_token_id=eos, pad_token_id=pad)
    config = SimpleNamespace(model_type="adcopilot", image_token_id=90, video_token_id=91, comparison_token_id=92)

    def generate(input_ids, logits_processor, **_):
        for step in range(len(answers[0])):
            scores = torch.zeros(len(answers), 100)
            scores[torch.arange(len(answers)), [row[step] for row in answers]] = step + 1.0
            logits_processor(torch.tensor([row[: step + 1] for row in answers]), scores)
        return torch.cat([input_ids, torch.tensor(answers)], 1)

    model = SimpleNamespace(
        config=config, generation_config=SimpleNamespace(eos_token_id=ends), generate=generate, device="cpu"
    )
    return Greedy(model, SimpleNamespace(tokenizer=tokenizer), name="saves/model")


def test_what_ends_an_answer_is_the_folders_and_the_tokenizers():
    made = engine(ends=[7, 5], eos=6)
    assert (made.ends, made.pad, made.banned) == ([5, 6, 7], 5, [90, 91, 92])
    assert engine(ends=3, eos=None, pad=0).pad == 0
    with pytest.raises(UserError, match="saves/model: neither its tokenizer nor"):
        engine()


def test_an_answer_ends_with_its_end_and_the_first_step_is_kept():
    made = engine(ends=[5], pad=0, answers=[[3, 5, 0, 0], [3, 4, 3, 4]])
    found = made.answer({"input_ids": torch.zeros(2, 2, dtype=torch.long)}, max_new_tokens=4)
    assert found.tokens == [[3, 5], [3, 4, 3, 4]]
    assert found.first_logits[:, 3].tolist() == [1.0, 1.0]
    assert found.first_logits.argmax(-1).tolist() == [3, 3]
    assert found.failed == [0, 0]


def test_nothing_of_a_folders_generation_config_changes_an_answer(inspector, speaking_dir, tmp_path):
    folder = shutil.copytree(speaking_dir, tmp_path / "model")
    fields = {"repetition_penalty": 5.0, "do_sample": True, "temperature": 3.0, "no_repeat_ngram_size": 1}
    change_json(folder / "generation_config.json", **fields)
    changed = ModelInspector(model=folder, device="cpu", max_new_tokens=NEW_TOKENS)
    pairs = [(part(), part(2, defect=True)), (part(1), part(3))]
    plain = [one.answer for one in inspector.inspect_many(pairs)]
    assert [one.answer for one in changed.inspect_many(pairs)] == plain
    assert all(plain)


def test_the_first_words_of_an_answer_as_tokens(inspector):
    tokenizer = inspector.processor.tokenizer
    found = whole_tokens(tokenizer, ["Yes"])
    assert {tokenizer.decode([token]) for token in found} <= {"Yes", " Yes"}
    assert all(len(tokenizer.encode(text)) == 1 for text in map(tokenizer.decode, found))
    assert whole_tokens(tokenizer, ["a word that no vocabulary has whole"]) == set()


def test_a_prompt_has_its_images_where_the_turns_have_them(inspector):
    turns = [("user", [0, "one ", 1, "two"]), ("assistant", ["said"]), ("user", ["more"])]
    text = chat_prompt(inspector.processor, turns)
    image = inspector.processor.image_token
    assert text.count(image) == 2
    assert text.index(image) < text.index("one ") < text.rindex(image) < text.index("two") < text.index("said")
    assert text.index("said") < text.index("more")
