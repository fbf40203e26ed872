"""The fixture of `adcopilot check` for a model folder that was just written, where that is cheap.

A folder is whole without it, so nothing here stops anything: where there is no fixture, one line says why, and what
makes it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line
from .check import make_fixture, stored_dtype, write_fixture

__all__ = ["MOST_BYTES", "MOST_SECONDS", "SWITCH", "add_fixture"]

#: Environment variable; 0 leaves fixtures out.
SWITCH = "ADCOPILOT_FIXTURE"
#: Weights up to which a folder is loaded once for its fixture. Larger ones come from machines that need not hold them.
MOST_BYTES = 2**30
#: What one question and the comparison's own may take, as estimated beforehand.
MOST_SECONDS = 60


def add_fixture(folder: Path, loaded: tuple[Any, Any] | None = None) -> str | None:
    """Let the model answer, and write the fixture into its folder.

    Args:
        folder: of an AD-Copilot model, whole.
        loaded: model (in evaluation mode) and processor, as they were saved there; loaded from the folder if left out.

    Returns:
        None; or the line that says why there is no fixture: it is switched off, would take long, or could not be made.
    """
    try:
        if os.environ.get(SWITCH, "1").strip().lower() in ("0", "false", "off", "no"):
            raise UserError(f"{SWITCH}=0 leaves it out")
        model, processor = loaded or _load(folder)
        seconds = expected_seconds(model)
        if seconds > MOST_SECONDS:
            raise UserError(f"it would take about {seconds / 60:.0f} minutes on this {model.device.type}")
        write_fixture(folder, make_fixture(model, processor))
    except Exception as error:  # memory, a full disk, a quantised model that does not run here: all the same to whom
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return (
            f"{folder} has no fixture for `adcopilot check` ({kind}{one_line(error)}); "
            f"`adcopilot check {folder} --write` makes it"
        )
    return None


def _load(folder: Path) -> tuple[Any, Any]:
    from ..inspect.loading import load_model, read_config

    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if size > MOST_BYTES:
        raise UserError(f"weights of {size / 2**30:.1f} GiB are not loaded for it, {MOST_BYTES / 2**30:.0f} at most")
    dtype = stored_dtype(read_config(folder))
    return load_model(folder, device="cpu", dtype=dtype, attention="sdpa")


def expected_seconds(model) -> float:
    """How long two prompts of two small images and one short answer take this model on this machine, about.

    One of its matrices is timed, at 7B 1/110 of the whole, with as many rows as a prompt has and with a single one:
    half-precision kernels differ a hundredfold between CPUs.
    """
    import torch

    from .answer import STEPS

    if model.device.type != "cpu":
        return 0.0  # seconds at any size
    matrix = model.model.language_model.layers[0].mlp.gate_proj
    width = model.config.text_config.hidden_size
    share = sum(weight.numel() for weight in model.parameters()) / sum(one.numel() for one in matrix.parameters())
    rows = 2 * model.config.num_comparison_tokens + 90  # template, question and the images' own tokens
    total = 0.0
    with torch.no_grad():
        for count, times in ((rows, 2), (1, STEPS)):
            given = torch.ones(count, width, dtype=model.dtype)
            start = time.perf_counter()
            matrix(given)
            total += times * share * (time.perf_counter() - start)
    return total
