"""What cannot be trained on is named before training, in one line, by the check that `adcopilot preflight` runs."""

import json
import re
from pathlib import Path

import pytest

from adcopilot.errors import UserError

from .conftest import encode, random_image, record, sample

pytestmark = pytest.mark.forward


def yaml_file(folder, adcopilot_dir, **changes):
    settings = {
        "model_name_or_path": str(adcopilot_dir),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(folder),
        "media_dir": str(folder),
        "dataset": "parts",
        "template": "adcopilot",
        "cutoff_len": 512,
        "output_dir": str(folder / "out"),
        "bf16": True,
        "deepspeed": "ds_z2.json",
        **changes,
    }
    path = folder / "train.yaml"
    path.write_text(json.dumps(settings), "utf-8")  # JSON is YAML
    return path


def preflight(path, *overrides) -> int:
    """`adcopilot preflight` without leaving the process."""
    import argparse

    from adcopilot.llamafactory import preflight as command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(path), *overrides])) or 0


def refused(path, *overrides) -> str:
    with pytest.raises(UserError) as error:
        preflight(path, *overrides)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_good_data_passes(llamafactory, dataset_dir, adcopilot_dir, image_files, lf, capsys):
    folder, _ = dataset_dir
    assert preflight(yaml_file(folder, adcopilot_dir)) == 0
    one = sample("<image><image>Is there a defect?", "No.", images=image_files[:2])
    tokens = len(encode(lf.encoder(), one)["input_ids"][0])
    *_, data, memory = capsys.readouterr().out.splitlines()
    assert data == f"parts: 3 samples can be trained on, the longest has {tokens} of 512 tokens"
    assert memory == "memory: not counted with deepspeed: ds_z2.json (no JSON file with zero_optimization)"
    assert preflight(yaml_file(folder, adcopilot_dir), "deepspeed=null") == 0
    memory = capsys.readouterr().out.splitlines()[-1]
    assert memory.startswith("memory of one GPU in bfloat16, from shapes and not measured: 0.0 GiB (0.0 weights + ")
    assert not (folder / "out").exists()


def test_every_bad_sample_is_named(llamafactory, dataset_dir, adcopilot_dir, image_files, tmp_path):
    folder, write = dataset_dir
    a, b = image_files[:2]
    empty, text, tiny = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "tiny.png"
    empty.touch()
    text.write_text("not an image", "utf-8")
    random_image(0, 1, 1).save(tiny)

    def box(*numbers):
        return json.dumps([{"bbox_2d": numbers, "label": "scratch"}])

    write(
        record([a, b]),
        record([a, "missing.png"]),
        record([a, str(empty)]),
        record([str(text), b]),
        record([a, str(tiny)]),
        record([a]),
        record([a, b], answer=box(1, 2, 4000, 30)),
        record([a, b], answer=box(30, 2, 20, 30)),
        record([a, b], answer=box(1, 2, 30)),
        record([a, b], question=f"{box(1, 2, 3, 4)}<image><image>"),
    )
    message = refused(yaml_file(folder, adcopilot_dir))
    assert message.startswith("dataset parts: 9 of 10 samples cannot be trained on: [1] ")
    for row, expected in enumerate(
        [
            "missing.png: no such image file",
            "empty.png: the image file is empty (0 bytes)",
            "text.png: damaged at its start, or not an image",
            "tiny.png: 1×1 pixels is too small",
            "1 images but 2 <image>",
            "box [1, 2, 4000, 30] is outside " + b + " (84×56 pixels)",
            "box [30, 2, 20, 30] is inverted",
            "box [1, 2, 30] is not four numbers",
            "a box stands before any <image>",
        ],
        start=1,
    ):
        part = message.split(f"[{row}] sample with images ")[1].split(f"; [{row + 1}] ")[0]
        assert expected in part


def test_only_the_first_are_named(llamafactory, dataset_dir, adcopilot_dir, image_files):
    folder, write = dataset_dir
    write(*(record([image_files[0], f"missing{index}.png"]) for index in range(25)))
    message = refused(yaml_file(folder, adcopilot_dir))
    assert message.startswith("dataset parts: 25 of 25 samples cannot")
    assert message.endswith("; and 5 more")
    assert "missing19.png" in message
    assert "missing20.png" not in message


