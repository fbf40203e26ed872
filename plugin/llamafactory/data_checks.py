"""Samples that cannot be trained on are named before anything is tokenised, all of them in one message.

Every sample is encoded by LlamaFactory's own code, with images known by their files' headers only, so what is found
here is exactly what training would have stumbled over. An image's pads are counted, not tokenised, unless the sample
is too long: two images of 2800 × 2800 are 20,000 pads, hundreds of times the work of the text around them. Only
supervised fine-tuning with template `adcopilot` is looked at; a streamed data set, which cannot be looked at
beforehand, is guarded sample by sample while it is tokenised.
"""

import copy
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..boxes import image_tokens
from ..errors import UserError
from ..images import image_size
from ..model.processing import AdCopilotProcessor
from ..records import REMEDIES, check_box, record_boxes
from ..trained_sizes import merge_sizes, sizes_of

#: So many bad samples are named; of the others only the number is.
MAX_NAMED = 20


def register(loader) -> None:
    """Wrap three functions of `llamafactory.data.loader`; they do nothing new for any other template."""
    for holder, name, wrap in (
        (loader, "get_dataset", _check_names_first),
        (loader, "_get_preprocessed_dataset", _check_samples_first),
        (loader.SupervisedDatasetProcessor, "_encode_data_example", _refuse_cut_images),
    ):
        original = getattr(holder, name)
        if not hasattr(original, "adcopilot"):
            wrapped = functools.wraps(original)(wrap(original))
            wrapped.adcopilot = True
            setattr(holder, name, wrapped)


def is_ours(template) -> bool:
    """Whether a LlamaFactory template is `adcopilot`'s, under whatever name."""
    from .mm_plugin import AdCopilotPlugin  # here, because that module may be the one that is importing LlamaFactory

    return isinstance(template.mm_plugin, AdCopilotPlugin)


def check_dataset_names(data_args) -> None:
    """Refuse a `dataset_dir` or a data set's name that does not exist.

    Raises:
        UserError: naming the file that was looked for, and the data sets that there are.
    """
    folder = data_args.dataset_dir
    if not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
        return
    names = [name for names in (data_args.dataset, data_args.eval_dataset) for name in names or []]
    path = Path(folder, "dataset_info.json")
    if not names:
        return
    try:
        registered = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"dataset_dir {folder}: no dataset_info.json there (seen from {Path.cwd()}); "
            "set dataset_dir to the folder that holds it"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected a JSON object of data sets") from None
    for name in names:
        if name not in registered:
            known = ", ".join(registered) or "(none)"
            raise UserError(f"dataset {name}: not registered in {path}; there are: {known}")
        file = registered[name].get("file_name")
        local = file is not None and not any(key.endswith("_url") for key in registered[name])
        if local and not Path(folder, file).exists():
            raise UserError(f"dataset {name}: {Path(folder, file)} does not exist; {path} names it")


def check_packing(data_args) -> None:
    """Refuse packing that would mix conversations, and lengths that LlamaFactory 0.9.5 cannot pack images into.

    Plain `packing` makes one conversation of all in a row: an image would be compared with another conversation's.
    `neat_packing` keeps them apart, but when a row is padded to a multiple of 8, LlamaFactory misses positions for the
    pads (any Qwen-VL model: "Merged position_ids shape mismatch").

    Raises:
        UserError: naming the setting that works.
    """
    if data_args.packing and not data_args.neat_packing:
        raise UserError("packing: true lets conversations see each other's images; set neat_packing: true instead")
    row = data_args.cutoff_len + 1  # LlamaFactory took one off when it read the settings, and adds it again
    if data_args.neat_packing and row % 8:
        raise UserError(
            f"neat_packing with cutoff_len {row}: LlamaFactory packs images only into rows of a multiple of 8 tokens; "
            f"set cutoff_len to {row // 8 * 8 + 8}"
        )


