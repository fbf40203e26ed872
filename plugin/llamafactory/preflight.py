"""`adcopilot preflight stage1.yaml`: what a training run would refuse, found without starting one.

The YAML is read by LlamaFactory itself, its data sets are loaded and every sample is checked as before training
(`sample_check.py`), with images known by their headers. No model is loaded, no GPU needed, and nothing written but the
cache of the `datasets` library. A stage whose model is still to be trained is checked with what that is made from.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli.saying import is_quiet, is_verbose, say
from ..errors import UserError, one_line, shortened
from ..inspect.hub import is_hub_id
from ..yaml_sections import read_yaml, short
from .settings_checks import (
    check_dataset_names,
    check_files,
    check_numbers,
    check_packing,
    check_run,
    check_streaming,
    is_local,
)

if TYPE_CHECKING:
    import torch

    from .sample_check import Checked

#: Stages that are checked → what LlamaFactory's loader calls them.
STAGES = {"sft": "sft", "dpo": "rm", "rm": "rm", "kto": "kto"}

#: Keys that only a YAML for `adcopilot grpo` has.
_GRPO = {"num_generations", "max_completion_length", "choice_reward", "bbox_reward", "format_weight", "beta"}

#: Settings that say where and how a run computes, not on what; they may ask for hardware that this machine lacks.
_NOT_NEEDED = (
    "deepspeed",
    "fsdp",
    "fsdp_config",
    "bf16",
    "fp16",
    "pure_bf16",
    "fp8",
    "flash_attn",
    "enable_liger_kernel",
    "quantization_bit",
    "resume_from_checkpoint",
    "overwrite_output_dir",
    "tokenized_path",
    "run_name",
    "use_swanlab",
)


def add_arguments(parser) -> None:
    """Add the options of `adcopilot preflight`."""
    parser.add_argument(
        "yaml", help="a YAML for `llamafactory-cli train`, with template: adcopilot, or for `adcopilot grpo`"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="settings to change, as `llamafactory-cli train` takes them",
    )
    parser.add_argument(
        "--gpu-memory",
        type=float,
        metavar="GIB",
        help="refuse what cannot fit a GPU of so much memory",
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="over which DeepSpeed shares weights (1)")


def run(args) -> int:
    """Check a training YAML and print one line for each data set: samples, longest sample, room in `cutoff_len`;
    and one for the memory that the longest of all needs. A YAML of stage 3 is `grpo.preflight`'s.

    Raises:
        UserError: the first data set with bad samples, a setting that names something absent, or too little memory.
    """
    if args.gpu_memory is not None and not 0 < args.gpu_memory < float("inf"):
        raise UserError(f"--gpu-memory {args.gpu_memory:g}: expected GiB, more than 0, as in --gpu-memory 80")
    if args.gpus < 1:
        raise UserError(f"--gpus {args.gpus}: expected 1 or more")
    if _is_grpo(args.yaml):
        from ..grpo.preflight import preflight_grpo

        overrides = _grpo_overrides(Path(args.yaml), args.overrides)
        print(*preflight_grpo(Path(args.yaml), overrides, gpu=args.gpu_memory, gpus=args.gpus), sep="\n")
        return 0
    settings = with_stand_in(read_settings(args.yaml, args.overrides), Path(args.yaml))
    longest_of_all = (0, [])
    for name, checked, cutoff_len in check(settings):
        lengths = checked.lengths
        longest, cut = max(lengths, default=0), sum(length > cutoff_len for length in lengths)
        note = f"; {cut} lose text at their end, no images" if cut else ""
        print(
            f"{name}: {len(lengths)} samples can be trained on, the longest has {longest} of {cutoff_len} tokens{note}"
        )
        tokens = cutoff_len if settings.get("neat_packing") else min(longest, cutoff_len)
        longest_of_all = max(longest_of_all, (tokens, checked.longest), key=lambda one: one[0])
    print(_check_memory(settings, *longest_of_all, gpu=args.gpu_memory, gpus=args.gpus))
    return 0


def _grpo_overrides(path: Path, overrides: list[str]) -> list[str]:
    """The overrides, with one more where the YAML's model is not there and another stands in for it."""
    given = read_yaml(path).get("model_name_or_path")
    if given is None or any(one.startswith("model_name_or_path=") for one in overrides):
        return overrides
    found = with_stand_in({"model_name_or_path": given}, path)["model_name_or_path"]
    return overrides if found == given else [*overrides, f"model_name_or_path={found}"]


def _is_grpo(path: str) -> bool:
    """Whether a YAML is for `adcopilot grpo`: it has keys of TRL's and none that LlamaFactory must have."""
    values = read_yaml(Path(path)) if os.path.isfile(path) else None
    return isinstance(values, dict) and bool(_GRPO & values.keys()) and not {"stage", "template"} & values.keys()


