"""`adcopilot data build`: what comes out of a recipe, and that nothing is done twice or lost."""

import json

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.pipeline.candidates import choose_task, possible_tasks
from adcopilot.chat_ad.sources.references import mask_components
from adcopilot.cli import main
from adcopilot.errors import UserError
from adcopilot.records import check_record, record_image_sizes
from adcopilot.tasks import task_of

from ..builds import RECIPE, final_files, records, run, write_recipe
from ..pictures import picture, save


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(output folder, manifest) of `RECIPE`."""
    folder = tmp_path_factory.mktemp("built")
    manifest = run(write_recipe(folder), folder / "out")
    return folder / "out", manifest


def test_records_are_right(built):
    output, _ = built
    tasks = set()
    for record in [*records(output / "Caption_parts.jsonl"), *records(output / "Chat_parts.jsonl")]:
        sizes = record_image_sizes(record, name="record", media_dir=output)
        check_record(record, name="record", sizes=sizes)
        assert sizes[0] == sizes[1]
        assert {"messages", "images", "task", "answer", "boxes", "mask", "source"} <= record.keys()
        tasks.add(record["task"])
        if record["anomalous"]:
            with Image.open(output / record["mask"]) as opened:
                mask = np.asarray(opened) > 0
            assert mask.shape == sizes[1][::-1]
            assert [list(one.box) for one in mask_components(mask)] == record["boxes"] != []
        else:
            assert not record["mask"]
            assert not record["boxes"]
        if record["task"] == "loc":
            assert [one["bbox_2d"] for one in json.loads(record["answer"])] == record["boxes"]
    assert tasks == {"caption", "dialogue", "mc", "loc", "think"}


def test_the_defect_is_where_the_box_says(built):
    output, _ = built
    checked = 0
    for record in records(output / "Chat_parts.jsonl"):
        if record["anomalous"] and record["source"] == "parts":  # lossless
            x1, y1, x2, y2 = record["boxes"][0]
            template, query = (np.asarray(Image.open(output / name)) for name in record["images"])
            assert (query[y1:y2, x1:x2] == 250).all()
            assert not (template[y1:y2, x1:x2] == 250).all()
            checked += 1
    assert checked >= 2


def test_counting_is_asked_of_what_can_be_counted(tmp_path):
    """A task that is whole in `adcopilot.tasks` needs nothing here but its name in a recipe."""
    outputs = {"Count_parts": {"datasets": "parts", "tasks": {"count": 1}}}
    parts = {"reader": "mvtec", "filter": {"allow": ["blurred"]}}
    manifest = run(write_recipe(tmp_path, {"datasets": {"parts": parts}, "outputs": outputs}), tmp_path / "out")
    made = records(tmp_path / "out/Count_parts.jsonl")
    assert manifest["outputs"]["Count_parts"]["tasks"] == {"count": len(made)}
    assert {record["anomalous"] for record in made} == {True, False}
    for record in made:
        assert task_of(record).name == record["task"] == "count"
        assert int(record["answer"]) == len(record["boxes"])
        assert record["generator"] == "annotations"


def test_amounts_and_tasks(built):
    output, manifest = built
    assert len(records(output / "Caption_parts.jsonl")) == 5
    assert manifest["outputs"]["Caption_parts"]["tasks"] == {"caption": 5}
    chat = records(output / "Chat_parts.jsonl")
    found = manifest["outputs"]["Chat_parts"]
    assert found["records"] == len(chat) == found["available"] == sum(found["tasks"].values())
    assert len({tuple(record["images"]) for record in chat}) == len(chat)
    assert {record["source"] for record in chat} == {"parts", "again"}


def test_every_image_is_in_a_pair_or_listed(built):
    output, manifest = built
    for name in ("parts", "again"):
        counts = manifest["datasets"][name]
        listed = records(output / "datasets" / f"{name}.dropped.jsonl")
        assert counts["pairs"] + sum(one.get("left_out", True) for one in listed) == counts["images"]
        assert all({"step", "image", "reason"} <= one.keys() for one in listed)


def test_a_second_run_makes_again_what_was_lost_or_damaged_and_nothing_else(tmp_path):
    recipe = write_recipe(tmp_path)
    run(recipe, tmp_path / "out")
    before = final_files(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".work").rglob("*.parquet")}
    run(recipe, tmp_path / "out")
    assert final_files(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for number, path in enumerate(sorted(times)):
        if number % 3 == 0:
            path.unlink()
        elif number % 3 == 1:
            path.write_bytes(path.read_bytes()[:100])
    image = next((tmp_path / "out" / "images").rglob("*.png"))
    image.unlink()
    run(recipe, tmp_path / "out")
    assert final_files(tmp_path / "out") == before


def test_changed_source_changes_what_depends_on_it(tmp_path):
    recipe = write_recipe(tmp_path)
    first = run(recipe, tmp_path / "out")
    save(tmp_path / "source/mvtec/wood/test/good/001.png", picture(b"another"))
    second = run(recipe, tmp_path / "out")
    assert second["datasets"]["parts"]["index_digest"] != first["datasets"]["parts"]["index_digest"]
    fresh = tmp_path / "fresh"
    run(recipe, fresh)
    files = final_files(tmp_path / "out")
    assert final_files(fresh) == {name: files[name] for name in final_files(fresh)}


def test_paths_are_those_of_the_caller(tmp_path, monkeypatch):
    recipe = json.loads(json.dumps(RECIPE))
    for one in recipe["datasets"].values():
        one["root"] = "source/mvtec"
    path = write_recipe(tmp_path, recipe, media_dir=".")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "build", path.name, "--output", "data/out", "--workers", "2"]) == 0
    made = records(tmp_path / "data/out/Chat_parts.jsonl")
    assert all(name.startswith("data/out/images/") for record in made for name in record["images"])
    assert all((tmp_path / name).is_file() for record in made for name in record["images"])


def test_media_dir_and_originals(tmp_path):
    recipe = json.loads(json.dumps(RECIPE))
    recipe["datasets"] = {"raw": {"reader": "mvtec", "images": {"originals": True}, "filter": False}}
    recipe["outputs"] = {"Caption_raw": {"datasets": "raw", "tasks": "caption"}}
    path = write_recipe(tmp_path, recipe, media_dir=str(tmp_path))
    run(path, tmp_path / "data" / "out")
    made = records(tmp_path / "data/out/Caption_raw.jsonl")
    assert made
    for record in made:
        assert all(name.startswith("source/mvtec/") for name in record["images"])
        check_record(record, name="r", sizes=record_image_sizes(record, name="r", media_dir=tmp_path))
    assert not (tmp_path / "data/out/images").exists()


def test_only_what_is_drawn_is_cut(tmp_path):
    recipe = {**RECIPE, "outputs": {"Few": {"datasets": ["parts", "again"], "tasks": "mc", "amount": 2}}}
    manifest = run(write_recipe(tmp_path, recipe), tmp_path / "out")
    assert manifest["outputs"]["Few"]["records"] == 2 < manifest["outputs"]["Few"]["available"]
    assert len(list((tmp_path / "out/images").rglob("*.*"))) <= 4


def test_larger_amount_begins_with_the_smaller(tmp_path):
    """LlamaFactory's max_samples takes the first ones: they must be a draw, not the first category."""
    lines = {}
    for amount in (3, 7, 20):
        recipe = {
            **RECIPE,
            "outputs": {"Some": {"datasets": ["parts", "again"], "tasks": "caption", "amount": amount}},
        }
        run(write_recipe(tmp_path, recipe), tmp_path / "out")
        lines[amount] = [record["images"] for record in records(tmp_path / "out/Some.jsonl")]
    assert lines[20][:7] == lines[7]
    assert lines[7][:3] == lines[3]
    assert lines[20] != sorted(lines[20])
    assert len({name.split("/")[1] for images in lines[7] for name in images}) == 2


