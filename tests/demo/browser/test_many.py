"""The second tab in a real browser: folders and zips, progress, the table, the file, and what cannot be inspected."""

import csv
import io
import os
import zipfile
from contextlib import contextmanager

import pytest
from PIL import Image

from ...inspect.conftest import part
from ...webui.page import BLOCK, quoted
from ..running import demo
from .part import Part

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

#: Whether the server has answered an event that does not wait in gradio's queue.
ANSWERED = """
return performance.getEntriesByType("resource").some((one) => one.name.endsWith("/run/predict") && one.responseEnd);
"""

CELLS = """
const lines = [...document.querySelectorAll("#adc-results tbody tr")].filter((line) => line.checkVisibility());
return lines.map((line) => [...line.querySelectorAll("th, td")].map((cell) => cell.innerText.trim()));
"""


def slot(page, label, button):
    """A button of an upload component."""
    block = f"//label[normalize-space()={quoted(label)}]/{BLOCK}"
    return page.driver.find_element("xpath", f"{block}//button[@aria-label='{button}']")


class Many(Part):
    """What an inspector does on the second tab."""

    def __init__(self, *, driver, url: str) -> None:
        super().__init__(driver=driver, url=url)
        self.tab("Many parts")
        self.wait("the tab", lambda: self.button("Inspect all"))

    def inspect(self, words: str) -> None:
        """Press the button, and wait until the progress has these words."""
        self.press("Inspect all")
        self.wait(repr(words), lambda: words in self.said("progress"))

    def give(self, label: str, *paths) -> None:
        """Upload files and wait until their names are shown."""
        before = len(self.files())
        with self.told():
            self.upload(label, "\n".join(map(str, paths)))
            self.wait("the files", lambda: len(self.files()) > before)

    def files(self) -> list:
        """What was uploaded, as the page lists it."""
        return self.driver.find_elements("css selector", ".file-preview tr")

    @contextmanager
    def told(self):
        """A step of which the server is told at once, and shows nothing: afterwards, it has answered."""
        self.driver.execute_script("performance.clearResourceTimings()")
        yield
        self.wait("the server's answer", lambda: self.driver.execute_script(ANSWERED))

    def take_out(self, label: str) -> None:
        """Empty an upload component."""
        self.click(f"the button that empties {label!r}", lambda: slot(self, label, "Clear"))

    def rows(self) -> list[list[str]]:
        """The table's cells, all of one moment: between two questions of ours the page may have drawn it anew."""
        return self.driver.execute_script(CELLS)


@pytest.fixture
def page(chromium, stub_demo, said):
    return Many(driver=chromium, url=stub_demo.url)


def good_and_bad(folder, number=5):
    """Pictures of parts, of which two cannot be inspected."""
    folder.mkdir()
    for index in range(number):
        part(index, size=(84, 56 + 10 * index), defect=index > 2).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"hello")
    Image.new("1", (2000, 1500)).save(folder / "wide.png")
    return folder


def test_a_zip_becomes_a_sorted_table_and_a_file(page, said, stub_demo, tmp_path):
    parts = good_and_bad(tmp_path / "parts")
    archive = tmp_path / "my parts.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(parts.iterdir()):
            opened.write(path, f"lot 7/{path.name}")
    for index in (0, 3):
        part(index + 10, size=(84, 56 + 10 * index)).save(tmp_path / f"{index}.png")
    (tmp_path / "no.png").write_bytes(b"hello")
    driver = page.driver
    page.save_into(tmp_path / "saved")
    said.text, said.yes = 'Yes. [{"bbox_2d": [10, 10, 40, 40], "label": "scratch"}]', 0.9

    page.inspect("Add pictures of good parts first")
    page.give("Good parts: pictures or a zip", tmp_path / "0.png", tmp_path / "3.png", tmp_path / "no.png")
    page.give("Parts to inspect: pictures or a zip", archive)
    page.inspect("Done.")
    assert "7 of 7 pictures inspected." in page.said("progress")
    assert "2 of them could not be inspected" in page.said("progress")
    assert "1 of the pictures of good parts could not be used" in page.said("progress")
    rows = page.rows()
    assert [row[1] for row in rows] == [
        *(f"lot 7/{index}.png" for index in range(5)),
        "lot 7/broken.png",
        "lot 7/wide.png",
    ]
    for row in rows[:5]:
        assert row[2:4] == ["Defect found", "0.900"]
    assert rows[5][2].startswith("Could not be inspected: lot 7/broken.png: damaged at its start, or not an image")
    assert "2000×1500 pixels are more than the 2 million" in rows[6][2]
    assert str(stub_demo.log.parent) not in page.text()
    pictures = driver.find_elements("css selector", "#adc-results td img")
    assert len(pictures) == 5
    assert all(one.get_property("naturalWidth") > 40 for one in pictures)

    page.press("Save the table (CSV)")
    saved = tmp_path / "saved/inspection.csv"
    page.wait("the file", saved.exists)
    with saved.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == [row[1] for row in rows]
    # the good part of the same name, or else the one most alike
    assert [line["good part"] for line in lines[:5]][0::3] == ["0.png", "3.png"]
    assert {line["good part"] for line in lines[:5]} == {"0.png", "3.png"}
    assert [line["verdict"] for line in lines] == ["defect found"] * 5 + [""] * 2
    assert lines[0]["score"] == "0.9"
    jobs = next(stub_demo.log.parent.glob("adcopilot-demo-*")) / "work"
    assert [path for path in jobs.rglob("*.png") if "tmp" in path.parent.name] == []


