"""Which map a line's pictures support: aligned parts, textures, and what labelled ones say."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from adcopilot.anomaly_map.comparing import MapSettings
from adcopilot.line import aligning
from adcopilot.line.aligning import suited_map
from adcopilot.line.pictures import LabelledPicture
from adcopilot.sample.photographs import photographs


def write_tile(file, seed, *, defect=False):
    """A piece of brushed metal, of another size each time."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(72, 140, 2)
    noise = rng.normal(size=(height, width))
    pixels = rng.uniform(90, 150) + 160 * gaussian_filter(noise, (6, 1)) + 6 * gaussian_filter(noise[::-1], 0.8)
    if defect:
        y, x = np.mgrid[:height, :width]
        pixels = np.where((x - width // 2) ** 2 + (y - height // 2) ** 2 < 30, 40, pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    return file


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    for index in range(12):
        write_tile(folder / f"good/{index:03d}.png", index)
    for index in range(3):
        write_tile(folder / f"hole/{index:03d}.png", 100 + index, defect=True)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("parts"), good=10, bad=8)


@pytest.fixture(scope="module", autouse=True)
def each_likeness_once():
    """Of the same pictures it is the same, and takes seconds."""
    once = functools.cache(aligning.likeness)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligning, "likeness", lambda files: once(tuple(files)))
        yield


def pictures(folder):
    return [
        LabelledPicture(file=file, bad=kind != "good", kind="" if kind == "good" else kind)
        for kind in sorted(path.name for path in folder.iterdir() if path.name != "ground_truth")
        for file in sorted((folder / kind).iterdir())
    ]


def of_good(folder):
    return sorted((folder / "good").iterdir())


def test_likeness_tells_parts_from_textures(tiles, parts):
    assert aligning.likeness(of_good(parts)) > 0.7
    assert aligning.likeness(of_good(tiles)) < 0.3
    assert aligning.likeness(of_good(parts)[:1]) is None


def test_good_pictures_alone_choose(tiles, parts):
    for folder, kind in ((tiles, "texture"), (parts, "pixels")):
        good = [one for one in pictures(folder) if not one.bad]
        settings, why = suited_map(good, MapSettings(growth=3), templates=of_good(folder), each=4)
        assert settings == MapSettings(kind=kind, growth=3)
        assert why.startswith("good pictures laid over each other are ")
        assert "AUROC" not in why


def test_enough_defective_ones_choose_by_what_ranks_better(parts, monkeypatch):
    scores = {"pixels": [0.0] * 8 + [1.0] * 8, "texture": [0.0] * 16}

    def results_of(inspector, pairs):
        return zip(pairs, (SimpleNamespace(score=one) for one in scores[inspector.map.kind]), strict=False)

    monkeypatch.setattr(aligning, "results_of", results_of)
    good, bad = ([one for one in pictures(parts) if one.bad == which][:8] for which in (False, True))
    chosen = {"templates": of_good(parts), "each": 4}
    assert suited_map([*good, *bad], MapSettings(), **chosen)[0].kind == "pixels"
    scores["texture"], scores["pixels"] = scores["pixels"], scores["texture"]
    settings, why = suited_map([*good, *bad], MapSettings(), **chosen)
    assert settings.kind == "texture"
    assert "AUROC on the pictures held out: pixels 0.500, texture 1.000; texture is better" in why
    marked = [LabelledPicture(file=one.file, bad=True, marked=True) for one in bad]  # they are for no measure
    assert suited_map([*good, *marked], MapSettings(), **chosen)[0].kind == "pixels"


def test_a_line_of_tiles(tiles, tmp_path, run):
    """Of whatever shape; nobody has to say that they are a texture."""
    line = tmp_path / "line"
    code, _, err = run("adapt", tiles, "--output", line, "--no-train")
    assert code == 0, err
    found = json.loads((line / "inspection.json").read_text())
    assert found["map"] == {"kind": "texture"}
    assert found["templates_each"] == 32
    assert "aligned parts 0.5 or more" in found["made"]["map_because"]
    assert found["metrics"]["auroc"] == 1
    assert found["metrics"]["good"] == 12
    today = tmp_path / "today"
    for index in range(2):
        write_tile(today / f"good{index}.png", 200 + index)
        write_tile(today / f"bad{index}.png", 300 + index, defect=True)
    code, out, _ = run("inspect", "--model", line, "--query-dir", today, "--json")
    assert code == 0
    lines = [json.loads(one) for one in out.splitlines()]
    assert [one["verdict"] for one in lines] == ["anomalous"] * 2 + ["normal"] * 2
    assert all(one["boxes"] for one in lines[:2])


def test_the_command_for_no_folder_makes_the_same_map(tiles, run):
    code, out, _ = run("calibrate", "none", "--good", tiles / "good")
    assert code == 0
    said = out.splitlines()
    assert said[1].startswith("map of texture: good pictures laid over each other are ")
    assert "--query-dir DIR --map texture --threshold" in said[-1]


@pytest.mark.parametrize("option", [("--map", "pixels"), ("--map-search", "3")])
@pytest.mark.parametrize("command", ["calibrate", "adapt"])
def test_pixels_are_taken_where_they_are_asked_for(command, option, tiles, tmp_path, refusal):
    """By name, or by an option that speaks of places."""
    folder = ["none", "--good", tiles / "good"] if command == "calibrate" else [tiles, "--no-train"]
    assert "has another shape than most good pictures" in refusal(
        command, *folder, "--output", tmp_path / "line", *option
    )


def test_both_maps_rank_pictures_as_calibration_does(parts):
    """With templates of their own, and whatever cannot be compared left out."""
    good, bad = ([one for one in pictures(parts) if one.bad == which] for which in (False, True))
    settings, why = suited_map([*good, *bad], MapSettings(), templates=of_good(parts), each=4)
    assert settings.kind == "pixels"
    assert "AUROC on the pictures held out: pixels 1.000, texture " in why
