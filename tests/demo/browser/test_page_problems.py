"""The first tab in a real browser: all that goes wrong is words, and the page goes on."""

from pathlib import Path

import pytest
from PIL import Image

from ...inspect.conftest import part
from .part import Part, ready

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]


def test_problems_are_words(page, pictures, said, tmp_path):
    page.ask("Add a picture of a good part first")
    page.add("Good part", pictures[0])
    page.ask("Add a picture of the part to inspect first.")
    page.press("Ask")
    page.wait("words", lambda: "Write a question first" in page.problem())
    page.add("Part to inspect", pictures[1])
    page.wait_for_no_problem()
    said.status = 500
    page.ask("The model's server does not answer just now")
    said.status = 200
    page.ask("No defect found")
    page.wait_for_no_problem()
    page.press("Start again")
    page.wait("an empty page", lambda: not page.shown("Good part") and page.said("verdict") == "")

    # more megabytes than the page takes: the browser is told before anything is stored
    (tmp_path / "huge.png").write_bytes(bytes((1 << 20) + 1))
    page.upload("Part to inspect", tmp_path / "huge.png")
    page.wait("words", lambda: "maximum allowed size" in page.text())
    # more pixels than it takes, in few bytes
    Image.new("1", (2000, 1500)).save(tmp_path / "wide.png")
    page.reload()
    page.upload("Part to inspect", tmp_path / "wide.png")
    page.wait("words", lambda: "wide.png: 2000×1500 pixels are more than the 2 million" in page.problem())
    page.wait("no picture", lambda: page.shown("Part to inspect") is None)
    page.driver.get_log("browser")  # the refused upload is an error there


def bad_files(folder):
    """Writes files; name -> None if the file can be used all the same, else part of the error."""
    folder.mkdir()
    image = part()
    (folder / "a_zero.png").touch()
    image.save(folder / "b_cut.png")
    data = (folder / "b_cut.png").read_bytes()
    (folder / "b_cut.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (1, 1)).save(folder / "c_1x1.png")
    (folder / "d_text.png").write_text("hello")
    Image.new("I;16", (84, 56), 30000).save(folder / "e_16bit.png")
    image.convert("CMYK").save(folder / "f_cmyk.jpg")
    image.convert("RGBA").save(folder / "g_rgba.png")
    image.convert("P").save(folder / "h_palette.png")
    image.save(folder / "i_animated.gif", save_all=True, append_images=[part(1), part(2)])
    said = {"a_zero.png": "0 bytes", "b_cut.png": "truncated", "c_1x1.png": "1×1 pixels is too small"}
    fine = ("e_16bit.png", "f_cmyk.jpg", "g_rgba.png", "h_palette.png", "i_animated.gif")
    return {**said, "d_text.png": "not an image", **dict.fromkeys(fine)}


def test_bad_files(page, said, tmp_path):
    expected = bad_files(tmp_path / "bad")
    part(1).save(tmp_path / "good.png")
    page.add("Good part", tmp_path / "good.png")
    for name, error in expected.items():
        page.upload("Part to inspect", tmp_path / "bad" / name)
        if error:
            page.wait(
                f"{name}: {error}", lambda name=name, error=error: name in page.problem() and error in page.problem()
            )
            assert "/" not in page.problem()
            page.wait("no picture", lambda: page.shown("Part to inspect") is None)
            continue
        stem = Path(name).stem
        page.wait(f"{name} to be shown", lambda stem=stem: stem in page.source("Part to inspect"))
        image = page.shown("Part to inspect")
        page.wait("the picture", lambda image=image: image.get_property("naturalWidth") == 84)
        page.wait_for_no_problem()
        before = len(said.requests)
        page.press("Is it defective?")
        page.wait("an answer", lambda before=before: len(said.requests) > before)
        page.wait("the verdict", lambda: "No defect found" in page.said("verdict"))
        page.press("Start again")
        page.wait("an empty page", lambda: not page.shown("Part to inspect") and page.said("verdict") == "")
        page.add("Good part", tmp_path / "good.png")


def test_reload_in_mid_answer_and_the_queue(page, pictures, said, stub_demo, tmp_path_factory):
    """The page is as new after it, the answer under way harms nobody, and who waits sees the place in the queue."""
    from ...webui.serving import browser

    said.may_answer.clear()
    ready(page, pictures)
    page.press("Is it defective?")
    page.wait("the question to be under way", lambda: len(said.requests) == 1)
    with browser(tmp_path_factory.mktemp("second") / "profile") as second:
        other = Part(driver=second, url=stub_demo.url)
        ready(other, pictures)
        other.press("Is it defective?")
        other.wait("the place in the queue", lambda: "Place in the queue: 1/" in other.waiting())
        page.reload()
        assert page.said("verdict") == ""
        assert page.shown("Good part") is None
        page.driver.get_log("browser")  # the page that was left says there that its connections ended
        said.may_answer.set()
        other.wait("the other's verdict", lambda: "No defect found" in other.said("verdict"))
    ready(page, pictures)
    page.ask("No defect found")