def _check_memory(
    settings: dict[str, Any], tokens: int, sizes: list[tuple[int, int]], *, gpu: float | None, gpus: int
) -> str:
    """What to say about memory.

    Args:
        tokens, sizes: of the longest sample and of its images.
        gpu: GiB of one; None if it is not to be checked.
        gpus: how many.

    Raises:
        UserError: the GPU has too little, or the count would say nothing.
    """
    from ..model import AdCopilotConfig
    from .memory import Shapes, not_counted, sample_of, step_of, told, uncounted

    config = AdCopilotConfig.from_pretrained(settings["model_name_or_path"])
    shapes = Shapes(config)
    if settings.get("finetuning_type", "lora") == "lora":
        _check_targets(settings, shapes.model)
    if setting := uncounted(settings):
        return not_counted(setting, gpu=gpu)
    batch = settings.get("per_device_train_batch_size", 8)  # transformers' own default
    sample = sample_of(config, tokens, sizes, batch=batch, step=step_of(settings))
    checkpointing = "disable_gradient_checkpointing=false" if settings.get("disable_gradient_checkpointing") else None
    return told(
        shapes.need(settings, sample, gpus=gpus),
        where=f"batches of {batch} with {sample.tokens:,} tokens and {sample.patches:,} patches",
        gpu=gpu,
        gpus=gpus,
        sizes=sizes,
        checkpointing=checkpointing,
        batch=batch,
    )


def _check_targets(settings: dict[str, Any], model: torch.nn.Module) -> None:
    """Refuse the name of a layer that the model has not: beside others that it has, LoRA silently trains without.

    Raises:
        UserError: naming it, and the names that there are.
    """
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    linear = [name for name, kind in kinds.items() if kind == "Linear"]
    for key, names in (("lora_target", linear), ("additional_target", list(kinds))):
        wanted = settings.get(key) or ()
        for one in wanted.split(",") if isinstance(wanted, str) else wanted:
            if one.strip() != "all" and not any(one.strip() in name for name in names):
                last = sorted({name.rpartition(".")[2] for name in linear})
                known = f"all, {', '.join(last)}" if names is linear else "comparison_queries and other modules' names"
                raise UserError(f"{key} {one.strip()}: no layer of the model is called so; there are {known}")


def read_settings(path: str, overrides: list[str]) -> dict[str, Any]:
    """The YAML's settings with `key=value` overrides.

    Raises:
        UserError: the file is missing or not a YAML of settings, or an override is not `key=value`.
    """
    from omegaconf import OmegaConf

    for override in overrides:
        if "=" not in override:
            raise UserError(f"{override}: expected KEY=VALUE, as in cutoff_len=20480")
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file; expected a YAML for `llamafactory-cli train`")
    read_yaml(Path(path))  # it is bounded, which LlamaFactory's own reader is not
    try:
        settings = OmegaConf.load(path)
        settings = OmegaConf.to_container(OmegaConf.merge(settings, OmegaConf.from_cli(overrides)))
    except Exception as error:  # of omegaconf, of its grammar of overrides, of PyYAML
        raise UserError(f"{path}: cannot be read as YAML ({one_line(error)})") from None
    if not isinstance(settings, dict) or not settings:
        raise UserError(f"{path}: holds no settings; expected a YAML for `llamafactory-cli train`")
    for key in ("model_name_or_path", "dataset", "template"):
        if key not in settings:
            raise UserError(f"{path}: has no {key}; preflight checks YAMLs for `llamafactory-cli train`")
    if settings.get("stage", "sft") not in STAGES:
        raise UserError(f"{path}: stage {settings['stage']}; preflight checks stages {', '.join(STAGES)}")
    if mixed := sorted(_GRPO & settings.keys()):
        raise UserError(
            f"{path}: has {', '.join(mixed)} of `adcopilot grpo` and a template; leave out one or the other"
        )
    check_run(settings)
    check_files(settings)
    check_numbers(settings)
    if settings.get("streaming"):
        accelerator = settings.get("accelerator_config")
        check_streaming(
            streaming=True,
            local=is_local(settings.get("dataset_dir", "data")),
            workers=settings.get("dataloader_num_workers"),
            dispatch_batches=accelerator.get("dispatch_batches") if isinstance(accelerator, dict) else None,
        )
        raise UserError(f"{path}: streaming data cannot be checked beforehand; preflight with streaming=false")
    return settings


