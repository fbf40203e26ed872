"""An AD-Copilot model that answers and measures, at each layer, what its answer attends to.

Keys are the tokens of the images: *base* tokens (an image's own) and *comparison* tokens, each image's apart. Queries
are of two kinds:

    answer      the positions that the answer's tokens are predicted at: the prompt's last token, and every token of
                the answer but its last
    question    all tokens behind the last image, the prompt's last one left out: the question with its options

What is kept is the attention weight after the softmax, summed over the tokens of a set, averaged over heads and over
the queries of a kind: the share of a head's attention that goes there. The rest goes to text.

Everything up to the last image is run with fused kernels, which keep no weights; only the tokens behind it are run
with eager attention, against the filled cache. A layer's weights, (heads, queries, length), are summed by a hook as
soon as they exist and dropped: the largest thing in memory is one layer's, not all of them, and not length × length.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from adcopilot.answering.base import Reply, grouped
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.finite import bad_rows, not_finite_at
from adcopilot.inspect.greedy import Answered
from adcopilot.inspect.hub import model_folder
from adcopilot.inspect.loading import check_folder

from ...backends.branching import Prompt
from ...backends.prompting import sorted_groups
from ...backends.transformers_backend import TransformersBackend
from ...backends.trunks import grow
from .results import QUERIES

__all__ = ["QUERIES", "AttentionProbe", "image_sets", "tokens_behind_images"]


class AttentionProbe(TransformersBackend):
    """`TransformersBackend` for AD-Copilot that keeps in `measured` what each answer attended to.

    Answers are those of the backend, one question at a time.

    Args:
        model: folder of an AD-Copilot model.
        options: of `TransformersBackend`.

    Attributes:
        measured: item key → `measure`'s result, for items answered so far; whoever reads a result takes it out.

    Raises:
        UserError: it is no AD-Copilot model, or cannot be loaded.
    """

    def __init__(self, *, model: str, **options: Any) -> None:
        if check_folder(model_folder(model))[0] != "adcopilot":
            raise UserError(f"--model {model}: is no AD-Copilot model, so it has no comparison tokens to attend to")
        # Where no weights are needed a fused kernel runs; eager attention is switched on where they are.
        super().__init__(model=model, attention="sdpa", **options)
        self.measured: dict[str, dict[str, Any]] = {}

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """As `Backend.answer`."""
        for group in sorted_groups(grouped(items), self.sizing):
            ready = self._prepare(group)
            if ready.error is not None or ready.grid is None:
                error = ready.error or "has no image to attend to"
            elif self.model.config.comparison_token_id not in ready.prompts[0].ids:
                error = (
                    "has no comparison tokens to attend to: one image, and the model's comparison_of_first is false"
                )
            else:
                error = None
            if error:
                yield from ((item, Reply(error=error)) for item in group)
                continue
            yield from self._group(ready, max_new_tokens)

    def _group(self, ready: Any, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        cut = tokens_behind_images(ready.prompts[0].ids, self.model.config)
        sets = image_sets(ready.prompts[0].ids[:cut], self.model.config).to(self.model.device)
        prefix = None
        for item, prompt in zip(ready.items, ready.prompts, strict=True):
            start = time.perf_counter()
            try:
                if prefix is None:  # in the time of the group's first question
                    prefix = grow(self.model, [ready.whole(cut)], pad=self.greedy.pad)
                answered, found = self.measure(prompt, cut, prefix.cache, sets, max_new_tokens=max_new_tokens)
            except UserError as error:
                yield item, Reply(error=str(error))
                continue
            except torch.OutOfMemoryError:
                answered = None
            if answered is None:
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                yield item, Reply(error=f"{self.device}: out of memory; use a smaller --image-max-pixels")
                continue
            self.measured[item.key] = found
            [(_, reply)] = self._replies([item], answered)
            yield item, replace(reply, seconds=time.perf_counter() - start)

    @torch.inference_mode()
    def measure(
        self, prompt: Prompt, cut: int, cache: Any, sets: torch.Tensor, *, max_new_tokens: int
    ) -> tuple[Answered, dict[str, Any]]:
        """Answer a prompt greedily from a cache of its first `cut` tokens, which it is cut back to afterwards.

        Args:
            prompt: the whole prompt.
            cut: `tokens_behind_images`.
            cache: keys and values of the first `cut` tokens.
            sets: `image_sets`.
            max_new_tokens: longest answer.

        Returns:
            The answer, and for each of `QUERIES` and `base` and
            `comparison` the attention by layer and image, a list of lists, with `tokens`: how many keys of each kind
            the images have.

        Raises:
            UserError: the logits of a step are not finite.
        """
        sums: dict[str, Any] = dict.fromkeys(QUERIES, 0.0)
        counts = dict.fromkeys(QUERIES, 0)
        device = self.model.device
        ids, positions = torch.tensor([prompt.ids[cut:]]), prompt.positions[:, None, cut:]
        tokens: list[int] = []
        first_logits = None
        try:
            for step in range(max_new_tokens):
                length = cache.get_seq_length() + ids.shape[1]
                with weighed(self.model, sets) as layers:
                    hidden = self.model.model(
                        input_ids=ids.to(device),
                        attention_mask=torch.ones(1, length, dtype=torch.long, device=device),
                        position_ids=positions.to(device),
                        past_key_values=cache,
                        use_cache=True,
                    ).last_hidden_state
                weights = torch.stack(layers).double().cpu()  # (layers, queries, sets)
                sums["answer"] = sums["answer"] + weights[:, -1]
                counts["answer"] += 1
                if step == 0:
                    sums["question"] = weights[:, :-1].sum(1)
                    counts["question"] = weights.shape[1] - 1
                logits = self.model.lm_head(hidden[:, -1]).float()
                logits[:, self.greedy.banned] = -torch.inf
                if bad_rows(logits, banned=len(self.greedy.banned)).item():
                    raise UserError(not_finite_at(step + 1))
                first_logits = logits if first_logits is None else first_logits
                tokens.append(int(logits.argmax()))
                if tokens[-1] in self.greedy.ends:
                    break
                ids = torch.tensor([tokens[-1:]])
                positions = torch.full((3, 1, 1), prompt.following + step)
        finally:
            cut_back(cache, cut)
        images = sets.shape[1] // 2
        counted = sets.sum(0).int().tolist()
        found: dict[str, Any] = {"tokens": {"base": counted[:images], "comparison": counted[images:]}}
        for kind in QUERIES:
            mean = (sums[kind] / counts[kind]).tolist()
            found[kind] = {
                "base": [[round(value, 7) for value in layer[:images]] for layer in mean],
                "comparison": [[round(value, 7) for value in layer[images:]] for layer in mean],
            }
        return Answered(tokens=[tokens], first_logits=first_logits, failed=[0]), found


def cut_back(cache: Any, length: int) -> None:
    """Drop all but the first `length` tokens of each layer.

    Not `cache.crop`: since transformers 5.16 that takes the number of tokens to drop, the same for every layer, but
    where memory ran out between two layers only those before have grown.
    """
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]


def tokens_behind_images(ids: Sequence[int], config: Any) -> int:
    """Index of the first token behind the last image."""
    return len(ids) - list(ids)[::-1].index(config.vision_end_token_id)


def image_sets(ids: Sequence[int], config: Any) -> torch.Tensor:
    """(length, 2 × images) float32: 1 where a token is an image's own (first half of the columns, image by image) or
    one of an image's comparison tokens (second half)."""
    row = torch.tensor(ids)
    image = (row == config.vision_start_token_id).cumsum(0) - 1
    count = int(image[-1]) + 1
    sets = torch.zeros(len(row), 2 * count)
    for half, token in enumerate((config.image_token_id, config.comparison_token_id)):
        places = (row == token).nonzero()[:, 0]
        sets[places, half * count + image[places]] = 1
    return sets


@contextmanager
def weighed(model: Any, sets: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """While it lasts the language model attends eagerly, for the fused kernels (SDPA, flash-attention) never form the
    weights; after a forward pass the list holds for each layer (queries, sets), weights summed over a set's tokens and
    averaged over heads.

    Args:
        sets: (length of the cache, sets); tokens behind it belong to none.
    """
    language = model.model.language_model
    layers: list[torch.Tensor] = []

    def keep(_, __, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        weights = output[1][0, :, :, : len(sets)]  # (heads, queries, length)
        layers.append((weights.float() @ sets).mean(0))

    given = language.config._attn_implementation
    language.config._attn_implementation = "eager"
    handles = [layer.self_attn.register_forward_hook(keep) for layer in language.layers]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
        language.config._attn_implementation = given
