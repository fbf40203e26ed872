"""`adcopilot <command>`: one entry point for every tool of this package.

A command is a line in `COMMANDS`: its words, the module that implements it, one line of help. The module is imported
only when its command is used, so `adcopilot --help` needs neither torch nor transformers. It provides

    add_arguments(parser)      adds its options to an argparse parser
    run(args) -> int | None    does the work; the exit code, None meaning 0
"""

import argparse
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from . import __version__
from .errors import UserError, os_reason


class Command(NamedTuple):
    """Where a command lives (`module`, absolute) and what it does (`help`, one line)."""

    module: str
    help: str


#: Where training data is made (data/chat_ad); imported by name when it is asked for.
CHAT_AD = "adcopilot.chat_ad"
#: Where models are measured (evaluation/benchmarks); each line of it here is a benchmark that `eval report` shows.
BENCHMARKS = "adcopilot.evaluation.benchmarks"

COMMANDS: Mapping[str, Command] = {
    "init": Command("adcopilot.model.init_command", "make a checkpoint: tiny from nothing, or from a Qwen2.5-VL base"),
    "transfer": Command("adcopilot.model.transfer_command", "put a trained comparison encoder into another base size"),
    "check": Command("adcopilot.model.check_command", "ask a model folder what it was asked when it was written"),
    "refresh": Command("adcopilot.model.refresh_command", "put today's code beside a model's weights"),
    "inspect": Command("adcopilot.inspect.command", "compare query images with templates: verdict, boxes, pictures"),
    "adapt": Command(f"{CHAT_AD}.adapt.command", "from your folder of pictures to a calibrated line"),
    "calibrate": Command("adcopilot.line.calibrate", "a threshold for your parts, and how right it is"),
    "demo": Command("adcopilot.demo.command", "a web page: two pictures, an answer, a score, boxes; whole folders"),
    "data sample": Command("adcopilot.sample.command", "write the sample set that this package draws itself"),
    "data build": Command(f"{CHAT_AD}.commands.build", "from a recipe to the files of a training stage"),
    "data report": Command(f"{CHAT_AD}.report.report", "write a page about training data, with a gallery"),
    "data register": Command(f"{CHAT_AD}.commands.register", "check a file of records and register it"),
    "data convert clevr-change": Command(f"{CHAT_AD}.general.clevr_change", "CLEVR-Change: scenes that change"),
    "data convert magicbrush": Command(f"{CHAT_AD}.general.magicbrush", "MagicBrush: edited photographs"),
    "data convert spot-the-diff": Command(f"{CHAT_AD}.general.spot_the_diff", "Spot-the-diff: camera frames"),
    "data convert pixmo-cap": Command(f"{CHAT_AD}.general.pixmo_cap", "PixMo-cap: detailed descriptions"),
    "data convert m4-instruct": Command(f"{CHAT_AD}.general.m4_instruct", "M4-Instruct: several images"),
    "data convert llava-mix": Command(f"{CHAT_AD}.general.llava_mix", "LLaVA-1.5's instruction mixture"),
    "data convert olmo-sft": Command(f"{CHAT_AD}.general.olmo_sft", "OLMo 2's instruction mixture, text only"),
    "eval mmad": Command(f"{BENCHMARKS}.mmad.command", "MMAD: seven sub-tasks, four datasets, F1 (Table II)"),
    "eval mmad-bbox": Command(f"{BENCHMARKS}.mmad_bbox.command", "MMAD-BBox: boxes against masks (Table III)"),
    "eval unipcb": Command(f"{BENCHMARKS}.unipcb.command", "UniPCB: inspection of circuit boards (Table IV)"),
    "eval caption": Command(f"{BENCHMARKS}.captions.command", "captions of what has changed (Table V)"),
    "eval records": Command(f"{BENCHMARKS}.records.command", "your own labelled records, by task"),
    "eval attention": Command(f"{BENCHMARKS}.attention.command", "attention to comparison tokens (Figure 6)"),
    "eval report": Command("adcopilot.evaluation.report.command", "runs as the paper's tables, plots and a gallery"),
    "grpo": Command("adcopilot.grpo.command", "stage 3: reinforcement learning with verifiable rewards"),
    "rollouts": Command("adcopilot.grpo.rollout_page", "write a page about what a GRPO policy wrote and earned"),
    "preflight": Command("adcopilot.llamafactory.preflight", "name the samples that a training YAML cannot fit"),
}

#: Commands of earlier versions, and what to type instead.
RETIRED: Mapping[str, str] = {
    "data index": "adcopilot data build RECIPE.yaml --output DIR --until index",
    "data filter": "adcopilot data build RECIPE.yaml --output DIR --until select",
    "data leaks": "adcopilot data build RECIPE.yaml --output DIR --until select --set against=[FOLDER]",
    "data pair": "adcopilot data build RECIPE.yaml --output DIR --until pair",
    "data convert deeppcb": "adcopilot data build examples/data/deeppcb.yaml --output data/deeppcb",
}

GROUPS: Mapping[str, str] = {
    "data": "make and convert training data",
    "data convert": "turn public datasets into training data",
    "eval": "measure any model on industrial anomaly detection benchmarks",
}


# Which of the distribution's extras brings a package (by its import name) that a command may miss; else `train`.
EXTRAS: Mapping[str, str] = {
    "bert_score": "eval",
    "faiss": "data",
    "gradio": "web",
    "h5py": "data",
    "httpx": "data",
    "imagehash": "data",
    "jinja2": "data",
    "matplotlib": "data",
    "pyarrow": "data",
    "pycocoevalcap": "eval",
    "pycocotools": "data",
    "pydantic": "data",
    "ray": "ray",
    "scipy": "data",
    "sentence_transformers": "eval",
    "yaml": "data",
}


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
    """argparse, with errors as the one line `error: …` that all of this package's errors are, and with
    `StoreSourceOnce` where an option names no action."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.register("action", None, StoreSourceOnce)

    def error(self, message: str) -> NoReturn:
        """Leave with code 2 and one line that says what is wrong and where help is."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


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
        lines += ["options:", "  -h, --help  this text, or a command's own: `adcopilot <command> --help`"]
        lines += ["  --version   the version", ""]
    return "\n".join(lines)


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
        UserError: there is no such command.
    """
    prefix = ""
    for position, word in enumerate(argv):
        if word in ("-h", "--help"):
            return _help(prefix)
        if word == "--version" and not prefix:
            return f"adcopilot {__version__}\n"
        path = f"{prefix} {word}".strip()
        if path in RETIRED:
            raise UserError(f"adcopilot {path}: type `{RETIRED[path]}` instead; docs/data.md has the recipe's keys")
        if path in COMMANDS:
            return path, list(argv[position + 1 :])
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
    command = COMMANDS[name]
    try:
        module = importlib.import_module(command.module)
        parser = Parser(prog=f"adcopilot {name}", description=command.help)
        module.add_arguments(parser)
        # Intermixed: a remedy such as `image_max_pixels=401408` is typed at the end of the line, behind options.
        return module.run(parser.parse_intermixed_args(rest)) or 0
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if not package or importlib.util.find_spec(package):
            raise  # the package is there but broken, or is this one: that deserves its traceback
        extra = EXTRAS.get(package, "train")
        raise UserError(
            f"adcopilot {name}: needs the package {package!r}, which is not installed; "
            f"`pip install 'adcopilot[{extra}]'` brings it"
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


if __name__ == "__main__":
    sys.exit(main())
