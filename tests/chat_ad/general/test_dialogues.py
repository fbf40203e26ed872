"""M4-Instruct, LLaVA's mixture, OLMo-2-SFT: conversations stay as they are, or are left out for a stated reason."""

import json
import tempfile
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.chat_ad.general.json_stream import json_items
from adcopilot.errors import UserError
from adcopilot.records import check_record

from .conftest import png, talk, write, write_parquet

LLAVA = "llava_v1_5_mix665k.json"
M4 = "m4_instruct_annotations.json"


@pytest.fixture
def llava(place):
    root = place.media / "llava"
    for name in ("coco/train2017/1.jpg", "gqa/images/2.jpg", "vg/VG_100K/3.jpg"):
        write(root / name, png())
    return root


def item(name="1", *texts, image="coco/train2017/1.jpg", **more):
    found = {"id": name, "image": image, "conversations": talk(*(texts or ("<image>\nWhat is it?", "A cat.")))}
    return {key: value for key, value in found.items() if value is not None} | more


def test_llava_keeps_conversations_and_leaves_out_text_and_relative_boxes(place, llava, capsys):
    write(
        llava / LLAVA,
        [
            item("1", "<image>\nWhat is it?", "A cat.", "And the colour?", " Grey.\n"),
            item("1", "Which?\n<image>", "That.", image="gqa/images/2.jpg"),
            item("text", "Hello", "Hi.", image=None, model=""),
            item("vg", "<image>\nDescribe [0.1, 0.25, 1.0, 0.99].", "A door.", image="vg/VG_100K/3.jpg"),
            item("ref", "<image>\nWhere?", "[0.112,0.2,0.3,0.4]"),
        ],
    )
    assert place.run("llava-mix", llava) == 0
    records = {record["key"]: record for record in place.records("LLaVA_V1.5_mix665k")}
    assert sorted(records) == ["LLaVA_V1.5_mix665k/1#1", "LLaVA_V1.5_mix665k/1#2"]
    assert records["LLaVA_V1.5_mix665k/1#1"]["messages"] == [
        {"role": "user", "content": "<image>\nWhat is it?"},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And the colour?"},
        {"role": "assistant", "content": "Grey."},
    ]
    assert records["LLaVA_V1.5_mix665k/1#2"]["images"] == ["llava/gqa/images/2.jpg"]
    assert sorted(place.dropped("LLaVA_V1.5_mix665k")) == [
        ("ref#5", "filter", "boxes as shares of the image"),
        ("text#3", "filter", "without an image"),
        ("vg#4", "filter", "boxes as shares of the image"),
    ]
    # Table I's 25,000 are more than there is here: said, not an error. The same number asked for is one.
    assert "asked for 25000: there were only 2" in capsys.readouterr().out
    assert place.run("llava-mix", llava, "--amount", 25_000, "--overwrite") == 2
    assert "has 2 usable of 5 items" in capsys.readouterr().err
    assert place.run("llava-mix", llava, "--text-only", "--relative-boxes", "--overwrite") == 0
    assert len(place.records("LLaVA_V1.5_mix665k")) == 5


def test_llava_only_some_archives_unpacked(place, llava, capsys):
    write(llava / LLAVA, [item(str(n), image=f"ocr_vqa/images/{n}.jpg") for n in range(7)] + [item("8")])
    assert place.run("llava-mix", llava) == 2
    error = capsys.readouterr().err
    assert "7 of 8 items cannot be used (7 missing image)" in error
    assert error.count("ocr_vqa/images/") == 5
    assert "and 2 more" in error
    assert place.run("llava-mix", llava, "--skip-problems") == 0
    assert len(place.records("LLaVA_V1.5_mix665k")) == 1


