"""The first tab as its user sees it."""

import io
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs gradio: the extra web")
pytest.importorskip("selenium", reason="needs selenium: the extra dev")

from selenium.webdriver.common.by import By

from ...webui.page import BLOCK, Page, quoted

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
        return self._visible(By.XPATH, f"//button[normalize-space()={quoted(text)}]")

    def ask(self, words: str) -> None:
        """Press the first button, and wait until the verdict, or what is said in its place, has these words."""
        self.press("Is it defective?")
        self.wait(repr(words), lambda: words in self.said("verdict") or words in self.problem())

    def save_into(self, folder: Path) -> None:
        """Where files that are saved are to lie."""
        settings = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", settings)

    def upload(self, label: str, path: Path) -> None:
        """Choose a file, as the file dialogue does."""
        block = f"//label[normalize-space()={quoted(label)}]/{BLOCK}//input[@type='file']"
        field = self.wait(f"the upload {label!r}", lambda: self.driver.find_elements(By.XPATH, block))[0]
        field.send_keys(str(path))

    def shown(self, label: str):
        """The picture of a component, or None."""
        block = f"//label[normalize-space()={quoted(label)}]/{BLOCK}//img"
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

    def choose_language(self, text: str, code: str) -> None:
        """Press a language above the tabs, which loads the page anew, and wait until it stands in it."""
        self.driver.execute_script("window.isBefore = true")

        def is_before() -> bool:
            return self.driver.execute_script("return window.isBefore === true")

        def loads() -> bool:
            if is_before() and (button := self.button(text)):
                button.click()
            return not is_before()

        self.wait("the page to be loaded anew", loads)
        self.settle()
        self.driver.get_log("browser")  # of the page before, whose connections were cut
        language = "return document.documentElement.lang"
        self.wait(f"the page in {code}", lambda: self.driver.execute_script(language) == code)

    def wait_for_the_end(self) -> None:
        """Gradio shows what an event has changed before it has done with it, half faded out."""
        self.wait("the end of the answer", lambda: not self.driver.find_elements(By.CSS_SELECTOR, "#adc-one .pending"))

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


def complaints(driver) -> list[str]:
    """Of the browser, about what nobody expects."""
    lines = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    return [line for line in lines if not any(known in line for known in EXPECTED)]


def ready(page, pictures):
    page.add("Good part", pictures[0])
    page.add("Part to inspect", pictures[1])
