"""The first tab without a browser: what an event brings to the page, and whether it comes to stand there."""

import os
from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: the extra web")

from adcopilot.answering.families import FAMILIES  # noqa: E402
from adcopilot.demo import service  # noqa: E402
from adcopilot.demo.belonging import Talk, mark  # noqa: E402
from adcopilot.demo.event_queue import ForgettingQueue  # noqa: E402
from adcopilot.demo.limits import Limits  # noqa: E402
from adcopilot.demo.page import build_page  # noqa: E402
from adcopilot.demo.questions import INSPECT, QUESTIONS, question_of_line  # noqa: E402
from adcopilot.demo.service import Service  # noqa: E402
from adcopilot.demo.tabs.one_part import KEPT, OnePart  # noqa: E402
from adcopilot.errors import UserError  # noqa: E402
from adcopilot.inspect import Question, Result  # noqa: E402

from ...inspect.conftest import part  # noqa: E402

REQUEST = SimpleNamespace(session_hash="anna")
WHY = "its pictures are far outside the sizes of training"


class Engine:
    """Says what the test tells it to."""

    family, title, has_heat, concurrency = FAMILIES["adcopilot"], "tiny", False, 1
    has_map, speaks, parameters = False, True, None
    says = {"anomalous": False, "score": 0.1, "yes_no_mass": 0.9, "text": "No.", "answer": "No."}

    def ask(self, question):
        self.asked = question
        if isinstance(self.says, Exception):
            raise self.says
        return Result(query=question.query, template=question.templates[-1], size=(84, 56), **self.says), None

    def inspect(self, pairs):
        for pair in pairs:
            yield pair, self.ask(Question(templates=(pair.template,), query=pair.query, text=""))[0]


def test_the_engine_of_these_tests_has_the_interface_of_the_real_ones(monkeypatch):
    assert isinstance(Engine(), service.Engine)
    monkeypatch.delattr(Engine, "parameters")
    assert not isinstance(Engine(), service.Engine)


@pytest.mark.parametrize("has_map", [True, False])
def test_a_page_has_places_for_what_its_engine_has_and_our_queue(store, monkeypatch, has_map):
    monkeypatch.setattr(Engine, "has_map", has_map)
    page = build_page(Service(engine=Engine(), store=store, limits=Limits()), examples=(), folder=None, queue=7)
    assert (type(page._queue), page._queue.max_size, page.api_open) == (ForgettingQueue, 7, False)
    places = {one.elem_id: one.parent.visible for one in page.blocks.values() if one.elem_id}
    assert [places[f"adc-{name}"] for name in ("marked", "differs", "heat")] == [True, has_map, False]


@pytest.fixture
def tab(store):
    return OnePart(service=Service(engine=Engine(), store=store, limits=Limits()), examples=())


@pytest.fixture
def files(upload):
    """A good part, another, and two parts to inspect, as uploads."""
    return [upload(part(number), f"{name}.png") for number, name in enumerate(("good", "better", "query", "other"))]


def ask(tab, template, query, *, more=(), task=INSPECT):
    return tab.task_event(task)(template, [(path, "name") for path in more], query, REQUEST)[0]


def shown(tab, coming, template, query, *, more=(), kept=(), words=""):
    """Values of the page's components: problem, verdict, boxes, their caption, heat, talk, two files, mark, map, its
    caption, what was said of a mark, good part, its caption, the heat's, places, words, kept, what is on its way."""
    values = tab.on_answer(coming, list(kept), words, template, [(path, "name") for path in more], query)
    assert len(values) == 19
    return values


def is_kept(value):
    return isinstance(value, dict) and value == gr.skip()


def test_an_answer_stands_beside_its_own_pictures_only(tab, files):
    good, better, query, other = files
    coming = ask(tab, good, query)
    values = shown(tab, coming, good, query)
    assert values[0] == ""
    assert "No defect found" in values[1]
    assert "About <b>query.png</b>, compared with <b>good.png</b>." in values[1]
    about = f'<div data-about="{mark(((good,), (), (query,)))}">'
    assert all(values[place].startswith(about) for place in (1, 3, 5))
    assert os.path.basename(values[2]) == "query marked.png"
    assert [button.interactive for button in values[6:8]] == [True, True]
    assert [entry["query"] for entry in values[17]] == ["query.png"]
    for template, last, more in (
        (good, other, ()),
        (better, query, ()),
        (query, good, ()),  # exchanged
        (good, query, (better,)),
        (None, query, (good,)),  # the same in another place
        (None, query, ()),
        (good, None, ()),
    ):
        late = shown(tab, coming, template, last, more=more, kept=[{"query": "x"}])
        assert "An answer about <b>query.png</b>, <b>good.png</b> came when other pictures were here" in late[0]
        assert all(map(is_kept, late[1:17]))
        assert [entry["query"] for entry in late[17]] == ["query.png", "x"]
        assert late[18] is None
    assert shown(tab, coming, None, None)[0] == ""  # started again
    assert all(map(is_kept, shown(tab, None, good, query)))


def test_the_png_that_is_shown_instead_is_the_same_picture(tab, files, upload):
    """It comes while an answer is under way already."""
    good, _, query, _ = files
    tiff = upload(part(5), "wide.one.tif")
    coming = ask(tab, good, tiff)
    png, problem = tab.upload_event("the part to inspect")(tiff, REQUEST)
    assert (os.path.basename(png), problem) == ("wide.one.png", "")
    values = shown(tab, coming, good, png)
    assert "About <b>wide.one.tif</b>" in values[1]
    assert all(map(is_kept, tab.on_change(values[8], good, [], png)))
    _, talk = tab.on_question(
        "Why?", good, [], png, tab.answering.answer(Talk(), coming.asked, "Is it?", yes_or_no=False)[1], REQUEST
    )
    assert len(talk.answers) == 2
    assert tab.on_change(values[8], good, [], query)[0] == ""
    tab.service.store.leave("anna")
    assert list(tab.service.store.served.rglob("*wide*")) == []
    assert not os.path.exists(os.path.dirname(tiff))


