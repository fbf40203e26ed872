"""Questions a second of the evaluation's backend against question-by-question `generate`. Part of `make bench`.

    python benchmarks/evaluation.py                  AD-Copilot at 7B shapes where there is a GPU, tiny elsewhere
    python benchmarks/evaluation.py --shapes small   on a CPU, with a model where arithmetic counts more than overhead

Five questions about each pair of images, as in MMAD, four pairs a template, at 512 pixels a side and at 1 megapixel.
Question by question: images opened, prompt processed and `generate` called for each question, as evaluation scripts do
it. The backend: a template and what comes before it once for its pairs, a query once for its questions. Same model,
same process, in turns; in float32 the answers must be equal. Results go to `docs/results/`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks import machine, shapes  # noqa: E402

RESULTS = ROOT / "docs" / "results"

#: Name → side of the square images in pixels.
SIZES = {"512": 512, "1 megapixel": 1000}
#: The image budget of MMAD's own evaluation.
MAX_PIXELS = 1280 * 28 * 28

#: Words that the tiny tokenizer knows whole, so that a question is not much longer than with Qwen's tokenizer.
PREFIX = ("Compare the two images. Report the defect in JSON. " * 4, 0, "The second image:", 1, "Answer. ")
QUESTIONS = (
    "Is there a defect in the second image?\nA. Yes\nB. No",
    "What is the defect in the second image?\nA. scratch\nB. hole\nC. A part is missing.\nD. There is an extra part.",
    "Where is the defect in the second image?\nA. Top left\nB. Top right\nC. Bottom left\nD. Bottom right",
    "What is it in the image?\nA. washer\nB. screw\nC. connector\nD. keypad",
    "What colour is the part in the first image?\nA. red\nB. green\nC. blue\nD. orange",
)

#: Neither tiny nor at 7B: arithmetic, not the calls of small kernels, takes the time.
SMALL_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
}
SMALL_VISION = {
    "depth": 8,
    "hidden_size": 320,
    "intermediate_size": 864,
    "num_heads": 4,
    "out_hidden_size": 512,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [3, 7],
}


def load(work: Path, *, name: str, device: str):
    """An AD-Copilot of these shapes with random weights (tiny: the preset's), and the tiny model's processor."""
    from adcopilot.answering.families import FAMILIES
    from adcopilot.evaluation.backends.loading import LoadedModel
    from adcopilot.inspect.loading import load_model
    from adcopilot.model import AdCopilotConfig, AdCopilotForConditionalGeneration
    from adcopilot.model.conversion import convert_base
    from adcopilot.model.init_command import PRESETS
    from adcopilot.sample.tiny_base import build_untrained

    folder = work / "adcopilot"
    build_untrained(work / "base", texts=100)
    convert_base(base=work / "base", output=folder, **PRESETS["tiny"].options)
    model, processor = load_model(folder, device="cpu", dtype="float32", attention="sdpa")
    if name != "tiny":
        text, vision = {
            "small": (SMALL_TEXT, SMALL_VISION),
            "7b": (shapes.TEXT["7B"], shapes.VISION["7B"]),
        }[name]
        fields = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        fields = (*fields, "comparison_token_id")
        config = AdCopilotConfig(
            text_config={"vocab_size": model.config.text_config.vocab_size, **text},
            vision_config=vision,
            **{field: getattr(model.config, field) for field in fields},
        )
        processor.num_comparison_tokens = config.num_comparison_tokens
        processor.comparison_of_first = config.comparison_of_first
        ends = model.generation_config.eos_token_id
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
        try:
            torch.manual_seed(0)
            with torch.device(device):
                model = AdCopilotForConditionalGeneration(config).eval()
        finally:
            torch.set_default_dtype(dtype)
        model.generation_config.eos_token_id = ends
    return LoadedModel(
        name=f"AD-Copilot, {name}",
        model=model.to(device),
        processor=processor,
        family=FAMILIES["adcopilot"],
        digest="",
        reusable=True,
    )


def make_items(folder: Path, *, side: int, pairs: int, queries: int) -> list:
    """`pairs` groups of five questions about noisy images of `side` x `side` pixels, `queries` of them a template."""
    import numpy as np
    from PIL import Image

    from adcopilot.answering.items import Item

    items = []
    for pair in range(pairs):
        files = []
        for index, name in enumerate((f"{side}-{pair // queries}-template.png", f"{side}-{pair}-query.png")):
            files.append(folder / name)
            number = pair if index else pair // queries
            noise = np.random.default_rng((side, number, index)).integers(0, 256, (side, side, 3), dtype=np.uint8)
            if not files[-1].exists():
                Image.fromarray(noise).save(files[-1], compress_level=1)
        items += [
            Item(
                key=f"{side}/{pair}/{number}",
                group=f"{side}/{pair}",
                images=tuple(files),
                prefix=PREFIX,
                question=question,
                options=dict.fromkeys("AB"),
            )
            for number, question in enumerate(QUESTIONS)
        ]
    return items


def question_by_question(backend, items: list, *, new_tokens: int) -> list[str]:
    """The plain loop that the backend is measured against; its answers in the items' order."""
    from adcopilot.evaluation.backends.prompting import prompt_text
    from adcopilot.images import open_image

    answers = []
    for item in items:
        images = [backend.sizing.apply(open_image(path)) for path in item.images]
        inputs = backend.processor(text=[prompt_text(item, backend.processor)], images=images, return_tensors="pt")
        inputs = inputs.to(backend.model.device)
        output = backend.model.generate(**inputs, max_new_tokens=new_tokens)
        new = output[0, inputs["input_ids"].shape[1] :]
        answers.append(backend.processor.tokenizer.decode(new, skip_special_tokens=True).strip())
    return answers


def with_reuse(backend, items: list, *, new_tokens: int) -> list[str]:
    """The backend's answers in the items' order."""
    found = {item.key: reply for item, reply in backend.answer(items, max_new_tokens=new_tokens)}
    failed = [reply.error for reply in found.values() if reply.error]
    if failed:
        raise SystemExit(f"error: {failed[0]}")
    return [found[item.key].text for item in items]


def compare(backend, items: list, *, new_tokens: int, repeats: int) -> dict:
    """Both ways in turns on the same items, after one question each that is not counted.

    Returns:
        Questions a second (medians), the median of the rounds' ratios, the same of processor time, which other
        processes disturb less, and how many answers were equal.
    """
    ways = {"question_by_question": question_by_question, "backend": with_reuse}
    clocks = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    answers = {}
    for way in ways.values():
        way(backend, items[:1], new_tokens=new_tokens)
    for _ in range(repeats):
        for name, way in ways.items():
            start = {clock: read() for clock, read in clocks.items()}
            answers[name] = way(backend, items, new_tokens=new_tokens)
            rounds[name].append({clock: read() - start[clock] for clock, read in clocks.items()})
    ratios = {
        clock: [plain[clock] / ours[clock] for plain, ours in zip(*rounds.values(), strict=True)] for clock in clocks
    }
    rates = {name: len(items) / median(one["seconds"] for one in found) for name, found in rounds.items()}
    return {
        "questions": len(items),
        "new_tokens": new_tokens,
        **{f"{name}_per_second": rate for name, rate in rates.items()},
        "ratio": median(ratios["seconds"]),
        "cpu_ratio": median(ratios["cpu_seconds"]),
        "rounds": rounds,
        "equal_answers": sum(a == b for a, b in zip(*answers.values(), strict=True)),
    }


def prompt_tokens(backend, items: list) -> dict[str, int]:
    """Length of the first group's prefix, and mean length of what follows it."""
    group = backend._prepare(items[: len(QUESTIONS)])
    rest = [len(prompt.ids) - group.shared for prompt in group.prompts]
    return {"prefix_tokens": group.shared, "question_tokens": round(sum(rest) / len(rest))}


HEADS = (
    "images",
    "prefix, tokens",
    "a question, tokens",
    "answer, tokens",
    "question by question, 1/s",
    "backend, 1/s",
    "ratio (each round)",
    "ratio of processor time",
    "equal answers",
)


def table_row(row: dict) -> str:
    """One measurement as a line of the table."""
    plain, ours = row["rounds"]["question_by_question"], row["rounds"]["backend"]
    ratios = ", ".join(f"{a['seconds'] / b['seconds']:.1f}" for a, b in zip(plain, ours, strict=True))
    cells = (
        f"2 × {row['images']}",
        row["prefix_tokens"],
        row["question_tokens"],
        row["new_tokens"],
        f"{row['question_by_question_per_second']:.3g}",
        f"{row['backend_per_second']:.3g}",
        f"**{row['ratio']:.2f}** ({ratios})",
        f"{row['cpu_ratio']:.2f}",
        f"{row['equal_answers']} of {row['questions']}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def page(result: dict) -> str:
    """The result as Markdown."""
    how = (
        f"{result['model']} ({result['parameters']:,} parameters, {result['dtype']}, random weights), five questions "
        f"about each pair of images, {result['queries']} pairs with each template. Question by question: images "
        "opened, prompt processed and `generate` called for each. The backend: the template and the prompt up to it "
        "once for all its pairs, the query and the prefix once for each pair, batches of up to "
        f"{result['batch_size']} questions. "
        f"Both greedy, in turns in one process, {result['repeats']} rounds; medians. An answer has as many tokens as "
        "the table says, unless the model ends it before."
    )
    load = (
        f"{result['threads']} threads; `load_average` is that of the minute before the start: where it is not near 0 "
        "the machine was shared; trust the ratios, and that of processor time most"
    )
    lines = [
        "# Evaluation: questions a second",
        "",
        how,
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---" * len(HEADS) + "|",
    ]
    lines += [table_row(row) for row in result["rows"]]
    lines += [
        "",
        *machine.told(result, hardware=f"; {load}"),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--shapes", choices=("auto", "tiny", "small", "7b"), default="auto")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of images of each size (8)")
    parser.add_argument("--queries", type=int, default=4, help="pairs that have the same template (4)")
    parser.add_argument("--batch-size", type=int, default=10, help="questions answered together (10)")
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[4, 32], help="lengths of an answer (4 32)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument("--output-dir", type=Path, default=RESULTS, help="where the results go (docs/results)")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but torch sees no GPU: use --device cpu")
    if min(args.pairs, args.queries, args.batch_size, args.repeats, *args.new_tokens) < 1:
        parser.error("--pairs, --queries, --batch-size, --repeats and --new-tokens: expected 1 or more")
    device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    name = args.shapes if args.shapes != "auto" else {"cuda": "7b", "cpu": "tiny"}[device]

    from adcopilot.evaluation.backends.transformers_backend import TransformersBackend

    with tempfile.TemporaryDirectory() as work:
        loaded = load(Path(work), name=name, device=device)
        backend = TransformersBackend(model=loaded, batch_size=args.batch_size, image_max_pixels=MAX_PIXELS)
        result = {
            **machine.measured("evaluation"),
            "threads": torch.get_num_threads(),
            "model": loaded.name,
            "dtype": backend.dtype,
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "batch_size": args.batch_size,
            "repeats": args.repeats,
            "queries": args.queries,
            "rows": [],
        }
        for label, side in SIZES.items():
            items = make_items(Path(work), side=side, pairs=args.pairs, queries=args.queries)
            tokens = prompt_tokens(backend, items)
            for new_tokens in args.new_tokens:
                measured = compare(backend, items, new_tokens=new_tokens, repeats=args.repeats)
                result["rows"].append({"images": label, "side": side, **tokens, **measured})
                print(table_row(result["rows"][-1]), flush=True)
    stem = args.output_dir / f"bench-evaluation-{device}{'-small' if name == 'small' else ''}"
    machine.write_result(stem, result, page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
