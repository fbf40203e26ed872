"""What `llamafactory-cli export` adds for AD-Copilot: the fixture of `adcopilot check`, made by the loaded model,
and the folder's card.

By the model in memory and not by the folder, so that a first `adcopilot check FOLDER` also says whether all of it was
written.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..errors import one_line
from ..model.check import FIXTURE
from .composite import MODEL_TYPE
from .hook import wrap_once

#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.train.tuner:export_model": ("args",),
    "llamafactory.train.tuner:load_model": ("tokenizer", "model_args", "finetuning_args"),
}

logger = logging.getLogger(__name__)

#: While an export runs: the models that it has loaded, with the arguments that say where they go.
_loaded: ContextVar[list[tuple[Any, Any]] | None] = ContextVar("adcopilot_loaded", default=None)


def register(tuner) -> None:
    """Wrap `export_model` and the `load_model` that it calls. Models of other kinds are not looked at.

    Args:
        tuner: `llamafactory.train.tuner`.
    """
    wrap_once(tuner, "load_model", _noted)
    wrap_once(tuner, "export_model", _with_fixture)


def _noted(load_model):
    def wrapped(tokenizer, model_args, *args, **kwargs):
        model = load_model(tokenizer, model_args, *args, **kwargs)
        loaded = _loaded.get()
        if loaded is not None and model.config.model_type == MODEL_TYPE:
            loaded.append((model, model_args))
        return model

    return wrapped


def _with_fixture(export_model):
    def wrapped(*args, **kwargs):
        loaded: list[tuple[Any, Any]] = []
        token = _loaded.set(loaded)
        try:
            export_model(*args, **kwargs)
        finally:
            _loaded.reset(token)
        for model, model_args in loaded:
            _add_fixture(model, Path(model_args.export_dir))
            _add_card(model_args)

    return wrapped


def _add_card(model_args) -> None:
    from ..cards.model import write_export_card

    folder = Path(model_args.export_dir)
    try:
        write_export_card(folder, model=model_args.model_name_or_path, adapters=model_args.adapter_name_or_path or ())
    except Exception as error:  # of whatever somebody's files hold: the export itself is whole
        logger.warning("adcopilot: the export is whole, but %s has no README.md (%s)", folder, one_line(error))


def _add_fixture(model, folder: Path) -> None:
    """Write the fixture of a model in memory, or say in one warning why there is none: the export itself is done by
    then, and whole."""
    from ..model.add_fixture import add_fixture
    from ..model.processing import AdCopilotProcessor

    try:
        processor = AdCopilotProcessor.from_pretrained(folder, local_files_only=True)
        lacks = add_fixture(folder, (model, processor))
    except Exception as error:  # transformers raises whatever its readers stumble on
        lacks = f"{folder} has no fixture for `adcopilot check` (its processor cannot be loaded: {one_line(error)})"
    if lacks:
        logger.warning("adcopilot: the export is whole, but %s", lacks)
    else:
        logger.info("adcopilot: wrote %s for `adcopilot check`", folder / FIXTURE)