def test_m4_counts_marks_speakers_and_images(place, capsys):
    root = place.media / "m4"
    for name in ("a/1.jpg", "a/2.png"):
        write(root / name, png())
    two = ["a/1.jpg", "a/2.png"]

    def entry(name, image, *texts, **more):
        return {"sample_id": name, "image": image, "conversations": talk(*texts), "metadata": {"split": "x"}} | more

    write(
        root / M4,
        [
            entry("good", two, "<image> and <image>?", "Yes.", "Sure?", "Sure."),
            entry("string", "a/1.jpg", "<image>What?", "It."),
            entry("marks", two, "<image>What?", "It."),
            entry("nomark", "a/1.jpg", "What?", "It."),
            entry("late", two, "<image>What?", "It.", "And <image>?", "That."),
            entry("echo", two, "<image>What?", "It is <image>."),
            entry("order", two, "", "", conversations=[{"from": "gpt", "value": "<image><image>"}] * 2),
            entry("unanswered", two, "<image><image>?", "Yes.", "And?"),
            entry("silent", two, "<image><image>?", " "),
            entry("role", two, conversations=[{"from": "bird", "value": "x"}]),
            entry("none", two, conversations=None),
            entry("climb", "../m4/a/1.jpg", "<image>What?", "It."),
            entry("number", [3], "<image>What?", "It."),
            entry("pads", two, "<image><image>?", "Write <|image_pad|>."),
            entry("half", two, "<image><image>?", "\ud83d"),
        ],
    )
    assert place.run("m4-instruct", root) == 2
    assert "5 of 15 items cannot be used (3 broken item, 1 image outside the folder, 1 no image named)" in (
        capsys.readouterr().err
    )
    assert place.run("m4-instruct", root, "--skip-problems") == 0
    records = {record["key"].split("/")[1]: record for record in place.records("M4_Instruct")}
    assert sorted(records) == ["good#1", "late#5", "string#2"]
    assert records["late#5"]["messages"][2] == {"role": "user", "content": "And <image>?"}
    assert records["good#1"]["images"] == ["m4/a/1.jpg", "m4/a/2.png"]
    reasons = {key.split("#")[0]: reason for key, _, reason in place.dropped("M4_Instruct")}
    assert reasons == {
        "marks": "<image> marks and images differ",
        "nomark": "<image> marks and images differ",
        "echo": "<image> in an answer",
        "order": "speakers out of order",
        "unanswered": "speakers out of order",
        "silent": "empty text",
        "role": "broken item",
        "none": "broken item",
        "climb": "image outside the folder",
        "number": "no image named",
        "pads": "special token in a text",
        "half": "broken item",
    }
    assert place.run("m4-instruct", root, "--skip-problems", "--max-images", 1, "--overwrite") == 0
    assert [record["images"] for record in place.records("M4_Instruct")] == [["m4/a/1.jpg"]]


