"""Open a model folder for inference, or say in one line what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line
from ..files import read_json
from ..jsonl import content_key, file_digest
from ..model.check import FIXTURE
from ..prompts import INSPECT_QUESTION

__all__ = [
    "check_folder",
    "load_model",
    "make_ready",
    "model_digest",
    "near_folder",
    "pick_device",
    "pick_dtype",
    "read_config",
    "weight_files",
    "wider_dtype",
]

MODEL_TYPES = ("adcopilot", "qwen2_5_vl")
DTYPES = ("auto", "float32", "bfloat16", "float16")
INDEX_FILE = "model.safetensors.index.json"
_AGAIN = "download, copy or export the model again"
#: `line.inspection.FILE`, whose thresholds change verdicts and no answers.
INSPECTION = "inspection.json"


def check_folder(folder: Path) -> tuple[str, list[Path]]:
    """The `model_type` and the weight files of a model folder, without loading anything.

    Raises:
        UserError: no folder, not AD-Copilot or Qwen2.5-VL, no safetensors weights, or one of them is absent.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such model folder{near_folder(folder)}; give a folder that `adcopilot init`, "
            "`adcopilot adapt` or `llamafactory-cli export` wrote (a hub model: `hf download OWNER/NAME --local-dir "
            "DIR` first)"
        )
    model_type = read_config(folder).get("model_type")
    if model_type not in MODEL_TYPES:
        raise UserError(
            f"{folder / 'config.json'}: model_type is {model_type!r}, expected 'adcopilot' or 'qwen2_5_vl'; give "
            "another --model"
        )
    return model_type, weight_files(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a folder of any model.

    Raises:
        UserError: there is none, or it is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"{folder}: holds a LoRA adapter, expected a whole model; merge it first with "
                f"`llamafactory-cli export` (adapter_name_or_path: {folder})"
            )
        raise UserError(f"{file}: not found, expected a model's folder{near_folder(folder)}")
    return read_json(file, check=_AGAIN, again=_AGAIN, kind=dict)


def near_folder(folder: Path) -> str:
    """`; did you mean …?` from the folders of models and lines beside a path; a line of the map alone has no model."""
    try:
        beside = {path.parent.name for file in ("config.json", INSPECTION) for path in folder.parent.glob(f"*/{file}")}
    except OSError:
        return ""
    near = difflib.get_close_matches(folder.name, sorted(beside - {folder.name}), n=1)
    return f"; did you mean {folder.parent / near[0]}?" if near else ""


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder of any model, by name.

    Raises:
        UserError: there are none, one is absent, or their index names none.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        names = read_json(index, check=_AGAIN, again=_AGAIN, kind=dict).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise UserError(f"{index}: has no 'weight_map'; {_AGAIN}")
        files = [folder / name for name in sorted({*map(str, names.values())})]
        if odd := [name for name in files if name.parent != folder]:
            raise UserError(f"{index}: names {odd[0]}, expected a file beside it; {_AGAIN}")
    else:
        files = [folder / "model.safetensors"]
        if not files[0].is_file():
            raise UserError(
                f"{folder}: no weights, expected model.safetensors or {INDEX_FILE} (nothing else is read); {_AGAIN}"
            )
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: not found, but {INDEX_FILE} names it; {_AGAIN}")
    return files


def model_digest(folder: Path) -> str:
    """A digest of all that decides about a model's answers: weights, configuration, tokenizer, processor.

    Whole files are hashed (several at a time), so a model trained further in place is another model, and the same
    model copied elsewhere is the same. The fixture of `adcopilot check` decides about nothing.
    """
    files = [
        *check_folder(folder)[1],
        *sorted(file for pattern in ("*.json", "*.jinja", "*.txt") for file in folder.glob(pattern)),
    ]
    kept_out = ("_results.json", FIXTURE, INSPECTION)
    files = [file for file in files if "trainer" not in file.name and not file.name.endswith(kept_out)]
    return _digest_of(tuple(map(_stamped, files)))


def _stamped(file: Path) -> tuple[Path, int, int]:
    try:
        info = file.stat()
    except OSError:  # `file_digest` says what is wrong with it
        return file, 0, 0
    return file, info.st_size, info.st_mtime_ns


@cache
def _digest_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Of files as they were at a time: a line's model is asked for several times, and 7B has 17 GB."""
    paths = [file for file, _, _ in files]
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(file_digest, paths))
    return content_key([[file.name, digest] for file, digest in zip(paths, digests, strict=True)])


