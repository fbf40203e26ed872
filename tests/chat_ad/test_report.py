"""`adcopilot data report`: what the page says is what is in the folder, whatever is in the folder."""

import base64
import hashlib
import io
import json
import os
import re
import statistics
import tracemalloc
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot import cli
from adcopilot.chat_ad.dropped import Dropped
from adcopilot.chat_ad.fitness.leaks import leak_report
from adcopilot.chat_ad.report import scan
from adcopilot.chat_ad.report.charts import columns, histogram, lengths, stacked, uneven
from adcopilot.chat_ad.report.report import survey, write_report
from adcopilot.chat_ad.report.tally import Tally, label_of
from adcopilot.errors import UserError
from adcopilot.pages.sampling import Draw

from .reported import BOX, EVIL, Page, bad_record, draw, make_folder, pair_record, write_lines

CHOICE = "Which?\nA. crack\nB. dent\nC. none\nD. stain"


def page_of(folder, **options):
    write_report(folder=folder, output=folder / "report.html", **options)
    return Page((folder / "report.html").read_text("utf-8"))


def test_counts_are_those_of_the_records(tmp_path):
    folder = make_folder(
        tmp_path,
        Chat_3CAD=[
            bad_record(turns=[("Defect?", "Yes. [...]")]),
            bad_record("mc", [(CHOICE, "B")], defect="", labels=["dent", "crack"], boxes=[BOX, [1, 2, 3, 4]]),
            pair_record("mc", [(CHOICE, "B.")], category="screw"),
            pair_record("dialogue", [("Defect?", "no"), ("Where?", "No defect."), ("Sure?", "Yes, quite")]),
            pair_record("think", [("Defect?", "<think>Yes. Or so.</think><answer>No</answer>")]),
        ],
        OLMo=[
            {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}], "task": "text"}
        ],
    )
    page = page_of(folder)
    assert page.rows("Datasets") == [
        ["Chat_3CAD", "5", "3", "2", "–", "3", "–"],
        ["OLMo", "1", "–", "–", "1", "–", "–"],
    ]
    assert page.rows("Tasks") == [
        ["mc", "2", "33.3 %", "1", "1"],
        ["dialogue", "1", "16.7 %", "1", "–"],
        ["inspect", "1", "16.7 %", "–", "1"],
        ["text", "1", "16.7 %", "–", "–"],
        ["think", "1", "16.7 %", "1", "–"],
    ]
    assert page.rows("Tasks of each dataset") == [
        ["Chat_3CAD", "2", "1", "1", "–", "1"],
        ["OLMo", "–", "–", "–", "1", "–"],
    ]
    assert page.rows("Categories") == [
        ["bottle", "mvtec", "4", "2", "2"],
        ["(none)", "–", "1", "–", "–"],
        ["screw", "mvtec", "1", "1", "–"],
    ]
    assert page.rows("Defect types") == [["crack", "2"], ["dent", "1"]]
    assert page.rows("Yes and no") == [
        ["Chat_3CAD", "dialogue", "1", "1"],
        ["Chat_3CAD", "inspect", "1", "–"],
        ["Chat_3CAD", "think", "–", "1"],
    ]
    assert page.rows("Letters of right answers") == [["Chat_3CAD", "mc", "–", "2", "–", "–", "–"]]
    by_task = {row[0]: row[1:] for row in page.rows("Lengths of questions and answers")}
    assert by_task["dialogue"] == ["6", "7", "7", "2", "10", "10", "10"]
    assert by_task["text"] == ["4", "4", "4", "1", "1", "1", "1"]
    assert len(page.cards) == 6
    tiles = dict(re.findall(r"<dt>([a-z ]+)</dt><dd[^>]*>([\d,]+)</dd>", (folder / "report.html").read_text()))
    assert tiles == {
        "records": "6", "datasets": "2", "query images": "1", "categories": "2", "normal": "3", "anomalous": "2",
    }  # fmt: skip


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


def test_names_that_are_not_utf8(tmp_path, capsys):
    folder = make_folder(tmp_path / "a\udcff", **{"Chat\udcfe": [pair_record()]})
    assert cli.main(["data", "report", str(folder), "--output", str(folder / "r\udcfd.html")]) == 0
    (page,) = folder.glob("*.html")
    assert Page(page.read_bytes().decode("utf-8")).rows("Datasets")[0][0] == "Chat\ufffd"


def test_media_dir_may_be_above(tmp_path):
    folder = make_folder(tmp_path / "data" / "chat_ad")
    names = ["chat_ad/images/t.png", "data/chat_ad/images/q.png"]
    write_lines(folder / "Chat.jsonl", [pair_record(images=names)])
    assert write_report(folder=folder, output=folder / "r.html").gallery.missing == 0
    other = tmp_path / "records"
    write_lines(other / "Chat.jsonl", [pair_record(images=names)])
    assert write_report(folder=other, output=other / "r.html").gallery.missing == 2
    assert write_report(folder=other, output=other / "r.html", media_dirs=[tmp_path / "data"]).gallery.missing == 0


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


