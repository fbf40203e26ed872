"""Damaged lines and results: whatever a field holds, there are scores by the rules or one line with the place."""

import copy
import json
import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adcopilot import cli
from adcopilot.errors import UserError
from adcopilot.evaluation.line_checks import check_line

from .seeing import MODULES, Bench

BIG = 10**400
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.sampled_from([BIG, -BIG, 1e308, float("nan")])
    | st.floats() | st.text(max_size=6) | st.sampled_from(["A", "boxes", "P2", "\ud800", "VisA/a/b.png", "\x00"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each benchmark."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        if shutil.which("java"):
            patch.setenv("PATH", str(folder))
        for benchmark in MODULES:
            one = Bench(benchmark, folder / benchmark, patch, capsys=None)
            words = one.words("--data-root", one.root, "--model", "m", "--output", one.folder)
            more = ["--anomaly-score"] if benchmark == "mmad-bbox" else []
            assert cli.main([*words, *more]) == 0
            found[benchmark] = one
        yield found


def paths(value, before=()):
    """All fields of a line, those within too."""
    for name, inner in value.items():
        yield (*before, name)
        if isinstance(inner, dict):
            yield from paths(inner, (*before, name))


def put(line, path, value):
    line = copy.deepcopy(line)
    *outer, last = path
    place = line
    for name in outer:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return line


@pytest.mark.parametrize("benchmark", MODULES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_field(runs, benchmark, capsys, data):
    one = runs[benchmark]
    log = one.folder / "answers.jsonl"
    whole = log.read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    number = data.draw(st.integers(0, len(lines) - 1))
    path = data.draw(st.sampled_from(list(paths(lines[number]))))
    lines[number] = put(lines[number], path, data.draw(st.just(...) | values))
    try:
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        capsys.readouterr()
        code = cli.main(["eval", benchmark, *one.scoring, "--score", str(one.folder), "--json"])
    finally:
        log.write_bytes(whole)
    out, err = capsys.readouterr()
    if code == 2:
        assert err.count("\n") == 1 or benchmark == "caption"
        assert f"answers.jsonl:{number + 1}: " in err
    else:
        assert code in (0, 1)
        assert "NaN" not in out
        assert "Infinity" not in out
        json.loads(out)


def test_an_integer_of_400_digits_is_no_finite_number():
    reply = {"text": "A", "seconds": BIG}
    line = {"key": "k", "item": "i", "question": "q", "options": None, "meta": {}, "reply": reply}
    with pytest.raises(UserError, match=r"a:1: reply\.seconds is a number of very many digits, expected a"):
        check_line(line, "a:1")


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"\xff\xfe\x00", b'{"key": 1}', b"null", b'{"key": "k"', b"1" * 5000]
)
def test_lines_that_are_none(runs, capsys, line):
    run = runs["mmad"].folder
    log = run / "answers.jsonl"
    whole = log.read_bytes()
    try:
        log.write_bytes(line + b"\n" + whole)
        assert cli.main(["eval", "mmad", "--score", str(run)]) == 2
    finally:
        log.write_bytes(whole)
    err = capsys.readouterr().err
    assert "answers.jsonl:1: not an answer of this command; remove or repair this line" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["manifest.json", "results.json", "questions.jsonl"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@example(data=None)
def test_damaged_files_in_a_report(runs, name, tmp_path, capsys, data):
    """One line that names the file."""
    run = runs["mmad"].folder
    file = run / name
    whole = file.read_bytes()
    if data is None:
        text = "[" * 100_000
    elif name == "questions.jsonl":
        text = json.dumps(data.draw(values)) + "\n"
    else:
        value = json.loads(whole)
        path = data.draw(st.sampled_from(list(paths(value))))
        text = json.dumps(put(value, path, data.draw(st.just(...) | values)))
    try:
        file.write_text(text)
        capsys.readouterr()
        words = ["eval", "report", str(run), "--output", str(tmp_path / "out"), "--draws", "100", "--samples", "0"]
        code = cli.main(words)
    finally:
        file.write_bytes(whole)
    err = capsys.readouterr().err
    assert code in (0, 2)
    if code:
        assert err.count("\n") == 1
        assert str(run) in err


def test_what_is_said_of_a_field():
    line = {"key": "k", "item": "i", "question": "?", "options": None, "meta": {}, "reply": {"text": None}}
    with pytest.raises(UserError, match=r"^log:3: reply\.text is None, expected a text; remove or repair this line$"):
        check_line(line, "log:3")
    line["reply"] = {"text": "\ud800 ok", "option_logprobs": {"A": float("nan")}}
    with pytest.raises(UserError, match="expected letters with finite logarithms of probabilities"):
        check_line(line, "log:3")
    line["reply"].pop("option_logprobs")
    assert check_line(line, "log:3")["reply"]["text"] == "? ok"
    with pytest.raises(UserError, match=r"meta\.image is missing, expected a path with folders"):
        check_line({**line, "options": {"A": "x"}, "reference": "A"}, "log:3", "mmad")
    meta = {"image": "a/b/c", "dataset": "a", "category": "b", "normal": True, "type": "t", "question": "?"}
    with pytest.raises(UserError, match="reference is 'B', expected one of A"):
        check_line({**line, "options": {"A": "x"}, "reference": "B", "meta": meta}, "log:3", "mmad")
