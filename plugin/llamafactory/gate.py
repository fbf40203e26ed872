"""Which LlamaFactory this package works with: one that has what it uses, whatever its number.

Each step of the hook names what it takes from LlamaFactory (`NEEDS`): functions and methods with the parameters that
it passes or wraps, tables that it adds to. Where something is missing, the step is left out and the lack is kept here.
Nothing happens then to any other model; AD-Copilot's own is refused where the settings of a command are read, because
half registered it would train, or answer, without comparing.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from typing import Any

from .. import __version__
from ..errors import UserError, one_line
from .composite import MODEL_TYPE
from .hook import OFF_SWITCH, STEPS, WHEN_IMPORTED, wrap_once

#: What `llamafactory.hparams.parser` gives each command: its settings, read and checked.
READERS = ("get_train_args", "get_infer_args", "get_eval_args")

#: Releases and commits that the tests ran on.
TRIED = "0.9.5"

#: None of them must be there: where one is not, no command reads its settings with it.
NEEDS = {}

logger = logging.getLogger(__name__)

#: Step → what LlamaFactory lacks for it.
_lacking: dict[str, list[str]] = {}


def has_what_it_needs(step: str, *, alone: bool) -> bool:
    """Whether LlamaFactory has all that a step uses; what it has not is kept for `check`.

    Args:
        step: name of a module beside this one. Its `NEEDS` is: path of something of LlamaFactory's (an attribute, or
            the key of a table) → the parameters it must take (every other must have a default), None for whatever is
            no function.
        alone: models train and answer without this step, so what is missing is only said.
    """
    try:
        needs = importlib.import_module(f".{step}", __package__).NEEDS
    except (ImportError, AttributeError) as error:  # what it imports or inherits from is gone
        found = [one_line(error)]
    else:
        found = [said for path, parameters in needs.items() for said in _fault(path, parameters)]
    if found and alone:
        logger.warning("adcopilot: this LlamaFactory lacks %s, so %s is left out", ", ".join(found[:3]), step)
    elif found:
        _lacking[step] = found
    return not found


def _fault(path: str, parameters: tuple[str, ...] | None) -> list[str]:
    module_name, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for name in names.split("."):
            found = found[name] if isinstance(found, dict) else getattr(found, name)
        has = {} if parameters is None else inspect.signature(inspect.unwrap(found)).parameters
    except (ImportError, AttributeError, KeyError, TypeError, ValueError):  # the last two: not a function any more
        return [f"{module_name}.{names}"]
    if parameters is None:
        return []
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in has.values())
    absent = [name for name in parameters if name not in has and not open_ended]
    known = (*parameters, "self", "cls")
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [name for name, one in has.items() if one.default is one.empty and one.kind not in starred]
    faults = [f"the parameter {name} of {module_name}.{names}" for name in absent]
    return faults + [f"{module_name}.{names} without {name}" for name in required if name not in known]


def register(parser) -> None:
    """Wrap what reads the settings of a command, which refuses AD-Copilot's model where something is missing.

    Args:
        parser: `llamafactory.hparams.parser`.
    """
    for name in READERS:
        if hasattr(parser, name):
            wrap_once(parser, name, _checked)


def _checked(read):
    def wrapped(*args, **kwargs):
        found = read(*args, **kwargs)
        by_kind = {type(one).__name__: one for one in found}
        check(by_kind.get("ModelArguments"), by_kind.get("DataArguments"))
        return found

    return wrapped


def check(model_args, data_args) -> None:
    """Refuse AD-Copilot's model, or its template, with a LlamaFactory that lacks something.

    Args:
        model_args, data_args: LlamaFactory's; None where a command has none.

    Raises:
        UserError: naming what is missing.
    """
    if not _is_ours(model_args, data_args):
        return
    for name in STEPS:  # the commands import these sooner or later, and some only after the settings are read
        if name not in WHEN_IMPORTED:
            try:
                importlib.import_module(name)
            except ImportError as error:
                if not str(error.name).startswith("llamafactory"):
                    raise
                gone = isinstance(error, ModuleNotFoundError)
                _lacking[name] = [f"the module {error.name}" if gone else one_line(error)]
    if not _lacking:
        return
    from llamafactory.extras.env import VERSION

    faults = [fault for faults in _lacking.values() for fault in faults]
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    raise UserError(
        f"adcopilot {__version__} cannot work with LlamaFactory {VERSION}, which lacks {', '.join(faults[:3])}{more}: "
        f"take a newer adcopilot, or LlamaFactory {TRIED} in an environment of its own; other models are not touched, "
        f"and {OFF_SWITCH}=0 turns adcopilot off"
    )


def _is_ours(model_args, data_args) -> bool:
    from .matching import model_type_of

    if getattr(data_args, "template", None) == MODEL_TYPE:
        return True
    try:
        return model_type_of(model_args) == MODEL_TYPE
    except AttributeError:  # settings that name a model in another way: nothing is known about it
        return False
