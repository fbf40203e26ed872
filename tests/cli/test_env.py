"""`adcopilot env`: versions for a report of a fault, and nothing of the user's."""

import os
from pathlib import Path

import torch

import adcopilot
from adcopilot import cli


def test_versions_are_named_and_no_paths(capsys):
    assert cli.main(["env"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"adcopilot {adcopilot.__version__} (installed: ")
    assert f"\ntorch {torch.__version__.partition('+')[0]}" in out
    assert "\nvllm is not installed\n" in out or "\nvllm " in out
    for secret in (str(Path.home()), os.getcwd(), os.uname().nodename):
        assert secret not in out
