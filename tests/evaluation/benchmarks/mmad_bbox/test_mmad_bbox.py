"""MMAD-BBox: true boxes from masks, every family's answers, the tables, and the command with the tiny model."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot import cli
from adcopilot.answering.base import Reply
from adcopilot.answering.families import FAMILIES
from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.mmad import dataset
from adcopilot.evaluation.benchmarks.mmad_bbox import command as mmad_bbox
from adcopilot.evaluation.benchmarks.mmad_bbox.results import results_of_records, show
from adcopilot.evaluation.box_scores import BoxRule, decode_mask, encode_mask, read_truth_mask, score_image, summarise
from adcopilot.evaluation.run_folder import read_records
from adcopilot.images import image_size
from adcopilot.line.ranking import auroc, average_precision


def mask_of(*boxes, size=(100, 80)):
    mask = np.zeros((size[1], size[0]), bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    return mask


def test_rules_for_true_boxes():
    mask = mask_of((10, 10, 30, 20), (50, 40, 52, 42), (90, 70, 100, 80))
    assert BoxRule().boxes(mask) == [[10, 10, 30, 20], [50, 40, 52, 42], [90, 70, 100, 80]]
    assert BoxRule(min_area=50).boxes(mask) == [[10, 10, 30, 20], [90, 70, 100, 80]]
    assert BoxRule(min_area=5000).boxes(mask) == [[10, 10, 30, 20]]  # the largest stays
    assert BoxRule(regions="whole").boxes(mask) == [[10, 10, 100, 80]]
    assert BoxRule(regions="whole", min_area=150).boxes(mask) == [[10, 10, 30, 20]]
    assert BoxRule().boxes(mask_of()) == []
    # Corners that touch are one region.
    assert BoxRule().boxes(mask_of((0, 0, 5, 5), (5, 5, 9, 9))) == [[0, 0, 9, 9]]
    with pytest.raises(UserError, match="--truth is 'all'"):
        BoxRule(regions="all")
    with pytest.raises(UserError, match="--min-area is -1"):
        BoxRule(min_area=-1)


def test_one_image_by_hand():
    mask = mask_of((10, 10, 30, 20))
    mask[10:20, 10:20] = False
    mask[10, 10] = mask[19, 10] = True  # its box stays 10 to 30, half of it is defect
    rule = BoxRule(regions="whole")
    found = score_image([[10, 10, 20, 20]], mask, size=(100, 80), rule=rule)
    assert found["truth"] == [[10, 10, 30, 20]]
    assert found["iou"] == 0.5
    assert found["mask_iou"] == pytest.approx(2 / 200)
    assert found["defect_share"] == pytest.approx(102 / 8000)
    assert found["size_class"] == "medium"
    normal = score_image([], None, size=(100, 80), rule=rule)
    assert (normal["iou"], normal["mask_iou"], normal["size_class"]) == (1.0, 1.0, None)
    assert score_image([[0, 0, 9, 9]], None, size=(100, 80), rule=rule)["iou"] == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_masks_come_back_from_their_run_lengths(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = json.loads(json.dumps(encode_mask(mask)))
    np.testing.assert_array_equal(decode_mask(encoded), mask)


def test_what_is_no_run_lengths():
    for bad in ({}, {"size": [3], "counts": "x"}, {"size": [3, 3], "counts": 5}):
        with pytest.raises(UserError, match="no run lengths"):
            decode_mask(bad)


def test_masks_are_read_and_checked(mini_mmad, tmp_path):
    folder = mini_mmad / "MVTec-LOCO/screw_bag/ground_truth/logical_anomalies/000"
    assert len(list(folder.iterdir())) == 2
    mask = read_truth_mask(folder, size=(112, 84))
    expected = mask_of((10, 14, 30, 26), (103, 76, 109, 80), size=(112, 84))
    np.testing.assert_array_equal(mask, expected)
    colours = read_truth_mask(
        mini_mmad / "DS-MVTec/bottle/rbg_mask/broken_large/000_rbg_mask.png", size=(84, 84)
    )  # fmt: skip
    np.testing.assert_array_equal(colours, mask_of((10, 14, 30, 26), (75, 76, 81, 80), size=(84, 84)))
    with pytest.raises(UserError, match="000: the mask has 112×84 pixels but its image 84×84"):
        read_truth_mask(folder, size=(84, 84))


def test_the_columns_of_table_three():
    images = [
        {"iou": iou, "mask_iou": iou / 2, "predicted": [[0, 0, 1, 1]] if iou else []} for iou in (0, 0.1, 0.25, 0.5, 1)
    ]
    found = summarise(images)
    assert found["images"] == 5
    assert found["mean_iou"] == pytest.approx(37.0)
    assert found["accuracy"] == {"0.1": 80.0, "0.2": 60.0, "0.3": 40.0, "0.5": 40.0}
    assert found["mask_mean_iou"] == pytest.approx(18.5)
    assert found["mask_accuracy"] == {"0.1": 60.0, "0.2": 40.0, "0.3": 20.0, "0.5": 20.0}
    assert found["empty"] == 20.0
    assert summarise([])["mean_iou"] is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_ranking_as_brute_force(pairs):
    scores, labels = [score for score, _ in pairs], [label for _, label in pairs]
    positive = [score for score, label in pairs if label]
    negative = [score for score, label in pairs if not label]
    if positive and negative:
        wins = sum((a > b) + (a == b) / 2 for a in positive for b in negative)
        assert auroc(scores, labels) == pytest.approx(wins / len(positive) / len(negative))
    else:
        assert auroc(scores, labels) is None
    if not positive:
        assert average_precision(scores, labels) is None
        return
    area = reached = 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [label for score, label in pairs if score >= threshold]
        recall = sum(taken) / len(positive)
        area += (recall - reached) * sum(taken) / len(taken)
        reached = recall
    assert average_precision(scores, labels) == pytest.approx(area)


class Oracle:
    """Knows the masks and answers in its family's notation, in the space that its family writes."""

    name = "oracle"

    def __init__(self, root, family, *, boxes=True):
        self.family, self.boxes = FAMILIES[family], boxes
        self.masks = {
            sample.image: next(path for path in sample.masks(root) if path.exists())
            for sample in dataset.load(root)[0]
            if not sample.normal
        }

    def describe(self):
        return {"backend": "oracle", "model": "o", "family": self.family.name}

    def model_size(self, size):
        return (size[0] * 2, size[1] * 3)

    def answer(self, items, *, max_new_tokens):
        for item in items:
            logprobs = None
            if item.options:  # certain of everything but GoodsAD
                sure = item.meta["dataset"] != "GoodsAD" and not item.meta["normal"]
                logprobs = dict(zip(item.options, (-0.1, -3.0) if sure else (-3.0, -0.1), strict=True))
            text = self.write(item) if item.meta["role"] == "boxes" else "A"
            yield item, Reply(text=text, option_logprobs=logprobs)

    def write(self, item):
        if item.meta["normal"] or not self.boxes:
            return "No."
        size = image_size(item.images[-1])
        space = self.model_size(size) if self.family.pixels else (1000, 1000)
        boxes = [
            [round(value * space[axis % 2] / size[axis % 2]) for axis, value in enumerate(box)]
            for box in BoxRule().boxes(read_truth_mask(self.masks[item.meta["image"]], size=size))
        ]
        if self.family.name == "internvl":
            return f"<ref>dent</ref><box>{boxes}</box>"
        if self.family.name == "seed":
            return "\n".join(f"<bbox>{a} {b} {c} {d}</bbox>" for a, b, c, d in boxes)
        if self.family.name == "gemini":
            return json.dumps([{"box_2d": [b, a, d, c], "label": "dent"} for a, b, c, d in boxes])
        text = json.dumps([{"bbox_2d": box, "label": "dent"} for box in boxes])
        reasons = "" if item.options else "<think>Let me look: [1, 2, 3, 4].</think>"  # its first word ranks
        return f"{reasons}Yes. ```json\n{text}\n```"


