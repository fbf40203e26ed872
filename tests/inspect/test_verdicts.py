"""No verdict without its ground: what `inspect` says, counts, writes and draws where it has one, and where not."""

import json

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
