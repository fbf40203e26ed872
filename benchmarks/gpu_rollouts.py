"""The two ways to sample that `gpu` compares: `generate`, one prompt after another, and vLLM, all at once."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks import shapes

#: Seconds that vLLM may need to start, and the share of the GPU's memory that it is given.
VLLM_STARTS, VLLM_SHARE = 120.0, 0.45
#: GRPO's load: so many prompts of two images, samples of each, tokens of a sample, pixels of an image's side.
LOAD = {"prompts": 8, "samples": 8, "new": 128, "side": 512}
SMALL_LOAD = {"prompts": 2, "samples": 2, "new": 8, "side": 56}


class Rollouts:
    """A model with random weights by transformers, and one of the same shapes in vLLM's engine.

    Args:
        work: an empty folder for configuration and tokenizer.
        device: of the former; the engine takes the GPU where there is one.
        load: as `LOAD`.
    """

    def __init__(self, work: Path, device: torch.device, *, load: dict) -> None:
        from PIL import Image
        from vllm import LLM

        from benchmarks import evaluation

        loaded = evaluation.load(work, name="7b" if device.type == "cuda" else "tiny", device=device.type)
        self.model, self.processor, self.load = loaded.model, loaded.processor, load
        # as vLLM samples: from all tokens
        self.model.generation_config.update(do_sample=True, top_k=0, top_p=1.0, repetition_penalty=1.0)
        folder = work / "served"
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        generator = torch.Generator().manual_seed(0)
        shape = (load["prompts"], 2, load["side"], load["side"], 3)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).numpy()
        self.pairs = [[Image.fromarray(image) for image in pair] for pair in pixels]
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Is there a defect?"}]
        turns = [{"role": "user", "content": content}]
        self.text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        self.engine = LLM(
            str(folder),
            load_format="dummy",  # there are no weights in the folder
            dtype="bfloat16" if device.type == "cuda" else "float32",
            gpu_memory_utilization=VLLM_SHARE if device.type == "cuda" else 0.1,
            max_model_len=4096 if device.type == "cuda" else 512,
            max_num_seqs=load["prompts"] * load["samples"],
            limit_mm_per_prompt={"image": 2},
            enable_prefix_caching=False,  # each round sees the same pairs
            mm_processor_cache_gb=0,
            enforce_eager=device.type != "cuda",
            seed=0,
        )

    def by_transformers(self) -> dict[str, float]:
        """One round; tokens a second."""
        started, new = shapes.clock(self.model.device), self.load["new"]
        for pair in self.pairs:
            inputs = self.processor(text=[self.text], images=pair, return_tensors="pt").to(self.model.device)
            self.model.generate(
                **inputs, num_return_sequences=self.load["samples"], min_new_tokens=new, max_new_tokens=new
            )
        return self._rate(shapes.clock(self.model.device) - started)

    def by_vllm(self) -> dict[str, float]:
        """One round; tokens a second."""
        from vllm import SamplingParams

        new = self.load["new"]
        sampling = SamplingParams(n=self.load["samples"], temperature=1.0, max_tokens=new, ignore_eos=True)
        requests = [{"prompt": self.text, "multi_modal_data": {"image": pair}} for pair in self.pairs]
        started = time.perf_counter()
        answers = self.engine.generate(requests, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        made = sum(len(one.token_ids) for answer in answers for one in answer.outputs)
        if made != len(self.pairs) * self.load["samples"] * new:
            raise RuntimeError(f"vLLM made {made} tokens, {len(self.pairs)} x {self.load['samples']} x {new} expected")
        return self._rate(seconds)

    def _rate(self, seconds: float) -> dict[str, float]:
        return {"tokens_per_second": len(self.pairs) * self.load["samples"] * self.load["new"] / seconds}

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *_) -> None:
        self.engine.llm_engine.engine_core.shutdown()
