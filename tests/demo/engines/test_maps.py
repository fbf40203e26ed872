"""The anomaly map on the page: beside an endpoint's answer, alone, and with a line's own good parts and threshold."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: the extra web")

from PIL import Image  # noqa: E402

from adcopilot.anomaly_map.comparing import Mapper, MapSettings  # noqa: E402
from adcopilot.demo import fragments  # noqa: E402
from adcopilot.demo.colours import UNKNOWN  # noqa: E402
from adcopilot.demo.engines.maps import PageMap  # noqa: E402
from adcopilot.demo.limits import Limits  # noqa: E402
from adcopilot.demo.service import GoodParts, Service  # noqa: E402
from adcopilot.demo.tabs.one_part import OnePart  # noqa: E402
from adcopilot.drawing import draw_map  # noqa: E402
from adcopilot.inspect import Question  # noqa: E402
from adcopilot.inspect.judging import Judge  # noqa: E402
from adcopilot.line.inspection import read_inspection  # noqa: E402

from ...inspect.conftest import part  # noqa: E402
from .making import endpoint_engine, map_engine  # noqa: E402

REQUEST = SimpleNamespace(session_hash="anna")
SIZE = (300, 200)


def map_tab(store, *, judge, **of_a_line):
    """The first tab without a model."""
    service = Service(engine=map_engine(judge), store=store, limits=Limits(), judge=judge, **of_a_line)
    return OnePart(service=service, examples=())


def answered(tab, template, query, *, question=0):
    """The page's values: problem, verdict, …, by their place (`test_one_part.shown`)."""
    coming = tab.task_event(tab.questions[question])(template, [], query, REQUEST)[0]
    return tab.on_answer(coming, [], "", template, [], query)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_beside_an_endpoint_the_map_is_made_here(said, tmp_path):
    """The verdict stays the model's; without a good part, or with the part as its own good part, there is no map."""
    template, query = tmp_path / "t.png", tmp_path / "q.png"
    part(1, size=SIZE).save(template)
    part(6, size=SIZE, defect=True).save(query)
    engine = endpoint_engine(said, maps=PageMap(lambda: Mapper(MapSettings())))
    assert (engine.has_map, endpoint_engine(said).has_map) == (True, False)

    def ask(*templates, **more):
        return engine.ask(Question(templates=templates, query=str(query), text="Is it?", **more))[0]

    result = ask(str(template))
    with Image.open(template) as good, Image.open(query) as bad:
        wanted = Mapper(MapSettings()).compare(bad.convert("RGB"), [good.convert("RGB")])
    assert (result.anomalous, result.score) == (False, 0.2)
    assert result.map_score == round(wanted.pred_score, 6)
    assert np.array_equal(result.map.values, wanted.values)
    assert result.map_boxes
    part(1, size=(80, 200)).save(tmp_path / "narrow.png")
    for other in ((), (str(query),), (str(tmp_path / "narrow.png"),)):
        assert (found := ask(*other)).map is None
        assert found.map_score is None
    assert ask(str(tmp_path / "narrow.png")).anomalous is False
    broken = endpoint_engine(said, maps=PageMap(lambda: 1 / 0))
    result, _ = broken.ask(Question(templates=(str(template),), query=str(query), text="Is it?"))
    assert (result.anomalous, result.map) == (False, None)


def test_a_model_and_no_threshold_of_the_map(store, upload, said):
    """The picture is on a scale that is the same in every picture, and says so; the conversation goes on without the
    map's pixels."""
    template, query = upload(part(1, size=SIZE), "good.png"), upload(part(6, size=SIZE, defect=True), "part.png")
    engine = endpoint_engine(said, maps=PageMap(lambda: Mapper(MapSettings())))
    tab = OnePart(service=Service(engine=engine, store=store, limits=Limits()), examples=())
    values = answered(tab, template, query)
    assert "No defect found" in values[1]
    assert "No threshold is known: yellow is a difference of 0.25, red 0.5, in every picture." in values[10]
    with Image.open(query) as image, Image.open(template) as good:
        found = Mapper(MapSettings()).compare(image.convert("RGB"), [good.convert("RGB")])
        assert np.array_equal(pixels(values[9]), np.asarray(draw_map(image.convert("RGB"), found, threshold=UNKNOWN)))
    assert f"<b>{found.pred_score:.3f}</b>" in values[10]
    _, talk = tab.task_event(tab.questions[0])(template, [], query, REQUEST)
    assert talk.answers[-1].result.map is None
    assert talk.answers[-1].result.map_score is not None
    alone = answered(tab, None, query, question=5)  # a question that needs no good part
    assert alone[9] is None
    assert "No map: no good part to compare with." in alone[10]
    assert tab.on_change(values[8], template, [], template)[8:] == (None, "", "", None, "", "", "")


