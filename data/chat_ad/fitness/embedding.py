"""One vector an image, by which a query finds the normal image that is most like it.

Three kinds, all of unit length, so that an inner product is a cosine:

    classical                  16×16 grey values, 8×8 colours and histograms of edge directions in 8×8 cells: where
                               things are, their colours, their outlines. No model, no torch
    a vision backbone          any of transformers' that has an image processor (DINOv2, SigLIP, CLIP, ResNet, …)
    an AD-Copilot or Qwen2.5-VL folder   its vision tower alone: the language model is not loaded

Images are made small in the threads that decode them, so that memory holds a batch of small pictures and one large one
for each thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image

from ...errors import UserError, one_line
from ..sources.references import open_reference

__all__ = [
    "BackboneEmbedder",
    "ClassicalEmbedder",
    "Embedder",
    "TowerEmbedder",
    "embed_images",
    "load_embedder",
    "table_to_vectors",
    "vectors_to_table",
]

#: Area in pixels to which images are shrunk for a vision tower.
TOWER_PIXELS = 448 * 448


class Embedder(Protocol):
    """What pairing needs to know of an embedder.

    Attributes:
        name: says all that the vectors depend on (kind, version, a digest of the weights).
        dimension: of the vectors.
        batch_size: images that are embedded together.
    """

    name: str
    dimension: int
    batch_size: int

    def prepare(self, image: Image.Image) -> Any:
        """An upright RGB image as `embed` wants it, small; called in several threads."""

    def embed(self, prepared: list[Any]) -> np.ndarray:
        """(n, dimension) float32, rows of length 1 (or 0, of a picture without any content)."""


class ClassicalEmbedder:
    """Grey values, colours and edge directions, a third of the vector's length each."""

    name = "classical/1"
    dimension = 256 + 192 + 576
    batch_size = 64

    def prepare(self, image: Image.Image) -> np.ndarray:
        """The vector itself, (1024,) float32."""
        grey = image.convert("L")
        layout = np.asarray(grey.resize((16, 16), Image.Resampling.BOX), np.float32).ravel()
        colours = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32)
        colours = colours - colours.mean(axis=2, keepdims=True) + (colours.mean(axis=2, keepdims=True) - 127.5) / 4
        edges = _edge_directions(np.asarray(grey.resize((130, 130), Image.Resampling.BILINEAR), np.float32))
        parts = [layout - layout.mean(), colours.ravel(), np.sqrt(edges)]
        return _unit(np.concatenate([_unit(part) for part in parts]))

    def embed(self, prepared: list[np.ndarray]) -> np.ndarray:
        """The vectors as one array."""
        return np.stack(prepared)


class BackboneEmbedder:
    """A vision backbone of transformers: its image features, its pooled output, or the mean of its last states.

    Args:
        model: folder, or id of a model on the hub; only safetensors are read, and no code of the model's own.
        device, dtype: as `adcopilot inspect`'s.
        batch_size: images that are embedded together.

    Raises:
        UserError: it cannot be loaded, or is none for images.
    """

    def __init__(self, *, model: str, device: str = "auto", dtype: str = "auto", batch_size: int = 16) -> None:
        import torch
        import transformers

        from ...inspect.loading import pick_device, pick_dtype

        self.device, self.batch_size = pick_device(device), batch_size
        self.dtype = getattr(torch, pick_dtype(dtype, self.device))
        local = {"local_files_only": True} if Path(model).is_dir() else {}
        fast = {"use_fast": True} if transformers.__version__.startswith("4.") else {}
        try:
            self.processor = transformers.AutoImageProcessor.from_pretrained(model, **local, **fast)
            config = transformers.AutoConfig.from_pretrained(model, **local)
            if hasattr(config, "mask_ratio"):  # ViTMAE: random masks are for its training
                config.mask_ratio = 0.0
            self.model = transformers.AutoModel.from_pretrained(
                model, config=config, use_safetensors=True, dtype=self.dtype, **local
            )
        except Exception as error:  # transformers raises whatever its readers stumble on
            reason = one_line(error)
            raise UserError(
                f"{model}: cannot be loaded as a vision model ({reason}); give a folder or hub id with an "
                "image processor and safetensors weights, or leave `embed` out"
            ) from error
        self.model = self.model.to(self.device).eval()
        self.name = f"{config.model_type}/{_weights_digest(self.model)}/{self.dtype}"
        probe = self.embed([self.prepare(Image.new("RGB", (64, 64), "grey"))])
        self.dimension = probe.shape[1]

    def prepare(self, image: Image.Image) -> Any:
        """`pixel_values` of the image, without the batch dimension."""
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]

    def embed(self, prepared: list[Any]) -> np.ndarray:
        """(n, dimension) float32, rows of length 1."""
        import torch

        pixels = torch.stack(prepared).to(self.device, self.dtype)
        with torch.inference_mode():
            if hasattr(self.model, "get_image_features"):
                output = self.model.get_image_features(pixel_values=pixels)
            else:
                output = self.model(pixel_values=pixels)
        features = output if isinstance(output, torch.Tensor) else getattr(output, "pooler_output", None)
        if features is None:
            features = output.last_hidden_state
            # (n, tokens, channels) of a transformer, (n, channels, height, width) of a convolutional network.
            features = features.mean(dim=1) if features.dim() == 3 else features.flatten(2).mean(dim=2)
        return _unit_rows(features.flatten(1))


