"""AD-Copilot inside vLLM: `vllm serve FOLDER` serves it wherever this package is installed beside vLLM 0.32 or 0.33.

vLLM loads the entry point `adcopilot` of the group `vllm.general_plugins` in each process it starts. What is compared
with what, and how that is cached: `image_pairs.py`. The model: `model.py`. How to serve: docs/serving.md.
"""

# The newest two lines, as in docs/serving.md and in setup.py's extra `serve`. The files whose classes are overridden,
# models/qwen2_5_vl.py and multimodal/processing/, are the same in both.
SUPPORTED = ((0, 32), (0, 33))


def register() -> None:
    """Make vLLM and transformers know AD-Copilot; calling it again does nothing.

    Raises:
        UserError: vLLM is of a line that is not in `SUPPORTED`. The model overrides vLLM's internals, which change
            from one line to the next, and vLLM would otherwise go on without it and serve something else under its
            name.
    """
    import vllm
    from packaging.version import Version
    from vllm import ModelRegistry

    from ..errors import UserError

    if Version(vllm.__version__).release[:2] not in SUPPORTED:
        raise UserError(
            f"adcopilot serves with vLLM 0.32 and 0.33, found vLLM {vllm.__version__}: install `vllm>=0.32,<0.34`, or "
            "set VLLM_PLUGINS to the empty string to serve other models without adcopilot"
        )

    from ..model.registration import register_auto_classes

    register_auto_classes()
    # a name, not the class: importing the model here would initialise CUDA before vLLM forks its processes
    name = "AdCopilotForConditionalGeneration"
    ModelRegistry.register_model(name, f"{__name__}.model:{name}")