def with_stand_in(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings with a model that is there: a folder that is still to be trained or exported has the tokenizer,
    processor and shapes of the one that the YAMLs beside this one make it from. As they are where none of them does.

    Args:
        settings: of the YAML.
        path: the YAML.
    """
    model, seen = str(settings["model_name_or_path"]), []
    while not os.path.isdir(model) and model not in seen:
        seen.append(model)
        model = _made_from(model, path) or model
    if not seen or not (os.path.isdir(model) or is_hub_id(model)) or model == seen[0]:
        return settings
    say(f"{seen[0]} is not there yet; checked with {model}, which the YAMLs beside {path} make it from")
    return {**settings, "model_name_or_path": model}


def _made_from(folder: str, path: Path) -> str | None:
    """The model that a YAML beside this one, or of an export near it, makes a folder from."""
    here = path.absolute().parent
    near = [
        path for above in here.parents[:2] for kind in ("export/*", "train/*/*") for path in above.glob(f"{kind}.yaml")
    ]
    for file in [*sorted(here.glob("*.yaml")), *sorted(near)]:
        try:
            found = read_yaml(file)
        except UserError:  # of somebody else's
            continue
        if isinstance(found, dict) and folder in (found.get("output_dir"), found.get("export_dir")):
            return str(found.get("model_name_or_path"))
    return None


def check(settings: dict[str, Any]) -> Iterator[tuple[str, Checked, int]]:
    """Check every data set that the settings name, for training and for evaluation.

    Yields:
        (name, what was found, cutoff_len) of each data set.

    Raises:
        UserError: what is wrong, in one line.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    if not is_verbose():  # what it logs from INFO on are whole configurations
        os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR" if is_quiet() else "WARNING")
    from . import hook

    hook.register_now()
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.loader import _get_merged_dataset
    from llamafactory.hparams import get_train_args
    from llamafactory.hparams.parser import _TRAIN_ARGS
    from llamafactory.model import load_tokenizer

    from .matching import is_ours
    from .sample_check import check_samples, encoder_of

    with tempfile.TemporaryDirectory() as nowhere:
        settings = {key: value for key, value in settings.items() if key not in _NOT_NEEDED}
        _check_kinds(settings, _TRAIN_ARGS)
        settings = {**settings, "output_dir": nowhere, "report_to": "none", "use_cpu": True}
        try:
            model_args, data_args, training_args, _, _ = get_train_args(settings)
        except UserError:
            raise
        except Exception as error:  # LlamaFactory's own messages name the setting; others trip over a value's type
            reason = one_line(error).rstrip(".")
            raise UserError(f"{reason}; correct the setting") from error
        check_dataset_names(data_args)
        check_packing(data_args)
        tokenizer_module = _load(load_tokenizer, model_args)
        try:
            template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
        except ValueError as error:
            raise UserError(f"{one_line(error).rstrip('.')}; write `template: adcopilot`") from None
        if not is_ours(template):
            raise UserError(f"template {data_args.template}: preflight checks template adcopilot only")
        stage = STAGES[settings.get("stage", "sft")]
        encoder = encoder_of(stage, template, data_args, **tokenizer_module)
        for name in dict.fromkeys([*(data_args.dataset or []), *(data_args.eval_dataset or [])]):
            dataset = _loaded(_get_merged_dataset, [name], model_args, data_args, training_args, stage)
            try:
                checked = check_samples(dataset, encoder=encoder, num_proc=data_args.preprocessing_num_workers)
            except UserError as error:
                raise UserError(f"dataset {name}: {error}") from error
            yield name, checked, data_args.cutoff_len


def _check_kinds(settings: dict[str, Any], groups: list[type]) -> None:
    """Refuse numbers and switches that are something else: LlamaFactory takes any value and trips over it later."""
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    for group in groups:
        for key, hint in typing.get_type_hints(group).items():
            value = settings.get(key)
            kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
            if value is None or not kinds or not set(kinds) <= set(words):
                continue
            allowed = {*kinds, int} if float in kinds else set(kinds)
            if float in kinds and isinstance(value, str):  # `1e-5`, which transformers takes too
                with contextlib.suppress(ValueError):
                    value = float(value)
            if type(value) not in allowed or value != value:  # NaN
                expected = " or ".join(words[kind] for kind in kinds)
                raise UserError(f"{key} is {short(value)}, expected {expected}")


def _loaded(get_merged_dataset, names: list[str], *arguments):
    try:
        return get_merged_dataset(names, *arguments)
    except UserError:
        raise
    except Exception as error:  # of the `datasets` library, and of LlamaFactory's converters
        while error.__cause__ is not None:
            error = error.__cause__
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(
            f"dataset {names[0]}: LlamaFactory cannot load it ({reason}); `adcopilot data register NAME FILE` "
            "looks at each record of it"
        ) from error


def _load(load_tokenizer, model_args) -> dict[str, Any]:
    folder = model_args.model_name_or_path
    try:
        return load_tokenizer(model_args)
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: huggingface_hub takes a missing folder for a malformed name
        cause = shortened(one_line(error.__cause__ or error), 200)
        raise UserError(
            f"model_name_or_path {folder}: no tokenizer could be loaded ({cause}); "
            "make a checkpoint with `adcopilot init`, or give that of another stage: model_name_or_path=FOLDER"
        ) from error