def pick_device(name: str) -> str:
    """`auto` is the first GPU if there is one, the CPU otherwise.

    Raises:
        UserError: there is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except Exception as error:  # torch raises RuntimeError, AssertionError or its own, by build and device
        reason = one_line(error)
        raise UserError(f"--device {name}: cannot be used ({reason}); try cpu, cuda or cuda:1") from None
    return name


def pick_dtype(name: str, device: str) -> str:
    """`auto` is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        UserError: another name.
    """
    if name not in DTYPES:
        raise UserError(f"--dtype is {name!r}, expected one of {', '.join(DTYPES)}")
    if name == "auto":
        return "float32" if device.startswith("cpu") else "bfloat16"
    return name


def load_model(
    folder: Path,
    *,
    device: str,
    dtype: str,
    attention: str,
    remedy: str | None = None,
    classes: tuple[type, type] | None = None,
) -> tuple[Any, Any]:
    """Model in evaluation mode on its device, and its processor (padding on the left, as generation wants).

    Args:
        folder: of the model.
        device, dtype: names that torch knows, none of them `auto`.
        attention: what transformers calls `attn_implementation`.
        remedy: what to type where weights overflow in `dtype`; by default the `--dtype` to give.
        classes: of model and processor, instead of the installed ones: a folder's own code.

    Raises:
        UserError: as `check_folder`; or the files are damaged, weights and configuration do not belong together, a
            weight is not finite, or the model cannot take the first step of an answer (`_try_out`).
    """
    model_type, files = check_folder(folder)  # before the slow imports
    import torch
    import transformers
    from transformers.integrations import is_deepspeed_zero3_enabled

    if classes:
        Model, Processor = classes
    elif model_type == "adcopilot":
        from ..model import AdCopilotForConditionalGeneration as Model
        from ..model import AdCopilotProcessor as Processor
    else:
        from transformers import Qwen2_5_VLForConditionalGeneration as Model
        from transformers import Qwen2_5_VLProcessor as Processor

    try:
        # The fast image processor, as in LlamaFactory's training: the slow one resizes a little differently. In
        # transformers 5 it is the default, and asking for it a warning.
        options = {"use_fast": True} if transformers.__version__.startswith("4.") else {}
        if classes:  # whoever gives them trusts the folder; transformers 5 would ask on the terminal
            options["trust_remote_code"] = True
        processor = Processor.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # transformers raises whatever its readers stumble on
        raise UserError(
            f"{folder}: its processor or tokenizer cannot be loaded ({one_line(error)}); export the model again"
        ) from error
    try:
        config = Model.config_class.from_pretrained(folder, local_files_only=True)
        # Folders that transformers 4 wrote say only in text_config that lm_head is tied; transformers 5 looks above.
        raw = read_config(folder)
        if (raw.get("text_config") or {}).get("tie_word_embeddings") and raw.get("tie_word_embeddings", True):
            config.tie_word_embeddings = True
        model, info = Model.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise UserError(f"{folder}: the model cannot be loaded ({one_line(error)})") from error
    model = make_ready(
        model,
        processor,
        name=str(folder),
        absent=info["missing_keys"],
        device=device,
        remedy=remedy or wider_dtype(dtype),
        files=files,
    )
    if not is_deepspeed_zero3_enabled():  # there the weights are in pieces until the trainer has them
        _try_out(model, processor, folder=folder)
    return model, processor


def make_ready(
    model: Any,
    processor: Any,
    *,
    name: str,
    absent: Iterable[str],
    device: str,
    remedy: str,
    files: Iterable[Path],
) -> Any:
    """What transformers has loaded in evaluation mode on its device, its tokenizer padding on the left.

    Args:
        model, processor: transformers'.
        name: of the model, for messages.
        absent: the weights that its files do not have.
        remedy: what to type where weights overflow.
        files: the safetensors files it was read from.

    Raises:
        UserError: weights are missing or not finite, or there is no chat template.
    """
    from ..finite import check_weights

    absent = sorted(absent)
    if absent:  # transformers would fill them with random numbers and go on
        raise UserError(
            f"{name}: {len(absent)} weights are missing, {absent[0]} for one; weights and config.json are of "
            "different models: export the model again"
        )
    if not getattr(processor, "chat_template", None) and not processor.tokenizer.chat_template:
        raise UserError(f"{name}: has no chat template (chat_template.jinja); copy it from the base model")
    processor.tokenizer.padding_side = "left"
    model = model.to(device).eval()
    check_weights(model, name=name, remedy=remedy, files=files)
    return model


def _try_out(model, processor, *, folder: Path) -> None:
    """Let a model take the first step of an answer about two grey pictures: what its JSON files say (a patch size of
    0, tokens of another model, a mean of NaN) is looked at by nobody before it is used, and then in a batch of
    somebody's pictures.

    Raises:
        UserError: it cannot, its logits are not finite, or its processor writes other comparison tokens than it reads.
    """
    import torch
    from PIL import Image

    from ..finite import bad_rows, not_finite_at
    from ..model.answer import write_prompt

    written, read = (getattr(one, "comparison_token_id", None) for one in (processor, model.config))
    if written != read:  # it would answer all the same, without its comparison
        raise UserError(
            f"{folder}: its processor writes token {written} for comparisons and config.json has comparison_token_id "
            f"{read}, expected the same; export the model again"
        )
    picture = Image.new("RGB", (56, 56), "grey")
    try:
        prompt = write_prompt(processor, INSPECT_QUESTION)
        inputs = processor(text=[prompt], images=[picture, picture], return_tensors="pt").to(model.device)
        with torch.no_grad():  # not inference_mode: what the model keeps of it may be trained with
            step = model.generate(
                **inputs,
                max_new_tokens=1,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                output_logits=True,
                return_dict_in_generate=True,
            )
        bad = bool(bad_rows(step.logits[0], banned=0).any())
    except torch.OutOfMemoryError as error:
        raise UserError(f"{model.device}: out of memory with two small pictures; give a larger --device") from error
    except Exception as error:  # whatever a wrong value makes the model, its processor or torch stumble on
        raise UserError(
            f"{folder}: the model cannot answer ({one_line(error)}); its *.json files are not of its weights, or were "
            "changed: export the model again"
        ) from error
    if bad:
        raise UserError(f"{folder}: {not_finite_at(1)}")


def wider_dtype(dtype: str) -> str:
    """What is advised where numbers overflow in a dtype."""
    if dtype == "float16":
        return "use --dtype bfloat16 or float32"
    return "use --dtype float32" if dtype == "bfloat16" else "export it again, or give another checkpoint"
