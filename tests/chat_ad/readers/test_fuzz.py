"""Annotation files with anything in the place of anything: named, never a traceback, never a row that is not true."""

import copy
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adcopilot.chat_ad.readers import index
from adcopilot.chat_ad.table import to_batch
from adcopilot.errors import UserError

from ..trees import DATASETS, build

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../a.png", "/etc/passwd", "\ud800.png", "a\0b", "0.png", "", "images", 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FILES = {
    "coco": "annotations/instances_train.json",
    "vision": "Cable/train/_annotations.coco.json",
    "real-iad": "realiad_jsons/audiojack.json",
    "real-iad-variety": "Real-IAD_Variety_jsons/audiojack.json",
    "loco": "screw_bag/defects_config.json",
}


def _places(value, path=()):
    """The paths of everything inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


@pytest.fixture(scope="module", params=FILES)
def dataset(request, tmp_path_factory):
    root = build(request.param, tmp_path_factory.mktemp("fuzz"))
    path = root / FILES[request.param]
    content = json.loads(path.read_text())
    entries = {entry.image: entry for entry in index(DATASETS[request.param], root, problems=[])}
    yield DATASETS[request.param], root, path, content, entries
    shutil.rmtree(root)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_anything_anywhere(dataset, data):
    name, root, path, content, before = dataset
    content = copy.deepcopy(content)
    place = data.draw(st.sampled_from(list(_places(content))))
    value = data.draw(VALUES)
    if place:
        parent = content
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
    else:
        content = value
    try:
        path.write_text(json.dumps(content))
    except ValueError:
        return  # more digits than Python writes
    problems = []
    try:
        entries = list(index(name, root, problems=problems))
    except UserError:
        return
    to_batch(entries)
    for problem in problems:
        json.dumps(problem.reason)
        assert "\n" not in problem.reason
    if place in [("train",), ("test",)] and isinstance(value, list):
        return  # a shorter list is not a wrong one
    lost = before.keys() - {entry.image for entry in entries}
    assert not lost or problems, f"{place} = {value!r} loses {lost} silently"