def test_a_folder_of_the_visitors(page, said, tmp_path):
    """Chromium's folder dialogue takes a folder; equal names in two of its folders are kept apart."""
    tree = tmp_path / "tree"
    for name in ("a", "b"):
        (tree / name).mkdir(parents=True)
        part(1, defect=True).save(tree / name / "000.png")
    part(1).save(tmp_path / "good.png")
    page.give("Good parts: pictures or a zip", tmp_path / "good.png")
    page.press("Take a whole folder instead")
    with page.told():
        page.upload("Folder of parts to inspect", tree)
        page.wait("the files", lambda: len(page.files()) == 3)
    page.inspect("2 of 2 pictures inspected. Done.")
    assert [row[1] for row in page.rows()] == ["000 (2).png", "000.png"]


def test_zips_that_are_refused_and_stopping(page, said, tmp_path):
    part(1).save(tmp_path / "good.png")
    page.give("Good parts: pictures or a zip", tmp_path / "good.png")

    def refused(words, *members):
        with zipfile.ZipFile(tmp_path / "parts.zip", "w", zipfile.ZIP_DEFLATED) as opened:
            for name, data in members:
                opened.writestr(name, data)
        page.give("Parts to inspect: pictures or a zip", tmp_path / "parts.zip")
        page.inspect(words)
        page.take_out("Parts to inspect: pictures or a zip")
        page.wait("an empty page", lambda: page.said("progress") == "")

    refused("parts.zip: has a file named '../evil.png', which leads out of it", ("../evil.png", b"x"))
    refused("bomb.png is larger than 1 MB", ("bomb.png", bytes(50 << 20)))
    refused("13 pictures in it, this page takes 12", *((f"{index}.png", b"x") for index in range(13)))
    refused("no pictures in it", ("readme.txt", b"x"))

    image = io.BytesIO()
    part(6).save(image, "PNG")
    with zipfile.ZipFile(tmp_path / "slow.zip", "w") as opened:
        for index in range(12):
            opened.writestr(f"{index}.png", image.getvalue())
    page.give("Parts to inspect: pictures or a zip", tmp_path / "slow.zip")
    said.may_answer.clear()
    page.press("Inspect all")
    page.wait("the first question", lambda: said.requests)
    with page.told():
        page.press("Stop")
    said.may_answer.set()
    page.wait("the end", lambda: "Stopped." in page.said("progress"))
    assert len(said.requests) < 12
    # what was finished is there and can be saved
    page.wait("the rows", lambda: 1 <= len(page.rows()) == int(page.said("progress").split()[0]) < 12)
    page.wait("the file", lambda: page.button("Save the table (CSV)").is_enabled())
    # and so is what was finished when the model's server goes away
    said.status = 401
    page.inspect("It ended early: The model's server does not answer")
    said.status = 200
    # and the page goes on working
    page.inspect("12 of 12 pictures inspected. Done.")


def test_the_servers_own_folder(chromium, stub, said, tmp_path):
    """Only the command line names it; visitors see its name, and its files' names below it."""
    tree = tmp_path / "lines" / "nut"
    for name in ("train/good/0.png", "test/good/0.png", "test/scratch/0.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        part(6 if name.startswith("test") else 1, defect="scratch" in name).save(tree / name)
    words = ["--endpoint", stub.url, "--model", "ad-copilot", "--folder", tmp_path / "lines"]
    with demo(tmp_path / "run", *words) as running:
        page = Many(driver=chromium, url=running.url)
        page.press("Inspect the server's folder: lines")
        page.wait("the end", lambda: "2 of 2 pictures inspected. Done." in page.said("progress"))
        assert [row[1] for row in page.rows()] == ["nut/test/good/0.png", "nut/test/scratch/0.png"]
        assert str(tmp_path) not in page.driver.page_source.replace(os.fspath(tmp_path / "run"), "")
