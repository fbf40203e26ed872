"""The site of docs/ is built without a warning, and every page of it is in its menu."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the docs extra is not installed here")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_pages_of_the_project_are_there_with_their_links_turned(site):
    start = (site / "index.html").read_text("utf-8")
    assert 'href="line.html"' in start  # docs/line.md in README.md
    assert 'href="examples.html"' in start
    assert 'src="images/first.png"' in start
    assert (site / "images" / "first.png").exists()
    assert 'href="../images/sample-variation.png"' in (site / "results" / "sample-variation.html").read_text(
        "utf-8"
    ) or ('src="../images/sample-variation.png"' in (site / "results" / "sample-variation.html").read_text("utf-8"))


def test_api_pages_show_docstrings(site):
    page = re.sub(r"<[^>]+>", "", (site / "api" / "boxes.html").read_text("utf-8"))
    assert "bbox_mask_iou" in page
    assert "Raises:" in page


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=[\"']?(https?:[^\s\"'>]+)", page.read_text("utf-8"))
        loaded += re.findall(
            r"<link[^>]+rel=[\"']?stylesheet[^>]+href=[\"']?(https?:[^\s\"'>]+)", page.read_text("utf-8")
        )
        assert not loaded, (page.name, loaded)


def test_a_broken_link_is_an_error(tmp_path):
    """What `--strict` is for: without it the first test could not fail."""
    import shutil

    for name in ("docs", "plugin", "data", "evaluation", "examples"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.png", "*.safetensors", "__pycache__")
        )
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    page = tmp_path / "docs" / "boxes.md"
    page.write_text(page.read_text("utf-8") + "\n[nowhere](no-such-page.md)\n", "utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr
