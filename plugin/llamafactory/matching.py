"""A model, its processor and its template belong together; any other combination is refused where it is made.

Trained with template `qwen2_vl`, an AD-Copilot model sees no comparison tokens and boxes in the wrong pixels; with
template `adcopilot`, a stock model sees tokens that mean nothing to it. Neither fails by itself. LlamaFactory makes
the combination in one order everywhere (all stages, chat, api, webchat, LlamaBoard, export, `adcopilot preflight`):
it loads tokenizer and processor, then gives the tokenizer to the template.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import UserError
from ..files import stored_object
from .composite import MODEL_TYPE
from .hook import wrap_once
from .settings_checks import check_folders

#: Model types that AD-Copilot can be made of, with their template.
BASES = {"qwen2_5_vl": "qwen2_vl"}


def is_ours(template) -> bool:
    """Whether a LlamaFactory template is `adcopilot`'s, under whatever name."""
    from .mm_plugin import AdCopilotPlugin  # here, because that module may be the one that is importing LlamaFactory

    return isinstance(template.mm_plugin, AdCopilotPlugin)


@dataclass(kw_only=True)
class Loaded:
    """What LlamaFactory loaded beside a tokenizer.

    Args:
        folder: `model_name_or_path`.
        model_type: of its configuration, None where that could not be read.
        processor: loaded from there, None if there is none.
        foreign_adapter: an adapter that was trained on AD-Copilot although the model is another, with its base.
    """

    folder: str
    model_type: str | None
    processor: Any = None
    foreign_adapter: tuple[str, str] | None = None


_loaded: WeakKeyDictionary[Any, Loaded] = WeakKeyDictionary()


#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.hparams.parser:_verify_model_args": ("model_args", "data_args", "finetuning_args"),
    "llamafactory.hparams.finetuning_args:FinetuningArguments.use_asft_loss": None,
}


def register(parser) -> None:
    """Wrap `llamafactory.hparams.parser`'s check of a model's settings, which all commands call."""
    wrap_once(parser, "_verify_model_args", _check_models)


def note_tokenizer(patch_tokenizer):
    """Wrap `patch_tokenizer`, which LlamaFactory calls with each tokenizer that it has loaded."""

    def wrapped(tokenizer, model_args):
        folder, model_type = model_args.model_name_or_path, model_type_of(model_args)
        adapter = None if model_type == MODEL_TYPE else _foreign_adapter(model_args.adapter_name_or_path)
        _loaded[tokenizer] = Loaded(folder=folder, model_type=model_type, foreign_adapter=adapter)
        return patch_tokenizer(tokenizer, model_args)

    return wrapped


def note_processor(patch_processor):
    """Wrap `patch_processor`, which LlamaFactory calls with each processor that it has loaded."""

    def wrapped(processor, tokenizer, model_args):
        if tokenizer in _loaded:
            _loaded[tokenizer].processor = processor
        return patch_processor(processor, tokenizer, model_args)

    return wrapped


def check_when_chosen(fix_special_tokens):
    """Wrap `Template.fix_special_tokens`, by which a chosen template is given its tokenizer."""

    def wrapped(template, tokenizer):
        if tokenizer in _loaded:
            check(template, _loaded[tokenizer])
        return fix_special_tokens(template, tokenizer)

    return wrapped


def check(template, loaded: Loaded) -> None:
    """Refuse a template or a processor that is not the model's.

    Args:
        template: LlamaFactory's `Template`.
        loaded: what it is going to be used with.

    Raises:
        UserError: with the line to write instead.
    """
    folder, processor = loaded.folder, loaded.processor
    named = template_name(template)
    compares = hasattr(processor, "num_comparison_tokens")
    is_model = compares if loaded.model_type is None else loaded.model_type == MODEL_TYPE
    if loaded.foreign_adapter is not None:
        adapter, base = loaded.foreign_adapter
        raise UserError(
            f"adapter_name_or_path {adapter}: trained on an AD-Copilot model, but {folder} is of model_type "
            f"{loaded.model_type}; write `model_name_or_path: {base}` and `template: adcopilot`"
        )
    if is_model and not compares:
        found = "none" if processor is None else type(processor).__name__
        raise UserError(
            f"{folder}: an AD-Copilot model, but the processor found there is {found}: copy preprocessor_config.json, "
            "tokenizer files, and processor_config.json or processing.py back from the folder it was trained from, "
            "and write `template: adcopilot`"
        )
    if compares and not is_model:
        raise UserError(
            f"{folder}: its processor is AD-Copilot's, but its config.json is of model_type {loaded.model_type}, a "
            "model that does not know comparison tokens; take the base's own tokenizer and processor files"
            + _advice(folder, loaded.model_type)
        )
    if is_model and not is_ours(template):
        raise UserError(
            f"template {named}: {folder} is an AD-Copilot model, which would get no comparison tokens and boxes in "
            "the wrong pixels; write `template: adcopilot`"
        )
    if is_ours(template) and not is_model:
        found = "none" if processor is None else type(processor).__name__
        raise UserError(
            f"template {named}: {folder} is of model_type {loaded.model_type} (processor {found}), not an AD-Copilot "
            f"model{_advice(folder, loaded.model_type)}"
        )


