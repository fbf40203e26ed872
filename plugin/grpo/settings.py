"""What `adcopilot grpo` is told: LlamaFactory's names for models and data, TRL's for everything about the training."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from trl import GRPOConfig

from ..endpoint.address import KEY_VARIABLE, checked_address
from ..errors import UserError, did_you_mean, one_line
from ..files import check_output_dir
from ..tasks.choice import CHOICE
from ..tasks.locate import LOCATE
from ..yaml_sections import assign_all, read_yaml, short

__all__ = ["GrpoArguments", "read_settings"]

#: How overrides are typed (`yaml_sections.assign_all`).
OVERRIDES = {"option": "", "example": "output_dir=saves/grpo"}
ATTENTION = {"auto": "sdpa", "sdpa": "sdpa", "disabled": "eager", "fa2": "flash_attention_2"}


@dataclass(kw_only=True)
class GrpoArguments:
    """The keys that are not TRL's.

    Attributes:
        model_name_or_path: folder of a merged AD-Copilot (or Qwen2.5-VL) model: the policy's start and, without its
            adapter, the reference.
        dataset, eval_dataset: names in `dataset_dir`/dataset_info.json, or JSONL files, of records with a verifiable
            answer.
        val_size: records of `dataset` to hold out where no `eval_dataset` is given.
        max_samples, max_eval_samples: so many records at most, drawn with `seed`.
        dataset_dir, media_dir: as in LlamaFactory.
        image_max_pixels, image_min_pixels: areas; what the earlier stages trained with. By default what the model
            folder's processor says, or LlamaFactory's own defaults.
        cutoff_len: tokens of prompt and completion together; a longer prompt is left out, and said.
        think: ask for `<think>…</think><answer>…</answer>` where a question does not yet.
        format_weight: equation 1's lambda.
        choice_reward, bbox_reward: false leaves that kind of answer without reward (Table VI).
        lora_rank, lora_alpha, lora_dropout: of the language model's LoRA.
        flash_attn: as in LlamaFactory: auto, sdpa, disabled, fa2.
        early_stopping_steps: stop after so many evaluations without a better held-out reward; 0 never stops.
        rollout_server: URLs of vLLM servers that sample; none: transformers does.
        rollout_concurrency: prompts in flight at each server.
        rollout_timeout: seconds for one prompt's samples.
        rollout_patience: seconds to wait while no server answers, before the run stops at its last checkpoint.
        rollout_adapter_dir: folder that trainer and servers both see, for the adapters; by default in `output_dir`.
        resume: go on from the last whole checkpoint of `output_dir`.
    """

    model_name_or_path: str
    dataset: str | list[str]
    eval_dataset: str | list[str] | None = None
    val_size: int = 0
    max_samples: int | None = None
    max_eval_samples: int | None = None
    dataset_dir: str = "data"
    media_dir: str | None = None
    image_max_pixels: int | None = None
    image_min_pixels: int | None = None
    cutoff_len: int = 20480
    think: bool = True
    format_weight: float = 1.0
    choice_reward: bool = True
    bbox_reward: bool = True
    lora_rank: int = 64
    lora_alpha: int = 128
    lora_dropout: float = 0.0
    flash_attn: str = "auto"
    early_stopping_steps: int = 0
    rollout_server: list[str] = field(default_factory=list)
    rollout_concurrency: int = 16
    rollout_timeout: float = 600.0
    rollout_patience: float = 600.0
    rollout_adapter_dir: str | None = None
    resume: bool = True

    @property
    def datasets(self) -> list[str]:
        """`dataset` as a list; a text may hold several names with commas, as in LlamaFactory."""
        return _names(self.dataset)

    @property
    def eval_datasets(self) -> list[str]:
        """`eval_dataset` likewise; empty without one."""
        return _names(self.eval_dataset or [])

    @property
    def tasks_without_reward(self) -> tuple[str, ...]:
        """Names of the tasks that the switches leave without reward (Table VI)."""
        switches = ((CHOICE.name, self.choice_reward), (LOCATE.name, self.bbox_reward))
        return tuple(name for name, rewarded in switches if not rewarded)

    @property
    def attention(self) -> str:
        """transformers' `attn_implementation`."""
        return ATTENTION[self.flash_attn]


