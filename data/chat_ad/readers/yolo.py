"""YOLO folders: boxes or polygons in shares of the image's sides, a text file an image.

    images/{train,val,test}/NAME.jpg    labels/{train,val,test}/NAME.txt      Ultralytics
    {train,valid,test}/images/NAME.jpg  {train,valid,test}/labels/NAME.txt    Roboflow
    NAME.jpg  NAME.txt                                                        side by side (Darknet)

The names of classes stand in `data.yaml` (or another YAML file of the root with `names`), `classes.txt` or
`obj.names`; without them a defect is of no named kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UserError
from ...yaml_sections import read_yaml
from .base import LayoutError, Source, join
from .labelled import OPTIONS, Form, reader

__all__ = ["OPTIONS", "looks_like", "scan"]

_LISTS = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels", "predefined_classes.txt")
_OTHERS = frozenset({"classes.txt", "predefined_classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt"}) | {
    "readme.txt",
    "readme.roboflow.txt",
    "readme.dataset.txt",
    "license.txt",
    "requirements.txt",
    "notes.txt",
}


def _names(source: Source) -> dict[str, str]:
    """Number of a class → its name.

    Raises:
        LayoutError: the labels are of key points.
    """
    for folder in ("", *source.folders("")):
        for name in sorted(source.files(folder), key=lambda name: name != "data.yaml"):
            if name.lower().endswith((".yaml", ".yml")):
                found = _yaml_names(source, join(folder, name))
                if found:
                    source.found[f"names of classes in {join(folder, name)}"] += 0
                    return found
    for folder in ("", *(f"{one}/" for one in source.folders(""))):
        for name in _LISTS:
            if source.is_file(f"{folder}{name}"):
                source.found[f"names of classes in {folder}{name}"] += 0
                lines = source.text(f"{folder}{name}").splitlines()
                return {str(number): " ".join(line.split()) for number, line in enumerate(lines)}
    source.note("no-names", ".", "no data.yaml or classes.txt says what the numbers of classes mean; taken as unnamed")
    return {}


def _yaml_names(source: Source, file: str) -> dict[str, str]:
    try:
        content: Any = read_yaml(Path(source.path(file)))
    except UserError as error:
        source.fault("yaml", file, error)
        return {}
    if isinstance(content, dict) and "kpt_shape" in content:
        raise LayoutError(f"{source.path(file)}: kpt_shape says key points, expected boxes or polygons; export those")
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        return {}
    return {str(key): " ".join(str(name).split()) for key, name in names.items() if isinstance(name, (str, int))}


looks_like, scan = reader(
    Form(name="yolo", suffix=".txt", folders=("labels", "label"), others=_OTHERS),
    own=lambda source: {"names": _names(source)},
)
