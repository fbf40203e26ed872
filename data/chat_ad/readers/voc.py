"""Pascal VOC folders: boxes in pixels counted from 1, an XML file an image.

    JPEGImages/NAME.jpg  Annotations/NAME.xml  ImageSets/Main/{train,val,test}.txt    VOC's own arrangement
    images/NAME.jpg      annotations/NAME.xml
    NAME.jpg             NAME.xml                                                     side by side (labelImg, Roboflow)

There are boxes and no masks. A file says which image it is about, if the names differ.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..label_files import voc
from . import labelled
from .base import ListedImage, Source
from .labelled import OPTIONS, Form

__all__ = ["OPTIONS", "looks_like", "scan"]

_SETS = ("ImageSets/Main", "ImageSets")


def looks_like(source: Source) -> bool:
    """Whether images have XML files of VOC's form."""
    return labelled.looks_like(source, _form(source))


def scan(source: Source) -> Iterator[ListedImage]:
    """All images, in order.

    Raises:
        LayoutError: no image has a file of labels.
    """
    yield from labelled.scan(source, _form(source))


def _form(source: Source) -> Form:
    folders = ("Annotations", "annotations", "labels", "xml", "xmls")
    return Form(name="voc", suffix=".xml", folders=folders, splits=_splits(source), file_name=voc.file_name)


def _splits(source: Source) -> dict[str, str]:
    """Stem of an image → its split, by VOC's lists."""
    splits: dict[str, str] = {}
    for folder in _SETS:
        for split in ("train", "val", "test"):
            if source.is_file(f"{folder}/{split}.txt"):
                for line in source.text(f"{folder}/{split}.txt").splitlines():
                    splits.update(dict.fromkeys(line.split()[:1], split))
    return splits
