"""Real images and drawn ones through all steps of a build, by both generators, and into LlamaFactory's stage 1."""

import json

import pytest

from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe
from adcopilot.records import check_record, record_image_sizes

from ..chat_ad.generation.conftest import endpoint  # noqa: F401 - a fixture
from .test_deeppcb_chain import call

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 4


def records(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_deeppcb_and_sample_set_to_stage_1(nursery, deeppcb_root, project_root, endpoint, tmp_path):  # noqa: F811
    written = {
        "kind": "endpoint",
        "url": endpoint.url,
        "model": "local-test",
        "concurrency": 8,
        "image_side": 64,
        "timeout": 30,
    }
    settings = [
        f"datasets.deeppcb.root={deeppcb_root}",
        f"datasets.sample.root={project_root / 'data'}",
        "media_dir=null",
        "shard_images=256",
        f"generator={json.dumps(written)}",
        "outputs.Chat_first_look.generator=annotations",
        "outputs.Caption_first_look.amount=40",
    ]
    output = tmp_path / "data"
    recipe = load_recipe(project_root / "examples/data/deeppcb_and_sample.yaml", settings=settings)
    manifest = build(recipe, output)

    names = ["Caption_first_look", "Chat_first_look"]
    for name, writer in zip(names, ("local-test", "annotations"), strict=True):
        made = records(output / f"{name}.jsonl")
        assert {record["generator"] for record in made} == {writer}
        for record in made:
            check_record(record, name=name, sizes=record_image_sizes(record, name=name, media_dir=output))
    chat = records(output / "Chat_first_look.jsonl")
    assert {record["source"] for record in chat} == {"deeppcb", "sample"}
    assert {record["task"] for record in chat} == {"dialogue", "mc", "loc", "think"}
    assert len(chat) > 250
    assert manifest["datasets"]["deeppcb"]["pairs"] > 180
    assert manifest["datasets"]["sample"]["pairs"] > 40

    call("adcopilot", "init", "--preset", "tiny", "--output", tmp_path / "base", nursery=nursery)
    overrides = [f"model_name_or_path={tmp_path / 'base'}", f"output_dir={tmp_path / 'stage1'}"]
    overrides += [f"dataset_dir={output}", f"media_dir={output}", f"dataset={','.join(names)}"]
    overrides += [f"max_steps={STEPS}", "per_device_train_batch_size=4", "image_max_pixels=3136", "logging_steps=1"]
    overrides += ["cutoff_len=4096", "preprocessing_num_workers=null", "max_samples=40"]
    stage1 = project_root / "examples/train/tiny/stage1.yaml"
    call("llamafactory-cli", "train", stage1, *overrides, nursery=nursery)
    losses = [json.loads(line) for line in (tmp_path / "stage1/trainer_log.jsonl").read_text().splitlines()]
    assert len([line for line in losses if 0 < line.get("loss", 0) < 50]) == STEPS
