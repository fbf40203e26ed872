"""`dataset_info.json`: all of Table I in it, each loaded by LlamaFactory's own loader; a user's set added safely."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from adcopilot import cli
from adcopilot.chat_ad.recipe.table_one import GENERAL, STAGES, TABLE_ONE, names
from adcopilot.dataset_info import add_entries, entry, read_entries
from adcopilot.errors import UserError

#: Where `dataset_info.json` of the checkout looks for a set, relative to itself.
FILE_PATTERN = "data/built/{name}.jsonl"


def record(*images, question="What changed?", answer="Nothing.", system=None, **fields):
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": "user", "content": "<image>" * len(images) + question},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages, "images": list(images), "task": "caption", "boxes": [], "mask": "", **fields}


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
    return path


def stand_in(name):
    """Three records such as the data set will have: text alone, one image, or a pair; one with a system message."""
    if name == "OLMo-2-SFT":
        return [record(question="Hi?", system=system, source=name) for system in (None, "Be short.", None)]
    images = ["a.png"] if name in ("PixMo-cap", "LLaVA_V1.5_mix665k") else ["a.png", "b.png"]
    return [record(*images, question=f"{name} {number}?", source=name) for number in range(3)]


@pytest.fixture
def checkout(tmp_path, project_root):
    """The checkout's registrations in a folder of their own, with no data set in it but two images."""
    (tmp_path / "dataset_info.json").write_bytes((project_root / "dataset_info.json").read_bytes())
    for name in ("a.png", "b.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (56, 56), "gray").save(path)
    return tmp_path


@pytest.fixture
def load(tmp_path):
    """What LlamaFactory's loader makes of data sets by name."""
    pytest.importorskip("llamafactory")
    from llamafactory.data.loader import _get_merged_dataset
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    def load(folder, *chosen):
        data_args = DataArguments(
            dataset=",".join(chosen),
            dataset_dir=str(folder),
            media_dir=str(folder / "data"),
            template="qwen2_vl",
            overwrite_cache=True,
        )
        model_args = ModelArguments(model_name_or_path="x", cache_dir=str(tmp_path / "cache"))
        training_args = Seq2SeqTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, report_to="none")
        return _get_merged_dataset(data_args.dataset, model_args, data_args, training_args, stage="sft")

    return load


def test_table_one_is_the_papers():
    totals = {stage: sum(sets.values()) for stage, sets in TABLE_ONE.items()}
    # The table says ~30k, ~218k, ~298k and ~206k; what it lists for stages 1 and 3 adds up to less.
    assert totals == {0: 30_000, 1: 214_300, 2: 297_600, 3: 197_600}
    industrial = sum(amount for name, amount in TABLE_ONE[1].items() if name.startswith("Caption_"))
    assert industrial == 162_100
    assert set(GENERAL) == {name for name in names() if not name.startswith(("Caption_", "Chat_"))}
    # Stage 3 has stage 2's industrial sets, under names of their own.
    assert TABLE_ONE[3] == {f"{name}_RL": amount for name, amount in TABLE_ONE[2].items() if name.startswith("Chat_")}


def test_yamls_registrations_and_table_name_the_same(project_root):
    registered = read_entries(project_root / "dataset_info.json")
    assert set(registered) == set(names()) | {name for name in registered if name.startswith("sample_")}
    for name in names():
        assert registered[name] == entry(FILE_PATTERN.format(name=name))
    for stage in STAGES[:3]:
        settings = yaml.safe_load((project_root / f"examples/train/7b/stage{stage}.yaml").read_text("utf-8"))
        assert settings["dataset"] == list(TABLE_ONE[stage])
        assert (settings["dataset_dir"], settings["media_dir"]) == (".", "data")


@pytest.mark.parametrize("name", names())
def test_llamafactory_loads_each_set_with_all_others_absent(checkout, load, name):
    write_lines(checkout / FILE_PATTERN.format(name=name), stand_in(name))
    loaded = load(checkout, name)
    assert len(loaded) == 3
    for found, wanted in zip(loaded, stand_in(name), strict=True):
        spoken = [message for message in wanted["messages"] if message["role"] != "system"]
        assert found["_prompt"] + found["_response"] == spoken
        expected = [str(checkout / "data" / image) for image in wanted["images"]]
        assert found["_images"] == (expected or None)
    systems = [one["_system"] for one in loaded]
    assert systems == (["", "Be short.", ""] if name == "OLMo-2-SFT" else [""] * 3)


