"""What cannot be trained on is named before training, in one line, by the check that `adcopilot preflight` runs."""

import json
import re

import pytest

from ...helpers import refusals
from ..conftest import encode, preflight, random_image, record, sample

pytestmark = pytest.mark.forward


def refused(path, *overrides) -> str:
    """The one line that preflight refuses so."""
    with refusals.refused() as error:
        preflight(path, *overrides)
    return str(error.value)


def test_good_data_passes(llamafactory, dataset_dir, train_yaml, image_files, lf, capsys):
    folder, _ = dataset_dir
    zero = folder / "zero.json"
    zero.write_text("{}")
    assert preflight(train_yaml(deepspeed=str(zero))) == 0
    one = sample("<image><image>Is there a defect?", "No.", images=image_files[:2])
    tokens = len(encode(lf.encoder(), one)["input_ids"][0])
    *_, data, memory = capsys.readouterr().out.splitlines()
    assert data == f"parts: 3 samples can be trained on, the longest has {tokens} of 512 tokens"
    assert memory == f"memory: not counted with deepspeed: {zero} (no JSON file with zero_optimization)"
    assert preflight(train_yaml(), "deepspeed=null") == 0
    memory = capsys.readouterr().out.splitlines()[-1]
    assert memory.startswith("memory of one GPU in bfloat16, from shapes and not measured: 0.0 GiB (0.0 weights + ")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("key", ["deepspeed", "fsdp_config"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("zero9.json", r"{key} zero9\.json: no such file \(seen from .*expected the path of a JSON file"),
        ("broken.json", r"broken\.json: not JSON .*expected the path"),
        ("list.json", r"list\.json: holds a JSON list, expected an object"),
        (2, r"{key} is 2, expected the path"),
    ],
)
def test_a_file_of_settings_that_is_none(train_yaml, tmp_path, monkeypatch, key, value, says):
    """Before anything is loaded: there is no model, and no data either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    assert re.match(
        says.format(key=key),
        refused(train_yaml(model_name_or_path="nowhere/model", dataset_dir="nowhere", **{key: value})),
    )


def test_every_bad_sample_is_named(llamafactory, dataset_dir, train_yaml, image_files, tmp_path):
    _, write = dataset_dir
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
    message = refused(train_yaml())
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


def test_only_the_first_are_named(llamafactory, dataset_dir, train_yaml, image_files):
    _, write = dataset_dir
    write(*(record([image_files[0], f"missing{index}.png"]) for index in range(25)))
    message = refused(train_yaml())
    assert message.startswith("dataset parts: 25 of 25 samples cannot")
    assert message.endswith("; and 5 more")
    assert "missing19.png" in message
    assert "missing20.png" not in message


def test_cutoff_len(llamafactory, dataset_dir, train_yaml, image_files, capsys):
    """Images must fit; text alone may be cut, as everywhere in LlamaFactory, and is counted."""
    _, write = dataset_dir
    long = record(image_files[:2], answer="No. " * 300)
    many = record([image_files[5]] * 40, question="<image>" * 40)
    write(record(image_files[:2]), long)
    path = train_yaml(cutoff_len=200)
    assert preflight(path) == 0
    assert "1 lose text at their end, no images" in capsys.readouterr().out
    write(record(image_files[:2]), many)
    message = refused(path)
    assert message.startswith("dataset parts: 1 of 2 samples cannot be trained on: [1] ")
    assert "does not fit cutoff_len 200: tokens of its 40 images would be cut; raise cutoff_len" in message
    assert preflight(path, "cutoff_len=2000") == 0


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
        ({"learning_rate": 0}, "learning_rate is 0, which trains nothing"),
        ({"num_train_epochs": 0.0}, "num_train_epochs is 0.0, which trains nothing"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0, expected a whole number, 1 or more"),
        ({"lora_rank": 0}, "lora_rank is 0, expected a whole number, 1 or more"),
        ({"num_generations": 8, "beta": 0.1}, "has beta, num_generations of `adcopilot grpo` and a template"),
        ({"do_train": False}, "no do_train: LlamaFactory would load the model and end without training"),
        ({"output_dir": __file__}, "output_dir .*: is a file, expected a folder"),
        ({"resume_from_checkpoint": "saves/none"}, r"resume_from_checkpoint saves/none: no such folder"),
        ({"finetuning_type": "lora", "lora_target": "q_proj,v_prj"}, "lora_target v_prj: no layer of the model"),
        ({"finetuning_type": "lora", "additional_target": "queries_"}, "additional_target queries_: no layer of"),
        ({"template": "adcopilt"}, "Template adcopilt does not exist; write `template: adcopilot`"),
        ({"dataset": {"a": 1}}, "dataset"),
        ({"accelerator_config": 7, "streaming": True, "dataloader_num_workers": 1}, "dispatch_batches"),
        ({"model_name_or_path": "/nowhere"}, "model_name_or_path /nowhere: no such folder"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"packing": True}, "packing: true lets conversations see each other's images; set neat_packing: true"),
        ({"neat_packing": True, "cutoff_len": 513}, "neat_packing with cutoff_len 513: .*; set cutoff_len to 520"),
    ],
)
def test_wrong_settings(llamafactory, train_yaml, changes, expected):
    assert re.search(expected, refused(train_yaml(**changes)))


def test_the_model_is_not_written_over(llamafactory, train_yaml, adcopilot_dir):
    path = train_yaml(output_dir=f"{adcopilot_dir}/../{adcopilot_dir.name}/")
    assert "is the model that training starts from" in refused(path)


def test_steps_count_before_epochs(llamafactory, train_yaml):
    assert preflight(train_yaml(num_train_epochs=0, max_steps=3)) == 0


def test_wrong_files(llamafactory, dataset_dir, train_yaml, tmp_path):
    folder, _ = dataset_dir
    (folder / "parts.jsonl").unlink()
    assert "parts.jsonl does not exist" in refused(train_yaml())
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
        assert says in refused(train_yaml())
    assert "no such file; expected a YAML" in refused(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", "utf-8")
    assert "bad.yaml:1: not YAML" in refused(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("a0: &a [x]\n" + "a: &b [*a, *a]\n", "utf-8")
    assert "has no model_name_or_path" in refused(tmp_path / "bad.yaml")
    assert "cannot be read as YAML" in refused(train_yaml(), "cutoff_len=[1")
    assert "expected KEY=VALUE" in refused(train_yaml(), "cutoff_len")


@pytest.mark.parametrize(("stage", "sequences"), [("dpo", 2), ("rm", 2), ("kto", 1)])
def test_preflight_of_preferences(llamafactory, dataset_dir, train_yaml, image_files, capsys, stage, sequences):
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
    path = train_yaml(stage=stage, per_device_train_batch_size=4)
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
