"""Reading YAML: one line for whatever is wrong with it, at once, whatever it holds."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot import yaml_sections
from adcopilot.errors import UserError
from adcopilot.yaml_sections import assign_all, read_yaml, short

pytestmark = pytest.mark.forward


def read(tmp_path, content):
    file = tmp_path / "a.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(file)


def refused(tmp_path, content):
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    assert str(error.value).startswith(str(tmp_path / "a.yaml"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_small_anchors_and_merges_work(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n"
    one = {"x": 1, "y": 2}
    assert read(tmp_path, text) == {"a": one, "b": {"x": 1, "y": 3}, "c": [one, one]}
    assert read(tmp_path, "\ufeffa: 1\n") == {"a": 1}
    assert read(tmp_path, "") is None


def bomb(of, levels=9):
    lines = [f"a0: &a0 {of.format('lol')}"]
    lines += [f"a{n}: &a{n} {of.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [bomb("[{}]"), bomb("{{k: [{}]}}"), bomb("[{}]", levels=300)])
def test_an_alias_bomb_is_refused(tmp_path, text):
    assert "aliases (*) repeat values more than 100000 times" in refused(tmp_path, text)


def test_a_bomb_of_merges_and_a_circle(tmp_path):
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
    )
    assert "aliases" in refused(tmp_path, merges)
    assert "an alias (*) stands within what it names" in refused(tmp_path, "a: &a [1, *a]\n")
    assert "an alias (*) stands within what it names" in refused(tmp_path, "&a a: &b {b: [*b]}\n")


def test_counting_takes_a_step_for_each_line(tmp_path):
    """What is counted grows ninefold with each line, the steps by the same number."""

    def steps(levels):
        count = 0

        def trace(frame, event, argument):
            nonlocal count
            count += event == "line"
            return trace if frame.f_code.co_name == "_refuse_many" else None

        before = sys.gettrace()
        sys.settrace(lambda frame, *rest: trace(frame, *rest) if frame.f_code.co_name == "_refuse_many" else None)
        try:
            with pytest.raises(UserError):
                yaml_sections._load(bomb("[{}]", levels=levels), "a")
        finally:
            sys.settrace(before)
        return count

    assert steps(40) < 2.5 * steps(20)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 20_000, "nested too deeply"),
        ("- " * 20_000, "nested too deeply"),
        ("a: 1\n" * 300_000, "more than 1024 KiB"),
        ("a: 1\na: 2\n", ":2: not YAML (key 'a' stands there twice)"),
        ("a: [1", "not YAML"),
        ("a: !!float x", "not YAML"),
        ("a: !!bool 3", "not YAML"),
        ("a: !!binary ÿ", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!python/object:os.system x", "not YAML"),
        ("a: 2024-13-45", "not YAML"),
        ("a: " + "9" * 5000, "not YAML"),
        ("? [a]\n: 1\n", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: 1".encode("utf-16"), "not UTF-8 text, but UTF-16"),
        (b"a: \xff", "not UTF-8 text"),
    ],
)
def test_each_fault_is_one_line(tmp_path, content, says):
    assert says in refused(tmp_path, content)


def test_what_cannot_be_opened(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yaml", tmp_path / "a\0b"):
        with pytest.raises(UserError, match="cannot be read"):
            read_yaml(path)


def test_settings_of_the_command_line(tmp_path):
    values = {}
    assign_all(values, ["a.b=[1, 2]"])
    assert values == {"a": {"b": [1, 2]}}
    for text in ("a=[1", "a=!!float x", f"a={'[' * 5000}", "a=2024-13-45"):
        with pytest.raises(UserError, match=r"^--set a=.*put it in quotes"):
            assign_all({}, [text])
    for text, said in (
        ("a", r"a: expected KEY=VALUE, as in x=1"),
        ("a.b.c=1", "a.b.c=1: there are no keys below 'a.b'"),
    ):
        with pytest.raises(UserError, match=f"^{said}"):
            assign_all({"a": {"b": 1}}, [text], option="", example="x=1")


def test_a_setting_that_is_given_twice():
    """The last one won, without a word."""
    with pytest.raises(UserError, match=r"is given twice, 'a.b=1' and 'a.b=2'; expected once"):
        assign_all({}, ["a.b=1", "a.c=1", "a.b=2"])


def test_a_value_of_any_size_is_shown():
    assert short(int("f" * 5000, 16)) == "a int too large to be shown"
    assert len(short("x" * 999)) == 58


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *("a", "b: ", "- ", "[", "]", "{", "}", ",", "&x ", "*x ", "<<: ", "!!set ", "!!omap ", "!!pairs "),
                *("? ", "1e3 ", "~ ", "\n", "\n  ", '"', "'", "|", ">", "#", "%", "---", "...", "=", "0x1_"),
                "2024-01-02 ",
            ]
        ),
        max_size=25,
    ).map("".join)
)
def test_any_text_is_a_value_or_one_line(text):
    try:
        yaml_sections._load(text, "a.yaml")
    except UserError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
