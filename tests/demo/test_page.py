"""The first tab in a real browser: two pictures, an answer, boxes at the right pixels, and all that goes wrong."""

import base64
import io
import json
import os
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs gradio: the extra web")
pytest.importorskip("selenium", reason="needs selenium: the extra dev")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.boxes import boxes_in_image
from adcopilot.demo.heat_map import draw_heat, watch
from adcopilot.drawing import BOX_COLOURS, draw_boxes, draw_map
from adcopilot.prompts import INSPECT_QUESTION
from adcopilot.sample.pairs import draw_pair, stream

from ..inspect.conftest import inspector, part  # noqa: F401 - the first is a fixture
from ..inspect.test_command import bad_files
from ..webui.page import Page
from ..webui.report_pages import CONTRASTS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

SIZE = (300, 200)
SAID = 'Yes. [{"bbox_2d": [60, 50, 200, 120], "label": "scratch"}]'
#: Gradio's page asks another host for a script, which the policy forbids, and for two things that its server has not;
#: an answer of that kind is printed as "Response". Its client ends its own streams and prints that it did.
EXPECTED = ("cdnjs.cloudflare.com", "manifest.json", "upload_progress?upload_id=undefined", " Response", "AbortError")

#: Until a picture is decoded and two frames were drawn, the second after all that was to be drawn in the first.
PAINTED = """
const [image, done] = arguments;
const frame = () => new Promise(requestAnimationFrame);
image.decode().then(frame).then(frame).then(() => done("painted"), (error) => done(String(error)));
"""


class Part(Page):
    """What an inspector does on the first tab."""

    def __init__(self, *, driver, url: str) -> None:
        super().__init__(driver=driver, url=url)
        self.wait("the page", lambda: self.button("Is it defective?"))

    def button(self, text: str):
        """A button that can be seen, or None."""
        return self._visible(By.XPATH, f"//button[normalize-space()='{text}']")

    def upload(self, label: str, path: Path) -> None:
        """Choose a file, as the file dialogue does."""
        block = (
            f"//label[normalize-space()='{label}']/ancestor::div[contains(@class, 'block')][1]//input[@type='file']"
        )
        field = self.wait(f"the upload {label!r}", lambda: self.driver.find_elements(By.XPATH, block))[0]
        field.send_keys(str(path))

    def shown(self, label: str):
        """The picture of a component, or None."""
        block = f"//label[normalize-space()='{label}']/ancestor::div[contains(@class, 'block')][1]//img"
        found = [one for one in self.driver.find_elements(By.XPATH, block) if one.get_attribute("src")]
        return found[0] if found else None

    def add(self, label: str, path: Path) -> None:
        """Upload a picture and wait until it is there."""
        before = self.source(label)
        self.upload(label, path)
        self.wait(f"the picture {path.name}", lambda: self.source(label) not in ("", before))

    def source(self, label: str) -> str:
        """The address of a component's picture, or ""."""
        image = self.shown(label)
        return image.get_attribute("src") if image else ""

    def said(self, name: str) -> str:
        """What a part of the page says, without gradio's own words over it while it waits ("queue: 1/2", "0.0s")."""
        return self.driver.find_element(By.CSS_SELECTOR, f"#adc-{name} .html-container").text

    def problem(self) -> str:
        """The words in the place for problems."""
        return self.said("problem")

    def wait_for_no_problem(self) -> None:
        """The words go with the server's answer, which comes after the browser shows what it uploaded."""
        self.wait("the problem's words to go", lambda: self.problem() == "")

    def waiting(self) -> str:
        """What stands over the verdict while an answer is under way."""
        return self.driver.execute_script("return document.getElementById('adc-verdict').parentElement.innerText")

    def picture(self, label: str) -> np.ndarray:
        """A drawn picture's pixels (height, width, 3), as the server sent them."""
        image = self.wait(f"the picture {label!r}", lambda: self.shown(label))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        cookies = "; ".join(f"{one['name']}={one['value']}" for one in self.driver.get_cookies())  # of a login
        request = urllib.request.Request(image.get_attribute("src"), headers={"Cookie": cookies})
        data = opener.open(request).read()
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def screen(self, label: str) -> np.ndarray:
        """A picture's pixels on the screen."""
        image = self.shown(label)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
        assert self.driver.execute_async_script(PAINTED, image) == "painted"
        return np.asarray(Image.open(io.BytesIO(image.screenshot_as_png)).convert("RGB")).astype(int)


