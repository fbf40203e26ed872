"""LlamaFactory in this process, with AD-Copilot's and stock Qwen2-VL's template on the same small checkpoint."""

import copy
import importlib.util
import json
from types import SimpleNamespace

import pytest

from ..helpers.awake import awake, random_image

L = 5  # comparison tokens of the shared checkpoint


@pytest.fixture(scope="session", autouse=True)
def _llamafactory_is_installed():
    """Found and not imported: most tests here look at a process that imports it in an order of its own."""
    if importlib.util.find_spec("llamafactory") is None:
        pytest.skip("needs LlamaFactory: the extra train")


@pytest.fixture(scope="session")
def llamafactory():
    """Registered as the hook does it; a second registration in the same process must not hurt."""
    pytest.importorskip("llamafactory")
    from adcopilot.llamafactory import register

    register()
    register()
    import llamafactory

    return llamafactory


@pytest.fixture(scope="session")
def lf(llamafactory, adcopilot_dir, qwen_base_dir):
    """What LlamaFactory loads for the small checkpoint: tokenizer, processor, and a template by name.

    A template of another name comes with the stock base of that checkpoint.
    """
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from llamafactory.model import load_tokenizer

    loaded = load_tokenizer(ModelArguments(model_name_or_path=str(adcopilot_dir)))
    stock = load_tokenizer(ModelArguments(model_name_or_path=str(qwen_base_dir)))

    def encoder(template="adcopilot", **settings):
        from llamafactory.data.processor import PackedSupervisedDatasetProcessor, SupervisedDatasetProcessor

        data_args = DataArguments(template=template, **{"cutoff_len": 2048, **settings})
        kind = PackedSupervisedDatasetProcessor if settings.get("packing") else SupervisedDatasetProcessor
        chosen = loaded if template == "adcopilot" else stock
        template = get_template_and_fix_tokenizer(chosen["tokenizer"], data_args)
        return kind(template=template, data_args=data_args, **chosen)

    return SimpleNamespace(encoder=encoder, **loaded)


@pytest.fixture(scope="session")
def model(adcopilot_dir, llamafactory):
    return awake(adcopilot_dir)


@pytest.fixture(scope="session")
def image_files(tmp_path_factory) -> list[str]:
    """Six PNG files of different contents and sizes."""
    folder = tmp_path_factory.mktemp("images")
    sizes = [(84, 56), (84, 56), (56, 112), (140, 84), (84, 84), (112, 84)]
    paths = [folder / f"{index}.png" for index in range(len(sizes))]
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        random_image(index, *size).save(path)
    return [str(path) for path in paths]


def turns_of(contents) -> list[dict]:
    """Messages of the user and the model by turns."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def sample(*texts: str, images=(), system: str = "") -> dict:
    """A sample as LlamaFactory's converters leave it; `texts` are question, answer, question, answer …"""
    messages = turns_of(texts)
    return {
        "_prompt": messages[:-1],
        "_response": messages[-1:],
        "_system": system,
        "_tools": "",
        "_images": list(images) or None,
        "_videos": None,
        "_audios": None,
    }


def encode(encoder, *samples) -> dict[str, list]:
    """LlamaFactory's tokenised form of samples."""
    batch = {key: [copy.deepcopy(one[key]) for one in samples] for key in samples[0]}
    return encoder.preprocess_dataset(batch)


@pytest.fixture(scope="session")
def samples(image_files):
    """Two images and a box; one image; none; three images over two turns."""
    a, b, c, d, e, f = image_files
    return [
        sample("<image><image>Is there a defect?", "Yes.", images=[a, b]),
        sample("<image>What is this?", "A part.", images=[c]),
        sample("Hi.", "Hello."),
        sample("<image><image>Compare.", "The same.", "And <image>?", "Different.", images=[d, e, f]),
    ]


@pytest.fixture
def dataset_dir(tmp_path, image_files):
    """A folder of one data set `parts` of three good records; returns the folder and a function that rewrites it."""

    def write(*records):
        lines = [json.dumps(record) for record in records]
        (tmp_path / "parts.jsonl").write_text("\n".join(lines), "utf-8")

    info = {
        "file_name": "parts.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps({"parts": info}), "utf-8")
    write(*(record(image_files[:2]) for _ in range(3)))
    return tmp_path, write


def record(images, question="<image><image>Is there a defect?", answer="No.") -> dict:
    return {"messages": turns_of([question, answer]), "images": list(images)}


@pytest.fixture
def load(lf, dataset_dir):
    """Loads that data set by the function that `llamafactory-cli train` loads its data with, by settings."""
    from llamafactory.data import get_dataset
    from llamafactory.hparams import ModelArguments
    from llamafactory.hparams.training_args import TrainingArguments

    folder, _ = dataset_dir

    def load(template="adcopilot", *, processor=lf.processor, model="unused", training=None, **settings):
        here = {"dataset_dir": str(folder), "media_dir": str(folder), "dataset": "parts", "overwrite_cache": True}
        encoder = lf.encoder(template, **{**here, **settings})
        default = {"output_dir": str(folder / "out"), "use_cpu": True, "report_to": "none"}
        args = TrainingArguments(**{**default, **(training or {})})
        model_args = ModelArguments(model_name_or_path=model)
        return get_dataset(encoder.template, model_args, encoder.data_args, args, "sft", lf.tokenizer, processor)

    return load


@pytest.fixture
def train_yaml(dataset_dir, adcopilot_dir):
    """Writes the YAML of a training on that data set; its path."""
    folder, _ = dataset_dir

    def write(**changes):
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
            **changes,
        }
        path = folder / "train.yaml"
        path.write_text(json.dumps(settings), "utf-8")  # JSON is YAML
        return path

    return write


def preflight(path, *overrides) -> int:
    """`adcopilot preflight` without leaving the process."""
    import argparse

    from adcopilot.llamafactory import preflight as command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(path), *overrides])) or 0


def export(source, folder, *, template="adcopilot", dtype="float32") -> None:
    """`llamafactory-cli export` of a model, without an adapter."""
    from llamafactory.train.tuner import export_model

    settings = {"model_name_or_path": str(source), "template": template, "export_dir": str(folder)}
    export_model({**settings, "export_device": "cpu", "infer_dtype": dtype})