def test_broken_lines_are_named_and_the_rest_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "MAX_LINE", 4000)
    good = pair_record()
    lines = [good, "{", "[1]", '{"messages": 3}', "", json.dumps({**good, "key": "x" * 5000}), "[" * 3000, good,
        json.dumps({**good, "images": ["one.png"]})]  # fmt: skip
    folder = make_folder(tmp_path, Chat=lines)
    with open(folder / "Chat.jsonl", "ab") as file:
        file.write(b'{"messages": "\xff"}\n' + json.dumps(bad_record()).encode())  # no line end
    page = page_of(folder)
    assert page.rows("Datasets") == [["Chat", "3", "2", "1", "–", "1", "1"]]
    faults = {row[1]: row for row in page.rows("What could not be used")}
    assert [faults[kind][2] for kind in ("not JSON", "not a usable record", "line too long")] == ["4", "2", "1"]
    for text in ("line 2: Expecting", "line 3: a JSON list", "line 7: nested too deeply", "line 10: not UTF-8"):
        assert text in faults["not JSON"][3]
    assert "line 4: 'messages' is 3" in faults["not a usable record"][3]
    assert "line 9: 2 <image> in the messages but 1 in 'images'" in faults["not a usable record"][3]
    assert faults["line too long"][3].startswith("line 6:")


def test_findings_of_the_other_steps(tmp_path):
    row = {"image": "bottle/1.png", "category": "bottle", "label": "normal", "source": "mvtec"}
    drops = [
        *[Dropped.row("filter", row, "blurred", 0.3, 0.5).line()] * 3,
        Dropped.row("filter", row, "duplicate", "same bytes", "each picture once", of="bottle/0.png").line(),
        *[Dropped.row("filter", row, "near_duplicate", 3, 12, of="bottle/0.png").line()] * 2,
    ]
    folder = make_folder(tmp_path, Chat=[pair_record()], **{"mvtec.dropped": drops})
    problem = Dropped(step="index", image="a.png", reason="missing-mask", detail="has no mask")
    write_lines(folder / "datasets/visa.dropped.jsonl", [problem.line()] * 2)
    write_lines(folder / "x.dropped.jsonl", [])
    refused = Dropped(step="write", image="a.png", key="k", task="loc", reason="not_applicable", detail="normal")
    gone = Dropped(step="read", key="a", where="f", reason="gone")
    write_lines(folder / "Chat.dropped.jsonl", [refused.line(), gone.line()])
    match = {"set": "MMAD", "image": "test/7.png", "kind": "pixels", "distance": 0, "difference": 0}
    leak = {**row, "split": "train", "sets": {"MMAD": "pixels"}, "matches": [match], "count": 1}
    report = leak_report([leak], table="t", images=40, suspects=[{"name": "MMAD", "images": 9}], limits={})
    (folder / "leaks.json").write_text(json.dumps(report))
    (folder / "manifest.json").write_text(json.dumps({"seed": 7, "recipe": {"tasks": ["mc", "loc"]}}))
    page = page_of(folder)
    assert page.rows("mvtec.dropped.jsonl") == [
        ["blurredthe image is blurred", "3", "50.0 %", "bottle/1.png: 0.3, limit 0.5"],
        ["near_duplicatethe same photograph again, re-encoded or resized", "2", "33.3 %",
            "bottle/1.png: same as bottle/0.png; 3, limit 12"],
        ["duplicatethe same picture again", "1", "16.7 %",
            "bottle/1.png: same as bottle/0.png; same bytes, limit each picture once"],
    ]  # fmt: skip
    assert "mvtec.dropped.jsonl: 6 entries, 3 duplicates" in " ".join(page.text.split())
    assert page.rows("datasets/visa.dropped.jsonl") == [["missing-mask", "2", "100.0 %", "a.png: has no mask"]]
    assert "Without an entry: x.dropped.jsonl." in " ".join(page.text.split())
    assert [row[:2] for row in page.rows("Chat.dropped.jsonl")] == [["gone", "1"], ["not_applicable (loc)", "1"]]
    assert page.rows("Leaks by evaluation set") == [["MMAD", "9", "–", "1", "–", "–"]]
    assert page.rows("Leaks by category") == [["bottle", "mvtec", "pixels", "1"]]
    assert page.rows("Leaks one by one") == [["bottle/1.png", "MMAD", "test/7.png", "pixels"]]
    assert "1 image of 40 is in an evaluation set too." in page.text
    assert "recipe.tasksmc, loc" in page.text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"by_set": 3, "against": []}', "[" * 5000, '{"against": {"a": 1}}']
)
def test_broken_reports_are_named(tmp_path, text):
    folder = make_folder(tmp_path, Chat=[pair_record()])
    (folder / "leaks.json").write_text(text)
    (folder / "x.manifest.json").write_text(text)
    page = page_of(folder)
    rows = [row[0] for row in page.rows("What could not be used")]
    assert "leaks.json" in rows
    assert ("x.manifest.json" in rows) == (not text.startswith("{") or text == "{")


