"""TRL's GRPOTrainer with what AD-Copilot needs: images opened late, vLLM servers, held-out reward, a log to read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from PIL import Image
from trl import GRPOTrainer

from ..errors import UserError
from ..finite import finite_logits
from ..images import open_image, resize_for_training
from ..tasks import task_of
from .rewards import answer_text
from .rollout_log import RolloutLog
from .servers import RolloutServers, publish_adapter

__all__ = ["AdCopilotGRPOTrainer"]

NOT_FINITE = (
    "the last checkpoint is as it was; begin again with a lower learning_rate or max_grad_norm, or without fp16"
)


class AdCopilotGRPOTrainer(GRPOTrainer):
    """See `trl.GRPOTrainer` (0.24); prompts are `RolloutPrompts`.

    Args:
        image_max_pixels, image_min_pixels: LlamaFactory's settings, areas in pixels.
        servers: that sample instead of transformers' `generate`; None for the latter.
        log: `rollouts.jsonl`.
        kwargs: of `GRPOTrainer`.
    """

    def __init__(
        self,
        *,
        image_max_pixels: int,
        image_min_pixels: int,
        servers: RolloutServers | None,
        log: RolloutLog | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.budget = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}
        self.servers, self.rollout_log = servers, log
        self._synced = None  # the step whose adapter the servers have

    # TRL gathers a batch's `images` over all processes for its own log. Paths are cheap there; pixels, at 2800 x 2800,
    # would be hundreds of megabytes a step. So files are opened here.
    def _generate_single_turn(self, prompts: list, images: list[list[str]] | None):
        opened: dict[str, Image.Image] = {}
        pictures = None
        if images is not None:
            for path in {path for paths in images for path in paths}:
                opened[path] = resize_for_training(open_image(path), **self.budget)
            pictures = [[opened[path] for path in paths] for paths in images]
        with self._timed("rollout"):
            if self.servers is None:
                with finite_logits(self.accelerator.unwrap_model(self.model)):
                    return super()._generate_single_turn(prompts, pictures)
            return self._generate_on_servers(prompts, pictures)

    def _generate_on_servers(self, prompts: list, images: list[list[Image.Image]] | None):
        """As upstream's method: prompt ids, completion ids, log-probabilities (None: recomputed here), pixels."""
        step = self.state.global_step
        if self._synced != step:
            with self._timed("adapter_sync"):
                self.servers.set_policy(self._save_adapter(step))
            self._synced = step
        texts = [
            self.processing_class.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            for prompt in prompts
        ]
        # The pixels come from this processor, so must the tokens that stand for them: a server that counts otherwise
        # is refused by `generate`.
        flat = [picture for pictures in images or [] for picture in pictures]
        inputs = self.processing_class(text=texts, images=flat or None, padding=True, return_tensors="pt")
        mask = inputs["attention_mask"].bool()
        prompt_ids = [ids[kept].tolist() for ids, kept in zip(inputs["input_ids"], mask, strict=True)]
        forward = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
        forward = {key: value.to(self.accelerator.device) for key, value in forward.items()}
        completion_ids = self.servers.generate(
            prompts=prompts, images=images or [[]] * len(prompts), prompt_ids=prompt_ids
        )
        return prompt_ids, completion_ids, None, forward

    def training_step(self, *args: Any, **kwargs: Any):
        with self._timed("step"):
            loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss).all():  # transformers' filter would log it as 0.0 and train on
            raise UserError(f"step {self.state.global_step + 1}: the loss is {loss.item()}; {NOT_FINITE}")
        return loss

    def save_model(self, *args: Any, **kwargs: Any):
        # A gradient that overflowed shows in the weights first.
        for name, weight in self.model.named_parameters():
            if weight.requires_grad and not torch.isfinite(weight).all():
                raise UserError(f"step {self.state.global_step}: {name} is not finite, and not saved; {NOT_FINITE}")
        return super().save_model(*args, **kwargs)

    @contextmanager
    def _timed(self, part: str):
        """Log the seconds of a part as `seconds/…`; forward and backward are `step` without the other parts."""
        start = time.perf_counter()
        yield
        mode = "train" if self.model.training else "eval"  # after: an evaluation leaves the model in its mode
        self._metrics[mode][f"seconds/{part}"].append(time.perf_counter() - start)

    def _save_adapter(self, step: int) -> str:
        """Write the policy's adapter where the servers can read it; returns its folder, the same in all processes."""
        model = self.accelerator.unwrap_model(self.model)
        folder, failed = self.servers.adapter_folder(step), None
        with self._gathered(model):
            if self.accelerator.is_main_process:
                try:
                    publish_adapter(folder, model.save_pretrained)
                except UserError as error:  # the other processes wait below; they must hear of it
                    failed = str(error)
        said = [str(folder), failed]  # each process has a name of its own for the folder; the main one's counts
        if self.accelerator.num_processes > 1:
            broadcast_object_list(said, from_process=0)
        if said[1] is not None:
            raise UserError(said[1])
        return said[0]

    def _gathered(self, model: Any):
        """The adapter's weights whole in each process, which under ZeRO-3 they are not."""
        plugin = self.accelerator.state.deepspeed_plugin
        if plugin is None or plugin.zero_stage != 3:
            return nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters([weight for weight in model.parameters() if weight.requires_grad])

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self._timed("reward"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        rows = [
            {"item": item, "text": answer_text(completion, item["model_size"], item["query_size"])}
            for item, completion in zip(inputs, completions, strict=True)
        ]
        rows = gather_object([_readable(row) for row in rows])
        if self.rollout_log is not None and self.accelerator.is_main_process:
            self.rollout_log.append(self._groups(rows, rewards.cpu()))
        return rewards

    def _groups(self, rows: list[dict[str, Any]], rewards: torch.Tensor) -> list[dict[str, Any]]:
        """Rows of `rollouts.jsonl`.

        Args:
            rows: one for each completion, the completions to a prompt after one another.
            rewards: (completions, reward functions); NaN where a function does not apply.
        """
        mode, step, size = ("train" if self.model.training else "eval"), self.state.global_step, self.num_generations
        totals = (rewards * self.reward_weights).nansum(1).view(-1, size)
        advantages = totals - totals.mean(1, keepdim=True)
        if self.scale_rewards == "group":
            advantages = advantages / (totals.std(1, keepdim=True) + 1e-4)
        if (mode, step) != getattr(self, "_logged", (None, None))[:2]:
            self._logged = (mode, step, 0)
        groups = []
        for group in range(len(rows) // size):
            number = self._logged[2] + group
            head, members = rows[group * size], []
            for k in range(size):
                one = rewards[group * size + k]
                named = zip(self.reward_func_names, one.tolist(), strict=True)
                members.append(
                    {
                        "text": rows[group * size + k]["text"],
                        "total": round(totals[group, k].item(), 6),
                        "advantage": round(advantages[group, k].item(), 6),
                        "rewards": {name: round(value, 6) for name, value in named if value == value},
                    }
                )
            about = {key: value for key, value in head.items() if key != "text"}
            groups.append(
                {"key": f"{mode}-{step:06d}-{number:04d}", "mode": mode, "step": step, **about, "completions": members}
            )
        self._logged = (mode, step, self._logged[2] + len(groups))
        return groups

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        # TRL logs held-out rewards but leaves them out of what early stopping and the best checkpoint are judged by.
        # Every evaluation draws with the same random numbers, so that two differ by the policy alone, and training's
        # random numbers do not depend on how often it is evaluated.
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.args.seed + 7919 * self.accelerator.process_index)
            output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        for name, values in _known(self._metrics["eval"]).items():
            output.metrics[f"{prefix}_{name}"] = sum(values) / len(values)
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # A batch without, say, a localisation prompt has no mean for it; one such batch made the whole mean NaN.
        mode = "train" if self.model.training else "eval"
        known = _known(self._metrics[mode])
        self._metrics[mode].clear()
        self._metrics[mode].update(known)
        super().log(logs, start_time)


def _known(metrics: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Metrics without the values that are NaN; those with no other value are left out."""
    found = {name: [value for value in values if value == value] for name, values in metrics.items()}
    return {name: values for name, values in found.items() if values}


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    record = row["item"]["record"]
    question = next(m["content"] for m in reversed(record["messages"]) if m["role"] == "user")
    return {
        "record": record["key"],
        "task": task_of(record).name,
        "images": list(record["images"]),
        "question": question,
        "truth": record["answer"],
        "size": list(row["item"]["query_size"]),
        "boxes": record.get("boxes") or [],
        "text": row["text"],
    }
