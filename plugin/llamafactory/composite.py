"""What LlamaFactory's freeze flags and LoRA targets mean for AD-Copilot."""

MODEL_TYPE = "adcopilot"


#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.model.model_utils.visual:COMPOSITE_MODELS.qwen2_5_vl": None,
    "llamafactory.model.model_utils.visual:_register_composite_model": (
        *("model_type", "projector_keys", "vision_model_keys", "language_model_keys", "lora_conflict_keys"),
    ),
}


def register(visual) -> None:
    """Register the parts of the model with `llamafactory.model.model_utils.visual`.

    They are Qwen2.5-VL's own: `freeze_vision_tower` (patch embedding, blocks), `freeze_multi_modal_projector`
    (merger), `freeze_language_model`. The comparison encoder belongs to none of them, so no flag freezes it: full
    training with the three flags on trains exactly the comparison encoder (stage 0), and LoRA on all linear layers
    always reaches it.
    """
    if MODEL_TYPE in visual.COMPOSITE_MODELS:
        return
    qwen = visual.COMPOSITE_MODELS["qwen2_5_vl"]
    visual._register_composite_model(
        model_type=MODEL_TYPE,
        projector_keys=list(qwen.projector_keys),
        vision_model_keys=list(qwen.vision_model_keys),
        language_model_keys=list(qwen.language_model_keys),
        lora_conflict_keys=list(qwen.lora_conflict_keys),
    )
