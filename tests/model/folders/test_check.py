"""`adcopilot check`: `generate` held against what it answered when the folder was written, and what may come of it.

By the folder's own code it is tried in `test_refresh.py`.
"""

import base64
import dataclasses
import io
import json
import re
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot import __version__
from adcopilot.errors import UserError
from adcopilot.inspect.loading import model_digest
from adcopilot.model import AdCopilotForConditionalGeneration as Model
from adcopilot.model import answer
from adcopilot.model import check as module
from adcopilot.model.check import FIXTURE, MARGIN_LIMITS, comparable, read_fixture
from adcopilot.model.comparison_encoder import ComparisonEncoder

from ...helpers.model_folders import change_json, change_weights, with_a_nan

pytestmark = pytest.mark.forward


@pytest.fixture
def folder(checked_dir, tmp_path):
    return shutil.copytree(checked_dir, tmp_path / "model")


@pytest.fixture
def check(command):
    """Runs the command on a CPU: (exit code, its line)."""

    def run(*arguments) -> tuple[int, str]:
        code, [line] = command("check", *arguments, "--device", "cpu")
        return code, line

    return run


@pytest.fixture
def wrong(check):
    """Runs the command, which finds a fault: its line."""

    def run(*arguments) -> str:
        code, line = check(*arguments)
        assert code == 2
        return line

    return run


def change(folder, **fields) -> None:
    change_json(folder / FIXTURE, **fields)


def test_an_unchanged_folder_answers_the_same(check, folder):
    import transformers

    code, line = check(folder)
    assert code == 0
    count = int(re.search(r"(\d) of 8 tokens compared and equal", line)[1])
    assert count >= 4, "too few for the other tests to say anything"
    now = f"adcopilot {__version__} and transformers {transformers.__version__} on cpu in float32"
    assert f"written with {now}, now the code of {now}" in line
    change(folder, transformers="4.57.0")
    assert check(folder)[0] == 0


def test_what_generation_config_says_does_not_matter(check, folder):
    """Sampling, penalties and ends are the user's to set; the tokens are of the best logits."""
    said = {"do_sample": True, "temperature": 2.0, "repetition_penalty": 0.01}
    change_json(folder / "generation_config.json", eos_token_id=read_fixture(folder).tokens[:1], **said)
    assert check(folder)[0] == 0


def test_tampered_weights(wrong, folder):
    """And another version of transformers is the first thing to try."""
    change_weights(folder, "model.language_model.layers.0.mlp.down_proj.weight", lambda weight: -weight)
    line = wrong(folder)
    tokens = read_fixture(folder).tokens
    assert str(folder / FIXTURE) in line
    assert re.search(r"token \d of \d that are compared is another: `generate` gave \[", line)
    assert f"expected {tokens}" in line
    assert f"`adcopilot check {folder} --write`" in line
    change(folder, transformers="4.57.0")
    line = wrong(folder)
    assert line.endswith("try `pip install transformers==4.57.0`")


def test_a_changed_encoder_alone_is_seen(wrong, folder):
    """What makes the model AD-Copilot's counts in the tokens, and is not just watched."""
    name = "model.comparison_encoder.projector.weight"
    change_weights(folder, name, lambda weight: -weight)
    wrong(folder)


def test_a_version_under_which_it_does_not_load_or_run(wrong, folder, monkeypatch):
    def gone(*_, **__):
        raise AttributeError("no attribute\n'generate'")

    generate, calls = Model.generate, []

    def gone_later(*arguments, **options):
        calls.append(1)
        return generate(*arguments, **options) if len(calls) == 1 else gone()

    change(folder, transformers="4.57.0")
    for name, instead, said in (
        ("generate", gone_later, "`generate` stopped (AttributeError: no"),
        ("generate", gone, "the model cannot answer (no attribute"),
        ("from_pretrained", gone, "cannot be loaded"),
    ):
        monkeypatch.setattr(Model, name, instead)
        line = wrong(folder)
        assert said in line
        assert line.endswith("try `pip install transformers==4.57.0`")