def test_cutoff_len(llamafactory, dataset_dir, adcopilot_dir, image_files, lf, capsys):
    """Images must fit; text alone may be cut, as everywhere in LlamaFactory, and is counted."""
    folder, write = dataset_dir
    long = record(image_files[:2], answer="No. " * 300)
    many = record([image_files[5]] * 40, question="<image>" * 40)
    write(record(image_files[:2]), long)
    path = yaml_file(folder, adcopilot_dir, cutoff_len=200)
    assert preflight(path) == 0
    assert "1 lose text at their end, no images" in capsys.readouterr().out
    write(record(image_files[:2]), many)
    message = refused(path)
    assert message.startswith("dataset parts: 1 of 2 samples cannot be trained on: [1] ")
    assert "does not fit cutoff_len 200: tokens of its 40 images would be cut; raise cutoff_len" in message
    assert preflight(path, "cutoff_len=2000") == 0


@pytest.mark.parametrize("cutoff_len", [30, 45, 60, 80])
@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.parametrize("of_first", [True, False])
@pytest.mark.parametrize("images", [1, 2])
def test_check_and_training_agree(lf, image_files, cutoff_len, mask_history, of_first, images, monkeypatch):
    """Whatever length is cut at: what passes the check has whole images when LlamaFactory has cut it, and what does
    not is refused by the guard too."""
    from adcopilot.llamafactory.data_checks import SampleCheck

    encoder = lf.encoder(cutoff_len=cutoff_len, mask_history=mask_history)
    monkeypatch.setattr(lf.processor, "comparison_of_first", of_first)
    second = "And <image> this?" if images == 2 else "And this, which is not seen?"
    one = sample("<image>Look.", "Yes.", second, "No, not at all.", images=image_files[:images])
    try:
        SampleCheck(encoder=encoder).length(one)
    except UserError:
        with pytest.raises(UserError, match="does not fit cutoff_len"):
            encode(encoder, one)
    else:
        ids = encode(encoder, one)["input_ids"][0]
        compared = images - (not of_first)
        assert ids.count(lf.processor.comparison_token_id) == compared * lf.processor.num_comparison_tokens
        image_pad = lf.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        assert ids.count(image_pad) == images * 6  # 84×56 pixels are 3×2 tokens


@pytest.mark.parametrize("of_first", [True, False])
def test_counted_length_is_the_tokenised_one(lf, samples, of_first, monkeypatch):
    """The check counts an image's pads instead of tokenising them."""
    from adcopilot.llamafactory.data_checks import SampleCheck

    monkeypatch.setattr(lf.processor, "comparison_of_first", of_first)
    check = SampleCheck(encoder=lf.encoder())
    lengths = [len(ids) for ids in encode(lf.encoder(), *samples)["input_ids"]]
    assert [check.length(one) for one in samples] == lengths


def test_a_truncated_image_is_found_while_tokenising(lf, image_files, tmp_path):
    """Its header is fine, so the check passes it; decoding it stops the run before it trains."""
    damaged = tmp_path / "damaged.png"
    data = Path(image_files[3]).read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"damaged\.png: the image is truncated or corrupt"):
        encode(lf.encoder(), sample("<image>Look.", "Yes.", images=[str(damaged)]))


def test_samples_that_llamafactorys_main_drops_stay_dropped():
    """Its main branch gives None for what it had to cut, and says so itself."""
    from adcopilot.llamafactory.data_checks import _refuse_cut_images

    assert _refuse_cut_images(lambda self, **sample: None)(None, images=["a.png"], prompt=[]) is None


def test_stock_template_is_not_checked(lf, image_files):
    """Qwen's template cuts images as it always did."""
    one = sample("<image><image>Look.", "Yes.", images=image_files[:2])
    assert len(encode(lf.encoder("qwen2_vl", cutoff_len=20), one)["input_ids"][0]) == 20


