"""What the tests of our own static pages do in a browser."""

import itertools
from contextlib import contextmanager

from ..helpers.waiting import until

#: Elements whose own text has too little of WCAG's contrast with the ground below it: under 4.5 (3 of large text).
CONTRASTS = """
const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const faint = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const other = ["SCRIPT", "STYLE", "OPTION", "TITLE"].includes(element.nodeName);
  if (!own || other || !element.checkVisibility()) continue;
  let ground = element, colour;
  while ((colour = numbers(getComputedStyle(ground).backgroundColor)).length === 4 && colour[3] === 0) {
    ground = ground.parentElement;
  }
  const style = getComputedStyle(element);
  const [a, b] = [light(numbers(style.color)), light(colour)].sort((x, y) => y - x);
  const large = parseFloat(style.fontSize) >= 18.66 && parseInt(style.fontWeight) >= 600;
  if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) {
    faint.push(`${element.nodeName}.${element.className}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
}
return [...new Set(faint)];
"""


@contextmanager
def quiet(chromium, address):
    """The driver with the page open; afterwards, the console must be empty, and nothing run or loaded."""
    chromium.get(address)
    # `get` has been seen to return while the page was still being read: 16 of 40 cards
    until(lambda: chromium.execute_script("return document.readyState") == "complete", "the page")
    yield chromium
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return window.pwned") is None
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def choose(page, kind, text):
    """Select in the filter of this kind."""
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", f"by-{kind}")).select_by_visible_text(text)


def cards(page):
    """The cards that can be seen."""
    return [card for card in page.find_elements("css selector", ".card") if card.is_displayed()]


def count(page):
    """The line that says how many cards are shown."""
    return page.find_element("id", "shown").text


def resize(page, width):
    """A screen as wide as this many pixels; a telephone's below 500."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def fits_and_can_be_read(page):
    """Nothing is wider than the page, and no text is faint, on a wide and a narrow screen, light and dark."""
    for width, scheme in itertools.product([1400, 390], ["light", "dark"]):
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        resize(page, width)
        root = "document.documentElement"
        assert page.execute_script(f"return [innerWidth, {root}.scrollWidth - {root}.clientWidth]") == [width, 0]
        assert page.execute_script(CONTRASTS) == [], (width, scheme)
        ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground.strip("rgb()").split(","))) < 200) == (scheme == "dark")