@pytest.mark.parametrize("stage", STAGES)
def test_llamafactory_mixes_the_sets_of_a_stage(checkout, load, stage):
    for name in TABLE_ONE[stage]:
        write_lines(checkout / FILE_PATTERN.format(name=name), stand_in(name))
    loaded = load(checkout, *TABLE_ONE[stage])
    assert len(loaded) == 3 * len(TABLE_ONE[stage])
    assert sum(one["_images"] is None for one in loaded) == (3 if stage == 2 else 0)


def test_an_absent_set_is_an_error_only_when_chosen(checkout, load):
    write_lines(checkout / FILE_PATTERN.format(name="Chat_3CAD"), stand_in("Chat_3CAD"))
    assert len(load(checkout, "Chat_3CAD")) == 3
    with pytest.raises(ValueError, match=r"data/built/Chat_MPDD\.jsonl not found"):
        load(checkout, "Chat_3CAD", "Chat_MPDD")
    # With AD-Copilot's template it is one line that names the set, before anything is loaded.
    from llamafactory.hparams import DataArguments

    from adcopilot.llamafactory.settings_checks import check_dataset_names

    check_dataset_names(DataArguments(dataset="Chat_3CAD", dataset_dir=str(checkout)))
    with pytest.raises(UserError, match=r"dataset Chat_MPDD: .*Chat_MPDD\.jsonl does not exist; .*dataset_info\.json"):
        check_dataset_names(DataArguments(dataset="Chat_3CAD,Chat_MPDD", dataset_dir=str(checkout)))


def run(*words):
    return cli.main(["data", "register", *map(str, words)])


def test_a_users_set_is_checked_registered_and_loaded(checkout, load, capsys):
    before = (checkout / "dataset_info.json").read_text()
    box = '[{"bbox_2d": [1, 2, 30, 40], "label": "x"}]'
    file = write_lines(checkout / "data/mine/set.jsonl", [record("a.png", "b.png", answer=box), record("a.png")])
    assert run("mine", file, "--info", checkout / "dataset_info.json", "--amount", 2) == 0
    said = capsys.readouterr().out
    assert "2 records with 3 images and 1 boxes, sound" in said
    assert f"dataset_dir: {checkout}\nmedia_dir: {checkout / 'data'}\ndataset: mine" in said
    after = json.loads((checkout / "dataset_info.json").read_text())
    assert after.pop("mine") == {**entry("data/mine/set.jsonl"), "num_samples": 2}
    assert (after, list(after)) == (json.loads(before), list(json.loads(before)))
    assert sorted(len(one["_images"]) for one in load(checkout, "mine")) == [1, 2]
    changed = (checkout / "dataset_info.json").stat().st_mtime_ns
    assert run("mine", file, "--info", checkout / "dataset_info.json", "--amount", 2) == 0
    assert "was registered already" in capsys.readouterr().out
    assert (checkout / "dataset_info.json").stat().st_mtime_ns == changed


