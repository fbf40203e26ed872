"""MMAD's table: the published numbers, the documented rule, and its traps."""

import csv
import json
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adcopilot import cli
from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.mmad.answer_file import answer_file_name, read_answer_file, write_answer_file
from adcopilot.evaluation.benchmarks.mmad.intervals import intervals, resampled
from adcopilot.evaluation.benchmarks.mmad.results import results_of_entries, table_text
from adcopilot.evaluation.benchmarks.mmad.scoring import (
    DATASETS,
    SUB_TASKS,
    average_rows,
    complete_row,
    is_normal,
    score,
)

TYPES = (*SUB_TASKS[:6], "Object Structure", "Object Details")
PUBLISHED = {  # model → (average, F1 where the paper's text or the issue names it)
    "Qwen2.5-VL-7B-Instruct": (72.19, 72.49),
    "InternVL2-8B": (63.14, 41.23),
    "gpt-4o": (74.31, 71.04),
    "AnomalyGPT_train_mvtec": (36.20, 76.68),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_averages_come_from_their_columns(mmad_root, model):
    with open(mmad_root / f"published/answers_1_shot_{model}_accuracy.csv", newline="") as file:
        table = {row.pop(""): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}
    rows = []
    for dataset in DATASETS:
        published = table[dataset]
        row = complete_row(
            {task: published[task] for task in SUB_TASKS}, precision=published["Precision"], recall=published["Recall"]
        )
        assert row["average"] == pytest.approx(published["Average"], abs=1e-9)
        assert row["f1"] == pytest.approx(published["F1"], abs=1e-9)
        rows.append(row)
    last = average_rows(rows)
    for task in SUB_TASKS:
        assert last[task] == pytest.approx(table["Average"][task], abs=1e-9)
    assert last["average"] == pytest.approx(table["Average"]["Average"], abs=1e-9)
    assert last["f1"] == pytest.approx(table["Average"]["F1"], abs=1e-9)
    assert (round(last["average"], 2), round(last["f1"], 2)) == PUBLISHED[model]


def reference(answers, *, invalid="left out"):
    """The documented rule once more, by pandas and in another order: no code shared with what it tests."""
    import pandas

    frame = pandas.DataFrame(answers)
    frame["dataset"] = frame["image"].str.partition("/")[0]
    frame["task"] = frame["question_type"].replace(["Object Structure", "Object Details"], "Object Analysis")
    datasets, tasks = frame["dataset"].unique(), frame["task"].unique()
    letters = list("ABCDE")
    fine = frame["gpt_answer"].isin(letters) & frame["correct_answer"].isin(letters)
    frame["right"] = (frame["gpt_answer"] == frame["correct_answer"]) & fine
    frame["normal"] = np.array(["good" in path for path in frame["image"]], bool)
    if invalid == "left out":
        frame = frame[fine]
    table = pandas.DataFrame(0.0, index=datasets, columns=[*tasks, "precision", "recall", "f1"])
    for dataset in datasets:
        own = frame[frame["dataset"] == dataset]
        for task in tasks:
            some = own[own["task"] == task]
            if task == "Anomaly Detection":
                kinds = [some[some["normal"]]["right"], some[~some["normal"]]["right"]]
                shares = [kind.mean() if len(kind) else 0.0 for kind in kinds]
                table.loc[dataset, task] = 50 * sum(shares)
                hits, alarms = kinds[1].sum(), (~kinds[0].astype(bool)).sum()
                precision, recall = hits / (hits + alarms) if hits + alarms else 0.0, shares[1]
                both = precision + recall
                f1 = 2 * precision * recall / both if both else 0.0
                table.loc[dataset, ["precision", "recall", "f1"]] = [100 * precision, 100 * recall, 100 * f1]
            else:
                table.loc[dataset, task] = 100 * some["right"].mean() if len(some) else 0.0
    table["average"] = table[list(tasks)].mean(axis=1)
    table.loc["average"] = table.mean()
    return table


entry = st.builds(
    lambda dataset, kind, product, number, task, correct, given: {
        "image": f"{dataset}/{product}/test/{kind}/{number:03}.png",
        "question": "?",
        "question_type": task,
        "correct_answer": correct,
        "gpt_answer": given,
    },
    st.sampled_from([*DATASETS, "MyData"]),
    st.sampled_from(["good", "bad", "Good_looking"]),
    st.sampled_from(["one", "two"]),
    st.integers(0, 20),
    st.sampled_from(TYPES),
    st.sampled_from("AABBCDE"),
    st.sampled_from(["A", "A", "B", "B", "C", "D", "E", "", "a", "F", "AB", "Yes.", None]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(entry, min_size=1, max_size=80), st.sampled_from(["left out", "wrong"]))
@example([{"image": "VisA/a/test/bad/0.png", "question_type": "Anomaly Detection", "correct_answer": "A",
           "gpt_answer": ""}], "left out")  # fmt: skip
def test_the_documented_rule(answers, invalid):
    found, expected = score(answers, invalid=invalid), reference(answers, invalid=invalid)
    assert set(found["datasets"]) == set(expected.index) - {"average"}
    for dataset, row in {**found["datasets"], "average": found["average"]}.items():
        detection = "Anomaly Detection" in expected.columns
        for column, value in row.items():
            if column in ("precision", "recall", "f1") and not detection:
                assert value is None
            else:
                assert value == pytest.approx(expected.loc[dataset, column], abs=1e-9), (dataset, column)
    assert found["questions"] == len(answers)
    assert found["invalid"] == sum(answer["gpt_answer"] not in list("ABCDE") for answer in answers)


def answer(image, task, correct, given):
    return {
        "image": image, "question": "?", "question_type": task, "correct_answer": correct, "gpt_answer": given,
    }  # fmt: skip


def test_an_example_by_hand():
    discrimination = "Anomaly Detection"
    answers = [
        answer("GoodsAD/can/test/good/1.jpg", discrimination, "B", "B"),
        answer("GoodsAD/can/test/good/2.jpg", discrimination, "B", "A"),
        answer("GoodsAD/can/test/opened/3.jpg", discrimination, "A", "A"),
        answer("GoodsAD/can/test/opened/4.jpg", discrimination, "A", "A"),
        answer("GoodsAD/can/test/opened/5.jpg", discrimination, "A", "B"),
        answer("GoodsAD/can/test/opened/3.jpg", "Object Structure", "C", "C"),
        answer("GoodsAD/can/test/opened/3.jpg", "Object Details", "D", "A"),
        answer("VisA/pcb/test/bad/0.JPG", "Defect Analysis", "A", "A"),
    ]
    found = score(answers)
    goods, visa = found["datasets"]["GoodsAD"], found["datasets"]["VisA"]
    assert list(found["datasets"]) == ["VisA", "GoodsAD"]  # MMAD's order
    assert goods == {
        discrimination: pytest.approx(100 * (1 / 2 + 2 / 3) / 2),
        "Defect Analysis": 0.0,  # VisA has it, so it counts
        "Object Analysis": 50.0,
        "average": pytest.approx((100 * (1 / 2 + 2 / 3) / 2 + 0 + 50) / 3),
        "precision": pytest.approx(100 * 2 / 3),
        "recall": pytest.approx(100 * 2 / 3),
        "f1": pytest.approx(100 * 2 / 3),
    }
    assert visa["Defect Analysis"] == 100.0
    assert visa[discrimination] == visa["f1"] == 0.0
    assert found["average"]["average"] == pytest.approx((goods["average"] + visa["average"]) / 2)
    assert found["counts"]["GoodsAD"]["Object Analysis"] == [1, 2]


def test_goods_is_not_good():
    assert not is_normal("GoodsAD/drink_can/test/straw_missing/068_009.jpg")
    assert is_normal("GoodsAD/drink_can/test/good/068_009.jpg")


def test_what_is_no_letter_is_left_out_or_wrong():
    answers = [answer("VisA/a/test/bad/0.JPG", "Defect Analysis", "A", given) for given in ("A", "B", "", "I see")]
    assert score(answers)["average"]["Defect Analysis"] == 50.0
    assert score(answers)["invalid"] == 2
    assert score(answers, invalid="wrong")["average"]["Defect Analysis"] == 25.0
    # MMAD's script also passes over the entry after each it removes; the clean rule does not.
    assert score([answers[2], answers[1], answers[0]])["average"]["Defect Analysis"] == 50.0


def random_answers(count=400, seed=0, accuracy=0.7):
    dice = random.Random(seed)
    answers = []
    for number in range(count):
        dataset, kind = dice.choice(DATASETS), dice.choice(("good", "bad"))
        for task in dice.sample(TYPES, 3):
            correct = dice.choice("AB")
            given = correct if dice.random() < accuracy else dice.choice("ABCD")
            answers.append(answer(f"{dataset}/p{number % 5}/test/{kind}/{number}.png", task, correct, given))
    return answers


def test_the_interval_holds_the_number_and_narrows_with_more_images():
    few, many = random_answers(60, 1), random_answers(2400, 2)
    for answers in (few, many):
        found, bounds = score(answers)["average"], intervals(answers, samples=400)
        for column in ("average", "f1", "Defect Analysis"):
            assert bounds[column][0] < found[column] < bounds[column][1]
    spread = [np.subtract(*intervals(answers, samples=400)["average"][::-1]) for answers in (few, many)]
    assert spread[1] < spread[0] / 3  # 40 times as many images


def test_a_draw_of_every_image_once_is_the_score_itself(monkeypatch):
    class Dice:
        def multinomial(self, count, shares, samples):
            return np.ones((samples, count), np.int64)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Dice())
    answers = [*random_answers(80, 3), answer("VisA/a/test/bad/x.png", "Defect Analysis", "A", "")]
    for invalid in ("left out", "wrong"):
        drawn, found = resampled(answers, samples=2, invalid=invalid), score(answers, invalid=invalid)["average"]
        assert set(drawn) == set(found)
        for column, values in drawn.items():
            assert values == pytest.approx(found[column], abs=1e-9), column


def test_the_same_draw_whatever_the_answers_and_their_order():
    answers = random_answers(100, 4)
    shuffled = random.Random(1).sample(answers, len(answers))
    drawn = resampled(answers, samples=20)["average"]
    np.testing.assert_allclose(drawn, resampled(shuffled, samples=20)["average"])
    assert not np.allclose(drawn, resampled(answers, samples=20, seed=1)["average"])


def test_score_command_reads_the_file_and_prints_one_object(tmp_path, capsys):
    answers = random_answers(50, 5)
    write_answer_file(tmp_path / "answers.json", answers)
    assert read_answer_file(tmp_path / "answers.json") == answers
    assert cli.main(["eval", "mmad", "--score", str(tmp_path / "answers.json"), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    expected = score(answers)
    assert found["datasets"] == expected["datasets"]
    assert found["average"] == expected["average"]
    assert set(found["datasets"]["VisA"]) == {*SUB_TASKS, "average", "precision", "recall", "f1"}
    assert cli.main(["eval", "mmad", "--score", str(tmp_path / "answers.json")]) == 0
    printed = capsys.readouterr().out
    assert f"{expected['average']['average']:.2f}" in printed.split("Average  ")[1].splitlines()[0]


def test_products_have_no_columns_of_nothing():
    found = results_of_entries(
        [
            answer("VisA/a/test/bad/0.JPG", "Defect Analysis", "A", "A"),
            answer("VisA/b/test/bad/0.JPG", "Anomaly Detection", "A", "A"),
        ],
        samples=10,
    )
    assert found["categories"]["VisA/a"]["average"] == 100.0
    assert found["categories"]["VisA/a"]["Anomaly Detection"] is None
    assert found["categories"]["VisA/b"]["average"] == 100.0
    assert "VisA" in table_text(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"{}", "JSON object, expected MMAD's answer file, a list"),
        (b"[]", "holds no answers"),
        (b"[1]", "entry 0 is a number"),
        (b'[{"image": "a"}]', "entry 0 has 'question_type' None"),
        (b'[{"image": "a", "question_type": "b", "correct_answer": 3}]', "entry 0 has 'correct_answer' 3"),
        (b'[{"image": "a", "question_type": "b", "correct_answer": "A"}]', "entry 0 has no 'gpt_answer'"),
    ],
)
def test_answer_files_that_are_none(tmp_path, capsys, content, message):
    file = tmp_path / "answers.json"
    file.write_bytes(content)
    assert cli.main(["eval", "mmad", "--score", str(file)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert str(file) in err
    assert message in err


def test_a_score_of_nothing_is_an_error(tmp_path, capsys):
    with pytest.raises(UserError, match="no answers"):
        score([])
    assert cli.main(["eval", "mmad", "--score", str(tmp_path / "gone.json")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert cli.main(["eval", "mmad", "--score", str(tmp_path)]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err


def test_names_of_answer_files():
    common = {"model": "/models/Qwen2.5-VL-7B-Instruct/", "shots": 1}
    plain = answer_file_name(**common, similar=False, domain_knowledge=False)
    assert plain == "answers_1_shot_Qwen2.5-VL-7B-Instruct.json"
    assert answer_file_name(**common, similar=True, domain_knowledge=True) == (
        "answers_1_shot_Qwen2.5-VL-7B-Instruct_Similar_template_Domain_knowledge.json"
    )


@pytest.mark.parametrize(
    ("image", "normal"),
    [
        ("VisA/pcb1/test/good/000.JPG", True),
        ("GoodsAD/drink_can/test/good/000_000.jpg", True),
        ("GoodsAD/drink_can/test/straw_missing/003_000.jpg", False),
        ("own/goodyear/test/bad/000.png", False),
        ("own/tyre/test/bad/not_good.png", False),
        ("own/tyre/test/Good/000.png", True),
        ("own/tyre/test/OK/000.png", True),
        ("own/tyre/正常/000.png", True),
        ("own/normal/test/scratch/000.png", False),
    ],
)
def test_a_normal_image_lies_in_a_folder_good(image, normal):
    assert is_normal(image) is normal
