"""A model folder's fixture: a question, and the tokens that `generate` answered when the folder was written.

The fixture lies beside the weights (`FIXTURE`), pictures included, so that the folder can be checked on any machine,
under any version, without data. Two machines never have the same logits, so a token is only compared where the best
logit was ahead of the second by more than machines differ (`MARGIN_LIMITS`); after a token in which they may differ
the answers are of different texts, so nothing behind it is compared either.
"""

from __future__ import annotations

import base64
import io
import json
import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from ..errors import UserError, one_line, shortened
from ..files import not_a_file
from ..jsonl import write_text

__all__ = [
    "FIXTURE",
    "MARGIN_LIMITS",
    "Fixture",
    "comparable",
    "compare",
    "make_fixture",
    "read_fixture",
    "stored_dtype",
    "write_fixture",
]

FIXTURE = "adcopilot_check.json"

#: Logits below which the second best may be the best elsewhere, by the dtype of the weights: some times what kernels,
#: devices and versions differ by (1e-4 in float32 between versions on a CPU; a bfloat16 of 16 to 32 has steps of
#: 0.125, of float16 0.016).
MARGIN_LIMITS = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.5}

_FORMAT = 1
_MOST_BYTES = 2**20
_MOST_PIXELS = 2**20
_MOST_STEPS = 64
_MOST_IDS = 2**16
#: Seconds after which no further question is asked, whatever the first ones' answers are worth.
_PATIENCE = 20.0


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """What `FIXTURE` holds.

    Attributes:
        format: of the file, 1.
        adcopilot, transformers, torch: versions that wrote it.
        dtype, device: of the model that answered: `float32`, `bfloat16` or `float16`; `cpu` or `cuda`.
        template, query: PNG, base64.
        min_pixels, max_pixels: of one image, the image processor's budget.
        prompt: text, one image pad for each image.
        input_ids: of the prompt, pads written out.
        tokens: greedy ids; `margins` how far each one's logit was ahead of the second best; `text` decoded.
    """

    format: int = _FORMAT
    adcopilot: str
    transformers: str
    torch: str
    dtype: str
    device: str
    template: str
    query: str
    min_pixels: int
    max_pixels: int
    prompt: str
    input_ids: list[int]
    tokens: list[int]
    margins: list[float]
    text: str

    @property
    def question(self) -> dict[str, Any]:
        """The arguments of `answer.ask` beside model, processor and steps.

        Raises:
            ValueError: a picture is damaged.
        """
        return {
            "images": [_picture(self.template), _picture(self.query)],
            "prompt": self.prompt,
            "min_pixels": self.min_pixels,
            "max_pixels": self.max_pixels,
        }


def comparable(margins: list[float], *, limit: float) -> int:
    """How many tokens come before the first whose margin, in logits, is below the limit."""
    return next((step for step, margin in enumerate(margins) if margin < limit), len(margins))


def stored_dtype(config: dict[str, Any]) -> str:
    """What config.json says the weights are saved in; float32 where that is none that a fixture is made in."""
    found = config.get("dtype") or config.get("torch_dtype")  # the second is transformers 4's older name
    return found if isinstance(found, str) and found in MARGIN_LIMITS else "float32"


def make_fixture(model, processor) -> Fixture:
    """Ask a loaded model; of the questions the one whose answer has the most comparable tokens. A slow one is asked
    fewer.

    Args:
        model: AD-Copilot's, in evaluation mode, on its device, in the dtype it is saved in.
        processor: as it is saved beside it.

    Raises:
        UserError: the model makes no comparison, or its logits are not finite.
    """
    import torch
    import transformers

    from .. import __version__
    from .answer import QUESTIONS, STEPS, ask, check_comparison, fixture_pair, write_prompt

    dtype = str(model.dtype).removeprefix("torch.")
    limit = MARGIN_LIMITS.get(dtype)
    if limit is None:
        raise UserError(f"the weights are {dtype}, expected one of {', '.join(MARGIN_LIMITS)}; export them as such")
    template, query = fixture_pair()
    budget = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    best = None
    start = time.monotonic()
    for text in QUESTIONS:
        question = {"images": [template, query], "prompt": write_prompt(processor, text), **budget}
        answer = ask(model, processor, **question)
        count = comparable(answer.margins, limit=limit)
        if best is None or count > best[0]:
            best = (count, question, answer)
        if count == STEPS or time.monotonic() - start > _PATIENCE:
            break
    _, question, answer = best
    check_comparison(model, processor, answer, **question)
    return Fixture(
        adcopilot=__version__,
        transformers=transformers.__version__,
        torch=torch.__version__,
        dtype=dtype,
        device=model.device.type,
        template=_png(template),
        query=_png(query),
        **budget,
        prompt=question["prompt"],
        input_ids=answer.input_ids,
        tokens=answer.tokens,
        margins=[round(margin, 4) for margin in answer.margins],
        text=answer.text,
    )


