"""No verdict without its ground: what `inspect` says, counts, writes and draws where it has one, and where not."""

import json
import math
import shutil

import pytest

from adcopilot.cli import main

from .conftest import part

pytestmark = pytest.mark.forward


@pytest.fixture
def run(capsys):
    """Run `inspect` on the CPU with short answers; returns code, stdout, stderr."""

    def run(model, *options):
        words = ["inspect", "--model", model, "--device", "cpu", "--max-new-tokens", "2", *options]
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def told(line):
    """The verdict's part of a JSON line."""
    return {name: line[name] for name in ("verdict", "anomalous", "reason") if name in line}


def test_a_model_that_means_to_say_something_else_gives_no_verdict(run, adcopilot_dir, folders):
    """A2: it said "normal", and counted as normal."""
    options = ("--template-dir", folders / "good", "--query-dir", folders / "test")
    code, out, err = run(adcopilot_dir, *options, "--json", "--output", folders / "r.jsonl")
    assert code == 0
    assert err.splitlines()[-1].startswith("6 queries: 0 anomalous, 0 normal, 6 undecided, 0 could not be inspected")
    for text in (out, (folders / "r.jsonl").read_text()):
        lines = [json.loads(line) for line in text.splitlines()]
        assert {line["verdict"] for line in lines} == {"undecided"}
        assert {line["anomalous"] for line in lines} == {None}
        assert all("have a probability of" in line["reason"] and line["yes_no_mass"] < 0.5 for line in lines)
    code, out, _ = run(adcopilot_dir, *options)
    assert all(line.startswith("UNDECIDED  0.") and "the answer" in line for line in out.splitlines())


def test_a_model_that_decides_is_counted(run, deciding_dir, folders):
    _, out, err = run(deciding_dir, "--template-dir", folders / "good", "--query-dir", folders / "test", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    counts = [sum(line["verdict"] == word for line in lines) for word in ("anomalous", "normal", "undecided")]
    assert counts[2] == 0 < counts[0] < 6
    assert f"6 queries: {counts[0]} anomalous, {counts[1]} normal, 0 undecided" in err
    for line in lines:
        assert told(line) == {"verdict": line["verdict"], "anomalous": line["score"] >= 0.5}


def test_a_line_of_an_older_version_gets_its_verdict_by_the_same_rule(run, adcopilot_dir, folders):
    output = folders / "r.jsonl"
    options = ("--template-dir", folders / "good", "--query-dir", folders / "test", "--json", "--output", output)
    _, fresh, _ = run(adcopilot_dir, *options)
    old = [json.loads(line) for line in output.read_text().splitlines()]
    for line in old:  # as it was written before there were three values
        for name in ("verdict", "reason"):
            del line[name]
        line["anomalous"] = False
    output.write_text("".join(json.dumps(line) + "\n" for line in old))
    before = output.read_bytes()
    _, again, err = run(adcopilot_dir, *options)
    assert output.read_bytes() == before  # computed nothing
    assert "6 undecided" in err
    assert [told(json.loads(line)) for line in again.splitlines()] == [
        told(json.loads(line)) for line in fresh.splitlines()
    ]


@pytest.mark.parametrize(
    ("text", "anomalous"),
    [
        ("<think>It looks bent. No, yes.</think>Yes, it is.", True),
        ("<think>It looks bent.</think><answer>No.</answer>", False),
        ("<answer>Yes</answer>", True),
        ("<think>It looks bent, yes", None),
        ("<think>Hm.</think>Perhaps.", None),
    ],
)
def test_after_reasoning_the_words_decide_and_not_the_first_token(inspector, text, anomalous):
    prepared = inspector._prepare(inspector.pair_question(part(), part(1)))
    result = inspector._result(prepared, text, 0.02, 0.9)
    assert result.anomalous is anomalous
    assert (result.score, result.yes_no_mass) == (None, None)
    assert (result.reason is None) == (anomalous is not None)


def test_a_result_is_read_back_from_its_line(inspector):
    [result] = inspector.inspect([(part(), part(1))])
    line = {**result.as_dict(), "category": "nut"}
    assert type(result).from_dict(line).as_dict() == result.as_dict()


@pytest.fixture(scope="module")
def spoilt(adcopilot_dir, tmp_path_factory):
    """A copy of the model whose embedding of a token that nobody writes is what the test makes of it."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("spoilt") / "model"
    shutil.copytree(adcopilot_dir, folder)
    name = "model.language_model.embed_tokens.weight"
    file = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]

    def spoil(value):
        weights = load_file(file)
        weights[name][-1, -1] = value
        save_file(weights, file, metadata={"format": "pt"})
        return folder

    return spoil


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("value", "kind"), [(math.nan, "1 NaN"), (math.inf, "1 Inf"), (70000.0, "1 Inf")])
def test_a_weight_that_is_not_finite_ends_it_in_one_line(run, spoilt, folders, value, kind, dtype):
    """A1: it answered "normal" with exit 0."""
    if value == 70000 and dtype != "float16":
        return
    model, output = spoilt(value), folders / "r.jsonl"
    sources = ("--template", folders / "good/0.png", "--query", folders / "test/0.png")
    code, out, err = run(model, *sources, "--dtype", dtype, "--json", "--output", output)
    assert (code, out, output.read_text()) == (2, "", "")
    [line] = [line for line in err.splitlines() if "Loading checkpoint" not in line and line]
    assert line.startswith(f"error: {model}: {kind} of its weights are not finite, the first in model.language_model.")
    assert line.endswith("use --dtype bfloat16 or float32" if value == 70000 else "give another checkpoint")


def test_logits_that_overflow_for_one_picture_are_its_error(inspector):
    """At the second token, so that the score of the first would have looked like one."""
    calls = 0

    def overflow(_module, _inputs, logits):
        nonlocal calls
        calls += 1
        if calls == 2:
            logits = logits.clone()
            logits[1, -1, 7] = math.inf
        return logits

    hook = inspector.model.lm_head.register_forward_hook(overflow)
    try:
        good, bad, other = inspector.inspect([(part(k), part(k + 9)) for k in range(3)])
    finally:
        hook.remove()
    assert "the model's logits are not finite (step 2 of its answer)" in bad.error
    assert (bad.verdict, bad.anomalous, bad.score, bad.yes_no_mass) == ("undecided", None, None, None)
    json.dumps(bad.as_dict(), allow_nan=False)
    assert (good.error, other.error) == (None, None)
