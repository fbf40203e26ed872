"""Boxes of samples, original pixels in the file, are the model's pixels once tokenised."""

import json

import pytest
from PIL import Image

from adcopilot.boxes import model_image_size, scale_box
from adcopilot.errors import UserError
from adcopilot.llamafactory.sample_check import encoder_of

from ..conftest import encode, random_image, sample, turns_of

pytestmark = pytest.mark.forward


def answer(*boxes) -> str:
    return json.dumps([{"bbox_2d": list(box), "label": "scratch"} for box in boxes])


def decoded(lf, one, **settings) -> str:
    encoded = encode(lf.encoder(**settings), one)
    return lf.tokenizer.decode([token for token in encoded["labels"][0] if token != -100])


@pytest.fixture(scope="module")
def large_images(tmp_path_factory):
    """Two sizes, both changed by the processor's rounding to multiples of 28, one by LlamaFactory's limit too."""
    folder = tmp_path_factory.mktemp("large")
    paths = []
    for index, size in enumerate([(300, 200), (1300, 900)]):
        path = folder / f"{index}.png"
        random_image(index, *size).save(path)
        paths.append(str(path))
    return paths


def for_model(lf, path: str) -> tuple[int, int]:
    """The size that the model sees, from what LlamaFactory's plugin really produces."""
    _, height, width = seen(lf, path)["image_grid_thw"][0].tolist()
    return width * 14, height * 14


def seen(lf, path: str) -> dict:
    """What LlamaFactory's plugin makes of a picture for the model."""
    return lf.encoder().template.mm_plugin.get_mm_inputs([path], [], [], [1], [0], [0], [[]], lf.processor)


def test_box_refers_to_the_last_image(lf, large_images):
    small, large = large_images
    assert for_model(lf, small) == (308, 196)
    size = for_model(lf, large)
    assert size == model_image_size(1300, 900, image_max_pixels=589824, image_min_pixels=1024) != (1300, 900)
    box = (130, 90, 260, 180)
    for images, own, seen in (((small, large), (1300, 900), size), ((large, small), (300, 200), (308, 196))):
        found = decoded(lf, sample("<image><image>Where?", answer(box), images=images))
        expected = scale_box(box, own, seen)
        assert found == answer(expected) + "<|im_end|>\n"


def test_boxes_of_several_turns(lf, large_images):
    """Each turn's boxes by its own image; those of a question too."""
    small, large = large_images
    size = for_model(lf, large)
    box = (30, 20, 150, 100)
    question = f"What is in {answer(box)}?"
    one = sample(f"<image>{question}", answer(box), f"And <image> {question}", answer(box), images=[small, large])
    text = lf.tokenizer.decode(encode(lf.encoder(), one)["input_ids"][0])
    first, second = answer(scale_box(box, (300, 200), (308, 196))), answer(scale_box(box, (1300, 900), size))
    assert first != second
    assert text.count(first) == 2
    assert text.count(second) == 2
    assert text.index(first) < text.index(second)


def test_a_sample_that_ends_with_a_call(lf, large_images):
    """A call of a tool is the model's answer too: its boxes, and those before it, are mapped."""
    large = large_images[1]
    box = (130, 90, 260, 180)
    call = json.dumps({"name": "zoom", "arguments": {"bbox_2d": list(box)}})
    one = sample(f"<image>Look at {answer(box)}.", call, images=[large])
    one["_response"][0]["role"] = "function"
    text = lf.tokenizer.decode(encode(lf.encoder(), one)["input_ids"][0])
    seen = scale_box(box, (1300, 900), for_model(lf, large))
    assert answer(seen) in text
    assert text.count(json.dumps(list(seen))) == 2
    assert json.dumps(list(box)) not in text