class SampleCheck:
    """Finds what is wrong with samples as LlamaFactory's converters leave them (`_prompt`, `_response`, `_images` …).

    Args:
        encoder: LlamaFactory's `SupervisedDatasetProcessor`; it has template, tokenizer, processor and `cutoff_len`.
    """

    def __init__(self, *, encoder):
        self.cutoff_len = encoder.data_args.cutoff_len
        self.encoder = copy.copy(encoder)
        self.encoder.template = copy.copy(encoder.template)
        self.encoder.template.mm_plugin = copy.copy(encoder.template.mm_plugin)
        self.encoder.template.mm_plugin.decode_images = False
        self.uncut = copy.copy(self.encoder)
        self.uncut.data_args = copy.copy(encoder.data_args)
        self.uncut.data_args.cutoff_len = sys.maxsize
        # Uncut, and with one pad for each image.
        self.short = copy.copy(self.uncut)
        self.short.template = copy.copy(self.uncut.template)
        self.short.template.mm_plugin = copy.copy(self.uncut.template.mm_plugin)
        self.short.template.mm_plugin.expand_mm_tokens = False

    def length(self, sample: dict[str, Any]) -> int:
        """Tokens of a sample, uncut.

        Raises:
            UserError: the sample cannot be trained on; the message names it by its images.
        """
        from .mm_plugin import size_for_model  # here, as in `is_ours`

        name = sample_name(sample)
        images = sample["_images"] or []
        sizes = [_named(image_size, image, name=name) for image in images]
        self.model_sizes = []
        messages = [*sample["_prompt"], *sample["_response"]]
        for index, box in record_boxes({"messages": messages}, name=name):
            if 0 <= index < len(sizes):  # otherwise encoding says what is wrong
                check_box(box, name=name, size=sizes[index], image=_image_name(images[index]), remedies=REMEDIES)
        if sample["_videos"]:
            length = len(_encode(self.uncut, sample)[0])
        else:
            self.model_sizes = [_named(size_for_model, size, self.encoder.processor, name=name) for size in sizes]
            pads = [self._pads(size) for size in self.model_sizes]
            length = len(_encode(self.short, sample)[0]) - len(pads) + sum(pads)
            if sum(pads) > self.cutoff_len:
                raise _cut_images(sample, self.encoder)
        if length > self.cutoff_len:
            _encode(self.encoder, sample)
        return length

    def _pads(self, size: tuple[int, int]) -> int:
        """Image and comparison pads of an image of this (width, height) as the model sees it."""
        processor, units = self.encoder.processor, self.encoder.processor.image_processor
        own = image_tokens(size, patch_size=units.patch_size, merge_size=units.merge_size)
        return own + processor.num_comparison_tokens

    def __call__(self, samples: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        """For `datasets.map` with batches and indices: (row, length, problem, sizes) of each sample: problem ""
        if there is none, sizes the (width, height) of its images as the model sees them."""
        lengths, problems, sizes = [], [], []
        for values in zip(*samples.values(), strict=True):
            sample = dict(zip(samples, values, strict=True))
            length, problem, self.model_sizes = 0, "", []
            # Others LlamaFactory drops, and says so.
            if len(sample["_prompt"]) % 2 == 1 and len(sample["_response"]) == 1:
                try:
                    length = self.length(sample)
                except UserError as error:
                    problem = str(error)
            lengths.append(length)
            problems.append(problem)
            sizes.append(self.model_sizes)
        return {"row": rows, "length": lengths, "problem": problems, "sizes": sizes}


class Checked(NamedTuple):
    """What `check_samples` finds out.

    Attributes:
        lengths: tokens of each sample, 0 for one that LlamaFactory drops.
        sizes: the range of all images' sizes (`adcopilot.trained_sizes`).
    """

    lengths: list[int]
    sizes: dict[str, list[int]] | None


def check_samples(dataset, *, encoder, num_proc: int | None = None) -> Checked:
    """Check all samples of a data set that LlamaFactory has loaded and aligned.

    Args:
        dataset: a `datasets.Dataset`, not a streamed one.
        encoder: as for `SampleCheck`.
        num_proc: processes to use, LlamaFactory's `preprocessing_num_workers`.

    Raises:
        UserError: one line that names the first `MAX_NAMED` bad samples and says how many there are.
    """
    found = dataset.map(
        SampleCheck(encoder=encoder),
        batched=True,
        batch_size=200,
        with_indices=True,
        remove_columns=dataset.column_names,
        num_proc=num_proc,
        # Images may have been replaced since, which the cache would not notice.
        load_from_cache_file=False,
        keep_in_memory=True,
        desc="Checking samples",
    )
    rows = zip(found["row"], found["problem"], strict=True)
    refuse_problems([(row, problem) for row, problem in rows if problem], len(found))
    return Checked(list(found["length"]), sizes_of(size for sizes in found["sizes"] for size in sizes))


def refuse_problems(problems: Sequence[tuple[int, str]], total: int) -> None:
    """Raise one `UserError` for all of `(row, problem)`, or return if there are none."""
    if not problems:
        return
    named = "; ".join(f"[{row}] {problem}" for row, problem in problems[:MAX_NAMED])
    more = f"; and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
    raise UserError(f"{len(problems)} of {total} samples cannot be trained on: {named}{more}")


def sample_name(sample: dict[str, Any]) -> str:
    """How a message names a sample: by its images, or else by its first words."""
    images = [_image_name(image) for image in sample["_images"] or []]
    if images:
        return "sample with images " + ", ".join(images[:4] + ["…"] * (len(images) > 4))
    words = " ".join(sample["_prompt"][0]["content"].split())
    return f"sample {words[:60]!r}" if sample["_prompt"] else "sample"


def _image_name(image: Any) -> str:
    if isinstance(image, dict):
        image = image.get("path")
    return image if isinstance(image, str) else "<image data>"


def _named(function, *args, name: str):
    try:
        return function(*args)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _cut_images(sample: dict[str, Any], encoder) -> UserError:
    return UserError(
        f"{sample_name(sample)}: does not fit cutoff_len {encoder.data_args.cutoff_len}: tokens of its "
        f"{len(sample['_images'])} images would be cut; raise cutoff_len or lower image_max_pixels "
        f"({encoder.processor.image_max_pixels})"
    )


def _encode(encoder, sample: dict[str, Any]) -> tuple[list[int], list[int]]:
    return encoder._encode_data_example(
        prompt=sample["_prompt"],
        response=sample["_response"],
        system=sample["_system"],
        tools=sample["_tools"],
        images=sample["_images"] or [],
        videos=sample["_videos"] or [],
        audios=sample["_audios"] or [],
    )


def _check_names_first(get_dataset):
    def wrapped(template, model_args, data_args, training_args, *args, **kwargs):
        if not is_ours(template):
            return get_dataset(template, model_args, data_args, training_args, *args, **kwargs)
        check_dataset_names(data_args)
        check_packing(data_args)
        module = get_dataset(template, model_args, data_args, training_args, *args, **kwargs)
        processor = kwargs.get("processor")
        if training_args.do_train and isinstance(processor, AdCopilotProcessor):
            _remember_sizes(processor)
        return module

    return wrapped


def _check_samples_first(get_preprocessed_dataset):
    def wrapped(dataset, data_args, training_args, stage, template, tokenizer, processor=None, is_eval=False):
        # Other processes of the same machine wait for the first (main_process_first) and end with it.
        index = training_args.process_index if data_args.data_shared_file_system else training_args.local_process_index
        if dataset is not None and stage == "sft" and is_ours(template) and not data_args.streaming and index == 0:
            from llamafactory.data.processor import SupervisedDatasetProcessor

            encoder = SupervisedDatasetProcessor(
                template=template, tokenizer=tokenizer, processor=processor, data_args=data_args
            )
            checked = check_samples(dataset, encoder=encoder, num_proc=data_args.preprocessing_num_workers)
            if not is_eval and isinstance(processor, AdCopilotProcessor):
                processor.sizes_seen = checked.sizes or {}
        return get_preprocessed_dataset(
            dataset, data_args, training_args, stage, template, tokenizer, processor, is_eval
        )

    return wrapped


def _remember_sizes(processor: AdCopilotProcessor) -> None:
    """Let the processor, which training saves, know the sizes of all stages so far.

    Where they are not known (a streamed or tokenised data set, another stage than sft, a folder of a version that did
    not write them) there is no field and no check: a range that is too narrow would be a false alarm.
    """
    before, seen = processor.trained_sizes, vars(processor).pop("sizes_seen", None)
    known = before is not None and seen is not None
    processor.trained_sizes = (merge_sizes(before, seen) or {}) if known else None


def _refuse_cut_images(encode):
    # Cut images would be a shape error four layers down, in the middle of training.
    def wrapped(self, prompt, response, system, tools, images, videos, audios):
        encoded = encode(self, prompt, response, system, tools, images, videos, audios)
        if images and is_ours(self.template) and self.template.mm_plugin.expand_mm_tokens:
            # An image's comparison tokens come after its own, and text is cut at its end: whoever has all of the
            # former has all of the latter.
            expected = len(images) * self.processor.num_comparison_tokens
            found = encoded[0].count(self.processor.comparison_token_id)
            if found != expected:
                raise _cut_images({"_images": images, "_prompt": prompt}, self)
        return encoded

    return wrapped
