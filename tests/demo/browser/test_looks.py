"""Every state of the page in a real browser, on three screens, light and dark: where things are, whether they fit and
can be read. Its pictures lie in the test's folder, or that of ADCOPILOT_SCREENSHOTS: somebody is to look at them."""

import re
import zipfile

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from adcopilot.demo.words import CHINESE

from ...inspect.conftest import part
from .looks import box, check, screen
from .part import Part, complaints, ready
from .test_many import Many

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

SAID = (
    'Yes. [{"bbox_2d": [60, 50, 200, 120], "label": "scratch"}, {"bbox_2d": [210, 20, 260, 60], "label": "dent"}, '
    '{"bbox_2d": [20, 20, 50, 45], "label": "scratch"}]'
)
VERDICT = "#adc-verdict .adc-chip"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """One browser for all states."""
    from ...webui.serving import browser

    with browser(tmp_path_factory.mktemp("looks") / "profile") as session:
        yield session


@pytest.fixture
def page(driver, stub_demo, said):
    screen(driver, 1280, 900)
    yield Part(driver=driver, url=stub_demo.url)
    assert complaints(driver) == []


def ask(page, words):
    page.press("Is it defective?")
    page.wait(words, lambda: words in page.said("verdict"))
    page.wait("the picture", lambda: page.shown("Where it differs"))
    page.wait_for_the_end()
    page.driver.execute_script("scrollTo(0, 0)")


def test_one_part_from_empty_to_an_error(page, pictures, said, tmp_path):
    """The verdict stands beside the pictures, above the fold, and nothing moves while it is waited for."""
    driver = page.driver
    check(driver, "empty", folder=tmp_path)
    ready(page, pictures)
    page.wait("the names", lambda: "good.png\nquery.png" in page.text())
    said.may_answer.clear()
    said.text, said.yes = SAID, 0.9
    page.press("Is it defective?")
    # how long it has taken so far
    page.wait("the time", lambda: re.search(r"^Looking at the pictures … 0:0[1-9]$", page.waiting(), re.MULTILINE))
    driver.execute_script("scrollTo(0, 0)")
    names = ("verdict", "one", "start", "looked")
    before = [box(driver, f"#adc-{name}") for name in names]
    assert before[0]["height"] >= 100
    assert before[0]["bottom"] <= 900
    assert "The verdict comes here" not in page.text()
    check(driver, "waiting", folder=tmp_path)
    said.may_answer.set()
    page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
    page.wait("the pictures", lambda: page.shown("Where it differs"))
    page.wait_for_the_end()
    driver.execute_script("scrollTo(0, 0)")
    for name, was in zip(names, before, strict=True):
        assert abs(box(driver, f"#adc-{name}")["top"] - was["top"]) <= 2
    chip = box(driver, VERDICT)
    assert chip["height"] > 20
    assert chip["bottom"] <= 300
    for name in ("compared", "marked", "differs"):  # side by side, whole, and above the fold too
        assert box(driver, f"#adc-{name} img")["bottom"] <= 900
        assert abs(box(driver, f"#adc-{name} img")["top"] - box(driver, "#adc-marked img")["top"]) <= 2
    assert [page.said(f"{name}-about").split("\n")[0] for name in ("compared", "marked")] == ["good.png", "query.png"]
    labels = [one.text for one in driver.find_elements("css selector", "#adc-places li b")]
    assert labels == ["scratch", "dent", "scratch"]
    assert [one.text for one in driver.find_elements("css selector", "#adc-places button")] == ["1", "2", "3"]
    # beside their numbers, below the picture that has the numbers in it
    assert abs(box(driver, "#adc-places")["left"] - box(driver, "#adc-marked")["left"]) <= 2
    assert box(driver, "#adc-places li")["bottom"] <= 900
    check(driver, "defective", folder=tmp_path)

    screen(driver, 390, 844)  # on a telephone the verdict is the next thing below the button
    assert 0 < box(driver, VERDICT)["top"] - box(driver, "#adc-start")["bottom"] < 120
    screen(driver, 1280, 900)

    said.text, said.yes = "No.", 0.1
    ask(page, "No defect found")
    check(driver, "good", folder=tmp_path)
    said.text, said.logprobs = "Hm", [-6.0, -4.0]
    ask(page, "the answer begins with 'Hm', which is neither 'Yes' nor 'No'")
    shown = driver.find_element("css selector", VERDICT)  # in amber, and without a score
    red, green, blue = map(int, shown.value_of_css_property("background-color").strip("rgba()").split(",")[:3])
    assert (shown.text, red > green > blue) == ("Undecided", True)
    assert "Score" not in page.said("verdict")
    check(driver, "undecided", folder=tmp_path)
    said.logprobs, said.text, said.yes = ..., SAID.replace("Yes", "No"), 0.9
    ask(page, "The model's own words say the opposite of this verdict.")
    check(driver, "contradiction", folder=tmp_path, sizes=((1280, 900),))
    said.status = 500
    page.ask("The model's server does not answer just now")
    page.wait_for_the_end()
    driver.execute_script("scrollTo(0, 0)")
    assert box(driver, "#adc-problem")["bottom"] <= 900
    check(driver, "error", folder=tmp_path)


