"""AD-Copilot: a LlamaFactory plugin that lets Qwen2.5-VL compare a query image with a normal template.

Importing this package is cheap: neither torch nor transformers is loaded until a submodule needs it.
"""

__version__ = "0.2.0"
