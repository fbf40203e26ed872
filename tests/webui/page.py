"""A gradio page as its user sees it: fields by their labels, buttons by their texts."""

import itertools
import time

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

#: What an element says that is replaced, covered, or not there yet: the next look finds another one.
NOT_YET = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)

#: From an element, the block of its component.
BLOCK = "ancestor::div[contains(concat(' ', @class, ' '), ' block ')][1]"

#: Whether the page is whole and has come to rest. Quiet is counted in beats of the page's own timer, not in time: a
#: browser that gets no processor makes no changes either, and that is not rest.
SETTLED = """
if (!window.restOfPage) {
  const rest = window.restOfPage = {beats: 0};
  rest.watch = new MutationObserver(() => { rest.beats = 0; });
  rest.watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  rest.timer = setInterval(() => { rest.beats += 1; }, 100);
}
const rest = window.restOfPage;
const mounted = document.querySelector(".gradio-container :is(button, input, textarea)");
const settled = document.readyState === "complete" && mounted !== null && rest.beats >= 10;
if (settled) {
  rest.watch.disconnect();
  clearInterval(rest.timer);
  delete window.restOfPage;
}
return settled;
"""

#: Has an element note that an event came to it. On the window, as the element may be gone afterwards.
NOTE_EVENT = """
const [element, event, number] = arguments;
element.addEventListener(event, () => { window.lastClick = number; }, {once: true, capture: true});
"""


def quoted(text: str) -> str:
    """A text in an XPath, which knows no escapes: a text with both kinds of quotes is put together."""
    if "'" not in text:
        return f"'{text}'"
    parts = text.split("'")
    return "concat(" + """, "'", """.join(f"'{part}'" for part in parts) + ")"


