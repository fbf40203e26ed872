"""How this distribution was installed, and so what to type for more of it: it is on no index."""

import importlib.metadata
import json
import shlex
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["install_line", "source"]


def source() -> tuple[str, bool] | None:
    """The folder or file that pip installed this from, and whether editable; None where it is not known."""
    try:
        found = json.loads(importlib.metadata.distribution("adcopilot").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    url = urlsplit(found.get("url", ""))
    if url.scheme != "file":
        return None
    return url2pathname(url.path), bool(found.get("dir_info", {}).get("editable"))


def install_line(extra: str) -> str:
    """What to type to have an extra of this distribution as well, after "`", and where where that has to be said."""
    found = source()
    if found is None:
        return f"pip install -e '.[{extra}]'` in the checkout"
    path, editable = found
    return f"pip install {'-e ' if editable else ''}{shlex.quote(f'{path}[{extra}]')}`"
