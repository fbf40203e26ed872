"""LlamaFactory's chat as its user sees it, with an AD-Copilot model loaded."""

import base64
import io
import time

import numpy as np
from PIL import Image
from selenium.webdriver.common.by import By

from .page import Page

TEMPLATES, QUERY = "Template images", "Query image"

# As `fetch` of the page itself: what the page shows is what it could load.
FETCH = """
const [address, done] = arguments;
fetch(address).then((one) => one.blob()).then((blob) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.readAsDataURL(blob);
}).catch((error) => done(String(error)));
"""


class ChatPage(Page):
    """The chat tab, or the page of `webchat`."""

    def open_chat(self) -> None:
        """Load the page anew; on LlamaBoard, whose first tab is another one, open the chat tab."""
        self.open()
        self.wait("the chat or its tab", lambda: self._question() or self._tab("Chat"))
        if self._tab("Chat"):
            self.tab("Chat")

    def compare(self, *templates, query) -> None:
        """Put images into both slots."""
        self.upload(TEMPLATES, *templates)
        self.upload(QUERY, query)

    def empty(self, label: str) -> None:
        """Take all images out of a slot."""
        button = "button[aria-label='Clear'], button[aria-label='Remove Image']"
        self.click(f"the button that empties {label}", lambda: self.slot(label).find_element(By.CSS_SELECTOR, button))
        self.wait(f"{label} to be empty", lambda: not self.pictures(label))

    @property
    def question(self):
        """The field for the next question."""
        return self.wait("the input field", self._question)

    def _question(self):
        return self._visible(By.CSS_SELECTOR, "textarea[placeholder='Input...']")

    def messages(self) -> list[tuple[str, str, list]]:
        """(user or bot, text, pictures) of each message."""
        found = self.driver.find_elements(By.CSS_SELECTOR, "[data-testid='user'], [data-testid='bot']")
        return [
            (
                one.get_attribute("data-testid"),
                # not the visible text alone: what is scrolled out of the chat counts
                ""
                if (pictures := one.find_elements(By.TAG_NAME, "img"))
                else one.get_attribute("textContent").strip(),
                pictures,
            )
            for one in found
        ]

    def said(self) -> list[str]:
        """What was said: texts, and for a message of pictures how many."""
        return [text or f"{len(pictures)} pictures" for _, text, pictures in self.messages()]

    def ask(self, text: str, *, answer: str) -> None:
        """Ask a question and wait for an answer; fails with what the page says instead."""
        before = len(self.messages())
        self.question.send_keys(text)
        self.press("Submit")
        self.wait(f"the answer {answer!r}", lambda: answer in self.said()[before:])
        self.wait("an empty field for the next question", lambda: self.question.get_attribute("value") == "")

    def stretch(self) -> None:
        """Drag the chat as high as what was said, as a user can at its corner, and scroll to it."""
        for step in (
            "arguments[0].closest('.block').style.height = arguments[0].scrollHeight + 40 + 'px'",
            "arguments[0].closest('.block').scrollIntoView({block: 'start'})",
        ):
            self.driver.execute_script(step, self.driver.find_element(By.CSS_SELECTOR, "[role='log']"))
            time.sleep(0.5)

    def fetch(self, picture) -> Image.Image:
        """The file behind an `img`, as the page got it."""
        told = self.driver.execute_async_script(FETCH, picture.get_attribute("src"))
        assert told.startswith("data:image/"), told
        return Image.open(io.BytesIO(base64.b64decode(told.split(",", 1)[1]))).convert("RGB")

    def shot(self, element) -> np.ndarray:
        """An element as it is drawn on the screen, (height, width, 3)."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"))

    def warning(self) -> str:
        """The text of the message that pops up when something is wrong; then close it."""
        text = self.wait("a message", lambda: (toast := self._toast()) and toast.text)
        self.wait("the message to go", self._toast_is_gone)
        return text

    def _toast(self):
        return self._visible(By.CSS_SELECTOR, "[data-testid='toast-body']")

    def _toast_is_gone(self) -> bool:
        """Closes it; it also goes by itself, so its button may never get a click."""
        if toast := self._toast():
            toast.find_element(By.CSS_SELECTOR, "button").click()
        return self._toast() is None
