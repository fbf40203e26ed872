"""Turn a Qwen2.5-VL checkpoint into an AD-Copilot checkpoint: the same weights, plus a Gaussian Comparison Encoder.

Shards are copied one at a time, so memory holds at most one, and the result appears under its name only when it is
whole. An interrupted conversion goes on with the shards it lacks.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoTokenizer, GenerationConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.models.qwen2_5_vl import Qwen2_5_VLConfig, Qwen2_5_VLProcessor

from ..cli.saying import progress
from ..errors import UserError, one_line, writing
from ..finite import check_tensor, opened
from ..inspect.loading import INDEX_FILE, read_config, weight_files
from .comparison_encoder import ComparisonEncoder
from .configuration import COMPARISON_TOKEN, AdCopilotConfig
from .modeling import AdCopilotForConditionalGeneration
from .processing import AdCopilotProcessor
from .registration import register_auto_classes

ENCODER_PREFIX = "model.comparison_encoder."
#: In the folder of an unfinished conversion: which weights its shards are copies of.
ORIGIN_FILE = "conversion.json"


def convert_base(
    *,
    base: Path,
    output: Path,
    seed: int = 0,
    encoder: Callable[[AdCopilotConfig, torch.dtype], dict[str, torch.Tensor]] | None = None,
    **comparison_options,
) -> None:
    """Write an AD-Copilot folder made from a Qwen2.5-VL folder.

    Args:
        base: folder of a Qwen2.5-VL checkpoint in safetensors.
        output: folder to write; must not exist or be empty.
        seed: of the encoder's Gaussian weights (standard deviation: the language model's `initializer_range`).
        encoder: makes the encoder's weights instead, from the new model's configuration and dtype, by their names in
            the model; called when all else has been checked.
        comparison_options: fields of `AdCopilotConfig` that begin with `comparison_`, and `num_comparison_tokens`.

    Raises:
        UserError: the base is not Qwen2.5-VL, lacks weights or files, or has no free row in its vocabulary; the output
            exists, or what is there under the name of an unfinished one is none; an option has a value that the base
            cannot have.
    """
    partial = check_output(output)
    base_config = read_base_config(base)
    tokenizer = read_from(base, "tokenizer", AutoTokenizer.from_pretrained)
    processor = read_from(base, "processor", Qwen2_5_VLProcessor.from_pretrained)
    comparison_token_id = add_comparison_token(tokenizer, base, rows=base_config.text_config.vocab_size)
    fields = base_config.to_dict()
    for field in ("model_type", "transformers_version", "auto_map"):
        fields.pop(field, None)
    # the nested copy too: in transformers 4.57 it is the one that `config.architectures` reads
    fields["architectures"] = fields["text_config"]["architectures"] = [AdCopilotForConditionalGeneration.__name__]
    # transformers 4 writes a tied base's `tie_word_embeddings` into text_config alone, where transformers 5 misses it
    fields["tie_word_embeddings"] = base_config.text_config.tie_word_embeddings or base_config.tie_word_embeddings
    heads = comparison_options.get("comparison_num_heads")
    if heads is not None and heads < 1:  # the configuration takes 0 for the vision tower's
        raise UserError(f"comparison_num_heads is {heads}, expected 1 or more; choose another value")
    try:
        config = AdCopilotConfig.from_dict(
            {**fields, **comparison_options, "comparison_token_id": comparison_token_id}
        )
    except ValueError as error:
        raise UserError(f"{one_line(error)}; choose another value") from None
    generation = read_from(base, "generation_config.json", lambda base: generation_config_without_pads(base, config))
    shards = weight_files(base)
    with torch.device("meta"):
        model = read_from(base, "config.json", lambda _: AdCopilotForConditionalGeneration(config))
    check_weights(base, shards, model)

    register_auto_classes()
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else getattr(torch, config.dtype or "float32", None)
    if dtype is None or not dtype.is_floating_point:
        raise UserError(f"{base / 'config.json'}: dtype is {config.dtype}, expected that of the weights, as bfloat16")
    tensors = encoder(config, dtype) if encoder else gaussian_encoder(config, seed=seed, dtype=dtype)
    advice = f"what is done is kept in {partial.name}: make room and run the same command again, or remove it"
    with writing(output, advice):
        start_or_go_on(partial, shards)
        write_weights(shards, tensors, partial)
        custom_object_save(model, partial, config=config)
        config.save_pretrained(partial)
        AdCopilotProcessor(
            image_processor=processor.image_processor,
            tokenizer=tokenizer,
            video_processor=processor.video_processor,
            chat_template=processor.chat_template or tokenizer.chat_template,
            num_comparison_tokens=config.num_comparison_tokens,
            comparison_of_first=config.comparison_of_first,
            trained_sizes={},
        ).save_pretrained(partial)
        generation.save_pretrained(partial)
        target = output.resolve()
        if target.exists():
            target.rmdir()
        os.rename(partial, target)
        (target / ORIGIN_FILE).unlink()  # last: a folder without it is nothing that may be removed


def check_output(output: Path) -> Path:
    """The folder that an unfinished conversion to `output` is kept in, beside where it leads if it is a link.

    Raises:
        UserError: the output exists; or there is a folder of somebody's own in the other's place.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not empty: choose a new --output, or remove it first")
    target = output.resolve()
    if target == Path.cwd():
        raise UserError(f"{output}: is the folder you are in, which is replaced as a whole; name a new one in it")
    partial = target.with_name(target.name + ".partial")
    is_ours = partial.is_dir() and ((partial / ORIGIN_FILE).is_file() or not any(partial.iterdir()))
    if partial.exists() and not is_ours:
        raise UserError(
            f"{partial}: is needed for what is not finished, but holds something else; choose another --output, or "
            "move it away"
        )
    return partial


