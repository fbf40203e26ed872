"""`adcopilot <command>`: one entry point for every tool of this package.

A command is a line in `commands.COMMANDS`. Its module is imported only when it is used, so `adcopilot --help` needs
neither torch nor transformers. It provides

    add_arguments(parser)      adds its options to an argparse parser
    run(args) -> int | None    does the work; the exit code, None meaning 0
"""

import argparse
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..errors import UserError, os_reason
from .commands import COMMANDS, EXTRAS, GROUPS, LLAMAFACTORY, RETIRED
from .saying import is_verbose, loudness

VERBOSE = "also say what libraries log, how long it took, and where an error came from"
QUIET = "say nothing on stderr but errors"


class StoreOnce(argparse.Action):
    """argparse's "store" for an option that is an error when it is given twice, instead of the last one silently.

    `parser.register("action", None, StoreOnce)` makes it the action of all options that name none.
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """As argparse's."""
        given = getattr(self, "given", None) if self.option_strings else None
        if given is not None:
            raise argparse.ArgumentError(self, f"given twice, {given[0]} and {values}; expected once")
        self.given = [values]
        setattr(namespace, self.dest, values)


class StoreSourceOnce(StoreOnce):
    """`StoreOnce` of options that name files, folders or the model. Of the others the last counts, so that a script
    may end in `"$@"`."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """As argparse's."""
        if self.type is Path or self.dest == "model":
            super().__call__(parser, namespace, values, option_string)
        else:
            setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """argparse, with errors as the one line `error: …` that all of this package's errors are, with `StoreSourceOnce`
    where an option names no action, with `-v` and `-q`, and with an example at the end of its help."""

    def __init__(self, *args, example: str | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.register("action", None, StoreSourceOnce)
        self.example = example
        says = self.add_mutually_exclusive_group()
        says.add_argument("-v", "--verbose", action="store_const", const="verbose", dest="loudness", help=VERBOSE)
        says.add_argument("-q", "--quiet", action="store_const", const="quiet", dest="loudness", help=QUIET)

    def error(self, message: str) -> NoReturn:
        """Leave with code 2 and one line that says what is wrong and where help is."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")

    def format_help(self) -> str:
        """argparse's, and the example."""
        return super().format_help() + (f"\nexample:\n  {self.example}\n" if self.example else "")


def make_parser(name: str) -> Parser:
    """The parser of a command, whose module is imported."""
    parser = Parser(prog=f"adcopilot {name}", description=COMMANDS[name].help, example=COMMANDS[name].example)
    importlib.import_module(COMMANDS[name].module).add_arguments(parser)
    return parser


def _children(prefix: str) -> dict[str, str]:
    """The words that may follow `prefix` ("" at the top, "data", …) with their help, in the table's order."""
    depth = len(prefix.split())
    found: dict[str, str] = {}
    for name, command in COMMANDS.items():
        words = name.split()
        if words[:depth] == prefix.split() and len(words) > depth:
            path = " ".join(words[: depth + 1])
            found[words[depth]] = command.help if path in COMMANDS else GROUPS[path]
    return found


def _help(prefix: str) -> str:
    """What `adcopilot` or one of its groups prints when it is asked for help."""
    children = _children(prefix)
    width = max(map(len, children))
    lines = [f"usage: {' '.join(['adcopilot', *prefix.split()])} <command> …", ""]
    if prefix:
        lines += [GROUPS[prefix], ""]
    else:
        lines += ["AD-Copilot: compare an image with a template of a good part, beside LlamaFactory.", ""]
    lines += ["commands:", *(f"  {word:<{width}}  {text}" for word, text in children.items()), ""]
    if not prefix:
        lines += ["training, export, chat and serving go through `llamafactory-cli`, see examples/README.md", ""]
        lines += ["options:", "  -h, --help     this text, or a command's own: `adcopilot <command> --help`"]
        lines += ["  --version      the version", f"  -v, --verbose  {VERBOSE}", f"  -q, --quiet    {QUIET}", ""]
    name = next(name for name in COMMANDS if name.startswith(prefix or "inspect"))
    return "\n".join([*lines, "example:", f"  {COMMANDS[name].example}", ""])


def _unknown(word: str, prefix: str) -> str:
    """The error for a word that no command begins with, naming what was probably meant."""
    children = _children(prefix)
    where = " ".join(["adcopilot", *prefix.split()])
    # Somebody may also have left out the group, as in `adcopilot magicbrush`.
    full = {name.split()[-1]: name for name in COMMANDS}
    close = difflib.get_close_matches(word, [*children, *full], n=1, cutoff=0.5)
    if close:
        best = f"{where} {close[0]}" if close[0] in children else f"adcopilot {full[close[0]]}"
        return f"{where}: no command {word!r}; did you mean `{best}`?"
    return f"{where}: no command {word!r}; there are: {', '.join(children)}"


def _find(argv: Sequence[str]) -> tuple[str, list[str]] | str:
    """Split a command line into its command and that command's own arguments.

    Returns `(name, rest)`, or the text to print when help or the version is asked for.

    Raises:
        UserError: there is no such command here.
    """
    prefix, loud = "", []
    for position, word in enumerate(argv):
        if word in ("-v", "--verbose", "-q", "--quiet"):
            loud.append(word)
            continue
        if word in ("-h", "--help"):
            return _help(prefix)
        if word == "--version" and not prefix:
            return f"adcopilot {__version__}\n"
        path = f"{prefix} {word}".strip()
        if path in RETIRED:
            raise UserError(f"adcopilot {path}: type `{RETIRED[path]}` instead; docs/data.md has the recipe's keys")
        if path in COMMANDS:
            return path, [*loud, *argv[position + 1 :]]
        if path in LLAMAFACTORY:
            typed = " ".join(["llamafactory-cli", word, *(argv[position + 1 :] or LLAMAFACTORY[word].split())])
            raise UserError(f"adcopilot {word}: that is LlamaFactory's, with this plugin; type `{typed}`")
        if path not in GROUPS:
            raise UserError(_unknown(word, prefix))
        prefix = path
    return _help(prefix)


def _dispatch(argv: Sequence[str]) -> int:
    """Run the command that `argv` names, as `main` does, without catching anything but missing packages."""
    found = _find(argv)
    if isinstance(found, str):
        sys.stdout.write(found)
        return 0
    name, rest = found
    try:
        # Intermixed: a remedy such as `image_max_pixels=401408` is typed at the end of the line, behind options.
        args = make_parser(name).parse_intermixed_args(rest)
        with loudness(vars(args).pop("loudness")):
            try:
                return importlib.import_module(COMMANDS[name].module).run(args) or 0
            except (UserError, OSError):
                if is_verbose():
                    import traceback

                    traceback.print_exc()
                raise
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if not package or importlib.util.find_spec(package):
            raise  # the package is there but broken, or is this one: that deserves its traceback
        from .installed import install_line

        raise UserError(
            f"adcopilot {name}: needs the package {package!r}, which is not installed; "
            f"`{install_line(EXTRAS.get(package, 'train'))} brings it"
        ) from missing


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `adcopilot`; those of the process when None.

    Returns:
        0 on success, 2 after a mistake of the user's or where the disk gave out (one line on stderr), 130 after
        Ctrl-C, 141 when the reader of the output went away (`adcopilot … | head`), or what the command returned.
    """
    try:
        code = _dispatch(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()  # here, so that a closed pipe is noticed here
        return code
    except UserError as error:
        # One line, whatever a message quotes from elsewhere.
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Python flushes stdout once more as it exits; let that go nowhere instead of failing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # A disk that is full, read-only or gone, a folder without rights: nothing that a traceback would explain.
        print("error:", " ".join(os_reason(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
