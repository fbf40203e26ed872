"""Chat that compares, in a real browser: LlamaBoard's tab and the page of `llamafactory-cli webchat`.

Answers come from a tiny checkpoint that knows these conversations by heart (`taught.py`); nothing in the servers is
patched.
"""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llamafactory", reason="needs LlamaFactory: the extra train")
pytest.importorskip("gradio", reason="needs gradio, which LlamaFactory installs")
pytest.importorskip("selenium", reason="needs selenium: the extra dev")

from adcopilot.drawing import BOX_COLOURS, panel_scale

from . import taught
from .chat_page import QUERY, TEMPLATES, ChatPage
from .page import quoted
from .serving import browser, served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

FOUND = taught.FOUND.replace(str(taught.SCRATCH), str(taught.SCRATCH_IN_IMAGE))
FOUND_BOTH = taught.FOUND_BOTH.replace(str(taught.SCRATCH), str(taught.SCRATCH_IN_IMAGE)).replace(
    str(taught.STAIN), str(taught.STAIN_IN_IMAGE)
)


@pytest.fixture(scope="module")
def taught_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "model"
    taught.teach(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    return taught.write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture(scope="module")
def board(driver, taught_dir, tmp_path_factory):
    """LlamaBoard's page with the checkpoint loaded as its user loads it."""
    with served("webui", folder=tmp_path_factory.mktemp("board") / "board") as server:
        page = ChatPage(driver=driver, url=server.url)
        page.choose_model("AD-Copilot", template="adcopilot")
        page.write("Model path", str(taught_dir))
        page.tab("Chat")
        page.write("Extra arguments", '{"do_sample": false}')
        page.press("Load model")
        page.slot(QUERY)
        yield page


@pytest.fixture
def chat(board):
    """The chat tab of a page that was just opened."""
    board.open_chat()
    board.slot(QUERY)
    return board


def screenshot(page: ChatPage, name: str) -> None:
    """A picture for the documentation, where ADCOPILOT_SCREENSHOTS names a folder for them."""
    if folder := os.environ.get("ADCOPILOT_SCREENSHOTS"):
        page.stretch()  # so that the whole conversation is seen
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def outlined(pixels: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """x1, y1, x2, y2 around all pixels of a colour, or nearly so."""
    rows, columns = np.nonzero(np.abs(pixels.astype(int) - colour).max(-1) <= 40)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_two_images_are_compared_through_two_turns_and_the_box_is_drawn(chat, parts):
    chat.compare(parts["good"], query=parts["bad"])
    chat.ask(taught.ASK, answer=FOUND)
    chat.wait("the drawn query", lambda: len(chat.messages()) == 4)
    assert chat.said() == ["2 pictures", taught.ASK, FOUND, "1 pictures"]
    assert [role for role, *_ in chat.messages()] == ["user", "user", "bot", "bot"]
    screenshot(chat, "llamaboard-chat")

    picture = chat.messages()[-1][2][0]
    scale = panel_scale(taught.SIZE)
    file = np.asarray(chat.fetch(picture))
    assert file.shape[:2] == (round(taught.SIZE[1] * scale), round(taught.SIZE[0] * scale))
    # the label lies above the box: below its upper edge, only the outline has the colour
    x1, y1, x2, y2 = (round(value * scale) for value in taught.SCRATCH_IN_IMAGE)
    assert outlined(file[y1:], BOX_COLOURS[0]) == [x1, 0, x2, y2 - y1]
    # and everything far from the box is the query's own
    query = np.asarray(taught.bad_part())
    assert (file[-1, -1] == query[-1, -1]).all()
    assert (file[round(75 * scale), round(120 * scale)] == query[75, 120]).all()

    shown = chat.shot(picture)  # on the screen, in whatever size the page gives it
    scale_x, scale_y = shown.shape[1] / taught.SIZE[0], shown.shape[0] / taught.SIZE[1]
    top = round(taught.SCRATCH_IN_IMAGE[1] * scale_y)
    expected = [taught.SCRATCH_IN_IMAGE[0] * scale_x, 0, taught.SCRATCH_IN_IMAGE[2] * scale_x]
    expected.append((taught.SCRATCH_IN_IMAGE[3] - taught.SCRATCH_IN_IMAGE[1]) * scale_y)
    assert outlined(shown[top:], BOX_COLOURS[0]) == pytest.approx(expected, abs=3)

    chat.ask(taught.ASK_MORE, answer=taught.MORE)  # about the same images, which are not sent again
    assert chat.said()[4:] == [taught.ASK_MORE, taught.MORE]


def test_a_new_query_is_compared_with_the_template_again(chat, parts):
    chat.compare(parts["good"], query=parts["bad"])
    chat.ask(taught.ASK, answer=FOUND)
    chat.wait("the drawn query", lambda: len(chat.messages()) == 4)
    chat.empty(QUERY)
    chat.upload(QUERY, parts["good"])
    chat.ask(taught.ASK, answer=taught.NOTHING)
    assert chat.said()[4:] == ["2 pictures", taught.ASK, taught.NOTHING]


def test_several_templates(chat, parts):
    chat.compare(parts["other"], parts["good"], query=parts["bad"])
    chat.ask(taught.ASK, answer=FOUND_BOTH)
    chat.wait("the drawn query", lambda: len(chat.messages()) == 4)
    assert chat.said() == ["3 pictures", taught.ASK, FOUND_BOTH, "1 pictures"]
    file = np.asarray(chat.fetch(chat.messages()[-1][2][0]))
    scale = panel_scale(taught.SIZE)
    x1, y1, x2, y2 = (round(value * scale) for value in taught.STAIN_IN_IMAGE)
    assert outlined(file[y1:], BOX_COLOURS[1]) == [x1, 0, x2, y2 - y1]


def test_clear_history(chat, parts):
    chat.compare(parts["good"], query=parts["bad"])
    chat.ask(taught.ASK, answer=FOUND)
    chat.press("Clear history")
    chat.wait("an empty chat", lambda: not chat.messages())
    assert len(chat.pictures(TEMPLATES)) == len(chat.pictures(QUERY)) == 1
    chat.ask(taught.ASK, answer=FOUND)  # the images come along again
    assert chat.said()[:3] == ["2 pictures", taught.ASK, FOUND]


def test_wrong_files_are_told_in_words_and_nothing_is_lost(chat, parts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(parts["bad"].read_bytes()[:200])
    text = tmp_path / "notes.png"
    text.write_text("this is no picture")
    chat.compare(parts["good"], query=text)
    chat.question.send_keys(taught.ASK)
    chat.press("Submit")
    assert "notes.png: damaged at its start, or not an image" in chat.warning()
    chat.empty(QUERY)
    chat.upload(QUERY, broken)
    chat.press("Submit")
    assert "broken.png: the image is truncated or corrupt" in chat.warning()
    chat.empty(QUERY)
    chat.press("Submit")
    assert "no query image" in chat.warning()
    assert chat.messages() == []
    assert chat.question.get_attribute("value") == taught.ASK
    chat.upload(QUERY, parts["bad"])
    chat.press("Submit")  # the question is still there
    chat.wait("the answer", lambda: FOUND in chat.said())


def test_a_stock_model_has_llamafactorys_own_chat(chat, qwen_base_dir, parts):
    """Another model on the same board: LlamaFactory's image tab, its button, its answer."""
    page = chat
    assert [button.text for button in visible_buttons(page, "Submit")] == ["Submit"]
    page.press("Unload model")
    page.wait("the chat to go", lambda: not page.driver.find_elements("css selector", "[data-testid='user']"))
    page.choose_model("Qwen2.5-VL-3B-Instruct", template="qwen2_vl")
    page.write("Model path", str(qwen_base_dir))
    page.write("Extra arguments", '{"max_new_tokens": 4}')
    page.press("Load model")
    image = "Image (optional)"
    page.slot(image)
    labels = page.driver.find_elements("css selector", "label[data-testid='block-label']")
    assert not {TEMPLATES, QUERY} & {one.text.strip() for one in labels}
    assert [button.text for button in visible_buttons(page, "Submit")] == ["Submit"]
    screenshot(page, "llamaboard-stock")
    page.upload(image, parts["bad"])
    page.write("Maximum new tokens", "8")
    page.question.send_keys("What is it?")
    page.press("Submit")
    page.wait("an answer", lambda: [role for role, *_ in page.messages()] == ["user", "bot"])
    assert page.messages()[0][1:] == ("What is it?", [])
    page.press("Unload model")
    page.wait("the chat to go", lambda: not visible_buttons(page, "Submit"))


def visible_buttons(page: ChatPage, text: str) -> list:
    found = page.driver.find_elements("xpath", f"//button[normalize-space()={quoted(text)}]")
    return [button for button in found if button.is_displayed()]


@pytest.fixture(scope="module")
def webchat(driver, taught_dir, tmp_path_factory):
    command = ["webchat", "--model_name_or_path", str(taught_dir), "--template", "adcopilot", "--do_sample", "false"]
    with served(*command, folder=tmp_path_factory.mktemp("webchat") / "webchat") as server:
        yield ChatPage(driver=driver, url=server.url)


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_webchat_on_screens_wide_and_narrow_light_and_dark(webchat, parts, width, scheme):
    page = webchat
    size = {"width": width, "height": 1900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    try:
        page.open_chat()
        page.wait("labels", lambda: page.field("Top-p"))  # LlamaFactory's own elements have their names
        page.compare(parts["other"], parts["good"], query=parts["bad"])
        page.ask(taught.ASK, answer=FOUND_BOTH)
        page.wait("the drawn query", lambda: len(page.messages()) == 4)
        screenshot(page, "llamaboard-narrow" if width < 500 else "llamaboard-webchat")
        dark = page.driver.execute_script("return document.body.classList.contains('dark')")
        assert dark == (scheme == "dark")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") == width
        for label in (TEMPLATES, QUERY):
            box = page.slot(label).rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["width"] >= 160, label
        slots = [page.slot(label).rect for label in (TEMPLATES, QUERY)]
        beside = slots[0]["y"] == slots[1]["y"]
        assert beside == (width == 1400)
        assert len(visible_buttons(page, "Submit")) == 1
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