def test_the_history_has_a_bound_and_may_be_anything(tab, files):
    good, _, query, _ = files
    coming = ask(tab, good, query)
    assert len(shown(tab, coming, good, query, kept=[{}] * 50)[17]) == KEPT
    assert len(tab.on_answer(coming, "changed", "", good, [], query)[17]) == 1


def test_pictures_that_change_take_results_away(tab, files):
    good, _, query, other = files
    about = shown(tab, ask(tab, good, query), good, query)[8]
    assert all(map(is_kept, tab.on_change(about, good, [], query)))  # an answer was quicker than this
    values = tab.on_change(about, good, [], other)
    assert values[:5] == ("", None, "", None, "")
    assert [(button.value, button.interactive) for button in values[5:7]] == [(None, False)] * 2
    assert values[7] == ""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"error": "/x/query.png: the model's logits are not finite at its 1st word"}, "logits are not finite"),
        (UserError("the endpoint is gone"), "the endpoint is gone."),
        (RuntimeError("CUDA error"), "Something went wrong on the server; it has been written down there. Try again."),
        (MemoryError(), "Something went wrong on the server"),
    ],
)
def test_what_fails_is_words_and_no_verdict(tab, files, fault, words):
    good, _, query, other = files
    tab.service.engine.says = fault
    coming = ask(tab, good, query)
    values = shown(tab, coming, good, query)
    assert words in values[0]
    assert values[1:5] == ("", None, "", None)
    assert is_kept(values[5])  # the conversation before was about the same pictures
    assert not values[6].interactive
    assert is_kept(values[17])
    late = shown(tab, coming, good, other)
    assert words not in late[0]
    assert all(map(is_kept, late[1:18]))


def test_a_fault_while_drawing_is_words_too(tab, files, monkeypatch):
    good, _, query, _ = files
    monkeypatch.setattr("adcopilot.demo.tabs.pictures.draw_boxes", lambda *_: 1 / 0)
    assert "Something went wrong on the server" in shown(tab, ask(tab, good, query), good, query)[0]


def test_undecided_is_said_with_its_reason_everywhere(tab, files):
    good, _, query, _ = files
    fault = {"anomalous": None, "reason": f"{query}: {WHY}", "score": 0.035, "yes_no_mass": 0.9, "text": "No."}
    tab.service.engine.says = fault
    values = shown(tab, ask(tab, good, query), good, query)
    assert f"No verdict: query.png: {WHY}." in values[1]
    assert "unsure" in values[1]
    assert "0.035" not in values[1]
    [entry] = values[17]
    assert (entry["anomalous"], entry["reason"], entry["score"]) == (None, f"query.png: {WHY}", None)
    with open(values[6].value["path"]) as file:
        assert f'"reason": "query.png: {WHY}"' in file.read()
    assert os.path.getsize(values[7].value["path"]) > 0


def test_other_questions_have_an_answer_and_no_verdict(tab, files):
    good, _, query, _ = files
    tab.service.engine.says = {"anomalous": True, "score": 0.99, "yes_no_mass": 1.0, "text": "Yes.", "answer": "Yes."}
    coming, talk = tab.on_question(" Is it fine? ", good, [], query, Talk(), REQUEST)
    values = shown(tab, coming, good, query, words=" Is it fine? ")
    assert "Answer</span>" in values[1]
    assert "bad" not in values[1]
    assert values[16] == ""  # it was asked
    assert is_kept(shown(tab, coming, good, query, words="And the n")[16])  # the next is being written
    assert (values[17][0]["anomalous"], values[17][0]["score"]) == (None, None)
    assert talk.answers[-1].to_dict()["verdict"] == "undecided"
    assert is_kept(shown(tab, ask(tab, good, query, task=QUESTIONS[2]), good, query, words="Is it")[16])
    tab.on_question("And now?", good, [], query, talk, REQUEST)
    assert tab.service.engine.asked.turns == (("Is it fine?", "Yes."),)
    tab.on_question("And now?", query, [], good, talk, REQUEST)
    assert tab.service.engine.asked.turns == ()
    coming, _ = tab.on_question("x" * 2001, good, [], query, talk, REQUEST)
    assert "2001 letters" in coming.problem


def test_a_line_is_asked_in_the_words_that_its_threshold_was_found_with(store, files):
    engine = Engine()
    engine.family, engine.says = FAMILIES["qwen3-vl"], {**Engine.says, "anomalous": True}
    inspects = question_of_line("Is a screw missing?")
    tab = OnePart(service=Service(engine=engine, store=store, limits=Limits(), inspects=inspects), examples=())
    good, _, query, _ = files
    values = shown(tab, ask(tab, good, query, task=tab.questions[0]), good, query)
    assert engine.asked.text == "Is a screw missing?"
    assert "bad" in values[1]  # with a verdict
    assert tab.on_api(good, query, "", REQUEST)["verdict"] == "anomalous"
    assert engine.asked.text == "Is a screw missing?"
    assert question_of_line(None).question == INSPECT.question  # without a request for boxes, as calibrate asks