def test_zoom_shows_the_same_place_in_all_pictures(page, pictures, said, tmp_path):
    driver = page.driver
    ready(page, pictures)
    said.text, said.yes = SAID, 0.9
    ask(page, "Defect found")
    style = "const {transform, transformOrigin} = getComputedStyle(document.querySelector(arguments[0])); "
    style += "return [transform, transformOrigin]"
    names = [f"#adc-{name} img" for name in ("compared", "marked", "differs")]
    assert {driver.execute_script(style, name)[0] for name in names} == {"matrix(1, 0, 0, 1, 0, 0)"}
    page.press("2")
    page.wait("the zoom", lambda: driver.execute_script(style, names[0])[0] == "matrix(4, 0, 0, 4, 0, 0)")
    transforms, origins = zip(*(driver.execute_script(style, name) for name in names), strict=True)
    assert transforms == transforms[:1] * 3
    places = [[float(one.removesuffix("px")) for one in origin.split()] for origin in origins]
    for place in places:  # frames of one row differ by less than a pixel
        assert place == pytest.approx(places[0], abs=0.5)
    x, y = places[0]
    frame = box(driver, "#adc-marked .image-frame")
    scale = min(frame["width"] / 300, frame["height"] / 200)
    # the middle of the second box, which is in pixels of the 308×196 that the model sees of 300×200
    middle = 235 * 300 / 308, 40 * 200 / 196
    wanted = frame["width"] / 2 + (middle[0] - 150) * scale, frame["height"] / 2 + (middle[1] - 100) * scale
    assert (x, y) == pytest.approx(wanted, abs=1)
    check(driver, "zoomed", folder=tmp_path, sizes=((1280, 900),))
    slider = driver.find_element("css selector", "#adc-zoom input[type=range]")
    driver.execute_script("arguments[0].focus()", slider)
    ActionChains(driver).send_keys(Keys.HOME).perform()  # and by the keyboard
    page.wait("no zoom", lambda: driver.execute_script(style, names[0])[0] == "matrix(1, 0, 0, 1, 0, 0)")


