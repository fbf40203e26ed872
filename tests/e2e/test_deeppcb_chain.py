"""Real images through the chain with the stock CLI: build, init, stages 0 to 2, export, standalone load, inspect."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.forward, pytest.mark.timeout(900)]

# Pairs of boards; at this number two passes are about three dozen steps.
SOURCES = 10
QUERIES = "comparison_queries"

# What a machine without this package does: nothing of it can be imported, and the entry points that torch would load
# from its installed metadata are left alone.
STANDALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "adcopilot":
            raise ModuleNotFoundError(f"blocked {name}", name=name)

sys.meta_path.insert(0, Blocker())
model_dir, template, query, output = sys.argv[1:]

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(model_dir, trust_remote_code=True, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(model_dir, trust_remote_code=True)
content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Is there a defect?"}]
text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
images = [Image.open(path).convert("RGB") for path in (template, query)]
inputs = processor(text=[text], images=images, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
assert "adcopilot" not in sys.modules
save_file({"logits": logits.contiguous(), "input_ids": inputs["input_ids"]}, output)
"""


# What the two commands run.
MAINS = {
    "adcopilot": "import sys; from adcopilot.cli import main; sys.exit(main())",
    "llamafactory-cli": "import sys; from llamafactory.cli import main; sys.exit(main())",
}


def call(*command, nursery=None, **environment):
    """Run a command of this environment; its output is shown when it fails.

    With the tests' nursery it is a fork that had torch and transformers imported: as every command starts in the same
    way, one of each kind from a fresh interpreter is enough.
    """
    command = [str(word) for word in command]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    if nursery:
        done = nursery.run(*command[1:], code=MAINS[command[0]], env=environment, timeout=900)
    else:
        if "/" not in command[0]:
            command[0] = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def chain(nursery, tmp_path_factory, deeppcb_root, project_root):
    """The folder with `data`, `base`, `stage0`, `stage1`, `stage2` and `merged`."""
    folder = tmp_path_factory.mktemp("chain")
    data = folder / "data"
    # Mostly defective: after so few steps the model says what is usual, and that it writes boxes is to be seen.
    options = {"crop": 112, "limit": SOURCES, "normal_ratio": 0.25}
    words = [f"options.{key}={value}" for key, value in options.items()] + [f"root={deeppcb_root}"]
    words = [word for setting in words for word in ("--set", f"defaults.{setting}")]
    call("adcopilot", "data", "build", project_root / "examples/data/deeppcb.yaml", "--output", data, *words)
    call("adcopilot", "init", "--preset", "tiny", "--output", folder / "base", nursery=nursery)
    sources = {
        0: [f"model_name_or_path={folder / 'base'}"],
        1: [f"model_name_or_path={folder / 'stage0'}"],
        2: [f"model_name_or_path={folder / 'stage0'}", f"adapter_name_or_path={folder / 'stage1'}"],
    }
    environment = {"HF_DATASETS_CACHE": str(folder / "cache")}
    for stage, model in sources.items():
        overrides = [*model, f"output_dir={folder / f'stage{stage}'}", f"dataset_dir={data}", f"media_dir={data}"]
        overrides += [f"dataset=deeppcb_stage{stage}", "num_train_epochs=2", "per_device_train_batch_size=8"]
        overrides += ["logging_steps=1", "preprocessing_num_workers=null", f"image_max_pixels={56 * 56}"]
        call(
            "llamafactory-cli",
            "train",
            project_root / f"examples/train/tiny/stage{stage}.yaml",
            *overrides,
            nursery=nursery if stage else None,
            **environment,
        )
    adapters = f"adapter_name_or_path={folder / 'stage1'},{folder / 'stage2'}"
    call("llamafactory-cli", "export", project_root / "examples/export/tiny.yaml", sources[1][0], adapters,
         f"export_dir={folder / 'merged'}", nursery=nursery, **environment)  # fmt: skip
    return folder


def weights(folder, name="model*.safetensors"):
    """All tensors of a folder's shards."""
    from safetensors.torch import load_file

    return {key: value for path in sorted(folder.glob(name)) for key, value in load_file(path).items()}


