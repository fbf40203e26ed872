"""The `adcopilot` command: its table, its errors and exit codes, and that asking for help loads nothing heavy."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import adcopilot
from adcopilot import cli
from adcopilot.errors import UserError

PROBE = cli.commands.Command("probe_module", "a probe", "adcopilot probe")


def run_process(*argv: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "adcopilot.cli", *argv], capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture
def command(monkeypatch):
    """Replaces the table by one command, `probe`, whose `run` is the function given; returns a way to call it."""

    def install(run):
        def add_arguments(parser):
            parser.add_argument("--number", type=int, default=7)
            parser.add_argument("--root", type=Path)

        monkeypatch.setitem(sys.modules, "probe_module", SimpleNamespace(add_arguments=add_arguments, run=run))
        monkeypatch.setattr(
            cli, "COMMANDS", {"probe": cli.commands.Command("probe_module", "a probe", "adcopilot probe")}
        )

    return install


def test_import_and_help_load_neither_torch_nor_transformers():
    code = """
import sys, adcopilot, adcopilot.cli
assert adcopilot.cli.main(["--help"]) == 0
assert adcopilot.cli.main(["data", "--help"]) == 0
heavy = {"torch", "transformers", "llamafactory", "numpy", "PIL", "datasets", "gradio"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_version():
    done = run_process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"adcopilot {adcopilot.__version__}\n", "")


def test_help_lists_every_command_and_group(capsys):
    assert cli.main([]) == 0
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :], "alone, `adcopilot` prints its help"
    for name in cli.COMMANDS:
        assert f"\n  {name.split()[0]} " in out
    assert cli.main(["data", "convert"]) == 0
    assert "magicbrush" in capsys.readouterr().out


