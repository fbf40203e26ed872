"""What a recipe says once it is checked (`recipes`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...masks import MaskOptions
from ..crops import CropOptions
from ..fitness.leaks import KINDS, LeakOptions
from ..fitness.measures import QualityOptions
from ..generation.endpoint import EndpointSettings
from ..pairing import PairOptions

__all__ = ["ConvertSpec", "DatasetSpec", "EmbedSpec", "ImageSpec", "LeakSpec", "OutputSpec", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class EmbedSpec:
    """By what images are compared, see `embedding.load_embedder`."""

    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How the images that training sees are stored.

    Attributes:
        format: `source` (JPEG where the dataset's file is one, PNG otherwise), `png` (lossless) or `jpeg`.
        quality: of JPEG.
        originals: name the dataset's own files where a pair is neither cut nor resized and they lie in `media_dir`.
    """

    format: str = "source"
    quality: int = 95
    originals: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is read, and how pairs are made of it. The attributes are the recipe's keys.

    `product` is what the parts are in words: one text for all categories, or category → text.
    """

    name: str
    reader: str
    root: Path
    options: Mapping[str, str] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    product: str | Mapping[str, str] = ""
    splits: tuple[str, ...] = ()
    min_area: int = 1
    mask: MaskOptions = field(default_factory=MaskOptions)
    skip_problems: bool = False
    filter: QualityOptions | None = field(default_factory=QualityOptions)
    ratio: float | None = None
    cut: str = "normal"
    queries: str = "all"
    pair: PairOptions = field(default_factory=PairOptions)
    embed: EmbedSpec = field(default_factory=EmbedSpec)
    skip_unpaired: bool = False
    crop: CropOptions | None = None
    images: ImageSpec = field(default_factory=ImageSpec)


@dataclass(frozen=True, kw_only=True)
class LeakSpec:
    """What is done about images that are in an evaluation set too.

    Attributes:
        options: what counts as one.
        drop: the kinds of `leaks.KINDS` that keep an image out; the last is a suspicion only.
        skip_problems: go on where an image of an evaluation set cannot be read.
    """

    options: LeakOptions = field(default_factory=LeakOptions)
    drop: tuple[str, ...] = KINDS[:3]
    skip_problems: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One file of records.

    Attributes:
        name: of the data set and the file, as in Table I.
        datasets: names of `Recipe.datasets` that its pairs are drawn from.
        tasks: task → weight; each pair gets one task of those that it can have.
        amount: records, None for one of every pair.
        generator: `annotations` where the recipe's endpoint is not to be asked for this one, else "".
    """

    name: str
    datasets: tuple[str, ...]
    tasks: Mapping[str, float]
    amount: int | None = None
    generator: str = ""


@dataclass(frozen=True, kw_only=True)
class ConvertSpec:
    """A general source: what `adcopilot data convert COMMAND` is told."""

    name: str
    command: str
    root: Path
    amount: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    skip_problems: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe.

    Attributes:
        name: the file's, without `.yaml`.
        seed: of every choice.
        media_dir: LlamaFactory's, None for the output folder.
        shard_images: images of a shard: what is in memory, and what a killed build does again.
        max_left_out: the largest share of a dataset's or an output's images that may be lost (`losses`).
        against: folders or tables of evaluation sets, whose images are left out of all datasets.
        leaks: how that is done.
        prompts: folder of edited prompts, None for the package's.
        endpoint: who is asked, None for text from the annotations alone.
        fallback: whether the annotations write what the endpoint refuses.
        datasets, outputs, converts: by name, in the file's order.
        text: the recipe as JSON values, for the manifest.
    """

    name: str
    seed: int
    media_dir: Path | None
    shard_images: int
    max_left_out: float
    against: tuple[Path, ...]
    leaks: LeakSpec
    prompts: Path | None
    endpoint: EndpointSettings | None
    fallback: bool
    datasets: Mapping[str, DatasetSpec]
    outputs: Mapping[str, OutputSpec]
    converts: Mapping[str, ConvertSpec]
    text: Any
