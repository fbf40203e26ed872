"""Which LlamaFactory this package registers with."""

import re

from .. import __version__
from ..errors import UserError
from .hook import OFF_SWITCH

#: The release that the registrations were written against and are tested with.
SUPPORTED = "0.9.5"


def check_version() -> None:
    """Refuse a LlamaFactory that was never tried.

    Accepted: 0.9.5, also as a post-release or with a local label (0.9.5.post1, 0.9.5+company: patched forks). Refused:
    everything else, 0.9.6.dev0 of the development branch included, because some of what is registered goes through
    functions that LlamaFactory calls private and may change in any commit.

    Raises:
        UserError: another version.
    """
    from llamafactory.extras.env import VERSION

    if not re.fullmatch(rf"{re.escape(SUPPORTED)}(\.?post\d+)?(\+.+)?", VERSION):
        raise UserError(
            f"adcopilot {__version__} works with LlamaFactory {SUPPORTED}, found {VERSION}: "
            f"`pip install llamafactory=={SUPPORTED}`, or set {OFF_SWITCH}=0 to use LlamaFactory without AD-Copilot"
        )
