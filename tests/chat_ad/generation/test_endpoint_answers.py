"""What an endpoint writes: refused, wrong, written again, checked."""

import json

import pytest

from adcopilot.chat_ad.generation import AnnotationsGenerator

from .conftest import completion, honest, prompt_of, run

TEXT_TASKS = ["caption", "dialogue", "think"]


def test_a_request_that_the_endpoint_rejects_refuses_one_sample(make, endpoint, on_disk):
    endpoint.script = [lambda _: (400, {}, b'{"error": {"message": "prompt is too long"}}')]
    records, refused = run(make(concurrency=1), [on_disk(0), on_disk(1)])
    assert [record["images"][1] for record in records] == ["images/1_query.png"]
    assert refused == [
        {
            "step": "write",
            "image": "images/0_query.png",
            "key": "pair0",
            "task": "caption",
            "reason": "refused",
            "detail": "status 400 (prompt is too long)",
        }
    ]


REFUSALS = {
    "text": lambda _: completion("I'm sorry, but I can't assist with that."),
    "field": lambda _: completion(None, refusal="Not allowed."),
    "filter": lambda _: completion(None, finish="content_filter"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_are_listed_and_paid_for_once(make, endpoint, on_disk, kind, prompts, tmp_path):
    endpoint.always = REFUSALS[kind]
    generator = make()
    records, refused = run(generator, [on_disk()], ["caption", "loc"])
    assert [record["task"] for record in records] == ["loc"]
    assert [(one["task"], one.get("fallback", False)) for one in refused] == [("caption", False)]
    assert refused[0]["detail"].startswith("the model declines: ")
    run(generator, [on_disk()], ["caption", "loc"])
    assert len(endpoint.requests) == 1


def test_the_fallback_writes_only_where_it_is_asked_for(make, endpoint, on_disk, prompts):
    endpoint.always = REFUSALS["text"]
    records, refused = run(make(), [on_disk()], TEXT_TASKS, fallback=AnnotationsGenerator(prompts=prompts))
    assert [(record["task"], record["generator"]) for record in records] == [
        (task, "annotations") for task in TEXT_TASKS
    ]
    assert [(one["task"], one.get("fallback", False)) for one in refused] == [(task, True) for task in TEXT_TASKS]


def wrong(**changes):
    """A caption with something wrong about it."""

    def answer(body):
        caption = json.loads(honest(body)[2])["choices"][0]["message"]["content"].strip("`json\n")
        return completion(json.dumps({**json.loads(caption), **changes}))

    return answer


WRONG = {
    "truncated": (lambda _: completion('{"description": "A nut', finish="length"), "cut off or damaged JSON"),
    "nonsense": (lambda _: completion("Bananas are yellow."), "the answer is not JSON: Bananas"),
    "list": (lambda _: completion("[1, 2]"), "a JSON list, expected an object"),
    "side": (
        wrong(defect_description="Unlike the template, the query has a scratch at the lower right."),
        "says “lower right”, but no defect lies there",
    ),
    "defect": (
        wrong(defect_description="Unlike the template, the query is wet at the top left."),
        "does not name the defect, scratch",
    ),
    "box": (
        wrong(defect_details=[{"bbox_2d": [200, 100, 250, 150], "label": "scratch"}]),
        "the box [200, 100, 250, 150] overlaps no defect; no box overlaps the defect at [20, 10, 60, 30]",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_and_what_stays_wrong_is_refused(make, endpoint, on_disk, kind):
    answer, problem = WRONG[kind]
    endpoint.always = answer
    records, refused = run(make(rounds=2), [on_disk()])
    assert records == []
    assert len(endpoint.requests) == 3
    said = prompt_of(endpoint.requests[1][2])
    assert "These things are wrong with it:" in said
    assert problem in said.replace("\n- ", "; ")
    assert refused[0]["detail"].startswith("the caption could not be verified: ")
    assert problem in refused[0]["detail"]


def test_what_is_wrong_is_written_again(make, endpoint, on_disk):
    endpoint.script = [WRONG["side"][0]]
    records, refused = run(make(rounds=1), [on_disk()])
    assert (len(records), refused) == (1, [])


def test_the_model_can_be_asked_to_check(make, endpoint, on_disk):
    said = iter(['{"ok": false, "problems": ["it is a dent"]}', '{"ok": true}'])

    def answer(body):
        return completion(next(said)) if "Check each statement" in prompt_of(body) else None

    endpoint.always = answer
    records, refused = run(make(checks=True), [on_disk()])
    assert (len(records), refused) == (1, [])
    assert "- it is a dent" in prompt_of(endpoint.requests[2][2])


@pytest.mark.parametrize(
    ("task", "text", "problem"),
    [
        ("dialogue", "[]", "expected a list of 2 to 8 turns"),
        (
            "dialogue",
            '[{"question": "Defect?", "answer": "No."}, {"question": "Why?", "answer": "Scratch."}]',
            "the first answer does not begin with Yes",
        ),
        (
            "dialogue",
            '[{"question": "Defect?", "answer": "Yes."}, {"question": "What?", "answer": "It is bent."}]',
            "does not name the defect, scratch",
        ),
        (
            "dialogue",
            '[{"question": "Defect?", "answer": "Yes, a scratch."}, {"question": "Box?", "answer": "[1, 2, 3, 4]"}]',
            "gives the box",
        ),
        ("think", "Hm.", "expected at least 40"),
        ("think", "The given answer says that there is a scratch, so it must be like that.", "as if it had been told"),
    ],
)
def test_dialogues_and_reasoning_are_checked_too(make, endpoint, on_disk, task, text, problem):
    mark = {"dialogue": "Write a dialogue", "think": "The right answer is"}[task]
    endpoint.always = lambda body: completion(text) if mark in prompt_of(body) else None
    records, refused = run(make(), [on_disk()], [task])
    assert records == []
    assert problem in refused[0]["detail"]
    assert "A first draft was" in prompt_of(endpoint.requests[-1][2])
