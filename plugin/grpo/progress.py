"""What a run tells the person who watches it: a line a log, and a line when there is nothing to learn from.

Beside transformers' own dictionary of all metrics, which stays as it is, in the terminal as in `trainer_state.json`
and TensorBoard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from transformers import TrainerCallback

from ..cli.saying import say

__all__ = ["FLAT", "Progress"]

#: After so many steps in a row without any difference within a group it is said.
FLAT = 5

#: Where TRL logs the share of groups whose completions all earned the same.
_SAME = "frac_reward_zero_std"


class Progress(TrainerCallback):
    """A line for each log of training: rewards, groups that vary, KL, length, time left.

    Args:
        say: is given each line.
    """

    def __init__(self, say: Callable[[str], None] = say) -> None:
        self.say = say
        self._told = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._start, self._first = time.monotonic(), state.global_step
        self._last = self._varied = state.global_step

    def on_log(self, args, state, control, logs: Mapping[str, Any] | None = None, **kwargs) -> None:
        if not state.is_world_process_zero or "reward" not in (logs or {}):  # of an evaluation, or the end's summary
            return
        step = state.global_step
        seconds = (time.monotonic() - self._start) / (step - self._first) * (state.max_steps - step)
        self.say(step_line(logs, first=self._last + 1, step=step, steps=state.max_steps, seconds=seconds))
        self._last = step
        if logs.get(_SAME) != 1:
            self._varied, self._told = step, False
        elif step - self._varied >= FLAT and not self._told:
            self._told = True
            self.say(flat_line(logs, args, steps=step - self._varied))


def step_line(logs: Mapping[str, Any], *, first: int, step: int, steps: int, seconds: float) -> str:
    """One line about the steps since the last.

    Args:
        logs: TRL's metrics, means over these steps.
        first, step, steps: the first and the last of them, and how many there are in all.
        seconds: until the end.
    """
    terms = [f"{name} {_with_spread(logs, f'rewards/{name}/mean', f'rewards/{name}/std')}" for name in _rewards(logs)]
    parts = [
        f"step {step}/{steps}" if first == step else f"steps {first}-{step}/{steps}",
        f"reward {_with_spread(logs, 'reward', 'reward_std')} ({', '.join(terms)})",
    ]
    if _SAME in logs:
        parts.append(f"rewards vary in {1 - logs[_SAME]:.0%} of groups")
    if "kl" in logs:
        parts.append(f"KL {logs['kl']:.3g}")
    if "completions/mean_length" in logs:
        cut = logs.get("completions/clipped_ratio", 0)
        parts.append(f"{logs['completions/mean_length']:.0f} tokens" + (f", {cut:.0%} cut" if cut else ""))
    return " | ".join([*parts, f"{timedelta(seconds=int(seconds))} left"])


def flat_line(logs: Mapping[str, Any], args, *, steps: int) -> str:
    """That nothing was learnt in so many steps, why, and what to change.

    Args:
        logs: TRL's metrics of the last of them.
        args: `trl.GRPOConfig`.
        steps: how many.
    """
    means = [logs[f"rewards/{name}/mean"] for name in _rewards(logs)]
    cut = logs.get("completions/clipped_ratio", 0)
    if cut >= 0.5:
        remedy = f"{cut:.0%} of completions are cut at max_completion_length {args.max_completion_length}: raise it"
    elif not any(means):
        remedy = (
            "none earns anything: fine-tune the policy on answers in the rewarded form first, as "
            "examples/train/tiny/thinking.yaml does"
        )
    elif means and min(means) >= 1:
        remedy = "every answer is right already: take harder prompts, or stop here"
    else:
        remedy = f"raise temperature ({args.temperature:g}) or num_generations ({args.num_generations})"
    return (
        f"rewards did not vary for {steps} steps: all {args.num_generations} completions of each prompt earned the "
        f"same, so there was nothing to learn from; {remedy}"
    )


def _rewards(logs: Mapping[str, Any]) -> list[str]:
    """The reward functions that were asked, in TRL's order."""
    return [key.split("/")[1] for key in logs if key.startswith("rewards/") and key.endswith("/mean")]


def _with_spread(logs: Mapping[str, Any], mean: str, spread: str) -> str:
    return f"{logs[mean]:.3f}" + (f" ± {logs[spread]:.3f}" if spread in logs else "")
