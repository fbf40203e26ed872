"""The model-space size against what LlamaFactory and transformers really do, and the reading and writing of boxes."""

import json
import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.boxes import (
    boxes_that_count,
    image_tokens,
    map_text_boxes,
    model_image_size,
    parse_bare_boxes,
    parse_boxes,
    scale_box,
    text_boxes,
)
from adcopilot.errors import UserError

pytestmark = pytest.mark.forward

DEFAULTS = {"image_max_pixels": 768 * 768, "image_min_pixels": 32 * 32}


class Sheet:
    """As much of a PIL image as LlamaFactory's `_preprocess_image` touches: lets its own code run on any size at once.

    Like PIL, it refuses to be resized to nothing.
    """

    mode = "RGB"

    def __init__(self, width, height):
        self.width, self.height = width, height

    def resize(self, size):
        if min(size) <= 0:
            raise ValueError("height and width must be > 0")
        return Sheet(*size)


@pytest.fixture(scope="module")
def reference():
    """(width, height, settings) → size, computed by LlamaFactory's own plugin and transformers' own function."""
    mm_plugin = pytest.importorskip("llamafactory.data.mm_plugin")
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    stock = mm_plugin.get_mm_plugin("qwen2_vl", image_token="<|image_pad|>", video_token="<|video_pad|>")

    def compute(width, height, *, image_max_pixels, image_min_pixels, low=56 * 56, high=28 * 28 * 1280):
        image = Sheet(width, height)
        image = stock._preprocess_image(image, image_max_pixels=image_max_pixels, image_min_pixels=image_min_pixels)
        rows, columns = smart_resize(image.height, image.width, factor=28, min_pixels=low, max_pixels=high)
        return columns, rows

    return compute


def check(reference, width, height, *, image_max_pixels, image_min_pixels, low=56 * 56, high=28 * 28 * 1280):
    bounds = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}
    try:
        expected = reference(width, height, low=low, high=high, **bounds)
    except ValueError:
        with pytest.raises(UserError):
            model_image_size(width, height, processor_min_pixels=low, processor_max_pixels=high, **bounds)
        return None
    size = model_image_size(width, height, processor_min_pixels=low, processor_max_pixels=high, **bounds)
    assert size == expected
    return size


def test_facts_measured_on_llamafactory(reference):
    """Numbers from the field notes: what users of LlamaFactory get at its defaults, and of transformers at its own."""
    assert check(reference, 1024, 1024, **DEFAULTS) == (756, 756)
    assert check(reference, 1920, 1080, **DEFAULTS) == (1036, 588)
    assert model_image_size(1024, 1024, processor_max_pixels=28 * 28 * 16384) == (1036, 1036)
    assert model_image_size(1024, 1024) == (980, 980)
    assert image_tokens((756, 588)) == 27 * 21


def test_ten_thousand_sizes(reference):
    dice = random.Random(7)
    seen_error = seen_extreme = 0
    for _ in range(10_000):
        width, height = (int(math.exp(dice.uniform(0, math.log(2_000_000)))) for _ in range(2))
        budget = dice.choice([DEFAULTS, {"image_max_pixels": 2800 * 2800, "image_min_pixels": 28 * 28}])
        low, high = dice.choice([(56 * 56, 28 * 28 * 1280), (4 * 784, 16384 * 784), (784, 16 * 784)])
        seen_error += check(reference, width, height, low=low, high=high, **budget) is None
        seen_extreme += max(width, height) / min(width, height) > 200
    assert seen_extreme > 1000  # LlamaFactory's branch for those ran often
    assert seen_error > 0  # an image that is shrunk to nothing


@settings(max_examples=500, deadline=None)
@given(
    st.integers(1, 100_000),
    st.integers(1, 100_000),
    st.integers(1, 10_000_000),
    st.integers(1, 4_000_000),
    st.integers(784, 100_000),
    st.integers(784, 20_000_000),
)
@example(3_000_000, 1, 589_824, 1024, 3136, 1_003_520)
@example(5, 1, 589_824, 1024, 3136, 1_003_520)
@example(5628, 28, 589_824, 1024, 3136, 1_003_520)
@example(28, 5601, 589_824, 1024, 3136, 1_003_520)
def test_any_size_and_any_budget(reference, width, height, most, least, low, high):
    check(reference, width, height, image_max_pixels=most, image_min_pixels=least, low=low, high=max(low, high))