@pytest.fixture
def page(chromium, stub_demo, said):
    """The page over the endpoint; afterwards, the browser's console has nothing that is not known."""
    yield Part(driver=chromium, url=stub_demo.url)
    complaints = [line["message"] for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in complaints if not any(known in line for known in EXPECTED)] == []


@pytest.fixture
def pictures(tmp_path):
    """A template and a query of another size."""
    part(1).save(tmp_path / "good.png")
    part(2, size=SIZE, defect=True).save(tmp_path / "query.png")
    return tmp_path / "good.png", tmp_path / "query.png"


def ready(page, pictures):
    page.add("Good part", pictures[0])
    page.add("Part to inspect", pictures[1])


def screenshot(page, name, *, width=1200, height=1750):
    """Pictures for the documentation, where ADCOPILOT_SCREENSHOTS names a folder for them."""
    if folder := os.environ.get("ADCOPILOT_SCREENSHOTS"):
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        page.driver.execute_script("window.scrollTo(0, 0)")
        time.sleep(1)
        page.driver.save_screenshot(str(Path(folder, name)))
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def edge(pixels, colour, size):
    """The extent [x1, y1, x2, y2] of a box's lines of about `size` (width, height); its label is smaller."""
    line = np.abs(pixels - colour).max(axis=2) <= 40
    rows = np.flatnonzero(line.sum(axis=1) > 0.8 * size[0])
    columns = np.flatnonzero(line.sum(axis=0) > 0.8 * size[1])
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_two_pictures_an_answer_and_its_boxes(page, pictures, said):
    said.text, said.yes = SAID, 0.9
    ready(page, pictures)
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
    assert "Score 0.900" in page.said("verdict")
    assert said.requests[-1]["messages"][0]["content"][-1]["text"] == INSPECT_QUESTION

    from adcopilot.boxes import model_image_size

    seen = model_image_size(*SIZE, image_max_pixels=768 * 768, image_min_pixels=1024)
    boxes = boxes_in_image(SAID, seen, SIZE)
    x1, y1, x2, y2 = boxes[0]["bbox_2d"]
    assert f"scratch: from {x1}, {y1} to {x2}, {y2}" in page.said("verdict")
    # What the server drew is what `adcopilot inspect --draw` draws, pixel for pixel ...
    drawn = page.picture("Marked places")
    with Image.open(pictures[1]) as query:
        assert np.array_equal(drawn, np.asarray(draw_boxes(query.convert("RGB"), boxes)).astype(int))
    # ... and on the screen the line is where the box is.
    pixels = page.screen("Marked places")
    height, width = pixels.shape[:2]
    scale = min(width / SIZE[0], height / SIZE[1])
    left, top = (width - SIZE[0] * scale) / 2, (height - SIZE[1] * scale) / 2
    wanted = [left + x1 * scale, top + y1 * scale, left + x2 * scale, top + y2 * scale]
    found = edge(pixels, BOX_COLOURS[0], ((x2 - x1) * scale, (y2 - y1) * scale))
    assert np.abs(np.subtract(found, wanted)).max() <= 2, (found, wanted)


def test_an_example(page, said):
    """Its pictures are loaded, and the endpoint is sent those; here it says what is true of them."""
    pair = draw_pair(stream(0, 90, 1), category="gear", size=56, anomalous=True)  # as in test_pieces.py
    label = "stain"
    said.text = f"Yes. {json.dumps([{'bbox_2d': box, 'label': label} for box in pair.boxes])}"
    said.yes = 0.97
    page.press("Gear: stain")
    page.wait("the example", lambda: page.shown("Good part") and page.shown("Part to inspect"))
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
    urls = [piece["image_url"]["url"] for piece in said.requests[0]["messages"][0]["content"][:2]]
    sent = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
    for image, wanted in zip(sent, (pair.template, pair.query), strict=True):
        assert np.array_equal(image, wanted)
    assert page.said("conversation").endswith("Model: Yes.")
    page.wait("the picture", lambda: page.shown("Marked places"))
    screenshot(page, "demo.png")


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
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "About query.png" in page.said("verdict"))
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
    shown = page.picture("Where the model compared (red: most)")
    assert np.abs(shown - drawn).max() <= 1
    assert drawn.std() > 0
    with Image.open(pictures[0]) as good, Image.open(pictures[1]) as query:
        opened = query.convert("RGB")
        found = Mapper(MapSettings()).compare(opened, [good.convert("RGB")])
    differs = np.asarray(draw_map(opened, found, threshold=None)).astype(int)
    assert np.array_equal(page.picture("Where it differs"), differs)
    assert f"Map's score {found.pred_score:.3f}" in page.said("differs-about")


