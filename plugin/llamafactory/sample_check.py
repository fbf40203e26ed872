"""What is wrong with the samples of a data set, found as LlamaFactory's own code encodes them.

Images are known by their files' headers only. For supervised fine-tuning an image's pads are counted, not tokenised,
unless the sample is too long: two images of 2800 × 2800 are 20,000 pads, hundreds of times the work of the text around
them. When this is done, and what else is looked at, says `data_checks.py`.
"""

import copy
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..boxes import image_tokens
from ..errors import UserError
from ..images import image_size
from ..model.pairing import comparison_tokens_of
from ..records import REMEDIES, check_box, record_boxes
from ..trained_sizes import sizes_of

#: So many bad samples are named; of the others only the number is.
MAX_NAMED = 20


#: LlamaFactory's classes that encode samples with images.
PROCESSORS = (
    "SupervisedDatasetProcessor",
    "PairwiseDatasetProcessor",
    "FeedbackDatasetProcessor",
    "UnsupervisedDatasetProcessor",
)


class SampleCheck:
    """Finds what is wrong with samples as LlamaFactory's converters leave them (`_prompt`, `_response`, `_images` …).

    Args:
        encoder: one of LlamaFactory's `PROCESSORS`; it has template, tokenizer, processor and `cutoff_len`.
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
        self.kind = _kind(encoder)

    def length(self, sample: dict[str, Any]) -> int:
        """Tokens of a sample, uncut; of the longer answer where there are two.

        Raises:
            UserError: the sample cannot be trained on; the message names it by its images.
        """
        from .mm_plugin import size_for_model  # here, as in `is_ours`

        name = sample_name(sample)
        images = sample["_images"] or []
        sizes = [_named(image_size, image, name=name) for image in images]
        for response in [sample["_response"]] if self.kind == "supervised" else [[one] for one in sample["_response"]]:
            for index, box in record_boxes({"messages": [*sample["_prompt"], *response]}, name=name):
                if 0 <= index < len(sizes):  # otherwise encoding says what is wrong
                    image = _image_name(images[index])
                    check_box(box, name=name, size=sizes[index], image=image, remedies=REMEDIES)
        self.model_sizes = [_named(size_for_model, size, self.encoder.processor, name=name) for size in sizes]
        if sample["_videos"] or self.kind != "supervised":
            length = max(map(len, token_lists(_encode(self.uncut, sample, self.kind))))
        else:
            pads = [self._pads(place, size) for place, size in enumerate(self.model_sizes)]
            length = len(_encode(self.short, sample, self.kind)[0]) - len(pads) + sum(pads)
            if sum(pads) > self.cutoff_len:
                raise cut_images(sample["_images"], sample["_prompt"], self.encoder)
        if length > self.cutoff_len:
            _encode(self.encoder, sample, self.kind)
        return length

    def _pads(self, place: int, size: tuple[int, int]) -> int:
        """Image and comparison pads of a sample's image at this place, (width, height) as the model sees it."""
        processor, units = self.encoder.processor, self.encoder.processor.image_processor
        own = image_tokens(size, patch_size=units.patch_size, merge_size=units.merge_size)
        return own + comparison_tokens_of(processor, place)

    def __call__(self, samples: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        """For `datasets.map` with batches and indices: (row, length, problem, sizes) of each sample: problem ""
        if there is none, sizes the (width, height) of its images as the model sees them."""
        lengths, problems, sizes = [], [], []
        for values in zip(*samples.values(), strict=True):
            sample = dict(zip(samples, values, strict=True))
            length, problem, self.model_sizes = 0, "", []
            if self._is_kept(sample):
                try:
                    length = self.length(sample)
                except UserError as error:
                    problem = str(error)
            lengths.append(length)
            problems.append(problem)
            sizes.append(self.model_sizes)
        return {"row": rows, "length": lengths, "problem": problems, "sizes": sizes}

    def _is_kept(self, sample: dict[str, Any]) -> bool:
        """Whether LlamaFactory encodes a sample; others it drops, and says so."""
        answers = len(sample["_response"])
        enough = {"supervised": answers == 1, "generation": True}.get(self.kind, answers >= 2)
        return len(sample["_prompt"]) % 2 == 1 and enough


class Checked(NamedTuple):
    """What `check_samples` finds out.

    Attributes:
        lengths: tokens of each sample, 0 for one that LlamaFactory drops.
        sizes: the range of all images' sizes (`adcopilot.trained_sizes`).
        longest: (width, height) of the images of the longest sample, as the model sees them.
    """

    lengths: list[int]
    sizes: dict[str, list[int]] | None
    longest: list[tuple[int, int]]


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
    lengths, sizes = list(found["length"]), list(found["sizes"])
    longest = sizes[max(range(len(lengths)), key=lengths.__getitem__)] if lengths else []
    return Checked(lengths, sizes_of(size for images in sizes for size in images), [tuple(size) for size in longest])


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


def cut_images(images: Sequence[Any], prompt: list[dict[str, str]], encoder) -> UserError:
    return UserError(
        f"{sample_name({'_images': images, '_prompt': prompt})}: does not fit cutoff_len "
        f"{encoder.data_args.cutoff_len}: tokens of its {len(images)} images would be cut; raise cutoff_len or lower "
        f"image_max_pixels ({encoder.processor.image_max_pixels})"
    )


def _kind(encoder) -> str:
    from llamafactory.data import processor

    for name, kind in zip(PROCESSORS, ("supervised", "pairwise", "feedback", "generation"), strict=True):
        if isinstance(encoder, getattr(processor, name)):
            return kind
    raise TypeError(f"{type(encoder).__name__} encodes no samples with images")


def _encode(encoder, sample: dict[str, Any], kind: str) -> tuple[Any, ...]:
    # KTO pairs a prompt with another sample's answer; which one is only known in its batch, where the guard is.
    other = {"kl_response": sample["_response"]} if kind == "feedback" else {}
    return encoder._encode_data_example(
        prompt=sample["_prompt"],
        response=sample["_response"],
        **other,
        system=sample["_system"],
        tools=sample["_tools"],
        images=sample["_images"] or [],
        videos=sample["_videos"] or [],
        audios=sample["_audios"] or [],
    )


def token_lists(encoded: tuple[Any, ...]) -> list[list[int]]:
    """The tokens of what a processor returns: they and their labels by turns, and for KTO a mark at the end."""
    return [found for found in encoded[0::2] if isinstance(found, list)]


def encoder_of(stage: str, template, data_args, tokenizer, processor, *, generates: bool = False):
    """What LlamaFactory encodes samples with in a stage: `sft`, `rm` (DPO too), `kto` or `ppo`.

    Args:
        generates: whether answers are generated and not trained on.
    """
    from llamafactory.data import processor as processors

    if stage == "sft" and not generates:
        name = PROCESSORS[0]
    else:
        name = {"rm": PROCESSORS[1], "kto": PROCESSORS[2]}.get(stage, PROCESSORS[3])
    return getattr(processors, name)(template=template, tokenizer=tokenizer, processor=processor, data_args=data_args)
