"""Small images of parts, and an inspector whose model says something."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ..helpers.model_folders import change_json

NEW_TOKENS = 12


def part(seed: int = 0, *, size=(84, 56), defect: bool = False) -> Image.Image:
    """A noisy plate with a disc; `defect` adds a scratch."""
    noise = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise + 120)
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 10, size[0] // 2, size[1] - 10), fill=(40, 60 + 30 * (seed % 5), 160))
    if defect:
        draw.line((15, 15, size[0] - 20, size[1] - 15), fill="black", width=2)
    return image


@pytest.fixture
def inspect(run):
    """Runs `adcopilot inspect …`: (exit code, its JSON lines, stderr)."""

    def inspect(*words, model="none"):
        code, out, err = run("inspect", "--model", model, *words)
        return code, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err

    return inspect


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """Photographs of eight good parts and of three defective ones, in folders of their kinds. Not to be changed."""
    from adcopilot.sample.photographs import photographs

    return photographs(tmp_path_factory.mktemp("parts"), good=8, bad=3)


def defects(parts):
    """The photographs of defective parts."""
    return sorted(file for file in parts.glob("*/*.png") if file.parent.name not in ("good", "ground_truth"))


def llamafactory_of(folder, **limits):
    """What LlamaFactory loads of a folder, and its template."""
    pytest.importorskip("llamafactory")
    from adcopilot.llamafactory import register

    register()
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from llamafactory.model import load_tokenizer

    loaded = load_tokenizer(ModelArguments(model_name_or_path=str(folder), **limits))
    return loaded, get_template_and_fix_tokenizer(loaded["tokenizer"], DataArguments(template="adcopilot"))


@pytest.fixture
def folders(tmp_path):
    """Three templates and six queries (one in a subfolder), of sizes that need padding in one batch."""
    sizes = [(84, 56), (120, 90), (56, 56)]
    for index, size in enumerate(sizes):
        (tmp_path / "good").mkdir(exist_ok=True)
        part(index, size=size).save(tmp_path / "good" / f"{index}.png")
    for index in range(6):
        folder = tmp_path / "test" / ("deep" if index == 5 else "")
        folder.mkdir(parents=True, exist_ok=True)
        # Another photograph (of other noise) than any template.
        part(index + 15, size=sizes[index % 3], defect=index % 2 == 1).save(folder / f"{index}.png")
    return tmp_path


@pytest.fixture(scope="session")
def speaking_dir(adcopilot_dir, tmp_path_factory):
    """The small checkpoint with weights large enough that other images mean other answers."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("speaking") / "model"
    shutil.copytree(adcopilot_dir, folder)
    generator = torch.Generator().manual_seed(3)
    for file in sorted(folder.glob("*.safetensors")):
        weights = load_file(file)
        for name, weight in sorted(weights.items()):
            if weight.dim() > 1 and "embed" not in name:
                weight.normal_(std=0.15, generator=generator)
        save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def inspector(speaking_dir):
    from adcopilot.inspect.model_inspector import ModelInspector

    return ModelInspector(model=speaking_dir, device="cpu", max_new_tokens=NEW_TOKENS)


@pytest.fixture(scope="session")
def deciding_dir(speaking_dir, tmp_path_factory):
    """The same model with a head that knows two words: it answers Yes to some pictures and No to others, surely."""
    import shutil

    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("deciding") / "model"
    shutil.copytree(speaking_dir, folder)
    change_json(folder / "config.json", tie_word_embeddings=False, **{"text_config.tie_word_embeddings": False})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    file = folder / index["weight_map"]["model.language_model.norm.weight"]
    with safe_open(folder / index["weight_map"]["model.language_model.embed_tokens.weight"], framework="pt") as opened:
        head = torch.zeros_like(opened.get_tensor("model.language_model.embed_tokens.weight"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    direction = torch.randn(head.shape[1], generator=torch.Generator().manual_seed(5))
    for word, sign in (("Yes", 1), ("No", -1)):
        head[tokenizer.encode(word)[0]] = (sign * 4000 * direction).to(head.dtype)
    save_file({**load_file(file), "lm_head.weight": head}, file, metadata={"format": "pt"})
    index["weight_map"]["lm_head.weight"] = file.name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
