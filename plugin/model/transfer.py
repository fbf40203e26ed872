"""Put a trained Comparison Encoder into another Qwen2.5-VL without training (paper, section VII-D-a, Table VIII).

The encoder reads the vision tower's features, which bases of the same tower have in the same width; only what it
writes, comparison tokens, has the width of its language model. The paper moves them to another language model "via a
linear embedding-space alignment" and says no more. Here that alignment is the matrix M that takes the first model's
token embeddings nearest to the second's, in the sense of least squares, over the tokens that both tokenizers know:

    M = argmin Σ_t ‖M' e_t − f_t‖²      e_t, f_t: rows of token t in the two embeddings

and the encoder's projector becomes M' ∘ projector. Everything else of the encoder is copied.

Shapes in this file: V = shared tokens, S = the first language model's width, T = the second's, D = the tower's width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer

from adcopilot import __version__

from ..cli.saying import progress
from ..errors import UserError
from ..finite import check_tensor, opened
from ..inspect.loading import check_folder, weight_files
from ..jsonl import content_key, file_digest, write_json
from .comparison_encoder import ComparisonEncoder
from .configuration import COMPARISON_TOKEN, AdCopilotConfig
from .conversion import ENCODER_PREFIX, check_output, convert_base, current_name, read_base_config, read_from
from .processing import AdCopilotProcessor

__all__ = ["Alignment", "fit_alignment", "shared_tokens", "transfer"]

REPORT_FILE = "transfer.json"
EMBEDDING = "model.language_model.embed_tokens.weight"
PROJECTOR = f"{ENCODER_PREFIX}projector"

#: Fields of the two vision configurations that decide what the encoder's features are.
TOWER_FIELDS = (
    "depth",
    "hidden_size",
    "intermediate_size",
    "hidden_act",
    "num_heads",
    "in_channels",
    "patch_size",
    "temporal_patch_size",
    "spatial_merge_size",
    "window_size",
    "fullatt_block_indexes",
)
#: Rows that are looked up at a time: 235 MB of float64 at 7B.
_ROWS = 8192
#: Share of the tokens that the measured fit has not seen, and how many of them are looked for among all others.
_HELD_OUT, _LOOKED_FOR = 0.1, 1000


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A fitted linear map between two embeddings.

    Attributes:
        matrix: (S, T) float64: a row vector of the first space times it is one of the second.
        report: how well it fits, on tokens that a fit to the others had not seen (`held_out`) and on all of them
            (`all`): `explained`, 1 − Σ‖error‖² / Σ‖f‖² (1 is perfect, 0 no better than zero vectors); `cosine`, the
            mean cosine between mapped and true rows; for held-out tokens also `nearest`, the share whose mapped row is
            nearer (by cosine) to its own true row than to that of any other shared token, over `looked_for` of them.
            `tokens` and `held_out_tokens` are counts, `seed` that of the choice.
    """

    matrix: torch.Tensor
    report: dict


