"""`adcopilot.grpo.reward_functions`: equation 1's terms, as TRL calls them."""

import pytest
from PIL import Image

from adcopilot.grpo.reward_functions import reward_functions

MC = {
    "key": "m",
    "answer": "B",
    "images": ["t.png", "q.png"],
    "messages": [{"role": "user", "content": "What?\nA. hole\nB. scratch"}],
}
LOC = {
    "key": "l",
    "answer": "[]",
    "images": ["t.png", "q.png"],
    "boxes": [[10, 10, 30, 30]],
    "messages": [{"role": "user", "content": "Where?"}],
}


@pytest.fixture
def media(tmp_path):
    for name in ("t.png", "q.png"):
        Image.new("RGB", (100, 50)).save(tmp_path / name)
    return tmp_path


def call(functions, texts, records):
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {"record": records, "model_size": [(200, 100)] * len(texts), "query_size": [(100, 50)] * len(texts)}
    return {function.__name__: function(completions=completions, prompts=None, **columns) for function in functions}


def test_each_term_where_it_applies(media):
    functions, weights = reward_functions(format_weight=0.5, media_dir=media, tasks={"mc", "loc"})
    assert weights == [0.5, 1.0, 1.0]
    texts = [
        "<think>x</think><answer>B</answer>",
        "<think>x</think><answer>A</answer>",
        # In the model's pixels, which are twice the file's.
        '<think>x</think><answer>[{"bbox_2d": [20, 20, 60, 60], "label": "hole"}]</answer>',
        '[{"bbox_2d": [10, 10, 30, 30]}]',
    ]
    found = call(functions, texts, [MC, MC, LOC, LOC])
    assert found["format"] == [1.0, 1.0, 1.0, 0.0]
    assert found["choice"] == [1.0, 0.0, None, None]
    assert found["boxes"][:3] == [None, None, 1.0]
    # Mapped to [5, 5, 15, 15]: 25 of its 100 pixels are among the true 400.
    assert found["boxes"][3] == pytest.approx(25 / 475)


@pytest.mark.parametrize(("off", "left"), [("mc", ["format", "boxes"]), ("loc", ["format", "choice"])])
def test_ablations(media, off, left):
    functions, weights = reward_functions(format_weight=1.0, media_dir=media, tasks={"mc", "loc"}, without=[off])
    assert [function.__name__ for function in functions] == left
    assert len(weights) == 2
