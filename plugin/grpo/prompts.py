"""Chat-AD records with a verifiable answer, as the prompts that GRPO samples answers to."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ..answering.sizing import trained_budget
from ..boxes import image_tokens, map_text_boxes, parse_boxes, size_for_processor
from ..cli.saying import progress
from ..dataset_info import read_entries
from ..errors import UserError
from ..files import path_inside
from ..images import image_size
from ..jsonl import content_key, read_jsonl
from ..model.pairing import comparison_tokens_of
from ..prompts import THINK_INSTRUCTION, thinking_question
from ..records import IMAGE_PLACEHOLDER, REMEDIES, check_box, check_record
from ..tasks import task_of
from ..tasks.choice import CHOICE, options_of
from ..tasks.locate import LOCATE, read_truth
from ..threads import side_by_side
from ..vision_tokens import escape_vision_tokens

__all__ = ["RolloutPrompts", "dataset_files", "open_records", "read_rollout_records", "run_prompts"]

#: So many records that cannot be used are named; of the others only the number is.
MAX_NAMED = 10


def dataset_files(names: Sequence[str], dataset_dir: str | Path) -> list[Path]:
    """The JSONL files of data sets that `dataset_info.json` registers; a name that ends in .jsonl is a file itself.

    Raises:
        UserError: a name is not registered, or its file is not there.
    """
    registry = Path(dataset_dir, "dataset_info.json")
    entries: Mapping[str, Any] = {}
    files = []
    for name in names:
        if name.endswith(".jsonl"):
            file = Path(name)
        else:
            if not registry.is_file():
                raise UserError(
                    f"dataset_dir {dataset_dir}: no dataset_info.json there (seen from {Path.cwd()}), in which {name} "
                    "would be registered; set dataset_dir to the folder that holds it"
                )
            entries = entries or read_entries(registry)
            if name not in entries:
                known = ", ".join(sorted(entries)) or "none"
                raise UserError(f"{registry}: has no data set {name!r}; there are: {known[:400]}")
            file = Path(dataset_dir, str(entries[name].get("file_name")))
        if not file.is_file():
            raise UserError(f"{file}: no such file; make it with `adcopilot data build` (data set {name})")
        files.append(file)
    return files


def read_rollout_records(files: Sequence[Path], *, media_dir: str | Path) -> list[dict[str, Any]]:
    """All records, checked: their form, their images, and that the answer can be verified.

    Each gets a `key` if it has none, by its content.

    Raises:
        UserError: naming the first `MAX_NAMED` records that cannot be used, and the number of all.
    """
    records, problems = [], []
    masked: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for file in files:
        for number, record in progress(read_jsonl(file), desc=file.name, unit=" records", hidden=None):
            name = f"{file}:{number}"
            try:
                check_record(record, name=name)
                if not record.get("images"):
                    raise UserError(f"{name}: has no image; expected a template and a query")
                sizes = [_file_size(path_inside(media_dir, path)) for path in record["images"]]
                check_record(record, name=name, sizes=sizes)
                task = task_of(record)
                _check_truth(record, sizes[-1], name)
                if task is CHOICE and record["answer"].strip() not in options_of(record["messages"][-2]["content"]):
                    raise UserError(
                        f"{name}: the answer {record['answer']!r} is no option of its question; expected each option "
                        "on a line of its own, as in `A. Scratch`"
                    )
                if (
                    task is LOCATE
                    and parse_boxes(record["answer"])
                    and not (record.get("boxes") or record.get("mask"))
                ):
                    raise UserError(
                        f"{name}: its answer has boxes, but it has neither 'boxes' nor a 'mask' that an answer could "
                        "be held against; add 'boxes'"
                    )
                if task is LOCATE and record.get("mask"):
                    if not path_inside(media_dir, record["mask"]).is_file():
                        raise UserError(f"{name}: mask {record['mask']} not found in {media_dir}; check media_dir")
                    masked.setdefault((record["mask"], record["images"][-1]), (name, record))
            except UserError as error:
                problems.append(str(error) if name in str(error) else f"{name}: {error}")
                continue
            record.setdefault("key", content_key(record))
            records.append(record)
    problems += _bad_masks(list(masked.values()), media_dir)
    if problems:
        more = f" (and {len(problems) - MAX_NAMED} more)" if len(problems) > MAX_NAMED else ""
        raise UserError("; ".join(problems[:MAX_NAMED]) + more)
    if not records:
        raise UserError(f"{', '.join(map(str, files))}: no records; expected Chat-AD records, one JSON object a line")
    double = [key for key, count in Counter(record["key"] for record in records).items() if count > 1]
    if double:
        raise UserError(f"{len(double)} records are there twice (key {double[0]}); give each data set once")
    return records


def _bad_masks(named: Sequence[tuple[str, Mapping[str, Any]]], media_dir: str | Path) -> list[str]:
    """What is wrong with masks that answers would be held against, hours later. All are read: a picture's header says
    neither that its end is missing nor that it marks nothing."""

    def problem(one: tuple[str, Mapping[str, Any]]) -> str:
        name, record = one
        try:
            read_truth(record, media_dir)
        except UserError as error:
            return f"{name}: {error}"
        return ""

    return list(filter(None, side_by_side(problem, named, desc="reading", unit=" masks")))


def _check_truth(record: Mapping[str, Any], size: tuple[int, int], name: str) -> None:
    """The field `boxes`, which localisation is rewarded by: pixels of the query, as the boxes of the text."""
    boxes, mask = record.get("boxes") or [], record.get("mask") or ""
    if not isinstance(boxes, list) or not isinstance(mask, str):
        raise UserError(f"{name}: 'boxes' is {boxes!r:.60} and 'mask' {mask!r:.60}, expected a list and a path")
    for box in boxes:
        check_box(box, name=name, size=size, image=record["images"][-1], remedies=REMEDIES)


def draw(records: list[dict[str, Any]], count: int | None, *, seed: int) -> list[dict[str, Any]]:
    """`count` records in a fixed random order; all of them, as they stand, if there are no more."""
    if count is None or count >= len(records):
        return records
    return random.Random(seed).sample(records, count)


def open_records(args: Any, *, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training's and held-out records of a run, which have none in common where `val_size` splits them.

    Args:
        args: `GrpoArguments`.
        seed: of the draws.

    Raises:
        UserError: a data set that is not there, or what is wrong with its records.
    """
    train_files, eval_files = (dataset_files(names, args.dataset_dir) for names in (args.datasets, args.eval_datasets))
    media_dir = args.media_dir or args.dataset_dir
    records = draw(read_rollout_records(train_files, media_dir=media_dir), args.max_samples, seed=seed)
    held_out = read_rollout_records(eval_files, media_dir=media_dir) if eval_files else []
    if args.val_size:
        if args.val_size >= len(records):
            raise UserError(f"val_size is {args.val_size}, expected less than the {len(records)} records there are")
        held_out = draw(records, args.val_size, seed=seed)
        kept_out = {record["key"] for record in held_out}
        records = [record for record in records if record["key"] not in kept_out]
    return records, draw(held_out, args.max_eval_samples, seed=seed)


