"""`-q` and `-v`: one mechanism for what all commands say on stderr."""

import ast
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from adcopilot import cli
from adcopilot.cli.saying import is_quiet, is_verbose, loudness, progress, say
from adcopilot.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def works(args):
    say("a note")
    for _ in progress(range(3), desc="work"):
        pass
    print("a result")
    assert not hasattr(args, "loudness")


@pytest.mark.parametrize("words", [["probe", "-q"], ["-q", "probe"], ["probe", "--quiet"]])
def test_quiet_leaves_results(probe, run, words):
    probe(works)
    assert run(*words) == (0, "a result\n", "")


def test_as_usual_notes_and_progress_are_on_stderr(probe, run):
    probe(works)
    code, out, err = run("probe")
    assert (code, out) == (0, "a result\n")
    assert "a note\n" in err
    assert "3/3" in err


def test_quiet_leaves_errors(probe, run):
    def fails(args):
        say("a note")
        raise UserError("wrong")

    probe(fails)
    assert run("probe", "-q") == (2, "", "error: wrong\n")


def test_verbose_says_what_libraries_log_how_long_it_took_and_where_an_error_came_from(probe, run):
    def fails(args):
        logging.getLogger("a_library").info("loads")
        try:
            int("x")
        except ValueError as error:
            raise UserError("wrong") from error

    probe(fails)
    code, _, err = run("probe", "-v")
    assert code == 2
    assert "a_library: loads\n" in err
    assert "invalid literal for int()" in err
    assert " s\n" in err
    assert err.endswith("error: wrong\n")
    assert run("probe") == (2, "", "error: wrong\n")


def test_both_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["env", "-q", "-v"])
    assert "not allowed with" in capsys.readouterr().err


def test_processes_that_a_command_starts_are_as_quiet_and_afterwards_all_is_as_before():
    code = "from adcopilot.cli.saying import is_quiet, say; say('a note'); print(is_quiet())"
    before = dict(os.environ)
    with loudness("quiet"):
        assert is_quiet()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert (done.stdout, done.stderr) == ("True\n", "")
    assert not is_quiet()
    with loudness("verbose"):
        assert is_verbose()
    assert dict(os.environ) == before


def test_a_real_command_is_silent_but_for_its_results(tmp_path, run):
    for folder in ("good", "today"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.new("RGB", (40, 40), (90 + number, 90, 90)).save(tmp_path / folder / f"{folder}{number}.png")
    words = ["inspect", "--model", "none", "--template-dir", tmp_path / "good", "--query-dir", tmp_path / "today"]
    code, out, err = run(*words, "--json", "--threshold", "0.5", "-q")
    assert (code, err) == (0, "")
    assert len([json.loads(line) for line in out.splitlines()]) == 3
    assert "3 queries: " in run(*words)[2]


#: Where something else than a note goes to stderr: errors and what a server has to say of them, and demos of make.
OWN = {
    *("plugin/cli/__init__.py", "plugin/cli/saying.py", "plugin/llamafactory/hook.py", "plugin/inspect/pictures.py"),
    *("plugin/demo/door/guard.py", "plugin/demo/page.py", "plugin/demo/service.py", "plugin/demo/tabs/marking.py"),
    *("plugin/demo/engines/endpoint.py", "plugin/demo/server.py", "evaluation/lmms/convert.py"),
    *("data/sample_set/demo.py", "data/sample_set/grpo_demo.py"),
    # of parts that fail, beside an exit code that is not 0; and of records that training would leave unmapped
    *("plugin/inspect/command.py", "evaluation/command.py", "data/chat_ad/commands/register.py"),
}


def test_notes_and_bars_go_through_one_place():
    found = set()
    for room in ("plugin", "data", "evaluation"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and "sys.stderr" in map(ast.unparse, [k.value for k in node.keywords]):
                    found.add(path.relative_to(ROOT).as_posix())
                if isinstance(node, ast.ImportFrom) and node.module == "tqdm":
                    found.add(path.relative_to(ROOT).as_posix())
    assert found <= OWN
