"""Pascal VOC folders: boxes in pixels counted from 1, an XML file an image.

    JPEGImages/NAME.jpg  Annotations/NAME.xml  ImageSets/Main/{train,val,test}.txt    VOC's own arrangement
    images/NAME.jpg      annotations/NAME.xml
    NAME.jpg             NAME.xml                                                     side by side (labelImg, Roboflow)

There are boxes and no masks. A file says which image it is about, if the names differ.
"""

from __future__ import annotations

from ..label_files import voc
from .base import Source
from .labelled import OPTIONS, Form, reader

__all__ = ["OPTIONS", "looks_like", "scan"]

_SETS = ("ImageSets/Main", "ImageSets")
_FOLDERS = ("Annotations", "annotations", "labels", "xml", "xmls")


def _splits(source: Source) -> dict[str, dict[str, str]]:
    """Stem of an image → its split, by VOC's lists: the form's `splits`."""
    splits: dict[str, str] = {}
    for folder in _SETS:
        for split in ("train", "val", "test"):
            if source.is_file(f"{folder}/{split}.txt"):
                for line in source.text(f"{folder}/{split}.txt").splitlines():
                    splits.update(dict.fromkeys(line.split()[:1], split))
    return {"splits": splits}


looks_like, scan = reader(Form(name="voc", suffix=".xml", folders=_FOLDERS, file_name=voc.file_name), own=_splits)
