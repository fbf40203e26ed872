"""`adcopilot eval unipcb` from the benchmark's folder to Table IV's row."""

import json

import pytest

from adcopilot.evaluation.benchmarks.unipcb.scoring import COLUMNS

from ...backends.endpoint import Endpoint, completion, question
from ...commands import api, run
from . import mini_unipcb

NO_TEXT_SCORES = ["--sbert", "none", "--bertscore", "none"]


def perfect(body, number):
    """What the benchmark wants to hear, found by the question; boxes as shares of the sides, in its own notation."""
    text = question(body)
    for entry in mini_unipcb.samples():
        height, width = entry["image_size"]
        for turn in entry["conversation"]:
            if text.startswith(turn["question"] + "\n") or text == turn["question"]:
                if "options" in turn:
                    return completion(turn["correct_answer_letter"])
                if "coordinates" in turn["type"]:
                    classes = {
                        label: [[x1 / width * 1000, y1 / height * 1000, x2 / width * 1000, y2 / height * 1000]
                                for x1, y1, x2, y2 in boxes]
                        for label, boxes in json.loads(turn["correct_option"]).items()
                    }  # fmt: skip
                    return completion(json.dumps(classes))
                return completion(turn["correct_option"])
    if "Answer to be graded" in text:
        return completion('{"overall": 10}')
    raise AssertionError(text)


def test_a_perfect_model_has_a_hundred_in_every_column(capsys, root, tmp_path, sentence_model):
    layer = ["--bertscore-layer", 4, "--score-device", "cpu"]
    scorers = ["--sbert", sentence_model, "--bertscore", sentence_model, *layer]
    with Endpoint(perfect) as endpoint:
        judge = ["--judge-model", "a-judge", "--judge-url", endpoint.url]
        code, out, _ = run(capsys, "unipcb", *api(endpoint, root, tmp_path / "run"), *scorers, *judge, "--json")
        assert code == 0
        asked = len(endpoint.bodies)
        assert asked == 17 + 7, "17 questions and a grade for each of 7 open answers"
        found = json.loads(out)
        assert found["columns"] == pytest.approx(dict.fromkeys(COLUMNS, 100.0), abs=1e-3)
        assert found["average"] == pytest.approx(100, abs=1e-3)
        assert found["missing"] == {}
        assert found["intervals"]["average"] == pytest.approx([100, 100], abs=1e-3)
        assert found["complete"] is True
        assert found["scorers"]["sbert"]["model"] == "model"
        assert found["judge"]["judge"]["model"] == "a-judge"
        assert json.loads((tmp_path / "run/results.json").read_text()) == found

        # Again: nothing is asked, everything is the same.
        code, out, _ = run(capsys, "unipcb", *api(endpoint, root, tmp_path / "run"), *scorers, *judge, "--json")
        assert (code, json.loads(out)) == (0, found)
        assert len(endpoint.bodies) == asked

    # Without endpoint, model or data.
    code, out, _ = run(capsys, "unipcb", "--score", tmp_path / "run", *scorers, "--json")
    assert code == 0
    again = json.loads(out)
    assert again["columns"] == pytest.approx({**found["columns"], "LLM as Judge": None})
    assert again["average"] is None
    assert again["missing"] == {"LLM as Judge": "no --judge-model"}

    scores = [json.loads(line) for line in (tmp_path / "run/scores.jsonl").read_text().splitlines()]
    assert len(scores) == 17
    assert {line["form"] for line in scores} == {"choice", "boxes", "open"}
    assert sum(line["hits"] for line in scores if line["form"] == "boxes") == 5


def test_predictions_in_the_benchmarks_own_form(capsys, root, tmp_path):
    with Endpoint(perfect) as endpoint:
        run(capsys, "unipcb", *api(endpoint, root, tmp_path / "run"), *NO_TEXT_SCORES)
    written = json.loads((tmp_path / "run/predictions.json").read_text())
    entries = mini_unipcb.samples()
    assert len(written) == len(entries)
    for found, entry in zip(written, entries, strict=True):
        turns = found.pop("conversation")
        assert [
            {name: value for name, value in turn.items() if name != "model_response"} for turn in turns
        ] == entry.pop("conversation")
        assert found == entry
        for turn in turns:
            if "coordinates" in turn["type"]:
                # In the file's own frame again, and JSON as its evaluation reads it.
                assert json.loads(turn["model_response"]) == json.loads(turn["correct_option"])
            elif "options" not in turn:
                assert turn["model_response"] == turn["correct_option"]


def test_other_switches_for_boxes_score_the_same_answers_again(capsys, root, tmp_path):
    with Endpoint(perfect) as endpoint:
        command = [*api(endpoint, root, tmp_path / "run"), *NO_TEXT_SCORES, "--json"]
        _, out, _ = run(capsys, "unipcb", *command)
        assert json.loads(out)["columns"]["F1"] == 100
        _, out, err = run(capsys, "unipcb", *command, "--image-size-order", "wh")
        found = json.loads(out)
        assert found["columns"]["F1"] < 100
        assert found["image_size_order"] == "wh"
        assert "another aspect ratio in image_size" in err
        assert "reach out of their frame" in err
        _, out, _ = run(capsys, "unipcb", *command, "--iou", "1.0")
        assert json.loads(out)["iou"] == 1.0
        assert len(endpoint.bodies) == 17


