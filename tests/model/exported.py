"""A folder as an export is, made by whichever environment runs this file.

python exported.py FOLDER
"""

import sys
import tempfile
from pathlib import Path


def export(saved: Path) -> None:
    """The tiny preset with weights of the encoder large enough to matter, saved with its code."""
    import torch

    from adcopilot.model import AdCopilotForConditionalGeneration, AdCopilotProcessor
    from adcopilot.model.conversion import convert_base
    from adcopilot.model.init_command import PRESETS

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model"
        convert_base(base=Path(PRESETS["tiny"].base), output=made, **PRESETS["tiny"].options)
        model = AdCopilotForConditionalGeneration.from_pretrained(made, dtype=torch.float32)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in model.comparison_encoder.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(std=1.0 if "queries" in name else 0.15, generator=generator)
        model.save_pretrained(saved)
        AdCopilotProcessor.from_pretrained(made).save_pretrained(saved)


if __name__ == "__main__":
    export(Path(sys.argv[1]))
