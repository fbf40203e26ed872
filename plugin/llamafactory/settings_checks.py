"""Settings of a training YAML that cannot work are refused before any data is loaded, each in one line.

What each sample is refused for stands in `data_checks.py`, what a tokenised folder was made with in
`tokenized_folder.py`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset_info import BOM, first_bytes, read_entries
from ..errors import UserError
from ..files import check_output_dir, read_json
from ..yaml_sections import short

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def check_dataset_names(data_args) -> None:
    """Refuse a `dataset_dir`, a data set's name or a file that does not exist, or that LlamaFactory cannot read.

    Raises:
        UserError: naming the file that was looked for, and the data sets that there are.
    """
    folder = data_args.dataset_dir
    if not is_local(folder):
        return
    names = [name for names in (data_args.dataset, data_args.eval_dataset) for name in names or []]
    path = Path(folder, "dataset_info.json")
    if not names:
        return
    if not path.exists():
        raise UserError(
            f"dataset_dir {folder}: no dataset_info.json there (seen from {Path.cwd()}); "
            "set dataset_dir to the folder that holds it"
        )
    registered = read_entries(path)
    if first_bytes(path).startswith(BOM):  # read_entries takes it, LlamaFactory does not
        raise UserError(f"{path}: begins with a byte order mark, at which LlamaFactory stops; save it as plain UTF-8")
    for name in names:
        if name not in registered:
            known = ", ".join(registered) or "(none)"
            raise UserError(f"dataset {name}: not registered in {path}; there are: {known}")
        file = registered[name].get("file_name")
        if file is None or any(key.endswith("_url") for key in registered[name]):
            continue
        if not isinstance(file, str) or not Path(folder, file).exists():
            raise UserError(f"dataset {name}: {Path(folder, str(file))} does not exist; {path} names it")
        if Path(folder, file).is_file() and first_bytes(Path(folder, file)).startswith(_UTF_16):
            raise UserError(
                f"dataset {name}: {Path(folder, file)} is UTF-16 text, expected UTF-8; convert it with "
                "`iconv -f UTF-16 -t UTF-8 OLD > NEW`"
            )


def check_folders(model_args) -> None:
    """Refuse a model's or an adapter's folder that is not there, which ends in a traceback about names on a hub.

    Args:
        model_args: LlamaFactory's.

    Raises:
        UserError: naming the folder, and how to go on without it.
    """
    model, adapters = model_args.model_name_or_path, model_args.adapter_name_or_path or []
    if "://" in model:  # a server's, where its adapters are too: `server_engine` says so
        return
    if _is_folder_name(model) and not Path(model).is_dir():
        raise UserError(
            f"model_name_or_path {model}: no such folder (seen from {Path.cwd()}); train the stage that leaves it, or "
            "make a first model with `adcopilot init`"
        )
    there = [name for name in adapters if not _is_folder_name(name) or Path(name, "adapter_config.json").is_file()]
    for name in adapters:
        if name not in there:
            found = "no adapter_config.json there" if Path(name).is_dir() else "no such folder"
            raise UserError(
                f"adapter_name_or_path {name}: {found} (seen from {Path.cwd()}); train the stage that leaves it, or "
                f"go on without it: adapter_name_or_path={','.join(there) or 'null'}"
            )


def _is_folder_name(name: str) -> bool:
    """Whether a model's name can only be a folder's: an id on a hub has one slash at most, and before it the name of
    no folder here."""
    parts = Path(name).parts
    below = len(parts) > 2 or (len(parts) == 2 and Path(parts[0]).is_dir())
    return "://" not in name and (below or name.startswith((".", "~")))


def is_local(dataset_dir: Any) -> bool:
    """Whether data sets are files that a `dataset_info.json` of this machine names."""
    return isinstance(dataset_dir, str) and dataset_dir != "ONLINE" and not dataset_dir.startswith("REMOTE:")


def begins_with_bom(files: Any) -> bool:
    """Whether one of LlamaFactory's `data_files` is a local file that begins with a byte order mark of UTF-8."""
    return any(Path(file).is_file() and first_bytes(Path(file)).startswith(BOM) for file in files or () if file)


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