def test_the_tiny_model(capsys, root, tmp_path, adcopilot_dir, sentence_model):
    scorers = ["--sbert", sentence_model, "--bertscore", "none", "--score-device", "cpu"]
    texts = []
    for number, options in enumerate((["--batch-size", 4], ["--batch-size", 1, "--no-reuse"])):
        output = tmp_path / f"run{number}"
        model = ["--model", adcopilot_dir, "--device", "cpu", "--dtype", "float32", "--max-new-tokens", 12]
        where = ["--data-root", root, "--output", output, "--max-lost", 1, "--json"]
        code, out, _ = run(capsys, "unipcb", *where, *model, *options, *scorers)
        assert code == 0
        found = json.loads(out)
        assert found["answered"] == 17
        assert all(found["columns"][f"S-BERT {level}"] is not None for level in ("P1", "P2", "P3"))
        assert found["columns"]["LLM as Judge"] is None
        assert set(found["missing"]) == {"LLM as Judge", *(f"BERTScore P{level}" for level in "123")}
        lines = [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]
        texts.append({line["item"]: line["reply"]["text"] for line in lines})
        sizes = {tuple(line["model_size"]) for line in lines if line["meta"]["form"] == "boxes"}
        assert all(side % 28 == 0 for size in sizes for side in size)
    assert texts[0] == texts[1]


def test_a_judge_that_dies_is_said_and_costs_nothing_twice(capsys, root, tmp_path):
    with Endpoint(perfect) as model:
        command = [*api(model, root, tmp_path / "run"), *NO_TEXT_SCORES, "--judge-model", "j", "--judge-url"]
        with Endpoint(lambda body, number: perfect(body, number) if number < 3 else (403, {}, {})) as judge:
            code, _, err = run(capsys, "unipcb", *command, judge.url, "--concurrency", 1)
            assert code == 1
            assert "3 of 7 open answers graded" in err
        with Endpoint(perfect) as judge:
            code, _, _ = run(capsys, "unipcb", *command, judge.url)
            assert code == 0
            assert len(judge.bodies) == 4
        assert len(model.bodies) == 17


def test_parts_of_the_benchmark(capsys, root, tmp_path):
    with Endpoint(perfect) as endpoint:

        def asked(name, *options):
            before = len(endpoint.bodies)
            run(capsys, "unipcb", *api(endpoint, root, tmp_path / name), *NO_TEXT_SCORES, *options)
            return len(endpoint.bodies) - before

        assert asked("a", "--category", "deeppcb") == 4
        assert asked("a", "--category", "P3") == 9 - 2, "two of them were asked before"
        assert asked("b", "--limit", 2) == 3
        assert asked("c", "--quick", 3) >= 3
        # Two processes, one after the other, make one result.
        one, two = asked("d", "--shard", "1/2"), asked("d", "--shard", "2/2")
        assert one + two == 17
        assert min(one, two) > 0
    assert json.loads((tmp_path / "d/results.json").read_text())["complete"] is True


def test_table_on_the_terminal(capsys, root, tmp_path):
    with Endpoint(lambda body, number: completion("no idea")) as endpoint:
        code, out, err = run(capsys, "unipcb", *api(endpoint, root, tmp_path / "run"), *NO_TEXT_SCORES)
    assert code == 1
    assert "10 of 17 answers lost: 6 state no option, 4 hold neither a box nor a word that there is none" in err
    title, values, *rest = out.splitlines()
    assert title.split("  ")[0].strip() == "Acc P2"
    assert values.split()[:2] == ["0.0", "0.0"]
    assert values.split()[-1] == "–"
    assert "no S-BERT P1, S-BERT P2, S-BERT P3: --sbert none" in rest
    assert "no LLM as Judge: no --judge-model" in rest
    assert "6 choices were answered without a letter that could be read; they count as wrong" in rest


#: All but where the judge is.
ASKED = ("--data-root", "ROOT", "--output", "x", "--model", "m", "--backend", "api", "--base-url", "http://h/v1",
         *NO_TEXT_SCORES, "--judge-model", "j")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--iou", "0"], "--iou is 0, expected more than 0"),
        (["--judge-model", "m"], "--judge-model and --judge-url go together"),
        ([*ASKED, "--judge-url", "localhost"], "--judge-url is localhost, expected something like http://"),
        ([*ASKED, "--judge-url", "http://a:b@c/v1"], "an environment variable and give its name with --judge-key-"),
        (["--data-root", "ROOT", "--model", "m", "--output", "x", "--sbert", "no-such"], "no-such: no sentence"),
    ],
)
def test_mistakes(capsys, root, options, message):
    if "--sbert" in options:
        pytest.importorskip("sentence_transformers")
    code, _, err = run(capsys, "unipcb", *[root if option == "ROOT" else option for option in options])
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