def test_text_alone_a_list_and_a_file_elsewhere(checkout, load, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    texts = [{"messages": record(question=f"{n}?", system="S")["messages"]} for n in range(2)]
    (elsewhere / "text.json").write_text(json.dumps(texts))
    assert run("text", elsewhere / "text.json", "--info", checkout / "dataset_info.json") == 0
    found = read_entries(checkout / "dataset_info.json")["text"]
    assert found["columns"] == {"messages": "messages"}
    assert found["file_name"] == str(elsewhere / "text.json")
    assert [one["_system"] for one in load(checkout, "text")] == ["S", "S"]


def test_bad_records_are_all_counted_and_nothing_is_registered(checkout, capsys):
    outside = '[{"bbox_2d": [0, 0, 57, 10], "label": "x"}]'
    bad = [
        record("a.png"),
        record("missing.png"),
        record("a.png", answer=outside),
        {"messages": record("a.png")["messages"], "images": []},
        {"conversations": []},
        {"messages": record()["messages"][::-1], "images": []},
        {"messages": record()["messages"], "image": ["a.png"]},
    ] + [record("gone.png")] * 30
    file = write_lines(checkout / "bad.jsonl", bad)
    info = checkout / "dataset_info.json"
    before = info.read_bytes()
    assert run("bad", file, "--info", info) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 36 of 37 records cannot be trained on: ")
    assert error.count("\n") == 1
    for says in (
        f"{file}:2: {checkout / 'data/missing.png'}: no such image file",
        f"{file}:3: box [0, 0, 57, 10] is outside a.png (56×56 pixels)",
        f"{file}:4: 1 <image> in the messages but 0 in 'images'",
        f"{file}:5: has 'conversations' (from, value), expected 'messages'",
        f"{file}:6: message 0 has role 'assistant'",
        f"{file}:7: has 'image', expected 'images'",
        "and 16 more",
    ):
        assert says in error
    assert info.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "starts with ''"),
        ("[]", "empty, expected a record a line"),
        ('{"messages": ', "not JSON"),
        (json.dumps(record()) + "\n" + json.dumps({"messages": record()["messages"]}), "1 of 2 records have no field"),
        (
            json.dumps(record(answer_type=["a"])) + "\n" + json.dumps(record(answer_type="a")),
            "do not make one table",
        ),
        ('{"messages": ' + "[" * 100_000, "nested too deeply"),
        ('[{"messages": ' + "[" * 100_000, "nested too deeply"),
        ('{"messages": []}\n'.encode("utf-16"), "it is UTF-16: convert it with `iconv -f UTF-16 -t UTF-8 OLD > NEW`"),
        ('{"messages": [], "n": ' + "9" * 5000 + "}", "set.jsonl:1"),
    ],
)
def test_bad_files(checkout, capsys, content, says):
    file = checkout / "set.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("set", file, "--info", checkout / "dataset_info.json") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_field_that_changes_type_beyond_the_readers_first_block_is_found(checkout, capsys):
    # LlamaFactory's reader takes the columns' types from the first 10 MB; this breaks it after them.
    rows = [record(question="word " * 400, mask=None) for _ in range(6_000)] + [record(mask="a.png")]
    file = write_lines(checkout / "late.jsonl", rows)
    assert file.stat().st_size > 12_000_000
    assert run("late", file, "--info", checkout / "dataset_info.json") == 2
    error = capsys.readouterr().err
    assert "do not make one table" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("a,b", "commas"), ("a b", "commas"), ("", "commas"), ("Chat_3CAD", "is registered already, for data/built")],
)
def test_names_that_cannot_be_used(checkout, capsys, name, says):
    file = write_lines(checkout / "set.jsonl", [record("a.png")])
    info = checkout / "dataset_info.json"
    before = info.read_bytes()
    assert run(name, file, "--info", info) == 2
    assert says in capsys.readouterr().err
    assert info.read_bytes() == before
    if name == "Chat_3CAD":
        assert run(name, file, "--info", info, "--replace") == 0
        assert read_entries(info)[name]["file_name"] == "set.jsonl"


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 3}', '{"a": {}, "a": {}}', "\xff"])
def test_a_broken_info_is_left_alone(tmp_path, content):
    info = tmp_path / "dataset_info.json"
    info.write_text(content, "latin-1")
    with pytest.raises(UserError, match=r"dataset_info\.json"):
        add_entries(info, {"b": entry("b.jsonl")})
    assert info.read_text("latin-1") == content


def test_registrations_at_the_same_moment_lose_nothing(tmp_path):
    program = """
import sys
from pathlib import Path
from adcopilot.dataset_info import add_entries, entry
for n in range(20):
    add_entries(Path(sys.argv[1]), {f"{sys.argv[2]}-{n}": entry(f"{n}.jsonl")})
"""
    info = tmp_path / "dataset_info.json"
    running = [subprocess.Popen([sys.executable, "-c", program, str(info), str(which)]) for which in range(4)]
    assert [process.wait(300) for process in running] == [0] * 4
    assert len(read_entries(info)) == 80
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_info.json"]


def box_file(checkout, *answers, size=(1920, 1080)):
    Image.new("RGB", size, "gray").save(checkout / "data/large.png")
    return write_lines(checkout / "mine.jsonl", [record("large.png", answer=answer) for answer in answers])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"bbox_2d": [0.3125, 0.3704, 0.4688, 0.6481]}', "no number above 1, .*--boxes relative`$"),
        ('{"bbox_2d": [[600, 400, 900, 700], [0.1, 0.2, 0.3, 0.4]]}', "no number above 1"),
        ('{"bbox_2d": [0.5, 0.5, 0.1, 0.1]}', "no number above 1, .*--boxes relative-xywh`$"),
        ('{"bbox_2d": [0, 0, 1, 1]}', "one pixel, or the whole image"),
        ('{"bbox_2d": ["0.1", "0.2", "0.3", "0.4"]}', "is not four numbers in brackets, .*--boxes pixels"),
        ('{"bbox_2d": {"x1": 1}}', "is not four numbers"),
        ("<|box_start|>(600,400),(900,700)<|box_end|>", "1 boxes in 1 records, from record 2 on, are Qwen2-VL's"),
        ("<box>[[600,400,900,700]]</box>", "--boxes internvl"),
        ("<bbox>600 400 900 700</bbox>", "--boxes seed"),
        ('{"bbox": [600, 400, 300, 300]}', r"--boxes coco` \(or corners"),
        ('{"box_2d": [600, 400, 700, 700]}', "--boxes gemini"),
        ('{"point_2d": [600, 400]}', "points or an outline.*write their bounding boxes"),
    ],
)
def test_boxes_that_training_would_not_map_are_named(checkout, capsys, answer, says):
    """Beside a sound one; nothing is registered."""
    file = box_file(checkout, '{"bbox_2d": [600, 400, 1900, 700]}', answer)
    assert run("mine", file, "--info", checkout / "dataset_info.json") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 1 of 2 records cannot be trained on: ")
    assert re.search(says, error, re.MULTILINE)
    assert error.count("\n") == 1
    assert "mine" not in read_entries(checkout / "dataset_info.json")