class Page:
    """What a user does on the page. Every step waits for what it needs, and fails with what it waited for."""

    def __init__(self, *, driver, url: str):
        self.driver, self.url = driver, url
        self._clicks = itertools.count(1)
        self.open()

    def open(self) -> None:
        """Load the page anew, and wait until it is settled."""
        self.driver.get(self.url)
        self.settle()

    def reload(self) -> None:
        """As the browser's button does, and wait until it is settled."""
        self.driver.refresh()
        self.settle()

    def settle(self) -> None:
        """Wait until gradio has built the page and nothing of it has changed for about a second: before, a click comes
        to elements that do not listen yet, or that are replaced by others."""
        self.wait("the page to come to rest", lambda: self.driver.execute_script(SETTLED))

    def wait(self, what: str, condition, *, seconds: float = 180):
        """The first true value of `condition()`; gradio replaces elements while it updates, so those that are gone are
        looked for again. The time is for a machine that has much else to do: a wait that succeeds takes none of it.

        Raises:
            AssertionError: it stayed false.
        """
        give_up = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except NOT_YET:
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
        field = "*[self::input or self::textarea]"
        block = f"//*[@data-testid='block-info' and normalize-space()={quoted(label)}]/{BLOCK}//{field}"
        return self.wait(f"the field {label!r}", lambda: self._visible(By.XPATH, block))

    def write(self, label: str, text: str) -> None:
        """Replace the text of a text field; again where a late answer of the server takes it back."""

        def written():
            field = self.field(label)
            if field.get_attribute("value") == text:
                return True
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys(text, Keys.TAB)
            return self.value(label) == text

        self.wait(f"{label} to be {text!r}", written)

    def choose(self, label: str, option: str) -> None:
        """Open a drop-down list, type until `option` is offered, and click it."""
        self._pick(label, option, typed=option)
        self.wait(f"{label} to be {option!r}", lambda: self.value(label) == option)

    def add_choice(self, label: str, option: str) -> None:
        """Open a drop-down list of which several may be chosen, click `option`, and close the list."""
        self._pick(label, option)
        self.wait(f"{option!r} among {label}", lambda: option in self._choices(label))
        self.field(label).send_keys(Keys.TAB)

    def _pick(self, label: str, option: str, *, typed: str = "") -> None:
        """Gradio's lists take the press of the mouse's button; they close before it is let go."""
        self.click(f"the option {option!r} of {label}", lambda: self._offered(label, option, typed), event="mousedown")

    def _offered(self, label: str, option: str, typed: str):
        """The entry of the list if it is shown; otherwise the list is opened, for the next look."""
        if found := self._visible(By.XPATH, f"//li[@role='option' and @aria-label='{option}']"):
            return found
        field = self.field(label)
        focused = field == self.driver.switch_to.active_element
        if not (focused and self._visible(By.CSS_SELECTOR, "ul[role='listbox']")):
            if focused:  # only a field that is entered opens its list
                field.send_keys(Keys.TAB)
            field.click()
        if typed and field.get_attribute("value") != typed:
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys(typed)
        return None

    def _choices(self, label: str) -> list[str]:
        """What is chosen in a list that takes several."""
        block = self.field(label).find_element(By.XPATH, "./ancestor::*[contains(@class, 'wrap-inner')][1]")
        return [token.text.strip() for token in block.find_elements(By.CSS_SELECTOR, ".token")]

    def choose_model(self, name: str, *, template: str) -> None:
        """Choose a model on LlamaBoard, again where that failed: LlamaFactory reads its file of settings while another
        event writes it, and then the template's field says "Error"."""
        for _ in range(5):
            self.choose("Model name", name)
            if self._brought(template):
                return
            self.choose("Model name", "Custom")  # choosing the same again is no change
            self._brought("default")
        raise AssertionError(f"{name} does not bring its template {template}; the page says:\n{self.text()[-2000:]}")

    def _brought(self, template: str) -> bool:
        """Whether the model that was chosen brought this template; False where it brought an error."""
        what = f"the template {template} or an error"
        came = self.wait(what, lambda: self._outcome("Chat template", template))
        if came == "error":  # it would stay, and be taken for the next choice's
            self.wait("the error to go", lambda: self._clear_status("Chat template"))
        return came != "error"

    def _outcome(self, label: str, value: str) -> str:
        """What an event gave a field: an error, or this value; "" while it is under way."""
        if self._status(label, ".error"):
            return "error"
        return value if self.value(label) == value and not self._status(label) else ""

    def _status(self, label: str, part: str = ""):
        """Gradio's words over the field for an event that is under way or has failed, or a part of them; or None."""
        block = self.field(label).find_element(By.XPATH, BLOCK)
        found = block.find_elements(By.CSS_SELECTOR, f".wrap.default:not(.hide) {part}")
        return found[0] if found else None

    def _clear_status(self, label: str) -> bool:
        """Whether nothing stands over the field; the mouse does not reach the button that takes it away."""
        if button := self._status(label, "button"):
            self.driver.execute_script("arguments[0].click()", button)
        return not self._status(label)

    def value(self, label: str) -> str:
        """What a field shows."""
        return self.field(label).get_attribute("value")

    def slot(self, label: str):
        """The block of an image or a gallery whose label is `label`, where it is shown."""
        block = f"//label[@data-testid='block-label' and normalize-space()={quoted(label)}]/{BLOCK}"
        return self.wait(f"the slot {label!r}", lambda: self._visible(By.XPATH, block))

    def upload(self, label: str, *files) -> None:
        """Put files into a slot, and wait until the page has them."""
        self.wait(f"the upload {label!r}", lambda: self._file_field(label)).send_keys("\n".join(map(str, files)))
        self.wait(f"{label} to hold {len(files)}", lambda: len(self.pictures(label)) == len(files))

    def _file_field(self, label: str):
        return self.slot(label).find_element(By.CSS_SELECTOR, "input[type=file]")

    def pictures(self, label: str) -> list:
        """The images that a slot shows."""
        return self.slot(label).find_elements(By.CSS_SELECTOR, "img")

    def check(self, label: str, *, on: bool) -> None:
        """Switch a checkbox on or off."""
        selector = f"//label[normalize-space()={quoted(label)}]/input[@type='checkbox']"

        def box():
            return self.wait(f"the checkbox {label!r}", lambda: self._visible(By.XPATH, selector))

        if box().is_selected() != on:
            self.click(f"the checkbox {label!r}", box)
        self.wait(f"{label} to be {on}", lambda: box().is_selected() == on)

    def shows(self, text: str) -> bool:
        """Whether a text stands on the page or in one of its fields."""
        fields = "return Array.from(document.querySelectorAll('textarea, input'), (one) => one.value)"
        return text in self.text() or any(text in value for value in self.driver.execute_script(fields))

    def tab(self, text: str) -> None:
        """Open a tab: click it until it is open, as a page that is being built loses clicks."""

        def opened():
            tab = self._tab(text)
            if tab and tab.get_attribute("aria-selected") != "true":
                self._centre(tab).click()
            return tab and tab.get_attribute("aria-selected") == "true"

        self.wait(f"the tab {text!r} to be open", opened)

    def _tab(self, text: str):
        return self._visible(By.XPATH, f"//button[@role='tab' and normalize-space()={quoted(text)}]")

    def press(self, text: str) -> None:
        """Click the button, or open the section, of this text."""
        name = f"normalize-space()={quoted(text)} or ./span[normalize-space()={quoted(text)}]"
        selector = f"//button[not(@role='tab') and ({name})]"
        self.click(f"the button {text!r}", lambda: self._visible(By.XPATH, selector))

    def click(self, what: str, find, *, event: str = "click") -> None:
        """Click what `find` finds until it got its click, and never again after that.

        A click goes to a place of the screen: what is replaced, moved or covered in that moment does not get it.
        """
        number = next(self._clicks)

        def got_it() -> bool:
            return self.driver.execute_script("return window.lastClick === arguments[0]", number)

        def click() -> bool:
            if got_it():
                return True
            if element := find():
                self.driver.execute_script(NOTE_EVENT, element, event, number)
                if event == "click":
                    self._centre(element)
                element.click()
            return got_it()

        self.wait(f"{what} to get its click", click)

    def _centre(self, element):
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element
