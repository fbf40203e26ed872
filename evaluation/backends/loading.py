"""Load any image-text-to-text model that transformers knows, or say in one line why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adcopilot.answering.families import Family, family_of, family_of_config
from adcopilot.errors import UserError, one_line
from adcopilot.inspect.hub import hub_kind, is_hub_id, model_folder
from adcopilot.inspect.loading import load_model, make_ready, model_digest, near_folder, read_config, wider_dtype
from adcopilot.jsonl import content_key, file_digest

__all__ = ["REUSABLE", "LoadedModel", "load_any_model"]

#: Models whose prefix can be shared: `branching` knows how they place text after images, and tests hold it.
REUSABLE = {
    "adcopilot": "AdCopilotForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode on its device, with all that is known about it.

    Attributes:
        name: folder or hub name, as given.
        model, processor: transformers' objects; the tokenizer pads on the left.
        family: how it is talked to.
        digest: of weights, configuration, tokenizer and processor; for a hub model its name and commit.
        reusable: whether questions may branch from a shared prefix.
    """

    name: str
    model: Any
    processor: Any
    family: Family
    digest: str
    reusable: bool


def load_any_model(
    model: str,
    *,
    family: str | None,
    device: str,
    dtype: str,
    attention: str,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model folder, or a hub model by its name (`OWNER/NAME`).

    Args:
        model: folder or hub name.
        family: name of its family if its configuration is not to decide.
        device, dtype, attention: as `adcopilot.inspect.loading.load_model`.
        trust_remote_code: run the code that comes with the model, as the authors' checkpoints need. Off by default:
            that code can do anything this user can.

    Raises:
        UserError: no such model, a damaged one, one with a weight that is not finite, or one that needs
            `trust_remote_code`.
    """
    folder = Path(model)
    if not folder.is_dir():
        if not is_hub_id(model):
            raise UserError(f"--model {model}: no such folder{near_folder(folder)}; give a model folder or a hub id")
        if hub_kind(model) not in REUSABLE:
            return _load_any(model, None, family, device, dtype, attention, trust_remote_code)
        folder = model_folder(model, code=trust_remote_code)
    config = read_config(folder)
    model_type = config.get("model_type")
    own = REUSABLE.get(str(model_type)) in (config.get("architectures") or [None])
    if own and not trust_remote_code:
        found, processor = load_model(folder, device=device, dtype=dtype, attention=attention)
        return LoadedModel(
            name=model,
            model=found,
            processor=processor,
            family=family_of(family, model="") if family else family_of_config(model_type),
            digest=model_digest(folder),
            reusable=_full_attention(found.config),
        )
    if config.get("auto_map") and not trust_remote_code:
        raise UserError(
            f"{folder}: model_type {model_type!r} with {(config.get('architectures') or ['?'])[0]} comes with code of "
            "its own; if you trust its authors, add --trust-remote-code to run it"
        )
    return _load_any(model, folder, family, device, dtype, attention, trust_remote_code)


def _load_any(
    model: str, folder: Path | None, family: str | None, device: str, dtype: str, attention: str, trusted: bool
) -> LoadedModel:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    source = {"trust_remote_code": trusted, "local_files_only": folder is not None}
    try:
        config = AutoConfig.from_pretrained(model, **source)
        processor = AutoProcessor.from_pretrained(model, **source)
        found, info = AutoModelForImageTextToText.from_pretrained(
            model,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            output_loading_info=True,
            **source,
        )
    except Exception as error:  # transformers raises whatever its readers stumble on
        reason = one_line(error)
        hint = "; if its own code is needed and you trust its authors, add --trust-remote-code"
        hint = "" if trusted or "trust_remote_code" not in str(error) else hint
        raise UserError(f"--model {model}: cannot be loaded ({reason}){hint}") from error
    if getattr(processor, "tokenizer", None) is None:
        raise UserError(f"--model {model}: its processor has no tokenizer, expected an image-text-to-text model")
    found = make_ready(
        found,
        processor,
        name=f"--model {model}",
        absent=info["missing_keys"],
        device=device,
        remedy=wider_dtype(dtype),
        files=sorted(folder.glob("*.safetensors")) if folder is not None else (),
    )
    if folder is not None:
        files = [file for pattern in ("*.json", "*.jinja", "*.safetensors") for file in sorted(folder.glob(pattern))]
        digest = content_key([[file.name, file_digest(file)] for file in files])
    else:
        digest = content_key(model, getattr(config, "_commit_hash", None))
    return LoadedModel(
        name=model,
        model=found,
        processor=processor,
        family=family_of(family, model="") if family else _family(config.model_type, model),
        digest=digest,
        reusable=type(found).__name__ == REUSABLE.get(config.model_type)
        and type(found).__module__.startswith(("transformers.", "adcopilot."))
        and _full_attention(config),
    )


def _family(model_type: str, model: str) -> Family:
    found = family_of_config(model_type)
    return family_of(None, model=Path(model).name) if found.name == "generic" else found


def _full_attention(config: Any) -> bool:
    """Padding between prefix and question would shift a sliding window."""
    return set(getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]) == {"full_attention"}
