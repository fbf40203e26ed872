"""`USE_V1=1`, LlamaFactory's new trainer, is refused for AD-Copilot's model.

It renders conversations and collates images by code of its own, which this package does not reach: boxes would stay in
pixels of the original image, no flag would freeze anything, and no sample would be looked at beforehand.
"""

import functools

from ..errors import UserError
from .composite import MODEL_TYPE
from .matching import read_model_type

#: Without this function there is no new trainer to refuse, or its settings are read elsewhere.
NEEDS = {}


def register(arg_parser) -> None:
    """Wrap `llamafactory.v1.config.arg_parser.get_args`.

    Raises (when the settings are read):
        UserError: the model is AD-Copilot's.
    """
    original = arg_parser.get_args
    if hasattr(original, "adcopilot"):
        return

    @functools.wraps(original)
    def get_args(*args, **kwargs):
        found = original(*args, **kwargs)
        for one in found:
            if read_model_type(str(getattr(one, "model", None)), {}) == MODEL_TYPE:
                raise UserError(
                    f"USE_V1=1: {one.model} is an AD-Copilot model, for which LlamaFactory's new trainer maps no "
                    "boxes, freezes nothing and checks no samples; unset USE_V1"
                )
        return found

    get_args.adcopilot = True
    arg_parser.get_args = get_args
