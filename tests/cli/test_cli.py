"""The `adcopilot` command: its table, its errors and exit codes, and that asking for help loads nothing heavy."""

import errno
import os
import subprocess
import sys

import pytest

import adcopilot
from adcopilot import cli
from adcopilot.errors import UserError


@pytest.mark.parametrize("module", ["adcopilot", "adcopilot.cli"])
def test_version(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"adcopilot {adcopilot.__version__}\n", "")


def test_help_lists_every_command_and_group(run):
    code, out, _ = run("--help")
    assert code == 0
    assert run() == (0, out, ""), "alone, `adcopilot` prints its help"
    for name in cli.COMMANDS:
        assert f"\n  {name.split()[0]} " in out
    code, out, _ = run("data", "convert")
    assert code == 0
    assert "magicbrush" in out


def test_each_group_of_the_table_has_a_help_line():
    prefixes = {" ".join(name.split()[:depth]) for name in cli.COMMANDS for depth in range(1, len(name.split()))}
    assert prefixes == set(cli.GROUPS)


def test_no_help_takes_seconds():
    """What torch takes to import alone; and no command looks at the hardware before it is known what is asked."""
    code = """
import contextlib, io, sys
from adcopilot import cli
assert cli.main(["--help"]) == cli.main(["data", "--help"]) == 0
heavy = {"torch", "transformers", "llamafactory", "numpy", "PIL", "datasets", "gradio"} & set(sys.modules)
assert not heavy, heavy
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
def test_an_unknown_command_names_the_closest_one(argv, expected, run):
    assert run(*argv) == (2, "", expected)


def test_a_command_gets_its_arguments_and_its_exit_code_is_kept(probe):
    seen = []
    probe(lambda args: seen.append(args.number))
    assert cli.main(["probe"]) == 0
    assert cli.main(["probe", "--number", "3"]) == 0
    assert seen == [7, 3]
    probe(lambda args: 5)
    assert cli.main(["probe"]) == 5


def test_a_setting_may_stand_behind_an_option(probe):
    """Where a message says `image_max_pixels=401408`, it is typed at the end of the line."""
    seen = []

    def add_arguments(parser):
        parser.add_argument("yaml")
        parser.add_argument("overrides", nargs="*")
        parser.add_argument("--gpu-memory", type=float)

    probe(lambda args: seen.append(args.overrides), add_arguments)
    assert cli.main(["probe", "a.yaml", "x=1", "--gpu-memory", "80", "y=2"]) == 0
    assert cli.main(["probe", "--gpu-memory", "80", "a.yaml"]) == 0
    assert seen == [["x=1", "y=2"], []]


def test_a_wrong_option_is_one_line_and_code_2(probe, capsys):
    probe(lambda args: 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(["probe", "--number", "three"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: argument --number: invalid int value: 'three'; see `adcopilot probe --help`\n"
    )


def raising(error: BaseException):
    """A command that ends so."""

    def run(args):
        raise error

    return run


def of_disk(number: int) -> tuple[OSError, int, str]:
    said = os.strerror(number)
    return OSError(number, said, "/some/where"), 2, f"error: /some/where: {said}"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            UserError("a.png: truncated\n  after 12 bytes; write it again"),
            2,
            "error: a.png: truncated after 12 bytes; write it again",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        *map(of_disk, (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOENT)),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_a_code(probe, run, error, code, said):
    """A user's error, Ctrl-C, and what the disk says."""
    probe(raising(error))
    assert run("probe") == (code, "", f"{said}\n")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault of ours"),
        ModuleNotFoundError("No module named 'adcopilot.no_such_module'", name="adcopilot.no_such_module"),
    ],
)
def test_other_errors_keep_their_traceback(probe, error):
    """And a package that is there, but broken."""
    probe(raising(error))
    with pytest.raises(type(error), match=str(error)):
        cli.main(["probe"])


def test_a_package_that_is_missing_is_named(probe, refusal):
    def imports(args):
        import a_package_that_nobody_has  # noqa: F401

    probe(imports)
    err = refusal("probe")
    assert err.startswith(
        "error: adcopilot probe: needs the package 'a_package_that_nobody_has', which is not installed;"
    )


@pytest.mark.parametrize(
    ("package", "extra"), [("pyarrow.parquet", "data"), ("ray", "ray"), ("datasets", "train"), ("torch.nn", "train")]
)
def test_the_extra_that_brings_a_missing_package_is_named(probe, refusal, monkeypatch, package, extra):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    probe(raising(ModuleNotFoundError(f"No module named {package!r}", name=package)))
    assert f"[{extra}]'`" in refusal("probe")


def test_a_reader_that_goes_away_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "adcopilot.cli", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=300
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


#: `adcopilot …` whose files cannot grow beyond a size, as on a disk that is full. (Torch writes some as well.)
LIMITED = """
import resource, signal, sys, torch._dynamo
from adcopilot.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


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
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(words, advice, bytes_, tmp_path, nursery):
    out = tmp_path / "out"
    result = nursery.run(bytes_, *words, "--output", out, code=LIMITED)
    if result.returncode:  # the largest limit holds all of the sample set's files
        assert (result.returncode, result.stdout) == (2, "")
        last = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        assert len(last) == 1
        assert str(tmp_path) in last[0]
        assert "File too large" in last[0] or "os error 27" in last[0]
        assert advice in last[0] or "cannot be written" in last[0]
        assert "Traceback" not in result.stderr
    assert cli.main([*words, "--output", str(out)]) == 0


def test_a_source_of_any_command_that_is_given_twice(probe, capsys):
    """A7: the last one won, without a word."""
    probe(lambda args: print(args.root, args.number))
    with pytest.raises(SystemExit) as stop:
        cli.main(["probe", "--root", "a", "--root", "b"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: argument --root: given twice, a and b; expected once")
    assert cli.main(["probe", "--root", "a", "--number", "1", "--number", "2"]) == 0
    assert capsys.readouterr().out == "a 2\n"