def first_test_pair(data):
    """The images of the first anomalous test record."""
    records = [json.loads(line) for line in (data / "deeppcb_test.jsonl").read_text().splitlines()]
    return next([data / name for name in record["images"]] for record in records if record["anomalous"])


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_loss_falls(chain, stage):
    lines = [json.loads(line) for line in (chain / f"stage{stage}" / "trainer_log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    # The two passes see the same samples, so their means are comparable; single batches are not.
    first = [line["loss"] for line in lines if line["epoch"] <= 1]
    second = [line["loss"] for line in lines if line["epoch"] > 1]
    assert len(first) == len(second) >= 12
    assert sum(second) < sum(first), (first, second)


def test_stage_0_changed_the_comparison_encoder_and_nothing_else(chain):
    before, after = weights(chain / "base"), weights(chain / "stage0")
    assert before.keys() == after.keys()
    changed = {name for name in before if not after[name].equal(before[name].to(after[name].dtype))}
    encoder = {name for name in before if ".comparison_encoder." in f".{name}"}
    assert changed == encoder
    assert any(QUERIES in name for name in encoder)


def test_merged_model_has_the_queries_that_stage_2_trained(chain):
    adapter = weights(chain / "stage2", "adapter_model.safetensors")
    (trained,) = [value for name, value in adapter.items() if QUERIES in name]
    merged, before = weights(chain / "merged"), weights(chain / "stage0")
    (name,) = [name for name in merged if QUERIES in name]
    assert merged[name].float().equal(trained.float())
    assert not merged[name].float().equal(before[name].float())
    assert not any("lora" in name for name in merged)


def test_export_loads_without_the_package_and_gives_the_same_logits(chain, tmp_path):
    import torch
    from PIL import Image

    from adcopilot.model import AdCopilotForConditionalGeneration, AdCopilotProcessor

    template, query = first_test_pair(chain / "data")
    script = tmp_path / "standalone.py"
    script.write_text(STANDALONE)
    bare = {
        "ADCOPILOT_PLUGIN": "0",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
    }
    call(sys.executable, script, chain / "merged", template, query, tmp_path / "out.safetensors", **bare)
    alone = weights(tmp_path, "out.safetensors")

    model = AdCopilotForConditionalGeneration.from_pretrained(chain / "merged", dtype=torch.float32).eval()
    processor = AdCopilotProcessor.from_pretrained(chain / "merged")
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Is there a defect?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = [Image.open(path).convert("RGB") for path in (template, query)]
    inputs = processor(text=[text], images=images, return_tensors="pt")
    assert (inputs["input_ids"] == model.config.comparison_token_id).sum() == 2 * processor.num_comparison_tokens
    assert inputs["input_ids"].equal(alone["input_ids"])
    with torch.no_grad():
        assert model(**inputs).logits.equal(alone["logits"])


def test_inspect_prints_boxes_inside_the_image(nursery, chain, tmp_path):
    from PIL import Image

    from adcopilot.images import image_size

    records = [json.loads(line) for line in (chain / "data" / "deeppcb_test.jsonl").read_text().splitlines()]
    for number, record in enumerate(records[:16]):
        for role, name in zip(("template", "query"), record["images"], strict=True):
            (tmp_path / role).mkdir(exist_ok=True)
            # As large as training has shown them.
            Image.open(chain / "data" / name).resize((56, 56)).save(tmp_path / role / f"{number}.png")
    folders = ["--template-dir", tmp_path / "template", "--query-dir", tmp_path / "query"]
    words = ["--model", chain / "merged", *folders, "--json", "--device", "cpu"]
    printed = call("adcopilot", "inspect", *words, nursery=nursery)
    lines = [json.loads(line) for line in printed.splitlines()]
    assert len(lines) == 16
    for line in lines:
        assert Path(line["query"]).name == Path(line["template"]).name
        assert 0 <= line["score"] <= 1
        assert isinstance(line["anomalous"], bool)
        width, height = image_size(line["query"])
        for box in line["boxes"]:
            x1, y1, x2, y2 = box["bbox_2d"]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
    assert any(line["boxes"] for line in lines)
