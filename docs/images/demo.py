"""The pictures of docs/demo.md: the page over a small model trained on the sample set, with pairs of a test set.

    python docs/images/demo.py outputs/demo/with_encoder/merged outputs/demo/data docs/images

The pairs are the first of the set, whatever the model says of them; the one that is shown alone is that of the highest
score, and without a model the first defective one. Needs Chromium and the extras web and dev.
"""

import base64
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.demo.browser.looks import PAINTED, scheme, screen
from tests.demo.browser.part import Part
from tests.demo.browser.test_many import Many
from tests.demo.running import demo
from tests.webui.serving import browser

SPLIT = "test_trained.jsonl"
#: Pairs of the second tab.
MANY = 8
#: Pixels of the longest picture's height.
HIGHEST = 2900
WIDE, NARROW = (1280, 900), (390, 844)


def save(driver, path: Path, size: tuple[int, int], *, whole: bool = True, dark: bool = False) -> None:
    """The page as a picture, to its end or the screen alone."""
    screen(driver, *size)
    scheme(driver, "dark" if dark else "light")
    driver.execute_script("scrollTo(0, 0); document.activeElement.blur()")
    driver.execute_async_script(PAINTED)
    height = driver.execute_script("return document.documentElement.scrollHeight") if whole else size[1]
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(height, HIGHEST), "scale": 1}
    found = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole, "clip": clip})
    picture = Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB")
    picture.save(path, optimize=True)
    screen(driver, *WIDE)
    scheme(driver, "light")


def answered(page: Part, folder: Path, name: str) -> None:
    """Ask whether a part is defective, and wait for all that comes of it."""
    page.add("Good part", shutil.copyfile(folder / "good" / name, folder / "good part.png"))
    page.add("Part to inspect", folder / "parts" / name)
    page.press("Is it defective?")
    page.wait("the verdict", lambda: f"About {name}" in page.said("verdict"))
    page.wait("the map", lambda: page.shown("Where it differs"))
    page.wait_for_the_end()


def main(model: str, data: str, output: str) -> None:
    """Draw all four."""
    output = Path(output)
    lines = (json.loads(line) for line in Path(data, SPLIT).read_text("utf-8").splitlines())
    pairs = [line for line in lines if line["task"] == "inspect"][:MANY]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for kind in ("good", "parts"):
            (folder / kind).mkdir()
        named = {}
        for number, line in enumerate(pairs, 1):  # a part has the name of its good part, so that they belong together
            name = f"{line['category']} {number}.png"
            named[name] = line
            for kind, image in zip(("good", "parts"), line["images"], strict=True):
                shutil.copyfile(Path(data, image), folder / kind / name)
        with browser(folder / "profile") as driver:
            screen(driver, *WIDE)
            with demo(folder / "run", "--model", model, "--device", "cpu") as running:
                many = Many(driver=driver, url=running.url)
                many.give("Good parts: pictures or a zip", *sorted((folder / "good").iterdir()))
                many.give("Parts to inspect: pictures or a zip", *sorted((folder / "parts").iterdir()))
                many.press("Inspect all")
                many.wait("the end", lambda: "Done." in many.said("progress"))
                save(driver, output / "demo-many.png", WIDE)
                worst = many.rows()[0][1]
                page = Part(driver=driver, url=running.url)
                answered(page, folder, worst)
                save(driver, output / "demo.png", WIDE)
                save(driver, output / "demo-390-dark.png", NARROW, dark=True)
            marks = folder / "marks.jsonl"
            with demo(folder / "map", "--model", "none", "--threshold", 0.25, "--marks", marks) as running:
                page = Part(driver=driver, url=running.url)
                answered(page, folder, next(name for name, line in named.items() if line["anomalous"]))
                page.press("Mark as defective")
                page.wait("the mark", lambda: "is marked as defective" in page.said("told-one"))
                save(driver, output / "demo-map.png", WIDE)


if __name__ == "__main__":
    main(*sys.argv[1:])
