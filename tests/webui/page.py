"""LlamaBoard's page as its user sees it: fields by their labels, buttons by their texts."""

import time

from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

#: Seconds that a step waits before it fails. Only a failure takes so long, and a busy machine needs some.
PATIENCE = 180.0
#: A page is settled when nothing in it has changed for so long: gradio builds it in several turns, and a click on an
#: element that is replaced is lost.
QUIET = 1.0
SETTLED = """
if (!window.quietSince) {
  window.quietSince = Date.now();
  new MutationObserver(() => { window.quietSince = Date.now(); })
    .observe(document, {attributes: true, childList: true, subtree: true, characterData: true});
}
return document.readyState === 'complete' && document.querySelector('button') !== null
  && Date.now() - window.quietSince > arguments[0] * 1000;
"""
#: Marks an element that gets a click, before any handler of the page's own.
WATCH = """
arguments[0].addEventListener(
  'click', (event) => { event.currentTarget.gotClick = true; }, {once: true, capture: true}
);
"""


class Page:
    """What a user does on the page. Every step waits for what it needs, and fails with what it waited for."""

    def __init__(self, *, driver, url: str):
        self.driver, self.url = driver, url
        self.load()

    def load(self) -> None:
        """Load the page anew, and wait until it is settled."""
        self.driver.get(self.url)
        self.wait("the page to be settled", lambda: self.driver.execute_script(SETTLED, QUIET))

    def wait(self, what: str, condition, *, seconds: float = PATIENCE):
        """The first true value of `condition()`; gradio replaces elements while it updates, so stale ones are retried.

        Raises:
            AssertionError: it stayed false.
        """
        give_up = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except StaleElementReferenceException:
                pass
            if time.monotonic() > give_up:
                raise AssertionError(f"waited {seconds:.0f} s for {what}; the page says:\n{self.text()[-2000:]}")
            time.sleep(0.2)

    def text(self) -> str:
        """All visible text."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def _visible(self, by: str, selector: str):
        return next((e for e in self.driver.find_elements(by, selector) if e.is_displayed()), None)

    def field(self, label: str):
        """The input whose label is `label`, on the tab that is open."""
        block = (
            f"//*[@data-testid='block-info' and normalize-space()='{label}']"
            "/ancestor::div[contains(concat(' ', @class, ' '), ' block ')][1]//*[self::input or self::textarea]"
        )
        return self.wait(f"the field {label!r}", lambda: self._visible(By.XPATH, block))

    def write(self, label: str, text: str) -> None:
        """Replace the text of a text field."""
        field = self.field(label)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.TAB)
        self.wait(f"{label} to be {text!r}", lambda: self.field(label).get_attribute("value") == text)

    def choose(self, label: str, option: str) -> None:
        """Open a drop-down list, type until `option` is offered, and click it."""
        self.field(label).click()
        self.field(label).send_keys(Keys.CONTROL, "a")
        self.field(label).send_keys(option)
        self.option(option).click()

    def choose_model(self, name: str, *, template: str) -> None:
        """Choose a model on LlamaBoard, again where that failed: LlamaFactory reads its file of settings while another
        event writes it, and then shows an error."""
        for _ in range(4):
            self.choose("Model name", name)
            if self.wait("the template or an error", lambda: self._chosen(template)) == "chosen":
                return
            self.load()
        raise AssertionError(f"{name} does not bring its template {template}; the page says:\n{self.text()[-2000:]}")

    def _chosen(self, template: str) -> str | None:
        """Whether the template of the chosen model stands there ("chosen"), or an error does ("failed")."""
        if self.value("Chat template") == template:
            return "chosen"
        return "failed" if self._visible(By.CSS_SELECTOR, "[data-testid='toast-body'].error") else None

    def option(self, name: str):
        """An entry of the drop-down list that is open."""
        selector = f"//li[@role='option' and @aria-label='{name}']"
        return self.wait(f"the option {name!r}", lambda: self._visible(By.XPATH, selector))

    def value(self, label: str) -> str:
        """What a field shows."""
        return self.field(label).get_attribute("value")

    def slot(self, label: str):
        """The block of an image or a gallery whose label is `label`, where it is shown."""
        block = (
            f"//label[@data-testid='block-label' and normalize-space()='{label}']"
            "/ancestor::div[contains(concat(' ', @class, ' '), ' block ')][1]"
        )
        return self.wait(f"the slot {label!r}", lambda: self._visible(By.XPATH, block))

    def upload(self, label: str, *files) -> None:
        """Put files into a slot, and wait until the page has them."""
        field = self.slot(label).find_element(By.CSS_SELECTOR, "input[type=file]")
        field.send_keys("\n".join(str(file) for file in files))
        self.wait(f"{label} to hold {len(files)}", lambda: len(self.pictures(label)) == len(files))

    def pictures(self, label: str) -> list:
        """The images that a slot shows."""
        return self.slot(label).find_elements(By.CSS_SELECTOR, "img")

    def check(self, label: str, *, on: bool) -> None:
        """Switch a checkbox on or off."""
        selector = f"//label[normalize-space()='{label}']/input[@type='checkbox']"
        box = self.wait(f"the checkbox {label!r}", lambda: self._visible(By.XPATH, selector))
        if box.is_selected() != on:
            self._click(box)
        self.wait(f"{label} to be {on}", lambda: self._visible(By.XPATH, selector).is_selected() == on)

    def shows(self, text: str) -> bool:
        """Whether a text stands on the page or in one of its fields."""
        fields = "return Array.from(document.querySelectorAll('textarea, input'), (one) => one.value)"
        return text in self.text() or any(text in value for value in self.driver.execute_script(fields))

    def tab(self, text: str) -> None:
        """Open a tab: click it until it is open."""
        selector = f"//button[@role='tab' and normalize-space()='{text}']"

        def is_open() -> bool:
            tab = self._visible(By.XPATH, selector)
            if tab is None or tab.get_attribute("aria-selected") == "true":
                return tab is not None
            self._click(tab)
            return False

        self.wait(f"the tab {text!r} to be open", is_open)

    def press(self, text: str) -> None:
        """Click the button, or open the section, of this text."""
        name = f"normalize-space()='{text}' or ./span[normalize-space()='{text}']"
        selector = f"//button[not(@role='tab') and ({name})]"

        def got_click() -> bool:
            button = self._visible(By.XPATH, selector)
            return button is not None and self._click(button)

        self.wait(f"the button {text!r} to be clicked", got_click)

    def _click(self, element) -> bool:
        """Click an element once; whether it was that which got the click, and not what had moved there."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.driver.execute_script(WATCH, element)
        try:
            element.click()
        except ElementClickInterceptedException:
            return False
        try:
            return bool(self.driver.execute_script("return arguments[0].gotClick === true", element))
        except StaleElementReferenceException:
            return True  # what the click does has replaced it
