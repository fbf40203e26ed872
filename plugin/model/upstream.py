"""What this model builds on in transformers: which versions were tried, and what stops where one differs."""

import transformers
from packaging.version import Version
from transformers.utils import logging

from .configuration import TRANSFORMERS_TRIED

logger = logging.get_logger(__name__)

# transformers 5.3 and later want token types for positions and count rope deltas from the unpadded length.
TOKEN_TYPES = Version(transformers.__version__) >= Version("5.3.0")
# What upstream calls the KV cache: `cache` in later 5.x; the old name is taken until 5.40.
CACHE_NAMES = ("cache", "past_key_values")
UNTRIED = (
    f"transformers {transformers.__version__}, or the code that called the model, {{}}, so nothing can be compared: "
    "pass pixel_values and image_grid_thw with the whole conversation, and see config.json for the versions tried"
)


def warn_beyond_tried() -> None:
    """Say once that transformers is newer than what was tried."""
    newest = TRANSFORMERS_TRIED[-1]
    if Version(transformers.__version__) > Version(newest):
        logger.warning_once(
            f"AD-Copilot's code was tried with transformers up to {newest}, found {transformers.__version__}: if it "
            f"stops with an error, `pip install transformers=={newest}`"
        )


def check_upstream(parent: type, *names: str) -> None:
    """Methods that are overridden here must exist upstream, or nothing would ever call ours.

    Raises:
        RuntimeError: one is gone.
    """
    for name in names:
        if not hasattr(parent, name):
            raise RuntimeError(UNTRIED.format(f"has no {parent.__name__}.{name}, which AD-Copilot's model builds on"))
