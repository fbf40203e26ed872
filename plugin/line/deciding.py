"""From the scores of labelled pictures to what stands in `inspection.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..inspect.judging import MOST_MAP
from ..jsonl import content_key
from .inspection import Inspection
from .measures import choose_source, measures
from .pictures import LabelledPicture
from .thresholds import Threshold, from_good, from_labels, with_most_false_alarms, with_most_missed

__all__ = ["Goal", "decide_line"]

#: Parts that the pictures are divided into, so that no threshold is measured on what it was chosen by.
FOLDS = 5
#: Times the map's threshold from which on a good picture is asked about.
FAR_ABOVE = 2
#: Score → value, by source: `model`, `map`.
Scores = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a threshold is to keep to.

    Attributes:
        missed, false_alarms: the largest share; None where F1 (or good pictures alone) decide.
        source: whose score gives the verdict; None for what the pictures support.
    """

    missed: float | None = None
    false_alarms: float | None = None
    source: str | None = None


def decide_line(pictures: Sequence[LabelledPicture], scores: Scores, *, goal: Goal) -> Inspection:
    """Thresholds, the source of verdicts, and how right they are; templates and map are the caller's to add.

    Args:
        pictures: labelled.
        scores: theirs, of each source; None where a picture has none.

    Raises:
        UserError: scores are missing that are needed.
    """
    if "map" in scores:
        missing = [one.file for one, score in zip(pictures, scores["map"], strict=True) if score is None]
        if len(missing) > len(pictures) / 5:
            raise UserError(f"{missing[0]}: {len(missing)} of {len(pictures)} pictures have no map; give others")
    bad = [one.bad for one in pictures]
    chosen = {name: _threshold(values, bad, goal, of_map=name == "map") for name, values in scores.items()}
    scores = dict(scores)
    if len(scores) == 2:
        limits = (chosen["model"].value, chosen["map"].value)
        scores["either"] = [larger(*one, *limits) for one in zip(scores["model"], scores["map"], strict=True)]
    source, why = choose_source(scores, bad, default="map" if "map" in scores else "model")
    if goal.source is not None:
        source, why = goal.source, "asked for by --verdict-from"
        if source not in scores:
            raise UserError(f"--verdict-from {source}: there is no score of it here; leave it out")
    main = chosen["model" if source == "model" else "map"]
    metrics = _metrics(pictures, scores, source, goal)
    return Inspection(
        verdict_from=source,
        thresholds={name: one.value for name, one in chosen.items()},
        threshold_from=main.chosen,
        why=why,
        warnings=(*main.warnings, *_unlike(pictures, scores, chosen), *_about(metrics)),
        metrics=metrics,
    )


def larger(model: float | None, of_map: float | None, model_threshold: float, map_threshold: float) -> float | None:
    """The larger of two scores, each brought to a scale on which its threshold is 0.5."""
    found = []
    if model is not None:
        odds, limit = (
            value / (1 - value) for value in (min(max(one, 1e-9), 1 - 1e-9) for one in (model, model_threshold))
        )
        found.append(odds / (odds + limit))
    if of_map is not None:
        found.append(of_map / (of_map + max(map_threshold, 1e-9)))
    return max(found, default=None)


def _threshold(scores: Sequence[float | None], bad: Sequence[bool], goal: Goal, *, of_map: bool) -> Threshold:
    known = [(score, one) for score, one in zip(scores, bad, strict=True) if score is not None]
    good_scores = [score for score, one in known if not one]
    bad_scores = [score for score, one in known if one]
    if not good_scores and not of_map:
        return Threshold(value=0.5, chosen="the model's own, as it decides about no good picture")
    if not good_scores:
        raise UserError("no good picture has a score to find a threshold by; give other pictures of good parts")
    if goal.missed is not None:
        return with_most_missed(good_scores, bad_scores, goal.missed)
    if goal.false_alarms is not None:
        return with_most_false_alarms(good_scores, goal.false_alarms, most=MOST_MAP if of_map else 1.0)
    return from_labels(good_scores, bad_scores) if bad_scores else from_good(good_scores, of_map=of_map)


def _metrics(pictures: Sequence[LabelledPicture], scores: Scores, source: str, goal: Goal) -> dict[str, Any]:
    """How right verdicts are, each by a threshold that its picture had no part in; marked pictures are left out."""
    names = [(one.bad, content_key(one.file.name)) for one in pictures]
    order = sorted(range(len(pictures)), key=lambda index: names[index])
    fold = {index: place % FOLDS for place, index in enumerate(order)}
    parts = ("model", "map") if source == "either" else (source,)
    verdicts: list[bool | None] = [None] * len(pictures)
    for number in range(FOLDS):
        others = [index for index in fold if fold[index] != number]
        bad = [pictures[index].bad for index in others]
        if all(bad) or (goal.missed is not None and not any(bad)):
            continue
        limits = {
            name: _threshold([scores[name][index] for index in others], bad, goal, of_map=name == "map").value
            for name in parts
        }
        for index in (index for index in fold if fold[index] == number):
            found = [scores[name][index] >= limits[name] for name in parts if scores[name][index] is not None]
            verdicts[index] = any(found) if found else None
    measured = [index for index, one in enumerate(pictures) if not one.marked]
    return measures(
        [scores[source][index] for index in measured],
        [pictures[index].bad for index in measured],
        verdicts=[verdicts[index] for index in measured],
        kinds=[pictures[index].kind or ("without a name" if pictures[index].bad else None) for index in measured],
    ) | {"how": f"each picture judged by a threshold from the others, in {FOLDS} parts", "source": source}


def _unlike(pictures: Sequence[LabelledPicture], scores: Scores, chosen: Mapping[str, Threshold]) -> list[str]:
    """A sentence about good pictures that look defective to the map: whoever sorted them may have missed something."""
    if "map" not in chosen:
        return []
    limit = FAR_ABOVE * chosen["map"].value
    found = [
        (score, one.file.name)
        for one, score in zip(pictures, scores["map"], strict=True)
        if not one.bad and not one.marked and score is not None and score >= limit
    ]
    if not found:
        return []
    names = ", ".join(f"{name} {score:.3f}" for score, name in sorted(found, reverse=True)[:3])
    told = f"{len(found)} good picture{'s' * (len(found) > 1)} ({names}{', …' * (len(found) > 3)}) of a map score of"
    told += f" {limit:.3f} or more, {FAR_ABOVE} times the threshold: look whether the part is good"
    return [f"{told}; as a template a defective one hides defects like its own"]


def _about(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences about what the numbers do not support."""
    total = metrics["good"] + metrics["defective"]
    if metrics["undecided"] > total / 5:
        return [f"{metrics['undecided']} of {total} pictures get no verdict from the {metrics['source']}"]
    if metrics["auroc_interval"] and metrics["auroc_interval"][0] <= 0.5:
        low, high = metrics["auroc_interval"]
        told = (
            f"the scores do not tell good from defective (AUROC {low:.2f} to {high:.2f}): do not rely on the verdicts"
        )
        return [f"{told}; pictures of one view and light, or a template for each query (--pair-pattern), may help"]
    if not metrics["defective"]:
        return ["without defective pictures nothing says how many defects are missed; give --bad DIR"]
    if metrics["missed_share"] and metrics["missed_share"]["interval"][1] > 0.2:
        low, high = metrics["missed_share"]["interval"]
        number = f"{metrics['missed']} of {metrics['defective']} defective pictures"
        return [f"{number} were missed, so {low:.0%} to {high:.0%} of others will be"]
    return []
