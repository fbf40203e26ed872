"""Greedy answers of a loaded model: its tokens, what it weighed at the first of them, and where it could not be read.

The one engine of `adcopilot inspect` and of evaluation on this machine; what is asked, and what an answer means, is
theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ..errors import UserError
from ..finite import LogitsCheck
from .loading import MODEL_TYPES

__all__ = ["Answered", "Greedy", "chat_prompt", "whole_tokens"]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Answers to a batch of prompts.

    Attributes:
        tokens: the new tokens of each, the ending one included where there is one.
        first_logits: (prompts, vocabulary) float32 logits of the first new token, pads banned.
        failed: for each prompt the step from 1 at which its logits were first not finite; 0 for one that was well.
    """

    tokens: list[list[int]]
    first_logits: torch.Tensor
    failed: list[int]


class Greedy:
    """A model that answers greedily and in no other way, whatever its generation_config.json says: the repetition
    penalty that Qwen2.5-VL's has would count against option letters and digits of boxes that stand in the question.

    Args:
        model: transformers', with `generate`. Its `generation_config` is replaced.
        processor: of the same folder.
        name: of the model, for the message.

    Attributes:
        ends: token ids that end an answer.
        pad: token id of padding.
        banned: token ids that are never chosen: a generated pad would stand for an image that is not there.

    Raises:
        UserError: no token is known that ends an answer.
    """

    def __init__(self, model: Any, processor: Any, *, name: str) -> None:
        self.model, self.processor = model, processor
        self.ends, self.pad = _ending_tokens(model, processor.tokenizer, name=name)
        names = ("image_token_id", "video_token_id", "comparison_token_id")
        self.banned = sorted({getattr(model.config, name, None) for name in names} - {None})
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=self.ends, pad_token_id=self.pad, suppress_tokens=self.banned or None
        )

    @torch.inference_mode()
    def answer(self, inputs: Mapping[str, Any], *, max_new_tokens: int) -> Answered:
        """Answer a batch of whole prompts.

        Args:
            inputs: the processor's, on the model's device, padded on the left.
            max_new_tokens: longest answer in tokens.

        Raises:
            torch.OutOfMemoryError: the device's memory does not hold the batch.
        """
        # Another family's model may ban a part of its vocabulary itself.
        banned = len(self.banned) if self.model.config.model_type in MODEL_TYPES else None
        first, check = _FirstLogits(), LogitsCheck(ends=self.ends, banned=banned)
        output = self.model.generate(
            **inputs,
            logits_processor=LogitsProcessorList([first, check]),
            max_new_tokens=max_new_tokens,
            use_cache=True,
        )
        tokens = []
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():  # what follows the end is padding
            end = next((index for index, token in enumerate(row) if token in self.ends), len(row))
            tokens.append(row[: end + 1])
        return Answered(tokens=tokens, first_logits=first.logits, failed=check.failed)

    def texts(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """What answers say, special tokens left out, white space at both ends removed."""
        said = self.processor.tokenizer.batch_decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text.strip() for text in said]


class _FirstLogits(LogitsProcessor):
    """Keeps the logits of the first new token and changes nothing; those of later ones would fill the memory."""

    def __init__(self) -> None:
        self.logits: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.logits is None:
            self.logits = scores.float()
        return scores


def _ending_tokens(model: Any, tokenizer: Any, *, name: str) -> tuple[list[int], int]:
    """Token ids that end an answer, and the id of padding."""
    given = model.generation_config.eos_token_id
    ends = {*(given if isinstance(given, (list, tuple)) else [given]), tokenizer.eos_token_id} - {None}
    if not ends:
        raise UserError(
            f"{name}: neither its tokenizer nor its generation_config.json says which token ends an answer "
            "(eos_token_id)"
        )
    pad = tokenizer.pad_token_id
    return sorted(ends), pad if pad is not None else min(ends)


def chat_prompt(processor: Any, turns: Iterable[tuple[str, Sequence[str | int]]]) -> str:
    """The prompt by a model's chat template, up to where the answer begins, each image one place holder.

    Args:
        processor: of the model.
        turns: of the conversation: `user` or `assistant`, and its parts, a text or the number of an image.
    """
    messages = [
        {
            "role": role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts
            ],
        }
        for role, parts in turns
    ]
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def whole_tokens(tokenizer: Any, words: Iterable[str]) -> set[int]:
    """Ids of the words, and of the words after a space, that the vocabulary holds whole."""
    pieces = [tokenizer.encode(text, add_special_tokens=False) for word in words for text in (word, " " + word)]
    return {piece[0] for piece in pieces if len(piece) == 1}
