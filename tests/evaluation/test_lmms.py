"""MMAD under lmms-eval: the same questions, pictures and scores as `adcopilot eval mmad`."""

import json
from pathlib import Path

import pytest
import yaml

from adcopilot.evaluation.benchmarks.mmad import dataset
from adcopilot.evaluation.benchmarks.mmad.prompts import items, own_words, read_prompts
from adcopilot.evaluation.benchmarks.mmad.results import results_of_records
from adcopilot.evaluation.lmms import task
from adcopilot.evaluation.lmms.convert import convert, main

FOLDER = Path(task.__file__).parent


@pytest.fixture(scope="module")
def docs(mini_mmad, tmp_path_factory):
    file = tmp_path_factory.mktemp("lmms") / "adcopilot_mmad.jsonl"
    assert convert(mini_mmad, file) == 72
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_questions_are_those_of_our_runner(docs, mini_mmad):
    samples, _ = dataset.load(mini_mmad)
    asked = items(samples, root=mini_mmad, shots=1, kind="random", words=own_words(read_prompts(None), shots=1))
    assert [doc["key"] for doc in docs] == [item.key for item in asked]
    for doc, item in zip(docs, asked, strict=True):
        assert [Path(path) for path in doc["images"]] == [path.resolve() for path in item.images]
        [message] = task.doc_to_messages(doc)
        said = "".join("\0" if part["type"] == "image" else part["text"] for part in message["content"])
        assert said == "".join(part if isinstance(part, str) else "\0" for part in item.prefix) + item.question
        assert task.doc_to_text(doc) == said.replace("\0", "")
        assert [picture.mode for picture in task.doc_to_visual(doc)] == ["RGB"] * len(item.images)
        assert {type(value) for value in doc.values()} <= {str, list}  # of one type a column


def test_scores_are_those_of_our_scorer(docs):
    answers = [doc["reference"] if number % 3 else "A scratch, perhaps B" for number, doc in enumerate(docs)]
    found = [task.process_results(doc, [text]) for doc, text in zip(docs, answers, strict=True)]
    lines = [one["mmad_average"] for one in found]
    expected = results_of_records(lines, samples=1)
    assert task.average(lines) == expected["average"]["average"]
    assert task.average_strict(lines) == expected["strict"]["average"]["average"] < task.average(lines) < 100
    assert task.f1(lines) == expected["average"]["f1"]


def test_the_yaml_names_what_there_is():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    config = yaml.load((FOLDER / "adcopilot_mmad.yaml").read_text("utf-8"), Loader)
    named = [value for key, value in config.items() if key.startswith(("doc_to_", "process"))]
    named += [metric["aggregation"] for metric in config["metric_list"]]
    named.remove("reference")
    assert {name.removeprefix("task.") for name in named} == set(task.__all__)
    assert config["dataset_kwargs"]["data_files"]["test"] == "adcopilot_mmad.jsonl"


def test_what_is_no_mmad(tmp_path, capsys):
    assert main([str(tmp_path), "--output", str(tmp_path / "x.jsonl")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_lmms_eval_finds_the_task(docs):
    """Where it is installed; it cannot be beside LlamaFactory 0.9.5."""
    tasks = pytest.importorskip(
        "lmms_eval.tasks", reason="needs lmms-eval, which asks for other pins than LlamaFactory"
    )
    manager = tasks.TaskManager(include_path=str(FOLDER))
    assert "adcopilot_mmad" in manager.all_tasks
