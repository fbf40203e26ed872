"""What has to happen where LlamaFactory loads a model: auto classes, liger, and a careful export."""

from pathlib import Path
from types import SimpleNamespace

from ..errors import UserError
from ..files import read_json
from ..model.processing import AdCopilotProcessor
from ..trained_sizes import merge_sizes, read_sizes
from .composite import MODEL_TYPE
from .hook import wrap_once
from .matching import model_type_of, note_processor, note_tokenizer

#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.model.loader:_get_init_kwargs": ("model_args",),
    "llamafactory.model.loader:apply_liger_kernel": ("config", "model_args", "is_trainable", "require_logits"),
    "llamafactory.model.loader:load_tokenizer": ("model_args",),
    "llamafactory.model.loader:patch_config": ("config", "tokenizer", "model_args", "init_kwargs", "is_trainable"),
    "llamafactory.model.loader:patch_model": ("model", "tokenizer", "model_args", "is_trainable", "add_valuehead"),
    "llamafactory.model.loader:patch_tokenizer": ("tokenizer", "model_args"),
    "llamafactory.model.loader:patch_processor": ("processor", "tokenizer", "model_args"),
}


def register(loader) -> None:
    """Register the auto classes and wrap functions of `llamafactory.model.loader`: four change something for
    AD-Copilot's models only, two note what was loaded, for `matching.py`.

    LlamaFactory picks the model's class from transformers' registries, in each process anew.
    """
    from ..model.registration import register_auto_classes

    register_auto_classes()
    for name, wrap in (
        ("_get_init_kwargs", _prefer_installed_code),
        ("apply_liger_kernel", _liger_as_qwen),
        ("patch_config", _refuse_to_overwrite),
        ("patch_model", _logits_of_answers),
        ("load_tokenizer", _sizes_of_adapters),
        ("patch_tokenizer", note_tokenizer),
        ("patch_processor", note_processor),
    ):
        wrap_once(loader, name, wrap)


def _prefer_installed_code(get_init_kwargs):
    # With `trust_remote_code: true`, which LlamaBoard always sets, transformers 4.57 takes the configuration from the
    # copy beside the weights. LlamaFactory does not find that class in the registries and loads a text model.
    def wrapped(model_args):
        kwargs = get_init_kwargs(model_args)
        if kwargs["trust_remote_code"] and model_type_of(model_args) == MODEL_TYPE:
            kwargs["trust_remote_code"] = False
        return kwargs

    return wrapped


def _sizes_of_adapters(load_tokenizer):
    # An adapter's folder knows on what sizes it was trained, its base only those before; what is exported, or trained
    # on, has seen all of them.
    def wrapped(model_args):
        module = load_tokenizer(model_args)
        processor = module["processor"]
        if isinstance(processor, AdCopilotProcessor):
            for folder in model_args.adapter_name_or_path or ():
                before, found = processor.trained_sizes, _trained_sizes(Path(folder, "processor_config.json"))
                known = before is not None and found is not None
                processor.trained_sizes = (merge_sizes(before, found) or {}) if known else None
        return module

    return wrapped


def _trained_sizes(file: Path) -> dict | None:
    """The field of an adapter's folder, as in the processor: None where it is not known."""
    if not file.is_file():
        return None
    again = "copy it from the run again"
    value = read_json(file, check=again, again=again, kind=dict).get("trained_sizes")
    return None if value is None else read_sizes(value, folder=file.parent) or {}


def _liger_as_qwen(apply_liger_kernel):
    # Liger replaces classes and functions in Qwen2.5-VL's module, and the forward of the class that ours calls.
    # LlamaFactory chooses by model_type alone.
    def wrapped(config, model_args, is_trainable, require_logits):
        if config.model_type == MODEL_TYPE:
            config = SimpleNamespace(model_type="qwen2_5_vl")
        return apply_liger_kernel(config, model_args, is_trainable, require_logits)

    return wrapped


def _logits_of_answers(patch_model):
    # LlamaFactory's trainers ask for no other logits than those of labels; liger's loss takes all hidden states.
    def wrapped(model, tokenizer, model_args, is_trainable, add_valuehead):
        if model.config.model_type == MODEL_TYPE:
            model.logits_where_labels = not model_args.enable_liger_kernel
        return patch_model(model, tokenizer, model_args, is_trainable, add_valuehead)

    return wrapped


def _refuse_to_overwrite(patch_config):
    # The first place of an export that knows both the model and the folder, before any weight is loaded. LlamaFactory
    # would write over what is there and leave shards of two models side by side.
    def wrapped(config, tokenizer, model_args, init_kwargs, is_trainable):
        folder = model_args.export_dir
        if config.model_type == MODEL_TYPE and folder is not None and not is_trainable:
            path = Path(folder)
            held = next(iter(sorted(path.glob("*"))), None) if path.is_dir() else path if path.exists() else None
            if held is not None:
                raise UserError(
                    f"export_dir {folder} already exists and holds {held.name}; nothing was written: "
                    "name another folder, or delete this one"
                )
        return patch_config(config, tokenizer, model_args, init_kwargs, is_trainable)

    return wrapped