def run_prompts(records: Sequence[dict[str, Any]], *, args: Any, config: Any, processor: Any) -> RolloutPrompts:
    """The prompts of a run's records, within its own pixels, else the model's, else the defaults.

    Args:
        args: `GrpoArguments`.
        config: `trl.GRPOConfig`.

    Raises:
        UserError: as `RolloutPrompts`.
    """
    budget = trained_budget(processor, smallest=args.image_min_pixels, largest=args.image_max_pixels)
    return RolloutPrompts(
        records=records,
        processor=processor,
        media_dir=args.media_dir or args.dataset_dir,
        image_max_pixels=budget.largest,
        image_min_pixels=budget.smallest,
        think=args.think,
        cutoff_len=args.cutoff_len,
        max_completion_length=config.max_completion_length,
    )


class RolloutPrompts(Dataset):
    """Prompts in the form that TRL's GRPOTrainer takes, one for each record.

    An item is a dictionary:

        prompt      messages; contents are lists of `{"type": "image"}` and `{"type": "text"}`
        images      paths of the images, in the prompt's order; opened by the trainer when they are needed
        record      the record
        query_size  (width, height) of the last image, upright, in pixels of the file
        model_size  (width, height) of the same image as the model sees it: the space of a completion's boxes

    What stood in the record's last answer is not in the prompt; earlier turns are, their boxes in the model's pixels.

    Args:
        records: of `read_rollout_records`.
        processor: the model's; its settings decide about `model_size`.
        media_dir: the folder that the records' paths start from.
        image_max_pixels, image_min_pixels: LlamaFactory's settings, areas in pixels.
        think: whether to ask for reasoning where a question does not yet.
        cutoff_len: longest prompt and completion together, in tokens; records beyond are counted in `too_long` and
            left out.
        max_completion_length: tokens.

    Attributes:
        longest: (tokens of the prompt, record) of the longest that is not left out.

    Raises:
        UserError: no record is short enough.
    """

    def __init__(
        self,
        *,
        records: Sequence[dict[str, Any]],
        processor: Any,
        media_dir: str | Path,
        image_max_pixels: int,
        image_min_pixels: int,
        think: bool,
        cutoff_len: int,
        max_completion_length: int,
    ) -> None:
        self.processor = processor
        self.media_dir = Path(media_dir)
        self.budget = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}
        self.think = think
        room = cutoff_len - max_completion_length
        lengths = [self.length(record) for record in progress(records, desc="prompt lengths", hidden=None)]
        fitting = [(length, record) for record, length in zip(records, lengths, strict=True) if length <= room]
        self.records = [record for _, record in fitting]
        self.longest = max(fitting, key=lambda one: one[0], default=None)
        self.too_long = len(records) - len(self.records)
        if not self.records:
            raise UserError(
                f"cutoff_len {cutoff_len}: no prompt is short enough, the shortest has {min(lengths)} tokens and "
                f"max_completion_length is {max_completion_length}; raise cutoff_len or lower image_max_pixels"
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        paths = [path_inside(self.media_dir, path) for path in record["images"]]
        query = _file_size(paths[-1])
        return {
            "prompt": self.messages(record),
            "images": [str(path) for path in paths],
            "record": record,
            "query_size": query,
            "model_size": self._model_size(query),
        }

    def messages(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The record's conversation up to and with its last question."""
        sizes = iter([(size, self._model_size(size)) for size in self._sizes(record)])
        messages, last = [], None
        turns = record["messages"][:-1]
        for index, message in enumerate(turns):
            text = message["content"]
            if self.think and index == len(turns) - 1 and THINK_INSTRUCTION not in text:
                text = thinking_question(text)
            content: list[dict[str, str]] = []
            for number, piece in enumerate(text.split(IMAGE_PLACEHOLDER)):
                if number:
                    content.append({"type": "image"})
                    last = next(sizes)
                if piece:
                    mapped = map_text_boxes(piece, *last) if last is not None else piece
                    content.append({"type": "text", "text": escape_vision_tokens(mapped)})
            messages.append({"role": message["role"], "content": content})
        return messages

    def length(self, record: Mapping[str, Any]) -> int:
        """Tokens of a record's prompt, from its images' headers."""
        text = self.processor.apply_chat_template(self.messages(record), tokenize=False, add_generation_prompt=True)
        images = self.processor.image_processor
        unit = {"patch_size": images.patch_size, "merge_size": images.merge_size}
        sizes = self.image_sizes(record)
        pads = sum(image_tokens(size, **unit) for size in sizes)
        if hasattr(self.processor, "num_comparison_tokens"):  # a plain Qwen2.5-VL has none
            pads += sum(comparison_tokens_of(self.processor, place) for place in range(len(sizes)))
        return len(self.processor.tokenizer(text).input_ids) - len(record["images"]) + pads

    def image_sizes(self, record: Mapping[str, Any]) -> list[tuple[int, int]]:
        """(width, height) of a record's images as the model sees them."""
        return [self._model_size(size) for size in self._sizes(record)]

    def _sizes(self, record: Mapping[str, Any]) -> list[tuple[int, int]]:
        return [_file_size(path_inside(self.media_dir, path)) for path in record["images"]]

    def _model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size_for_processor(size, self.processor.image_processor, **self.budget)


@cache  # headers are read once, not once for the checks, the lengths and each prompt
def _file_size(path: Path) -> tuple[int, int]:
    return image_size(path)