def test_not_finite_weights(wrong, folder):
    change_weights(folder, "model.comparison_encoder.projector.weight", with_a_nan)
    for arguments in ((), ("--write",)):
        line = wrong(folder, *arguments)
        assert "1 NaN of its weights are not finite" in line
        assert "projector.weight" in line


def test_not_finite_logits(wrong, folder):
    """Finite weights may overflow on the way."""
    change_weights(folder, "model.language_model.norm.weight", lambda weight: weight * 1e38)
    assert "logits are not finite (step 1" in wrong(folder)


def test_an_answer_without_comparison(wrong, folder, monkeypatch):
    """Each image with itself, and not at all: neither makes a fixture, nor passes where there is one."""
    compare = ComparisonEncoder.forward
    # enough of itself: the first image of a conversation is compared with itself too
    monkeypatch.setattr(
        ComparisonEncoder,
        "forward",
        lambda self, features, grid_thw, previous_image, compared: compare(
            self, features, grid_thw, list(range(len(previous_image))), compared
        ),
    )
    written = (folder / FIXTURE).read_bytes()
    (folder / FIXTURE).unlink()
    assert "nothing is compared" in wrong(folder, "--write")

    monkeypatch.undo()
    monkeypatch.setattr(ComparisonEncoder, "__call__", lambda self, *given: self.forward(*given))
    assert not (folder / FIXTURE).exists()
    for fixture, words in ((None, ["--write"]), (written, [])):  # no match either, though all its tokens are equal
        if fixture:
            (folder / FIXTURE).write_bytes(fixture)
        assert "called 0 times in one `generate` with 2 images, expected once" in wrong(folder, *words)
        assert (folder / FIXTURE).exists() is bool(fixture)


def test_behind_a_near_tie_nothing_is_compared(check, wrong, folder):
    fixture = read_fixture(folder)
    margins = [*fixture.margins[:2], 0.0099, *fixture.margins[3:]]
    change(folder, margins=margins, tokens=[*fixture.tokens[:2], *(1 for _ in fixture.tokens[2:])])
    code, line = check(folder)
    assert code == 0
    assert "2 of 8 tokens compared and equal" in line
    change(folder, tokens=[fixture.tokens[0], 1, *fixture.tokens[2:]])
    assert "token 2 of 2 that are compared is another" in wrong(folder)


def test_where_all_is_a_near_tie_it_is_not_well(wrong, folder):
    """No "equal" without ground."""
    change(folder, margins=[0.001] * 8)
    said = "no token can be compared: the first one's logit is 0.001 ahead of the second best, expected 0.01"
    assert said in wrong(folder)
    change(folder, margins=[0.3] * 8)
    line = wrong(folder, "--dtype", "bfloat16")
    assert f"0.3 ahead of the second best, expected {MARGIN_LIMITS['bfloat16']}" in line
    assert "--write --dtype float32" in line


def test_a_slow_model_is_asked_once(model, processor, monkeypatch):
    """At 7B one question can take a minute; near ties are then a shorter answer to compare, and no reason to go on."""
    asked = []

    def ask(*arguments, **question):
        asked.append(question["prompt"])
        found = ANSWER(*arguments, **question)
        return dataclasses.replace(found, margins=[0.0] * len(found.margins))

    ANSWER = answer.ask
    monkeypatch.setattr(answer, "ask", ask)
    module.make_fixture(model, processor)
    assert len(set(asked)) == len(answer.QUESTIONS)
    asked.clear()
    monkeypatch.setattr(module, "_PATIENCE", -1.0)
    module.make_fixture(model, processor)
    assert len(set(asked)) == 1


def test_comparable_counts_up_to_the_first_below_the_limit():
    assert comparable([1.0, 0.5, 0.4, 9.0], limit=0.5) == 2
    assert comparable([1.0], limit=0.5) == 1
    assert comparable([0.0, 1.0], limit=0.5) == 0


def test_other_ids_are_the_processors_fault(check, wrong, folder):
    ids = read_fixture(folder).input_ids
    change(folder, input_ids=[*ids[:4], 1, *ids[5:]])
    line = wrong(folder)
    assert f"the processor makes {len(ids)} ids of the prompt and its images, expected {len(ids)}" in line
    assert "they are others from id 5 on" in line
    change(folder, input_ids=ids[:-1])
    assert "one is the beginning of the other" in check(folder)[1]


