"""Pairs and positions: an image is compared with the one before it in its own conversation, whatever the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.model import AdCopilotConfig, AdCopilotModel
from adcopilot.model.pairing import images_of_tokens, previous_images
from adcopilot.model.positions import diagonal_positions

pytestmark = pytest.mark.forward

IMAGE = 1

#: rows of conversations of (patch height, patch width) of their images
ROWS = st.lists(
    st.lists(st.lists(st.tuples(*[st.sampled_from([2, 4, 6])] * 2), max_size=3), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


def build(rows):
    """Token mask, grids, positions and expected pairs of rows of packed conversations, right padded."""
    masks, positions, grids, pairs = [], [], [], []
    for conversations in rows:
        mask, position = [], []
        for images in conversations:
            mask += [False, False]
            position += [0, 1]
            now = 2
            for index, (height, width) in enumerate(images):
                tokens = height * width // 4
                mask += [True] * tokens + [False] * 3  # comparison pads and what ends an image
                position += [now] * (tokens + 2) + [now + max(height, width) // 2]
                now = position[-1] + 1
                pairs.append(len(grids) - 1 if index else len(grids))
                grids.append([1, height, width])
        masks.append(mask)
        positions.append(position)
    length = max(map(len, masks))
    mask = torch.tensor([row + [False] * (length - len(row)) for row in masks])
    position = torch.tensor([row + [1] * (length - len(row)) for row in positions])
    return mask, torch.tensor(grids, dtype=torch.long).view(-1, 3), position, pairs


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_pairs_stay_inside_conversations(rows):
    mask, grid, positions, pairs = build(rows)
    assert previous_images(mask, grid, positions, merge_size=2) == pairs
    text_first = torch.stack([positions] * 4)
    assert previous_images(mask, grid, text_first, merge_size=2) == pairs


def test_without_positions_each_row_is_a_conversation():
    mask, grid, _, _ = build([[[(4, 4), (4, 4)]], [[(2, 2)]], [[(2, 4), (4, 2), (2, 2)]]])
    assert previous_images(mask, grid, None, merge_size=2) == [0, 0, 2, 3, 3, 4]


def test_missing_tokens_are_named():
    mask, grid, _, _ = build([[[(4, 4), (4, 4)]]])
    mask[0, -5:] = False
    with pytest.raises(ValueError, match=r"2 images have 8 tokens but the text has 6 .*cutoff_len"):
        images_of_tokens(mask, grid, merge_size=2)


def test_scaled_diagonal_runs_from_corner_to_corner():
    first, last = torch.tensor([[7], [7], [7]]), torch.tensor([[7], [16], [11]])
    ids = diagonal_positions(first, last, num_tokens=10, scaled=True)
    assert ids[0, 0].tolist() == [7] * 10
    assert ids[1, 0].tolist() == list(range(7, 17))
    assert ids[2, 0].tolist() == [7, 7, 8, 8, 9, 9, 10, 10, 11, 11]


def test_fixed_diagonal_steps_by_one():
    first, last = torch.tensor([[7], [7], [7]]), torch.tensor([[7], [8], [8]])
    ids = diagonal_positions(first, last, num_tokens=4, scaled=False)
    assert ids[:, 0].tolist() == [[7] * 4, [7, 8, 9, 10], [7, 8, 9, 10]]


def test_one_comparison_token_stands_on_the_first_corner():
    corner = torch.tensor([[3], [3], [3]])
    assert diagonal_positions(corner, corner + 4, num_tokens=1, scaled=True)[:, 0, 0].tolist() == [3, 3, 3]


def test_text_after_an_image_starts_where_it_would_without_comparison_tokens(adcopilot_dir):
    config = AdCopilotConfig.from_pretrained(adcopilot_dir)
    model = AdCopilotModel(config)
    pads = [config.comparison_token_id] * config.num_comparison_tokens
    grid = torch.tensor([[1, 4, 8], [1, 6, 2]])

    def ids(comparison):
        image = [config.vision_start_token_id, *[config.image_token_id] * 8, *comparison, config.vision_end_token_id]
        second = [config.vision_start_token_id, *[config.image_token_id] * 3, *comparison, config.vision_end_token_id]
        return torch.tensor([[5, 6, *image, *second, 7, 8, 9]])

    with_pads, without = ids(pads), ids([])
    positions, delta = model.get_rope_index(with_pads, grid)
    plain, plain_delta = model.get_rope_index(without, grid)
    assert torch.equal(positions[:, with_pads != config.comparison_token_id].view_as(plain), plain)
    assert delta.item() == plain_delta.item() - 2 * config.num_comparison_tokens
    # left padding moves nothing
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), with_pads], dim=1)
    mask = (torch.arange(padded.shape[1]) >= 4).long()[None]
    assert torch.equal(model.get_rope_index(padded, grid, attention_mask=mask)[0][:, :, 4:], positions)
