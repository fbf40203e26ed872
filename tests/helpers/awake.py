"""The small checkpoint with weights large enough that a wrong pairing or position shows in the logits; pictures."""

import numpy as np
from PIL import Image


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


def random_image(seed: int, width: int = 84, height: int = 56) -> Image.Image:
    """Of noise, the same for the same seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
