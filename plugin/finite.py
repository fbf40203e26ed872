"""Refuse NaN and Inf: in a model's weights once it is loaded, in its logits at every step of an answer.

A single NaN weight makes an answer that looks like one: empty, or the same token for ever, and `NaN >= threshold` is
False, which reads as "normal". So whoever loads a model on this machine calls `check_weights` (or, where an engine of
its own loads it, `check_weight_files`), and whoever lets it answer looks at `LogitsCheck`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessor

from .errors import UserError

__all__ = [
    "LogitsCheck",
    "bad_rows",
    "check_tensor",
    "check_weight_files",
    "check_weights",
    "finite_logits",
    "not_finite_at",
    "opened",
]

_MEASURED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # aminmax knows no other


def check_weights(model: Any, *, name: str | Path, remedy: str, files: Iterable[Path] = ()) -> None:
    """Refuse a loaded model that has a weight which is not finite. One pass over the weights, on their device.

    Buffers are looked at too; -Inf is allowed there, for attention masks are made of it.

    Args:
        model: a `torch.nn.Module` as it is going to be used: on its device, in its dtype.
        name: of the model, for the message.
        remedy: what to type where a weight became Inf only by being cast to the model's dtype: "use --dtype float32".
        files: the safetensors files it was read from, which tell the two cases apart.

    Raises:
        UserError: it names the first such weight, and says how many there are, of which kind.
    """
    weights = {key: value for key, value in model.named_parameters() if not _is_finite(value)}
    for key, value in model.named_buffers():
        if not _is_finite(value):
            value = value.masked_fill(value.isneginf(), 0)
            weights |= {} if _is_finite(value) else {key: value}
    if not weights:
        return
    first = next(iter(weights))
    overflowed = not any(value.isnan().any() for value in weights.values()) and _all_finite(files)
    why = (
        f"the files' own are finite and overflow in {str(weights[first].dtype).removeprefix('torch.')}: {remedy}"
        if overflowed
        else "an answer of such a model means nothing: export it again, or give another checkpoint"
    )
    raise UserError(f"{name}: {_count(weights.values())} of its weights are not finite, the first in {first}; {why}")


def check_weight_files(files: Iterable[Path], *, dtype: torch.dtype | None = None, remedy: str = "") -> None:
    """`check_weights` for a model that something else loads: its safetensors files are read, a tensor at a time.

    Args:
        files: of the model.
        dtype: that they are going to be cast to; None if they are used as they are.
        remedy: as in `check_weights`.

    Raises:
        UserError: a weight is not finite, or would not be in `dtype`.
    """
    for file, key, tensor in _stored(files):
        check_tensor(tensor, name=f"{file}: {key}")
        if dtype is not None and tensor.is_floating_point() and not _is_finite(tensor.to(dtype)):
            kind = str(dtype).removeprefix("torch.")
            raise UserError(f"{file}: {key} is finite, but overflows in {kind}: {remedy}")


def check_tensor(tensor: torch.Tensor, *, name: str) -> None:
    """Refuse a weight that is not finite.

    Raises:
        UserError: it says how many of its numbers are not, of which kind.
    """
    if not _is_finite(tensor):
        raise UserError(
            f"{name} has {_count([tensor])} that are not finite; an answer of such a model means nothing: export or "
            "download it again, or give another checkpoint"
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # Minimum and maximum are NaN if any number is. Unlike isfinite, they need no memory of the weight's own size.
    low, high = torch.aminmax(_measurable(tensor))
    return bool((low.isfinite() & high.isfinite()).item())


def _measurable(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor if tensor.dtype in _MEASURED else tensor.float()  # float8


def _count(tensors: Iterable[torch.Tensor]) -> str:
    """`2 NaN and 1 Inf`."""
    nan = inf = 0
    for tensor in map(_measurable, tensors):
        nan += int(tensor.isnan().sum())
        inf += int(tensor.isinf().sum())
    return " and ".join(f"{count} {kind}" for count, kind in ((nan, "NaN"), (inf, "Inf")) if count)


def _all_finite(files: Iterable[Path]) -> bool:
    """Whether there are files and every number in them is finite."""
    seen = False
    for _, _, tensor in _stored(files):
        seen = True
        if not _is_finite(tensor):
            return False
    return seen


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A safetensors file, open for torch.

    Raises:
        UserError: it cannot be read, now or while it is open.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as inside:
            yield inside
    except UserError:  # of whoever looks at a tensor
        raise
    except Exception as error:  # safetensors has its own, untyped errors
        raise UserError(f"{file}: not a readable safetensors file ({error}); copy it again") from None


def _stored(files: Iterable[Path]) -> Iterator[tuple[Path, str, torch.Tensor]]:
    for file in files:
        with opened(file) as inside:
            for key in inside.keys():
                yield file, key, inside.get_tensor(key)


def not_finite_at(step: int) -> str:
    """What is said of an answer whose logits were not finite at a step (from 1)."""
    return (
        f"the model's logits are not finite (step {step} of its answer), so there is no verdict; use a wider --dtype, "
        "or another checkpoint"
    )


class LogitsCheck(LogitsProcessor):
    """Notes at which step of each row's answer the logits were first not finite, and changes nothing.

    One reduction over the vocabulary a step, on the device; `failed` reads it once, at the end. It may stand behind a
    processor that bans tokens by -Inf.

    Args:
        ends: token ids that end an answer. What is computed for a row behind its end is padding, and does not count.
        banned: how many tokens others set to -Inf; with more of them the logits were not finite themselves. None
            where that is not known: a model that masks a part of its vocabulary.
    """

    def __init__(self, *, ends: Sequence[int], banned: int | None = None) -> None:
        self.ends, self.banned = tuple(ends), banned
        self.steps = 0
        self.first: torch.Tensor | None = None
        self._ended = self._end_ids = torch.empty(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        bad = bad_rows(scores, banned=self.banned)
        if self.first is None:
            self.first = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
            self._ended = torch.zeros_like(bad)
            self._end_ids = torch.tensor(self.ends, device=input_ids.device, dtype=input_ids.dtype)
        else:
            self._ended |= torch.isin(input_ids[:, -1], self._end_ids)
        self.first = torch.where(bad & ~self._ended & (self.first == 0), self.steps, self.first)
        return scores

    @property
    def failed(self) -> list[int]:
        """For each row the step from 1 at which its logits were first not finite; 0 for one that was well."""
        return [] if self.first is None else self.first.tolist()


@contextmanager
def finite_logits(model: Any) -> Iterator[None]:
    """While it lasts, a model's logits are looked at where its head makes them: for sampling by code that takes no
    `LogitsCheck`. What is not finite is sampled from as if all tokens were alike, which a GPU survives.

    Args:
        model: with transformers' `get_output_embeddings`.

    Raises:
        UserError: at the end, if there were some.
    """
    found: list[torch.Tensor] = []

    def look(_module: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        bad = bad_rows(logits, banned=0)
        found.append(bad.any())
        return torch.where(bad[..., None], torch.zeros_like(logits), logits)

    hook = model.get_output_embeddings().register_forward_hook(look)
    try:
        yield
    finally:
        hook.remove()
    step = torch.stack(found).tolist().index(True) + 1 if found and torch.stack(found).any() else 0
    if step:
        raise UserError(
            f"the policy's logits are not finite (step {step} of a rollout): its weights have grown beyond their "
            "dtype, or a picture does; go on from an earlier checkpoint with a smaller learning_rate, or set "
            "bf16=false"
        )


def bad_rows(scores: torch.Tensor, *, banned: int | None) -> torch.Tensor:
    """(…) which of (…, vocabulary) logits hold NaN or +Inf, or more -Inf than there are banned tokens."""
    bad = ~scores.amax(-1).isfinite()  # NaN if any is; -Inf where nothing is left
    if banned is not None:
        bad |= scores.isneginf().sum(-1) > banned
    return bad