def test_olmo_is_text_with_its_system_messages(place, tmp_path):
    root = tmp_path / "olmo"  # no images: need not be in media_dir
    say = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    rows = [
        {"id": "a", "messages": say, "source": "x"},
        {"id": "b", "messages": [{"role": "system", "content": "Be short."}, *say, *say], "source": "x"},
        {"id": "c", "messages": say[::-1], "source": "x"},
        {"id": "d", "messages": [{"role": "user", "content": "an <image> tag"}, say[1]], "source": "x"},
        {"id": "e", "messages": [say[0], {"role": "assistant", "content": "<|im_start|>user"}], "source": "x"},
        {"id": "f", "messages": [], "source": "x"},
        {"id": "g", "messages": [say[0], {"role": "assistant", "content": None}], "source": "x"},
    ]
    write_parquet(root / "data/train-00000-of-00002.parquet", rows[:4], row_group_size=3)
    write_parquet(root / "data/train-00001-of-00002.parquet", rows[4:])
    assert place.run("olmo-sft", root, "--skip-problems", images=False) == 0
    records = {record["key"]: record for record in place.records("OLMo-2-SFT")}
    assert sorted(records) == ["OLMo-2-SFT/a#0", "OLMo-2-SFT/b#1"]
    assert [message["role"] for message in records["OLMo-2-SFT/b#1"]["messages"]] == [
        "system", "user", "assistant", "user", "assistant"
    ]  # fmt: skip
    for record in records.values():
        assert record["images"] == []
        check_record(record, name="olmo")
    assert {key[0]: reason for key, _, reason in place.dropped("OLMo-2-SFT")} == {
        "c": "speakers out of order",
        "d": "<image> marks and images differ",
        "e": "special token in a text",
        "f": "broken item",
        "g": "broken item",
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"id": "1", "conversations": [', "item 1 (character 1): not JSON"),
        (b'[{"id": "1"}, {"id": tru}]', "item 2 (character 14): not JSON"),
        (b'[{"id": "1"} {"id": "2"}]', "expected ',' or ']'"),
        (b'[{"id": "1"}, 5]', "expected a JSON object"),
        (b'[{"id": "1"}', "the file ends inside its list"),
        (b"[{}] rest", "after the list's end"),
        (b"", "starts with ''"),
        (b"\xff\xfe", "cannot be read"),
        (b'"text"', "expected a JSON list of objects"),
        (b"[" + b'{"a":' * 200_000, "nested too deeply"),
    ],
)
def test_a_broken_list_is_named_with_the_place(place, llava, capsys, content, says):
    write(llava / LLAVA, content)
    assert place.run("llava-mix", llava) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {llava / LLAVA}")
    assert error.count("\n") == 1
    assert says in error
    assert not (place.output / "LLaVA_V1.5_mix665k.jsonl").exists()


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 22])
def test_items_are_read_alike_whatever_the_window(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("adcopilot.chat_ad.general.json_stream._CHUNK", chunk)
    items = [{"a": 'ü]}, {\\" \u2028', "n": [1.5e3, -2, True, None]}, {}, {"deep": [{"x": [[]]}]}, {"b": "\\u00e9"}]
    for name, text in (
        ("dense.json", json.dumps(items)),
        ("wide.json", " \n" + json.dumps(items, indent=3, ensure_ascii=False) + "\n\n"),
        ("empty.json", "[ ]"),
    ):
        (tmp_path / name).write_text(text, "utf-8")
        expected = [] if name == "empty.json" else list(enumerate(items, 1))
        assert list(json_items(tmp_path / name)) == expected
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, items)), "utf-8")
    assert list(json_items(tmp_path / "lines.jsonl")) == list(enumerate(items, 1))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    items=st.lists(st.dictionaries(st.text(max_size=4), _VALUES, max_size=3), max_size=5),
    chunk=st.integers(1, 60),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    cut=st.floats(0, 1),
)
def test_any_list_is_read_as_json_reads_it_and_any_part_of_it_is_refused(items, chunk, indent, ascii_only, cut):
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    with tempfile.TemporaryDirectory() as folder, mock.patch(f"{json_items.__module__}._CHUNK", chunk):
        path = Path(folder, "list.json")
        path.write_text(text, "utf-8")
        assert [item for _, item in json_items(path)] == items
        path.write_text(text[: int(cut * (len(text) - 1))], "utf-8")
        with pytest.raises(UserError, match=r"list\.json"):
            list(json_items(path))


def peak_of(work):
    """The most memory that some work takes at once, in bytes."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_list(tmp_path):
    path = tmp_path / "large.json"
    entry = json.dumps(item("x", "<image>" + "word " * 200, "answer " * 200))
    path.write_text("[" + ",".join([entry] * 20_000) + "]")  # 50 MB
    counts = []
    assert peak_of(lambda: counts.append(sum(1 for _ in json_items(path)))) < 40_000_000 < path.stat().st_size
    assert counts == [20_000]


def test_a_broken_item_far_before_the_end_is_not_searched_for_to_the_end(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('[{"a": 1}, {"a": nonsense}, ' + ",".join(['{"a": "' + "x" * 1000 + '"}'] * 60_000) + "]")

    def read():
        with pytest.raises(UserError, match="item 2"):
            list(json_items(path))

    assert peak_of(read) < 30_000_000
