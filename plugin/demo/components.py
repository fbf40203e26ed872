"""Gradio's upload components, closed towards this machine's files and the network.

A visitor's browser sends the address of a file that it has uploaded before. Gradio 5.50 lets such an address be any
http(s) URL, which it then downloads; and it decodes a picture's header on its own before anybody looked at its size.
Here only uploads count, and pictures are opened in one place (`Service.open`).
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, ImageData, ListFiles
from gradio_client.utils import is_http_url_like

__all__ = ["UploadedFiles", "UploadedImage"]


class _UploadsOnly:
    """Refuses what is not an upload. Gradio calls this method for each file before `preprocess`."""

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """As upstream (gradio/blocks.py), without downloads.

        Raises:
            gr.Error: it is a URL.
        """
        if is_http_url_like(str(url_or_file_path)):
            raise gr.Error(
                "Addresses of the web are not taken here. Please add the picture itself.", print_exception=False
            )
        return await super().async_move_resource_to_block_cache(url_or_file_path)


class UploadedImage(_UploadsOnly, gr.Image):
    """`gr.Image` whose value in Python is the path of the uploaded file, untouched and not yet opened."""

    def get_block_name(self) -> str:
        """In the browser this is an image."""
        return "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path, or None without a picture.

        Raises:
            gr.Error: the picture came inside the message instead of as an upload.
        """
        if payload is None:
            return None
        if payload.path is None or (payload.url or "").startswith("data:"):
            raise gr.Error("Please add the picture as a file.", print_exception=False)
        return payload.path


class UploadedFiles(_UploadsOnly, gr.File):
    """`gr.File` whose value in Python is a list of (path, the name it had on the visitor's machine)."""

    def get_block_name(self) -> str:
        """In the browser this is a file."""
        return "file"

    def preprocess(self, payload: ListFiles | FileData | None) -> list[tuple[str, str]]:
        """The files, an empty list without any."""
        if payload is None:
            return []
        files = payload.root if isinstance(payload, ListFiles) else [payload]
        return [(file.path, file.orig_name or Path(file.path).name) for file in files]
