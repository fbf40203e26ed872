"""Threads side by side, each on a core of its own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from adcopilot.anomaly_map import comparing
from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.lines import inspect_all
from adcopilot.inspect.map_inspector import MapInspector
from adcopilot.inspect.pairs import Pair
from adcopilot.jsonl import JsonlLog
from adcopilot.threads import keep_to_one_core

from .inspect.conftest import part


@pytest.fixture
def many_cores():
    """Torch's threads as on a machine with cores; those that tests have otherwise afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_one_core_is_the_calling_threads_own(many_cores):
    with ThreadPoolExecutor(1, initializer=keep_to_one_core) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == 4
    with keep_to_one_core():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("kind", ["pixels", "texture"])
def test_a_map_is_made_on_one_core_and_two_side_by_side(kind, many_cores, monkeypatch, tmp_path):
    """In order, with the numbers of each alone; and so when stored lines get their maps again."""
    monkeypatch.setattr(comparing, "workers", lambda: 2)
    sizes = {"size": (84, 56)} if kind == "pixels" else {"size": (120, 90)}
    pictures, files = [part(index, defect=index % 2 == 1, **sizes) for index in range(6)], []
    for index, picture in enumerate(pictures):
        files.append(tmp_path / f"{index}.png")
        picture.save(files[-1])
    pairs = [Pair(query=files[index], template=files[index - 4], name=str(index)) for index in range(6)]
    settings = MapSettings(kind=kind)
    scores = [Mapper(settings).compare(pictures[index], [pictures[index - 4]]).pred_score for index in range(6)]
    alone = [round(score, 6) for score in scores]
    both, cores = Barrier(2), []
    compare = Mapper._compare

    def beside_another(self, query, templates):
        both.wait(60)  # a single thread would wait for itself
        cores.append(torch.get_num_threads())
        return compare(self, query, templates)

    monkeypatch.setattr(Mapper, "_compare", beside_another)
    inspector = MapInspector(map=settings, judge=Judge(source="map", map_threshold=0.1))
    for _ in range(2):  # found, and found again in the file
        with JsonlLog(path=tmp_path / "lines.jsonl") as log:
            lines = list(inspect_all(inspector, pairs, model="", log=log, maps=True))
        assert [line["score"] for _, line, _ in lines] == alone
        assert [found.pred_score for _, _, found in lines] == pytest.approx(alone, abs=1e-6)
        assert [pair.name for pair, _, _ in lines] == list("012345")
    assert cores == [1] * 12
