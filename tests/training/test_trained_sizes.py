"""Training and export write into the folder what sizes the model was trained on, each stage beside those before."""

import json
import shutil
from pathlib import Path

import pytest

from ..helpers.model_folders import change_json
from .conftest import export, train, write_samples

pytest.importorskip("llamafactory")


def sizes(folder):
    return json.loads(Path(folder, "processor_config.json").read_text())["trained_sizes"]


def test_sizes_of_all_stages_reach_the_export(adcopilot_dir, tmp_path):
    assert sizes(adcopilot_dir) == {}  # `adcopilot init`: none yet
    small = write_samples(tmp_path / "small", (2, 1, 2, 2))  # sides of 56 or 84 pixels
    words = write_samples(tmp_path / "words", (0, 0, 0, 0))
    settings = {"max_steps": 1, "per_device_train_batch_size": 2, "save_strategy": "no"}
    first = tmp_path / "first"
    train("tiny", 1, model_name_or_path=str(adcopilot_dir), output_dir=str(first), **small, **settings)
    assert sizes(first)["sides"] == [56, 84]
    assert 56 * 56 <= sizes(first)["pixels"][0] <= sizes(first)["pixels"][1] <= 84 * 84

    # A stage of text alone, on the adapter of the first; images that are enlarged on the way to the model count as it
    # sees them.
    second, large = tmp_path / "second", tmp_path / "large"
    common = {"model_name_or_path": str(adcopilot_dir), "adapter_name_or_path": str(first), **settings}
    train("tiny", 2, output_dir=str(second), **common, **words)
    assert sizes(second) == sizes(first)
    train("tiny", 2, output_dir=str(large), image_min_pixels=200 * 200, **common, **small)
    assert sizes(large)["sides"][0] == 56
    assert sizes(large)["pixels"][1] > 30_000

    merged = tmp_path / "merged"
    export(model_name_or_path=str(adcopilot_dir), adapter_name_or_path=f"{first},{large}", export_dir=str(merged))
    assert sizes(merged) == sizes(large)


def test_where_they_are_not_known_there_is_no_field(adcopilot_dir, tmp_path):
    """A folder that an older version trained: what it was trained on before is not known."""
    old = shutil.copytree(adcopilot_dir, tmp_path / "old")
    change_json(old / "processor_config.json", without=["trained_sizes"])
    settings = {"max_steps": 1, "per_device_train_batch_size": 2, **write_samples(tmp_path / "small", (2, 2))}
    train("tiny", 1, model_name_or_path=str(old), output_dir=str(tmp_path / "out"), **settings)
    assert json.loads((tmp_path / "out/processor_config.json").read_text()).get("trained_sizes") is None