@pytest.mark.parametrize("fast", [True, False])
def test_the_image_processor_itself(fast):
    """The grid that the real processor returns for real pictures, through LlamaFactory's real resize."""
    mm_plugin = pytest.importorskip("llamafactory.data.mm_plugin")
    import transformers
    from transformers.models.qwen2_vl import image_processing_qwen2_vl as slow

    stock = mm_plugin.get_mm_plugin("qwen2_vl", image_token="<|image_pad|>", video_token="<|video_pad|>")
    kind = getattr(transformers, "Qwen2VLImageProcessorFast", None) if fast else None
    # The default bounds, said aloud: under transformers 5 a processor made with others changes the class's default.
    processor = (kind or slow.Qwen2VLImageProcessor)(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280})
    dice = random.Random(3)
    sizes = [(9, 300), (4000, 8), (8, 2500), (20, 20), (27, 29), (1, 700)]
    sizes += [(dice.randint(1, 900), dice.randint(1, 900)) for _ in range(25)]
    bounds = {"image_max_pixels": 160_000, "image_min_pixels": 1024}
    for width, height in sizes:
        image = stock._preprocess_image(Image.new("RGB", (width, height)), **bounds)
        _, rows, columns = processor(image, return_tensors="pt")["image_grid_thw"][0].tolist()
        assert model_image_size(width, height, **bounds) == (columns * 14, rows * 14), (width, height)


def test_inference_resizes_to_the_same_size():
    """`adcopilot.images.resize_for_training`, which feeds plain transformers, and this module agree."""
    from adcopilot.images import resize_for_training

    dice = random.Random(5)
    for _ in range(60):
        width, height = dice.randint(8, 1200), dice.randint(8, 1200)
        resized = resize_for_training(Image.new("RGB", (width, height)), **DEFAULTS)
        assert model_image_size(width, height, **DEFAULTS) == model_image_size(*resized.size)


def test_errors_name_the_size_and_the_fix():
    with pytest.raises(UserError, match=r"3000000×1 pixels vanishes.*crop"):
        model_image_size(3_000_000, 1, **DEFAULTS)
    with pytest.raises(UserError, match=r"6000×28 pixels is more than 200 times.*crop"):
        model_image_size(6000, 28)
    with pytest.raises(UserError, match="0×5"):
        model_image_size(0, 5)


SIZE = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
COORDINATE = st.floats(0, 1)


@given(SIZE, SIZE, st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE))
def test_scaling_there_and_back(original, model, corners):
    (width, height), (x1, x2), (y1, y2) = original, sorted(corners[::2]), sorted(corners[1::2])
    box = [round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height)]
    there = scale_box(box, original, model)
    assert all(0 <= value <= bound for value, bound in zip(there, model * 2, strict=True))
    if box[0] < box[2] and box[1] < box[3]:
        assert there[0] < there[2]
        assert there[1] < there[3]
    back = scale_box(there, model, original)
    for value, returned, bound, seen in zip(box, back, original * 2, model * 2, strict=True):
        # half a pixel of rounding each way, and one pixel where a thin box was kept alive
        assert abs(value - returned) <= 1.5 * max(1, bound / seen) + 0.5


def test_scaling_is_exact_at_the_edges():
    assert scale_box([0, 0, 1920, 1080], (1920, 1080), (1036, 588)) == [0, 0, 1036, 588]
    assert scale_box([-5, 10.4, 1e300, 2000], (1920, 1080), (1920, 1080)) == [0, 10, 1920, 1080]
    assert scale_box([99, 99, 100, 100], (100, 100), (28, 28)) == [27, 27, 28, 28]


