"""`adcopilot eval caption` from a folder to Table V's row."""

import json

import pytest

from adcopilot.evaluation.benchmarks.captions.scorers import METRICS, java_problem

from ...backends.endpoint import Endpoint, completion
from ...commands import api, refused, run
from .test_captions_dataset import clevr_folder, pairs_folder, spot_the_diff_folder

pytest.importorskip("pycocoevalcap", reason="it is the scorer")


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    """METEOR takes a quarter of a minute to read its tables."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("captions"))


@pytest.mark.skipif(java_problem() is not None, reason=f"{java_problem()}")
def test_the_tiny_model(capsys, root, tmp_path, adcopilot_dir):
    model = ["--model", adcopilot_dir, "--device", "cpu", "--dtype", "float32", "--max-new-tokens", 8]
    output = tmp_path / "run"
    code, out, _ = run(capsys, "caption", "--data-root", root, *model, "--output", output, "--json", "--max-lost", 1)
    assert code == 0
    found = json.loads(out)
    assert set(found["columns"]) == set(METRICS)
    assert all(value is not None for value in found["columns"].values())
    assert found["skipped"] == {}
    assert (found["answered"], found["complete"], found["layout"]) == (3, True, "pairs")
    assert found["scorer"]["tokenizer"] == "ptb"
    assert set(found["intervals"]) == {"METEOR", "ROUGE-L", "CIDEr"}
    assert all(low <= found["columns"][name] <= high for name, (low, high) in found["intervals"].items())
    assert {kind: values["pairs"] for kind, values in found["by_category"].items()} == {"kitchen": 1, "street": 2}
    assert json.loads((output / "results.json").read_text()) == found
    lines = [json.loads(line) for line in (output / "scores.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["k1", "k2", "k3"]
    assert all(name in line for line in lines for name in METRICS)


def test_right_captions_and_the_same_again(capsys, root, tmp_path, no_java):
    # Pairs with the same first image follow one another.
    captions = ["The cup is gone.", "The lamp was moved to the left.", "There is a red car."]
    with Endpoint(lambda body, number: completion(captions[number])) as endpoint:
        command = [*api(endpoint, root, tmp_path / "run"), "--concurrency", 1]
        code, out, err = run(capsys, "caption", *command, "--json")
        assert code == 0
        assert "METEOR will be left out: Java is not installed" in err
        found = json.loads(out)
        assert found["columns"]["ROUGE-L"] == pytest.approx(100)
        assert found["columns"]["METEOR"] is None
        assert found["skipped"]["METEOR"].startswith("Java is not installed")
        assert len(endpoint.bodies) == 3
        assert "differs between the first and the second" in endpoint.bodies[0]["messages"][-1]["content"][-1]["text"]
        code, out, _ = run(capsys, "caption", *command)
        assert code == 0
        assert len(endpoint.bodies) == 3
        title, values, *rest = out.splitlines()
        assert title.split() == list(METRICS)
        assert values.split()[1:3] == ["–", "100.0"]
        assert rest[0] == "no METEOR: Java is not installed (no `java` on the PATH)"
        assert "without Java's PTBTokenizer" in rest[1]
    code, out, _ = run(capsys, "caption", "--score", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["columns"] == found["columns"]


@pytest.mark.parametrize(("layout", "count"), [("spot-the-diff", 2), ("clevr-change", 4)])
def test_public_layouts(capsys, tmp_path, layout, count, no_java):
    root = {"spot-the-diff": spot_the_diff_folder, "clevr-change": clevr_folder}[layout](tmp_path / "data")
    with Endpoint(lambda body, number: completion("nothing has changed")) as endpoint:
        command = [*api(endpoint, root, tmp_path / "run"), "--layout", layout, "--json"]
        code, out, _ = run(capsys, "caption", *command)
        assert code == 0
        found = json.loads(out)
        assert (found["answered"], found["split"], found["words"]) == (count, "test", 3)
        assert len(endpoint.bodies) == count
        # One image twice: before and after, in one question.
        content = endpoint.bodies[0]["messages"][-1]["content"]
        assert sum(part["type"] == "image_url" for part in content) == 2


def test_reasoning_is_no_caption(capsys, root, tmp_path, no_java):
    with Endpoint(lambda body, number: completion("<think>much to see</think><answer>a cup</answer>")) as endpoint:
        _, out, _ = run(capsys, "caption", *api(endpoint, root, tmp_path / "run"), "--thinking", "--json")
    assert json.loads(out)["words"] == 2


def test_empty_answers_are_said(capsys, root, tmp_path, no_java):
    with Endpoint(lambda body, number: completion("<think>much to see")) as endpoint:
        code, out, err = run(capsys, "caption", *api(endpoint, root, tmp_path / "run"))
    assert code == 1
    assert (
        "3 of 3 answers lost: 3 are empty; at most 0.1 of them may be: mend them, or allow it with --max-lost 1" in err
    )
    assert "3 answers are empty and score 0" in out


def test_parts_and_other_questions(capsys, root, tmp_path, no_java):
    with Endpoint(lambda body, number: completion("a cup")) as endpoint:
        command = api(endpoint, root, tmp_path / "run")
        run(capsys, "caption", *command, "--category", "Street")
        assert len(endpoint.bodies) == 2
        run(capsys, "caption", *command, "--limit", 1)
        assert len(endpoint.bodies) == 3
        code, _, err = run(capsys, "caption", *command, "--prompt", "What is new?")
        assert code == 2
        assert "holds a run with other settings (prompt " in err
        run(capsys, "caption", *api(endpoint, root, tmp_path / "other"), "--prompt", "What is new?")
        assert endpoint.bodies[-1]["messages"][-1]["content"][-1]["text"] == "What is new?"


def test_a_layout_that_is_not_there(capsys, root):
    words = ("--data-root", root, "--model", "m", "--output", "x", "--layout", "clevr-change")
    assert "has no data/splits.json" in refused(capsys, "caption", *words)
