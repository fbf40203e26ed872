"""Pairs that are records as a dataset: what they say of an image has to agree."""

import json

import pytest

from ..pictures import BOX, picture, save
from .reading import one, read


@pytest.fixture
def records(tmp_path):
    """Reads records with these fields, each of the images t.png and q.png unless it says otherwise."""
    for name in ("t.png", "q.png", "u.png"):
        save(tmp_path / name, picture(name.encode(), box=BOX if name == "q.png" else None))

    def write(*fields, as_list=False):
        whole = {"images": ["t.png", "q.png"], "category": "clip", "anomalous": True, "defect": "dent", "boxes": [BOX]}
        made = [json.dumps({**whole, **one}) for one in fields]
        text = f"[{','.join(made)}]" if as_list else "\n".join(made)
        (tmp_path / "records.json").write_text(text)
        return read("records", tmp_path, files="records.json")

    return write


@pytest.mark.parametrize(
    ("other", "left_out"),
    [
        ({"boxes": [[1, 1, 9, 9]]}, "q.png"),
        ({"defect": "stain"}, "q.png"),
        ({"anomalous": False, "defect": None, "boxes": []}, "q.png"),
        ({"images": ["q.png", "u.png"]}, "q.png"),  # as a template
    ],
)
def test_an_image_of_which_records_disagree_is_left_out(records, other, left_out):
    for pair in ([{}, other], [other, {}]):
        found = records(*pair)
        assert left_out not in {entry.image for entry in found.entries}
        assert "conflict" in {problem.kind for problem in found.blocking}


@pytest.mark.parametrize(
    "fields",
    [
        {"anomalous": False},
        {"anomalous": False, "defect": "", "boxes": [], "mask": "u.png"},
        {"defect": "good"},
        {"defect": ["dent"]},
        {"labels": [None]},
        {"labels": ["a", "b"]},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(records, fields):
    found = records(fields)
    assert [problem.kind for problem in found.blocking] == ["record"]
    assert "zip" not in found.blocking[0].reason


def test_records_boxes_are_rounded_outwards_and_names_that_tell_nothing_are_none(records):
    found = records({"defect": "bad", "boxes": [[20.6, 10.2, 20.9, 17.1]]}, as_list=True)
    entry = one(found.entries, "q.png")
    assert (entry.boxes, entry.defect, entry.box_labels) == (((20, 10, 21, 18),), "", ("",))