def read_from(folder: Path, what: str, read: Callable[[Path], Any]) -> Any:
    """`read(folder)` of something that transformers reads.

    Raises:
        UserError: it cannot be read, for whatever reason.
    """
    try:
        return read(folder)
    except Exception as error:  # transformers raises whatever its readers stumble on
        raise UserError(
            f"{folder}: its {what} cannot be used ({one_line(error)}); download, copy or export the model again"
        ) from error


def start_or_go_on(partial: Path, shards: list[Path]) -> None:
    """Make the folder of an unfinished conversion, empty unless an earlier one of the same weights began it.

    Shards that are there are not copied again, so they must be this base's: told by place, sizes and times.
    """
    files = [shard.resolve() for shard in shards]
    origin = json.dumps([[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files])
    mark = partial / ORIGIN_FILE
    if partial.is_dir() and not (mark.is_file() and mark.read_text(encoding="utf-8") == origin):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    mark.write_text(origin, encoding="utf-8")


def read_base_config(base: Path) -> Qwen2_5_VLConfig:
    """The base's configuration; UserError if it is missing, unreadable or of another model."""
    file, model_type = base / "config.json", read_config(base).get("model_type")
    if model_type == AdCopilotConfig.model_type:
        raise UserError(
            f"{file}: model_type is 'adcopilot', so {base} is an AD-Copilot model already: use it as it is"
        )
    if model_type != Qwen2_5_VLConfig.model_type:
        raise UserError(
            f"{file}: model_type is {model_type!r}, expected 'qwen2_5_vl': give a Qwen2.5-VL checkpoint as --base"
        )
    return read_from(base, "config.json", Qwen2_5_VLConfig.from_pretrained)


def add_comparison_token(tokenizer, base: Path, *, rows: int) -> int:
    """Add `<|compare_pad|>` to the tokenizer and return its id; UserError if the vocabulary has no row for it."""
    tokenizer.add_tokens([COMPARISON_TOKEN], special_tokens=True)
    token_id = tokenizer.convert_tokens_to_ids(COMPARISON_TOKEN)
    if token_id >= rows:
        raise UserError(
            f"{base}: {COMPARISON_TOKEN} would be token {token_id} but the vocabulary has {rows} rows: "
            "resize the base's embeddings by at least one row first"
        )
    return token_id


def current_name(key: str) -> str:
    """Name of a weight in today's class, from either naming that Qwen2.5-VL files use (transformers moved
    `visual` and `model` under `model` in 4.52)."""
    if key.startswith("visual."):
        return f"model.{key}"
    if key.startswith("model.") and not key.startswith(("model.visual.", "model.language_model.")):
        return f"model.language_model.{key.removeprefix('model.')}"
    return key


def check_weights(base: Path, shards: list[Path], model: AdCopilotForConditionalGeneration) -> None:
    """UserError unless the base holds exactly the weights, by name and shape, that the model wants beside the encoder.

    Only the files' headers are read.
    """
    expected = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    expected = {name: shape for name, shape in expected.items() if not name.startswith(ENCODER_PREFIX)}
    if model.config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    found = {}
    for shard in shards:
        with opened(shard) as file:
            found |= {current_name(key): file.get_slice(key).get_shape() for key in file.keys()}
    if model.config.tie_word_embeddings:
        found.pop("lm_head.weight", None)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{base}: weight {name} has shape {found.get(name, 'missing')}, config.json wants "
                f"{expected.get(name, 'no such weight')}: weights and config.json are of different models"
            )