def test_without_a_model_and_a_threshold_nothing_is_green(store, upload):
    template = upload(part(1, size=SIZE), "good.png")
    tab = map_tab(store, judge=Judge(source="map"))
    assert len(tab.questions) == 1
    for defect in (False, True):
        query = upload(part(6, size=SIZE, defect=defect), "part.png")
        values = answered(tab, template, query)
        assert "adc-chip unsure" in values[1]
        assert "adc-chip good" not in values[1]
        assert "No threshold is known. Add more pictures of good parts" in values[1]
        assert "adc-bar" not in values[1]
        assert re.search("Map's score<.*<b>0\\.", values[10])
        assert "No threshold is known" in values[10]
        assert values[9] is not None
    assert "Add a picture of a good part first" in answered(tab, None, query)[0]
    with pytest.raises(gr.Error, match="there is no model here that a question could be put to"):
        tab.on_api(template, query, "What is it?", REQUEST)
    same = answered(tab, template, template)
    assert "adc-chip unsure" in same[1]
    assert same[9] is None


def test_good_parts_that_are_brought_give_a_threshold(store, upload):
    """Twice the median of their own scores, each compared with the others; of one alone there is none."""
    tab = map_tab(store, judge=Judge(source="map"))
    good = [upload(part(index, size=SIZE), f"good {index}.png") for index in (1, 6, 11)]
    for defect, chip in ((True, "adc-chip bad"), (False, "adc-chip good")):
        query = upload(part(16, size=SIZE, defect=defect), "part.png")
        more = [(path, "x") for path in good[1:]]
        coming, _ = tab.task_event(tab.questions[0])(good[0], more, query, REQUEST)
        values = tab.on_answer(coming, [], "", good[0], more, query)
        assert chip in values[1], values[0]
        assert "twice the median score of 3 good pictures" in values[1]
        assert "3 good pictures are few for a threshold" in values[1]
        found = re.search(r"From (0\.\d+) on a part counts", values[1])[1]
        assert f"Yellow is the threshold {found}" in values[10]
    scores = []
    for one in good:
        whole = [Image.open(path).convert("RGB") for path in (one, *(other for other in good if other != one))]
        scores.append(Mapper(MapSettings()).compare(whole[0], whole[1:]).pred_score)
    assert float(found) == pytest.approx(2 * sorted(scores)[1], rel=5e-3)


def test_a_lines_threshold_verdict_and_good_parts(store, upload, line_dir):
    """A visitor brings the part alone."""
    inspection = read_inspection(line_dir)
    good_parts = GoodParts(line_dir / "templates")
    tab = map_tab(store, judge=inspection.judge(), templates_each=inspection.templates_each, good_parts=good_parts)
    for defect, chip in ((True, "adc-chip bad"), (False, "adc-chip good")):
        query = upload(part(6, size=SIZE, defect=defect), "part.png")
        values = answered(tab, None, query)
        assert chip in values[1], values[0]
        assert "compared with <b>000.png</b>" in values[1]
        assert re.search("Map's score<.*<b>0\\.", values[1])
        assert "From 0.2 on a part counts as defective" in values[1]
        assert "Yellow is the threshold 0.2, red twice as much, in every picture." in values[10]
        assert str(line_dir) not in "".join(map(str, values))
    line = tab.on_api(None, query, "", REQUEST)
    assert (line["verdict"], line["verdict_from"], line["template"]) == ("normal", "map", "000.png")
    values = answered(tab, None, upload(part(6, size=(60, 200)), "narrow.png"))
    assert "adc-chip good" not in values[1]
    assert str(line_dir) not in values[0]


@pytest.mark.parametrize(
    ("source", "anomalous", "shown"),
    [
        (
            "either",
            True,
            r"From 0\.5 on a part counts as defective\..*So does a map's score from 0\.3 on \(0\.400\)\.",
        ),
        ("map", True, r"Map's score<.*<b>0\.400</b>"),
    ],
)
def test_whose_verdict_it_is(source, anomalous, shown):
    from adcopilot.demo.engines.answer import Answer
    from adcopilot.inspect import Result

    judge = Judge(source=source, map_threshold=0.3)
    result = judge.judged(
        Result(query="q", template="t", score=0.1, yes_no_mass=1.0, text="No.", map_score=0.4, map_boxes=[])
    )
    answer = Answer(question="", result=result, yes_or_no=True, judge=judge)
    assert result.anomalous is anomalous
    words = fragments.verdict(answer)
    assert re.search(shown, words)
    assert "Model and map disagree." in words
    assert answer.to_dict()["verdict_from"] == source
