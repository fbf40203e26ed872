"""The small interface behind which generators stand, and how one says that it has nothing to give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ...endpoint.client import Refused
from .pair_view import PairView

__all__ = ["STEPS", "Generator", "write_checked"]

T = TypeVar("T")

#: What a generator is asked for, and what its answer holds:
#: `caption`   the JSON object of `caption.Caption`
#: `refine`    the same, better (context: `draft`, the text; `problems`, a list of sentences about it)
#: `verify`    a JSON object {"ok": true or false, "problems": [sentence, …]} (context: `draft`)
#: `dialogue`  a JSON list of {"question", "answer"} (context: `caption`, a `Caption`; `problems`)
#: `think`     the reasoning, plain text (context: `caption`; `question`; `answer`; `kind`; `options`; `problems`)
#: `round` of a context counts how often a text was given back.
STEPS = ("caption", "refine", "verify", "dialogue", "think")


class Generator(Protocol):
    """Writes text about pairs; each is a class of this one, at once and unchecked where it says nothing else.

    Attributes:
        name: what records say made them: `annotations`, or the endpoint's model.
        fingerprint: changes when the texts may change: prompts, model, settings.
        waits: whether `generate` waits for something (a network), so that several pairs should be worked on at once.
        concurrency: how many.
        rounds: how often a text with problems is given back to be written again.
        checks: whether the `verify` step is asked for too.
    """

    name: str
    fingerprint: str
    waits: bool = False
    concurrency: int = 1
    rounds: int = 0
    checks: bool = False

    async def generate(self, pair: PairView, step: str, context: Mapping[str, Any]) -> str:
        """The text of one step, one of `STEPS`.

        Raises:
            Refused: there is no usable text for this pair.
            UserError: there is no use in going on: wrong address or key, budget spent.
        """
        ...

    def prompt_hash(self, task: str) -> str:
        """SHA-256 of the files that the texts of a task are made from."""
        ...

    async def finish(self) -> None:
        """Start nothing new, let what is under way end, and release what belongs to the running event loop."""
        ...


async def write_checked(
    pair: PairView,
    generator: Generator,
    step: str,
    check: Callable[[str, int], Awaitable[tuple[T, Sequence[str]]]],
    *,
    what: str,
    again: str = "",
    context: Mapping[str, Any] | None = None,
    clean: Callable[[str], str] = str,
) -> T:
    """A text of a generator, given back to it with what is wrong as often as it allows, until nothing is.

    Args:
        pair: that it is about.
        generator: writes it.
        step: what is asked for.
        check: from a text and its round to what it holds, and what is wrong with it.
        what: the text is called.
        again: the step that is asked for when a text is given back; the same by default.
        context: of the step, but for draft, problems and round.
        clean: what is taken of an answer.

    Raises:
        Refused: problems remain, or the generator refuses.
    """
    told = {**(context or {}), "draft": "", "problems": [], "round": 0}
    for number in range(generator.rounds + 1):
        text = clean(await generator.generate(pair, (again or step) if number else step, told))
        found, problems = await check(text, number)
        if not problems:
            return found
        told |= {"draft": text, "problems": list(problems), "round": number + 1}
    raise Refused(f"the {what} could not be verified: {'; '.join(problems)}")
