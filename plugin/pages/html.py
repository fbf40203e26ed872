"""What our HTML pages have in common: how texts are escaped, the style sheet, the script, and what a page may load."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ..drawing import BOX_COLOURS
from .gallery import COLOURS
from .text import plural

__all__ = ["PAGE", "environment", "policy", "script_text", "soft", "style_text"]

#: The folder of `parts.html.jinja`, the style sheet and the script.
PAGE = Path(__file__).parent / "page"

_JOINTS = re.compile("([_/.-])")


def environment(*folders: Path) -> jinja2.Environment:
    """Templates of these folders and of `PAGE`: all that they insert is escaped, and a misspelt name is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, PAGE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["plural"] = plural
    found.filters["soft"] = soft
    found.filters["comma"] = lambda number: f"{number:,}"
    return found


def style_text() -> str:
    """The style sheet, with the boxes' colours, those of `adcopilot inspect --draw`."""
    rules = [
        f".box.c{index}{{stroke:rgb{colour}}}.swatch.c{index}{{background:rgb{colour}}}"
        for index, colour in enumerate(BOX_COLOURS[:COLOURS])
    ]
    return (PAGE / "style.css").read_text("utf-8") + "\n".join(rules) + "\n"


def script_text() -> str:
    """The script: tables that sort, a gallery that filters."""
    return (PAGE / "script.js").read_text("utf-8")


def soft(text: str) -> Markup:
    """The text, escaped, with places where a long name may be broken."""
    return Markup("").join(escape(part) + (Markup("<wbr>") if part in "_/-." else "") for part in _JOINTS.split(text))


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that lets in pictures of the page itself, this style and this script."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
