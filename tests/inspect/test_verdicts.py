"""No verdict without its ground: what `inspect` says, counts, writes and draws where it has one, and where not."""

import json
import math
import shutil

import pytest

from adcopilot.inspect.model_inspector import ModelInspector

from ..helpers.model_folders import change_json, change_weights
from .conftest import part
from .test_pairs import hostile

pytestmark = pytest.mark.forward


@pytest.fixture
def run(run):
    """Run `inspect` on the CPU with short answers; returns code, stdout, stderr."""
    return lambda model, *options: run(
        "inspect", "--model", model, "--device", "cpu", "--max-new-tokens", "2", *options
    )


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
    pair = ("--template", folders / "good/0.png", "--query", folders / "test/0.png")
    code, out, _ = run(deciding_dir, *pair, "--threshold", "0")
    assert (code, out[:13]) == (0, "ANOMALOUS  0.")


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


@pytest.fixture(scope="module")
def spoilt(adcopilot_dir, tmp_path_factory):
    """A copy of the model whose embedding of a token that nobody writes is what the test makes of it."""
    folder = shutil.copytree(adcopilot_dir, tmp_path_factory.mktemp("spoilt") / "model")

    def spoil(value):
        def put(weight):
            weight[-1, -1] = value
            return weight

        change_weights(folder, "model.language_model.embed_tokens.weight", put)
        return folder

    return spoil


@pytest.mark.parametrize(
    ("value", "kind", "dtype"),
    [(math.nan, "1 NaN", "float32"), (math.inf, "1 Inf", "bfloat16"), (70000.0, "1 Inf", "float16")],
)
def test_a_weight_that_is_not_finite_ends_it_in_one_line(run, spoilt, folders, value, kind, dtype):
    """A1: it answered "normal" with exit 0. (Every kind of number in every dtype: `test_finite.py`.)"""
    model, output = spoilt(value), folders / "r.jsonl"
    sources = ("--template", folders / "good/0.png", "--query", folders / "test/0.png")
    code, out, err = run(model, *sources, "--dtype", dtype, "--json", "--output", output)
    assert (code, out, output.read_text()) == (2, "", "")
    [line] = [line for line in err.splitlines() if "Loading" not in line and line]
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
        good, bad, other = inspector.inspect_many([(part(k), part(k + 9)) for k in range(3)])
    finally:
        hook.remove()
    assert "the model's logits are not finite (step 2 of its answer)" in bad.error
    assert (bad.verdict, bad.anomalous, bad.score, bad.yes_no_mass) == ("undecided", None, None, None)
    json.dumps(bad.to_dict(), allow_nan=False)
    assert (good.error, other.error) == (None, None)


# A3: a picture and itself


def test_a_pair_of_the_same_picture_is_undecided(run, deciding_dir, folders):
    shutil.copy(folders / "good/0.png", folders / "copy.png")
    code, out, _ = run(deciding_dir, "--template", folders / "good/0.png", "--query", folders / "copy.png", "--json")
    line = json.loads(out)
    assert (code, line["verdict"], line["score"], line["yes_no_mass"]) == (0, "undecided", None, None)
    assert "the template is the query itself" in line["reason"]
    [result] = ModelInspector(model=deciding_dir, device="cpu", max_new_tokens=1).inspect_many([(part(2), part(2))])
    assert (result.anomalous, result.reason) == (None, line["reason"])


@pytest.mark.parametrize("link", [False, True])
def test_the_same_folder_twice_is_refused(refusal, adcopilot_dir, folders, link):
    """It compared each picture with itself: "12 normal"."""
    other = folders / "test"
    if link:
        other = folders / "alias"
        other.symlink_to(folders / "test")
    said = refusal(adcopilot_dir, "--template-dir", other, "--query-dir", folders / "test")
    assert "--pair-pattern '{}_test.jpg={}_temp.jpg'" in said
    refusal(adcopilot_dir, "--query-dir", folders / "test", "--pair-pattern", "{}={}")


def test_one_folder_by_a_pattern(run, deciding_dir, tmp_path):
    for index in range(3):
        folder = tmp_path / "pcb" / str(index)
        folder.mkdir(parents=True)
        part(index).save(folder / f"{index}_temp.png")
        part(index, defect=True).save(folder / f"{index}_test.png")
    (tmp_path / "pcb/2/2_temp.png").unlink()
    options = ("--query-dir", tmp_path / "pcb", "--pair-pattern", "{}_test.png={}_temp.png", "--json")
    code, out, err = run(deciding_dir, *options)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [line["query"][-12:] for line in lines] == [f"{index}/{index}_test.png" for index in range(3)]
    assert [line["template"][-12:] for line in lines[:2]] == [f"{index}/{index}_temp.png" for index in range(2)]
    assert "its template 2/2_temp.png is not in" in lines[2]["error"]
    assert "templates: 2 by pattern, 0 by equal names, 0 by likeness" in err
    code, _, err = run(deciding_dir, *options[:3], "{}_no.png={}_temp.png")
    assert code == 2
    assert "none of its 5 images is a query" in err