def test_training_runs_the_check(llamafactory, dataset_dir, lf, image_files):
    """The function that `llamafactory-cli train` loads its data with."""
    from llamafactory.data import get_dataset
    from llamafactory.hparams import ModelArguments
    from llamafactory.hparams.training_args import TrainingArguments

    folder, write = dataset_dir
    write(record(image_files[:2]), record([image_files[0], "missing.png"]))
    encoder = lf.encoder(dataset="parts", dataset_dir=str(folder), media_dir=str(folder), overwrite_cache=True)
    arguments = (
        encoder.template,
        ModelArguments(model_name_or_path="unused"),
        encoder.data_args,
        TrainingArguments(output_dir=str(folder / "out"), use_cpu=True, report_to="none"),
        "sft",
        lf.tokenizer,
        lf.processor,
    )
    with pytest.raises(UserError, match=r"^1 of 2 samples cannot be trained on: \[1\] .*missing.png: no such image"):
        get_dataset(*arguments)
    write(record(image_files[:2]))
    assert len(get_dataset(*arguments)["train_dataset"]) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dataset_dir": "nowhere"}, r"dataset_dir nowhere: no dataset_info\.json there .*; set dataset_dir to"),
        ({"dataset": "pats"}, r"dataset pats: not registered in .*dataset_info\.json; there are: parts"),
        ({"template": "qwen2_vl"}, r"template qwen2_vl: .* is an AD-Copilot model, .*; write `template: adcopilot`"),
        ({"stage": "pt"}, "stage pt; preflight checks stages sft, dpo, rm, kto"),
        ({"streaming": True}, "dataloader_num_workers 0 finds no sample; set dataloader_num_workers: 1"),
        ({"streaming": True, "dataloader_num_workers": 1}, r"add `accelerator_config: \{dispatch_batches: false\}`"),
        (
            {"streaming": True, "dataloader_num_workers": 1, "accelerator_config": {"dispatch_batches": False}},
            "streaming data cannot be checked beforehand",
        ),
        ({"image_max_pixels": "x"}, "image_max_pixels is 'x', expected a whole number, 1 or more"),
        ({"image_max_pixels": [5]}, r"image_max_pixels is \[5\], expected a whole number"),
        ({"image_max_pixels": 500}, "image_max_pixels. cannot be smaller than"),
        ({"cutoff_len": 1.5}, "cutoff_len is 1.5, expected a whole number"),
        ({"cutoff_len": 1 << 70}, "cutoff_len is .*, expected a whole number"),
        ({"val_size": "many"}, "val_size is 'many', expected a share"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected a number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, expected a number"),
        ({"do_train": "perhaps"}, "do_train is 'perhaps', expected true or false"),
        ({"warmup_steps": [3]}, r"warmup_steps is \[3\], expected"),
        ({"seed": {"a": 1}}, "seed is {'a': 1}, expected a whole number"),
        ({"seed": "2024-01-02"}, "seed is '2024-01-02', expected a whole number"),
        ({"dataset": {"a": 1}}, "dataset"),
        ({"accelerator_config": 7, "streaming": True, "dataloader_num_workers": 1}, "dispatch_batches"),
        ({"model_name_or_path": "/nowhere"}, "model_name_or_path /nowhere: no such folder"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"packing": True}, "packing: true lets conversations see each other's images; set neat_packing: true"),
        ({"neat_packing": True, "cutoff_len": 513}, "neat_packing with cutoff_len 513: .*; set cutoff_len to 520"),
    ],
)
def test_wrong_settings(llamafactory, dataset_dir, adcopilot_dir, changes, expected):
    folder, _ = dataset_dir
    assert re.search(expected, refused(yaml_file(folder, adcopilot_dir, **changes)))


