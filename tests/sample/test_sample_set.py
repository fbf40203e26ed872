"""The sample set: same seed, same bytes; masks, boxes and sentences agree; held-out categories stay untrained."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from adcopilot.boxes import parse_boxes
from adcopilot.errors import UserError
from adcopilot.grpo.rewards import score
from adcopilot.prompts import ANSWER_WORDS, INSPECT_QUESTION, THINK_INSTRUCTION
from adcopilot.sample.categories import HELD_OUT, TRAINED
from adcopilot.sample.defects import KINDS, STRUCTURAL_LEAST, WRONG_PRODUCT, component_boxes
from adcopilot.sample.generate import REVIEW, SHARD, SampleSplit, grpo_splits, standard_splits, write_sample
from adcopilot.sample.pairs import CATEGORIES, LARGE, USUAL, WRONG, draw_pair, stream
from adcopilot.sample.scenes import LESSONS, draw_scene
from adcopilot.tasks import task_of


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    manifest = write_sample(folder, standard_splits(60, test_count=24), seed=3)
    return folder, manifest


def read(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_same_seed_same_files(sample, tmp_path):
    folder, manifest = sample
    assert write_sample(tmp_path, standard_splits(60, test_count=24), seed=3, workers=2) == manifest
    files = sorted(p.relative_to(folder) for p in folder.rglob("*.png"))
    assert len(files) == len(sorted(tmp_path.rglob("*.png"))) > 200
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_other_seed_other_pictures(sample, tmp_path):
    folder, _ = sample
    write_sample(tmp_path, [SampleSplit(name="stage0", count=2, number=10)], seed=4)
    record = read(tmp_path, "stage0")[0]["images"][0]
    assert (tmp_path / record).read_bytes() != (folder / record).read_bytes()


def test_pixels_are_the_ones_recorded():
    """Pixels, not PNG bytes: those depend on the compression library."""
    digest = hashlib.sha256()
    for k, name in enumerate(CATEGORIES):
        pair = draw_pair(stream(0, 1, k), category=name, size=56, anomalous=k % 2 == 1)
        digest.update(pair.template.tobytes() + pair.query.tobytes() + pair.mask.tobytes())
    assert digest.hexdigest() == "4065727d94b89787d724e7a04c48368a1c5e7d6d9f81ce25157388ef114403aa"


def test_killed_run_goes_on(tmp_path, monkeypatch):
    import adcopilot.sample.generate as generate

    splits = [SampleSplit(name="stage0", count=SHARD + 5, number=10)]
    monkeypatch.setattr(generate, "_pair_record", lambda *args: {"made": args[-1], "images": []})
    write_sample(tmp_path, splits)
    monkeypatch.setattr(generate, "_pair_record", lambda *args: pytest.fail("made a record again"))
    write_sample(tmp_path, splits)
    (tmp_path / "shards" / f"stage0-{SHARD:07d}-{SHARD + 5:07d}.jsonl").unlink()
    made = []
    monkeypatch.setattr(
        generate, "_pair_record", lambda *args: made.append(args[-1]) or {"made": args[-1], "images": []}
    )
    write_sample(tmp_path, splits)
    assert made == list(range(SHARD, SHARD + 5))
    assert [record["made"] for record in read(tmp_path, "stage0")] == list(range(SHARD + 5))


def test_folder_of_another_seed_is_refused(sample):
    folder, _ = sample
    with pytest.raises(UserError, match=r"manifest.json: holds .*'seed': 3.* expected .*'seed': 5"):
        write_sample(folder, [], seed=5)


def test_size_below_one_merged_patch_is_refused(tmp_path):
    with pytest.raises(UserError, match="--size is 27, expected 28"):
        write_sample(tmp_path, [], size=27)


@pytest.mark.parametrize("split", ["stage0", "stage1", "stage2", "test_trained", "test_held_out"])
def test_records(sample, split):
    folder, _ = sample
    records = read(folder, split)
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        text = "".join(message["content"] for message in record["messages"])
        assert text.count("<image>") == len(record["images"]) == 2
        assert record["messages"][0]["content"].startswith("<image><image>")
        for path in record["images"]:
            with Image.open(folder / path) as image:
                assert (image.size, image.mode) == ((56, 56), "RGB")
        for found in parse_boxes(text):
            x1, y1, x2, y2 = found["bbox_2d"]
            assert 0 <= x1 < x2 <= 56
            assert 0 <= y1 < y2 <= 56
            assert found["bbox_2d"] in record["boxes"]
            assert found["label"] == record["defect"]
        kinds = (*KINDS, WRONG_PRODUCT) if split == "stage0" else KINDS
        assert record["anomalous"] == (record["defect"] in kinds) == bool(record["boxes"])
        if record["anomalous"]:
            with Image.open(folder / record["mask"]) as mask:
                assert component_boxes(np.asarray(mask.convert("L")) > 0) == record["boxes"]
        else:
            assert record["mask"] is None
        if record["task"] == "inspect":
            question, answer = (message["content"] for message in record["messages"])
            assert question == f"<image><image>{INSPECT_QUESTION}"
            assert answer.startswith(ANSWER_WORDS[0] if record["anomalous"] else ANSWER_WORDS[1])


def test_held_out_categories_are_in_no_training_split(sample):
    folder, _ = sample
    for split in ("stage0", "stage1", "stage2", "test_trained"):
        assert {record["category"] for record in read(folder, split)} <= set(TRAINED)
    assert {record["category"] for record in read(folder, "test_held_out")} == set(HELD_OUT)
    assert not set(TRAINED) & set(HELD_OUT)


def test_lessons_come_in_order_with_some_review():
    """A wrong product first, then large defects, then usual ones; a fifth of a lesson repeats the one before."""
    (split,) = [split for split in standard_splits(20000, test_count=1) if split.name == "stage0"]
    drawn = [split.difficulty(stream(0, k), k) for k in range(split.count)]
    assert split.count == 10000
    lessons = drawn[:2500], drawn[2500:5500], drawn[5500:]
    for lesson, main, before in zip(lessons, (WRONG, LARGE, USUAL), (WRONG, WRONG, LARGE), strict=True):
        assert set(lesson) == {main, before}
        if main != before:
            assert lesson.count(before) / len(lesson) == pytest.approx(REVIEW, abs=0.03)


@pytest.mark.parametrize("difficulty", [LARGE, USUAL])
def test_defects_have_the_size_of_their_lesson(difficulty):
    names = list(CATEGORIES)
    for k in range(40):
        pair = draw_pair(stream(5, k), category=names[k % 14], size=56, anomalous=True, difficulty=difficulty)
        least = difficulty.least * STRUCTURAL_LEAST.get(pair.kind, 1)
        assert pair.mask.mean() >= least
        assert pair.boxes == component_boxes(pair.mask)


def test_a_wrong_product_is_another_design_of_the_same_side():
    pair = draw_pair(stream(5, 1), category="gear", size=56, anomalous=True, difficulty=WRONG)
    assert (pair.kind, pair.part, pair.boxes) == (WRONG_PRODUCT, None, [[0, 0, 56, 56]])
    assert pair.mask.all()
    difference = np.abs(np.asarray(pair.template, int) - np.asarray(pair.query, int)).max(axis=2)
    assert (difference > 60).mean() > 0.2  # much of the picture, not a spot


def test_half_of_the_test_pairs_are_normal(sample):
    folder, _ = sample
    for split in ("test_trained", "test_held_out"):
        assert sum(record["anomalous"] for record in read(folder, split)) == 12


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_change_lies_in_the_mask(category):
    """Query and the same view of the undamaged product differ nowhere but under the mask and its anti-aliased rim."""
    from adcopilot.sample.canvas import draw_design, draw_view
    from adcopilot.sample.defects import draw_defect

    for k in range(12):
        rng = stream(7, k)
        design, view = CATEGORIES[category](rng), draw_view(rng, (56, 56))
        damaged = draw_defect(rng, design, view)
        if damaged is None:
            continue
        pixels, defect = damaged
        change = np.abs(pixels - draw_design(design, view)).max(axis=2)
        rim = np.pad(defect.mask, 1)
        grown = np.zeros_like(defect.mask)
        for dy in range(3):
            for dx in range(3):
                grown |= rim[dy : dy + 56, dx : dx + 56]
        assert change[~grown].max(initial=0) == 0, (defect.kind, k)
        assert change[defect.mask].mean() >= 40


def test_component_boxes():
    mask = np.zeros((10, 12), dtype=bool)
    mask[1:4, 2:5] = True
    mask[4, 5] = True  # touches by its corner: the same component
    mask[7:9, 8:12] = True
    assert component_boxes(mask) == [[2, 1, 6, 5], [8, 7, 12, 9]]
    mask[9, 0] = True  # one pixel: belongs to the nearest component
    assert component_boxes(mask) == [[0, 1, 6, 10], [8, 7, 12, 9]]
    assert component_boxes(np.zeros((4, 4), dtype=bool)) == []


def test_scenes_show_one_image_and_true_boxes():
    seen = set()
    for k in range(300):
        scene = draw_scene(stream(1, k), place=k / 300)
        seen.add(scene.task)
        question, answer = (message["content"] for message in scene.messages)
        assert question.count("<image>") == 1
        width, height = scene.image.size
        for found in parse_boxes(answer):
            x1, y1, x2, y2 = found["bbox_2d"]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
    assert seen == {task for lesson in LESSONS for task in lesson.tasks}
    assert sum(lesson.share for lesson in LESSONS) == pytest.approx(1)


def test_verifiable_records_are_what_grpo_reads(tmp_path):
    write_sample(tmp_path, grpo_splits(60, test_count=20), seed=5)
    records = [json.loads(line) for line in (tmp_path / "rl.jsonl").read_text().splitlines()]
    assert len({record["key"] for record in records}) == len(records)
    assert {record["task"] for record in records} == {"judge", "choice", "locate"}
    for record in records:
        truth = record["messages"][-1]["content"]
        assert record["answer"] == truth
        assert task_of(record).name == ("loc" if record["task"] == "locate" else "mc")
        assert record["anomalous"] or record["task"] != "locate"  # a normal pair has nothing to localise
        earned = score(f"<think>.</think><answer>{truth}</answer>", record, format_weight=1.0, media_dir=tmp_path)
        # The mask's own bounding boxes are not the mask.
        assert earned["answer"] == 1.0 if record["task"] != "locate" else earned["answer"] > 0.02
    thinking = [json.loads(line) for line in (tmp_path / "thinking.jsonl").read_text().splitlines()]
    assert len(thinking) == 30
    for record in thinking:
        question, answer = (message["content"] for message in record["messages"])
        assert question.endswith(THINK_INSTRUCTION)
        assert answer.startswith("<think>Yes. " if record["anomalous"] else "<think>No. ")