@pytest.fixture
def oracle(mini_mmad, tmp_path, monkeypatch, capsys):
    """Run the command with an oracle of some family; its scores."""

    def run(family, *options, boxes=True):
        monkeypatch.setattr(mmad_bbox, "make_backend", lambda args: Oracle(mini_mmad, family, boxes=boxes))
        folder = tmp_path / f"run-{family}-{boxes}-{len(options)}"
        words = ("--json", "--data-root", mini_mmad, "--output", folder, "--model", "o", *options)
        assert cli.main(["eval", "mmad-bbox", *map(str, words)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found.items() >= json.loads((folder / "results.json").read_text()).items()
        return found, folder

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_right_boxes_in_every_notation(oracle, family):
    found, folder = oracle(family)
    assert found["overall"] == {
        "images": 8,
        "mean_iou": 100.0,
        "accuracy": dict.fromkeys(("0.1", "0.2", "0.3", "0.5"), 100.0),
        "mask_mean_iou": 100.0,
        "mask_accuracy": dict.fromkeys(("0.1", "0.2", "0.3", "0.5"), 100.0),
        "empty": 0.0,
    }
    assert list(found["datasets"]) == ["DS-MVTec", "MVTec-LOCO", "VisA", "GoodsAD"]
    assert found["dataset_average"]["mean_iou"] == 100.0
    assert set(found["categories"]) == {"DS-MVTec/bottle", "MVTec-LOCO/screw_bag", "VisA/pcb1", "GoodsAD/drink_can"}
    assert sum(row["images"] for row in found["sizes"].values()) == 8
    images = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    assert all(np.allclose(image["predicted"], image["truth"], atol=0.5) for image in images)


def test_boxes_that_are_never_there(oracle):
    found, _ = oracle("generic", boxes=False)
    assert (found["overall"]["mean_iou"], found["overall"]["empty"]) == (0.0, 100.0)
    assert "normal" not in found
    assert "ranking" not in found


def test_other_rules_need_no_model(oracle, capsys):
    _, folder = oracle("seed")
    assert cli.main(["eval", "mmad-bbox", "--score", str(folder), "--truth", "whole", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["rule"] == {"regions": "whole", "min_area": 1}
    assert 0 < whole["overall"]["mean_iou"] < 20
    assert whole["overall"]["mask_mean_iou"] == 100.0
    assert cli.main(["eval", "mmad-bbox", "--score", str(folder), "--min-area", "100"]) == 0
    assert "All images" in capsys.readouterr().out


@pytest.mark.parametrize("family", ["adcopilot", "qwen2.5-vl"])
def test_normal_images_and_the_anomaly_score(oracle, family):
    found, folder = oracle(family, "--anomaly-score")
    assert found["normal"] == {"images": 8, "without_boxes": 100.0}
    assert found["with_normal"]["images"] == 16
    assert found["ranking"]["VisA"] == {"auroc": 100.0, "average_precision": 100.0}
    assert found["ranking"]["GoodsAD"] == {"auroc": 50.0, "average_precision": 50.0}
    assert found["ranking"]["average"]["auroc"] == 87.5
    # AD-Copilot's own answer begins with yes or no; others are asked a second question about the same images.
    records = list(read_records(folder))
    assert len(records) == (16 if family == "adcopilot" else 32)
    assert len({record["group"] for record in records}) == 16


def test_questions_by_family(mini_mmad):
    samples, _ = dataset.load(mini_mmad)
    common = {"root": mini_mmad, "kind": "random"}
    own = mmad_bbox.items(samples, shots=1, family=FAMILIES["adcopilot"], **common)
    assert own[0].prefix == (0, 1)  # training's form: two images and the question
    assert own[0].question == "Is there a defect in the second image? If yes, list the boxes."
    other = mmad_bbox.items(samples, shots=2, family=FAMILIES["internvl"], **common)
    assert [part for part in other[0].prefix if not isinstance(part, str)] == [0, 1, 2]
    assert "<box>" in other[0].question
    thinking = mmad_bbox.items(
        samples, shots=1, family=FAMILIES["adcopilot"], thinking=True, with_score=True, **common
    )
    assert "<think>" in thinking[0].question
    assert thinking[1].question == own[0].question  # the score is read from an answer without reasoning
    assert (thinking[0].options, thinking[1].options) == (None, {"Yes": "defective", "No": "normal"})
    assert len({item.key for item in [*own, *other, *thinking]}) == 16 + 16 + 32


def test_masks_that_are_missing_or_wrong(mini_mmad, tmp_path, capsys, monkeypatch):
    import shutil

    root = tmp_path / "MMAD"
    shutil.copytree(mini_mmad, root)
    args = ["eval", "mmad-bbox", "--data-root", str(root), "--model", "nobody", "--output", str(tmp_path / "run")]
    mask = root / "VisA/pcb1/ground_truth/bad/000.png"
    mask.unlink()
    assert cli.main(args) == 2
    assert "1 anomalous images have no mask on the disk: VisA/pcb1/test/bad/000.JPG" in capsys.readouterr().err
    Image.new("L", (30, 30), 255).save(mask)
    monkeypatch.setattr(mmad_bbox, "make_backend", lambda args: Oracle(mini_mmad, "seed"))
    assert cli.main(args) == 1
    err = capsys.readouterr().err
    assert "000.png: the mask has 30×30 pixels but its image" in err
    assert "7 of 8 questions answered" in err


def test_with_the_tiny_model(mini_mmad, adcopilot_dir, tmp_path, capsys):
    args = ["--data-root", str(mini_mmad), "--model", str(adcopilot_dir), "--output", str(tmp_path), "--anomaly-score"]
    assert cli.main(["eval", "mmad-bbox", *args, "--max-new-tokens", "12", "--max-lost", "1"]) == 0
    assert "AUROC" in capsys.readouterr().out
    assert len(list(read_records(tmp_path))) == 16


def test_masks_that_mark_nothing_or_most_are_counted_first(capsys):
    def line(name, mask):
        meta = {"image": name, "dataset": "VisA", "category": "pcb1", "kind": "bad", "normal": False, "role": "boxes"}
        reply = {"text": "[]"}
        size = [mask.shape[1], mask.shape[0]]
        return {"meta": meta, "reply": reply, "options": None, "size": size, "model_size": size,
                "mask": encode_mask(mask)}  # fmt: skip

    masks = {"a": mask_of((0, 0, 8, 8), size=(56, 56)), "b": np.zeros((56, 56), bool), "c": np.ones((56, 56), bool)}
    found, images = results_of_records(
        [line(name, mask) for name, mask in masks.items()], family=FAMILIES["generic"], rule=BoxRule()
    )
    # Nothing found where there is nothing to find would have been a perfect answer about a defective part.
    assert found["overall"]["images"] == len(images) == 2
    assert found["overall"]["mean_iou"] == 0
    assert found["masks"] == {"empty": 1, "over_half": 1, "examples": ["b"]}
    show(found)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1 defective images have a mask that marks nothing and are in no score: b")
    assert said[1].startswith("1 masks mark more than half of their image")
