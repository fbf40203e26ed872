"""What good parts may differ in: the same by seed, nothing by default, no defect, and more than a map sees through."""

import json

import numpy as np
import pytest
from PIL import Image

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.errors import UserError
from adcopilot.line.ranking import auroc
from adcopilot.sample.canvas import View, draw_design, draw_view
from adcopilot.sample.categories import HELD_OUT, TRAINED
from adcopilot.sample.command import add_arguments, run
from adcopilot.sample.defects import component_boxes, draw_defect
from adcopilot.sample.demo import VARIED, calibration_split, demo_splits
from adcopilot.sample.generate import standard_splits, varied_splits, write_sample
from adcopilot.sample.pairs import CATEGORIES, draw_pair, stream
from adcopilot.sample.variation import LOOSE, NOTHING, ROTORS, VARIATIONS, Variation

SIDE = (56, 56)


def varied(name, *key, category, anomalous):
    variation = Variation.named(name, stream(*key, 1))
    return draw_pair(stream(*key), category=category, size=56, anomalous=anomalous, variation=variation)


def pixels(pair):
    return pair.template.tobytes() + pair.query.tobytes() + pair.mask.tobytes()


def read(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_by_default_nothing_changes(tmp_path):
    """To the byte, also of the manifest; and the varied test sets leave the others as they are."""
    plain = write_sample(tmp_path / "plain", standard_splits(24, test_count=6), seed=2)
    both = write_sample(
        tmp_path / "both", [*standard_splits(24, test_count=6), *varied_splits(6)], seed=2, variation="none"
    )
    assert "variation" not in plain
    for name, split in plain["splits"].items():
        assert "variation" not in split
        assert both["splits"][name] == split
    for file in (tmp_path / "plain").rglob("*.png"):
        assert file.read_bytes() == (tmp_path / "both" / file.relative_to(tmp_path / "plain")).read_bytes()
    assert both["splits"]["test_held_out_varied"]["variation"] == "parts+light"
    assert {record["category"] for record in read(tmp_path / "both", "test_held_out_varied")} <= set(HELD_OUT)
    assert {record["category"] for record in read(tmp_path / "both", "test_trained_varied")} <= set(TRAINED)
    pair = varied("none", 3, 1, category="pcb", anomalous=True)
    assert pixels(pair) == pixels(draw_pair(stream(3, 1), category="pcb", size=56, anomalous=True))


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("name", VARIATIONS[1:])
def test_a_good_pair_stays_good_and_a_seed_gives_one_pair(name, category):
    good = varied(name, 3, 2, category=category, anomalous=False)
    assert (good.kind, good.boxes, bool(good.mask.any())) == (None, [], False)
    assert pixels(good) == pixels(varied(name, 3, 2, category=category, anomalous=False))
    plain = draw_pair(stream(3, 2), category=category, size=56, anomalous=False)
    assert good.query.tobytes() != plain.query.tobytes()
    found = varied(name, 3, 2, category=category, anomalous=True)
    assert pixels(found) == pixels(varied(name, 3, 2, category=category, anomalous=True))
    assert found.boxes == component_boxes(found.mask) != []


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_defect_lies_in_the_mask(category):
    """The defective part and the same part as it lies, undamaged, differ under the mask and its rim alone."""
    for k in range(12):
        rng, variation = stream(7, k), Variation.named("parts", stream(7, k, 1))
        design, view = variation.lay(variation.dress(CATEGORIES[category](rng))), draw_view(rng, SIDE)
        damaged = draw_defect(rng, design, view)
        if damaged is None:
            continue
        drawn, defect = damaged
        change = np.abs(drawn - draw_design(design, view)).max(axis=2)
        rim = np.pad(defect.mask, 1)
        near = np.any([rim[dy : dy + 56, dx : dx + 56] for dy in range(3) for dx in range(3)], axis=0)
        if defect.part is None or defect.kind == "extra part":
            assert change[~near].max(initial=0) == 0, (defect.kind, k)
        else:  # what is printed on a missing or moved part, and what lay under it, may reach past it by a pixel
            assert (change[~near] > 30).mean() < 0.01, (defect.kind, k)
        assert change[defect.mask].mean() >= 40


@pytest.mark.parametrize("category", CATEGORIES)
def test_loose_parts_stay_near_their_place(category):
    """Far less than a misplaced part (0.26): nobody is to take one for the other."""
    names = {*LOOSE.get(category, {}), *(ROTORS.get(category, ((), 0))[0])}
    for k in range(6):
        variation = Variation.named("parts", stream(8, k, 1))
        design = CATEGORIES[category](stream(8, k))
        one, other = ([p for p in variation.lay(design).parts if p.name in names] for _ in range(2))
        for a, b in zip(one, other, strict=True):
            assert np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]) < (
                0.24 if a.name not in ("letter", "blade") else 0.45  # a rotor turns as one
            ), a.name


