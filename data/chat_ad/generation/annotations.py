"""The generator without a model: what the annotations say, in varied words, the same for the same pair and seed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from ..draws import dice
from ..sources.products import PART
from .caption import Caption, details
from .facts import Facts
from .generator import Generator
from .locate import boxes_text
from .pair_view import PairView
from .prompt_files import PromptFiles, several
from .words import Words

__all__ = ["AnnotationsGenerator"]

_WORDING = ("questions.json", "wording.json", "families.json")


class AnnotationsGenerator(Generator):
    """Writes from boxes and labels alone; needs no model, no network and no image.

    Args:
        prompts: its wording.
        seed: of the choices among sentences of the same meaning.
    """

    name = "annotations"

    def __init__(self, *, prompts: PromptFiles, seed: int = 0) -> None:
        self.prompts = prompts
        self.words = Words(prompts=prompts)
        self.seed = seed
        self._digest = prompts.digest(*_WORDING)
        self.fingerprint = f"annotations:{seed}:{self._digest}"

    def prompt_hash(self, task: str) -> str:
        """SHA-256 of the wording files, the same for all tasks."""
        return self._digest

    async def generate(self, pair: PairView, step: str, context: Mapping[str, Any]) -> str:
        """The text of `caption`, `dialogue` or `think`."""
        rng = dice(self.seed, step, pair.key)
        facts = Facts(pair, self.words)
        if step == "caption":
            return self._caption(rng, facts).text()
        if step == "dialogue":
            return json.dumps(self._dialogue(rng, facts, boxes_given=context["boxes_given"]), ensure_ascii=False)
        if step == "think":
            return self._think(rng, facts, context)
        raise ValueError(f"step is {step!r}, expected caption, dialogue or think")

    def _say(self, rng: random.Random, key: str, **slots: str) -> str:
        return self.prompts.pick(rng, "wording.json", key, slots)

    def _ask(self, rng: random.Random, key: str) -> str:
        return self.prompts.pick(rng, "questions.json", key)

    def _caption(self, rng: random.Random, facts: Facts) -> Caption:
        subject = {"subject": facts.subject, "a_subject": facts.a_subject}
        if not facts.pair.anomalous:
            return Caption(
                description=self._say(rng, "description_normal", **subject),
                details=(),
                defect_description=self._say(rng, "no_difference"),
            )
        return Caption(
            description=self._say(rng, "description_defect", region=facts.region, **subject),
            details=tuple(details(facts.pair, self.words)),
            defect_description=f"{self._difference(rng, facts)} {self._extent(rng, facts)}",
        )

    def _difference(self, rng: random.Random, facts: Facts) -> str:
        key = "difference_missing" if facts.family == "missing" and rng.random() < 0.5 else "difference"
        return self._say(rng, key, there=facts.there, placed=facts.placed)

    def _extent(self, rng: random.Random, facts: Facts) -> str:
        key = "extent_one" if facts.count == 1 else "extent_many"
        if facts.pair.areas is None:  # a box is larger than what is in it
            key = key.replace("extent", "extent_box")
        return self._say(rng, key, size=facts.size, share=facts.share, shape=facts.shape)

    # Dialogue ---------------------------------------------------------------------------------------------------

    def _dialogue(self, rng: random.Random, facts: Facts, *, boxes_given: bool) -> list[dict[str, str]]:
        """Three to five turns: the verdict, then what, where, how much, why, in an order that makes sense."""
        turns = [self._verdict(rng, facts)]
        follow = self._about_defect(rng, facts, boxes_given=boxes_given)
        wanted = rng.randint(2, 4)
        kept = sorted(rng.sample(range(len(follow)), min(wanted, len(follow))))
        turns += [follow[index] for index in kept]
        return [{"question": question, "answer": answer} for question, answer in turns]

    def _verdict(self, rng: random.Random, facts: Facts) -> tuple[str, str]:
        question = self._ask(rng, "verdict")
        if not facts.pair.anomalous:
            return question, self._say(rng, "no")
        difference = self._say(rng, "difference", there=facts.there_all, placed=facts.defects)
        return question, self._say(rng, "yes", difference=difference)

    def _about_defect(self, rng: random.Random, facts: Facts, *, boxes_given: bool) -> list[tuple[str, str]]:
        pair = facts.pair
        subject = [(self._ask(rng, "object"), self._say(rng, "object", a_subject=facts.a_subject))]
        if facts.subject == PART:  # nobody has said what it is
            subject = []
        if not pair.anomalous:
            return [
                (self._ask(rng, "difference"), self._say(rng, "no_difference")),
                (self._ask(rng, "normal_check"), self._say(rng, "normal_check")),
                *subject,
                (self._ask(rng, "action"), self._say(rng, "normal_action")),
            ]
        turns = [(self._ask(rng, "kind"), self._kind(rng, facts))]
        if pair.boxes:
            turns.append(
                (
                    self._ask(rng, "where"),
                    self._say(
                        rng,
                        "where",
                        placed=facts.placed,
                        defects=facts.defects,
                        region=facts.region,
                        there_all=facts.there_all,
                        is_are=facts.there.removeprefix("there "),
                    ),
                )
            )
            if pair.listable and not boxes_given:
                turns.append((self._ask(rng, "boxes"), boxes_text(pair, self.words)))
            verb = "is" if facts.count == 1 else "are"
            turns.append((self._ask(rng, "count"), self._say(rng, "count", count=facts.areas, is_are=verb)))
            turns.append((self._ask(rng, "extent"), self._extent(rng, facts)))
        turns += subject
        for key in ("cause", "effect", "action"):
            if facts.family:
                known = rng.choice(self.words.families[facts.family][key])
                turns.append((self._ask(rng, key), self._say(rng, key, **{key: known})))
            else:
                turns.append((self._ask(rng, key), self._say(rng, f"{key}_unknown")))
        return turns

    def _kind(self, rng: random.Random, facts: Facts) -> str:
        if not facts.kinds:
            return self._say(rng, "kind_vague")
        if facts.count > 1:
            verb = facts.there_all.removeprefix("there ")
            return self._say(rng, "kind_many", defects=facts.defects, is_are=verb)
        return self._say(rng, "kind", kinds=self.words.one(facts.kinds[0]))

    # Thinking ---------------------------------------------------------------------------------------------------

    def _think(self, rng: random.Random, facts: Facts, context: Mapping[str, Any]) -> str:
        """Reasoning that leads from the images over the caption to the answer."""
        caption: Caption | None = context["caption"]
        sentences = [self._say(rng, "think_start", a_subject=facts.a_subject)]
        if not facts.pair.anomalous:
            sentences.append(self._say(rng, "think_normal"))
        else:
            sentences.append(self._say(rng, "think_look", region=facts.region) if facts.pair.boxes else "")
            sentences.append(caption.defect_description if caption else self._difference(rng, facts))
        options = context.get("options")
        if options is None:
            key = "think_boxes_one" if facts.count == 1 else "think_boxes_many"
            sentences.append(self._say(rng, key, count=facts.areas))
        else:
            letter = context["answer"]
            others = [self.words.one(text) for name, text in options.items() if name != letter]
            if context.get("kind") == "kind" and rng.random() < 0.5:
                sentences.append(self._say(rng, "think_rule_out", others=several(others, last="or")))
            option = options[letter]
            sentences.append(self._say(rng, "think_choice", letter=letter, option=option))
        return " ".join(filter(None, sentences))
