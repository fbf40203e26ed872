"""Any image-text-to-text model through transformers, on this machine.

AD-Copilot and Qwen2.5-VL encode the images of a group and run the prefix of its prompts once; the questions branch
from there (`branching`), and pairs with the same templates from what these have in common (`trunks`). Other models,
and these with `reuse=False`, answer whole prompts with `generate`. In float32 the answers are the same, whatever the
batch size; in bfloat16 sums in another order may now and then turn a near tie.
"""

from __future__ import annotations

import inspect
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adcopilot.answering.base import Reply, grouped
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.finite import not_finite_at
from adcopilot.inspect.greedy import Answered, Greedy
from adcopilot.inspect.loading import pick_device, pick_dtype
from adcopilot.threads import keep_to_one_core

from .base import LocalBackend
from .branching import Prefix, answer_branches, make_prompts, shared_length
from .groups import PromptGroup, Whole, halves
from .loading import LoadedModel, load_any_model
from .prompting import prompt_text, sorted_groups
from .trunks import Trunk, grow, plant, trunk_length

__all__ = ["TransformersBackend"]

#: Threads that open images: decoding and resizing let others run, tokenizing and templates do not.
_READERS = 2


class TransformersBackend(LocalBackend):
    """A model on this machine.

    Args:
        model: folder, hub name (`OWNER/NAME`), or a model that is loaded already; then `family`, `device`, `dtype`,
            `attention` and `trust_remote_code` have been decided and are not used.
        family: as in `LocalBackend`.
        reuse: whether the questions of a group share its images and prefix; only AD-Copilot and Qwen2.5-VL do.
        device: `auto`, or a torch device.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16`, `float16`.
        attention: transformers' `attn_implementation`.
        trust_remote_code: run code that comes with the model.
        options: further ones of `LocalBackend`.

    Raises:
        UserError: the model cannot be loaded, or a value is out of its range.
    """

    name = "transformers"
    packages = ("adcopilot", "torch", "transformers")

    def __init__(
        self,
        *,
        model: str | Path | LoadedModel,
        family: str | None = None,
        reuse: bool = True,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "sdpa",
        trust_remote_code: bool = False,
        **options: int | None,
    ) -> None:
        super().__init__(family=family, **options)
        if isinstance(model, LoadedModel):
            loaded = model
        else:
            device = pick_device(device)
            loaded = load_any_model(
                str(model),
                family=family,
                device=device,
                dtype=pick_dtype(dtype, device),
                attention=attention,
                trust_remote_code=trust_remote_code,
            )
        self.model_name, self.device = loaded.name, str(loaded.model.device)
        self.dtype = str(loaded.model.dtype).removeprefix("torch.")
        self.model, self.digest = loaded.model, loaded.digest
        self.take(loaded.processor, loaded.family)
        self.reuse = reuse and loaded.reusable
        self._shared: set[tuple[Path, ...]] = set()
        self._trunks: dict[tuple, Trunk] = {}
        self.greedy = Greedy(self.model, self.processor, name=f"--model {self.model_name}")
        # A tokenizer that was saved with padding or truncation takes it off at its first call, which no two threads
        # may do at once.
        self.processor.tokenizer("")

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """As `Backend.answer`. An item whose image cannot be read, or that does not fit into the device's memory even
        alone, is answered with an error."""
        found = grouped(items)
        uses = Counter(group[0].images[:-1] for group in found)
        self._shared = {templates for templates, number in uses.items() if templates and number > 1}
        self._trunks = {}
        groups = sorted_groups(found, self.sizing)
        batches = self._batches(groups) if self.reuse else self._chunks(groups)
        prepare = self._prepare if self.reuse else self._open
        work = self._branch if self.reuse else self._generate
        # The next batch is read and resized while the model answers the one before.
        with ThreadPoolExecutor(_READERS, initializer=keep_to_one_core) as readers:
            following = [readers.submit(prepare, one) for one in next(batches, ())]
            while following:
                batch = [one.result() for one in following]
                following = [readers.submit(prepare, one) for one in next(batches, ())]
                yield from self._answered(work, batch, max_new_tokens)
        self._trunks = {}  # keys and values of the last templates would stay in memory

    def _answered(self, work: Any, batch: list[Any], max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """The replies to a batch; errors first, and a batch that does not fit into memory in parts."""
        for one in batch:
            if one.error is not None:
                yield from ((item, Reply(error=one.error)) for item in one.items)
        good = [one for one in batch if one.error is None]
        if not good:
            return
        start = time.perf_counter()
        try:
            pairs = work(good, max_new_tokens)
        except torch.OutOfMemoryError:
            pairs = None
        if pairs is not None:  # outside of the handler, which would keep the failed batch's tensors alive
            share = (time.perf_counter() - start) / len(pairs)
            yield from ((item, replace(reply, seconds=share)) for item, reply in pairs)
            return
        self._trunks = {}
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        parts = [[one] for one in good] if len(good) > 1 else halves(good[0])
        if not parts:
            error = f"{self.device}: out of memory with one question; use a smaller --image-max-pixels or --image-side"
            yield good[0].items[0], Reply(error=error)
        for part in parts:
            yield from self._answered(work, part, max_new_tokens)

    # Questions that branch from a prefix

    def _batches(self, groups: Iterator[list[Item]]) -> Iterator[list[list[Item]]]:
        """Whole groups, as many as have at most `batch_size` questions together, one at least."""
        batch: list[list[Item]] = []
        for group in groups:
            if batch and sum(map(len, batch)) + len(group) > self.batch_size:
                yield batch
                batch = []
            batch.append(group)
        if batch:
            yield batch

    def _prepare(self, items: list[Item]) -> PromptGroup:
        texts = [prompt_text(item, self.processor) for item in items]
        try:
            images = self.images(items[0])
        except UserError as error:
            return PromptGroup(items=items, error=str(error))
        inputs = self.processor(text=texts[:1], images=images or None, return_tensors="pt")
        grid = inputs.get("image_grid_thw")
        ids = self._all_ids(texts, inputs["input_ids"][0].tolist(), images)
        shared, trunk = shared_length(ids), 0
        if items[0].images[:-1] in self._shared:
            trunk = trunk_length(ids[0], image_end=self.model.config.vision_end_token_id)
        return PromptGroup(
            items=items,
            prompts=make_prompts(self.model, ids, grid),
            shared=shared,
            trunk=trunk if trunk < shared else 0,
            pixel_values=inputs.get("pixel_values"),
            grid=grid,
        )

    def _all_ids(self, texts: list[str], first: list[int], images: list[Any]) -> list[list[int]]:
        """Token ids of all prompts of a group, from those of the first.

        A special token ends whatever is before it, so the ids of a prompt are those of its two sides: what ends with
        the last image is the same for all, and only the rest is tokenized again.
        """
        tokenizer = self.processor.tokenizer
        if not images:
            return [first, *(tokenizer(text)["input_ids"] for text in texts[1:])]
        end = self.model.config.vision_end_token_id
        last = len(first) - first[::-1].index(end)
        heads, tails = zip(*(text.rsplit(tokenizer.convert_ids_to_tokens(end), 1) for text in texts), strict=True)
        rest = [tokenizer(tail, add_special_tokens=False)["input_ids"] for tail in tails]
        if first[:last] + rest[0] == first and len(set(heads)) == 1:
            return [first[:last] + ids for ids in rest]
        whole = [self.processor(text=[text], images=images)["input_ids"][0] for text in texts[1:]]
        return [first, *(list(map(int, ids)) for ids in whole)]

    def _branch(self, groups: list[PromptGroup], max_new_tokens: int) -> list[tuple[Item, Reply]]:
        pairs = []
        shared, own = [one for one in groups if one.trunk], [one for one in groups if not one.trunk]
        if shared:
            pairs += self._ask(shared, self._from_trunks(shared), max_new_tokens)
        if own:
            prefix = grow(self.model, [group.whole(group.shared) for group in own], pad=self.greedy.pad)
            pairs += self._ask(own, prefix, max_new_tokens)
        return pairs

    def _from_trunks(self, groups: list[PromptGroup]) -> Prefix:
        fresh = {group.trunk_key: group for group in groups if group.trunk_key not in self._trunks}
        stems = [group.stems()[0] for group in fresh.values()]
        planted = plant(self.model, stems, pad=self.greedy.pad) if fresh else []
        known = {**self._trunks, **dict(zip(fresh, planted, strict=True))}
        # Only this batch's may be wanted by the next: groups with the same templates follow one another.
        self._trunks = {group.trunk_key: known[group.trunk_key] for group in groups}
        trunks = [self._trunks[group.trunk_key] for group in groups]
        return grow(self.model, [group.stems()[1] for group in groups], trunks, pad=self.greedy.pad)

    def _ask(self, groups: list[PromptGroup], prefix: Prefix, max_new_tokens: int) -> list[tuple[Item, Reply]]:
        questions = [
            (item, (row, prompt, group.shared))
            for row, group in enumerate(groups)
            for item, prompt in zip(group.items, group.prompts, strict=True)
        ]
        pairs = []
        for start in range(0, len(questions), self.batch_size):
            some = questions[start : start + self.batch_size]
            asked = [question for _, question in some]
            found = answer_branches(self.greedy, prefix, asked, max_new_tokens=max_new_tokens)
            pairs += self._replies([item for item, _ in some], found)
        return pairs

    # Whole prompts

    def _chunks(self, groups: Iterator[list[Item]]) -> Iterator[list[Item]]:
        """At most `batch_size` items with the same number of images."""
        chunk: list[Item] = []
        for item in (item for group in groups for item in group):
            if chunk and (len(chunk) == self.batch_size or len(chunk[0].images) != len(item.images)):
                yield chunk
                chunk = []
            chunk.append(item)
        if chunk:
            yield chunk

    def _open(self, item: Item) -> Whole:
        text = prompt_text(item, self.processor)
        try:
            images = self.images(item)
        except UserError as error:
            return Whole(items=[item], error=str(error))
        return Whole(items=[item], text=text, images=images)

    def _generate(self, batch: list[Whole], max_new_tokens: int) -> list[tuple[Item, Reply]]:
        texts = [one.text for one in batch]
        bos = self.processor.tokenizer.bos_token
        # A template that writes the first token out does not want it twice.
        special = {"add_special_tokens": False} if bos and texts[0].startswith(bos) else {}
        images = [one.images for one in batch] if batch[0].images else None
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt", **special)
        inputs = inputs.to(self.model.device)
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            inputs.pop("token_type_ids", None)  # some tokenizers make them for models that do not take them
        for name, value in inputs.items():  # pixel values are float32 whatever the model is
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[name] = value.to(self.model.dtype)
        found = self.greedy.answer(inputs, max_new_tokens=max_new_tokens)
        return self._replies([one.items[0] for one in batch], found)

    # Both

    def _replies(self, items: list[Item], found: Answered) -> list[tuple[Item, Reply]]:
        logprobs = found.first_logits.log_softmax(-1).cpu()
        pairs = []
        answers = zip(items, self.greedy.texts(found.tokens), found.failed, strict=True)
        for row, (item, text, step) in enumerate(answers):
            if step:
                pairs.append((item, Reply(error=not_finite_at(step))))
                continue
            letters = {
                letter: logprobs[row, ids].logsumexp(0).item() for letter, ids in self.option_tokens(item).items()
            }
            cut_off = found.tokens[row][-1] not in self.greedy.ends
            pairs.append((item, Reply(text=text, option_logprobs=letters or None, truncated=cut_off)))
        return pairs
