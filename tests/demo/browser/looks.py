"""How the page looks, measured in the browser: contrast, what does not fit, and pictures for somebody to look at."""

import os
from pathlib import Path

#: Texts with less contrast to their ground than 4.5:1 (3:1 if large), with grounds and letters that let others
#: through. What is switched off is not counted, as WCAG has it, nor what a dialogue lies over.
FAINT = """
const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const numbers = (colour) => {
  const found = colour.match(/[\\d.]+/g).map(Number);
  return colour.startsWith("color(srgb") ? [...found.slice(0, 3).map((one) => 255 * one), found[3] ?? 1]
    : [found[0], found[1], found[2], found[3] ?? 1];
};
const over = ([r, g, b, a], below) => [r, g, b].map((one, index) => one * a + below[index] * (1 - a));
const ground = (element) => {
  const above = [];
  for (let one = element; one; one = one.parentElement) {
    const colour = numbers(getComputedStyle(one).backgroundColor);
    if (colour[3] > 0) above.push(colour);
    if (colour[3] === 1) break;
  }
  return above.reverse().reduce((below, colour) => over(colour, below), [255, 255, 255]);
};
const opacity = (element) => {
  let found = 1;
  for (let one = element; one; one = one.parentElement) found *= parseFloat(getComputedStyle(one).opacity);
  return found;
};
const faint = [], dialogue = document.querySelector("dialog[open]");
for (const element of (dialogue || document.body).querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const field = element.matches("input, textarea") && element.placeholder && !element.value;
  if (!(own || field) || element.matches("script, style, option, title, svg *") || !element.checkVisibility(
    {visibilityProperty: true})) continue;
  if (element.closest(":disabled, [aria-disabled=true]")) continue;
  const style = getComputedStyle(element, field ? "::placeholder" : null), below = ground(element);
  const colour = numbers(style.color);
  colour[3] *= opacity(element) * (field ? parseFloat(style.opacity) : 1);
  const [a, b] = [light(over(colour, below)), light(below)].sort((x, y) => y - x);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
  const found = (a + 0.05) / (b + 0.05);
  if (found < (large ? 3 : 4.5)) faint.push(`${element.nodeName}.${element.className} ${
    element.textContent.trim().slice(0, 30)}: ${found.toFixed(2)}`);
}
return [...new Set(faint)];
"""

#: Until two frames were drawn and no colour is between two others.
PAINTED = """
const done = arguments[0];
const changes = () => document.getAnimations().filter((one) => one instanceof CSSTransition);
requestAnimationFrame(() => requestAnimationFrame(
  () => Promise.allSettled(changes().map((one) => one.finished)).then(() => done())));
"""

#: By how much the page is wider than the screen, and what can be pressed but lies outside it.
OUTSIDE = """
const root = document.documentElement;
const may = ".adc-scroll, .tab-container, .file-preview";  // these have a way of their own to what lies outside
const buttons = [...document.querySelectorAll("button, a, input")].filter(
  (one) => one.checkVisibility({visibilityProperty: true}) && !one.closest(may));
return [root.scrollWidth - root.clientWidth, buttons.filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map((one) => one.innerText || one.id || one.className)];
"""


def screen(driver, width, height) -> None:
    """A screen of so many pixels; a telephone's below 500."""
    measures = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", measures)


def scheme(driver, name) -> None:
    """Light or dark, as gradio takes it from the system when it starts."""
    driver.execute_script("document.body.classList.toggle('dark', arguments[0])", name == "dark")


def box(driver, selector) -> dict[str, float]:
    """Where an element lies on the screen: left, top, right, bottom, width, height."""
    return driver.execute_script(
        "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
    )


def check(driver, state, *, folder: Path, sizes=((1280, 900), (1920, 1080), (390, 844)), schemes=("light", "dark")):
    """The state on screens of these sizes, light and dark: everything fits and can be read. Writes their pictures.

    Args:
        folder: for the pictures; ADCOPILOT_SCREENSHOTS names another.
    """
    folder = Path(os.environ.get("ADCOPILOT_SCREENSHOTS", folder))
    for width, height in sizes:
        screen(driver, width, height)
        for name in schemes:
            scheme(driver, name)
            # two frames and what gradio fades in: until no colour of the page is between two others
            driver.execute_async_script(PAINTED)
            driver.save_screenshot(str(folder / f"{state}-{width}-{name}.png"))
            where = f"{state} at {width}, {name}"
            outside = driver.execute_script(OUTSIDE)
            assert outside == [0, []], (where, outside)
            faint = driver.execute_script(FAINT)
            assert faint == [], (where, faint)
    screen(driver, *sizes[0])
    scheme(driver, "light")
