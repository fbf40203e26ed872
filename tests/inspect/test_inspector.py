"""`adcopilot.Inspector`: what `adcopilot inspect` says, for files, PIL images, arrays; a pair, many, a line's own."""

import ast
import importlib
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adcopilot
from adcopilot import Inspector, Result
from adcopilot.errors import UserError
from adcopilot.images import open_image

from ..helpers.refusals import refused
from .conftest import NEW_TOKENS, defects, part

SHORT = {"device": "cpu", "max_new_tokens": NEW_TOKENS}


@pytest.fixture(scope="module")
def defect(parts):
    return defects(parts)[0]


@pytest.fixture(scope="module")
def model(speaking_dir):
    return Inspector(speaking_dir, **SHORT)


@pytest.fixture(scope="module")
def alone():
    return Inspector("none", threshold=0.1)


@pytest.fixture
def told(inspect):
    """The one line that the command prints as JSON."""

    def told(*words, model="none"):
        code, [line], err = inspect(*words, "--json", model=model)
        assert code == 0, err
        return line

    return told


def test_the_import_is_light():
    code = """
import sys, adcopilot
names = dir(adcopilot)
heavy = {"torch", "numpy", "PIL", "transformers"} & set(sys.modules)
from adcopilot import Result
print(sorted(heavy), "Inspector" in names, "Result" in names, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] True True False"
    assert set(adcopilot.__all__) == {"Inspector", "Result", "__version__"}
    with pytest.raises(AttributeError, match="has no attribute 'Inspectr'"):
        adcopilot.Inspectr  # noqa: B018


@pytest.mark.parametrize("package", ["adcopilot", "adcopilot.inspect"])
def test_type_checkers_see_what_is_loaded_lazily(package):
    """The imports under TYPE_CHECKING are of the names, and from the places, that `__getattr__` knows."""
    module = importlib.import_module(package)
    [block] = [node for node in ast.parse(Path(module.__file__).read_text()).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == module._HOME
    assert set(module._HOME) == set(module.__all__) - {"__version__"}
    for name, home in module._HOME.items():
        assert getattr(importlib.import_module(f".{home}", package), name) is getattr(module, name)


def test_it_says_what_the_command_says(model, speaking_dir, tmp_path, told):
    part(1).save(tmp_path / "good.png")
    part(16, defect=True).save(tmp_path / "query.png")
    pair = ("--template", tmp_path / "good.png", "--query", tmp_path / "query.png")
    options = ("--device", "cpu", "--max-new-tokens", NEW_TOKENS)
    line = told(*pair, *options, "--draw", tmp_path / "drawn.png", model=speaking_dir)
    result = model.inspect(tmp_path / "good.png", str(tmp_path / "query.png"))
    assert isinstance(result, Result)
    assert result.to_dict() == line
    assert list(result.to_dict()) == list(line)
    assert result.text == line["text"] != ""
    assert result.anomaly_map.shape == (56, 84)
    assert result.anomaly_map.dtype == np.float32
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.tobytes() == result.draw().tobytes()
    assert result._repr_png_().startswith(b"\x89PNG")
    without = Inspector(speaking_dir, map="off", **SHORT).inspect(tmp_path / "good.png", tmp_path / "query.png")
    assert without.anomaly_map is None
    assert (without.score, without.text) == (result.score, result.text)


def test_one_picture_in_every_form_is_the_same(alone, parts, defect):
    good = parts / "good/000.png"
    wanted = alone.inspect(good, defect)
    assert wanted.verdict == "anomalous"
    assert wanted.boxes
    pixels = [np.asarray(open_image(one)) for one in (good, defect)]
    forms = {
        "str": (str(good), str(defect)),
        "PIL": [Image.open(one) for one in (good, defect)],
        "array": pixels,
        "not contiguous": [np.asfortranarray(one) for one in pixels],
        "bytes": [one.read_bytes() for one in (good, defect)],
    }
    for name, pair in forms.items():
        found = alone.inspect(*pair)
        assert (found.score, found.boxes, found.size) == (wanted.score, wanted.boxes, wanted.size), name
        assert np.array_equal(found.anomaly_map, wanted.anomaly_map), name
    opencv = [one[..., ::-1] for one in pixels]
    assert alone.inspect(*opencv, channels="bgr").score == wanted.score
    # of arrays alone: a file and a PIL image say their own order
    with Image.open(good) as image:
        for template in (good, image):
            assert alone.inspect(template, opencv[1], channels="bgr").score == wanted.score
    assert alone.inspect(good, opencv[1]).score > 1.2 * wanted.score  # which is why the order is said


def test_grey_arrays_of_8_and_16_bits(alone, tmp_path):
    grey = [np.asarray(part(seed, defect=seed == 16).convert("L")) for seed in (1, 16)]
    wanted = alone.inspect(*(Image.fromarray(one) for one in grey))
    assert alone.inspect(*grey).score == wanted.score
    assert alone.inspect(*(one[..., None] for one in grey)).score == wanted.score
    # a camera of 12 bits: as the command reads its files
    wide = [one.astype(np.uint16) << 4 for one in grey]
    files = [tmp_path / "good.png", tmp_path / "query.png"]
    for file, one in zip(files, wide, strict=True):
        Image.fromarray(one).save(file)
    assert alone.inspect(*wide).score == alone.inspect(*files).score == pytest.approx(wanted.score, rel=0.1)


def test_an_array_may_be_written_over(alone):
    good, query = np.array(part(1)), np.array(part(16, defect=True))
    result = alone.inspect(good, query)
    before = result.draw().tobytes()
    query[:] = 0
    assert result.draw().tobytes() == before
    grey = np.array(part(16, defect=True).convert("L"))
    result = alone.inspect(np.array(part(1).convert("L")), grey)
    before = result.draw().tobytes()
    grey[:] = 0
    assert result.draw().tobytes() == before


RGB = np.full((56, 84, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.astype(np.float32), r"56×84×3 float32: expected uint8; give array.round\(\).astype\('uint8'\)"),
        (RGB / 255, r"float64: expected uint8; give \(array \* 255\).round\(\).astype\('uint8'\)"),
        (RGB / 255 - 0.5, "its values are from -0.14.* undo the normalisation"),
        (RGB * np.nan, "values that are not finite"),
        (RGB.astype(np.int64), r"expected uint8; give array.astype\('uint8'\)"),
        (RGB.astype(np.uint16), r"give \(array >> 8\)"),
        (RGB[..., 0] > 0, r"give array.astype\('uint8'\) \* 255"),
        (RGB.transpose(2, 0, 1), r"channels come first; give array.transpose\(1, 2, 0\)"),
        (np.dstack([RGB, RGB[..., :1]]), r"56×84×4 uint8: what the fourth channel means is not known; give array\["),
        (RGB[..., :2], r"expected 3 channels, or \(H, W\) for grey"),
        (RGB[None], "1×56×84×3 uint8: expected one picture; give a batch to inspect_many"),
        (RGB[:0], "0×84×3 uint8: .* no pixels"),
        (np.array(3), "no dimension"),
        (RGB[:4], "84×4 pixels is too small"),
        (None, "the query is None"),
        (7, "the query is int, expected a path"),
        ([RGB, RGB], "the query is list.*inspect_many"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_what_is_no_picture_is_refused_in_one_line(alone, array, message):
    with refused(message):
        alone.inspect(RGB, array)
    if not message.endswith("too small"):  # a mistake of the program, in a run of many too
        with pytest.raises(UserError, match=message):
            list(alone.inspect_many([(RGB, array)]))


def test_a_tensor_and_another_order_are_refused(alone):
    import torch

    with pytest.raises(UserError, match=r"torch.Tensor.*tensor.cpu\(\).numpy\(\)"):
        alone.inspect(torch.zeros(3, 56, 84), RGB)
    for call in (alone.inspect, lambda a, b, **k: alone.inspect_many([(a, b)], **k)):
        with pytest.raises(UserError, match="channels is 'grb', expected 'rgb' or 'bgr'"):
            call(RGB, RGB, channels="grb")


def test_calls_that_were_meant_otherwise_say_so(alone):
    with pytest.raises(UserError, match=r"the query is None .* inspect_many\("):
        alone.inspect([("good.png", "a.png")])
    with pytest.raises(UserError, match="the template is None"):
        alone.inspect(query=RGB)
    with pytest.raises(UserError, match=r"expected pairs \(template, query\), got str"):
        list(alone.inspect_many("ab"))
    with pytest.raises(UserError, match="list of templates is empty"):
        alone.inspect([], RGB)


def test_a_bad_file_raises_alone_and_is_a_result_among_many(model, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    good = part(1)
    with pytest.raises(UserError, match=r"empty.png: the image file is empty"):
        model.inspect(good, tmp_path / "empty.png")
    pairs = [(good, part(16)), (good, tmp_path / "empty.png"), (good, part(17, defect=True))]
    first, bad, last = model.inspect_many(pairs)
    assert (first.verdict, last.verdict) != (None, None)
    assert bad.error.startswith(f"{tmp_path / 'empty.png'}: the image file is empty")
    assert (bad.verdict, bad.anomalous, bad.score, bad.boxes) == ("undecided", None, None, [])
    alone = [one.score for one in model.inspect_many(pairs[::2])]
    assert [first.score, last.score] == pytest.approx(alone, abs=1e-5)
    assert bad._repr_png_() is None
    assert list(bad.to_dict())[-1] == "error"
    assert list(model.inspect_many([])) == []


def test_pairs_are_read_lazily(alone):
    read = []

    def endless():
        while True:
            read.append(1)
            yield part(1), part(16)

    results = alone.inspect_many(endless())
    assert next(results).error is None
    assert len(read) < 50
    results.close()


def test_several_templates_are_for_the_map(alone, parts):
    good = sorted((parts / "good").iterdir())
    one, several = (alone.inspect(good[1:count], good[0]) for count in (2, 5))
    assert several.score < one.score
    assert several.template == str(good[1])


def test_templates_of_a_folder(parts, defect, told):
    from_folder = Inspector("none", template_dir=parts / "good", map_templates=3)
    assert "compared with each other" in from_folder.threshold_from
    line = told("--template-dir", parts / "good", "--map-templates", 3, "--query", defect)
    assert from_folder.inspect(query=defect).to_dict() == line
    # the same picture without a name
    found = from_folder.inspect(query=np.asarray(open_image(defect)))
    assert {**found.to_dict(), "query": str(defect)} == line
    assert found.draw().size == from_folder.inspect(query=defect).draw().size
    both = list(from_folder.inspect_many([(None, defect), (None, parts / "gone.png"), (None, defect)]))
    assert [one.error is None for one in both] == [True, False, True]


def test_templates_that_cannot_be_used_are_told_once(parts, defect, tmp_path):
    folder = tmp_path / "good"
    shutil.copytree(parts / "good", folder)
    for name in ("x.heic", "y.png"):
        (folder / name).write_bytes(b"nothing")
    inspector = Inspector("none", template_dir=folder)
    with pytest.warns(UserWarning, match="left out as a template: .*") as told:
        inspector.inspect(query=defect)
    first, second = (str(one.message) for one in told if "left out" in str(one.message))
    assert "x.heic: a photograph in a format" in first
    assert "y.png: damaged at its start" in second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspector.inspect(query=defect)


def test_a_line_brings_templates_threshold_and_map(parts, defect, tmp_path, run, told):
    line = tmp_path / "line"
    assert run("calibrate", "none", "--good", parts / "good", "--map-templates", 2, "--output", line)[0] == 0
    inspector = Inspector(line)
    wanted = told("--query", defect, model=line)
    result = inspector.inspect(query=defect)
    assert result.to_dict() == wanted
    assert (result.verdict, result.verdict_from) == ("anomalous", "map")
    assert inspector.threshold_from == json.loads((line / "inspection.json").read_text())["threshold_from"]
    assert Inspector(line, threshold=5).inspect(query=defect).verdict == "normal"
    with pytest.warns(UserWarning, match="was found with other map settings"):
        other = Inspector(line, map_templates=1)
    assert "compared with each other" in other.threshold_from  # as the command does
    assert other.engine.judge.map_threshold != inspector.engine.judge.map_threshold


def test_whose_verdict_it_is_is_in_the_dictionary(deciding_dir, parts, defect, told):
    good = parts / "good/000.png"
    options = {"device": "cpu", "max_new_tokens": 1, "verdict_from": "map", "threshold": 0.01}
    words = ("--verdict-from", "map", "--threshold", 0.01, "--device", "cpu", "--max-new-tokens", 1)
    line = told("--template", good, "--query", defect, *words, model=deciding_dir)
    result = Inspector(deciding_dir, **options).inspect(good, defect)
    assert result.to_dict() == line
    assert result.to_dict()["verdict_from"] == "map"
    assert Result.from_dict({**line, "category": "nut"}).to_dict() == line  # as `inspect --mvtec` stores it


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("none", {"map": "off"}, "nothing is left to inspect with"),
        ("none", {"hints": "map"}, "hints is 'map', expected 'map' with a model"),
        ("none", {"verdict_from": "model"}, "there is no model here"),
        ("none", {"map_templates": 65}, "--map-templates is 65"),
        ("nowhere", {}, "nowhere: no such model folder; give a folder that"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_inspect_is_said_in_one_line(model, options, message):
    with pytest.raises(UserError, match=message):
        Inspector(model, **options)


def test_a_result_of_a_stored_line_draws_its_files(alone, parts, defect):
    result = alone.inspect(parts / "good/000.png", defect)
    again = Result.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.anomaly_map is None
    assert again.draw().size < result.draw().size  # all but the map
    gone = Result.from_dict({**result.to_dict(), "query": "gone.png"})
    assert gone._repr_png_() is None
    with pytest.raises(UserError, match=r"gone\.png: no such image file"):
        gone.draw()
    assert "AnomalyMap" not in repr(result)