def check_streaming(*, streaming: Any, local: bool, workers: Any, dispatch_batches: Any) -> None:
    """Refuse streaming that would end in an error about images, or about nothing at all.

    Accelerate hands a stream's batches from the first process to all, and cuts each tensor after as many rows as the
    batch has samples. That is right for tokens; of the pixels, whose rows are patches, it leaves a few. LlamaFactory
    shares a file out over the data loader's workers and finds nothing in it where there are none.

    Args:
        streaming: the setting.
        local: whether the data sets are files.
        workers: `dataloader_num_workers`.
        dispatch_batches: of `accelerator_config`.

    Raises:
        UserError: naming the settings that work.
    """
    if not streaming:
        return
    if local and not workers:
        raise UserError("streaming: true with dataloader_num_workers 0 finds no sample; set dataloader_num_workers: 1")
    if dispatch_batches is not False:
        raise UserError(
            "streaming: true has batches of images cut apart between processes; add "
            "`accelerator_config: {dispatch_batches: false}`"
        )


def check_run(settings: Mapping[str, Any]) -> None:
    """Refuse what would end in nothing that is trained, or in a model that is overwritten.

    Args:
        settings: of a YAML for `llamafactory-cli train`.

    Raises:
        UserError: naming the setting.
    """
    if not any(settings.get(key) for key in ("do_train", "do_eval", "do_predict")):
        raise UserError(
            "no do_train: LlamaFactory would load the model and end without training; add `do_train: true`"
        )
    model, output = settings.get("model_name_or_path"), settings.get("output_dir")
    if isinstance(output, str):
        check_output_dir(output, model=str(model))
    resumed = settings.get("resume_from_checkpoint")
    if isinstance(resumed, str) and not Path(resumed, "trainer_state.json").is_file():
        found = "no trainer_state.json there" if Path(resumed).is_dir() else "no such folder"
        raise UserError(
            f"resume_from_checkpoint {resumed}: {found} (seen from {Path.cwd()}); name a checkpoint-N of this run, or "
            "leave it out: the last one in output_dir is found"
        )


def check_files(settings: Mapping[str, Any]) -> None:
    """Refuse a file of settings that a YAML names and that is not there, or is none: of `deepspeed` and `fsdp_config`,
    which count nothing until a run starts on the machines that they are for.

    Args:
        settings: of a YAML for `llamafactory-cli train` or `adcopilot grpo`.

    Raises:
        UserError: naming the file.
    """
    for key in ("deepspeed", "fsdp_config"):
        value = settings.get(key)
        if not value or isinstance(value, dict) or (isinstance(value, str) and value.lstrip().startswith("{")):
            continue  # transformers takes the settings themselves too
        expected = f"expected the path of a JSON file, as examples/deepspeed/zero2.json, or no {key}"
        if not isinstance(value, str):
            raise UserError(f"{key} is {short(value)}, {expected}")
        if not Path(value).is_file():
            raise UserError(f"{key} {value}: no such file (seen from {Path.cwd()}); {expected}")
        read_json(value, check=expected, again=expected, kind=dict)


def check_numbers(settings: Any) -> None:
    """Refuse a number of LlamaFactory's that is none: it would be compared with one, or counted with, much later.

    Args:
        settings: what has `image_max_pixels` and the others as attributes, or as keys.

    Raises:
        UserError: naming the setting, what it is, and what was expected.
    """
    take = settings.get if isinstance(settings, dict) else lambda key: getattr(settings, key, None)
    for key in (
        *("image_max_pixels", "image_min_pixels", "cutoff_len", "max_samples", "preprocessing_num_workers"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "lora_rank"),
    ):
        value = take(key)
        if value is not None and (type(value) is not int or not 0 < value < 1 << 63):
            raise UserError(f"{key} is {short(value)}, expected a whole number, 1 or more")
    for key in ("learning_rate", "num_train_epochs"):
        value, steps = take(key), take("max_steps") if key == "num_train_epochs" else None
        # What is no number, or one as a text, is looked at elsewhere.
        if isinstance(value, (int, float)) and not (value > 0 or (isinstance(steps, int) and steps > 0)):
            raise UserError(f"{key} is {short(value)}, which trains nothing; expected more than 0")
    value = take("val_size")
    if value is not None and (type(value) not in (int, float) or not 0 <= value < math.inf):
        raise UserError(f"val_size is {short(value)}, expected a share from 0 to 1, or a number of samples")
    value = take("seed")
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 32):
        raise UserError(f"seed is {short(value)}, expected a whole number from 0 to {(1 << 32) - 1}")
