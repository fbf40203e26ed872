"""What an endpoint costs: tokens and money, a limit that is kept to, and a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from ...errors import UserError
from ..recipe.model import Spec

__all__ = ["Cost", "Prices"]


class Prices(Spec):
    """Money for a million tokens, in whatever currency; 0 for an endpoint of one's own."""

    prompt: Annotated[float, Field(ge=0)] = 0.0
    completion: Annotated[float, Field(ge=0)] = 0.0

    def money(self, prompt: int, completion: int) -> float:
        """What so many tokens cost."""
        return (prompt * self.prompt + completion * self.completion) / 1e6


@dataclass(kw_only=True)
class Cost:
    """Counts tokens, and lets a request go only when the budget holds even its longest answer.

    Attributes:
        prices: of a million tokens.
        most_tokens, most_money: the budget, None for none. It covers everything in the cache file, earlier runs too.
        earlier: (prompt, completion) tokens that those have spent.
    """

    prices: Prices = field(default_factory=Prices)
    most_tokens: int | None = None
    most_money: float | None = None
    earlier: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.prompt = self.completion = self.estimated = 0
        self.events: Counter[str] = Counter()
        self._reserved: dict[int, tuple[int, int]] = {}
        self._seen = (0, 0)  # answers and their prompt tokens, for estimates
        self._tickets = 0

    def reserve(self, prompt: int, completion: int) -> int:
        """Set aside what a request may cost at most, and return a ticket for `settle`.

        Args:
            prompt: estimate of its tokens.
            completion: the most it may answer with.

        Raises:
            UserError: the budget does not hold it.
        """
        if self._seen[0] >= 8:  # what prompts really cost is known by now
            prompt = max(prompt // 4, round(1.25 * self._seen[1] / self._seen[0]))
        waiting = list(self._reserved.values())
        total_prompt = self.earlier[0] + self.prompt + sum(one for one, _ in waiting) + prompt
        total_completion = self.earlier[1] + self.completion + sum(one for _, one in waiting) + completion
        tokens = total_prompt + total_completion
        money = self.prices.money(total_prompt, total_completion)
        for name, most, needed in (("tokens", self.most_tokens, tokens), ("money", self.most_money, money)):
            if most is not None and needed > most:
                raise UserError(
                    f"the budget of {most:,.6g} {name} is used up: with what is under way and the next request it "
                    f"would be up to {needed:,.6g}; raise it and start again, every answer is kept"
                )
        self._tickets += 1
        self._reserved[self._tickets] = (prompt, completion)
        return self._tickets

    def settle(self, ticket: int, usage: tuple[int, int, bool] | None) -> None:
        """Replace what was set aside by what was used: (prompt, completion, estimated), None for nothing."""
        self._reserved.pop(ticket)
        if usage is None:
            return
        prompt, completion, estimated = usage
        self.prompt += prompt
        self.completion += completion
        self.estimated += estimated
        self._seen = (self._seen[0] + 1, self._seen[1] + prompt)

    def report(self) -> dict[str, Any]:
        """Counts of this run and, under `total`, of everything in the cache file."""
        prompt, completion = self.earlier[0] + self.prompt, self.earlier[1] + self.completion
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "money": self.prices.money(self.prompt, self.completion),
            "answers_with_estimated_tokens": self.estimated,
            "events": dict(sorted(self.events.items())),
            "total": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "money": self.prices.money(prompt, completion),
            },
        }