def test_converted_boxes_are_written_beside_the_file_and_registered(checkout, load, capsys):
    file = box_file(checkout, "A <bbox>600 400 900 700</bbox>.", "None.")
    before, info = file.read_bytes(), checkout / "dataset_info.json"
    converted = checkout / "mine.bbox_2d.jsonl"
    assert run("mine", file, "--info", info, "--boxes", "seed") == 0
    assert f"1 boxes converted, written to {converted}" in capsys.readouterr().out
    assert file.read_bytes() == before
    assert read_entries(info)["mine"]["file_name"] == "mine.bbox_2d.jsonl"
    answers = [one["_response"][0]["content"] for one in load(checkout, "mine")]
    assert answers == ['A {"bbox_2d": [1152, 432, 1728, 756]}.', "None."]
    # the same command finds all done; another file's records are not written over these unasked
    made = converted.read_bytes()
    assert run("mine", file, "--info", info, "--boxes", "seed") == 0
    box_file(checkout, "A <bbox>1 2 3 400</bbox>.")
    assert run("mine", file, "--info", info, "--boxes", "seed") == 2
    assert "holds something else; add --replace" in capsys.readouterr().err
    assert converted.read_bytes() == made
    assert run("mine", file, "--info", info, "--boxes", "seed", "--replace") == 0
    assert [path.name for path in checkout.iterdir() if path.name.startswith(".adcopilot")] == []


def test_a_conversion_that_does_not_fit_writes_nothing(checkout, capsys):
    file = box_file(checkout, "<bbox>600 400 900 700</bbox>", "<bbox>600 400 1900 700</bbox>")
    assert run("mine", file, "--info", checkout / "dataset_info.json", "--boxes", "seed") == 2
    assert "outside 0 to 1000×1000, which is not Seed-VL's" in capsys.readouterr().err
    assert not (checkout / "mine.bbox_2d.jsonl").exists()
    assert run("mine", file, "--info", checkout / "dataset_info.json", "--boxes", "sed") == 2
    assert "did you mean seed?" in capsys.readouterr().err


def test_lists_that_are_mapped_by_nobody_are_said(checkout, capsys):
    file, info = box_file(checkout, "It is at [10, 20, 30, 40].", "None."), checkout / "dataset_info.json"
    assert run("mine", file, "--info", info) == 0
    assert f"warning: {file}: 1 lists of four numbers stand under no key" in capsys.readouterr().err


def test_thousandths_under_the_name_of_pixels(checkout, capsys):
    """Nothing says so but that no box of many goes beyond 1000."""
    answers = [json.dumps({"bbox_2d": [start, 300, start + 60, 900]}) for start in range(0, 900, 60)]
    file, info = box_file(checkout, *answers), checkout / "dataset_info.json"
    assert run("mine", file, "--info", info) == 2
    assert "none of the 15 boxes in images of more than 1000 pixels" in capsys.readouterr().err
    assert run("mine", file, "--info", info, "--boxes", "pixels") == 0  # whoever knows it says so
    assert read_entries(info)["mine"]["file_name"] == "mine.jsonl"
    assert run("other", file, "--info", info, "--boxes", "thousand") == 0
    assert read_entries(info)["other"]["file_name"] == "mine.bbox_2d.jsonl"


@pytest.mark.parametrize("as_list", [True, False])
def test_a_byte_order_mark_is_read(checkout, load, as_list):
    records = [record("a.png"), record("b.png")]
    text = json.dumps(records) if as_list else "".join(json.dumps(one) + "\n" for one in records)
    file = checkout / ("f.json" if as_list else "f.jsonl")
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert run("mine", file, "--info", checkout / "dataset_info.json") == 0