def transfer(*, source: Path, base: Path, output: Path, seed: int = 0) -> dict:
    """Write an AD-Copilot folder made from `base`, with the Comparison Encoder of `source`.

    Args:
        source: folder of an AD-Copilot model (merged, in safetensors).
        base: folder of a Qwen2.5-VL checkpoint with the same kind of vision tower.
        output: folder to write; must not exist or be empty.
        seed: of the choice of held-out tokens, which the report is measured on; the weights do not depend on it.

    Returns:
        What is written to `transfer.json` beside the weights: the fit's report, how far the two vision towers' weights
        are apart, and SHA-256 digests of the weights used.

    Raises:
        UserError: one of the folders is not what it should be, the towers differ in shape, or the vocabularies share
            too few tokens to determine the map.
    """
    check_output(output)  # before the towers and tokenizers are read
    model_type, _ = check_folder(source)
    if model_type != AdCopilotConfig.model_type:
        raise UserError(
            f"{source / 'config.json'}: model_type is {model_type!r}, expected 'adcopilot': --model has no "
            "comparison encoder to transfer"
        )
    config = read_from(source, "config.json", AdCopilotConfig.from_pretrained)
    target = read_base_config(base)
    check_towers(source, config.vision_config, base, target.vision_config)
    ids = shared_tokens(source, base)
    report: dict = {}

    def encoder(new: AdCopilotConfig, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        weights = dict(_tensors(source, ENCODER_PREFIX))
        _check_encoder(source, weights, config)
        embeddings = [next(tensor for _, tensor in _tensors(folder, EMBEDDING)) for folder in (source, base)]
        rows = ids[(ids[:, 0] < len(embeddings[0])) & (ids[:, 1] < len(embeddings[1]))]
        if len(rows) < 2 * embeddings[0].shape[1]:
            raise UserError(
                f"{source} and {base}: their vocabularies share {len(rows)} tokens, expected at least "
                f"{2 * embeddings[0].shape[1]} to align embeddings of width {embeddings[0].shape[1]}; give a --base "
                "of the same family"
            )
        alignment = fit_alignment(*embeddings, rows, seed=seed)
        report.update(alignment=alignment.report, embedding_digests=[_digest(one) for one in embeddings])
        report["encoder_digest"] = content_key([[name, _digest(weights[name])] for name in sorted(weights)])
        matrix = alignment.matrix.T  # (T, S)
        for name in (f"{PROJECTOR}.weight", f"{PROJECTOR}.bias"):
            weights[name] = matrix @ weights[name].double()
        return {name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}

    options = ("num_comparison_tokens", "comparison_num_heads", "comparison_position_encoding",
               "comparison_position_ids", "comparison_of_first")  # fmt: skip
    convert_base(base=base, output=output, encoder=encoder, **{name: getattr(config, name) for name in options})
    _copy_image_budget(source, output)
    report = {
        "adcopilot": __version__,
        "model": source.name,
        "base": base.name,
        "widths": [config.text_config.hidden_size, target.text_config.hidden_size],
        **report,
        "vision_towers_apart": tower_distance(source, base),
        "base_digest": content_key([[file.name, file_digest(file)] for file in weight_files(base)]),
    }
    write_json(output / REPORT_FILE, report, allow_nan=False)
    return report


def check_towers(source: Path, ours, base: Path, theirs) -> None:
    """UserError unless two vision configurations are of one shape; widths after the patch merger may differ."""
    for name in TOWER_FIELDS:
        if getattr(ours, name) != getattr(theirs, name):
            raise UserError(
                f"{base / 'config.json'}: vision_config.{name} is {getattr(theirs, name)}, but "
                f"{source} has {getattr(ours, name)}: the comparison encoder needs a base with the same vision tower"
            )


def shared_tokens(source: Path, base: Path) -> torch.Tensor:
    """(V, 2) ids, in the two tokenizers, of the tokens that both know, ordered by the first id.

    Pads of images, videos and comparisons are left out: their rows are never looked up, so training never moved them.
    """
    known = [read_from(folder, "tokenizer", AutoTokenizer.from_pretrained).get_vocab() for folder in (source, base)]
    pads = {"<|image_pad|>", "<|video_pad|>", "<|vision_pad|>", COMPARISON_TOKEN}
    pairs = sorted((known[0][token], known[1][token]) for token in known[0].keys() & known[1].keys() - pads)
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2)


def fit_alignment(source: torch.Tensor, target: torch.Tensor, ids: torch.Tensor, *, seed: int) -> Alignment:
    """Least squares from one embedding to another, in float64 by normal equations, a few thousand rows at a time.

    Args:
        source: (rows, S) the first embedding.
        target: (rows, T) the second.
        ids: (V, 2) rows of the same tokens.
        seed: of the choice of held-out tokens.
    """
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    held_out, seen = ids[order[: int(_HELD_OUT * len(ids))]], ids[order[int(_HELD_OUT * len(ids)) :]]
    sums = [_normal_equations(source, target, part) for part in (seen, held_out)]
    first = _solve(*sums[0])
    matrix = _solve(sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])
    looked_for = held_out[:_LOOKED_FOR]
    report = {
        "tokens": len(ids),
        "held_out_tokens": len(held_out),
        "seed": seed,
        "held_out": {
            **_fit(source, target, held_out, first),
            "nearest": _nearest(source, target, looked_for, ids[:, 1], first),
            "looked_for": len(looked_for),
        },
        "all": _fit(source, target, ids, matrix),
    }
    return Alignment(matrix=matrix, report=report)


