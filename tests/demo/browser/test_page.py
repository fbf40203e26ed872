"""The first tab in a real browser: two pictures, an answer, boxes at the right pixels, and all that goes wrong."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.boxes import boxes_in_image
from adcopilot.demo.colours import draw_heat
from adcopilot.demo.engines.heat_map import watch
from adcopilot.drawing import BOX_COLOURS, draw_boxes, draw_map
from adcopilot.prompts import INSPECT_QUESTION
from adcopilot.sample.pairs import draw_pair, stream

from ...inspect.conftest import inspector, part  # noqa: F401 - the first is a fixture
from ...webui.page import Page
from .part import Part, ready

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

SIZE = (300, 200)
SAID = 'Yes. [{"bbox_2d": [60, 50, 200, 120], "label": "scratch"}]'


def edge(pixels, colour, size):
    """The extent [x1, y1, x2, y2] of a box's lines of about `size` (width, height); its label is smaller."""
    line = np.abs(pixels - colour).max(axis=2) <= 40
    rows = np.flatnonzero(line.sum(axis=1) > 0.8 * size[0])
    columns = np.flatnonzero(line.sum(axis=0) > 0.8 * size[1])
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_two_pictures_an_answer_and_its_boxes(page, pictures, said):
    said.text, said.yes = SAID, 0.9
    ready(page, pictures)
    page.ask("Defect found")
    assert "Score 0.900" in page.said("verdict")
    assert said.requests[-1]["messages"][0]["content"][-1]["text"] == INSPECT_QUESTION

    from adcopilot.boxes import model_image_size

    seen = model_image_size(*SIZE, image_max_pixels=768 * 768, image_min_pixels=1024)
    boxes = boxes_in_image(SAID, seen, SIZE)
    x1, y1, x2, y2 = boxes[0]["bbox_2d"]
    assert page.said("places").replace("\n", " ").startswith(f"1 scratch from {x1}, {y1} to {x2}, {y2} ")
    # What the server drew is what `adcopilot inspect --draw` draws, pixel for pixel ...
    drawn = page.picture("Marked places")
    with Image.open(pictures[1]) as query:
        assert np.array_equal(drawn, np.asarray(draw_boxes(query.convert("RGB"), boxes, numbered=True)).astype(int))
    # ... and on the screen the line is where the box is.
    pixels = page.screen("Marked places")
    height, width = pixels.shape[:2]
    scale = min(width / SIZE[0], height / SIZE[1])
    left, top = (width - SIZE[0] * scale) / 2, (height - SIZE[1] * scale) / 2
    wanted = [left + x1 * scale, top + y1 * scale, left + x2 * scale, top + y2 * scale]
    found = edge(pixels, BOX_COLOURS[0], ((x2 - x1) * scale, (y2 - y1) * scale))
    assert np.abs(np.subtract(found, wanted)).max() <= 2, (found, wanted)


def test_a_login_and_the_heat_map(chromium, local_demo, inspector, pictures):  # noqa: F811
    """Over a model on this machine: the answer and the score are the Inspector's, the map is `heat_map`'s."""
    door = Page(driver=chromium, url=local_demo.url)
    password = door.wait("the login", lambda: door._visible(By.CSS_SELECTOR, "input[type='password']"))
    name = door.wait("the name", lambda: door._visible(By.CSS_SELECTOR, "input:not([type='password']), textarea"))
    name.send_keys("anna")
    password.send_keys("secret", Keys.ENTER)
    inside = "//button[normalize-space()='Is it defective?']"
    door.wait("the page", lambda: door._visible(By.XPATH, inside))
    page = Part(driver=chromium, url=local_demo.url)
    ready(page, pictures)
    page.ask("About query.png")
    question = inspector.pair_question(*map(str, pictures))
    with watch(inspector.model) as seen:
        [wanted] = inspector.ask([question])
    assert wanted.verdict == "undecided"  # as it is not trained, it hardly means to say yes or no
    assert page.said("verdict").startswith("Undecided\n")
    assert wanted.reason in page.said("verdict")
    assert "Score" not in page.said("verdict")
    grid = seen.grid(inspector.model_size(SIZE), patch_size=14, merge_size=2)
    with Image.open(pictures[1]) as query:
        drawn = np.asarray(draw_heat(draw_boxes(query.convert("RGB"), []), grid)).astype(int)
    shown = page.picture("Where the model compared")
    assert np.abs(shown - drawn).max() <= 1
    assert drawn.std() > 0
    with Image.open(pictures[0]) as good, Image.open(pictures[1]) as query:
        opened = query.convert("RGB")
        found = Mapper(MapSettings()).compare(opened, [good.convert("RGB")])
    differs = np.asarray(draw_map(opened, found, threshold=0.25)).astype(int)
    assert np.array_equal(page.picture("Where it differs"), differs)
    assert f"Map's score {found.pred_score:.3f}" in page.said("differs-about")
    assert "No threshold is known: yellow is a difference of 0.25, red 0.5" in page.said("differs-about")
    assert page.button("Mark as good") is None


