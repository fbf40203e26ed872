"""Samples that cannot be trained on are named before anything is tokenised, all of them in one message.

Every sample is encoded by LlamaFactory's own code (`sample_check.py`), so what is found here is exactly what training
would have stumbled over. Only template `adcopilot` is looked at, in every stage that sees images (supervised,
pairwise, KTO, generation); a streamed data set, which cannot be looked at beforehand, is guarded sample by sample
while it is tokenised.
"""

import logging

from ..errors import UserError, one_line
from ..files import check_output_dir
from ..model.processing import AdCopilotProcessor
from ..trained_sizes import merge_sizes
from . import tokenized_folder
from .few_steps import say_few_steps
from .hook import wrap_once
from .matching import is_ours
from .sample_check import PROCESSORS, check_samples, cut_images, encoder_of, sample_name, token_lists
from .settings_checks import (
    begins_with_bom,
    check_dataset_names,
    check_numbers,
    check_packing,
    check_streaming,
    is_local,
)

logger = logging.getLogger(__name__)

#: Among them KTO's, which puts each answer behind the next sample's prompt too.
_FEEDBACK = PROCESSORS[2]

_SAMPLE = ("prompt", "response", "system", "tools", "images", "videos", "audios")

#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.data.loader:load_dataset": None,
    "llamafactory.data.loader:get_dataset": (
        *("template", "model_args", "data_args", "training_args", "stage", "tokenizer", "processor"),
    ),
    "llamafactory.data.loader:_get_preprocessed_dataset": (
        *("dataset", "data_args", "training_args", "stage", "template", "tokenizer", "processor", "is_eval"),
    ),
    **{
        f"llamafactory.data.loader:{name}._encode_data_example": (
            (*_SAMPLE, "kl_response") if name == _FEEDBACK else _SAMPLE
        )
        for name in PROCESSORS
    },
    f"llamafactory.data.loader:{_FEEDBACK}.preprocess_dataset": ("examples",),
}


def register(loader) -> None:
    """Wrap functions of `llamafactory.data.loader`; but for files with a byte order mark, which LlamaFactory cannot
    read, they do nothing new for any other template."""
    for holder, name, wrap in (
        (loader, "load_dataset", _read_files_with_bom),
        (loader, "get_dataset", _check_settings_first),
        (loader, "_get_preprocessed_dataset", _check_samples_first),
        *((getattr(loader, processor), "_encode_data_example", _refuse_cut_images) for processor in PROCESSORS),
        (getattr(loader, _FEEDBACK), "preprocess_dataset", _map_answers_by_their_own_images),
    ):
        wrap_once(holder, name, wrap)


def _read_files_with_bom(load_dataset):
    # Editors on Windows write it; the reader of `datasets` takes it for a part of the first record.
    def wrapped(*args, **kwargs):
        if kwargs.get("path") == "json" and begins_with_bom(kwargs.get("data_files")):
            kwargs["encoding"] = "utf-8-sig"
        return load_dataset(*args, **kwargs)

    return wrapped


def _check_settings_first(get_dataset):
    def wrapped(template, model_args, data_args, training_args, stage, tokenizer, processor=None):
        arguments = (template, model_args, data_args, training_args, stage, tokenizer, processor)
        folder, ours = data_args.tokenized_path, is_ours(template)
        is_there = folder is not None and tokenized_folder.holds_data(folder)
        if ours:
            check_numbers(model_args)
            check_numbers(data_args)
            if training_args.do_train:
                check_numbers(training_args)
                check_output_dir(training_args.output_dir, model=model_args.model_name_or_path)
            check_streaming(
                streaming=data_args.streaming,
                local=not is_there and is_local(data_args.dataset_dir),
                workers=training_args.dataloader_num_workers,
                dispatch_batches=getattr(training_args.accelerator_config, "dispatch_batches", None),
            )
            if not is_there:
                check_dataset_names(data_args)
            if stage != "pt":  # LlamaFactory packs texts there by itself
                check_packing(data_args)
        made = None
        if is_there or (ours and folder is not None):
            made = tokenized_folder.made_with(
                data_args, ours=ours, stage=stage, tokenizer=tokenizer, processor=processor
            )
        if is_there and (ours or tokenized_folder.is_ours(folder)):
            tokenized_folder.check(folder, made)
        module = get_dataset(*arguments)
        if made is not None and not is_there and training_args.should_save:
            tokenized_folder.write(folder, made)
        if ours and training_args.do_train:
            say_few_steps(module.get("train_dataset"), data_args, training_args)
            if isinstance(processor, AdCopilotProcessor):
                _remember_sizes(processor)
        return module

    return wrapped