def test_notes_say_what_is_lopsided(tmp_path):
    turns = [(CHOICE, "A")]
    lopsided = [bad_record("mc", turns, key=index) for index in range(40)]
    even = [pair_record("mc", [(CHOICE, "ABCD"[index % 4])], key=index) for index in range(40)]
    yes = [bad_record(key=index) for index in range(20)]
    text = page_of(make_folder(tmp_path, Lopsided=lopsided, Even=even, Yes=yes)).text
    assert "Lopsided, mc: the letters are uneven (A 100%, B 0%, C 0%, D 0%)." in text
    assert "Yes, inspect: every answer is “Yes”." in text
    assert "Lopsided: all records are anomalous, none is normal." in text
    assert "Even, mc" not in text
    # Keys differ, but what is trained on does not: there are five conversations.
    assert "95 records repeat an earlier one" in " ".join(text.split())


def test_a_level_with_records_hides_those_below(tmp_path):
    folder = make_folder(tmp_path, pairs=[{"key": 1}])
    write_lines(folder / "parts/a/Part.jsonl", [pair_record()])
    assert [row[0] for row in page_of(folder).rows("Datasets")] == ["parts/a/Part"]
    write_lines(folder / "Chat.jsonl", [pair_record()] * 2)
    write_lines(folder / ".work/Hidden.jsonl", [pair_record()])
    page = page_of(folder)
    assert page.rows("Datasets") == [["Chat", "2", "2", "–", "–", "–", "1"]]
    other = " ".join(page.text.split()).partition("not looked at: ")[2]
    assert other.startswith("pairs.jsonl, parts/a/Part.jsonl.")


def test_same_bytes_again_and_another_choice_by_seed(tmp_path):
    folder = make_folder(tmp_path, Chat=[pair_record(turns=[("Same?", f"Answer {index}")]) for index in range(200)])
    pages = []
    for seed in (0, 0, 1):
        write_report(folder=folder, output=folder / "r.html", samples=10, seed=seed)
        pages.append((folder / "r.html").read_bytes())
    assert pages[0] == pages[1] != pages[2]
    assert len(Page(pages[2].decode()).cards) == 10


@given(
    records=st.lists(st.tuples(st.sampled_from("abcde"), st.binary(max_size=6)), unique=True, max_size=60),
    count=st.integers(0, 20),
    seed=st.integers(0, 3),
    rng=st.randoms(use_true_random=False),
)
def test_draw_is_fair_and_does_not_depend_on_the_order(records, count, seed, rng):
    def chosen(records):
        draw = Draw(count=count, seed=seed)
        for stratum, raw in records:
            draw.offer((stratum,), raw, raw)
        return draw.chosen()

    drawn = chosen(records)
    assert len(drawn) == min(count, len(records))
    sizes, got = Counter(stratum for stratum, _ in records), Counter(stratum for (stratum,), _ in drawn)
    # In turn: a stratum that has fewer than another by two or more has none left.
    for stratum, size in sizes.items():
        assert got[stratum] == size or got[stratum] >= max(got.values(), default=0) - 1
    shuffled = list(records)
    rng.shuffle(shuffled)
    assert chosen(shuffled) == drawn


def test_every_record_is_as_likely_to_be_drawn():
    counts = Counter()
    for seed in range(400):
        draw = Draw(count=5, seed=seed)
        for index in range(20):
            draw.offer(("",), str(index).encode(), index)
        counts.update(index for _, index in draw.chosen())
    # 100 expected of each, standard deviation 8.7; the seeds are fixed, so this is no lottery.
    assert len(counts) == 20
    assert all(65 <= counts[index] <= 135 for index in range(20))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=80))
def test_lengths(values):
    found = lengths(Counter(values))
    assert (found.shortest, found.longest) == (min(values), max(values))
    assert found.median == statistics.median_low(values)
    assert sum(value <= found.most for value in values) >= 0.95 * len(values)
    assert sum(value < found.most for value in values) < 0.95 * len(values)
    assert sum(columns(Counter(values))) == len(values)


