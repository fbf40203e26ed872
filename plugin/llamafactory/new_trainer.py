"""`USE_V1=1`, LlamaFactory's new trainer, is refused for AD-Copilot's model.

It renders conversations and collates images by code of its own, which this package does not reach: boxes would stay in
pixels of the original image, no flag would freeze anything, and no sample would be looked at beforehand.
"""

from ..errors import UserError
from .composite import MODEL_TYPE
from .hook import wrap_once
from .matching import read_model_type

#: Without this function there is no new trainer to refuse, or its settings are read elsewhere.
NEEDS = {"llamafactory.v1.config.arg_parser:get_args": None}


def register(arg_parser) -> None:
    """Wrap `llamafactory.v1.config.arg_parser.get_args`.

    Raises (when the settings are read):
        UserError: the model is AD-Copilot's.
    """
    wrap_once(arg_parser, "get_args", _refusing)


def _refusing(get_args):
    def wrapped(*args, **kwargs):
        found = get_args(*args, **kwargs)
        for one in found:
            if read_model_type(str(getattr(one, "model", None)), {}) == MODEL_TYPE:
                raise UserError(
                    f"USE_V1=1: {one.model} is an AD-Copilot model, for which LlamaFactory's new trainer maps no "
                    "boxes, freezes nothing and checks no samples; unset USE_V1"
                )
        return found

    return wrapped