def test_wrong_files(llamafactory, dataset_dir, adcopilot_dir, tmp_path):
    folder, _ = dataset_dir
    (folder / "parts.jsonl").unlink()
    assert "parts.jsonl does not exist" in refused(yaml_file(folder, adcopilot_dir))
    (folder / "dataset_info.json").write_text("{", "utf-8")
    for content, says in (
        (b"{", "dataset_info.json: not JSON"),
        (b"[]", "not a JSON object of objects"),
        (b'{"parts": 3}', "not a JSON object of objects"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (b'{"parts": {"file_name": 7}}', "7 does not exist"),
    ):
        (folder / "dataset_info.json").write_bytes(content)
        assert says in refused(yaml_file(folder, adcopilot_dir))
    assert "no such file; expected a YAML" in refused(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", "utf-8")
    assert "bad.yaml:1: not YAML" in refused(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("a0: &a [x]\n" + "a: &b [*a, *a]\n", "utf-8")
    assert "has no model_name_or_path" in refused(tmp_path / "bad.yaml")
    assert "cannot be read as YAML" in refused(yaml_file(folder, adcopilot_dir), "cutoff_len=[1")
    assert "expected KEY=VALUE" in refused(yaml_file(folder, adcopilot_dir), "cutoff_len")


def processor_of(lf, stage, **settings):
    from adcopilot.llamafactory.data_checks import encoder_of

    one = lf.encoder(**settings)
    return encoder_of(stage, one.template, one.data_args, lf.tokenizer, lf.processor)


def answers(*texts, images, question="<image><image>Is there a defect?"):
    """A sample of two answers, as pairwise and KTO sets are left by LlamaFactory's converters."""
    one = sample(question, texts[0], images=images)
    return {**one, "_response": [{"role": "assistant", "content": text} for text in texts]}


@pytest.mark.parametrize("stage", ["rm", "kto", "ppo"])
def test_other_stages_are_checked_and_guarded(lf, image_files, stage):
    """DPO and reward models (`rm`), KTO, and generation: images that the cut would reach are named, not trained on."""
    from adcopilot.llamafactory.data_checks import SampleCheck

    pair = answers("No.", "" if stage == "kto" else "Yes, at the left edge.", images=image_files[:2])
    check = SampleCheck(encoder=processor_of(lf, stage))
    assert check._is_kept(pair)
    assert check.length(pair) > 2 * lf.processor.num_comparison_tokens
    short = processor_of(lf, stage, cutoff_len=20)
    with pytest.raises(UserError, match="does not fit cutoff_len 20: tokens of its 2 images would be cut"):
        SampleCheck(encoder=short).length(pair)
    with pytest.raises(UserError, match="does not fit cutoff_len 20"):
        encode(short, pair)
    assert encode(processor_of(lf, stage), pair)


@pytest.mark.parametrize("stage", ["sft", "rm", "kto"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}', "no number above 1, .*--boxes relative"),
        ('{"bbox_2d": [0, 0, 1, 1]}', "one pixel, or the whole image"),
        ("<|box_start|>(6,4),(9,7)<|box_end|>", "1 box written as .*Qwen2-VL's.*--boxes qwen2-vl"),
        ('{"bbox": [1, 2, 3, 4]}', "COCO's .*--boxes coco"),
        ('{"point_2d": [1, 2]}', "points or an outline"),
    ],
)
def test_boxes_that_would_not_be_mapped_are_refused_in_every_stage(lf, image_files, stage, answer, says):
    from adcopilot.llamafactory.data_checks import SampleCheck

    texts = {"sft": [answer], "rm": ["No.", answer], "kto": ["", answer]}[stage]
    one = answers(*texts, images=image_files[:2])
    with pytest.raises(UserError, match=rf"^sample with images .*{says}"):
        SampleCheck(encoder=processor_of(lf, stage)).length(one)
    with pytest.raises(UserError, match=says):  # streamed data meets no check before
        encode(processor_of(lf, stage), one)


def test_text_alone_may_hold_any_notation(lf):
    """There is no image that it could be about: code, tables, other people's examples."""
    one = sample("What is COCO's form?", '{"bbox": [1, 2, 3, 4]}, <bbox>1 2 3 4</bbox>')
    assert encode(lf.encoder(), one)["input_ids"]


@pytest.fixture
def load(lf, dataset_dir):
    """LlamaFactory's `get_dataset` on the data set, by settings."""
    from llamafactory.data import get_dataset
    from llamafactory.hparams import ModelArguments
    from llamafactory.hparams.training_args import TrainingArguments

    folder, _ = dataset_dir

    def load(template="adcopilot", *, processor=lf.processor, stage="sft", **settings):
        training = {
            key: settings.pop(key) for key in ("dataloader_num_workers", "accelerator_config") if key in settings
        }
        where = {"dataset_dir": str(folder), "media_dir": str(folder)}
        encoder = lf.encoder(template, **{"dataset": "parts", "overwrite_cache": True, **where, **settings})
        args = TrainingArguments(output_dir=str(folder / "out"), use_cpu=True, report_to="none", **training)
        model_args = ModelArguments(model_name_or_path="unused")
        return get_dataset(encoder.template, model_args, encoder.data_args, args, stage, lf.tokenizer, processor)

    return load


def test_a_tokenised_folder_is_used_for_what_it_was_made_for(load, lf, dataset_dir, image_files):
    import copy

    folder, _ = dataset_dir
    path = str(folder / "tokenized")
    assert len(load(tokenized_path=path)["train_dataset"]) == 3
    assert len(load(tokenized_path=path)["train_dataset"]) == 3
    other = copy.copy(lf.processor)
    other.image_max_pixels = 3000
    with pytest.raises(UserError, match=r"image_max_pixels was \d+, is 3000\); delete the folder"):
        load(tokenized_path=path, processor=other)
    other.num_comparison_tokens = 7
    with pytest.raises(UserError, match="num_comparison_tokens was 5, is 7"):
        load(tokenized_path=path, processor=other)
    other.comparison_of_first = False
    with pytest.raises(UserError, match="comparison_of_first was True, is False"):
        load(tokenized_path=path, processor=other)
    record = folder / "tokenized" / "adcopilot.json"  # as it was written before there was this setting
    made = json.loads(record.read_text())
    del made["made_with"]["comparison_of_first"]
    record.write_text(json.dumps(made))
    assert len(load(tokenized_path=path)["train_dataset"]) == 3
    with pytest.raises(UserError, match="template was adcopilot, is qwen2_vl"):
        load("qwen2_vl", tokenized_path=path)
    with pytest.raises(UserError, match="cutoff_len was 2048, is 512; mask_history was False, is True"):
        load(tokenized_path=path, cutoff_len=512, mask_history=True)


def test_a_tokenised_folder_that_is_unfinished_or_damaged(load, dataset_dir):
    folder, _ = dataset_dir
    path = folder / "tokenized"
    path.mkdir()
    assert len(load(tokenized_path=str(path))["train_dataset"]) == 3  # an empty folder is filled
    (path / "adcopilot.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match=r"adcopilot\.json: cannot be read as the record"):
        load(tokenized_path=str(path))
    (path / "adcopilot.json").unlink()  # it is written last: killed before
    with pytest.raises(UserError, match="unfinished, or not made with template adcopilot; delete the folder"):
        load(tokenized_path=str(path))
    assert load("qwen2_vl", tokenized_path=str(path))  # another template's business


def test_streaming(load, dataset_dir, image_files):
    with pytest.raises(UserError, match="dataloader_num_workers 0 finds no sample"):
        load(streaming=True)
    with pytest.raises(UserError, match=r"accelerator_config: \{dispatch_batches: false\}"):
        load(streaming=True, dataloader_num_workers=1)
    works = {"streaming": True, "dataloader_num_workers": 1, "accelerator_config": {"dispatch_batches": False}}
    assert len(list(load(**works)["train_dataset"])) == 3
    dataset_dir[1](record(image_files[:2], answer="<bbox>1 2 3 4</bbox>"))
    with pytest.raises(UserError, match="--boxes seed"):
        list(load(**works)["train_dataset"])


@pytest.mark.parametrize("as_list", [True, False])
def test_a_byte_order_mark(load, dataset_dir, image_files, as_list):
    """A list and JSON lines, as Windows editors save them; UTF-16 is refused."""
    folder, _ = dataset_dir
    records = [record(image_files[:2], answer=f"No, {index}.") for index in range(3)]
    text = json.dumps(records) if as_list else "".join(json.dumps(one) + "\n" for one in records)
    (folder / "parts.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load()["train_dataset"]) == 3
    (folder / "parts.jsonl").write_bytes(text.encode("utf-16"))
    with pytest.raises(UserError, match=r"parts\.jsonl is UTF-16 text, expected UTF-8; convert it with `iconv "):
        load()


@pytest.mark.parametrize(("stage", "sequences"), [("dpo", 2), ("rm", 2), ("kto", 1)])
def test_preflight_of_preferences(llamafactory, dataset_dir, adcopilot_dir, image_files, capsys, stage, sequences):
    """Two answers to a question, or one that is good or is not: samples, and the memory of a batch of them."""
    folder, write = dataset_dir
    info = json.loads((folder / "dataset_info.json").read_text())
    one = record(image_files[:2])
    if stage == "kto":
        info["parts"]["columns"]["kto_tag"] = "good"
        write({**one, "good": True}, {**one, "good": False})
    else:
        info["parts"]["ranking"] = True
        info["parts"]["columns"] |= {"chosen": "chosen", "rejected": "rejected"}
        rejected = {"role": "assistant", "content": "Yes, at the left edge."}
        pair = {"messages": one["messages"][:1], "images": one["images"]}
        write(pair | {"chosen": one["messages"][1], "rejected": rejected})
    (folder / "dataset_info.json").write_text(json.dumps(info))
    path = yaml_file(folder, adcopilot_dir, stage=stage, deepspeed=None, per_device_train_batch_size=4)
    assert preflight(path, "--gpu-memory", "80") == 0
    data, memory = capsys.readouterr().out.splitlines()[-2:]
    assert re.match(r"parts: [12] samples can be trained on, the longest has \d+ ", data)
    tokens = 4 * sequences * int(data.partition("longest has ")[2].split()[0])
    assert f"for batches of 4 with {tokens:,} tokens and " in memory
    assert (" reference" in memory) == (stage != "rm")
    assert preflight(path, "finetuning_type=lora") == 0
    assert " reference" not in capsys.readouterr().out
    assert "more than --gpu-memory 0.001; " in refused(path, "--gpu-memory", "0.001")
    assert "does not fit cutoff_len 20" in refused(path, "cutoff_len=20")
    if stage != "kto":
        assert "LlamaFactory cannot load it" in refused(path, "stage=sft")