def test_many_parts_sorted_filtered_and_enlarged(page, said, tmp_path):
    driver = page.driver
    names = ("a 10.png", "a 9.png", "b.png")
    with zipfile.ZipFile(tmp_path / "lot.zip", "w") as opened:
        for index, name in enumerate((*names, "broken.png")):
            part(index + 2, size=(300, 200), defect=index < 2).save(tmp_path / "x.png")
            opened.write(tmp_path / "x.png", name) if name in names else opened.writestr(name, b"no picture")
    part(1, size=(300, 200)).save(tmp_path / "good.png")
    many = Many(driver=driver, url=page.url)
    check(driver, "many-empty", folder=tmp_path)
    folder = tmp_path / "saved"
    many.save_into(folder)
    many.give("Good parts: pictures or a zip", tmp_path / "good.png")
    many.give("Parts to inspect: pictures or a zip", tmp_path / "lot.zip")
    said.replies = [(SAID, 0.8), (SAID, 0.95), ("No.", 0.1)]
    said.may_answer.clear()
    many.press("Inspect all")
    # the time goes on while a picture takes long
    many.wait("the time", lambda: re.search(r"(0:0[3-9]|0:[1-5]\d|[1-9]:\d\d)$", many.said("progress").split("\n")[0]))
    said_so_far = many.said("progress")  # the one that is no picture is counted as such
    assert (
        "1 of 4 pictures inspected. Defect found: 0, Undecided: 0, No defect found: 0, Not inspected: 1."
        in said_so_far
    )
    check(driver, "many-waiting", folder=tmp_path, sizes=((1280, 900),), schemes=("light",))
    said.may_answer.set()
    many.wait("the end", lambda: "4 of 4 pictures inspected. Done." in many.said("progress"))

    def column():
        return [row[1] for row in many.rows()]

    assert [row[2] for row in many.rows()][:3] == ["Defect found"] * 2 + ["No defect found"]
    worst = column()
    assert worst[3] == "broken.png"
    screen(driver, 390, 844)  # on a telephone a row is whole, and the table can be sorted
    scroll = box(driver, ".adc-scroll")
    for selector in ("tbody tr:nth-child(3) .adc-chip", "th [data-sort=score]"):
        assert 0 < box(driver, f"#adc-results {selector}")["right"] <= scroll["right"] + 1
    screen(driver, 1280, 900)
    check(driver, "many", folder=tmp_path)
    tools = driver.find_element("css selector", ".adc-tools").text.split("\n")
    assert [tool for tool in tools if tool] == [
        "All 4",
        "Defect found 2",
        "Undecided 0",
        "No defect found 1",
        "Not inspected 1",
    ]
    many.press("File")
    many.wait("another order", lambda: column() == ["a 9.png", "a 10.png", "b.png", "broken.png"])
    many.press("Defect found")
    many.wait("two rows", lambda: column() == ["a 9.png", "a 10.png"])

    # enlarged by the keyboard: Enter, the next one by an arrow, and Escape
    first = driver.find_element("css selector", "#adc-results tbody tr:not([hidden]) [data-enlarge]")
    driver.execute_script("arguments[0].focus()", first)
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    large = many.wait("the picture", lambda: many._visible("css selector", "#adc-enlarged img"))
    many.wait("its pixels", lambda: large.get_property("naturalWidth") > 800)
    assert driver.find_element("css selector", "#adc-enlarged .adc-name").text == "a 9.png"
    check(driver, "enlarged", folder=tmp_path)
    ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()
    many.wait("the next", lambda: driver.find_element("css selector", "#adc-enlarged .adc-name").text == "a 10.png")
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    many.wait("the table", lambda: not many._visible("css selector", "#adc-enlarged"))
    # the keyboard goes on from the part that was looked at last
    many.wait("the focus", lambda: driver.switch_to.active_element.get_attribute("aria-label") == "a 10.png")

    many.press("Save the marked pictures (ZIP)")
    saved = folder / "inspection.zip"
    many.wait("the pictures", saved.exists)
    with zipfile.ZipFile(saved) as opened:
        assert sorted(opened.namelist()) == [
            "defect found/a 10.png.jpg",
            "defect found/a 9.png.jpg",
            "no defect found/b.png.jpg",
        ]
        assert opened.testzip() is None


def test_chinese(page, pictures, said, tmp_path):
    """Chosen above the tabs; no word of the page is left in English, of gradio's own neither."""
    driver = page.driver
    page.choose_language("中文", "zh-CN")
    check(driver, "chinese-empty", folder=tmp_path, sizes=((1280, 900), (390, 844)))
    for label, path in zip(("良品", "待检零件"), pictures, strict=True):
        page.add(label, path)
    said.text, said.yes = SAID, 0.9
    said.may_answer.clear()
    page.press("有缺陷吗？")
    page.wait("the time", lambda: re.search(r"^正在查看图片 … 0:0[1-9]$", page.waiting(), re.MULTILINE))
    assert "processing" not in page.text()  # gradio's own words are in English alone
    said.may_answer.set()
    page.wait("the verdict", lambda: "发现缺陷" in page.said("verdict"))
    page.wait("the picture", lambda: page.shown("差异所在"))
    page.wait_for_the_end()
    driver.execute_script("scrollTo(0, 0)")
    check(driver, "chinese", folder=tmp_path, sizes=((1280, 900), (390, 844)))
    page.tab("多个零件")
    check(driver, "chinese-many", folder=tmp_path, sizes=((1280, 900),))
    lines = {line.strip() for line in page.text().split("\n")}
    page.tab("单个零件")
    lines |= {line.strip() for line in page.text().split("\n")}
    assert lines & set(CHINESE) == set()
    assert "Drop Image Here" not in lines
    page.choose_language("English", "en")
    assert page.button("Is it defective?")
