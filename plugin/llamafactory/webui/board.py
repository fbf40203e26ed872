"""LlamaBoard at the first try: the checkout's data sets are listed, their pictures found, and a CPU is told apart.

What is added to a run's settings shows in *Preview command* and is told on the page. Only runs with template
`adcopilot` get any; what is typed under *Extra arguments* stands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ...dataset_info import read_entries
from ...errors import UserError
from ..composite import MODEL_TYPE
from ..hook import wrap_once

#: Of a first record; a longer line is no record to look for pictures with.
MOST_BYTES = 1 << 20

#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.webui.components.train:DEFAULT_DATA_DIR": None,
    "llamafactory.webui.components.eval:DEFAULT_DATA_DIR": None,
    "llamafactory.webui.runner:Runner._parse_train_args": ("data",),
    "llamafactory.webui.runner:Runner._parse_eval_args": ("data",),
    "llamafactory.extras.misc:is_accelerator_available": (),
}


def register(train) -> None:
    """Have the board begin with the folder of this checkout's data sets, and runs with what they need.

    Args:
        train: `llamafactory.webui.components.train`, the last of the tabs that is imported.
    """
    from llamafactory.webui import runner
    from llamafactory.webui.components import eval as evaluate

    for tab in (train, evaluate):
        tab.DEFAULT_DATA_DIR = data_dir(tab.DEFAULT_DATA_DIR)
    wrap_once(runner.Runner, "_parse_train_args", _fitted)
    wrap_once(runner.Runner, "_parse_eval_args", _fitted)


def data_dir(default: str) -> str:
    """The folder that the board begins with: LlamaFactory's default, or this one where only it has registrations."""
    here = not Path(default, "dataset_info.json").is_file() and Path("dataset_info.json").is_file()
    return "." if here else default


def _fitted(parse):
    def wrapped(self, data):
        args = parse(self, data)
        if args.get("template") == MODEL_TYPE and (said := fit(args)):
            gr.Info(said)
        return args

    return wrapped


def fit(args: dict[str, Any]) -> str:
    """Add to a run's settings what this machine and its data sets need; returns what to say about it, or "".

    Args:
        args: LlamaFactory's settings of a run, changed in place.
    """
    from llamafactory.extras.misc import is_accelerator_available

    said = []
    if args.get("do_train") and not is_accelerator_available() and "use_cpu" not in args:
        args["use_cpu"] = True  # without it transformers refuses bf16, the board's own choice
        workers = min(args["preprocessing_num_workers"], os.cpu_count() or 1)
        said.append(f"no GPU here, so use_cpu is set and data are prepared by {workers} processes")
        args["preprocessing_num_workers"] = workers
    if "media_dir" not in args:
        names = [name for key in ("dataset", "eval_dataset") for name in (args.get(key) or "").split(",") if name]
        if (folder := pictures_of(args["dataset_dir"], names)) is not None:
            args["media_dir"] = folder
            said.append(f"the pictures are named from {folder}, so media_dir is set to it")
    return "; ".join(said)


def pictures_of(dataset_dir: str, names: Sequence[str]) -> str | None:
    """The folder that data sets name their pictures from, where it is another than `dataset_dir`.

    LlamaFactory looks in `dataset_dir` alone. Looked for is the first picture of each JSONL file, in the folders
    between the file and `dataset_dir`; None where it lies in `dataset_dir`, or in none of them: training says so then.
    """
    for name in names:
        try:
            entry = read_entries(Path(dataset_dir, "dataset_info.json"))[name]
            file = Path(dataset_dir, entry["file_name"])
            with open(file, "rb") as lines:
                first = json.loads(lines.readline(MOST_BYTES))
            picture = first[entry.get("columns", {}).get("images", "images")][0]
            places = [folder for folder in file.parents if folder.is_relative_to(dataset_dir)]
            found = [folder for folder in places if Path(folder, picture).is_file()]
        except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        if found and found[-1] != Path(dataset_dir):
            return str(found[-1])
    return None
