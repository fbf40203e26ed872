"""What mkdocs is told about this project (mkdocs.yml names this file under `hooks`).

README.md and its like lie where people look for them, outside docs/: each becomes a page here, its links turned, so
that nothing is written twice. A link to a file that is no page stays as words.
"""

import os
import posixpath
import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
#: File of the project → page of the site.
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "data/sample/README.md": "sample-set.md",
    "CONTRIBUTING.md": "contributing.md",
}
#: Packages of this project → their folders: what `import adcopilot` finds when it is installed.
PACKAGES = {
    "adcopilot": "plugin",
    "adcopilot/chat_ad": "data/chat_ad",
    "adcopilot/evaluation": "evaluation",
    "adcopilot/sample": "data/sample_set",
}
#: Removed when mkdocs ends.
_TREE = tempfile.TemporaryDirectory(prefix="adcopilot-docs-")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def _only_code(folder, names):
    return [name for name in names if not name.endswith(".py") and not Path(folder, name).is_dir()]


@event_priority(100)  # before mkdocstrings' own, which reads what is set here
def on_config(config):
    """mkdocstrings reads the code without importing it, from a folder laid out as the installed package is."""
    for name, folder in PACKAGES.items():
        shutil.copytree(ROOT / folder, Path(_TREE.name) / name, ignore=_only_code, dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_TREE.name]
    return config


def on_files(files, config):
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown, *, page, config, files):
    """Links are of the project's tree, so that they work where the file is read there; here they become the site's."""
    place = {page_: source for source, page_ in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    known = {f"docs/{file.src_uri}": file.src_uri for file in files} | PAGES
    start = posixpath.dirname(page.file.src_uri)

    def turned(link: re.Match) -> str:
        mark, words, target = link.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path:
            return link[0]
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        if meant in known:
            there = posixpath.relpath(known[meant], start or ".")
            return f"{mark}[{words}]({there}{'#' + anchor if anchor else ''})"
        if not (ROOT / meant).exists() or os.path.isabs(path):
            return link[0]  # mkdocs says what is wrong with it
        return words

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(turned, part) for part in parts)
