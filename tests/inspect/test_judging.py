"""Whose verdict it is where one of the two has nothing to say."""

import pytest

from adcopilot.errors import UserError
from adcopilot.inspect import Result
from adcopilot.inspect.judging import Judge


@pytest.mark.parametrize(("score", "text"), [(0.9, "Yes."), (0.1, "No."), (None, "<think>Hm</think>No.")])
@pytest.mark.parametrize("source", ["map", "either"])
def test_a_models_score_is_never_taken_for_the_maps(source, score, text):
    """Templates of another shape make no map; the threshold of maps says nothing about the model's score."""
    result = Result(query="q", template="t", score=score, yes_no_mass=score and 1.0, text=text)
    judged = Judge(source=source, map_threshold=0.05).judged(result)
    if source == "either" and score == 0.9:
        assert judged.anomalous is True
    else:
        assert (judged.anomalous, judged.reason) == (None, "there is no anomaly map of it")


def test_without_a_model_the_score_is_the_maps():
    judge = Judge(source="map", map_threshold=0.3)
    assert judge.judged(Result(query="q", template="t", score=0.4)).anomalous is True
    assert judge.judged(Result(query="q", template="t", score=0.2)).anomalous is False


@pytest.mark.parametrize("value", ["0.5", True, float("nan"), -0.1, 1.5, None])
def test_a_threshold_is_a_number_within_its_range(value):
    with pytest.raises(UserError, match=r"--threshold is .*, expected 0 to 1"):
        Judge(model_threshold=value)
    if value not in (None, 1.5):
        with pytest.raises(UserError, match=r"--threshold is .*, expected 0 to 10"):
            Judge(source="map", map_threshold=value)
