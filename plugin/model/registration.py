"""Make transformers' auto classes know AD-Copilot."""

from transformers import AutoConfig, AutoProcessor

from .. import __version__
from .configuration import AUTO_MAP, AdCopilotConfig
from .modeling import AdCopilotForConditionalGeneration, AdCopilotModel
from .processing import AdCopilotProcessor


def register_auto_classes() -> None:
    """Register with all auto classes of `AUTO_MAP` that this transformers has; calling it again does nothing.

    From then on `save_pretrained` writes `auto_map` and the model's own code beside the weights, so that the folder
    loads elsewhere with `trust_remote_code=True` and without this package. `pipeline("image-text-to-text")` goes by
    the auto classes. TRL takes a model's class by its name from the package `transformers` when it is given a folder
    (`GRPOTrainer(model="folder")`), so it is named there too.
    """
    import transformers  # the package as it is by now: it puts another object in its own place while it is imported

    AutoConfig.register(AdCopilotConfig.model_type, AdCopilotConfig, exist_ok=True)
    AutoProcessor.register(AdCopilotConfig, AdCopilotProcessor, exist_ok=True)
    models = {one.__name__: one for one in (AdCopilotModel, AdCopilotForConditionalGeneration)}
    for name, path in AUTO_MAP.items():
        # AutoModelForVision2Seq went with transformers 5, AutoModelForMultimodalLM came with it
        if name.startswith("AutoModel") and hasattr(transformers, name):
            getattr(transformers, name).register(AdCopilotConfig, models[path.split(".")[1]], exist_ok=True)
    AdCopilotConfig.package_version = __version__
    AdCopilotConfig.register_for_auto_class("AutoConfig")
    AdCopilotModel.register_for_auto_class("AutoModel")
    AdCopilotForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    AdCopilotProcessor.register_for_auto_class("AutoProcessor")
    transformers.AdCopilotForConditionalGeneration = AdCopilotForConditionalGeneration
