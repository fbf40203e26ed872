"""A model folder whose JSON files are not of its weights: one line, before any picture is looked at."""

import json
import shutil

import pytest

from adcopilot.errors import UserError
from adcopilot.inspect import loading
from adcopilot.inspect.loading import load_model
from adcopilot.jsonl import file_digest

from ..helpers.model_folders import change_json, change_weights

pytestmark = pytest.mark.forward


@pytest.fixture
def policy_refused():
    """What GRPO says of a folder instead of training its model; where GRPO can be had, or the test ends here."""

    def refused(folder) -> str:
        pytest.importorskip("peft", reason="GRPO needs peft")
        from adcopilot.grpo.policy import load_policy

        with pytest.raises(UserError) as error:
            load_policy(str(folder), attention="eager", bf16=False)
        return str(error.value)

    return refused


@pytest.fixture
def folder(adcopilot_dir, tmp_path):
    return shutil.copytree(adcopilot_dir, tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "key", "value", "says"),
    [
        ("preprocessor_config.json", "patch_size", 0, "the model cannot answer (division by zero)"),
        ("preprocessor_config.json", "merge_size", 3, "the model cannot answer ("),
        ("preprocessor_config.json", "min_pixels", "x", "the model cannot answer ("),
        ("preprocessor_config.json", "image_mean", [float("nan")] * 3, "the model's logits are not finite (step 1"),
        ("processor_config.json", "num_comparison_tokens", 3, "the model cannot answer (2 images need 10"),
        ("generation_config.json", "eos_token_id", "x", "the model cannot answer ("),
        ("config.json", "text_config.rope_scaling.mrope_section", [1, 1], "the model cannot answer ("),
        ("config.json", "text_config.rms_norm_eps", float("nan"), "the model's logits are not finite (step 1"),
        ("config.json", "comparison_token_id", 7, "its processor writes token"),  # it answered, without comparison
    ],
)
def test_inspect_and_grpo_refuse_what_a_wrong_value_makes_of_a_model(
    folder, folders, policy_refused, run, file, key, value, says
):
    if file == "preprocessor_config.json" and not (folder / file).exists():
        file, key = "processor_config.json", f"image_processor.{key}"  # transformers 5 writes one for all processors
    change_json(folder / file, **{key: value})
    words = ("--template", folders / "good/0.png", "--query", folders / "test/0.png", "--json", "--device", "cpu")
    code, out, err = run("inspect", "--model", folder, *words)
    assert (code, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err
    assert line.startswith(f"error: {folder}: {says}")
    assert policy_refused(folder) in line


def test_logits_that_overflow_for_every_picture_are_one_line(folder):
    """Finite weights: it was a line with an error for each picture."""
    change_weights(folder, "model.language_model.norm.weight", lambda weight: weight * 1e38)
    with pytest.raises(UserError, match="not finite \\(step 1 of its answer\\)"):
        load_model(folder, device="cpu", dtype="float32", attention="sdpa")


def test_grpo_does_not_begin_with_weights_that_are_not_there(folder, policy_refused):
    """transformers made them up, and the run ended with exit 0."""
    change_weights(folder, "model.visual.merger.ln_q.weight", lambda _: None)
    index = folder / "model.safetensors.index.json"
    fields = json.loads(index.read_text())
    fields["weight_map"].pop("model.visual.merger.ln_q.weight")
    index.write_text(json.dumps(fields))
    assert "1 weights are missing, model" in policy_refused(folder)


def test_a_policy_whose_tokenizer_is_gone(folder, policy_refused):
    for name in ("tokenizer.json", "vocab.json"):
        (folder / name).unlink(missing_ok=True)  # transformers 5 writes no vocab.json
    assert "its processor or tokenizer cannot be loaded" in policy_refused(folder)


def test_weights_are_hashed_once_until_they_change(folder, monkeypatch):
    read = []
    monkeypatch.setattr(loading, "file_digest", lambda file: (read.append(file.name), file_digest(file))[1])
    first = loading.model_digest(folder)
    files = len(read)
    assert (loading.model_digest(folder), len(read)) == (first, files)
    with open(folder / "config.json", "a") as file:
        file.write("\n")
    assert loading.model_digest(folder) != first
    assert len(read) == 2 * files


@pytest.mark.parametrize("file", ["config.json", "inspection.json"])
def test_a_slip_in_the_name_of_a_model_or_a_line_is_answered_with_the_right_one(tmp_path, file):
    (tmp_path / "bracket").mkdir()
    (tmp_path / "bracket" / file).write_text("{}")
    with pytest.raises(UserError, match=f"brackt: no such model folder; did you mean {tmp_path / 'bracket'}"):
        loading.check_folder(tmp_path / "brackt")
