"""Memory of the comparison encoder at the paper's largest image size.

    python benchmarks/encoder_memory.py                 one pair at 2800 x 2800, full width, float32 and bfloat16
    python benchmarks/encoder_memory.py --side 560      smaller, for a look

Each dtype is measured in a process of its own: weights and patch features are made first, then the encoder runs
without gradients, and what the process needed on top at its peak is the result. A dispatch mode records every tensor
that the run made, so that a score matrix of patches x patches would be found even where it fitted into memory.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "results" / "encoder-memory.md"
LIMIT_GIB = 4.0
PATCH = 14
# Qwen2.5-VL-7B: the vision tower's width, feed-forward width and heads, and the language model's width.
VISION = {"hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
LANGUAGE_WIDTH = 3584


class Allocations(TorchDispatchMode):
    """Records the largest tensor that is made while it is active, and the attention kernels that ran.

    Attributes:
        largest: elements of the largest tensor's storage.
        shape: its shape.
        attention: names of the attention operators called.
    """

    def __init__(self):
        super().__init__()
        self.largest, self.shape, self.attention = 0, (), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if "attention" in str(func):
            self.attention.add(str(func))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                elements = leaf.untyped_storage().nbytes() // leaf.element_size()
                if elements > self.largest:  # the storage: an expanded view costs nothing
                    self.largest, self.shape = elements, tuple(leaf.shape)
        return result


def build_encoder(*, dtype: torch.dtype, position_encoding: str):
    """A comparison encoder of the 7B model's width, Gaussian weights."""
    from adcopilot.model import AdCopilotConfig, ComparisonEncoder

    text = {"hidden_size": LANGUAGE_WIDTH, "num_attention_heads": 28, "num_key_value_heads": 4}
    config = AdCopilotConfig(vision_config=VISION, text_config=text, comparison_position_encoding=position_encoding)
    config.vision_config._attn_implementation = "sdpa"
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        encoder = ComparisonEncoder(config=config).eval()
    finally:
        torch.set_default_dtype(default)
    for name, weight in encoder.named_parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=1.0 if "queries" in name else 0.02)
    return encoder


def _status(field: str) -> int:
    """A size from /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def measure(*, side: int, dtype: str, position_encoding: str) -> dict:
    """Compare one pair of `side` x `side` images; to be called once in a process.

    Returns:
        Peak memory above what weights and features take (bytes), seconds, the largest tensor, the attention kernels.
    """
    torch.manual_seed(0)
    rows = side // PATCH
    patches = rows * rows
    encoder = build_encoder(dtype=getattr(torch, dtype), position_encoding=position_encoding)
    features = torch.randn(2 * patches, VISION["hidden_size"], dtype=getattr(torch, dtype))
    grid = torch.tensor([[1, rows, rows]] * 2)
    with torch.no_grad():  # kernels and thread pools are loaded before the measurement
        encoder(features[: 2 * 16], torch.tensor([[1, 4, 4]] * 2), [0, 0])

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    started = time.perf_counter()
    with torch.no_grad(), Allocations() as allocations:
        tokens = encoder(features, grid, [0, 0])
    seconds = time.perf_counter() - started
    peak = _status("VmHWM")
    if not torch.isfinite(tokens.float()).all():
        raise SystemExit(f"error: the comparison tokens in {dtype} are not finite")
    return {
        "side": side,
        "patches": 2 * patches,
        "dtype": dtype,
        "position_encoding": position_encoding,
        "before_bytes": before,
        "extra_bytes": peak - before,
        "seconds": seconds,
        "largest_elements": allocations.largest,
        "largest_shape": allocations.shape,
        "scores_elements": patches * patches,
        "attention": sorted(allocations.attention),
        "tokens_shape": tuple(tokens.shape),
        "threads": torch.get_num_threads(),
    }


def table(results: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        "| dtype | positions | patches | extra memory at the peak | largest tensor | share of patches² | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        shape = " × ".join(f"{n:,}" for n in r["largest_shape"])
        extra, share = r["extra_bytes"] / 2**30, r["largest_elements"] / r["scores_elements"]
        lines.append(
            f"| {r['dtype']} | {r['position_encoding']} | 2 × {r['patches'] // 2:,} | {extra:.2f} GiB | {shape} "
            f"| {share:.3f} | {r['seconds']:.0f} |"
        )
    return "\n".join(lines)


def report(results: list[dict], command: str) -> str:
    """The page in docs/results."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.machine import as_lines, hardware, now, versions

    side = results[0]["side"]
    kernels = ", ".join(f"`{name}`" for name in sorted({name for r in results for name in r["attention"]}))
    return f"""# Memory of the comparison encoder at {side} × {side}

One pair of images of {side} × {side} pixels through a comparison encoder of the 7B model's width (1280 wide,
feed-forward 3420, 16 heads, 100 tokens of 3584), on a CPU, without gradients, random weights and features. Both images
are encoded: the first against itself, the second against the first. Weights and features are there before the
measurement; "extra" is what the process took on top of them at its peak (`VmHWM` after a reset, less `VmRSS` before).
The limit that the project set itself is {LIMIT_GIB:.0f} GiB.

{table(results)}

"Share of patches²" is the largest tensor's size against one head's matrix of scores: below 1, no such matrix was ever
made. It is the hidden layer of the feed-forward network. The attention ran in
{kernels}, whose blocks of scores live in the kernel's own buffers;
these are part of the extra memory.

- command: `{command}`
- date: {now()}
- hardware: {as_lines(hardware())}; {results[0]["threads"]} threads; where
  `load_average` is not near 0 the machine was shared, which changes the seconds and not the memory
- versions: {as_lines(versions())}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=2800, help="of the images in pixels, a multiple of 28 (2800)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--position-encodings", nargs="+", default=["rope2d"], choices=("none", "rope2d"))
    parser.add_argument("--output", type=Path, help=f"page to write ({RESULT.relative_to(ROOT)} at full size)")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what the parent passes to each measuring process
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(**json.loads(args.one))))
        return 0
    if platform.system() != "Linux":
        parser.error(f"this is {platform.system()}: the memory is read from Linux's /proc, run it there")
    if args.side < 56 or args.side % 28:
        parser.error(f"--side is {args.side}, expected a multiple of 28 from 56 up")

    results = []
    for dtype in args.dtypes:
        for position_encoding in args.position_encodings:
            job = json.dumps({"side": args.side, "dtype": dtype, "position_encoding": position_encoding})
            child = subprocess.run(
                [sys.executable, __file__, "--one", job], stdout=subprocess.PIPE, text=True, check=True
            )
            results.append(json.loads(child.stdout))
            print(table(results[-1:]).splitlines()[-1], flush=True)

    threads = os.environ.get("OMP_NUM_THREADS")
    shown = " ".join(["python benchmarks/encoder_memory.py", *sys.argv[1:]])
    if threads:
        shown = f"OMP_NUM_THREADS={threads} {shown}"
    output = args.output or (RESULT if args.side == 2800 else None)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(report(results, shown), encoding="utf-8")
        print(output)
    worst = max(r["largest_elements"] / r["scores_elements"] for r in results)
    extra = max(r["extra_bytes"] for r in results) / 2**30
    if args.side == 2800 and (extra >= LIMIT_GIB or worst >= 1):
        print(
            f"error: {extra:.2f} GiB extra (limit {LIMIT_GIB}), largest tensor {worst:.2f} of patches²",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
