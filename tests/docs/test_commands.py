"""Every command in README and docs can be typed: its parser takes it, its YAML, script or make target is there.

What the tutorials say is carried out in tests/e2e/test_tutorials.py.
"""

import re
import shlex
from pathlib import Path

import pytest

from adcopilot import cli
from adcopilot.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "README_zh.md", "CONTRIBUTING.md", "examples/README.md", "data/sample/README.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^ *```(?:bash|sh|console)?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def commands(text):
    """The command lines of a page's blocks, as words; what is left to the reader ("…", "[…]") is passed over."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a line of another language
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # FORCE_TORCHRUN=1 …
                words.pop(0)
            ends = [words.index(sign) for sign in ("&&", "|", ">") if sign in words]
            words = words[: min(ends, default=None)]
            if words and not any("…" in word or word.startswith(("[", "{")) for word in words):
                yield words


def wrong(words):
    """Why a command cannot be typed; None if it can."""
    match words:
        case ["adcopilot", "--version" | "--help" | "-h"]:
            return None
        case ["adcopilot", *rest]:
            try:
                found = cli._find(rest)
                if isinstance(found, str):
                    return found
                cli.make_parser(found[0]).parse_intermixed_args(found[1])
            except UserError as error:
                return str(error)
            except SystemExit:
                return f"its parser does not take {rest}"
        case ["make", *targets]:
            unknown = [one for one in targets if "=" not in one and one not in TARGETS]
            return f"no such target: {unknown}" if unknown else None
        case ["llamafactory-cli", "train" | "export" | "chat" | "api" | "webchat", yaml, *_] if yaml.startswith(
            "examples/"
        ):
            return None if (ROOT / yaml).is_file() else f"{yaml} is not there"
        case ["python", script, *_] if script.endswith(".py"):
            return None if (ROOT / script).is_file() else f"{script} is not there"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_can_be_typed(page):
    for words in commands((ROOT / page).read_text("utf-8")):
        assert wrong(words) is None, f"{' '.join(words)}: {wrong(words)}"


def test_wrong_commands_are_seen():
    assert wrong(["adcopilot", "inspect", "--modle", "x"])
    assert wrong(["adcopilot", "inspekt"])
    assert wrong(["make", "tset"])
    assert wrong(["llamafactory-cli", "train", "examples/train/tiny/stage9.yaml"])
    assert wrong(["python", "benchmarks/nothing.py"])
    assert len(list(commands((ROOT / "README.md").read_text("utf-8")))) > 10
