"""AD-Copilot inside vLLM: `vllm serve FOLDER` serves it wherever this package is installed beside vLLM 0.20.

vLLM loads the entry point `adcopilot` of the group `vllm.general_plugins` in each process it starts. What is compared
with what, and how that is cached: `image_pairs.py`. The model: `model.py`. How to serve: docs/serving.md.
"""

SUPPORTED = (0, 20)


def register() -> None:
    """Make vLLM and transformers know AD-Copilot; calling it again does nothing.

    Raises:
        UserError: vLLM is of another line than 0.20. The model overrides vLLM's internals, which change from one line
            to the next, and vLLM would otherwise go on without it and serve something else under its name.
    """
    import vllm
    from packaging.version import Version
    from vllm import ModelRegistry

    from ..errors import UserError

    if Version(vllm.__version__).release[:2] != SUPPORTED:
        raise UserError(
            f"adcopilot serves with vLLM 0.20, found vLLM {vllm.__version__}: install `vllm>=0.20,<0.21`, or set "
            "VLLM_PLUGINS to the empty string to serve other models without adcopilot"
        )

    from ..model.registration import register_auto_classes

    register_auto_classes()
    # a name, not the class: importing the model here would initialise CUDA before vLLM forks its processes
    name = "AdCopilotForConditionalGeneration"
    ModelRegistry.register_model(name, f"{__name__}.model:{name}")