def test_bars():
    segments = stacked({"b": 1, "a": 3}, kinds=["a", "missing", "b"])
    assert [(one.kind, one.x, one.width) for one in segments] == [("a", 0, 75), ("b", 75, 25)]
    counts = Counter({4: 1, 5: 2, 4001: 400})
    assert columns(counts) == [1, 2, 0, 0, 0, 0, 400]
    assert "<title>> 4k: 400</title>" in str(histogram("mc", counts)).replace("&gt;", ">")
    assert not uneven(Counter(A=30, B=20, C=24, D=26))
    assert uneven(Counter(A=60, B=20, C=10, D=10))
    assert not uneven(Counter(A=4))


def test_labels():
    assert (
        label_of({"anomalous": True})
        == label_of({"defect": "x"})
        == label_of({"defect": "", "boxes": [1]})
        == "anomalous"
    )
    assert label_of({"anomalous": False, "defect": "x"}) == label_of({"defect": None}) == "normal"
    assert label_of({"boxes": [1]}) == label_of({"anomalous": "yes"}) == "not said"


def test_memory_does_not_grow_with_the_records(tmp_path):
    def peak(count):
        folder = make_folder(tmp_path / str(count))
        with open(folder / "Chat.jsonl", "w") as file:
            for index in range(count):
                record = bad_record(f"task {index}", category=f"category {index % 10}", defect=f"d {index}", labels=[],
                    turns=[("?" * (index % 900), "!" * 300)])  # fmt: skip
                file.write(json.dumps(record) + "\n")
        tracemalloc.start()
        try:
            survey(folder=folder, media_dirs=None, samples=5, seed=0, budget=1 << 20)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # whatever is imported or cached once
    small, large = peak(6_000), peak(12_000)
    # A record has some 700 bytes; names are distinct, which is as bad as it gets.
    assert (large - small) / 6_000 < 60


def test_names_are_bounded():
    tally = Tally()
    for index in range(7_000):
        tally.add("Chat", bad_record(f"task {index}", category=f"c{index}", defect=f"d{index}", labels=[]))
    assert len(tally.groups) == 1_001
    assert len(tally.categories) == len(tally.defects) == 5_001
    assert tally.records == sum(group.records for group in tally.groups.values()) == 7_000
    assert tally.defects.total() == 7_000


def test_the_sample_set(project_root, tmp_path, capsys):
    output = tmp_path / "report.html"
    assert cli.main(["data", "report", str(project_root / "data/sample"), "--output", str(output)]) == 0
    assert re.search(r"^\d+ records of 8 datasets, 60 of them shown: ", capsys.readouterr().out)
    page = Page(output.read_text("utf-8"))
    lines = {path.stem: path.read_text().splitlines() for path in (project_root / "data/sample").glob("*.jsonl")}
    assert {row[0]: int(row[1]) for row in page.rows("Datasets")} == {
        name: len(found) for name, found in lines.items()
    }
    assert len(page.find("img")) == 120
    assert "cannot be opened" not in page.text
    assert "do not lie in their image" not in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone: no such folder"),
        (["file.txt"], "file.txt: is a file"),
        (["empty"], "empty: has no file of training records"),
        (["pairs"], "pairs: has pairs.jsonl but no file of training records"),
        (
            ["broken"],
            "broken: not one usable record in Chat.jsonl (Chat.jsonl, not a usable record: line 1: 'messages'",
        ),
        (["good", "--samples", "-1"], "--samples is -1, expected 0 to 1000"),
        (["good", "--max-mib", "nan"], "--max-mib is nan, expected 0 to 500"),
        (["good", "--media-dir", "gone"], "--media-dir gone: no such folder"),
        (["good", "--output", "good/Chat.jsonl"], "--output good/Chat.jsonl: expected a name that ends in .html"),
        (["good", "--output", "folder.html"], "--output folder.html: is a folder"),
        (["good", "--output", "file.txt/r.html"], "file.txt/r.html: cannot be written"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    make_folder(tmp_path / "good", Chat=[pair_record()])
    make_folder(tmp_path / "pairs", pairs=[{"key": 1}])
    make_folder(tmp_path / "broken", Chat=[{"messages": 1}])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    extra = [] if "--output" in arguments else ["--output", "r.html"]
    assert cli.main(["data", "report", *arguments, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_faults_are_told_on_the_command_line(tmp_path, capsys):
    folder = make_folder(tmp_path, Chat=[pair_record(images=["images/t.png", "images/no.png"]), "{", "{"])
    assert cli.main(["data", "report", str(folder), "--output", str(folder / "r.html")]) == 0
    out = capsys.readouterr().out
    assert "Chat.jsonl: 2 faults (not JSON), the first: line 2: " in out
    assert "1 image of the shown records missing, the first: images/no.png: no such image" in out


def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, Chat=[pair_record()])
    monkeypatch.setattr(Draw, "chosen", lambda self: [(("Chat", "x", "normal"), (0, 1, 7, 50))])
    with pytest.raises(UserError, match="changed while it was read"):
        survey(folder=folder, media_dirs=None, samples=5, seed=0, budget=1 << 20)