def template_name(template) -> str:
    """The name that a template is registered under."""
    from llamafactory.data.template import TEMPLATES

    names = [name for name, one in TEMPLATES.items() if one is template]
    return names[0] if names else "(none given, so one was guessed from the tokenizer)"


def _advice(folder: str, model_type: str | None) -> str:
    from llamafactory.data.template import TEMPLATES

    if model_type in BASES:
        return (
            f"; write `template: {BASES[model_type]}`, or make an AD-Copilot model of it with "
            f"`adcopilot init --base {folder} --output …`"
        )
    if model_type in TEMPLATES:
        return f"; write `template: {model_type}`"
    return "; write the template of that model"


def model_type_of(model_args) -> str | None:
    """`model_type` of a model's configuration; None where it cannot be read, which LlamaFactory's loading tells."""
    wanted = {"cache_dir": model_args.cache_dir, "revision": model_args.model_revision}
    return read_model_type(model_args.model_name_or_path, {**wanted, "token": model_args.hf_hub_token})


def read_model_type(name_or_path: str, wanted: dict[str, Any]) -> str | None:
    """`model_type` of a folder or hub id.

    Args:
        wanted: `cache_dir`, `revision` and `token`, for the hub.
    """
    from transformers import PretrainedConfig

    try:
        return PretrainedConfig.get_config_dict(name_or_path, **wanted)[0].get("model_type")
    except (OSError, ValueError):  # LlamaFactory's own loading is about to say what is wrong
        return None


def _foreign_adapter(adapters: list[str] | None) -> tuple[str, str] | None:
    """The first of some adapters whose weights hold the comparison encoder's, with the base it names."""
    for adapter in adapters or []:
        folder = Path(adapter)
        base = stored_object(folder / "adapter_config.json").get("base_model_name_or_path")
        if base is None:
            continue
        if _holds_comparison_weights(folder) or read_model_type(str(base), {}) == MODEL_TYPE:
            return adapter, str(base)
    return None


def _holds_comparison_weights(folder: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            return any("comparison_encoder" in key for key in file.keys())
    except (OSError, SafetensorError):
        return False


def _check_models(verify_model_args):
    # A reference or a reward model is fed the policy's own tokens, comparison tokens included.
    def wrapped(model_args, data_args, finetuning_args):
        if data_args.template == MODEL_TYPE:
            check_folders(model_args)
        verify_model_args(model_args, data_args, finetuning_args)
        if model_type_of(model_args) == MODEL_TYPE and finetuning_args.use_asft_loss:
            raise UserError(
                "use_asft_loss: true, but LlamaFactory gives its reference model no images, so an AD-Copilot model "
                "would be held against answers without any comparison; write `use_asft_loss: false`"
            )
        others = {"ref_model": finetuning_args.ref_model}
        if finetuning_args.reward_model_type == "full":
            others["reward_model"] = finetuning_args.reward_model
        for setting, other in others.items():
            if other is None:
                continue
            ours, theirs = model_type_of(model_args), read_model_type(other, {"token": model_args.hf_hub_token})
            if ours != theirs and MODEL_TYPE in (ours, theirs):
                raise UserError(
                    f"{setting} {other}: of model_type {theirs}, but {model_args.model_name_or_path} is of model_type "
                    f"{ours}; both are given the same tokens: name an AD-Copilot model for both, or for neither"
                )

    return wrapped