def test_image_max_pixels_moves_the_boxes(lf, large_images, monkeypatch):
    monkeypatch.setattr(lf.processor, "image_max_pixels", 200 * 200)
    large = large_images[1]
    size = for_model(lf, large)
    assert size == model_image_size(1300, 900, image_max_pixels=40000, image_min_pixels=1024)
    box = (130, 90, 650, 450)
    found = decoded(lf, sample("<image>Where?", answer(box), images=[large]))
    assert found == answer(scale_box(box, (1300, 900), size)) + "<|im_end|>\n"


def test_rotated_file_is_upright(lf, tmp_path):
    """A phone's picture is stored lying and marked so; its boxes are those of the picture as people see it."""
    upright = random_image(3, 112, 280)
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    turned, plain = tmp_path / "turned.png", tmp_path / "plain.png"
    stored.save(turned, exif=exif)
    upright.save(plain)

    box = (10, 150, 100, 270)
    assert for_model(lf, str(turned)) == (112, 280)
    encoded = [encode(lf.encoder(), sample("<image>Where?", answer(box), images=[str(p)])) for p in (turned, plain)]
    assert encoded[0]["input_ids"] == encoded[1]["input_ids"]
    assert seen(lf, str(turned))["pixel_values"].equal(seen(lf, str(plain))["pixel_values"])


def feedback(text: str, *, images, good=True) -> dict:
    one = sample("<image>Where?", text, images=images)
    return {
        **one,
        "_response": [{"role": "assistant", "content": each} for each in ((text, "") if good else ("", text))],
    }


def test_boxes_of_kto_are_those_of_their_own_image(lf, large_images):
    """LlamaFactory measures a KL divergence on each answer behind the next sample's prompt, with that one's images."""
    small, large = large_images
    encoder = encoder_of("kto", lf.encoder().template, lf.encoder().data_args, lf.tokenizer, lf.processor)
    box = (30, 20, 150, 100)
    shares = sample("What are shares?", answer((0, 0, 1, 1)))
    rows = [
        feedback(answer(box), images=[small]),
        feedback(answer(box), images=[large], good=False),
        {**shares, "_response": [*shares["_response"], {"role": "assistant", "content": ""}]},
        sample("<image>No feedback", answer(box), images=[small]),
        {**sample("", ""), "_prompt": [], "_response": []},  # what LlamaFactory's converters leave of a broken record
    ]
    encoded = encode(encoder, *rows)
    own = [answer(scale_box(box, (300, 200), (308, 196))), answer(scale_box(box, (1300, 900), for_model(lf, large)))]
    own.append(answer((0, 0, 1, 1)))  # about no image

    def texts(key):
        return [lf.tokenizer.decode([t for t in one if t != -100]).partition("<|im_end|>")[0] for one in encoded[key]]

    assert texts("labels") == own
    assert texts("kl_labels") == [own[2], own[0], own[1]]
    assert encoded["kto_tags"] == [True, False, True]
    with pytest.raises(UserError, match=f"^sample with images {large}: a box stands before any <image>"):
        encode(encoder, rows[0], {**rows[1], "_prompt": [{"role": "user", "content": f"{answer(box)}<image>"}]})


def test_a_chat_is_left_alone(lf, large_images):
    """What the model has answered is in its own pixels already."""
    text = answer((130, 90, 650, 450))
    messages = turns_of(["<image>Where?", text, f"Are you sure about {text}?"])
    found = lf.encoder().template.mm_plugin.process_messages(messages, [large_images[1]], [], [], lf.processor)
    assert found[1]["content"] == text
    assert found[2]["content"] == f"Are you sure about {text}?"


def test_box_before_any_image(lf, large_images):
    one = sample(f"Look at {answer((1, 2, 3, 4))} <image>", "Yes.", images=large_images[:1])
    with pytest.raises(UserError, match="a box stands before any <image>"):
        encode(lf.encoder(), one)


def test_other_templates_leave_boxes_alone(lf, large_images):
    text = answer((130, 90, 650, 450))
    one = sample("<image>Where?", text, images=large_images[1:])
    assert decoded(lf, one, template="qwen2_vl") == text + "<|im_end|>\n"