def test_only_the_numbers_of_boxes_change():
    text = (
        'Size 100 by 100. [{"bbox_2d": [10, 20.5,30 , 4e1], "label": "scratch 10"}, {"bbox_2d" :[1,2,3,4]}] and'
        ' 12, [1, 2, 3, 4], "bbox_2d": [x1, y1, x2, y2], "bbox_2d": [1, 2, 3], "bbox_2d": [], "other": [1, 2, 3, 4].'
    )
    assert map_text_boxes(text, (100, 100), (200, 400)) == (
        'Size 100 by 100. [{"bbox_2d": [20, 82,60 , 160], "label": "scratch 10"}, {"bbox_2d" :[2,8,6,16]}] and'
        ' 12, [1, 2, 3, 4], "bbox_2d": [x1, y1, x2, y2], "bbox_2d": [1, 2, 3], "bbox_2d": [], "other": [1, 2, 3, 4].'
    )
    assert text_boxes(text) == [[10, 20.5, 30, 40], [1, 2, 3, 4]]


def test_boxes_in_other_dress():
    """JSON inside a JSON string, Python quotes, several boxes under a key, a list over several lines."""
    double = (100, 100), (200, 200)
    assert map_text_boxes(r'"{\"bbox_2d\": [1, 2, 3, 4]}"', *double) == r'"{\"bbox_2d\": [2, 4, 6, 8]}"'
    assert map_text_boxes("{'bbox_2d': [1, 2, 3, 4]}", *double) == "{'bbox_2d': [2, 4, 6, 8]}"
    assert map_text_boxes('"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]]', *double) == (
        '"bbox_2d": [[2, 4, 6, 8], [10, 12, 14, 16]]'
    )
    assert map_text_boxes('"bbox_2d": [\n1,\n2,\n3,\n4\n]', *double) == '"bbox_2d": [\n2,\n4,\n6,\n8\n]'


@given(st.lists(st.tuples(*[st.integers(0, 1000)] * 4), max_size=5))
def test_strict_answers_are_read_as_written(boxes):
    answer = [{"bbox_2d": list(box), "label": f'a "{index}"'} for index, box in enumerate(boxes)]
    assert parse_boxes(json.dumps(answer)) == answer
    assert parse_boxes(f"Yes, look:\n```json\n{json.dumps(answer, indent=1)}\n```\nThat is all [1].") == answer
    nested = {"description": "x", "defect_details": answer, "defect_description": "y"}
    assert parse_boxes(json.dumps(nested)) == answer


def test_answers_cut_off_at_any_point():
    whole = [{"bbox_2d": [1, 2, 3, 4], "label": "hole"}, {"bbox_2d": [5, 6, 7, 8], "label": "dent"}]
    text = 'Found: {"defect_details": ' + json.dumps(whole) + "}"
    for length in range(len(text) + 1):
        found = parse_boxes(text[:length])
        assert [box["bbox_2d"] for box in found] == [box["bbox_2d"] for box in whole][: len(found)]
        # a box counts once its closing bracket is there, and has its label once that is complete
        assert len(found) == sum(text[:length].count(f"{end}]") for end in (4, 8))
        for box, original in zip(found, whole, strict=False):
            assert box["label"] in ("", original["label"])
            if f'"{original["label"]}"' in text[:length]:
                assert box["label"] == original["label"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No defect.",
        "[]",
        '[{"bbox_2d": [1, 2, 3]}, {"bbox_2d": ["1", "2", "3", "x"]}, {"bbox_2d": [1, 2, 3, NaN]}, {"bbox_2d": null}]',
        '{"bbox_2d": [1, 2, 3, true]}',
        '{"bbox_2d": [1, 2, 3, 1e999]}',
        '{"bbox_2d": [1, 2, 3, 1' + "0" * 400 + "]}",
        "__import__('os').system('exit 1')",
        "[" * 50_000,
        '{"a":' * 20_000,
    ],
)
def test_what_is_not_a_box_is_left_out(text):
    assert parse_boxes(text) == []


def test_python_quotes_and_a_label_before_the_box():
    assert parse_boxes("[{'label': 'burn', 'bbox_2d': [1, 2.5, 3, 4]}, {'bbox_2d': [5, 6, 7, 8]}]") == [
        {"bbox_2d": [1, 2.5, 3, 4], "label": "burn"},
        {"bbox_2d": [5, 6, 7, 8], "label": ""},
    ]


