"""How the stock LlamaFactory comes to know AD-Copilot without a line of it changed.

LlamaFactory has no plugin mechanism, and `llamafactory-cli train` starts fresh interpreters (torchrun workers,
Ray actors, LlamaBoard's subprocess), so the registration has to happen in each process by itself. Importing torch
loads the entry points of the group `torch.backends`; this package declares one, `install`, which puts a finder in
front of `sys.meta_path`. When one of the LlamaFactory modules in `STEPS` has just been imported, its step registers
our part.

Why not a `.pth` file, the other way in: it runs in every Python process, torch or not; it is skipped where packages
are found through PYTHONPATH or `pip install --target`; neither wheels nor editable installs have a proper place for
it; and errors in it are printed and ignored. An entry point is plain package metadata: pip installs and removes it,
and both kinds of install carry it. Its one danger is that torch stops with an error when an entry point fails, so
`install` does nothing that can: it neither imports anything nor looks at LlamaFactory. (An editable install whose
folder was deleted does fail, and torch names `adcopilot` and the remedy.) LlamaFactory imports torch before any module
in `STEPS`.

    ADCOPILOT_PLUGIN=0                  leaves LlamaFactory as it is
    TORCH_DEVICE_BACKEND_AUTOLOAD=0     torch loads no entry points: call `adcopilot.llamafactory.register()` then

A step whose needs this LlamaFactory does not meet is left out, and AD-Copilot's own models are refused (`gate.py`).
Any other failure while registering is an error of the import that caused it.
"""

import functools
import importlib
import os
import sys

OFF_SWITCH = "ADCOPILOT_PLUGIN"

#: LlamaFactory module → the modules beside this one whose `register(module)` runs right after its import.
STEPS = {
    "llamafactory.data.template": ("template",),
    "llamafactory.data.loader": ("data_checks",),
    "llamafactory.hparams.parser": ("gate", "matching"),
    "llamafactory.model.model_utils.visual": ("composite",),
    "llamafactory.model.model_utils.checkpointing": ("checkpointing",),
    "llamafactory.model.loader": ("loader",),
    "llamafactory.train.tuner": ("export",),
    "llamafactory.chat.hf_engine": ("server_engine",),
    "llamafactory.api.chat": ("api",),
    "llamafactory.webui.components.infer": ("webui.webchat",),
    "llamafactory.webui.components.train": ("webui.board",),
    "llamafactory.v1.config.arg_parser": ("new_trainer",),
}
#: Among them what only LlamaFactory itself imports: not every program chats or trains, the pages need gradio, and
#: seconds, and the new trainer is another program. What is missing for these is said, and costs them alone.
WHEN_IMPORTED = (
    "llamafactory.train.tuner",
    "llamafactory.chat.hf_engine",
    "llamafactory.api.chat",
    "llamafactory.webui.components.infer",
    "llamafactory.webui.components.train",
    "llamafactory.v1.config.arg_parser",
)


def install() -> None:
    """Entry point of the group `torch.backends`: wait for LlamaFactory. Takes microseconds, cannot fail."""
    if is_switched_on():
        _wait()


def is_switched_on() -> bool:
    """Whether the environment leaves this package on."""
    return os.environ.get(OFF_SWITCH, "1").strip().lower() not in ("0", "false", "off", "no")


def register_now() -> None:
    """Import the modules of `STEPS` and run their steps, whether or not the hook was installed.

    The steps of `WHEN_IMPORTED` follow when LlamaFactory imports those modules; it must not have done so before.
    """
    _wait()
    for name in STEPS:
        if name not in WHEN_IMPORTED:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError:  # `gate.py` says so where it matters
                continue
            _run_steps(module)


def wrap_once(holder, name: str, wrap) -> None:
    """Put `wrap(original)` in the place of a function, under its name; one that is wrapped already stays as it is."""
    original = getattr(holder, name)
    if not hasattr(original, "adcopilot"):
        wrapped = functools.wraps(original)(wrap(original))
        wrapped.adcopilot = True
        setattr(holder, name, wrapped)


def _wait() -> None:
    if not any(type(finder) is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds nothing itself: has the other finders find a module of `STEPS`, and adds the steps to its loading."""

    def find_spec(self, name, path=None, target=None):
        if name not in STEPS:
            return None
        for finder in sys.meta_path:
            if type(finder) is _Finder or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _run_steps_after(spec.loader)
                return spec
        return None


def _run_steps_after(loader) -> None:
    # The loader stays the one that it is (tracebacks, inspect and pickle ask it things); only this instance is
    # changed, which serves this one module.
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        _run_steps(module)

    loader.exec_module = exec_module


def _run_steps(module) -> None:
    from . import gate

    _show_user_errors_as_one_line()
    for step in STEPS[module.__name__]:
        if gate.has_what_it_needs(step, alone=module.__name__ in WHEN_IMPORTED):
            importlib.import_module(f".{step}", __package__).register(module)


def _show_user_errors_as_one_line() -> None:
    """A mistake of the user ends the program with its one line, not with a traceback in front of it."""
    from ..errors import UserError

    show = sys.excepthook
    if getattr(show, "shows_user_errors", False):
        return

    def excepthook(kind, error, traceback):
        if issubclass(kind, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            show(kind, error, traceback)

    excepthook.shows_user_errors = True
    sys.excepthook = excepthook