def test_a_conversation_downloads_and_history(page, pictures, said, tmp_path):
    driver = page.driver
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
    )
    said.text, said.yes = SAID, 0.9
    ready(page, pictures)
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
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


def test_problems_are_words(page, pictures, said, tmp_path):
    page.press("Is it defective?")
    page.wait("words", lambda: "Add a picture of a good part first" in page.problem())
    page.add("Good part", pictures[0])
    page.press("Is it defective?")
    page.wait("words", lambda: "Add a picture of the part to inspect first." in page.problem())
    page.press("Ask")
    page.wait("words", lambda: "Write a question first" in page.problem())
    page.add("Part to inspect", pictures[1])
    page.wait_for_no_problem()
    said.status = 500
    page.press("Is it defective?")
    page.wait("words", lambda: "The model's server does not answer just now" in page.problem())
    said.status = 200
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "No defect found" in page.said("verdict"))
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


def test_bad_files(page, said, tmp_path):
    """Those of the data pipeline's tests, through the page."""
    (tmp_path / "bad").mkdir()
    expected = bad_files(tmp_path / "bad")
    (tmp_path / "bad/j_missing.png").unlink()  # no browser uploads what is not there
    del expected["j_missing.png"]
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
    from ..webui.serving import browser

    said.may_answer.clear()
    ready(page, pictures)
    page.press("Is it defective?")
    page.wait("the question to be under way", lambda: len(said.requests) == 1)
    with browser(tmp_path_factory.mktemp("second") / "profile") as second:
        other = Part(driver=second, url=stub_demo.url)
        ready(other, pictures)
        other.press("Is it defective?")
        other.wait("the place in the queue", lambda: "queue: 1/" in other.waiting())
        page.reload()
        assert page.said("verdict") == ""
        assert page.shown("Good part") is None
        page.driver.get_log("browser")  # the page that was left says there that its connections ended
        said.may_answer.set()
        other.wait("the other's verdict", lambda: "No defect found" in other.said("verdict"))
    ready(page, pictures)
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "No defect found" in page.said("verdict"))


def test_keyboard_only(page, pictures, said):
    """Everything but the file dialogue, which is the system's, is reached by Tab, seen, and pressed by Enter."""
    driver = page.driver
    reached = []

    def tab_to(text):
        for _ in range(60):
            ActionChains(driver).send_keys(Keys.TAB).perform()
            active = driver.switch_to.active_element
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
    tab_to("For example")
    ActionChains(driver).send_keys("Are you sure?", Keys.ENTER).perform()
    page.wait("the second answer", lambda: "Are you sure?" in page.said("conversation"))
    tab_to("Save as JSON")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_small_screens_and_the_dark(page, pictures, said, width, scheme):
    driver = page.driver
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.reload()
    said.text, said.yes = "<think>It is thin.</think><answer>" + SAID + "</answer>", 0.9
    ready(page, pictures)
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
    page.wait("the picture", lambda: page.shown("Marked places"))
    root = "document.documentElement"
    assert driver.execute_script(f"return [innerWidth, {root}.scrollWidth - {root}.clientWidth]") == [width, 0]
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 200) == (scheme == "dark")
    faint = driver.execute_script(CONTRASTS.replace('"body *"', '"[id^=adc-] *"'))
    assert faint == []
    edges = driver.execute_script(
        "return [...document.querySelectorAll('button')].filter((one) => one.checkVisibility())"
        ".map((one) => [one.innerText, one.getBoundingClientRect().right])"
    )
    assert [name for name, right in edges if right > width] == []
    if width < 500 or scheme == "dark":
        screenshot(page, f"demo-{width}-{scheme}.png", width=width, height=2900 if width < 500 else 1750)