def gaussian_encoder(config: AdCopilotConfig, *, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights of a fresh Comparison Encoder under their names in the model: Gaussian matrices and queries, zero
    biases, norms of one."""
    std = config.text_config.initializer_range
    generator = torch.Generator().manual_seed(seed)
    encoder = ComparisonEncoder(config=config)
    for module in encoder.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std, generator=generator)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return {ENCODER_PREFIX + name: weight.to(dtype) for name, weight in encoder.state_dict().items()}


def write_weights(shards: list[Path], encoder: dict[str, torch.Tensor], folder: Path) -> None:
    """Copy the base's shards under today's names, add the encoder's as the last shard, and write the index.

    Raises:
        UserError: a weight is not finite.
    """
    names = [f"model-{number:05d}-of-{len(shards) + 1:05d}.safetensors" for number in range(1, len(shards) + 2)]
    weight_map, total_size = {}, 0
    for name, shard in zip(progress(names, desc="shards", hidden=len(shards) == 1), [*shards, None], strict=True):
        if shard is None:
            tensors = encoder
        else:
            with safe_open(shard, framework="pt") as file:
                keys = list(file.keys())
                done = folder / name
                tensors = None if done.is_file() else {current_name(key): file.get_tensor(key) for key in keys}
                for key, tensor in (tensors or {}).items():
                    check_tensor(tensor, name=f"{shard}: {key}")
                if tensors is None:  # an earlier, interrupted conversion wrote it
                    with safe_open(done, framework="pt") as written:
                        tensors = {key: written.get_tensor(key) for key in written.keys()}
        for key, tensor in tensors.items():
            weight_map[key] = name
            total_size += tensor.numel() * tensor.element_size()
        if shard is None or not (folder / name).is_file():
            temporary = folder / (name + ".tmp")
            try:
                save_file(tensors, temporary, metadata={"format": "pt"})
            except SafetensorError as error:  # its own kind for what the disk says
                raise OSError(None, str(error), str(temporary)) from error
            os.replace(temporary, folder / name)
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def generation_config_without_pads(base: Path, config: AdCopilotConfig) -> GenerationConfig:
    """The base's generation settings, with the pads of images, videos and comparisons banned: a sampled pad would be
    taken for an image that is not there."""
    if (base / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(base)
    else:
        generation = GenerationConfig.from_model_config(config)
    pads = {config.image_token_id, config.video_token_id, config.comparison_token_id}
    generation.suppress_tokens = sorted(pads.union(generation.suppress_tokens or []))
    return generation