FOUR = [{"bbox_2d": [10, 20, 30, 40], "label": ""}]


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": ["10", "20", "30", "40"]}',
        '{"bbox_2d": "10, 20, 30, 40"}',
        '{"bbox_2d": "[10, 20, 30, 40]"}',
        '{"bbox_2d": [[10, 20], [30, 40]]}',
        '{"bbox_2d": [["10", "20"], ["30", "40"]]}',
        '{"bbox_2d": (10, 20), (30, 40)}',
        "bbox_2d: [10, 20, 30, 40]",
        '{"box_2d": [20, 10, 40, 30]}',
        '{"bbox": [10, 20, 30, 40]}',
        "<|box_start|>(10,20),(30,40)<|box_end|>",
        "<|box_start|>(10,20),(30,40)",
        "<box>[[10, 20, 30, 40]]</box>",
        "<box>(10,20),(30,40)</box>",
        "It is <bbox>10 20 30 40</bbox>.",
        "<bbox>10, 20, 30, 40",
        "<bbox>10 20 30 40 and then it",
        "<BBOX>[10 20 30 40]</BBOX>",
        "<|det|>[[10, 20, 30, 40]]<|/det|>",
        # the tag restates what the JSON says: counted once
        '{"bbox_2d": [10, 20, 30, 40]} or <bbox>1 2 3 4</bbox>',
    ],
)
def test_notations_of_answers(text):
    assert parse_boxes(text) == FOUR
    # and what is shown of the answer has its numbers where they stood, in the same order
    assert parse_boxes(map_text_boxes(text, (100, 100), (200, 400))) == [{"bbox_2d": [20, 80, 60, 160], "label": ""}]


def test_labels_beside_tags():
    text = "<ref>a  scratch</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box><|object_ref_start|>dent<|object_ref_end|>"
    found = parse_boxes(text + "<|box_start|>(9,9),(12,12)<|box_end|><bbox>1 2 3</bbox>")
    assert [(box["bbox_2d"], box["label"]) for box in found] == [
        ([1, 2, 3, 4], "a scratch"),
        ([5, 6, 7, 8], "a scratch"),
        ([9, 9, 12, 12], "dent"),
    ]


def test_bare_lists_are_read_where_they_are_asked_for():
    text = "At [10, 20, 30, 40], (1, 2, 3, 4), [[5, 6], [7, 8]] and (5,6),(7,8); not [1, 2, 3] nor [[1, 2, 3, 4"
    assert parse_boxes(text) == []
    found = [box["bbox_2d"] for box in parse_bare_boxes(text)]
    assert found == [[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert parse_bare_boxes("[20, 10, 40, 30]", y_first=True) == FOUR


def boxes(*found):
    return [{"bbox_2d": list(box), "label": ""} for box in found]


def test_numbers_from_0_to_1_in_answers():
    """One rule for every reader: shares where all are and some are no integers; a speck in the corner is no box."""
    shares = boxes((0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1))
    assert boxes_that_count(shares, (500, 400)) == (shares, (1, 1))
    assert boxes_that_count(boxes((0, 0, 1, 1)), (500, 400)) == ([], (500, 400))
    pixels = boxes((10, 20, 30, 40))
    assert boxes_that_count(pixels + boxes((0.1, 0.2, 0.3, 0.4)), (500, 400)) == (pixels, (500, 400))
    assert boxes_that_count([], (500, 400)) == ([], (500, 400))
    text = '[{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}, {"bbox_2d": [0, 0, 1, 1]}]'
    assert (
        map_text_boxes(text, (50, 50), (100, 200)) == '[{"bbox_2d": [10, 40, 30, 80]}, {"bbox_2d": [0, 0, 100, 200]}]'
    )
    assert map_text_boxes('"bbox_2d": [0, 0, 1, 1]', (50, 50), (100, 200)) == '"bbox_2d": [0, 0, 1, 1]'


@pytest.mark.parametrize("key", ["bbox_xywh", "polygon", "keypoints"])
def test_what_is_said_to_be_no_box_is_none_for_want_of_better(key):
    assert parse_bare_boxes(f'{{"{key}": [100, 200, 50, 60]}}') == []
    found = parse_bare_boxes(f'{{"{key}": [100, 200, 50, 60]}} [20, 10, 40, 30]')
    assert [box["bbox_2d"] for box in found] == [[20, 10, 40, 30]]
