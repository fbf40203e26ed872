"""docs/python.md: its code runs as it stands, and plain transformers with qwen-vl-utils see what it says they see."""

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from adcopilot import Inspector
from adcopilot.prompts import INSPECT_QUESTION

from .conftest import part

pytestmark = pytest.mark.forward

PAGE = Path(__file__).resolve().parents[2] / "docs/python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
#: One level of 255 in the values that the processor makes, of the channel that it stretches most.
LEVEL = 1 / 255 / 0.26130258
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def inspector(speaking_dir):
    return Inspector(speaking_dir, map="off", device="cpu", max_new_tokens=NEW_TOKENS)


@pytest.fixture
def desk(speaking_dir, tmp_path, monkeypatch):
    """A folder with what the page names, the current one; sides of the pictures are multiples of 28."""
    shutil.copytree(speaking_dir, tmp_path / "saves/tiny/merged")
    part(1).save(tmp_path / "good.png")
    part(16, defect=True).save(tmp_path / "query.png")
    part(17).save(tmp_path / "other.png")
    (tmp_path / "good").mkdir()
    for seed in range(5):
        part(seed).save(tmp_path / "good" / f"{seed}.png")
    monkeypatch.chdir(tmp_path)
    opencv = SimpleNamespace(imread=lambda path: np.asarray(Image.open(path))[..., ::-1])
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    return tmp_path


def draw_pair(desk, *, size):
    """Other pictures, of this size, in the place of the pair."""
    for index, name in enumerate(("good.png", "query.png")):
        part(index, size=size).save(desk / name)


def run(*blocks: str) -> dict:
    """Run code of the page; what it named. Answers are kept short."""
    names: dict = {}
    for block in blocks:
        code = block.replace("max_new_tokens=512", f"max_new_tokens={NEW_TOKENS}")
        code = code.replace(
            'Inspector("saves/tiny/merged")', f'Inspector("saves/tiny/merged", max_new_tokens={NEW_TOKENS})'
        )
        exec(compile(code, str(PAGE), "exec"), names)
    return names


def blocks(*words: str) -> list[str]:
    """The page's blocks with these words, one each."""
    return [next(block for block in BLOCKS if word in block) for word in words]


def test_the_code_about_inspector_runs(desk):
    end = next(index for index, block in enumerate(BLOCKS) if "qwen_vl_utils" in block)
    names = run(*BLOCKS[:end])
    assert names["more"].error is None
    assert "compared with each other" in names["line"].threshold_from
    assert (desk / "drawn.png").is_file()


def test_plain_transformers_see_the_same_and_say_the_same(desk, inspector):
    names = run(*blocks("process_vision_info(messages)\ninputs", "map_text_boxes"))
    result = inspector.inspect("good.png", "query.png")
    ours = encoded(inspector, "good.png", "query.png")
    for name in ("input_ids", "pixel_values", "image_grid_thw"):
        assert torch.equal(ours[name], names["inputs"][name]), name
    assert names["answer"].strip() == result.answer != ""
    assert names["text"].strip() == result.text
    assert type(names["model"]).__module__ == "adcopilot.model.modeling"


def test_a_budget_of_pixels_is_the_same_for_both(desk, speaking_dir):
    """Pictures that fill it to the pixel stay as they are, for both."""
    draw_pair(desk, size=(168, 112))
    inspector = Inspector(speaking_dir, map="off", device="cpu", max_new_tokens=4, image_max_pixels=168 * 112)
    [code] = blocks("process_vision_info(messages)\ninputs")
    assert "processor.image_max_pixels or 768 * 768" in code
    names = run(code.replace("processor.image_max_pixels or 768 * 768", str(168 * 112)))
    ours = encoded(inspector, "good.png", "query.png")
    assert torch.equal(ours["pixel_values"], names["inputs"]["pixel_values"])
    assert names["answer"].startswith(inspector.inspect("good.png", "query.png").answer)


def encoded(inspector, template, query):
    """What `Inspector`'s model sees."""
    engine = inspector.engine
    prepared = engine._prepare(engine.pair_question(template, query))
    assert prepared.error is None
    return engine.encode([prepared])


def plain(inspector, *pictures, **budget):
    """What `process_vision_info` and the processor make of pictures."""
    from qwen_vl_utils import process_vision_info

    processor = inspector.engine.processor
    shown = [{"type": "image", "image": picture, **budget} for picture in pictures]
    messages = [{"role": "user", "content": [*shown, {"type": "text", "text": INSPECT_QUESTION}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    images, videos = process_vision_info(messages)
    return processor(text=[text], images=images, videos=videos, padding=True, return_tensors="pt")


def apart(ours, theirs) -> float:
    """The largest difference of two encodings' pixel values in levels of 255."""
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    return float((ours["pixel_values"] - theirs["pixel_values"]).abs().max()) / LEVEL


def test_other_sides_differ_by_a_resize(desk, inspector):
    draw_pair(desk, size=(320, 250))
    found = apart(encoded(inspector, "good.png", "query.png"), plain(inspector, "good.png", "query.png"))
    assert 0.5 < found < 2.5


def test_larger_than_the_budget(desk, inspector):
    draw_pair(desk, size=(1600, 1200))
    ours = encoded(inspector, "good.png", "query.png")
    theirs = plain(inspector, "good.png", "query.png", max_pixels=768 * 768)
    assert ours["image_grid_thw"][0].tolist() == [1, 672 // 14, 896 // 14]
    assert theirs["image_grid_thw"][0].tolist() == [1, 644 // 14, 868 // 14]
    # prepared as the page shows
    prepared = run(*blocks("process_vision_info(messages)\ninputs", "def as_trained"))
    ours_again = inspector.engine.processor(
        text=[prepared["text"]], images=prepared["images"], padding=True, return_tensors="pt"
    )
    assert 0 < apart(ours, ours_again) < 2.5


def test_small_pictures(desk, inspector):
    draw_pair(desk, size=(30, 90))
    ours = encoded(inspector, "good.png", "query.png")
    assert apart(ours, plain(inspector, "good.png", "query.png")) < 2.5
    assert apart(ours, plain(inspector, "good.png", "query.png", min_pixels=1024)) > 10
    draw_pair(desk, size=(30, 28))
    ours = encoded(inspector, "good.png", "query.png")
    assert apart(ours, plain(inspector, "good.png", "query.png")) > 2.5


def test_files_that_qwen_vl_utils_reads_otherwise(desk, inspector):
    picture = part(16, defect=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save("turned.jpg", exif=exif, quality=95)
    part(1, size=(56, 84)).save("upright.png")
    ours, theirs = encoded(inspector, "upright.png", "turned.jpg"), plain(inspector, "upright.png", "turned.jpg")
    assert ours["image_grid_thw"][1].tolist() == theirs["image_grid_thw"][1][[0, 2, 1]].tolist()
    alpha = Image.linear_gradient("L").resize(picture.size)
    for mode in ("RGB", "L"):
        image = picture.convert(mode)
        image.putalpha(alpha)
        image.save(f"{mode}.png")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8).save("wide.png")
    same = {
        name: apart(encoded(inspector, "good.png", name), plain(inspector, "good.png", name)) == 0
        for name in ("RGB.png", "L.png", "wide.png")
    }
    assert same == {"RGB.png": True, "L.png": False, "wide.png": False}
    seen = plain(inspector, "good.png", "wide.png")["pixel_values"][-24:]
    assert float(seen.median()) > 1.9  # white is 1.93 to 2.15
