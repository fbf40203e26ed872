"""What can be typed after `adcopilot`: each command's module, help and example; and what is typed in place of what.

A command is a line in `COMMANDS`. Nothing is imported here, so that reading the table costs nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["COMMANDS", "EXTRAS", "GROUPS", "LLAMAFACTORY", "RETIRED", "Command"]


class Command(NamedTuple):
    """Where a command lives (`module`, absolute), what it does (`help`, one line), and how it is typed (`example`)."""

    module: str
    help: str
    example: str


#: Where training data is made (data/chat_ad); imported by name when it is asked for.
_CHAT_AD = "adcopilot.chat_ad"
_GENERAL = f"{_CHAT_AD}.general"
#: Where models are measured (evaluation/benchmarks); each line of it here is a benchmark that `eval report` shows.
_BENCHMARKS = "adcopilot.evaluation.benchmarks"
_SAMPLE = "data/sample/images/test_held_out/000/000001"

COMMANDS: Mapping[str, Command] = {
    "init": Command(
        "adcopilot.model.init_command",
        "make a checkpoint: tiny from nothing, or from a Qwen2.5-VL base",
        "adcopilot init --preset tiny --output saves/tiny/base",
    ),
    "transfer": Command(
        "adcopilot.model.transfer_command",
        "put a trained comparison encoder into another base size",
        "adcopilot transfer --model saves/7b/merged --base Qwen/Qwen2.5-VL-3B-Instruct --output saves/3b/transferred",
    ),
    "check": Command(
        "adcopilot.model.check_command",
        "ask a model folder what it was asked when it was written",
        "adcopilot check saves/tiny/merged",
    ),
    "refresh": Command(
        "adcopilot.model.refresh_command",
        "put today's code beside a model's weights",
        "adcopilot refresh saves/tiny/merged",
    ),
    "inspect": Command(
        "adcopilot.inspect.command",
        "compare query images with templates: verdict, boxes, pictures",
        f"adcopilot inspect --model none --template {_SAMPLE}_template.png --query {_SAMPLE}_query.png --draw out.png",
    ),
    "adapt": Command(
        f"{_CHAT_AD}.adapt.command",
        "from your folder of pictures to a calibrated line",
        "adcopilot adapt my_parts/bracket --output lines/bracket",
    ),
    "calibrate": Command(
        "adcopilot.line.calibrate",
        "a threshold for your parts, and how right it is",
        "adcopilot calibrate none --good my_parts/bracket/good --bad my_parts/bracket/scratch --output lines/bracket",
    ),
    "demo": Command(
        "adcopilot.demo.command",
        "a web page: two pictures, an answer, a score, boxes; whole folders",
        "adcopilot demo --model lines/bracket",
    ),
    "data sample": Command(
        "adcopilot.sample.command",
        "write the sample set that this package draws itself",
        "adcopilot data sample --output data/sample --prefix sample/ --count 60 --test-count 26 --rl 12",
    ),
    "data build": Command(
        f"{_CHAT_AD}.commands.build",
        "from a recipe to the files of a training stage",
        "adcopilot data build examples/data/my_parts.yaml --output data/my_parts",
    ),
    "data report": Command(
        f"{_CHAT_AD}.report.report",
        "write a page about training data, with a gallery",
        "adcopilot data report data/sample --media-dir data --output sample.html",
    ),
    "data register": Command(
        f"{_CHAT_AD}.commands.register",
        "check a file of records and register it",
        "adcopilot data register my_sample data/sample/stage1.jsonl --media-dir data",
    ),
    "data convert clevr-change": Command(
        f"{_GENERAL}.clevr_change",
        "CLEVR-Change: scenes that change",
        "adcopilot data convert clevr-change --root data/raw/clevr-change --output data/built",
    ),
    "data convert magicbrush": Command(
        f"{_GENERAL}.magicbrush",
        "MagicBrush: edited photographs",
        "adcopilot data convert magicbrush --root data/raw/MagicBrush --output data/built",
    ),
    "data convert spot-the-diff": Command(
        f"{_GENERAL}.spot_the_diff",
        "Spot-the-diff: camera frames",
        "adcopilot data convert spot-the-diff --root data/raw/spot-the-diff --output data/built --include-test",
    ),
    "data convert pixmo-cap": Command(
        f"{_GENERAL}.pixmo_cap",
        "PixMo-cap: detailed descriptions",
        "adcopilot data convert pixmo-cap --root data/raw/pixmo-cap --output data/built --download",
    ),
    "data convert m4-instruct": Command(
        f"{_GENERAL}.m4_instruct",
        "M4-Instruct: several images",
        "adcopilot data convert m4-instruct --root data/raw/M4-Instruct-Data --output data/built",
    ),
    "data convert llava-mix": Command(
        f"{_GENERAL}.llava_mix",
        "LLaVA-1.5's instruction mixture",
        "adcopilot data convert llava-mix --root data/raw/LLaVA-Instruct-150K --output data/built",
    ),
    "data convert olmo-sft": Command(
        f"{_GENERAL}.olmo_sft",
        "OLMo 2's instruction mixture, text only",
        "adcopilot data convert olmo-sft --root data/raw/olmo-2-sft --output data/built",
    ),
    "eval mmad": Command(
        f"{_BENCHMARKS}.mmad.command",
        "MMAD: seven sub-tasks, four datasets, F1 (Table II)",
        "adcopilot eval mmad --data-root MMAD --model saves/tiny/merged --output runs/mmad",
    ),
    "eval mmad-bbox": Command(
        f"{_BENCHMARKS}.mmad_bbox.command",
        "MMAD-BBox: boxes against masks (Table III)",
        "adcopilot eval mmad-bbox --data-root MMAD --model saves/tiny/merged --output runs/bbox",
    ),
    "eval unipcb": Command(
        f"{_BENCHMARKS}.unipcb.command",
        "UniPCB: inspection of circuit boards (Table IV)",
        "adcopilot eval unipcb --data-root UniPCB --model saves/tiny/merged --output runs/unipcb",
    ),
    "eval caption": Command(
        f"{_BENCHMARKS}.captions.command",
        "captions of what has changed (Table V)",
        "adcopilot eval caption --data-root omnidiff-real --model saves/tiny/merged --output runs/omnidiff",
    ),
    "eval records": Command(
        f"{_BENCHMARKS}.records.command",
        "your own labelled records, by task",
        "adcopilot eval records data/my_parts/Chat_my_parts_RL.jsonl --model saves/tiny/merged --output runs/mine",
    ),
    "eval attention": Command(
        f"{_BENCHMARKS}.attention.command",
        "attention to comparison tokens (Figure 6)",
        "adcopilot eval attention --data-root MMAD --model saves/tiny/merged --output runs/attention --quick 500",
    ),
    "eval report": Command(
        "adcopilot.evaluation.report.command",
        "runs as the paper's tables, plots and a gallery",
        "adcopilot eval report runs/mmad runs/bbox --against published --output runs/report",
    ),
    "grpo": Command(
        "adcopilot.grpo.command",
        "stage 3: reinforcement learning with verifiable rewards",
        "adcopilot grpo examples/grpo/tiny.yaml",
    ),
    "rollouts": Command(
        "adcopilot.grpo.rollout_page",
        "write a page about what a GRPO policy wrote and earned",
        "adcopilot rollouts saves/tiny/grpo",
    ),
    "preflight": Command(
        "adcopilot.llamafactory.preflight",
        "name the samples that a training YAML cannot fit",
        "adcopilot preflight examples/train/tiny/stage1.yaml",
    ),
    "examples": Command(
        "adcopilot.cli.examples",
        "copy the YAMLs of training, export, chat and data, and the sample set",
        "adcopilot examples --output my_project",
    ),
    "env": Command(
        "adcopilot.cli.env",
        "versions and hardware, for a report of a fault",
        "adcopilot env",
    ),
    "completion": Command(
        "adcopilot.cli.completion",
        "what lets a shell complete commands and options",
        "adcopilot completion bash > ~/.local/share/bash-completion/completions/adcopilot",
    ),
}

#: What LlamaFactory's own command does, and what is typed behind it when nothing else is.
LLAMAFACTORY: Mapping[str, str] = {
    "train": "examples/train/tiny/stage0.yaml",
    "export": "examples/export/tiny.yaml",
    "chat": "examples/chat/tiny.yaml",
    "webchat": "examples/chat/tiny.yaml",
    "webui": "",
    "api": "examples/api/tiny.yaml",
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

#: Which of the distribution's extras brings a package (by its import name) that a command may miss; else `train`.
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
    "shtab": "completion",
    "yaml": "data",
}