def test_each_group_of_the_table_has_a_help_line():
    prefixes = {" ".join(name.split()[:depth]) for name in cli.COMMANDS for depth in range(1, len(name.split()))}
    assert prefixes == set(cli.GROUPS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_of_the_table_shows_its_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: adcopilot {name}")


def test_no_help_takes_seconds():
    """What torch takes to import alone; and no command looks at the hardware before it is known what is asked."""
    code = """
import contextlib, io, sys
from adcopilot import cli
for name in cli.COMMANDS:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        cli.main([*name.split(), "--help"])
    found = {"torch", "transformers", "gradio", "pandas"} & set(sys.modules)
    assert not found, (name, found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


CONVERTERS = "clevr-change, magicbrush, spot-the-diff, pixmo-cap, m4-instruct, llava-mix, olmo-sft"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["inpsect"], "error: adcopilot: no command 'inpsect'; did you mean `adcopilot inspect`?\n"),
        (["data", "cnvert"], "error: adcopilot data: no command 'cnvert'; did you mean `adcopilot data convert`?\n"),
        (
            ["pixmo-cap"],
            "error: adcopilot: no command 'pixmo-cap'; did you mean `adcopilot data convert pixmo-cap`?\n",
        ),
        (["data", "convert", "zzz"], f"error: adcopilot data convert: no command 'zzz'; there are: {CONVERTERS}\n"),
    ],
)
def test_an_unknown_command_names_the_closest_one(argv, expected, capsys):
    assert cli.main(argv) == 2
    assert capsys.readouterr().err == expected


def test_a_command_gets_its_arguments_and_its_exit_code_is_kept(command):
    seen = []
    command(lambda args: seen.append(args.number))
    assert cli.main(["probe"]) == 0
    assert cli.main(["probe", "--number", "3"]) == 0
    assert seen == [7, 3]
    command(lambda args: 5)
    assert cli.main(["probe"]) == 5


def test_a_setting_may_stand_behind_an_option(monkeypatch):
    """Where a message says `image_max_pixels=401408`, it is typed at the end of the line."""
    seen = []

    def add_arguments(parser):
        parser.add_argument("yaml")
        parser.add_argument("overrides", nargs="*")
        parser.add_argument("--gpu-memory", type=float)

    module = SimpleNamespace(add_arguments=add_arguments, run=lambda args: seen.append(args.overrides))
    monkeypatch.setitem(sys.modules, "probe_module", module)
    monkeypatch.setattr(cli, "COMMANDS", {"probe": PROBE})
    assert cli.main(["probe", "a.yaml", "x=1", "--gpu-memory", "80", "y=2"]) == 0
    assert cli.main(["probe", "--gpu-memory", "80", "a.yaml"]) == 0
    assert seen == [["x=1", "y=2"], []]


def test_a_wrong_option_is_one_line_and_code_2(command, capsys):
    command(lambda args: 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(["probe", "--number", "three"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: argument --number: invalid int value: 'three'; see `adcopilot probe --help`\n"
    )


def test_a_user_error_is_one_line_and_code_2(command, capsys):
    def run(args):
        raise UserError("a.png: truncated\n  after 12 bytes; write it again")

    command(run)
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == "error: a.png: truncated after 12 bytes; write it again\n"


def test_other_errors_keep_their_traceback(command):
    def run(args):
        raise ValueError("a fault of ours")

    command(run)
    with pytest.raises(ValueError, match="a fault of ours"):
        cli.main(["probe"])


def test_ctrl_c_is_code_130(command, capsys):
    def run(args):
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_package_that_is_missing_is_named(command, capsys):
    def run(args):
        import a_package_that_nobody_has  # noqa: F401

    command(run)
    assert cli.main(["probe"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(
        "error: adcopilot probe: needs the package 'a_package_that_nobody_has', which is not installed;"
    )


@pytest.mark.parametrize(
    ("package", "extra"), [("pyarrow.parquet", "data"), ("ray", "ray"), ("datasets", "train"), ("torch.nn", "train")]
)
def test_the_extra_that_brings_a_missing_package_is_named(command, capsys, monkeypatch, package, extra):
    def run(args):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    command(run)
    assert cli.main(["probe"]) == 2
    assert f"[{extra}]'`" in capsys.readouterr().err


def test_a_broken_package_that_is_there_keeps_its_traceback(command):
    def run(args):
        import adcopilot.no_such_module  # noqa: F401

    command(run)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_a_reader_that_goes_away_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "adcopilot.cli", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=300
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOENT])
def test_what_the_disk_says_is_one_line(command, capsys, number):
    def run(args):
        raise OSError(number, os.strerror(number), "/some/where")

    command(run)
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == f"error: /some/where: {os.strerror(number)}\n"


def limited(bytes_: int, *words) -> subprocess.CompletedProcess:
    """`adcopilot …` in a process whose files cannot grow beyond a size, as on a disk that is full."""
    heavy = ", torch._dynamo" if words[0] == "init" else ""  # torch writes files as well
    code = (
        f"import resource, signal, sys{heavy}; from adcopilot.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_}, resource.RLIM_INFINITY)); sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            ["init", "--preset", "tiny"],
            "what is done is kept in out.partial: make room and run the same command again",
        ),
        (["data", "sample", "--count", "40"], "make room and run the same command again"),
    ],
)
@pytest.mark.parametrize("bytes_", [1_000, 20_000])
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(words, advice, bytes_, tmp_path):
    out = tmp_path / "out"
    result = limited(bytes_, *words, "--output", out)
    if result.returncode:  # the largest limit holds all of the sample set's files
        assert (result.returncode, result.stdout) == (2, "")
        last = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        assert len(last) == 1
        assert str(tmp_path) in last[0]
        assert "File too large" in last[0] or "os error 27" in last[0]
        assert advice in last[0] or "cannot be written" in last[0]
        assert "Traceback" not in result.stderr
    assert cli.main([*words, "--output", str(out)]) == 0


def test_a_source_of_any_command_that_is_given_twice(command, capsys):
    """A7: the last one won, without a word."""
    command(lambda args: print(args.root, args.number))
    with pytest.raises(SystemExit) as stop:
        cli.main(["probe", "--root", "a", "--root", "b"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: argument --root: given twice, a and b; expected once")
    assert cli.main(["probe", "--root", "a", "--number", "1", "--number", "2"]) == 0
    assert capsys.readouterr().out == "a 2\n"