def test_queries_among_the_templates_are_no_templates(run, deciding_dir, folders):
    (folders / "test").rename(folders / "good/test")
    code, out, err = run(
        deciding_dir, "--template-dir", folders / "good", "--query-dir", folders / "good/test", "--json"
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, len(lines)) == (0, 6)
    assert not any("/test/" in line["template"] for line in lines)
    assert "templates: 0 by pattern, " in err


# A7: an option twice


@pytest.mark.parametrize("option", ["--template", "--query", "--threshold", "--output", "--model"])
def test_an_option_twice_is_refused(run, adcopilot_dir, option, capsys):
    with pytest.raises(SystemExit) as left:
        run(adcopilot_dir, "--template", "a", "--query", "b", "--threshold", "0.1", "--output", "c", option, "0.2")
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: argument {option}: given twice, ")
    assert said.count("\n") == 1


# A5: the sizes of training


@pytest.fixture(scope="module")
def sized_dir(deciding_dir, tmp_path_factory):
    """A model that says it was trained on pictures of 56×56 pixels."""
    folder = shutil.copytree(deciding_dir, tmp_path_factory.mktemp("sized") / "model")
    change_json(folder / "processor_config.json", trained_sizes={"pixels": [3136, 3136], "sides": [56, 56]})
    return folder


def test_a_picture_far_outside_the_sizes_of_training_is_undecided(run, sized_dir, tmp_path):
    (tmp_path / "test").mkdir()
    for name, size in (("a", (56, 56)), ("b", (112, 112)), ("c", (400, 300)), ("d", (300, 300))):
        part(1, size=size, defect=True).save(tmp_path / f"test/{name}.png")
    part(size=(56, 56)).save(tmp_path / "good.png")
    options = ("--template", tmp_path / "good.png", "--query-dir", tmp_path / "test", "--json")
    code, out, err = run(sized_dir, *options)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["verdict"] == "undecided" for line in lines] == [False, False, True, True]
    assert (
        "c.png: the model sees 392×308 pixels, far outside the sizes of its training (3,136 pixels, sides of 56)"
        in lines[2]["reason"]
    )
    assert lines[2]["score"] is not None
    [told] = [line for line in err.splitlines() if "far outside" in line]  # once
    assert told.endswith("; --any-size gives a verdict all the same")
    assert "2 undecided" in err
    code, out, err = run(sized_dir, *options, "--any-size")
    for line in map(json.loads, out.splitlines()[2:]):
        assert line["verdict"] == ("anomalous" if line["score"] >= 0.5 else "normal")
        assert "answered all the same, as --any-size asks" in line["reason"]
    far = tmp_path / "far.png"
    part(size=(400, 300)).save(far)
    _, out, _ = run(sized_dir, "--template", far, "--query", tmp_path / "test/a.png", "--json")
    assert f"{far}: the model sees" in json.loads(out)["reason"]


@pytest.mark.parametrize(("name", "value"), [("trained_sizes", "x"), ("image_max_pixels", "x")])
def test_a_damaged_field_of_the_processor_is_one_line(run, sized_dir, folders, tmp_path, name, value):
    folder = shutil.copytree(sized_dir, tmp_path / "model")
    change_json(folder / "processor_config.json", **{name: value})
    code, out, err = run(folder, "--template", folders / "good/0.png", "--query", folders / "test/0.png")
    assert (code, out) == (2, "")
    assert f"{name}" in err.splitlines()[-1]
    assert "is 'x', expected" in err.splitlines()[-1]


# E5: hostile names and kinds of files


def test_hostile_files_are_lines_on_every_run(run, deciding_dir, tmp_path):
    expected = hostile(tmp_path / "test")
    part(3).save(tmp_path / "good.png")
    output = tmp_path / "r.jsonl"
    options = ("--template", tmp_path / "good.png", "--query-dir", tmp_path / "test", "--output", output)
    for _ in range(2):
        code, out, err = run(deciding_dir, *options, "--draw", tmp_path / "pictures", "--json")
        lines = {json.loads(line)["query"]: json.loads(line) for line in out.splitlines()}
        assert code == 1
        assert {name.rsplit("/", 1)[1]: "error" in line for name, line in lines.items()} == {
            name: error is not None for name, error in expected.items()
        }
        assert "6 could not be inspected" in err
        assert "Traceback" not in err
    assert len(list((tmp_path / "pictures").iterdir())) == 4
    _, out, _ = run(deciding_dir, *options[:4])
    assert len(out.splitlines()) == len(expected)  # one line each
    assert "\x1b" not in out


# E3


def test_an_output_that_is_removed_meanwhile_is_an_error(run, deciding_dir, folders, monkeypatch):
    output = folders / "out/r.jsonl"
    ask = ModelInspector.ask

    def remove(self, questions):
        for number, result in enumerate(ask(self, questions)):
            if number == 2:
                shutil.rmtree(output.parent)
            yield result

    monkeypatch.setattr(ModelInspector, "ask", remove)
    code, _, err = run(
        deciding_dir, "--template-dir", folders / "good", "--query-dir", folders / "test", "--output", output
    )
    assert code == 2
    assert err.splitlines()[-1].startswith(f"error: {output}: was removed or renamed")
