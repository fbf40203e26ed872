"""Make transformers' auto classes know AD-Copilot."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from .configuration import AdCopilotConfig
from .modeling import AdCopilotForConditionalGeneration
from .processing import AdCopilotProcessor


def register_auto_classes() -> None:
    """Register with `AutoConfig`, `AutoModelForImageTextToText` and `AutoProcessor`; calling it again does nothing.

    From then on `save_pretrained` writes `auto_map` and the model's own code beside the weights, so that the folder
    loads elsewhere with `trust_remote_code=True` and without this package.
    """
    AutoConfig.register(AdCopilotConfig.model_type, AdCopilotConfig, exist_ok=True)
    AutoModelForImageTextToText.register(AdCopilotConfig, AdCopilotForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(AdCopilotConfig, AdCopilotProcessor, exist_ok=True)
    AdCopilotConfig.register_for_auto_class("AutoConfig")
    AdCopilotForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    AdCopilotProcessor.register_for_auto_class("AutoProcessor")
