"""README_zh.md says what README.md says: the same commands, figures, links and sections, in the same order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name):
    return (ROOT / name).read_text("utf-8")


def commands(text):
    """What can be typed, without what is said about it."""
    lines = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
    return [stripped for line in lines if (stripped := re.sub(r"\s+#.*", "", line).strip())]


def figures(text):
    """Every number outside of blocks of code, links and code words, by section; words between them differ."""
    found = []
    for section in re.split(r"^## ", FENCE.sub("", text), flags=re.MULTILINE):
        plain = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", section)
        found.append(sorted(re.findall(r"\d+(?:[.,]\d+)*", plain)))
    return found


def links(text):
    return sorted(link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("README"))


@pytest.mark.parametrize("what", [commands, figures, links], ids=["commands", "figures", "links"])
def test_both_readmes_say_the_same(what):
    assert what(read("README_zh.md")) == what(read("README.md"))


def test_code_words_are_the_same():
    words = [sorted(re.findall(r"`([^`\n]+)`", FENCE.sub("", read(name)))) for name in ("README.md", "README_zh.md")]
    assert words[0] == words[1]


def test_the_comparison_sees_a_difference():
    text = read("README.md")
    assert commands(text.replace("adcopilot adapt", "adcopilot adopt")) != commands(text)
    assert figures(text.replace("16.6 GB", "16.7 GB")) != figures(text)
    assert links(text.replace("(docs/line.md)", "(docs/lines.md)", 1)) != links(text)


@pytest.mark.parametrize("name", ["README.md", "README_zh.md", "examples/README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name):
    folder = (ROOT / name).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", read(name)):
        if "://" not in link and not link.startswith("#"):
            assert (folder / link.partition("#")[0]).exists(), f"{name}: {link}"
