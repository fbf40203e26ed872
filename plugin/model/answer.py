"""One small question to a model: two pictures, a few greedy tokens, how sure each is, and whether it compared.

`check.py` writes the answer beside the weights and asks the same again elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..finite import bad_rows, not_finite_at

__all__ = ["QUESTIONS", "STEPS", "GreedyAnswer", "ask", "check_comparison", "fixture_pair", "write_prompt"]

#: Asked in this order until one is answered without a near tie; a trained model answers the first, "yes" or "no".
QUESTIONS = (
    "Compare the second image with the first, a good part. Is there a defect in it?",
    "What is in the second image that is not in the first?",
    "Describe the second image.",
)
#: Greedy tokens of an answer.
STEPS = 8


@dataclass(frozen=True, kw_only=True)
class GreedyAnswer:
    """What `ask` saw.

    Attributes:
        input_ids: of the prompt, pads written out.
        tokens: greedy token ids, one for each step.
        margins: for each step the best logit less the second best, where pads are banned; same length as `tokens`.
        text: the tokens, decoded.
        compared: (2, L, T) comparison tokens of the two images, float32, on the CPU.
    """

    input_ids: list[int]
    tokens: list[int]
    margins: list[float]
    text: str
    compared: torch.Tensor


def fixture_pair() -> tuple[Image.Image, Image.Image]:
    """A template and a query of 84 x 56 pixels by a formula, so the same everywhere: the query has a red patch.

    Both sides are multiples of 28, so Qwen2.5-VL's image processor leaves the pixels as they are; they differ, so that
    a picture read in the wrong order of its rows and columns shows.
    """
    y, x = np.mgrid[:56, :84]
    template = np.stack([(2 * x + 3 * y) % 256, (5 * x) % 256, (x * y) // 20 % 256], axis=-1).astype(np.uint8)
    query = template.copy()
    query[14:42, 42:70] = (220, 40, 40)
    return Image.fromarray(template), Image.fromarray(query)


def write_prompt(processor, question: str) -> str:
    """A user's turn of two images and a question by the folder's chat template, up to where the answer begins."""
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )


def ask(
    model,
    processor,
    *,
    images: Sequence[Image.Image],
    prompt: str,
    min_pixels: int,
    max_pixels: int,
    steps: int = STEPS,
) -> GreedyAnswer:
    """Let a model answer greedily by `generate`, and watch its Comparison Encoder.

    Whatever `generation_config.json` says of sampling, penalties and ends is put aside: the tokens are those of the
    best logits, and always `steps` of them.

    Args:
        model: AD-Copilot's, in evaluation mode, on its device.
        processor: of the same folder.
        images: template and query.
        prompt: text with one image pad for each image.
        min_pixels, max_pixels: of one image; the image processor's budget in this call.
        steps: tokens to generate.

    Raises:
        UserError: the prompt does not hold as many images; logits are not finite; or the encoder was not called
            exactly once, so the answer is not one of a comparison.
    """
    if prompt.count(processor.image_token) != len(images):
        raise UserError(
            f"the prompt has {prompt.count(processor.image_token)} times {processor.image_token}, expected "
            f"{len(images)}, one for each image; write another fixture"
        )
    inputs = processor(
        text=[prompt],
        images=list(images),
        images_kwargs={"min_pixels": min_pixels, "max_pixels": max_pixels},
        return_tensors="pt",
    ).to(model.device)
    config = model.config
    pads = sorted({config.image_token_id, config.video_token_id, config.comparison_token_id})
    calls: list[torch.Tensor] = []
    hook = model.model.comparison_encoder.register_forward_hook(lambda _module, _inputs, out: calls.append(out))
    try:
        out = model.generate(
            **inputs,
            max_new_tokens=steps,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            eos_token_id=None,
            pad_token_id=processor.tokenizer.pad_token_id,
            suppress_tokens=pads,
            use_cache=True,
            output_scores=True,
            return_dict_in_generate=True,
        )
    finally:
        hook.remove()
    if len(calls) != 1:
        raise UserError(
            f"the Comparison Encoder was called {len(calls)} times in one `generate` with {len(images)} images, "
            "expected once, so the answer is not one of a comparison"
        )
    margins = []
    for number, scores in enumerate(out.scores, 1):
        if bad_rows(scores, banned=None).any():
            raise UserError(not_finite_at(number))
        best = scores[0].float().topk(2).values
        margins.append(float(best[0] - best[1]))
    tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    return GreedyAnswer(
        input_ids=inputs["input_ids"][0].tolist(),
        tokens=tokens,
        margins=margins,
        text=processor.tokenizer.decode(tokens),
        compared=calls[0].detach().float().cpu(),
    )


def check_comparison(model, processor, answer: GreedyAnswer, *, images: Sequence[Image.Image], **question) -> None:
    """Ask once more with the query in the template's place: the query's own comparison tokens must change.

    The query and its features are the same in both, so a change can only come of what it is compared with.

    Args:
        answer: to the same question with the template.
        images: template and query, as in `ask`.
        question: what else `ask` was given, but for `steps`.

    Raises:
        UserError: they do not change.
    """
    again = ask(model, processor, images=[images[1], images[1]], steps=1, **question)
    if torch.equal(again.compared[1], answer.compared[1]):
        raise UserError(
            "the query's comparison tokens are the same with the template and with the query itself in the template's "
            "place, expected others, so nothing is compared"
        )
