"""`adcopilot grpo`: stage 3, reinforcement learning with verifiable rewards."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli.saying import say
from ..errors import UserError, one_line, reason_of
from ..inspect.loading import model_digest
from ..jsonl import file_digest

if TYPE_CHECKING:
    from .servers import RolloutServers

PACKAGES = ("adcopilot", "torch", "transformers", "trl", "peft")
#: What may differ between the start of a run and its continuation, because no number depends on it: who samples, where
#: files lie (of model and data the content is compared), and, of TRL's, what is logged, kept and uploaded, and how
#: memory and loading are managed. Everything else is compared.
FREE = {
    *("rollout_server", "rollout_concurrency", "rollout_timeout", "rollout_patience", "rollout_adapter_dir", "resume"),
    *("model_name_or_path", "dataset_dir"),
    *("output_dir", "overwrite_output_dir", "run_name", "logging_dir", "logging_strategy", "logging_first_step"),
    *("logging_steps", "logging_nan_inf_filter", "log_level", "log_level_replica", "log_on_each_node", "disable_tqdm"),
    *("report_to", "project", "trackio_space_id", "log_completions", "num_completions_to_print"),
    *("wandb_log_unique_prompts", "save_total_limit", "save_safetensors", "save_on_each_node"),
    *("push_to_hub", "push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token", "hub_model_id"),
    *("hub_strategy", "hub_token", "hub_private_repo", "hub_always_push", "hub_revision"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory"),
    *("dataloader_persistent_workers", "skip_memory_metrics", "torch_empty_cache_steps", "gradient_checkpointing"),
    *("gradient_checkpointing_kwargs", "local_rank", "ddp_timeout", "ddp_bucket_cap_mb", "resume_from_checkpoint"),
    *("include_tokens_per_second", "include_num_input_tokens_seen"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, see examples/grpo/")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="instead of what the file says")
    parser.add_argument(
        "--rollout-server",
        action="append",
        default=[],
        metavar="URL",
        help="vLLM server that samples the completions; may be given several times",
    )


def run(args: argparse.Namespace) -> int:
    # Before torch makes its first CUDA context; a run that resumes must make the same numbers again.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from .settings import read_settings

    if not args.config.is_file():
        raise UserError(f"{args.config}: no such file; see examples/grpo/")
    overrides = list(args.overrides)
    if args.rollout_server:
        overrides.append(f"rollout_server={json.dumps(args.rollout_server)}")
    ours, trl = read_settings(args.config, overrides)
    train(ours, trl)
    return 0


def train(args: Any, config: Any) -> Any:
    """Train a policy; returns the trainer, or None where the run had been finished before.

    Args:
        args: `GrpoArguments`.
        config: `trl.GRPOConfig`.

    Raises:
        UserError: data, model, servers or disk are not as they must be.
    """
    import transformers
    from transformers import EarlyStoppingCallback

    from ..inspect.hub import model_folder
    from ..inspect.loading import check_folder
    from ..tasks import task_of
    from .checkpoints import check_same_run, finish, finished_steps, has_ended, last_checkpoint, write_about
    from .policy import language_model_lora, load_policy, pad_tokens
    from .progress import Progress
    from .prompts import dataset_files, open_records, run_prompts
    from .rewards import reward_functions
    from .rollout_log import RolloutLog
    from .rollout_server import check_servers
    from .trainer import AdCopilotGRPOTrainer

    main = config.process_index == 0
    args.model_name_or_path = str(model_folder(args.model_name_or_path, option="model_name_or_path"))
    check_folder(Path(args.model_name_or_path))
    check_servers(args.rollout_server)
    media_dir = args.media_dir or args.dataset_dir
    files = dataset_files([*args.datasets, *args.eval_datasets], args.dataset_dir)
    digests = {str(file): file_digest(file) for file in files}
    settings = {**_settings(args, config), "data": sorted(digests.values())}
    output = Path(config.output_dir)
    found = last_checkpoint(output, tidy=main) if args.resume else None
    done = finished_steps(output)
    if found is not None or (args.resume and done is not None):
        check_same_run(output, settings, versions=_versions(), say=say if main else lambda line: None)
        if done is None and has_ended(found[0]):  # it was killed, or the disk was full, before it had said so
            done = found[1]
            if main:
                finish(output, found[0], best=bool(config.load_best_model_at_end))
        if done is not None:
            if main:
                say(f"{output}: finished before, after {done} steps; nothing was trained or changed")
                print(output)
            return None
    elif (output / "adapter_model.safetensors").exists():
        raise UserError(f"{output}: holds a finished run; give another output_dir")

    records, held_out = open_records(args, seed=config.seed)
    transformers.set_seed(config.seed)
    model, processor = load_policy(args.model_name_or_path, attention=args.attention, bf16=bool(config.bf16))
    train_prompts = run_prompts(records, args=args, config=config, processor=processor)
    eval_prompts = run_prompts(held_out, args=args, config=config, processor=processor) if held_out else None
    if main and (both := {one["key"] for one in records} & {one["key"] for one in held_out}):
        say(f"held out: {len(both)} of {len(held_out)} records are trained on too, so their rewards say less")
    for name, some in (("training", train_prompts), ("held out", eval_prompts)):
        if main and some is not None and some.too_long:
            whole = len(some) + some.too_long
            say(f"{name}: {some.too_long} of {whole} prompts are longer than cutoff_len")
    _check_count(config, len(train_prompts))

    banned = pad_tokens(model, processor)
    given = config.generation_kwargs or {}
    suppressed = sorted({*banned, *(given.get("suppress_tokens") or ())})
    config.generation_kwargs = {**given, "suppress_tokens": suppressed}
    functions, weights = reward_functions(
        format_weight=args.format_weight,
        media_dir=media_dir,
        tasks={task_of(record).name for record in (*records, *held_out)},
        without=args.tasks_without_reward,
    )
    config.reward_weights = weights
    vocabulary = model.get_input_embeddings().num_embeddings
    servers = _servers(args, config, banned=banned, vocabulary=vocabulary) if args.rollout_server else None
    log = RolloutLog(folder=config.output_dir, step=found[1] if found else 0) if main else None
    stopping = [EarlyStoppingCallback(args.early_stopping_steps)] if args.early_stopping_steps else []
    try:
        trainer = AdCopilotGRPOTrainer(
            **train_prompts.budget,
            servers=servers,
            log=log,
            model=model,
            reward_funcs=functions,
            args=config,
            train_dataset=train_prompts,
            eval_dataset=eval_prompts,
            processing_class=processor,
            peft_config=language_model_lora(rank=args.lora_rank, alpha=args.lora_alpha, dropout=args.lora_dropout),
            callbacks=[Progress(), *stopping],
        )
    except (ValueError, ImportError) as error:  # of a setting that TRL or transformers looks at only now
        raise UserError(f"TRL does not begin ({one_line(error)}); correct the setting, or leave it out") from error
    if main:
        about = {
            "settings": settings,
            "versions": _versions(),
            "data": digests,
            "pixels": train_prompts.budget,
            "prompts": {"training": len(train_prompts), "held_out": len(eval_prompts) if eval_prompts else 0},
        }
        write_about(output, about)
    try:
        trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
        trainer.save_model()
        trainer.save_state()
    except OSError as error:
        raise UserError(
            f"{config.output_dir}: cannot be written ({reason_of(error)}); make room and run the same command "
            "again, it goes on from the last checkpoint"
        ) from None
    if main:
        write_about(output, {**about, "finished": {"steps": trainer.state.global_step}})
        print(output)
    return trainer


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


def _servers(args: Any, config: Any, *, banned: tuple[int, ...], vocabulary: int) -> RolloutServers:
    """The servers that roll out, told to sample as TRL would."""
    from .rollout_server import Sampling
    from .servers import RolloutServers

    sampling = Sampling(
        max_tokens=config.max_completion_length,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p,
        repetition_penalty=config.repetition_penalty,
        banned=banned,
        vocabulary=vocabulary,
    )
    return RolloutServers(
        urls=args.rollout_server,
        sampling=sampling,
        concurrency=args.rollout_concurrency,
        timeout=args.rollout_timeout,
        patience=args.rollout_patience,
        adapter_dir=args.rollout_adapter_dir or Path(config.output_dir, "rollout_adapters"),
    )


def _settings(args: Any, config: Any) -> dict[str, Any]:
    """What decides about a run's numbers, for its record and for the check before it goes on."""
    # TRL's own representation: enumerations as texts, no secrets. The prompt's length has no limit of TRL's here.
    found = {**config.to_dict(), **dataclasses.asdict(args)}
    found = {key: value for key, value in found.items() if key not in FREE}
    if isinstance(config.deepspeed, str) and Path(config.deepspeed).is_file():
        found["deepspeed"] = file_digest(config.deepspeed)
    return {**found, "processes": config.world_size, "model": model_digest(Path(args.model_name_or_path))}


def _check_count(config: Any, training: int) -> None:
    groups = config.generation_batch_size // config.num_generations
    if training < groups:
        raise UserError(
            f"{training} training prompts, fewer than the {groups} of one step (per_device_train_batch_size x "
            "processes x steps_per_generation / num_generations); lower these or add records"
        )