def write_fixture(folder: Path, fixture: Fixture) -> Path:
    """Write the fixture into a model folder, by one rename; its path.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = Path(folder, FIXTURE)
    # One field a line: long lists of ids would be a line for each id with `indent`.
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(fixture).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_text(path, text)
    return path


def read_fixture(folder: Path) -> Fixture:
    """The fixture of a model folder, every field checked.

    Raises:
        UserError: there is none, or it is damaged: one line that names the field, what it is and what was expected.
    """
    path = Path(folder, FIXTURE)
    write = f"`adcopilot check {folder} --write` makes one of what the model answers now"
    if not path.exists():
        raise UserError(f"{path}: not found, so there is nothing to compare with; {write}")
    try:
        stat = path.stat()
        if kind := not_a_file(stat):
            raise ValueError(f"is {kind}, expected a file")
        if stat.st_size > _MOST_BYTES:
            raise ValueError(f"has {stat.st_size} bytes, expected {_MOST_BYTES} at most")
        fixture = _parsed(json.loads(path.read_text(encoding="utf-8")))
        _ = fixture.question  # the pictures open
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, {one_line(error)}; copy it again, or {write}") from None
    return fixture


def _parsed(value: Any) -> Fixture:
    """A fixture from what JSON holds.

    Raises:
        ValueError: a field is missing, unknown, or not what it should be.
    """
    if not isinstance(value, dict):
        raise ValueError(f"is {type(value).__name__}, expected an object")
    if value.get("format") != _FORMAT:
        raise ValueError(f"format is {_shown(value.get('format'))}, expected {_FORMAT}")
    names = [one.name for one in fields(Fixture)]
    if missing := [name for name in names if name not in value]:
        raise ValueError(f"{missing[0]} is missing")
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"field {_shown(unknown[0])} is unknown")
    for name in ("adcopilot", "transformers", "torch"):  # they stand in what the user is told to type
        _expect(name, value[name], "a version", _is_version)
    _expect("dtype", value["dtype"], f"one of {', '.join(MARGIN_LIMITS)}", lambda one: one in tuple(MARGIN_LIMITS))
    for name in ("device", "template", "query", "prompt", "text"):
        _expect(name, value[name], "a text", lambda one: isinstance(one, str))
    for name in ("min_pixels", "max_pixels"):
        _expect(name, value[name], f"1 to {_MOST_PIXELS}", lambda one: _is_int(one, 1, _MOST_PIXELS))
    if value["min_pixels"] > value["max_pixels"]:
        raise ValueError(f"min_pixels is {value['min_pixels']}, expected {value['max_pixels']} (max_pixels) at most")
    for name, most in (("input_ids", _MOST_IDS), ("tokens", _MOST_STEPS)):
        _expect(name, value[name], f"a list of 1 to {most} token ids", lambda one, most=most: _are_ids(one, most))
    _expect(
        "margins",
        value["margins"],
        f"a list of {len(value['tokens'])} numbers of 0 or more",
        lambda one: isinstance(one, list) and len(one) == len(value["tokens"]) and all(map(_is_margin, one)),
    )
    return Fixture(**value)


def _expect(name: str, value: Any, expected: str, is_right) -> None:
    if not is_right(value):
        raise ValueError(f"{name} is {_shown(value)}, expected {expected}")


def _shown(value: Any) -> str:
    return shortened(repr(value), most=40)


def _is_version(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(value) < 60 and bool(Version(value))
    except InvalidVersion:
        return False


def _is_int(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_ids(value: Any, most: int) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= most and all(_is_int(one, 0, 2**31 - 1) for one in value)


def _is_margin(value: Any) -> bool:
    is_number = isinstance(value, float) or _is_int(value, 0, 2**31)
    return is_number and math.isfinite(value) and value >= 0


def _png(image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _picture(text: str):
    """An RGB image from base64 of a PNG; ValueError if it is none, or too large."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, expected {_MOST_PIXELS} at most")
            return image.convert("RGB")
    except Exception as error:  # Pillow raises whatever its parsers stumble on
        raise ValueError(f"a picture cannot be read ({one_line(error)})") from None


def compare(fixture: Fixture, model, processor) -> int:
    """Ask the model what the fixture asks: how many tokens were compared, all of them equal. 0 says nothing.

    Args:
        fixture: what is expected.
        model, processor: as in `make_fixture`; the dtype may be another than the fixture's.

    Raises:
        UserError: the processor makes other ids, a token differs, the model makes no comparison, or logits are not
            finite. The line has no file and no remedy: the caller knows them.
    """
    from .answer import ask, check_comparison

    question = fixture.question
    answer = ask(model, processor, steps=len(fixture.tokens), **question)
    if answer.input_ids != fixture.input_ids:
        pairs = zip(answer.input_ids, fixture.input_ids, strict=False)
        place = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
        where = "one is the beginning of the other" if place is None else f"they are others from id {place + 1} on"
        raise UserError(
            f"the processor makes {len(answer.input_ids)} ids of the prompt and its images, expected "
            f"{len(fixture.input_ids)}; {where}"
        )
    check_comparison(model, processor, answer, **question)
    dtype = str(model.dtype).removeprefix("torch.")
    limit = max(MARGIN_LIMITS[fixture.dtype], MARGIN_LIMITS.get(dtype, 0.0))
    count = comparable(fixture.margins, limit=limit)
    pairs = zip(answer.tokens[:count], fixture.tokens[:count], strict=True)
    differs = next((step for step, (found, expected) in enumerate(pairs, 1) if found != expected), None)
    if differs is not None:
        raise UserError(
            f"token {differs} of {count} that are compared is another: `generate` gave {answer.tokens} "
            f"({shortened(answer.text)!r}), expected {fixture.tokens} ({shortened(fixture.text)!r})"
        )
    return count