class TowerEmbedder:
    """The vision tower of an AD-Copilot or Qwen2.5-VL folder: the mean of what it gives the language model.

    Args:
        folder: the model's; of its weights only the tower's are read.
        device, dtype: as `adcopilot inspect`'s.
        batch_size: images that are embedded together.
        pixels: area that larger images are shrunk to.

    Raises:
        UserError: the folder cannot be used.
    """

    def __init__(
        self,
        *,
        folder: Path,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        pixels: int = TOWER_PIXELS,
    ) -> None:
        from ...inspect.loading import check_folder, pick_device, pick_dtype

        model_type, files = check_folder(folder)
        import torch
        from safetensors import SafetensorError, safe_open
        from transformers import Qwen2VLImageProcessorFast
        from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

        self.device, self.batch_size = pick_device(device), batch_size
        self.dtype = getattr(torch, pick_dtype(dtype, self.device))
        weights = {}
        try:
            raw = json.loads((folder / "config.json").read_text("utf-8"))["vision_config"]
            config = Qwen2_5_VLVisionConfig(**raw)
            config._attn_implementation = "sdpa"
            self.processor = Qwen2VLImageProcessorFast.from_pretrained(folder, local_files_only=True)
            for file in files:
                with safe_open(file, "pt") as opened:
                    for key in opened.keys():
                        name = key.removeprefix("model.")
                        if name.startswith("visual."):
                            weights[name.removeprefix("visual.")] = opened.get_tensor(key)
            self.tower = Qwen2_5_VisionTransformerPretrainedModel(config)
            self.tower.load_state_dict(weights)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = one_line(error)
            raise UserError(f"{folder}: its vision tower cannot be loaded ({reason})") from error
        self.tower = self.tower.to(self.device, self.dtype).eval()
        self.merge = config.spatial_merge_size**2
        self.pixels = pixels
        self.dimension = config.out_hidden_size
        self.name = f"{model_type} tower/{_weights_digest(self.tower)}/{self.dtype}/{pixels}"

    def prepare(self, image: Image.Image) -> Any:
        """`pixel_values` (patches, channels) and `image_grid_thw` (1, 3) of the image."""
        from ...images import resize_for_training

        # 56 pixels a side are four merged patches: less would be one vector of one patch.
        small = resize_for_training(image, image_max_pixels=self.pixels, image_min_pixels=56 * 56)
        inputs = self.processor(images=small, return_tensors="pt")
        return inputs["pixel_values"], inputs["image_grid_thw"]

    def embed(self, prepared: list[Any]) -> np.ndarray:
        """(n, dimension) float32, rows of length 1."""
        import torch

        pixels = torch.cat([pixels for pixels, _ in prepared]).to(self.device, self.dtype)
        grids = torch.cat([grid for _, grid in prepared]).to(self.device)
        with torch.inference_mode():
            output = self.tower(pixels, grid_thw=grids)
        # transformers 5 wraps it: what the merger gives is the pooled output.
        tokens = output if isinstance(output, torch.Tensor) else output.pooler_output
        lengths = (grids.prod(dim=1) // self.merge).tolist()
        return _unit_rows(torch.stack([one.float().mean(dim=0) for one in tokens.split(lengths)]))


def load_embedder(
    model: str | None, *, device: str = "auto", dtype: str = "auto", batch_size: int | None = None
) -> Embedder:
    """The embedder that `--embed` names: classical for None, a vision tower for a folder that holds one, a backbone.

    Raises:
        UserError: it cannot be loaded.
    """
    if model is None:
        return ClassicalEmbedder()
    size = {} if batch_size is None else {"batch_size": batch_size}
    config = Path(model) / "config.json"
    model_type = None
    if config.is_file():
        try:
            model_type = json.loads(config.read_text("utf-8")).get("model_type")
        except (OSError, ValueError, RecursionError, AttributeError) as error:
            raise UserError(f"{config}: cannot be read as JSON ({error}); copy or export the model again") from None
    if model_type in ("adcopilot", "qwen2_5_vl"):
        return TowerEmbedder(folder=Path(model), device=device, dtype=dtype, **size)
    if not config.is_file() and (Path(model).exists() or model.startswith((".", "/", "~"))):
        raise UserError(f"{model}: no config.json in it, expected a model folder or a model's id on the hub")
    return BackboneEmbedder(model=model, device=device, dtype=dtype, **size)


def embed_images(images: list[str], root: str | os.PathLike, embedder: Embedder) -> tuple[np.ndarray, dict[int, str]]:
    """Embed images, a batch at a time.

    Args:
        images: references.
        root: what they are relative to.
        embedder: does it. What is in a batch depends on `images` alone, so the vectors do too.

    Returns:
        (n, dimension) float32, and row → why that image cannot be used; its vector is 0.
    """

    def open_one(reference: str) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of animations and odd metadata: said when the image is used
                return embedder.prepare(open_reference(root, reference))
        except UserError as error:
            return error

    vectors = np.zeros((len(images), embedder.dimension), np.float32)
    problems: dict[int, str] = {}
    rows, batch = [], []
    for row, prepared in enumerate(map(open_one, images)):
        if isinstance(prepared, UserError):
            problems[row] = str(prepared)
        else:
            rows.append(row)
            batch.append(prepared)
        if batch and (len(batch) == embedder.batch_size or row == len(images) - 1):
            vectors[rows] = embedder.embed(batch)
            rows, batch = [], []
    if batch:
        vectors[rows] = embedder.embed(batch)
    return vectors, problems


def vectors_to_table(vectors: np.ndarray, problems: dict[int, str]) -> pa.Table:
    """Vectors as an Arrow table of `vector` (null where there is a problem's text in `problem`) for a shard's file."""
    rows = [vector.tobytes() for vector in np.ascontiguousarray(vectors, np.float32)]
    texts = [problems.get(row) for row in range(len(rows))]
    kind = pa.binary(4 * vectors.shape[1])
    return pa.table({"vector": pa.array(rows, kind), "problem": pa.array(texts, pa.string())})


def table_to_vectors(table: pa.Table) -> tuple[np.ndarray, dict[int, str]]:
    """The inverse of `vectors_to_table`."""
    width = table.schema.field("vector").type.byte_width // 4
    vectors = np.frombuffer(b"".join(table["vector"].to_pylist()), np.float32).reshape(-1, width)
    return vectors, {row: text for row, text in enumerate(table["problem"].to_pylist()) if text is not None}


def _edge_directions(grey: np.ndarray) -> np.ndarray:
    """(576,): in each of 8×8 cells the gradient in nine directions (0° to 180°), of a (130, 130) picture."""
    dx = grey[1:-1, 2:] - grey[1:-1, :-2]
    dy = grey[2:, 1:-1] - grey[:-2, 1:-1]
    # A direction that lies between two bins is shared between them, or a small turn would change the vector much.
    place = np.arctan2(dy, dx) % np.pi / np.pi * 9
    strength = np.hypot(dx, dy)
    lower = np.floor(place)
    upper_share = place - lower
    cells = np.arange(128) // 16
    first_bin = (cells[:, None] * 8 + cells[None, :]) * 9
    histogram = np.zeros(8 * 8 * 9)
    for bins, share in ((lower, 1 - upper_share), (lower + 1, upper_share)):
        where = (first_bin + bins.astype(np.int64) % 9).ravel()
        histogram += np.bincount(where, (strength * share).ravel(), minlength=len(histogram))
    return histogram.astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / length if length > 1e-6 else np.zeros_like(vector)).astype(np.float32)


def _unit_rows(features: Any) -> np.ndarray:
    values = features.float().cpu().numpy().astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.maximum(lengths, 1e-12)).astype(np.float32)


def _weights_digest(model: Any) -> str:
    """32 hexadecimal digits of a model's weights, by name."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
