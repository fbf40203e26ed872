"""What a recipe says: each class is a section, and its fields are the keys that may stand in it.

`docs/data.md` describes every key for its users.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ...anomaly_map import MAP_KINDS
from ...masks import INVERSIONS, MaskOptions, check_options
from ...yaml_sections import short
from ..crops import CropOptions
from ..fitness.leaks import LeakOptions
from ..fitness.measures import QualityOptions
from ..fitness.rebalance import CUTS, parse_ratio
from ..generation import TASKS
from ..generation.endpoint import EndpointSettings
from ..pairing import PairOptions
from ..pipeline.losses import MAX_LEFT_OUT
from ..readers import READERS, check_reader_options
from ..table import SPLITS
from .model import Count, Folder, Folders, Share, Spec, Text, Texts, choices, dotted
from .table_one import CONVERTERS, default_amount, names

__all__ = [
    "Annotations",
    "ConvertSpec",
    "DatasetSpec",
    "HintSpec",
    "ImageSpec",
    "OutputSpec",
    "Recipe",
    "RecipeFile",
    "Shared",
]

#: Which images of a dataset get a template.
QUERIES = ("all", "anomalous", "normal")


class ImageSpec(Spec):
    """How the images that training sees are stored.

    Attributes:
        format: `source` (JPEG where the dataset's file is one, PNG otherwise), `png` (lossless) or `jpeg`.
        quality: of JPEG.
        originals: name the dataset's own files where a pair is neither cut nor resized and they lie in `media_dir`.
    """

    format: Literal["source", "png", "jpeg"] = "source"
    quality: Annotated[int, Field(ge=50, le=100)] = 95
    originals: bool = False


class MaskSpec(Spec):
    """What a mask marks, see `masks.MaskOptions`."""

    threshold: float | None = None
    inverted: Literal[INVERSIONS] = "none"
    most: float | None = None

    @model_validator(mode="after")
    def _in_range(self) -> MaskSpec:
        check_options(self.options(), threshold=".threshold", most=".most")
        return self

    def options(self, *, most: float = MaskOptions().most) -> MaskOptions:
        """For the readers; `most` where the recipe says none."""
        most = most if self.most is None else self.most
        return MaskOptions(threshold=self.threshold, inverted=self.inverted, most=most)


def _reader_option(key: str, value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{dotted('', key)} is {short(value)}, expected a text or a number; put it in quotes")
    return str(value)


def _reader_options(value: Any) -> Any:
    return {key: _reader_option(key, one) for key, one in value.items()} if isinstance(value, dict) else value


def _product(value: Any) -> Any:
    if isinstance(value, dict):
        for category, one in value.items():
            if not isinstance(one, str) or not one.strip():
                raise ValueError(f"{dotted('', category)} is {short(one)}, expected a text")
    elif not isinstance(value, str) or not value.strip():
        raise ValueError(f" is {short(value)}, expected a text")
    return value


def _ratio(value: Any) -> Any:
    return parse_ratio(value, name="") if isinstance(value, str) else value


def _or_false(value: Any) -> Any:
    return None if value is False else value


def _shares_or_false(value: Any) -> Any:
    return {"shares": value} if isinstance(value, str) else _or_false(value)


class DatasetSpec(Spec):
    """What is read, and how pairs are made of it.

    `product` is what the parts are in words: one text for all categories, or category → text.
    """

    name: str
    reader: Literal[tuple(READERS)]
    root: Folder
    options: Annotated[dict[str, str], BeforeValidator(_reader_options)] = {}
    categories: Texts = ()
    product: Annotated[Any, BeforeValidator(_product)] = ""
    splits: choices(*SPLITS) = ()
    min_area: Count = 1
    mask: MaskSpec = MaskSpec()
    skip_problems: bool = False
    filter: Annotated[QualityOptions | None, BeforeValidator(_or_false)] = QualityOptions()
    ratio: Annotated[float | None, BeforeValidator(_ratio)] = None
    cut: Literal[CUTS] = "normal"
    queries: Literal[QUERIES] = "all"
    pair: PairOptions = PairOptions()
    crop: Annotated[CropOptions | None, BeforeValidator(_shares_or_false)] = None
    images: ImageSpec = ImageSpec()

    @model_validator(mode="after")
    def _of_reader(self) -> DatasetSpec:
        check_reader_options(self.reader, self.options, where=".options")
        return self

    @property
    def masks(self) -> MaskOptions:
        """How its masks are read; those that a build wrote mark what is left, however much that is."""
        return self.mask.options(most=1.0) if READERS[self.reader].built else self.mask.options()


class HintSpec(Spec):
    """How an anomaly map is made whose boxes are told in a question, see `anomaly_map.comparing.MapSettings`.

    Attributes:
        kind, search, max_pixels, growth, backbone: of the map, as there; features are of `backbone`.
        threshold: of the map's score, below which no place is told; None for one of each category, from its good
            pairs.
    """

    kind: Literal[MAP_KINDS] = "pixels"
    search: Annotated[int, Field(ge=0, le=64)] | None = None
    max_pixels: Annotated[int, Field(ge=1024)] | None = None
    growth: Annotated[int, Field(ge=0, le=1000)] | None = None
    backbone: Text | None = None
    threshold: Annotated[float, Field(ge=0, le=10)] | None = None

    @model_validator(mode="after")
    def _backbone(self) -> HintSpec:
        if (self.kind == "features") != (self.backbone is not None):
            raise ValueError("kind: features and backbone: FOLDER_OR_ID go together; give both, or neither")
        return self

    def settings(self) -> dict[str, Any]:
        """The arguments of `MapSettings`."""
        return self.model_dump(exclude={"threshold"}, exclude_none=True)


def _map_hints(value: Any) -> Any:
    return {} if value == "map" else value


def _tasks(value: Any) -> Any:
    """Task → weight, in the order of `TASKS`; a list gives each the same."""
    if isinstance(value, dict):
        given = list(value.items())
    else:
        given = [(task, 1.0) for task in (value if isinstance(value, list) else [value])]
    for task, weight in given:
        if task not in TASKS:
            raise ValueError(f" holds {short(task)}, expected some of {', '.join(map(repr, TASKS))}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < 1e300:
            raise ValueError(f".{task} is {short(weight)}, expected a number, 0 or more")
    given = dict(given)
    found = {task: float(given[task]) for task in TASKS if given.get(task)}
    if not found:
        raise ValueError(f" is missing, expected some of {', '.join(TASKS)}")
    return found


def _amount(value: Any) -> Any:
    return None if value == "all" else value


class _Amount(Spec):
    """An output's name, which says how many records it has, and the key that says otherwise; None for all."""

    name: str
    amount: Annotated[Count | None, BeforeValidator(_amount)] = None

    @model_validator(mode="before")
    @classmethod
    def _of_table_one(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("amount") is None and values.get("name") in names():
            return {**values, "amount": default_amount(values["name"])}
        return values


class OutputSpec(_Amount):
    """One file of records.

    Attributes:
        name: of the data set and the file, as in Table I.
        datasets: names of `Recipe.datasets` that its pairs are drawn from.
        tasks: task → weight; each pair gets one task of those that it can have.
        amount: records, None for one of every pair.
        generator: `annotations` where the recipe's endpoint is not to be asked for this one, else "".
        hints: of places that an anomaly map marks, in each question as `adcopilot inspect --hints map` has them; None
            for none.
    """

    datasets: Texts
    tasks: Annotated[dict[str, float], BeforeValidator(_tasks)]
    generator: Literal["", "annotations", "endpoint"] = ""
    hints: Annotated[HintSpec | None, BeforeValidator(_map_hints)] = None


def _command_options(value: Any) -> Any:
    for key, one in value.items() if isinstance(value, dict) else ():
        if not isinstance(one, (str, int, float, bool)):
            raise ValueError(f"{dotted('', key)} is {short(one)}, expected a text, a number, true or false")
    return value


class ConvertSpec(_Amount):
    """A general source: what `adcopilot data convert COMMAND` is told."""

    command: Annotated[Literal[tuple(CONVERTERS)], Field(alias="convert")]
    root: Folder
    options: Annotated[dict[str, Any], BeforeValidator(_command_options)] = {}
    skip_problems: bool = False

    @model_validator(mode="after")
    def _of_its_name(self) -> ConvertSpec:
        if CONVERTERS[self.command] != self.name:
            raise ValueError(f".convert is {self.command}, which writes the data set {CONVERTERS[self.command]}; "
                             f"name the output so, not {self.name}")  # fmt: skip
        return self


class Shared(Spec):
    """What the file and the checked recipe say alike.

    Attributes:
        seed: of every choice.
        media_dir: LlamaFactory's, None for the output folder.
        shard_images: images of a shard: what is in memory, and what a killed build does again.
        max_left_out: the largest share of a dataset's or an output's images that may be lost (`losses`).
        against: folders or tables of evaluation sets, whose images are left out of all datasets.
        leaks: how that is done.
        prompts: folder of edited prompts, None for the package's.
    """

    seed: int = 0
    media_dir: Folder | None = None
    shard_images: Annotated[int, Field(ge=1, le=4096)] = 1024
    max_left_out: Share = MAX_LEFT_OUT
    against: Folders = ()
    leaks: LeakOptions = LeakOptions()
    prompts: Folder | None = None


class RecipeFile(Shared):
    """A recipe as it is written; `defaults` are keys of every dataset that does not have its own."""

    generator: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    datasets: dict[str, Any] = {}
    outputs: dict[str, Any] = {}


class Annotations(Spec):
    """The generator that asks nobody."""

    kind: Literal["annotations", "endpoint"] = "annotations"


class Recipe(Shared):
    """A checked recipe.

    Attributes:
        name: the file's, without `.yaml`.
        text: the recipe as JSON values, for the manifest.
        endpoint: who is asked, None for text from the annotations alone.
        datasets, outputs, converts: by name, in the file's order.
    """

    name: str
    text: Any
    endpoint: EndpointSettings | None = None
    datasets: dict[str, DatasetSpec] = {}
    outputs: dict[str, OutputSpec] = {}
    converts: dict[str, ConvertSpec] = {}
