"""`adcopilot data index`: the table, its resumption, and what it says when something is wrong."""

import json
import shutil
import threading
from collections import Counter

import pytest

from adcopilot.chat_ad.commands import index as index_command
from adcopilot.chat_ad.commands.index import build_index
from adcopilot.chat_ad.readers import index
from adcopilot.chat_ad.table import read_entries, read_metadata, table_root
from adcopilot.cli import main
from adcopilot.errors import UserError

from . import trees
from .trees import DATASETS, LAYOUTS, build, mask_of, picture, save


def problems_of(output):
    return [json.loads(line) for line in open(f"{output}.problems.jsonl", encoding="utf-8")]


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of three images, so that a small tree has several."""
    monkeypatch.setattr(index_command, "PART_ITEMS", 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_writes_what_the_reader_finds(layout, tmp_path, capsys):
    root = build(layout, tmp_path)
    output = tmp_path / "out/table.parquet"
    assert main(["data", "index", DATASETS[layout], "--root", str(root), "--output", str(output)]) == 0
    entries = list(index(DATASETS[layout], root, problems=[]))
    assert list(read_entries(output)) == entries
    assert table_root(output) == root
    metadata = read_metadata(output)
    assert (metadata["dataset"], metadata["version"]) == (DATASETS[layout], "2")
    said = capsys.readouterr().out
    labels = Counter(entry.label for entry in entries)
    assert f"{len(entries)} images of" in said
    assert f"{labels['normal']} normal and {labels['anomalous']} anomalous" in said
    assert not (tmp_path / "out/table.parquet.parts").exists()


def test_what_was_found_and_passed_over_is_said(tmp_path, capsys):
    root = build("ds-mvtec", tmp_path)
    main(["data", "index", "mvtec", "--root", str(root), "--output", str(tmp_path / "t.parquet")])
    said = capsys.readouterr().out
    assert "masks named NAME_mask: 4" in said
    assert "files that are no images, passed over: 2 .json, 8 .txt" in said
    root = build("vision", tmp_path)
    main(["data", "index", "vision", "--root", str(root), "--output", str(tmp_path / "v.parquet")])
    said = capsys.readouterr().out
    assert "no normal image, so nothing to compare with, in: Cable" in said
    assert "2 of 2 images carry no annotation: left out" in said
    assert f"notes: 1 unannotated; listed in {tmp_path}/v.parquet.problems.jsonl" in said


def test_the_same_tree_gives_the_same_bytes_whatever_the_threads(tmp_path, small_parts):
    root = build("mvtec", tmp_path)
    for number, workers in enumerate((1, 4)):
        build_index(dataset="mvtec", root=root, output=tmp_path / f"{number}.parquet", workers=workers)
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()


def test_a_killed_run_goes_on_with_the_parts_it_has(tmp_path, small_parts, monkeypatch):
    root = build("mvtec", tmp_path)
    build_index(dataset="mvtec", root=root, output=tmp_path / "whole.parquet")
    measure, measured, lock = index_command.measure, [], threading.Lock()

    def counted(item, **settings):
        with lock:
            measured.append(item.image)
            if len(measured) == 8:
                raise KeyboardInterrupt
        return measure(item, **settings)

    monkeypatch.setattr(index_command, "measure", counted)
    output = tmp_path / "t.parquet"
    with pytest.raises(KeyboardInterrupt):
        build_index(dataset="mvtec", root=root, output=output)
    assert not output.exists()
    done = len(list((tmp_path / "t.parquet.parts").iterdir()))
    assert done == 2
    # A part that was not finished, and one that is not of these images.
    (tmp_path / "t.parquet.parts/.000002.parquet.x.tmp").write_bytes(b"torn")
    first = measured[: 3 * done]
    measured[:] = ["-"] * 8
    build_index(dataset="mvtec", root=root, output=output)
    assert len(measured) - 8 == 16 - 3 * done
    assert not set(first) & set(measured)
    assert output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mvtec", "t.parquet", "whole.parquet"]


def test_a_part_of_other_files_or_settings_is_made_again(tmp_path, small_parts, monkeypatch):
    root = build("mvtec", tmp_path)
    monkeypatch.setattr(index_command.shutil, "rmtree", lambda *_, **__: None)  # leave the parts
    output = tmp_path / "t.parquet"

    def run(**settings):
        counted = []
        measure = index_command.measure
        with monkeypatch.context() as patch:
            patch.setattr(index_command, "measure", lambda item, **more: counted.append(item) or measure(item, **more))
            build_index(dataset="mvtec", root=root, output=output, **settings)
        return len(counted)

    assert run() == 16
    assert run() == 0
    assert run(min_area=2) == 16
    assert run(min_area=2) == 0
    save(root / trees.MASK, mask_of((1, 1, 9, 9)))
    assert run(min_area=2) == 3
    assert any(entry.boxes == ((1, 1, 9, 9),) for entry in read_entries(output))


@pytest.mark.parametrize("mistake", trees.MISTAKES)
def test_a_mistake_stops_the_run_unless_it_is_skipped(mistake, tmp_path, capsys):
    root = build("mvtec", tmp_path)
    kind = trees.MISTAKES[mistake](root)
    output = tmp_path / "t.parquet"
    command = ["data", "index", "mvtec", "--root", str(root), "--output", str(output)]
    assert main(command) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("\n") == 1
    assert caught.err.startswith(
        f"error: problems: {'1 missing-mask, ' if mistake == 'mask_link_out' else ''}1 {kind}"
    )
    assert "--skip-problems" in caught.err
    assert not output.exists()
    listed = problems_of(output)
    assert listed[0]["kind"] == kind
    assert listed[0]["blocking"] is True

    assert main([*command, "--skip-problems"]) == 0
    assert problems_of(output) == listed
    assert f"1 {kind}" in capsys.readouterr().out
    rows = list(read_entries(output))
    assert rows == list(index("mvtec", root, problems=[]))


def test_what_the_layout_lacks_is_told_before_any_image_is_opened(tmp_path, monkeypatch, capsys):
    root = build("mvtec", tmp_path)
    for path in (root / "bottle/ground_truth").rglob("*.png"):
        path.unlink()
    monkeypatch.setattr(index_command, "measure", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(UserError, match=r"4 missing-mask: .*; and 1 more.* \(no image was opened yet\)"):
        build_index(dataset="mvtec", root=root, output=tmp_path / "t.parquet")


def test_a_run_in_which_nothing_fits_stops_after_its_first_part(tmp_path, small_parts, monkeypatch):
    """A large dataset named wrongly is not read to its end."""
    root = build("mvtec", tmp_path)
    with pytest.raises(UserError, match=r"problems: 3 not-a-strip: bottle/train/good/000.png: 64×48 pixels, expected"):
        build_index(dataset="manta", root=root, output=tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"manta.*could be used"):
        build_index(dataset="manta", root=root, output=tmp_path / "t.parquet", skip_problems=True)


def test_problems_that_are_gone_are_not_listed_any_more(tmp_path):
    root = build("mvtec", tmp_path)
    output = tmp_path / "t.parquet"
    trees.break_empty_mask(root)
    build_index(dataset="mvtec", root=root, output=output, skip_problems=True)
    assert len(problems_of(output)) == 1
    save(root / trees.MASK, mask_of(trees.BOX))
    build_index(dataset="mvtec", root=root, output=output)
    assert not (tmp_path / "t.parquet.problems.jsonl").exists()


def test_an_unusable_dataset_is_told(tmp_path):
    root = build("folder", tmp_path)
    shutil.rmtree(root / "masks")
    shutil.rmtree(root / "good")
    (root / "good").mkdir()
    with pytest.raises(UserError, match="no image of folder that could be used; problems: 4 missing-mask"):
        build_index(dataset="folder", root=root, output=tmp_path / "t.parquet", skip_problems=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "{root}/t.parquet"], "inside the dataset"),
        (["--output", "{root}/../other/../mvtec/x/t.parquet"], "inside the dataset"),
        (["--output", "{root}"], "is a folder, expected the name of a .parquet file"),
        (["--output", "{root}.parquet", "--min-area", "0"], "expected 1 or more"),
        (["--output", "{root}.parquet", "--option", "masks"], "expected KEY=VALUE"),
        (["--output", "{root}.parquet", "--option", "mask=x"], "has no option 'mask'"),
        (["--output", "{root}.parquet", "--category", "botle"], "did you mean bottle"),
        (["--output", "{root}/../file/t.parquet"], "cannot be written"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, capsys, arguments, message):
    root = build("mvtec", tmp_path)
    (tmp_path / "file").write_text("x")
    arguments = [argument.format(root=root) for argument in arguments]
    assert main(["data", "index", "mvtec", "--root", str(root), *arguments]) == 2
    caught = capsys.readouterr().err
    assert message in caught
    assert caught.count("\n") == 1


def test_categories_and_options_are_recorded(tmp_path):
    root = build("visa", tmp_path)
    output = tmp_path / "t.parquet"
    options = ["--option", "split=2cls_fewshot", "--category", "pcb4", "--min-area", "2", "--workers", "2"]
    main(["data", "index", "visa", "--root", str(root), "--output", str(output), *options])
    assert json.loads(read_metadata(output)["options"]) == {
        "categories": ["pcb4"],
        "masks": "required",
        "mask": {"threshold": None, "inverted": "none", "most": 0.5},
        "min_area": 2,
        "split": "2cls_fewshot",
    }


def test_help_names_datasets_and_options(capsys):
    with pytest.raises(SystemExit) as left:
        main(["data", "index", "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    for word in (
        "real-iad-variety",
        "split=1cls|2cls_fewshot|2cls_highshot (1cls)",
        "label=folders|normal|anomalous",
    ):
        assert word in said


def test_memory_does_not_grow_with_the_dataset(tmp_path, small_parts, monkeypatch):
    """No more than a part's rows are alive at once, whatever the number of images."""
    root = tmp_path / "many"
    data = save(root / "good/0.png", picture(b"many")).read_bytes()
    for number in range(1, 60):
        (root / f"good/{number}.png").write_bytes(data + bytes([number]))
    largest = []
    to_batch = index_command.to_batch
    monkeypatch.setattr(index_command, "to_batch", lambda rows: largest.append(len(rows)) or to_batch(rows))
    report = build_index(dataset="folder", root=root, output=tmp_path / "t.parquet")
    assert report.rows == 60
    assert max(largest) == 3
