"""What our HTML pages have in common: how texts are escaped, the style sheet, the script, and what a page may load."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from .. import __version__
from ..drawing import BOX_COLOURS
from .gallery import COLOURS
from .text import plural

__all__ = ["PAGE", "render", "soft"]

#: The folder of `parts.html.jinja`, the style sheet and the script.
PAGE = Path(__file__).parent / "page"

_JOINTS = re.compile("([_/.-])")


def render(
    folder: Path,
    template: str,
    *,
    style: str = "",
    script: str = "",
    known: Mapping[str, Any] | None = None,
    **values: Any,
) -> str:
    """A page. All that its template inserts is escaped but for what is `Markup`; a misspelt name is an error.

    Args:
        folder: of the template, which may take parts of `PAGE`'s.
        template: its file's name.
        style, script: of this page alone, behind what all pages have: files of a package.
        known: values that macros of other files know too.
        values: the template's own; `style`, `script`, `policy` and `version` are there.
    """
    page = _environment(folder)
    page.globals.update(known or {})
    style, script = _style_text() + style, (PAGE / "script.js").read_text("utf-8") + script
    return page.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=_policy(style, script), version=__version__, **values
    )


def _environment(folder: Path) -> jinja2.Environment:
    """Templates of this folder and of `PAGE`."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, PAGE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["plural"] = plural
    found.filters["soft"] = soft
    found.filters["comma"] = lambda number: f"{number:,}"
    return found


def _style_text() -> str:
    """The style sheet, with the boxes' colours, those of `adcopilot inspect --draw`."""
    rules = [
        f".box.c{index}{{stroke:rgb{colour}}}.swatch.c{index}{{background:rgb{colour}}}"
        for index, colour in enumerate(BOX_COLOURS[:COLOURS])
    ]
    return (PAGE / "style.css").read_text("utf-8") + "\n".join(rules) + "\n"


def soft(text: str) -> Markup:
    """The text, escaped, with places where a long name may be broken."""
    return Markup("").join(escape(part) + (Markup("<wbr>") if part in "_/-." else "") for part in _JOINTS.split(text))


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy that lets in pictures of the page itself, this style and this script."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
