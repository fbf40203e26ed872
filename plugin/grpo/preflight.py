"""`adcopilot preflight grpo.yaml`: what stage 3 would refuse, and the memory that it needs, found without a model.

Settings, data sets and masks are read as `adcopilot grpo` reads them, prompts are counted by the processor and the
images' headers. No model is loaded, no GPU needed and nothing written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..model.registration import register_auto_classes

#: What asks for hardware that this machine may lack; memory is counted by what the file says.
_HERE = ("deepspeed=null", "fsdp=''", "bf16=false", "fp16=false", "tf32=null", "use_cpu=true")


def preflight_grpo(path: Path, overrides: Sequence[str], *, gpu: float | None, gpus: int) -> list[str]:
    """Check a YAML of stage 3.

    Args:
        path: the file.
        overrides: `key=value`.
        gpu: GiB of one; None if memory is not to be checked.
        gpus: processes that the run will have.

    Returns:
        One line for each set of prompts, and one for memory.

    Raises:
        UserError: a setting, a record or a prompt that training would refuse; or too little memory.
    """
    from transformers import AutoProcessor

    from ..inspect.hub import is_hub_id
    from ..inspect.loading import check_folder
    from ..llamafactory.settings_checks import check_files
    from ..yaml_sections import assign_all, read_yaml
    from .prompts import open_records, run_prompts
    from .settings import OVERRIDES, read_settings

    written = read_yaml(path)
    if isinstance(written, dict):
        assign_all(written, overrides, **OVERRIDES)
        check_files(written)
    batch = written.get("per_device_train_batch_size", 8) if isinstance(written, dict) else 1
    # how completions fall into batches depends on the number of processes, which is 1 here
    everywhere = [f"per_device_train_batch_size={batch * gpus}"] if isinstance(batch, int) else []
    try:
        args, config = read_settings(path, [*overrides, *_HERE, *everywhere])
    except UserError as error:
        if "divisible by num_generations" not in str(error):
            raise
        raise UserError(f"{error}; with --gpus N for a run of N processes, here {gpus}") from None
    if not is_hub_id(args.model_name_or_path):  # of which tokenizer and shapes are had, and no weights
        check_folder(Path(args.model_name_or_path))
    register_auto_classes()
    processor = AutoProcessor.from_pretrained(args.model_name_or_path)
    lines, longest = [], None
    for name, records in zip(("training", "held out"), open_records(args, seed=config.seed), strict=True):
        if not records:
            continue
        prompts = run_prompts(records, args=args, config=config, processor=processor)
        tokens, most = prompts.longest
        note = f"; {prompts.too_long} longer ones are left out" if prompts.too_long else ""
        lines.append(
            f"{name}: {len(prompts)} prompts, the longest has {tokens} tokens of cutoff_len "
            f"{args.cutoff_len} less max_completion_length {config.max_completion_length}{note}"
        )
        if name == "training":
            longest = (tokens, prompts.image_sizes(most))
    settings = {**written, "disable_gradient_checkpointing": not config.gradient_checkpointing}
    shares = {"rows": batch, "rollouts": 0 if args.rollout_server else batch * config.steps_per_generation}
    lines.append(
        _memory(settings, args, *longest, completion=config.max_completion_length, **shares, gpu=gpu, gpus=gpus)
    )
    return lines


def _memory(
    settings: dict[str, Any],
    args: Any,
    tokens: int,
    sizes: list[tuple[int, int]],
    *,
    completion: int,
    rows: int,
    rollouts: int,
    gpu: float | None,
    gpus: int,
) -> str:
    """What to say about memory.

    Args:
        tokens, sizes: of the longest prompt and of its images.
        completion: tokens.
        rows, rollouts: on one GPU: completions that a step trains on at once, and that transformers samples at once.

    Raises:
        UserError: the GPU has too little, or the count would say nothing.
    """
    from transformers import AutoConfig

    from ..llamafactory.memory import GIB, LongestBatch, Shapes, not_counted, told, uncounted
    from ..model import AdCopilotConfig

    config = AutoConfig.from_pretrained(args.model_name_or_path)
    setting = uncounted(settings)
    if not isinstance(config, AdCopilotConfig):
        setting = f"model_type: {config.model_type}"
    if setting:
        return not_counted(setting, gpu=gpu)
    shapes = Shapes(config)
    patches = sum(width * height for width, height in sizes) // config.vision_config.patch_size**2
    sample = LongestBatch(tokens=rows * (tokens + completion), patches=rows * patches, labels=rows * completion)
    need = shapes.need(settings, sample, gpus=gpus, trained=shapes.trained_by_grpo(args.lora_rank))
    cache = shapes.cache(rollouts * (tokens + completion))
    line = told(
        need,
        where=f"steps on {rows} completions of prompts of {tokens:,} tokens and {patches:,} patches",
        gpu=gpu,
        gpus=gpus,
        sizes=sizes,
        checkpointing="gradient_checkpointing=true" if settings["disable_gradient_checkpointing"] else None,
    )
    sampling = need.fixed + cache
    if gpu is not None and sampling > gpu * GIB:
        raise UserError(
            f"sampling {rollouts} completions at once needs about {sampling / GIB:.1f} GiB of "
            f"{'one GPU' if gpus == 1 else f'each of {gpus} GPUs'} ({cache / GIB:.1f} of them keys and values), more "
            f"than --gpu-memory {gpu:g}; let servers sample (rollout_server), or lower steps_per_generation"
        )
    return line + (f"; to sample {rollouts} at once {sampling / GIB:.1f} GiB" if rollouts else "")
