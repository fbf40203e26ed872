"""Training runs of the project's own YAMLs at toy size: a random model, a handful of samples of random images."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STAGES = (0, 1, 2)
SIZES = ("tiny", "7b")

#: What every test changes of a YAML: it runs on a CPU, in float32 so that numbers can be compared, and in a few steps.
ON_A_CPU = {
    "use_cpu": True,
    "bf16": False,
    "flash_attn": "disabled",
    "image_max_pixels": 65536,
    "preprocessing_num_workers": 1,
    "dataloader_num_workers": 0,
    "logging_steps": 1,
    "disable_tqdm": True,
}


def read_yaml(size: str, stage: int) -> dict:
    return yaml.safe_load((EXAMPLES / "train" / size / f"stage{stage}.yaml").read_text("utf-8"))


def write_samples(folder: Path, images_of_samples: tuple[int, ...]) -> dict:
    """A data set in which sample i has images_of_samples[i] images of random pixels; returns a YAML's keys for it."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(7)
    lines = []
    for index, number in enumerate(images_of_samples):
        names = []
        for image in range(number):
            names.append(f"{index}-{image}.png")
            height, width = pixels.integers(2, 4, 2) * 28
            Image.fromarray(pixels.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / names[-1])
        question = "<image>" * number + "Is there a defect?"
        answer = f"No. {index}" if index % 2 else f"Yes, at the left edge: {index}"
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages, "images": names}))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    info = {"samples": {"file_name": "samples.jsonl", "formatting": "sharegpt", "columns": columns, "tags": tags}}
    (folder / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    return {"dataset": "samples", "dataset_dir": str(folder), "media_dir": str(folder)}


@pytest.fixture(scope="session")
def mixed_samples(tmp_path_factory) -> dict:
    """Sixteen samples by turns of text alone and of two images, with single images in between."""
    return write_samples(tmp_path_factory.mktemp("training") / "data", (0, 2, 0, 2, 1, 2, 0, 1) * 2)


def train(size: str, stage: int, **changes) -> list[dict]:
    """One stage in this process, without DeepSpeed; returns the trainer's log, one entry a step."""
    from llamafactory.train.tuner import run_exp

    args = {**read_yaml(size, stage), **ON_A_CPU, **changes}
    args.pop("deepspeed", None)
    run_exp(args)
    return steps_of(args["output_dir"])


def export(**args) -> None:
    from llamafactory.train.tuner import export_model

    export_model({**yaml.safe_load((EXAMPLES / "export/tiny.yaml").read_text("utf-8")), **args})


def train_all(folder: Path, base, common: dict) -> str:
    """Stages 0, 1, 2 and the export, from the tiny YAMLs, in `stage0` to `stage2` and `merged`, whose path it is."""
    stage0, stage1, stage2, merged = (str(folder / name) for name in ("stage0", "stage1", "stage2", "merged"))
    train("tiny", 0, model_name_or_path=str(base), output_dir=stage0, **common)
    train("tiny", 1, model_name_or_path=stage0, output_dir=stage1, **common)
    train("tiny", 2, model_name_or_path=stage0, adapter_name_or_path=stage1, output_dir=stage2, **common)
    export(model_name_or_path=stage0, adapter_name_or_path=f"{stage1},{stage2}", export_dir=merged)
    return merged


def command_line(*words, processes: int | None = None, env: dict | None = None, **changes):
    """`llamafactory-cli …` as a user calls it; with `processes`, under torchrun. Returns subprocess's result."""
    binaries = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", **(env or {})}
    if processes:
        env |= {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(processes), "DS_ACCELERATOR": "cpu"}
    options = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in changes.items()]
    command = [shutil.which("llamafactory-cli", path=env["PATH"]), *map(str, words), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A session of its own, so that a run which hangs can be ended as a whole; torchrun passes SIGTERM on to its ranks.
    with subprocess.Popen(command, env=env, cwd=EXAMPLES.parent, start_new_session=True, **pipes) as process:
        try:
            output, _ = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output)


def steps_of(output_dir) -> list[dict]:
    history = json.loads((Path(output_dir) / "trainer_state.json").read_text("utf-8"))["log_history"]
    return [entry for entry in history if "loss" in entry]


def asked(folder, images: list):
    """A question about images, as the model takes it from the processor saved in `folder`."""
    from adcopilot.model import AdCopilotProcessor

    processor = AdCopilotProcessor.from_pretrained(folder)
    content = [*[{"type": "image"}] * len(images), {"type": "text", "text": "Is there a defect?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    return processor(text=[text], images=images or None, return_tensors="pt")


def logits_of(model, folder, samples: dict) -> list:
    """The model's logits at every token of each sample's question, through the processor saved in `folder`."""
    import torch

    model.eval()
    found = []
    for line in Path(samples["dataset_dir"], "samples.jsonl").read_text("utf-8").splitlines():
        images = [Image.open(Path(samples["media_dir"], name)) for name in json.loads(line)["images"]]
        with torch.no_grad():
            found.append(model(**asked(folder, images)).logits)
    return found