def test_pair_that_cannot_be_cut_is_listed_and_replaced(tmp_path, monkeypatch):
    from adcopilot.chat_ad.pipeline import cut

    real = cut.cut_pair

    def fail(root, row, **opened):
        if "/good/" in row["image"]:
            raise UserError(f"{row['image']}: went away")
        return real(root, row, **opened)

    monkeypatch.setattr(cut, "cut_pair", fail)
    manifest = run(write_recipe(tmp_path), tmp_path / "out")
    found = manifest["outputs"]["Chat_parts"]
    listed = records(tmp_path / "out/Chat_parts.dropped.jsonl")
    assert listed
    assert found["records"] + len(listed) == found["drawn"] == found["available"]
    assert all("cannot be cut" in one["detail"] and "went away" in one["detail"] for one in listed)


def test_recipes_share_a_folder(tmp_path):
    recipe = json.loads(json.dumps(RECIPE))
    second = {**recipe, "outputs": {"Chat_more": {"datasets": ["parts", "again"], "tasks": "mc"}}}
    run(write_recipe(tmp_path), tmp_path / "out")
    path = tmp_path / "more.yaml"
    write_recipe(tmp_path, second).rename(path)
    manifest = run(path, tmp_path / "out")
    assert set(manifest["outputs"]) == {"Caption_parts", "Chat_parts", "Chat_more"}
    assert manifest["outputs"]["Chat_parts"]["recipe"] == "recipe"
    assert set(json.loads((tmp_path / "out/dataset_info.json").read_text())) == set(manifest["outputs"])


def test_refused_pairs_are_replaced_and_listed(tmp_path, monkeypatch):
    from adcopilot.chat_ad.generation import Refused
    from adcopilot.chat_ad.generation.annotations import AnnotationsGenerator

    honest = AnnotationsGenerator.generate
    refused = []

    async def generate(self, pair, step, context):
        if int(pair.key, 16) % 2:
            refused.append(pair.key)
            raise Refused("not this one")
        return await honest(self, pair, step, context)

    monkeypatch.setattr(AnnotationsGenerator, "generate", generate)
    manifest = run(write_recipe(tmp_path), tmp_path / "out")
    found = manifest["outputs"]["Caption_parts"]
    listed = records(tmp_path / "out/Caption_parts.dropped.jsonl")
    assert listed
    assert {one["detail"] for one in listed} == {"not this one"}
    assert found["drawn"] == found["records"] + len(listed)
    assert found["records"] == 5 or found["drawn"] == found["available"]


def test_tasks_are_drawn_by_weight_among_the_possible():
    assert "loc" not in possible_tasks("normal", 0)
    assert possible_tasks("anomalous", 0) == ("dialogue", "mc", "think", "verdict")
    assert "loc" in possible_tasks("anomalous", 3)
    assert "loc" not in possible_tasks("anomalous", 65)
    assert choose_task({"loc": 1.0}, possible_tasks("normal", 0), 0, "x", "y") is None
    drawn = [choose_task({"mc": 1.0, "loc": 3.0}, ("mc", "loc"), 0, "x", str(n)) for n in range(4000)]
    assert abs(drawn.count("loc") / 4000 - 0.75) < 0.03
