"""The small checkpoint with weights large enough that a wrong pairing or position shows in the logits."""


def awake(folder):
    """The model of a folder in float32, its weights drawn anew, the same each time."""
    import torch

    from adcopilot.model import AdCopilotForConditionalGeneration

    model = AdCopilotForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed" not in name and "patch_embed" not in name:
                weight.normal_(std=0.15, generator=generator)
        model.comparison_encoder.comparison_queries.weight.normal_(std=1.0, generator=generator)
    return model
