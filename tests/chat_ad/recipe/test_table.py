"""The table: what is written is read, in bytes that depend on the rows alone."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adcopilot.chat_ad import table
from adcopilot.chat_ad.table import make_metadata, read_batches, to_batch, write_table
from adcopilot.errors import UserError

from ..drawn import invented, read_entries


def entry(number, **changes):
    return invented(f"{number}.png", **changes)


ANOMALOUS = entry(
    1,
    label="anomalous",
    defect="scratch",
    mask="m.png#over=half",
    boxes=((1, 2, 3, 4), (5, 6, 7, 8)),
    box_labels=("scratch", ""),
    view="C1",
    split="test",
    group="g",
    licence="l",
    notes="öü",
)


def test_rows_survive_the_file(tmp_path):
    path = tmp_path / "new/t.parquet"
    assert write_table(path, [to_batch([entry(0), ANOMALOUS])], metadata={"dataset": "x"}) == 2
    assert read_entries(path) == [entry(0), ANOMALOUS]
    assert table.read_metadata(path) == {"dataset": "x"}


def test_the_bytes_depend_on_the_rows_and_not_on_their_batches(tmp_path):
    rows = [entry(number) for number in range(9000)]
    metadata = make_metadata(root=tmp_path, dataset="x", options={"b": 1, "a": "ü"})
    write_table(tmp_path / "a.parquet", [to_batch(rows)], metadata=metadata)
    pieces = [to_batch(rows[start : start + 77]) for start in range(0, 9000, 77)]
    write_table(tmp_path / "b.parquet", pieces, metadata=metadata)
    write_table(tmp_path / "c.parquet", [to_batch(rows)], metadata=metadata)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()
    groups = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [4096, 4096, 808]


def test_an_empty_table_is_a_table(tmp_path):
    assert write_table(tmp_path / "t.parquet", [], metadata={}) == 0
    assert read_entries(tmp_path / "t.parquet") == []


def test_columns_can_be_chosen_and_added(tmp_path):
    schema = table.SCHEMA.append(pa.field("template", pa.string()))
    batch = pa.RecordBatch.from_pylist([{**vars(entry(0)), "template": "t.png"}], schema=schema)
    write_table(tmp_path / "t.parquet", [batch], metadata={}, schema=schema)
    assert [batch.to_pylist() for batch in read_batches(tmp_path / "t.parquet", columns=["template"])] == [
        [{"template": "t.png"}]
    ]
    assert read_entries(tmp_path / "t.parquet") == [entry(0)]


def test_a_failed_write_leaves_no_file(tmp_path):
    def batches():
        yield to_batch([entry(0)])
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_table(tmp_path / "t.parquet", batches(), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_table_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such table"):
        next(read_batches(tmp_path / "t.parquet"))
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a Parquet table"):
        table.read_metadata(tmp_path / "t.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "u.parquet")
    with pytest.raises(UserError, match="has no column 'image'"):
        next(read_batches(tmp_path / "u.parquet"))
    with pytest.raises(UserError, match="names no root"):
        table.table_root(tmp_path / "u.parquet")


def test_a_damaged_table_is_one_line(tmp_path):
    write_table(tmp_path / "t.parquet", [to_batch([entry(number) for number in range(3000)])], metadata={})
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[100:2000] = bytes(1900)
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        list(read_batches(tmp_path / "t.parquet"))


def test_the_root_is_absolute_and_must_exist(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    write_table("t.parquet", [], metadata=make_metadata(root="data", dataset="x"))
    assert table.table_root("t.parquet") == tmp_path / "data"
    (tmp_path / "data").rmdir()
    with pytest.raises(UserError, match="which is gone; write the table again"):
        table.table_root("t.parquet")


@pytest.mark.parametrize("changes", [{"label": "good"}, {"split": "dev"}, {"boxes": ((1, 2, 3, 4),)}])
def test_a_row_that_contradicts_itself_is_refused(changes):
    with pytest.raises(ValueError, match=r"0.png"):
        entry(0, **changes)