def _rows(
    source: torch.Tensor, target: torch.Tensor, ids: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for part in ids.split(_ROWS):
        yield source[part[:, 0]].double(), target[part[:, 1]].double()


def _normal_equations(source, target, ids) -> tuple[torch.Tensor, torch.Tensor]:
    """(S, S) and (S, T): sums of e e' and e f' over tokens."""
    square = torch.zeros(source.shape[1], source.shape[1], dtype=torch.float64)
    product = torch.zeros(source.shape[1], target.shape[1], dtype=torch.float64)
    parts = len(ids.split(_ROWS))
    for e, f in progress(_rows(source, target, ids), total=parts, desc="tokens", hidden=parts < 3):
        square += e.T @ e
        product += e.T @ f
    return square, product


def _solve(square: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """(S, T): the shortest solution where directions are missing, as of tokens that are all alike."""
    return torch.linalg.pinv(square, hermitian=True) @ product


def _fit(source, target, ids, matrix) -> dict[str, float]:
    error = total = cosine = 0.0
    for e, f in _rows(source, target, ids):
        mapped = e @ matrix
        error += (mapped - f).square().sum().item()
        total += f.square().sum().item()
        cosine += torch.cosine_similarity(mapped, f).sum().item()
    return {"explained": 1 - error / total if total else 0.0, "cosine": cosine / len(ids)}


def _nearest(source, target, ids, candidates: torch.Tensor, matrix) -> float:
    """Share of tokens whose mapped row has no other candidate's row nearer, by cosine, than its own."""
    e, f = source[ids[:, 0]].double(), target[ids[:, 1]].double()
    mapped = torch.nn.functional.normalize(e @ matrix)
    own = (mapped * torch.nn.functional.normalize(f)).sum(-1)
    best = torch.full_like(own, -torch.inf)
    for part in candidates.split(_ROWS):
        similar = mapped @ torch.nn.functional.normalize(target[part].double()).T
        similar[ids[:, 1][:, None] == part] = -torch.inf
        best = torch.maximum(best, similar.amax(-1))
    return (own >= best).double().mean().item()


def tower_distance(source: Path, base: Path) -> float:
    """‖a − b‖ / ‖b‖ over the weights of two vision towers, patch mergers left out: the encoder was trained on the
    features of the first and will read those of the second."""
    apart = size = 0.0
    for name, theirs in _tensors(base, "model.visual."):
        if name.startswith("model.visual.merger."):
            continue
        ours = next(tensor for _, tensor in _tensors(source, name))
        apart += (ours.double() - theirs.double()).square().sum().item()
        size += theirs.double().square().sum().item()
    return (apart / size) ** 0.5 if size else 0.0


def _tensors(folder: Path, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """(today's name, weight) of a folder's weights whose name begins so, one shard after another.

    Raises:
        UserError: there are none, a shard cannot be read, or a weight is not finite.
    """
    found = False
    for shard in weight_files(folder):
        with opened(shard) as file:
            for key in file.keys():
                # Older names are of Qwen2.5-VL's weights only.
                name = key if key.startswith(ENCODER_PREFIX) else current_name(key)
                if name.startswith(prefix):
                    found = True
                    tensor = file.get_tensor(key)
                    check_tensor(tensor, name=f"{shard}: {key}")
                    yield name, tensor
    if not found:
        raise UserError(f"{folder}: has no weight {prefix}…: its weights and its config.json are of different models")


def _check_encoder(source: Path, weights: dict[str, torch.Tensor], config: AdCopilotConfig) -> None:
    with torch.device("meta"):
        expected = {
            ENCODER_PREFIX + name: one.shape for name, one in ComparisonEncoder(config=config).state_dict().items()
        }
    for name in sorted(expected.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else "missing"
        wanted = tuple(expected[name]) if name in expected else "no such weight"
        if found != wanted:
            raise UserError(f"{source}: weight {name} has shape {found}, config.json wants {wanted}; export it again")


def _copy_image_budget(source: Path, output: Path) -> None:
    """Images at the sizes that the encoder was trained with, where the source says them."""
    ours, new = (AdCopilotProcessor.from_pretrained(folder) for folder in (source, output))
    new.image_max_pixels, new.image_min_pixels = ours.image_max_pixels, ours.image_min_pixels
    new.trained_sizes = ours.trained_sizes
    new.save_pretrained(output)


def _digest(tensor: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    for part in tensor.reshape(len(tensor), -1).split(_ROWS):
        digest.update(part.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