#: What TRL, transformers and PEFT would trip over only once the model is loaded: keys, rule, rule in words.
_RANGES = (
    (
        ("per_device_train_batch_size", "per_device_eval_batch_size", "max_completion_length"),
        lambda n: n >= 1,
        "1 or more",
    ),
    (("temperature", "repetition_penalty", "num_train_epochs"), lambda n: n > 0, "more than 0"),
    (("num_generations",), lambda n: n >= 2, "2 or more"),
    (
        (
            *("learning_rate", "beta", "weight_decay", "max_grad_norm", "epsilon", "epsilon_high", "top_k"),
            "dataloader_num_workers",
        ),
        lambda n: n >= 0,
        "0 or more",
    ),
    (("seed",), lambda n: 0 <= n < 1 << 32, f"0 to {(1 << 32) - 1}"),
    (("lora_dropout",), lambda n: 0 <= n < 1, "0 to below 1"),
    (("top_p",), lambda n: 0 < n <= 1, "above 0 and at most 1"),
    (("min_p", "top_entropy_quantile"), lambda n: 0 <= n <= 1, "0 to 1"),
    (("loss_type",), ("grpo", "dapo", "bnpo", "dr_grpo").__contains__, "grpo, dapo, bnpo or dr_grpo"),
    (("scale_rewards",), ("group", "batch", "none").__contains__, "group, batch or none"),
    (("importance_sampling_level",), ("token", "sequence").__contains__, "token or sequence"),
)
#: Settings of TRL's that cannot be had here, or that something else decides: key → why, and what to do.
_NOT_HERE = {
    "use_vllm": "TRL's own vLLM needs vLLM beside the trainer and pushes whole weights; start `vllm serve` in its "
    "environment and set rollout_server (docs/grpo.md)",
    "use_transformers_paged": "it samples without the images; leave it out",
    "max_prompt_length": "it would cut through an image's tokens, use cutoff_len, which leaves long prompts out",
    "remove_unused_columns": "rewards need the whole record; leave it out",
    "reward_weights": "the form counts format_weight and each answer 1; set format_weight",
    "model_init_kwargs": "the model is loaded as bf16 and flash_attn say; set these",
    "sync_ref_model": "the reference is the policy without its adapter, which does not change; leave it out",
    "resume_from_checkpoint": "a run goes on from the last whole checkpoint of its output_dir by itself; leave it out",
}


def read_settings(path: Path, overrides: Sequence[str] = ()) -> tuple[GrpoArguments, GRPOConfig]:
    """Read a run's YAML file.

    Args:
        path: the file.
        overrides: `key=value`, as on LlamaFactory's command line; the value is YAML.

    Raises:
        UserError: an unknown or missing key, a value of another kind or out of its range, or settings that cannot
            work together.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {short(values)}, expected keys with values")
    assign_all(values, overrides, **OVERRIDES)
    ours, theirs = (
        {one.name: one for one in dataclasses.fields(kind) if one.init} for kind in (GrpoArguments, GRPOConfig)
    )
    known = [*ours, *theirs]
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known, otherwise="see docs/grpo.md for the keys")
            raise UserError(f"{path}: {key if str(key).isprintable() else repr(key)}: no such key{hint}")
    for key in ("model_name_or_path", "dataset", "output_dir"):
        if not values.get(key):
            raise UserError(f"{path}: {key} is missing")
    check_output_dir(str(values["output_dir"]), model=str(values["model_name_or_path"]))
    kinds = {**typing.get_type_hints(GRPOConfig), **typing.get_type_hints(GrpoArguments)}
    # YAML reads an unquoted `no` as false.
    values = {key: "no" if value is False and key.endswith("_strategy") else value for key, value in values.items()}
    # A key of ours with nothing behind it has its default; what nothing means for TRL's, TRL says.
    values = {key: value for key, value in values.items() if value is not None or key not in ours}
    values = {key: _converted(value, kinds[key], f"{path}: {key}") for key, value in values.items()}
    args = GrpoArguments(**{key: value for key, value in values.items() if key in ours})
    _check(args, path)
    trl = {key: value for key, value in values.items() if key in theirs}
    _check_trl(trl, args, path)
    for keys, fits, words in _RANGES:
        for key in keys:
            if values.get(key) is not None and not fits(values[key]):
                raise UserError(f"{path}: {key} is {short(values[key])}, expected {words}")
    # TRL's default of 512 cuts prompts from the left, through the middle of an image's tokens. Prompts that are too
    # long are left out before the training starts (`cutoff_len`).
    trl["max_prompt_length"] = None
    trl.setdefault("report_to", "none")
    if args.early_stopping_steps:
        trl.update(load_best_model_at_end=True, metric_for_best_model="eval_reward", greater_is_better=True)
        # A run that goes on has waited as long as one that was never stopped.
        trl.setdefault("restore_callback_states_from_checkpoint", True)
    try:
        config = GRPOConfig(**trl)
    # Whatever TRL, transformers or accelerate trip over: nothing but the settings has been looked at yet.
    except Exception as error:
        reason = one_line(error)
        raise UserError(f"{path}: {reason}; correct the setting, or leave it out") from None
    _check_steps(config, path)
    return args, config


def _names(value: str | list[str]) -> list[str]:
    names = value.split(",") if isinstance(value, str) else value
    return [name.strip() for name in names if name.strip()]


def _converted(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`; YAML reads `1e-5` as a text, and one server's URL is a list of one."""
    kinds = typing.get_args(kind) or (kind,)
    if value is None:
        return value
    if type(value) is int and abs(value) >= 1 << 63:
        raise UserError(f"{where} is {short(value)}, expected a number of 64 bits")
    if list[str] in (kind, *kinds):
        names = _names(value) if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where} is {short(value)}, expected a text or a list of texts")
        return names if typing.get_origin(kind) is list else value
    if value and any((typing.get_origin(one) or one) is dict for one in kinds):
        if not isinstance(value, (dict, str) if str in kinds else dict):
            raise UserError(f"{where} is {short(value)}, expected keys with values")
        return value
    if any(typing.get_origin(one) for one in kinds):
        return value
    if float in kinds and str not in kinds and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{where} is {short(value)}, expected a number")
        return number
    plain = tuple(one for one in kinds if one in (bool, int, str))
    if plain and set(kinds) <= {bool, int, str, type(None)}:
        fits = isinstance(value, plain) and (bool in plain or not isinstance(value, bool))
        if not fits:
            words = {bool: "true or false", int: "a whole number", str: "a text"}
            raise UserError(f"{where} is {short(value)}, expected {' or '.join(words[one] for one in plain)}")
    return value