def _check_samples_first(get_preprocessed_dataset):
    def wrapped(dataset, data_args, training_args, stage, template, tokenizer, processor=None, is_eval=False):
        # Other processes of the same machine wait for the first (main_process_first) and end with it.
        index = training_args.process_index if data_args.data_shared_file_system else training_args.local_process_index
        if dataset is not None and stage != "pt" and is_ours(template) and not data_args.streaming and index == 0:
            generates = training_args.predict_with_generate and is_eval
            encoder = encoder_of(stage, template, data_args, tokenizer, processor, generates=generates)
            checked = check_samples(dataset, encoder=encoder, num_proc=data_args.preprocessing_num_workers)
            if not is_eval and isinstance(processor, AdCopilotProcessor):
                processor.sizes_seen = checked.sizes or {}
        return get_preprocessed_dataset(
            dataset, data_args, training_args, stage, template, tokenizer, processor, is_eval
        )

    return wrapped


def _remember_sizes(processor: AdCopilotProcessor) -> None:
    """Let the processor, which training saves, know the sizes of all stages so far.

    Where they are not known (a data set that is streamed or was tokenised before, stage pt, a folder of a version that
    did not write them) there is no field and no check: a range that is too narrow would be a false alarm.
    """
    before, seen = processor.trained_sizes, vars(processor).pop("sizes_seen", None)
    known = before is not None and seen is not None
    processor.trained_sizes = (merge_sizes(before, seen) or {}) if known else None


def _refuse_cut_images(encode):
    # Cut images would be a shape error four layers down, in the middle of training.
    def wrapped(self, *args, **kwargs):
        try:
            encoded = encode(self, *args, **kwargs)
        except (RuntimeError, LookupError, TypeError, AttributeError) as error:  # LlamaFactory checks none of it
            calls = kwargs.get("tools") or any(
                one["role"] == "function" for one in kwargs["prompt"] + kwargs["response"]
            )
            if not calls or not is_ours(self.template):
                raise
            name = sample_name({"_images": kwargs["images"], "_prompt": kwargs["prompt"]})
            raise UserError(
                f"{name}: its tools or a call of them cannot be read ({one_line(error)}); expected tools as a JSON "
                'list of objects with a name, and a call as {"name": …, "arguments": {…}}'
            ) from error
        images = kwargs.get("images")
        # LlamaFactory's main gives None for a sample with images that it had to cut anywhere: it warns and drops it.
        if encoded is not None and images and is_ours(self.template) and self.template.mm_plugin.expand_mm_tokens:
            # What ends an image comes after all of its tokens, and text is cut at its end.
            end = self.tokenizer.convert_tokens_to_ids(self.template.mm_plugin.vision_eos_token)
            expected = len(images) + len(kwargs.get("videos") or ())
            for tokens in token_lists(encoded):
                if tokens.count(end) != expected:
                    raise cut_images(images, kwargs["prompt"], self)
        return encoded

    return wrapped


def _map_answers_by_their_own_images(preprocess_dataset):
    # The answer whose KL divergence is measured behind a prompt is the sample's before: its boxes are in the pixels of
    # that sample's images.
    def wrapped(self, examples):
        if not is_ours(self.template):
            return preprocess_dataset(self, examples)
        rows = [dict(zip(examples, values, strict=True)) for values in zip(*examples.values(), strict=True)]
        # LlamaFactory drops the others, but would stop at their answers behind the next prompt.
        kept = [row for row in rows if len(row["_prompt"]) % 2 == 1 and len(row["_response"]) >= 2]
        for row in kept:
            media = [row[key] or [] for key in ("_images", "_videos", "_audios")]
            row["_response"] = self.template.mm_plugin.map_answers(
                row["_prompt"], row["_response"], *media, self.processor
            )
        if len(kept) < len(rows):
            logger.warning(
                "adcopilot: %d of %d samples are no feedback and left out", len(rows) - len(kept), len(rows)
            )
        return preprocess_dataset(self, {key: [row[key] for row in kept or rows] for key in examples})

    return wrapped
