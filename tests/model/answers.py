"""What a folder answers, as numbers that can be compared between versions of transformers.

python answers.py FOLDER > answers.json       by the folder's own code: run where `adcopilot` cannot be imported
"""

import json
import sys


def answers(model, processor) -> dict[str, list]:
    """Ids, last logits, greedy and beam generations of a pair, three images, one and none, alone and together."""
    import numpy as np
    import torch
    from PIL import Image

    def image(seed: int, width: int, height: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))

    rows = [
        ([image(0, 84, 56), image(1, 84, 56)], "Is there a defect?"),
        ([image(2, 140, 84), image(3, 84, 84), image(4, 112, 168)], "What is different in the last?"),
        ([image(5, 56, 112)], "What is this?"),
        ([], "Hi."),
    ]
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    processor.tokenizer.padding_side = "left"

    def encode(some):
        texts = [
            f"<|im_start|>user\n{picture * len(images)}{text}<|im_end|>\n<|im_start|>assistant\n"
            for images, text in some
        ]
        images = [one for images, _ in some for one in images]
        return processor(text=texts, images=images or None, padding=True, return_tensors="pt")

    def generate(inputs, **options):
        settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, **options}
        return model.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :].tolist()

    found = {}
    with torch.no_grad():
        for index, row in enumerate(rows):
            inputs = encode([row])
            found[f"ids {index}"] = inputs["input_ids"].tolist()
            found[f"logits {index}"] = [round(value, 5) for value in model(**inputs).logits[0, -1].tolist()]
            found[f"greedy {index}"] = generate(inputs)
            found[f"beams {index}"] = generate(inputs, num_beams=3, num_return_sequences=2)
        inputs = encode(rows)
        found["greedy together"] = generate(inputs)
        found["beams together"] = generate(inputs, num_beams=2, num_return_sequences=2)
    return found


if __name__ == "__main__":
    sys.modules["adcopilot"] = sys.modules["llamafactory"] = None  # only the folder's own code
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    own = {"trust_remote_code": True}
    loaded = transformers.AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float32, **own).eval()
    processor = transformers.AutoProcessor.from_pretrained(sys.argv[1], **own)
    assert not [name for name in sys.modules if name.startswith("adcopilot.")]
    print(json.dumps({"module": type(loaded).__module__, **answers(loaded, processor)}))