def test_without_fixture(check, wrong, folder):
    (folder / FIXTURE).unlink()
    line = wrong(folder)
    assert f"{folder / FIXTURE}: not found" in line
    assert f"`adcopilot check {folder} --write`" in line
    code, line = check(folder, "--write")
    assert code == 0
    assert line.startswith(f"wrote {folder / FIXTURE} with ")
    assert check(folder)[0] == 0
    assert check(folder, "--write")[1].startswith("replaced ")


def test_other_folders_are_refused(check, wrong, qwen_base_dir, tmp_path):
    assert "no such model folder" in check(tmp_path / "nowhere")[1]
    assert "model_type is 'qwen2_5_vl', expected 'adcopilot'" in wrong(qwen_base_dir)
    assert not (qwen_base_dir / FIXTURE).exists()


def test_the_fixture_decides_about_no_answer(folder):
    """What was measured with a folder stays that folder's when a fixture is written into it."""
    before = model_digest(folder)
    change(folder, text="other")
    assert model_digest(folder) == before


def png(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


DAMAGED = [
    ("format", 2, "format is 2, expected 1"),
    ("adcopilot", "1; rm -r ~", "expected a version"),
    ("transformers", "`x`", "expected a version"),
    ("torch", None, "torch is None"),
    ("dtype", "int8", "expected one of float32"),
    ("dtype", [], "expected one of float32"),
    ("device", 0, "device is 0"),
    ("template", "", "a picture cannot be read"),
    ("query", "!!", "a picture cannot be read"),
    ("query", png(2000, 2000), "2000 x 2000 pixels, expected 1048576 at most"),
    ("min_pixels", 0, "min_pixels is 0"),
    ("min_pixels", True, "min_pixels is True"),
    ("min_pixels", 50000, "expected 12544 (max_pixels) at most"),
    ("max_pixels", 10**12, "max_pixels is 1000000000000"),
    ("prompt", ["x"], "prompt is ['x'], expected a text"),
    ("input_ids", [], "expected a list of 1 to"),
    ("input_ids", [-1], "input_ids is [-1]"),
    ("tokens", [1.5], "tokens is [1.5]"),
    ("tokens", [1] * 65, "expected a list of 1 to 64"),
    ("margins", [1.0], "margins is [1.0], expected a list of 8 numbers"),
    ("margins", [float("nan")] * 8, "expected a list of 8 numbers"),
    ("more", 1, "field 'more' is unknown"),
]


@pytest.mark.parametrize(("name", "value", "said"), DAMAGED)
def test_a_damaged_field_is_named(wrong, folder, name, value, said):
    change(folder, **{name: value})
    line = wrong(folder)
    assert f"{folder / FIXTURE}: damaged, " in line
    assert said in line
    assert "--write`" in line


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b" " * 2**21]
)
def test_a_damaged_file(wrong, folder, content):
    (folder / FIXTURE).write_bytes(content)
    assert "damaged, " in wrong(folder)


def test_a_missing_field_or_a_folder_in_its_place(check, folder):
    change_json(folder / FIXTURE, without=["margins"])
    assert "margins is missing" in check(folder)[1]
    (folder / FIXTURE).unlink()
    (folder / FIXTURE).mkdir()
    assert "is a folder, expected a file" in check(folder)[1]


def test_a_prompt_without_its_images(wrong, folder):
    change(folder, prompt="Hi.")
    assert "the prompt has 0 times <|image_pad|>, expected 2" in wrong(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(data=st.data(), value=JSON)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_a_fixture_or_one_line(checked_dir, tmp_path, data, value):
    fields = json.loads((checked_dir / FIXTURE).read_text())
    name = data.draw(st.sampled_from([None, *fields]))
    path = tmp_path / FIXTURE
    path.write_text(json.dumps(value if name is None else {**fields, name: value}))
    said = fixture = None
    try:
        fixture = read_fixture(tmp_path)
    except UserError as error:
        said = str(error)
    if said is None:
        assert getattr(fixture, name) == value
    else:
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