def _check(args: GrpoArguments, path: Path) -> None:
    if not args.datasets:
        raise UserError(f"{path}: dataset is {short(args.dataset)}, expected the name of a data set")
    for key, low in (("val_size", 0), ("lora_rank", 1), ("lora_alpha", 1), ("cutoff_len", 1), ("format_weight", 0)):
        if getattr(args, key) < low:
            raise UserError(f"{path}: {key} is {getattr(args, key)}, expected {low} or more")
    for key in ("max_samples", "max_eval_samples", "image_max_pixels", "image_min_pixels", "rollout_concurrency"):
        if getattr(args, key) is not None and getattr(args, key) < 1:
            raise UserError(f"{path}: {key} is {getattr(args, key)}, expected 1 or more")
    for key in ("rollout_timeout", "rollout_patience"):
        if getattr(args, key) <= 0:
            raise UserError(f"{path}: {key} is {getattr(args, key)}, expected seconds above 0")
    if args.flash_attn not in ATTENTION:
        raise UserError(f"{path}: flash_attn is {args.flash_attn!r}, expected one of {', '.join(ATTENTION)}")
    if args.early_stopping_steps < 0:
        raise UserError(f"{path}: early_stopping_steps is {args.early_stopping_steps}, expected 0 or more")
    if not args.choice_reward and not args.bbox_reward:
        raise UserError(f"{path}: choice_reward and bbox_reward are both false, so no answer counts; leave one on")
    for url in args.rollout_server:
        checked_address(url, setting=f"{path}: rollout_server", key_goes=KEY_VARIABLE)


def _check_trl(trl: dict[str, Any], args: GrpoArguments, path: Path) -> None:
    for key, why in _NOT_HERE.items():
        if trl.get(key):
            raise UserError(f"{path}: {key} is {short(trl[key])}; {why}")
    generation = trl.get("generation_kwargs") or {}
    if generation and args.rollout_server:
        raise UserError(f"{path}: generation_kwargs are not sent to a rollout_server; leave them out")
    for key in generation:
        if not hasattr(GenerationConfig(), key):
            hint = did_you_mean(key, vars(GenerationConfig()))
            raise UserError(f"{path}: generation_kwargs: {key}: transformers knows no such key{hint}")
    evaluates = str(trl.get("eval_strategy", "no")) != "no"
    held_out = bool(args.eval_datasets or args.val_size)
    if not held_out and (evaluates or trl.get("eval_on_start")):
        key = "eval_strategy" if evaluates else "eval_on_start"
        raise UserError(f"{path}: {key} is set but nothing is held out; give eval_dataset or val_size")
    if args.early_stopping_steps and not evaluates:
        raise UserError(
            f"{path}: early_stopping_steps needs held-out rewards; set eval_strategy: steps, eval_steps, and "
            "eval_dataset or val_size"
        )
    if args.eval_datasets and args.val_size:
        raise UserError(f"{path}: eval_dataset and val_size are both set; keep one")


def _check_steps(config: GRPOConfig, path: Path) -> None:
    """A checkpoint in the middle of a generation's steps would resume with completions that differ from the first
    run's."""
    for key in ("steps_per_generation", "num_iterations", "gradient_accumulation_steps"):
        if not isinstance(getattr(config, key), int) or getattr(config, key) < 1:
            raise UserError(f"{path}: {key} is {short(getattr(config, key))}, expected 1 or more")
    cycle = config.steps_per_generation * config.num_iterations
    steps = config.gradient_accumulation_steps
    if str(config.save_strategy.value) == "steps" and (int(config.save_steps) * steps) % cycle:
        raise UserError(
            f"{path}: save_steps {config.save_steps} x gradient_accumulation_steps {steps} falls inside a round of "
            f"{cycle} steps that share their completions (steps_per_generation x num_iterations); use a multiple"
        )