def test_light_falls_off_by_a_fifth_to_a_half():
    assert NOTHING.light_on(View(size=SIDE)) is None
    for k in range(40):
        light = Variation.named("light", stream(9, k)).light_on(View(size=SIDE))
        assert light.shape == SIDE
        assert 0.34 < light.min() < 0.81
        assert 0.9 < light.max() <= 1
        assert max(np.abs(np.diff(light, axis=axis)).max() for axis in (0, 1)) < 0.05  # soft


def test_a_map_is_worse_on_varied_pairs():
    """What the varied test sets are for: a person still sees these defects, a comparison of pixels does not."""
    mapper, reached = Mapper(MapSettings()), {}
    for name in ("none", "parts+light"):
        truth = np.arange(60) % 2 == 1
        scores = []
        for k in range(60):
            category = list(TRAINED)[(k // 2) % len(TRAINED)]
            pair = varied(name, 5, k, category=category, anomalous=bool(truth[k]))
            scores.append(mapper.compare(pair.query, [pair.template]).pred_score)
        reached[name] = auroc(np.array(scores), truth)
    assert reached["none"] > 0.97
    assert reached["parts+light"] < reached["none"] - 0.08


def test_command_writes_and_refuses_another_variation(tmp_path):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    common = ["--output", str(tmp_path / "a"), "--count", "16", "--test-count", "4", "--seed", "1"]
    assert run(parser.parse_args([*common, "--variation", "parts", "--varied-tests", "--scenes", "2"])) == 0
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    assert manifest["variation"] == "parts"
    varieties = {name: split.get("variation") for name, split in manifest["splits"].items()}
    assert varieties["base"] is None
    assert (varieties["stage0"], varieties["test_trained"]) == ("parts", "parts")
    assert varieties["test_trained_varied"] == "parts+light"
    for record in read(tmp_path / "a", "stage1"):
        if record["anomalous"]:
            with Image.open(tmp_path / "a" / record["mask"]) as mask:
                assert component_boxes(np.asarray(mask.convert("L")) > 0) == record["boxes"]
        else:
            assert (record["mask"], record["boxes"]) == (None, [])
    for other in ([], ["--variation", "light"]):
        with pytest.raises(UserError, match="variation"):
            run(parser.parse_args([*common, *other]))
    write_sample(tmp_path / "b", standard_splits(16, test_count=4), seed=1)
    with pytest.raises(UserError, match=r"expected .*'variation': 'light'"):
        write_sample(tmp_path / "b", [], seed=1, variation="light")
    with pytest.raises(UserError, match="expected one of none, parts, light"):
        write_sample(tmp_path / "c", [], variation="lihgt")


def test_a_share_of_the_training_pairs_varies(tmp_path):
    """The others are the plain set's to the byte, and so are the demo's plain test sets."""
    plain, demo = tmp_path / "plain", tmp_path / "demo"
    write_sample(plain, standard_splits(80, test_count=4), seed=2)
    manifest = write_sample(demo, demo_splits(80, test_count=4), seed=2)
    assert manifest["splits"]["stage0"]["varied"] == VARIED
    assert "varied" not in manifest["splits"]["test_held_out"]

    def pictures(folder, record):
        return [(folder / name).read_bytes() for name in record["images"]]

    pairs = read(demo, "stage0")
    same = [pictures(demo, record) == pictures(plain, record) for record in pairs]
    assert abs(len(pairs) * (1 - VARIED) - sum(same)) < 10
    for test in ("test_trained", "test_held_out"):
        assert all(pictures(demo, record) == pictures(plain, record) for record in read(demo, test))
    tested = [pictures(demo, record) for record in read(demo, "test_trained")]
    assert not any(pictures(demo, record) in tested for record in read(demo, calibration_split("test_trained")))
    assert calibration_split("test_trained_varied") == "calibration_varied"
