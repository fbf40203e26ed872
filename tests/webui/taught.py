"""A tiny AD-Copilot checkpoint that knows a few conversations by heart, so that a page's answers can be foretold.

It is the bundled base, trained here on these conversations alone until it repeats them: which answer comes depends on
which images arrive, in which order, in which turn.
"""

from pathlib import Path

from PIL import Image, ImageDraw

from adcopilot.prompts import INSPECT_QUESTION as ASK

SIZE = (150, 110)  # the model sees 140 x 112: another scale along each side
#: In the model's pixels, as the model writes it, and in the image's: 42·150/140, 28·110/112, …
SCRATCH = [42, 28, 84, 56]
SCRATCH_IN_IMAGE = [45, 28, 90, 55]
STAIN = [98, 56, 126, 98]
STAIN_IN_IMAGE = [105, 55, 135, 96]

FOUND = f'Yes. [{{"bbox_2d": {SCRATCH}, "label": "scratch"}}]'
FOUND_BOTH = f'Yes. [{{"bbox_2d": {SCRATCH}, "label": "scratch"}}, {{"bbox_2d": {STAIN}, "label": "stain"}}]'
NOTHING = "No defect."
ASK_MORE, MORE = "What is it?", "There is a scratch."


OTHER = (90, 170, 120)


def good_part(colour=(90, 140, 190)) -> Image.Image:
    image = Image.new("RGB", SIZE, (225, 225, 225))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 10, 95, 95), fill=colour)
    draw.rectangle((110, 60, 130, 90), fill=(60, 60, 70))
    return image


def bad_part() -> Image.Image:
    image = good_part()
    ImageDraw.Draw(image).line((50, 32, 86, 52), fill=(20, 20, 20), width=5)
    return image


def write_parts(folder: Path) -> dict[str, Path]:
    """The images as files: `good`, `other` (a good part of another colour), `bad`."""
    parts = {"good": good_part(), "other": good_part(OTHER), "bad": bad_part()}
    paths = {name: folder / f"{name}.png" for name in parts}
    for name, image in parts.items():
        image.save(paths[name])
    return paths


def teach(folder: Path) -> None:
    """Write the checkpoint into a folder of its own. Takes ten seconds."""
    import torch
    from transformers import AutoProcessor

    from adcopilot.cli import main
    from adcopilot.model import AdCopilotForConditionalGeneration

    base = folder / "base"
    assert main(["init", "--preset", "tiny", "--output", str(base)]) == 0
    processor = AutoProcessor.from_pretrained(base)
    model = AdCopilotForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    good, other, bad = good_part(), good_part(OTHER), bad_part()
    lessons = [
        _lesson(processor, [good, bad], [(2, ASK, FOUND), (0, ASK_MORE, MORE)]),
        _lesson(processor, [good, good], [(2, ASK, NOTHING)]),
        _lesson(processor, [good, bad, good, good], [(2, ASK, FOUND), (2, ASK, NOTHING)]),
        _lesson(processor, [other, good, bad], [(3, ASK, FOUND_BOTH)]),
    ]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(150):
        losses = []
        for lesson in lessons:
            loss = model(**lesson).loss
            (loss / len(lessons)).backward()
            losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if max(losses) < 0.01:
            break
    assert max(losses) < 0.01, f"not learned by heart: {losses}"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _lesson(processor, images: list[Image.Image], turns: list[tuple[int, str, str]]) -> dict:
    """Model inputs whose labels are the answers; `turns` are (number of new images, question, answer)."""
    messages, answers, seen = [], [], 0
    for count, question, answer in turns:
        seen += count
        messages.append(
            {"role": "user", "content": [{"type": "image"}] * count + [{"type": "text", "text": question}]}
        )
        prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answers.append((processor(text=[prompt], images=images[:seen])["input_ids"][0], prompt, answer + "<|im_end|>"))
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    _, prompt, answer = answers[-1]
    inputs = processor(text=[prompt + answer], images=images, return_tensors="pt")
    labels = inputs["input_ids"].clone().fill_(-100)
    for before, _, answer in answers:
        place = slice(len(before), len(before) + len(processor.tokenizer(answer)["input_ids"]))
        labels[0, place] = inputs["input_ids"][0, place]
    return {**inputs, "labels": labels}
