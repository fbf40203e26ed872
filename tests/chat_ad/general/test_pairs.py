"""CLEVR-Change, Spot-the-diff and MagicBrush: the right captions, boxes and splits; every bad input named."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from adcopilot.boxes import parse_boxes
from adcopilot.chat_ad.general.magicbrush import edited_region, region_boxes
from adcopilot.chat_ad.general.source import Rejected
from adcopilot.records import check_record, record_image_sizes

from .conftest import BRUSH_SCHEMA, brush_row, mask_png, png, write, write_parquet


def answer(record):
    return record["messages"][1]["content"]


def question(record):
    return record["messages"][0]["content"]


def test_clevr_pairs_have_their_own_captions_and_boxes_of_the_second_image(place, clevr):
    assert place.run("clevr-change", clevr, "--amount", "all") == 0
    records = {record["key"]: record for record in place.records("CLEVR-Change")}
    # Scenes 0–5, each with a change and without; not those of val and test.
    assert sorted(records) == sorted(f"CLEVR-Change/{k}/{i}" for k in ("semantic", "nonsemantic") for i in range(6))
    labels = {1: "changed colour", 2: "changed material", 3: "added object", 4: "moved object", 5: "changed colour"}
    asked = 0
    for index in range(6):
        kind = ["drop", "color", "material", "add", "move", "color"][index]
        same, changed = records[f"CLEVR-Change/nonsemantic/{index}"], records[f"CLEVR-Change/semantic/{index}"]
        assert same["images"] == [
            f"clevr/data/images/CLEVR_default_{index:06d}.png",
            f"clevr/data/nsc_images/CLEVR_nonsemantic_{index:06d}.png",
        ]
        assert changed["images"][1] == f"clevr/data/sc_images/CLEVR_semantic_{index:06d}.png"
        assert (answer(same), same["boxes"]) == (f"Nothing {index}.", [])
        # [x, y, w, h] → corners; what vanished (scene 0) is nowhere in the second image.
        assert changed["boxes"] == ([[10 + index, 5, 22 + index, 14]] if index else [])
        caption, _, tail = answer(changed).partition(" [{")
        assert caption in (f"The {kind} number {index}.", f"Somebody did {kind} {index}.")
        if tail:
            asked += 1
            assert parse_boxes(answer(changed)) == [{"bbox_2d": changed["boxes"][0], "label": labels[index]}]
        assert bool(tail) == ("box" in question(changed))
        for record in (same, changed):
            sizes = record_image_sizes(record, name=record["key"], media_dir=place.media)
            check_record(record, name=record["key"], sizes=sizes)
            assert (record["task"], record["source"], record["answer"]) == ("caption", "CLEVR-Change", answer(record))
    assert 0 < asked < 5


def test_clevr_box_share_decides_who_is_asked_and_nothing_else(place, clevr):
    runs = {}
    for share in (0, 1):
        place.run("clevr-change", clevr, "--amount", "all", "--box-share", share, "--overwrite")
        runs[share] = place.records("CLEVR-Change")
    assert [record["key"] for record in runs[0]] == [record["key"] for record in runs[1]]
    for without, with_box in zip(runs[0], runs[1], strict=True):
        assert "bbox_2d" not in answer(without)
        assert ("bbox_2d" in answer(with_box)) == bool(with_box["boxes"])
        assert answer(with_box).startswith(answer(without))
        assert question(with_box).startswith(question(without))


def test_clevr_test_split_only_when_asked_for(place, clevr):
    assert place.run("clevr-change", clevr, "--amount", "all", "--include-test") == 0
    assert {record["key"].rsplit("/", 1)[1] for record in place.records("CLEVR-Change")} == set("01234567")


def test_clevr_box_over_the_edge_ends_with_the_image_and_one_outside_is_a_problem(place, clevr, capsys):
    path = clevr / "data/change_captions_with_bbox.json"
    boxes = json.loads(path.read_text())
    boxes["1"]["bbox_after"] = [-4, 30, 20, 20]  # of 48×36
    path.write_text(json.dumps(boxes))
    assert place.run("clevr-change", clevr, "--amount", "all") == 0
    found = {record["key"]: record["boxes"] for record in place.records("CLEVR-Change")}
    assert found["CLEVR-Change/semantic/1"] == [[0, 30, 16, 36]]
    for value, says in (([48, 0, 5, 5], "lies outside 48×36"), ([1, 2, 3], "expected [x, y, width, height]")):
        boxes["1"]["bbox_after"] = value
        path.write_text(json.dumps(boxes))
        capsys.readouterr()
        assert place.run("clevr-change", clevr, "--amount", "all", "--overwrite") == 2
        assert says in capsys.readouterr().err


def test_clevr_keys_may_be_numbers_or_names(place, clevr):
    path = clevr / "data/change_captions.json"
    captions = json.loads(path.read_text())
    path.write_text(json.dumps({str(int(re.search(r"(\d+)\.png", key)[1])): value for key, value in captions.items()}))
    assert place.run("clevr-change", clevr / "data", "--amount", "all") == 0  # `data` itself will do, too
    assert len(place.records("CLEVR-Change")) == 12


def test_missing_images_stop_the_run_before_anything_is_written_unless_skipped(place, clevr, capsys):
    (clevr / "data/sc_images/CLEVR_semantic_000003.png").unlink()
    (clevr / "data/images/CLEVR_default_000004.png").write_bytes(b"")
    assert place.run("clevr-change", clevr, "--amount", "all") == 2
    error = capsys.readouterr().err
    assert "3 of 12 items cannot be used (2 empty image, 1 missing image)" in error
    assert "CLEVR_semantic_000003.png" in error
    assert "--skip-problems" in error
    assert not (place.output / "CLEVR-Change.jsonl").exists()
    assert len(place.dropped("CLEVR-Change")) == 3
    assert place.run("clevr-change", clevr, "--amount", "all", "--skip-problems") == 0
    assert len(place.records("CLEVR-Change")) == 9
    assert place.manifest("CLEVR-Change")["dropped"]["problems"] == {"empty image": 2, "missing image": 1}
    assert sorted(place.dropped("CLEVR-Change")) == [
        ("nonsemantic/4", "read", "empty image"),
        ("semantic/3", "read", "missing image"),
        ("semantic/4", "read", "empty image"),
    ]


def test_an_image_that_only_breaks_when_opened_is_replaced_by_the_next_in_the_draw(place, clevr, capsys):
    assert place.run("clevr-change", clevr, "--amount", "all") == 0
    order = [record["key"].removeprefix("CLEVR-Change/") for record in place.records("CLEVR-Change")]
    kind, index = order[1].split("/")
    folder = {"semantic": "sc_images", "nonsemantic": "nsc_images"}[kind]
    (clevr / f"data/{folder}/CLEVR_{kind}_{int(index):06d}.png").write_bytes(b"not an image")
    assert place.run("clevr-change", clevr, "--amount", 3, "--overwrite") == 2
    assert "1 unreadable image" in capsys.readouterr().err
    assert place.run("clevr-change", clevr, "--amount", 3, "--overwrite", "--skip-problems") == 0
    keys = [record["key"].removeprefix("CLEVR-Change/") for record in place.records("CLEVR-Change")]
    assert keys == [order[0], order[2], order[3]]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("change_captions.json", b'{"a', "not JSON"),
        ("change_captions.json", b"[]", "holds a JSON list, expected an object"),
        ("change_captions.json", b'{"x": []}', "key 'x', expected a scene"),
        ("splits.json", b'{"train": 3}', "no list 'train'"),
        ("splits.json", b'{"train": ["a"]}', "splits.json lists 'a'"),
        ("no_change_captions.json", None, "has no data/no_change_captions.json or no_change_captions.json"),
    ],
)
def test_clevr_broken_files_are_named(place, clevr, capsys, file, content, says):
    path = clevr / "data" / file
    path.unlink() if content is None else path.write_bytes(content)
    assert place.run("clevr-change", clevr) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error


def test_spot_the_diff_has_an_item_for_each_person_and_keeps_the_test_split_out(place, spot):
    assert place.run("spot-the-diff", spot) == 0
    records = {record["key"]: record for record in place.records("Spot-the-diff")}
    assert {key: answer(record) for key, record in records.items()} == {
        "Spot-the-diff/train/0": "A car has left. The person moved.",
        "Spot-the-diff/train/2": "No differences.",
        "Spot-the-diff/val/0": "A truck is new.",
    }
    assert records["Spot-the-diff/val/0"]["images"] == [
        "spot-the-diff/resized_images/13.png",
        "spot-the-diff/resized_images/13_2.png",
    ]
    assert question(records["Spot-the-diff/val/0"]).startswith("<image><image>")
    # Two people about pair 11: one names a difference, so the other's "no difference" is not taught.
    assert place.dropped("Spot-the-diff") == [("train/1", "filter", "contradicts another description")]
    manifest = place.manifest("Spot-the-diff")
    assert manifest["options"] == {"splits": ["train", "val"], "images": "spot-the-diff/resized_images/"}
    assert manifest["amount"] == 12_500
    assert place.run("spot-the-diff", spot, "--include-test", "--overwrite") == 0
    assert "Spot-the-diff/test/0" in {record["key"] for record in place.records("Spot-the-diff")}


@pytest.mark.parametrize(
    ("said", "nothing"),
    [
        ("there is no difference", True),
        ("i see no differences between these", True),
        ("no visible changes at all", True),
        ("no differnces", True),
        ("nothing seems to have changed", True),
        ("everything is the same", True),
        ("both look exactly the same", True),
        ("i do not see any noticeable differences here", True),
        ("i don t see a difference", True),
        ("could not locate any changes", True),
        ("there is no person at the gate", False),
        ("the car is no longer there", False),
        ("the man has changed his place", False),
        ("a different car is not in the lot", False),
        ("cars appear to be identical in both images", False),
        ("the van is not in the same place", False),
    ],
)
def test_spot_the_diff_knows_who_sees_nothing(place, spot, said, nothing):
    entries = [{"img_id": "12", "sentences": ["a bus has come"]}, {"img_id": "12", "sentences": [said]}]
    write(spot / "data/annotations/train.json", entries)
    assert place.run("spot-the-diff", spot) == 0
    assert len(place.records("Spot-the-diff")) == (2 if nothing else 3)
    # Somebody who sees nothing and something at once has seen something.
    entries[1]["sentences"].append("a dog is new")
    write(spot / "data/annotations/train.json", entries)
    assert place.run("spot-the-diff", spot, "--overwrite") == 0
    assert len(place.records("Spot-the-diff")) == 3


@pytest.mark.parametrize(
    ("sentences", "written"),
    [
        (["the man s car isn t there", "i can t see it "], "The man's car isn't there. I can't see it."),
        (["1 a car left", "2 a man came", "3. the gate is open"], "A car left. A man came. The gate is open."),
        (["1 car left", "a man came"], "1 car left. A man came."),
        (["2 cars left"], "2 cars left."),
        (["is it gone?", "YES!"], "Is it gone? YES!"),
    ],
)
def test_spot_the_diff_sentences_are_put_right(place, spot, sentences, written):
    write(spot / "data/annotations/train.json", [{"img_id": "12", "sentences": sentences}])
    assert place.run("spot-the-diff", spot) == 0
    assert written in [answer(record) for record in place.records("Spot-the-diff")]


def test_spot_the_diff_a_test_pair_in_another_split_stays_out(place, spot):
    write(spot / "data/annotations/val.json", [{"img_id": "14", "sentences": ["a sly copy"]}])
    assert place.run("spot-the-diff", spot) == 0
    assert ("val/0", "filter", "pair of the test split") in place.dropped("Spot-the-diff")
    assert "14" not in "".join(path for record in place.records("Spot-the-diff") for path in record["images"])


def test_spot_the_diff_broken_entries(place, spot, capsys):
    entries = [
        {"img_id": 3, "sentences": ["a"]},
        {"img_id": "12", "sentences": ["", " "]},
        {"img_id": "../../secret", "sentences": ["a"]},
        "text",
        {"img_id": "12", "sentences": ["a man <|im_end|> walks"]},
    ]
    write(spot / "data/annotations/train.json", entries)
    assert place.run("spot-the-diff", spot) == 2
    error = capsys.readouterr().err
    assert "3 of 6 items cannot be used (2 broken item, 1 image outside the folder)" in error
    assert f"{spot / 'data/annotations/train.json'}: entry 1" in error
    assert place.run("spot-the-diff", spot, "--skip-problems") == 0
    assert len(place.records("Spot-the-diff")) == 1
    reasons = place.manifest("Spot-the-diff")["dropped"]
    assert reasons["filters"] == {"empty text": 1, "special token in a text": 1}


def test_magicbrush_from_parquet_writes_the_images_and_boxes_the_transparent_region(place, brush):
    assert place.run("magicbrush", brush, "--box-share", 1, "--amount", "all") == 0
    records = {record["key"]: record for record in place.records("MagicBrush")}
    assert sorted(records) == [f"MagicBrush/{key}" for key in ("1/1", "1/2", "2/1", "3/1", "3/2")]
    first = records["MagicBrush/1/1"]
    assert first["images"] == ["chat_ad/MagicBrush/1-1-before.png", "chat_ad/MagicBrush/1-1-after.png"]
    assert (place.media / first["images"][0]).read_bytes() == png(100, 80, seed=1)
    assert (place.media / first["images"][1]).read_bytes() == png(100, 80, seed=1001)
    # Of the mask that is three times as large too: boxes are pixels of the edited image.
    assert [records[f"MagicBrush/{key}"]["boxes"] for key in ("1/1", "1/2", "2/1")] == [
        [[20, 30, 60, 50]],
        [[0, 0, 10, 10]],
        [[20, 30, 60, 50]],
    ]
    assert answer(first) == 'Add a hat to number 1, turn 1. [{"bbox_2d": [20, 30, 60, 50], "label": "edited region"}]'
    mask = np.asarray(Image.open(place.media / first["mask"]))
    assert (mask == 255).sum() == 40 * 20
    assert (mask[30:50, 20:60] == 255).all()
    for record in records.values():
        sizes = record_image_sizes(record, name=record["key"], media_dir=place.media)
        check_record(record, name=record["key"], sizes=sizes)


def test_magicbrush_unpacked_gives_the_same_boxes_and_copies_no_image(place, brush):
    root = place.media / "unpacked"
    sessions = {}
    for number, turn in ((1, 1), (1, 2)):
        row = brush_row(number, turn)
        names = {"input": f"{number}-input{turn}.png", "output": f"{number}-output{turn}.png"}
        names |= {"mask": f"{number}-mask{turn}.png"} if turn == 1 else {}
        for field, column in (("input", "source_img"), ("output", "target_img"), ("mask", "mask_img")):
            if field in names:
                write(root / f"images/{number}/{names[field]}", row[column]["bytes"])
        sessions.setdefault(str(number), []).append({**names, "instruction": row["instruction"]})
    write(root / "edit_sessions.json", sessions)
    assert place.run("magicbrush", root, "--amount", "all", "--box-share", 0) == 0
    records = {record["key"]: record for record in place.records("MagicBrush")}
    assert records["MagicBrush/1/1"]["images"] == ["unpacked/images/1/1-input1.png", "unpacked/images/1/1-output1.png"]
    assert records["MagicBrush/1/1"]["boxes"] == [[20, 30, 60, 50]]
    assert (records["MagicBrush/1/2"]["boxes"], records["MagicBrush/1/2"]["mask"]) == ([], "")
    assert [path.name for path in (place.output / "MagicBrush").iterdir()] == ["1-1-mask.png"]


def test_magicbrush_bad_rows_are_named(place, capsys):
    root = place.media / "bad"
    rows = [
        brush_row(1, 1),
        brush_row(2, 1, instruction="  "),
        brush_row(3, 1, target_img=None),
        brush_row(4, 1, source_img={"bytes": b"GIF89a", "path": None}),
        brush_row(5, 1, mask_img={"bytes": mask_png(100, 40, (0, 0, 9, 9)), "path": None}),
        brush_row(6, 1, mask_img={"bytes": png(100, 80), "path": None}),
        brush_row(7, 1, img_id="../../etc/x"),
        brush_row(8, 1, mask_img=None),
    ]
    write_parquet(root / "data/train-0.parquet", rows, BRUSH_SCHEMA)
    assert place.run("magicbrush", root, "--amount", "all") == 2
    assert place.run("magicbrush", root, "--amount", "all", "--skip-problems") == 0
    assert {record["key"] for record in place.records("MagicBrush")} == {"MagicBrush/1/1", "MagicBrush/8/1"}
    assert {key: reason for key, _, reason in place.dropped("MagicBrush")} == {
        "2/1": "empty text",
        "3/1": "missing image",
        "4/1": "unreadable image",
        "5/1": "mask of another shape",
        "6/1": "mask of unknown form",
        "../../etc/x/1": "broken item",
    }
    assert not list(place.media.rglob("*etc*"))


def test_magicbrush_masks_of_each_form():
    box = (slice(3, 12), slice(10, 30))
    black = np.zeros((40, 60), np.uint8)
    black[box] = 255
    buffer = io.BytesIO()
    Image.fromarray(black).save(buffer, "png")
    for content in (mask_png(60, 40, (10, 3, 30, 12)), buffer.getvalue()):
        found = edited_region(content, (60, 40), name="m")
        assert found.sum() == 9 * 20
        assert found[box].all()
    with pytest.raises(Rejected, match="unreadable"):
        edited_region(buffer.getvalue()[:60], (60, 40), name="m")


def test_region_boxes_join_hairlines_and_drop_specks_and_everything():
    mask = np.zeros((100, 100), bool)
    mask[10:40, 10:40] = True
    mask[24, 10:40] = False  # between two strokes
    mask[70:90, 70:95] = True
    mask[60, 5] = True
    assert region_boxes(mask) == [[10, 10, 40, 40], [70, 70, 95, 90]]
    assert region_boxes(np.ones((50, 50), bool)) == []
    assert region_boxes(np.zeros((50, 50), bool)) == []


def test_images_outside_media_dir_are_refused_and_a_link_inside_it_is_not(place, clevr, tmp_path, capsys):
    outside = tmp_path / "elsewhere"
    clevr.rename(outside)
    assert place.run("clevr-change", outside) == 2
    assert "not inside --media-dir" in capsys.readouterr().err
    (place.media / "linked").symlink_to(outside)
    assert place.run("clevr-change", place.media / "linked", "--amount", "all") == 0
    assert all(path.startswith("linked/data/") for path in place.records("CLEVR-Change")[0]["images"])
    # A single image that is a link out of the data set is not followed.
    image = outside / "data/images/CLEVR_default_000002.png"
    image.rename(tmp_path / "secret.png")
    image.symlink_to(tmp_path / "secret.png")
    assert place.run("clevr-change", place.media / "linked", "--amount", "all", "--overwrite") == 2
    assert "2 image outside the folder" in capsys.readouterr().err
