"""The page: pictures, boxes and texts, whatever is in the records."""

import base64
import hashlib
import io
import json
import os
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.chat_ad.report.report import write_report

from ..reported import BOX, EVIL, Page, bad_record, draw, make_folder, page_of, pair_record, write_lines


def test_the_page_needs_nothing_and_allows_nothing(tmp_path):
    evil = bad_record(category=EVIL, task=EVIL, source=EVIL, defect=EVIL, labels=[EVIL], turns=[(EVIL, EVIL)])
    folder = make_folder(tmp_path, Chat=[{**evil, EVIL: EVIL}, pair_record()])
    write_lines(folder / "x.dropped.jsonl", [{"image": EVIL, "reason": EVIL, "value": EVIL, "limit": EVIL}])
    (folder / "manifest.json").write_text(json.dumps({EVIL: {EVIL: EVIL}}))
    page = page_of(folder)
    assert len(page.scripts) == len(page.styles) == 1
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("style", "srcdoc", "action", "formaction", "xlink:href", "data")
            if name in ("src", "href"):
                assert (
                    value.startswith(("#", "data:image/png;base64,", "data:image/jpeg;base64,")) or value == "data:,"
                )
    for one in page.styles + page.scripts:
        assert "http" not in one
        assert "url(" not in one
        assert "@import" not in one
    (policy,) = [has for _, has in page.tags if has.get("http-equiv") == "Content-Security-Policy"]
    for kind, text in (("style", page.styles[0]), ("script", page.scripts[0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy["content"]
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    # As text it is all there, at each place.
    assert any(EVIL in card for card in page.cards)
    assert page.text.count("<script>window.pwned=1</script>") >= 8


FIELDS = ("category", "task", "source", "defect", "key", "mask")


ANYTHING = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates and control characters too


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    record = bad_record(turns=[("Is it?", "abc")], **dict.fromkeys(FIELDS, "abc"))
    folder = make_folder(tmp_path_factory.mktemp("harmless"), Chat=[record])
    return folder, [tag for tag, _ in page_of(folder).tags]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.fixed_dictionaries(dict.fromkeys(FIELDS, ANYTHING)), said=ANYTHING, label=ANYTHING)
@example(values=dict.fromkeys(FIELDS, "\ud800\x00\u202e<!--"), said="]]><svg onload=x>", label="-->")
def test_no_text_changes_the_page(harmless, values, said, label):
    folder, tags = harmless
    values = {name: f"x{value}" for name, value in values.items()}  # an empty one has no row of its own
    said = said.replace("<image>", "")
    record = bad_record(turns=[("Is it?", f"x{said}")], labels=[f"x{label}"], **values)
    (folder / "Chat.jsonl").write_text(json.dumps(record) + "\n")
    page = page_of(folder)
    # A long name may be broken at each `_/.-`.
    assert [tag for tag, _ in page.tags if tag != "wbr"] == tags
    (folder / "report.html").read_bytes().decode("utf-8")


def test_boxes_have_the_records_own_pixels(tmp_path):
    told = [{"bbox_2d": [10, 5, 30, 25], "label": "x"}, {"bbox_2d": BOX, "label": "crack"}]
    folder = make_folder(
        tmp_path,
        Chat=[
            bad_record("loc", [("Where?", json.dumps(told))], boxes=[BOX, [0, 0, 200.0, 100]], labels=["crack", "b"])
        ],
    )
    page = page_of(folder)
    (view,) = page.find("svg", class_="boxes")
    assert (view["viewbox"], view["preserveaspectratio"]) == ("0 0 200 100", "none")
    boxes = [
        (has["class"], has["x"], has["y"], has["width"], has["height"]) for has in page.find("rect", class_="box")
    ]
    assert boxes == [
        ("box c0", "40", "20", "60", "50"),
        ("box c1", "0", "0", "200.0", "100"),
        ("box c2 told", "10", "5", "20", "20"),
    ]
    assert "only in the text" in page.cards[0]


def test_boxes_are_pixels_of_the_upright_image(tmp_path):
    folder = make_folder(
        tmp_path, Chat=[bad_record(images=("images/t.png", "images/turned.jpg"), boxes=[[1, 2, 90, 190]])]
    )
    image = Image.new("RGB", (200, 100))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(folder / "images/turned.jpg", exif=exif)
    page = page_of(folder)
    (view,) = page.find("svg", class_="boxes")
    assert view["viewbox"] == "0 0 100 200"
    assert "do not lie in their image" not in page.text


@pytest.mark.parametrize(
    "box",
    [[10, 10, 50, 900], [1, 2, 3], [5, 5, 5, 9], ["1", 2, 3, 4], [1, 2, float("inf"), 4], [1, 2, 10**400, 4], None],
)
def test_wrong_boxes_are_named(tmp_path, box):
    folder = make_folder(tmp_path, Chat=[bad_record(boxes=[box, BOX], labels=["a", "b"])])
    page = page_of(folder)
    assert "Boxes in the gallery that do not lie in their image: 1." in page.text
    assert "a box that is" in page.cards[0]
    assert ("40", "20", "60", "50") in [
        (has["x"], has["y"], has["width"], has["height"]) for has in page.find("rect", class_="box")
    ]


def test_pictures_are_the_images(tmp_path):
    folder = make_folder(tmp_path)
    draw(folder, "images/t.png", size=(1500, 900), colour=(10, 200, 30))
    draw(folder, "images/q.png", size=(40, 60), colour=(1, 2, 3))
    write_lines(folder / "Chat.jsonl", [pair_record()])
    shown = page_of(folder).find("img")
    assert [(has["width"], has["height"]) for has in shown] == [("1500", "900"), ("40", "60")]
    large, small = (
        Image.open(io.BytesIO(base64.b64decode(has["src"].partition(",")[2]))).convert("RGB") for has in shown
    )
    assert max(large.size) <= 560
    assert abs(large.width / large.height - 1500 / 900) < 0.01
    assert all(abs(a - b) <= 3 for a, b in zip(large.getpixel((99, 99)), (10, 200, 30), strict=True))
    assert small.size == (40, 60)
    assert small.getpixel((20, 20)) == (1, 2, 3)


def test_images_outside_the_folder_stay_outside(tmp_path):
    draw(tmp_path, "secret.png", colour=(255, 0, 0))
    folder = make_folder(tmp_path / "data")
    os.symlink(tmp_path / "secret.png", folder / "images/link.png")
    names = ["../secret.png", str(tmp_path / "secret.png"), "images/../../secret.png", "images/link.png"]
    names += ["images/no.png", "a\x00b.png", "images", "x" * 5000]
    write_lines(folder / "Chat.jsonl", [pair_record(images=[name, "images/q.png"], key=name) for name in names])
    found = write_report(folder=folder, output=folder / "r.html")
    assert found.gallery.missing == len(names)
    page = Page((folder / "r.html").read_text("utf-8"))
    assert len(page.find("img")) == len(names)  # the queries
    for problem in ("expected a name inside the media folder", "a link out of the media folder", "no such image"):
        assert problem in page.text
    # Named by the user, the place a link leads to is fine.
    found = write_report(folder=folder, output=folder / "r.html", media_dirs=[folder, tmp_path])
    assert "a link out of" not in (folder / "r.html").read_text("utf-8")


def test_broken_images_are_named(tmp_path):
    folder = make_folder(tmp_path)
    Image.effect_noise((300, 300), 90).save(folder / "images/cut.png")
    whole = (folder / "images/cut.png").read_bytes()
    (folder / "images/cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "images/empty.png").touch()
    (folder / "images/text.png").write_text(EVIL)
    draw(folder, "images/one.png", size=(1, 1))
    names = [f"images/{name}.png" for name in ("cut", "empty", "text", "one")]
    write_lines(folder / "Chat.jsonl", [pair_record(images=[name, "images/q.png"]) for name in names])
    page = page_of(folder)
    assert len(page.find("img")) == 4
    cards = " ".join(page.cards)
    for name, problem in zip(names, ("truncated or corrupt", "is empty", "not an image", "too small"), strict=True):
        assert re.search(f"{name}: [^:]*{problem}", cards)
    assert "4 images of the records shown below cannot be opened." in page.text


def test_the_page_stays_within_its_budget(tmp_path):
    folder = make_folder(tmp_path)
    for index in range(10):
        Image.effect_noise((300, 300), 90).save(folder / f"images/{index}.png")
    write_lines(
        folder / "Chat.jsonl", [pair_record(images=["images/t.png", f"images/{index}.png"]) for index in range(10)]
    )
    full = write_report(folder=folder, output=folder / "r.html")
    size = (folder / "r.html").stat().st_size
    assert full.gallery.left_out == 0
    half = write_report(folder=folder, output=folder / "r.html", budget=size // 2)
    assert 3 <= half.gallery.left_out <= 7
    assert (folder / "r.html").stat().st_size < 0.7 * size
    assert "had no room" in (folder / "r.html").read_text("utf-8")
