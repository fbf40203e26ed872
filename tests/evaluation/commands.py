"""A benchmark's command as tests call it."""

from adcopilot import cli


def run(capsys, benchmark, *args):
    """`adcopilot eval BENCHMARK …`: its exit code, and what it said on stdout and stderr."""
    code = cli.main(["eval", benchmark, *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def api(endpoint, root, output):
    """The options that ask an endpoint of this machine."""
    return ["--data-root", root, "--backend", "api", "--base-url", endpoint.url, "--model", "vlm", "--output", output]


def refused(capsys, benchmark, *args):
    """The one line of a command that ends with 2."""
    code, _, err = run(capsys, benchmark, *args)
    assert code == 2
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    return err
