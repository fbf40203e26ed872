"""A language model as judge, behind an endpoint of this machine."""

import json

import pytest

from adcopilot.answering.api import ApiBackend
from adcopilot.evaluation.benchmarks.unipcb.judge import CRITERIA, OpenAnswer, grade_answers, judge_prompt, read_grade

from ...backends.endpoint import Endpoint, completion, question


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ('{"scores": {"correctness": 3}, "overall": 7}', 7.0),
        ('Sure:\n```json\n{"overall": 8.5}\n```', 8.5),
        ('{"overall": "6"}', 6.0),
        ('{"scores": {"correctness": 2, "clarity": 5}}', 3.5),
        ('<think>{"overall": 1}</think>{"overall": 9}', 9.0),
        ('{"note": 1} {"overall": 4}', 4.0),
        ('{"overall": 11}', None),
        ('{"overall": 0}', None),
        ('{"overall": true}', None),
        ('{"overall": NaN}', None),
        ('{"overall": 1e999}', None),
        ('{"scores": {"correctness": 2, "clarity": 50}}', None),
        ('{"overall": 7', None),
        ("7", None),
        ("", None),
        ("[" * 100_000 + "{", None),
    ],
)
def test_grades(text, grade):
    assert read_grade(text) == grade


def ask(answer="A short.", reference="A short circuit.", asked="What is it?"):
    return OpenAnswer(question=asked, reference=reference, answer=answer)


def test_prompt():
    prompt = judge_prompt(ask(answer="{reference} {0} {{}} %s"))
    assert prompt.endswith("Answer to be graded:\n{reference} {0} {{}} %s"), "braces of an answer are only text"
    assert "What is it?" in prompt
    assert "A short circuit." in prompt
    assert all(name in prompt for name in CRITERIA)
    form = json.loads(prompt[prompt.index("{") :].splitlines()[0])
    assert set(form["scores"]) == set(CRITERIA)
    assert len(judge_prompt(ask(answer="x" * 100_000))) < 8000


def make(endpoint, model="judge-1", **options):
    return ApiBackend(base_url=endpoint.url, model=model, first_wait=0.01, longest_wait=0.02, attempts=2, **options)


def by_answer(grades):
    """Grade by the answer's own words."""

    def respond(body, number):
        answer = question(body).rpartition("Answer to be graded:\n")[2]
        value = grades[answer]
        return completion(value if isinstance(value, str) else json.dumps({"scores": {}, "overall": value}))

    return respond


def test_each_answer_gets_its_grade_and_equal_ones_are_asked_once(tmp_path):
    with Endpoint(by_answer({"good": 9, "bad": 2, "odd": "I cannot say"})) as endpoint:
        questions = [ask("good"), ask("bad"), ask(" "), ask("odd"), ask("good")]
        grades, found = grade_answers(questions, backend=make(endpoint), folder=tmp_path)
        assert grades == [9.0, 2.0, 1.0, None, 9.0]
        assert found["unreadable"] == 1
        assert len(endpoint.bodies) == 3
        assert found["judge"]["model"] == "judge-1"
        assert len(found["prompt_hash"]) == 32


def test_grades_are_kept_and_another_judge_has_its_own(tmp_path):
    with Endpoint(by_answer({"good": 9, "bad": 2, "new": 5})) as endpoint:
        grade_answers([ask("good"), ask("bad")], backend=make(endpoint), folder=tmp_path)
        again, _ = grade_answers([ask("good"), ask("bad"), ask("new")], backend=make(endpoint), folder=tmp_path)
        assert again == [9.0, 2.0, 5.0]
        assert len(endpoint.bodies) == 3
        other, _ = grade_answers([ask("good")], backend=make(endpoint, "judge-2"), folder=tmp_path)
        assert other == [9.0]
        assert len(endpoint.bodies) == 4
    assert len(list(tmp_path.glob("judge-*/answers.jsonl"))) == 2


def test_a_judge_that_dies_half_way(tmp_path):
    with Endpoint(lambda body, number: completion('{"overall": 8}') if number < 2 else (401, {}, {})) as endpoint:
        backend = make(endpoint, concurrency=1)
        questions = [ask(f"answer {index}") for index in range(5)]
        grades, found = grade_answers(questions, backend=backend, folder=tmp_path)
        assert sorted(grade or 0 for grade in grades) == [0, 0, 0, 8, 8]
        assert "401" in found["stopped"]
    with Endpoint(lambda body, number: completion('{"overall": 3}')) as endpoint:
        grades, found = grade_answers(questions, backend=make(endpoint), folder=tmp_path)
        assert "stopped" not in found
        assert sorted(grades) == [3, 3, 3, 8, 8]
        assert len(endpoint.bodies) == 3


def test_a_question_that_the_judge_refuses(tmp_path):
    def respond(body, number):
        bad = question(body).endswith("bad")
        return (400, {}, {"error": {"message": "no"}}) if bad else completion('{"overall": 6}')

    with Endpoint(respond) as endpoint:
        grades, found = grade_answers([ask("good"), ask("bad")], backend=make(endpoint), folder=tmp_path)
        assert grades == [6.0, None]
        assert (found["failed"], found["refused"], found["unreadable"]) == (0, 1, 0)