def test_a_conversation_downloads_and_history(page, pictures, said, tmp_path):
    driver = page.driver
    page.save_into(tmp_path / "saved")
    said.text, said.yes = SAID, 0.9
    ready(page, pictures)
    page.ask("Defect found")
    said.text = "<think>It is thin and dark.</think><answer>A scratch.</answer>"
    page.field("Your own question (goes on with the conversation)").send_keys("What is it?", Keys.ENTER)
    page.wait("the second answer", lambda: "A scratch." in page.said("conversation"))
    asked = said.requests[-1]["messages"]
    assert [one["role"] for one in asked] == ["user", "assistant", "user"]
    assert (asked[1]["content"], asked[2]["content"][-1]["text"]) == (SAID, "What is it?")
    # the reasoning is folded away until it is asked for
    assert "thin and dark" not in page.said("conversation")
    page.click("the fold", lambda: driver.find_element(By.CSS_SELECTOR, "#adc-conversation summary"))
    page.wait("the reasoning", lambda: "It is thin and dark." in page.said("conversation"))

    page.press("Save as JSON")
    page.press("Save as picture (PNG)")
    saved = tmp_path / "saved"
    page.wait("the downloads", lambda: {one.suffix for one in saved.glob("query*")} == {".json", ".png"})
    line = json.loads((saved / "query.json").read_text())
    assert (line["question"], line["query"], line["answer"]) == ("What is it?", "query.png", "A scratch.")
    with Image.open(saved / "query inspected.png") as picture:
        assert picture.size >= SIZE

    # a button begins anew
    said.text = "[]"
    page.press("Where are the defects?")
    page.wait("the third answer", lambda: "Find the defects" in page.said("conversation"))
    assert "A scratch." not in page.said("conversation")
    assert len(said.requests[-1]["messages"]) == 1

    # what was answered stays in the browser, after a reload too, and can be forgotten
    page.reload()
    page.press("Earlier answers")
    page.wait("three earlier answers", lambda: len(driver.find_elements(By.CSS_SELECTOR, ".adc-history li")) == 3)
    assert "0.900" in page.said("earlier")
    page.press("Forget them")
    page.wait("no earlier answers", lambda: "Nothing yet" in page.said("earlier"))


def test_keyboard_only(page, pictures, said):
    """Everything but the file dialogue, which is the system's, is reached by Tab, seen, and pressed by Enter. The
    pictures are an example's, which the endpoint is sent."""
    driver = page.driver
    reached = []

    def tab_to(text):
        for _ in range(60):
            ActionChains(driver).send_keys(Keys.TAB).perform()
            active = driver.switch_to.active_element
            if active.tag_name == "body":  # after the last one the browser begins anew
                continue
            name = active.text.strip() or active.get_attribute("aria-label") or active.get_attribute("placeholder")
            reached.append(name)
            if name and text in name:
                return active
        pytest.fail(f"{text!r} cannot be reached by the Tab key: {reached}")

    assert tab_to("Drop Image Here").tag_name == "button"
    assert tab_to("Drop Image Here").tag_name == "button"
    tab_to("Gear: ")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    page.wait("the example", lambda: page.shown("Good part") and page.shown("Part to inspect"))
    tab_to("Is it defective?")
    outline = "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, style.outlineWidth]"
    assert driver.execute_script(outline) == ["solid", "3px"]
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    page.wait("the verdict", lambda: "No defect found" in page.said("verdict"))
    assert page.said("conversation").endswith("Model: No.")
    pair = draw_pair(stream(0, 90, 1), category="gear", size=56, anomalous=True)  # as in test_pieces.py
    urls = [piece["image_url"]["url"] for piece in said.requests[0]["messages"][0]["content"][:2]]
    for url, wanted in zip(urls, (pair.template, pair.query), strict=True):
        assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))), wanted)
    tab_to("For example")
    ActionChains(driver).send_keys("Are you sure?", Keys.ENTER).perform()
    page.wait("the second answer", lambda: "Are you sure?" in page.said("conversation"))
    tab_to("Save as JSON")
