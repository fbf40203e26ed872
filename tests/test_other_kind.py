"""A query that the camera took in another way than its template: the verdict says so, and is given all the same."""

import numpy as np
import pytest
from PIL import Image

from adcopilot.anomaly_map.comparing import MapSettings
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.map_inspector import MapInspector

from .inspect.conftest import inspector, part, speaking_dir  # noqa: F401 - fixtures
from .inspect.test_depth import twelve_bits


def grey(seed):
    return part(seed).convert("L").convert("RGB")


def warm(seed):
    """A grey part under a lamp: the camera has colours, and none of them is strong."""
    values = np.asarray(grey(seed)).astype(float) * (1, 0.98, 0.97)
    return Image.fromarray(values.astype(np.uint8))


@pytest.fixture(params=["map", "model"])
def inspects(request):
    if request.param == "model":
        return request.getfixturevalue("inspector")
    return MapInspector(map=MapSettings(), judge=Judge(source="map", map_threshold=0.5))


@pytest.mark.parametrize(
    ("template", "query", "said"),
    [
        (part(1), grey(2), "it is grey and its template is in colour"),
        (part(1), part(2).convert("L"), "it is grey and its template is in colour"),
        (grey(1), part(2), "it is in colour and its template is grey"),
        (part(1), part(2), None),
        (grey(1), part(2).convert("L"), None),
        (warm(1), grey(2), None),
        (part(1), warm(2), None),
    ],
)
def test_colours(inspects, template, query, said):
    [result] = inspects.inspect_many([(template, query)])
    assert result.error is None
    assert (said is None) if result.note is None else result.note.startswith(f"{said}, which")
    if result.anomalous is not None:
        assert result.reason == result.note


def test_depths(inspects, tmp_path):
    template, plain_template = twelve_bits(tmp_path / "deep", 1)
    query, plain_query = twelve_bits(tmp_path / "deep", 2)
    pairs = [(template, query), (plain_template, plain_query), (template, plain_query), (plain_template, query)]
    notes = [result.note for result in inspects.inspect_many(pairs)]
    assert notes[:2] == [None, None]
    assert notes[2].startswith("it has 8 bits a channel and its template more, of which 12 are used, which")
    assert notes[3].startswith("it has 16 bits a channel and its template 8, which")


def test_one_template_of_the_querys_kind_is_enough():
    alone = MapInspector(map=MapSettings(), judge=Judge(source="map", map_threshold=0.5))
    question = alone.pair_question(part(1), grey(2), (grey(3),))
    assert next(alone.ask([question])).note is None
