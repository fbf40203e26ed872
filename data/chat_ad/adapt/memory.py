"""Whether a base fits into the memory at hand, asked before anything long."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcopilot.errors import UserError

if TYPE_CHECKING:
    from .training import Base

__all__ = ["check_memory", "memory_at_hand", "needed"]

GIB = 2**30
#: What Linux lets the processes of a container have, and what they have.
_GROUP = Path("/sys/fs/cgroup")
#: Tokens of the question and the longest answers, beside the images.
_TEXT = 400


def memory_at_hand(*, gpu: bool) -> int:
    """Bytes that are free: of the GPU that has least, or of this machine, within its container's limit.

    Where nobody tells, there is no end to them.
    """
    if gpu:
        import torch

        return min(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    try:
        import psutil  # it comes with accelerate, which training needs
    except ImportError:
        return sys.maxsize
    free = psutil.virtual_memory().available
    try:
        limit, used = ((_GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def needed(base: Base, *, settings: dict[str, Any] | None) -> float:
    """Bytes that a base takes: of its shapes, as `llamafactory.memory` counts them, on the safe side of nothing.

    Args:
        base: with its folder.
        settings: of its training; None for answering alone.

    On a CPU weights, gradients and what is between them are float32, on a GPU bfloat16.
    """
    from adcopilot.llamafactory.memory import Shapes, sample_of
    from adcopilot.model import AdCopilotConfig

    wider = 1 if base.gpu else 2
    if settings is None:
        return base.weights * 2 * wider
    config = AdCopilotConfig.from_pretrained(base.folder)
    side = int(base.pixels**0.5) // 28 * 28
    tokens = 2 * (side // 28) ** 2 + 2 * config.num_comparison_tokens + _TEXT
    batch = settings["per_device_train_batch_size"]
    need = Shapes(config).need(settings, sample_of(config, tokens, [(side, side)] * 2, batch=batch))
    # float32 itself trains, without a copy of its own
    trained = need.training if base.gpu else need.training * 3 / 4
    return base.weights * 2 * wider + trained + need.activations * wider + need.logits


def check_memory(base: Base, *, free: float, settings: dict[str, Any] | None) -> None:
    """Refuse what cannot fit.

    Args:
        base, settings: as `needed`.
        free: bytes that there are (`memory_at_hand`).

    Raises:
        UserError: one line with both numbers.
    """
    need = needed(base, settings=settings)
    if need <= free:
        return
    what = "answering with it" if settings is None else "training it"
    where = "this GPU" if base.gpu else "this machine"
    instead = "" if settings is None else ", or --no-train"
    raise UserError(
        f"{base.folder}: {what} takes about {need / GIB:.1f} GiB of memory, counted from its shapes, and {where} has "
        f"{free / GIB:.1f} free; give a smaller --base{instead}"
    )
