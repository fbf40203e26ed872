"""What one prefill of AD-Copilot asks of the host, and what it computes, against stock Qwen2.5-VL: counted, not timed.

    python benchmarks/counts.py                  a pair at 512 px, 1 megapixel and (FLOPs only) 2800 x 2800, at 3B, 7B
    python benchmarks/counts.py --side 512       one size

No weights and no GPU: launches (operators that would start a kernel) and host reads (places where the host waits for
a number from the device) depend on depth and on the images, so they are counted on a model of the true depth and
windows whose layers are a few numbers wide. FLOPs depend on the widths as well; they follow from the shapes by
`flops`, which a test compares with what torch counts on a small model.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adcopilot.model.pairing import comparison_tokens_of  # noqa: E402
from benchmarks import machine, shapes  # noqa: E402

RESULT = ROOT / "docs" / "results" / "counts.md"
SIDES = (512, 1024, 2800)
#: Larger images are not run, however narrow the model: on a CPU the language model's attention writes its scores down.
LARGEST_RUN = 1024
#: The last without comparison tokens for the first image, `comparison_of_first: false`.
MODELS = ("Qwen2.5-VL", "AD-Copilot", "AD-Copilot, first not compared")
#: Methods and functions that hand a number on the device to the host. On a CPU nothing shows it.
READS = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy", "equal", "cpu"}
#: Operators whose output's size is only known when the device has computed it.
SIZES_READ = {"nonzero", "unique_consecutive", "unique_dim", "_unique2", "repeat_interleave", "masked_select"}
#: Operators that start nothing: they look at memory in another way, or make an empty one.
VIEWS = {
    *("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "select"),
    *(
        "slice",
        "split",
        "split_with_sizes",
        "unbind",
        "detach",
        "alias",
        "as_strided",
        "unfold",
        "empty",
        "lift_fresh",
    ),
    *("empty_like", "empty_strided", "new_empty", "_local_scalar_dense", "_reshape_alias"),
}


class _Functions(TorchFunctionMode):
    def __init__(self, reads: Counter):
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name not in READS:
            return func(*args, **(kwargs or {}))
        self.reads[name] += 1
        with torch._C.DisableTorchFunction():  # what it calls by itself is the same read
            return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, launches: Counter, reads: Counter):
        super().__init__()
        self.launches, self.reads = launches, reads

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        if name in SIZES_READ:
            self.reads[name] += 1
        indices = args[1] if name.startswith("index") and isinstance(args[1], (list, tuple)) else ()
        if any(one is not None and one.dtype == torch.bool for one in indices):
            self.reads["index by a mask"] += 1
        if name not in VIEWS:
            self.launches[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted():
    """Two counters that fill while it is open: operators that would start a kernel, and host reads, each by name."""
    launches, reads = Counter(), Counter()
    with _Functions(reads), _Operators(launches, reads):
        yield launches, reads


def narrow(name: str, size: str):
    """A model with the depth and the windows of a size (`3B`, `7B`), its layers 64 numbers wide."""
    device = torch.device("cpu")
    return shapes.random_model(name, size, **shapes.NARROW, device=device, dtype=torch.float32)


def flops(config, inputs: dict[str, torch.Tensor]) -> dict[str, int]:
    """Multiplications and additions of a prefill that makes the logits of its last token, by part.

    As torch counts them: matrix products, the convolution and attention (causal attention whole), two for a
    multiplication with its addition. Norms, rotations and activations are left out.
    """
    text, vision = config.text_config, config.vision_config
    width, inner, merge = vision.hidden_size, vision.intermediate_size, vision.spatial_merge_size**2
    grids = inputs["image_grid_thw"].tolist()
    images = [height * width_ for _, height, width_ in grids]  # patches of each
    patches, patch = sum(images), inputs["pixel_values"].shape[1]
    windows = [n for grid in grids for n in _windows(*grid[1:], vision)]
    whole = len(vision.fullatt_block_indexes)
    layer = 2 * patches * (4 * width**2 + 3 * width * inner)
    attention = [4 * width * sum(length**2 for length in lengths) for lengths in (windows, images)]
    found = {
        "vision tower": 2 * patches * patch * width
        + vision.depth * layer
        + (vision.depth - whole) * attention[0]
        + whole * attention[1]
        + 2 * patches // merge * merge * width * (merge * width + vision.out_hidden_size),
        "comparison encoder": _encoder_flops(config, images) if hasattr(config, "num_comparison_tokens") else 0,
    }
    length, hidden = inputs["input_ids"].shape[1], text.hidden_size
    head = hidden // text.num_attention_heads
    keys = 2 * head * text.num_key_value_heads
    products = 2 * length * hidden * (2 * hidden + keys + 3 * text.intermediate_size)
    angles = 3 * length * head  # of mRoPE: time, height and width
    found["language model"] = text.num_hidden_layers * (products + 4 * length**2 * hidden) + angles
    found["logits"] = 2 * hidden * text.vocab_size
    return found


def _windows(height: int, width: int, vision) -> list[int]:
    """Patches of each window of an image of so many patches."""
    side = vision.window_size // vision.patch_size

    def cut(length: int) -> list[int]:
        return [min(side, length - start) for start in range(0, length, side)]

    return [rows * columns for rows in cut(height) for columns in cut(width)]


def _encoder_flops(config, images: list[int]) -> int:
    """Each image with the one before it, the first with itself if at all (plugin/model/comparison_encoder.py)."""
    width, inner = config.vision_config.hidden_size, config.vision_config.intermediate_size
    tokens = config.num_comparison_tokens

    def block(queries: int, keys: int) -> int:
        products = 2 * width * (2 * width + 3 * inner) * queries + 2 * width * 2 * width * keys
        return products + 4 * width * queries * keys

    total = 0
    for place, x in enumerate(images):
        if not comparison_tokens_of(config, place):
            continue
        p = images[max(place - 1, 0)]
        total += block(p, x) + block(x, p) + block(tokens, x)
        total += 2 * tokens * width * config.text_config.hidden_size
    return total


def config_of(name: str, size: str):
    """The configuration of a model of that size, of one of `MODELS`; no model is made."""
    from transformers import Qwen2_5_VLConfig

    from adcopilot.model import AdCopilotConfig

    fields = {"text_config": shapes.TEXT[size], "vision_config": shapes.VISION[size], **shapes.IDS}
    if name == "Qwen2.5-VL":
        return Qwen2_5_VLConfig(**fields)
    return AdCopilotConfig(comparison_of_first=name == "AD-Copilot", **fields)


def inputs_of(config, side: int) -> dict[str, torch.Tensor]:
    """A pair of squares of the nearest size that the image processor would make of `side` pixels."""
    unit = config.vision_config.patch_size * config.vision_config.spatial_merge_size
    return shapes.prompt(
        config, shapes.Shape(side=round(side / unit) * unit), device=torch.device("cpu"), dtype=torch.float32
    )


@torch.no_grad()
def asked(name: str, size: str, side: int) -> dict[str, int]:
    """Launches and host reads of a prefill of a pair, at the depth of a size; attention calls among the launches."""
    kind = name.split(",")[0]
    model = narrow(kind, size)
    if kind == "AD-Copilot":
        model.config.comparison_of_first = name == kind
    inputs = inputs_of(model.config, side)
    with counted() as (launches, reads):
        model(**inputs, logits_to_keep=1)
    attention = sum(number for name, number in launches.items() if "attention" in name)
    return {"launches": sum(launches.values()), "attention": attention, "reads": sum(reads.values())}


def measure(sizes: list[str], sides: list[int]) -> list[dict]:
    """One row for each size, side and model."""
    rows = []
    for size in sizes:
        for side in sides:
            for name in MODELS:
                config = config_of(name, size)
                inputs = inputs_of(config, side)
                row = {"size": size, "side": side, "model": name, "tokens": inputs["input_ids"].shape[1]}
                row["flops"] = flops(config, inputs)
                if side <= LARGEST_RUN:
                    row |= asked(name, size, side)
                rows.append(row)
                print(f"{name} {size} {side}: done", file=sys.stderr, flush=True)
    return rows


def page(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [
        "# What a prefill of one pair asks for, counted",
        "",
        "`python benchmarks/counts.py`, no weights, no GPU (its head says how). Launches: operators that would start",
        "a kernel. Host reads: places where the host waits for a number from the device.",
        "",
        "| size | images | model | tokens | TFLOPs | in the encoder | launches | attention calls | host reads |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        total = sum(row["flops"].values())
        share = row["flops"]["comparison encoder"] / total
        counts = [f"{row[key]:,}" if key in row else "–" for key in ("launches", "attention", "reads")]
        lines.append(
            f"| {row['size']} | 2 × {row['side']}² | {row['model']} | {row['tokens']:,} | {total / 1e12:.1f} "
            f"| {share:.1%} | {' | '.join(counts)} |"
        )
    versions = machine.as_lines(machine.versions())
    return "\n".join([*lines, "", f"{machine.now()}; {versions}.", ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, nargs="+", default=list(SIDES), help="pixels of an image's side")
    parser.add_argument("--size", nargs="+", choices=list(shapes.TEXT), default=list(shapes.TEXT))
    args = parser.parse_args(argv)
    rows = measure(args.size, args.side)
    machine.write_result(RESULT.with_suffix(""), {"rows": rows, "versions": machine.versions()}, page(rows))


if __name__ == "__main__":
    main()
