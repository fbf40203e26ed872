"""What LlamaFactory's own loading of data does with the checks: tokenised folders, streams, files."""

import json

import pytest

from adcopilot.errors import UserError

from ..conftest import record

pytestmark = pytest.mark.forward


def test_training_runs_the_check(load, dataset_dir, image_files):
    folder, write = dataset_dir
    write(record(image_files[:2]), record([image_files[0], "missing.png"]))
    with pytest.raises(UserError, match=r"^1 of 2 samples cannot be trained on: \[1\] .*missing.png: no such image"):
        load()
    write(record(image_files[:2]))
    assert len(load()["train_dataset"]) == 1
    with pytest.raises(UserError, match=r"output_dir .*: is the model that training starts from"):
        load(model=str(folder), training={"do_train": True, "output_dir": f"{folder}/"})


def test_a_tokenised_folder_is_used_for_what_it_was_made_for(load, lf, dataset_dir):
    import copy

    folder, _ = dataset_dir
    path = str(folder / "tokenized")
    assert len(load(tokenized_path=path)["train_dataset"]) == 3
    assert len(load(tokenized_path=path)["train_dataset"]) == 3
    other = copy.copy(lf.processor)
    other.image_max_pixels = 3000
    with pytest.raises(UserError, match=r"image_max_pixels \d+, now 3000\); delete the folder"):
        load(tokenized_path=path, processor=other)
    other.num_comparison_tokens = 7
    with pytest.raises(UserError, match="num_comparison_tokens 5, now 7"):
        load(tokenized_path=path, processor=other)
    other.comparison_of_first = False
    with pytest.raises(UserError, match="comparison_of_first true, now false"):
        load(tokenized_path=path, processor=other)
    record = folder / "tokenized" / "adcopilot.json"  # as it was written before there was this setting
    made = json.loads(record.read_text())
    del made["made_with"]["comparison_of_first"]
    record.write_text(json.dumps(made))
    assert len(load(tokenized_path=path)["train_dataset"]) == 3
    with pytest.raises(UserError, match='template "adcopilot", now "qwen2_vl"'):
        load("qwen2_vl", tokenized_path=path)
    with pytest.raises(UserError, match="cutoff_len 2048, now 512; mask_history false, now true"):
        load(tokenized_path=path, cutoff_len=512, mask_history=True)


def test_a_tokenised_folder_that_is_unfinished_or_damaged(load, dataset_dir):
    folder, _ = dataset_dir
    path = folder / "tokenized"
    path.mkdir()
    assert len(load(tokenized_path=str(path))["train_dataset"]) == 3  # an empty folder is filled
    (path / "adcopilot.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match=r"adcopilot\.json: cannot be read as the record"):
        load(tokenized_path=str(path))
    (path / "adcopilot.json").unlink()  # it is written last: killed before
    with pytest.raises(UserError, match="unfinished, or not made with template adcopilot; delete the folder"):
        load(tokenized_path=str(path))
    assert load("qwen2_vl", tokenized_path=str(path))  # another template's business


def test_streaming(load, dataset_dir, image_files):
    with pytest.raises(UserError, match="dataloader_num_workers 0 finds no sample"):
        load(streaming=True)
    with pytest.raises(UserError, match=r"accelerator_config: \{dispatch_batches: false\}"):
        load(streaming=True, training={"dataloader_num_workers": 1})
    training = {"dataloader_num_workers": 1, "accelerator_config": {"dispatch_batches": False}}
    works = {"streaming": True, "training": training}
    assert len(list(load(**works)["train_dataset"])) == 3
    dataset_dir[1](record(image_files[:2], answer="<bbox>1 2 3 4</bbox>"))
    with pytest.raises(UserError, match="--boxes seed"):
        list(load(**works)["train_dataset"])


@pytest.mark.parametrize("as_list", [True, False])
def test_a_byte_order_mark(load, dataset_dir, image_files, as_list):
    """A list and JSON lines, as Windows editors save them; UTF-16 is refused."""
    folder, _ = dataset_dir
    records = [record(image_files[:2], answer=f"No, {index}.") for index in range(3)]
    text = json.dumps(records) if as_list else "".join(json.dumps(one) + "\n" for one in records)
    (folder / "parts.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load()["train_dataset"]) == 3
    (folder / "parts.jsonl").write_bytes(text.encode("utf-16"))
    with pytest.raises(UserError, match=r"parts\.jsonl is UTF-16 text, expected UTF-8; convert it with `iconv "):
        load()
