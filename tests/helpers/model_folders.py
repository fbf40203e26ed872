"""Model folders that a test reads or changes: fields of their JSON files, and weights."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path


def change_json(path: Path, *, without: Iterable[str] = (), **fields) -> None:
    """Give fields of a JSON object other values, and take some out; `a.b` is the field b of a."""
    content = json.loads(path.read_text())
    for name in without:
        content.pop(name, None)
    for name, value in fields.items():
        *above, last = name.split(".")
        place = content
        for section in above:
            place = place[section]
        place[last] = value
    path.write_text(json.dumps(content))


def damage(folder: Path, name: str, content: str | dict | None) -> None:
    """Another content for a file, or other values of its fields; None takes away what the patterns in `name` match."""
    if content is None:
        for file in {file for pattern in name.split() for file in folder.glob(pattern)}:
            file.unlink()
    elif isinstance(content, dict):
        change_json(folder / name, **content)
    else:
        (folder / name).write_text(content)


def weights_of(folder: Path) -> dict:
    """All weights of a folder, whatever files they lie in."""
    from safetensors.torch import load_file

    return {name: weight for file in sorted(folder.glob("*.safetensors")) for name, weight in load_file(file).items()}


def with_a_nan(weight):
    """The weight, whose first number is none any more."""
    weight.view(-1)[0] = float("nan")
    return weight


def change_weights(folder: Path, name: str, value: Callable) -> None:
    """Put `value(weight)` in the place of one weight, in its file; take it out where that is None."""
    from safetensors.torch import load_file, save_file

    (file,) = [file for file in folder.glob("*.safetensors") if name in load_file(file)]
    weights = load_file(file)
    weights[name] = value(weights[name])
    kept = {name: weight for name, weight in weights.items() if weight is not None}
    save_file(kept, file, metadata={"format": "pt"})
