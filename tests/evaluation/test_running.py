"""Runs that lose nothing: resuming, kills, several processes; and what the folder refuses."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from adcopilot.answering.base import Reply
from adcopilot.answering.families import FAMILIES
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.evaluation.run_folder import read_manifest, read_records
from adcopilot.evaluation.running import Run, RunShard, check_groups

from .killing import kill_again_and_again

IDENTITY = {"benchmark": "test", "backend": {"model": "stub", "dtype": "float32"}}


class Stub:
    """Answers with the item's own key; some items fail."""

    name, family = "stub", FAMILIES["generic"]

    def __init__(self, *, failing=(), wait=0.0):
        self.failing, self.wait = set(failing), wait
        self.asked = []

    def answer(self, items, *, max_new_tokens):
        for item in items:
            self.asked.append(item.key)
            time.sleep(self.wait)
            failed = item.key in self.failing
            yield item, Reply(error="no such image") if failed else Reply(text=f"of {item.key}")


def make_items(groups=10, each=3):
    return [
        Item(
            key=f"{group}/{number}",
            group=str(group),
            images=(),
            prefix=("Look.",),
            question=f"{number}?",
            reference=number,
            meta={"group": group},
        )
        for group in range(groups)
        for number in range(each)
    ]


def ask(folder, items, backend, *, shard=None, **options):
    run = Run(folder=folder, identity=IDENTITY)
    run.select(items, selection={})
    return run, run.ask(items, backend, max_new_tokens=8, shard=shard or RunShard(), **options)


def test_a_second_start_asks_only_what_is_missing(tmp_path):
    items = make_items()
    run, outcome = ask(tmp_path, items[:12], Stub())
    assert (outcome.answered, outcome.known) == (12, 0)
    backend = Stub()
    run, outcome = ask(tmp_path, items, backend, extra=lambda item: {"note": item.key})
    assert (outcome.answered, outcome.known, outcome.failed, outcome.stopped) == (18, 12, {}, None)
    assert backend.asked == [item.key for item in items[12:]]
    records = run.answers().records
    assert [record["item"] for record in records] == [item.key for item in items]
    assert records[-1] == {
        "key": run.key(items[-1]),
        "item": "9/2",
        "group": "9",
        "images": [],
        "question": "2?",
        "options": None,
        "reference": 2,
        "meta": {"group": 9},
        "reply": {"text": "of 9/2", "seconds": 0.0, "truncated": False},
        "note": "9/2",
    }
    backend = Stub()
    _, outcome = ask(tmp_path, items, backend)
    assert backend.asked == []
    assert outcome.known == 30


def test_failures_are_asked_again(tmp_path):
    items = make_items(3)
    _, outcome = ask(tmp_path, items, Stub(failing=["0/1", "2/2"]))
    assert outcome.failed == {"0/1": "no such image", "2/2": "no such image"}
    assert outcome.answered == 7
    backend = Stub()
    run, outcome = ask(tmp_path, items, backend)
    assert backend.asked == ["0/1", "2/2"]
    assert len(run.answers().records) == 9


def test_fields_that_cannot_be_had_cost_their_own_item(tmp_path):
    def extra(item):
        if item.key == "1/1":
            raise UserError("mask.png: truncated")
        return {}

    run, outcome = ask(tmp_path, make_items(2), Stub(), extra=extra)
    assert outcome.failed == {"1/1": "mask.png: truncated"}
    assert len(run.answers().records) == 5


def test_other_settings_want_another_folder(tmp_path):
    ask(tmp_path, make_items(1), Stub())
    changed = {**IDENTITY, "shots": 2, "backend": {"model": "other", "dtype": "float32"}}
    with pytest.raises(UserError) as error:
        Run(folder=tmp_path, identity=changed)
    assert 'backend.model "stub", now "other"; shots null, now 2); choose another --output' in str(error.value)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"has answers but no manifest\.json"):
        Run(folder=tmp_path, identity=IDENTITY)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match="not a run's manifest"):
        read_manifest(tmp_path)


def test_keys_hold_everything_an_answer_depends_on(tmp_path):
    item = make_items(1)[0]
    keys = set()
    for number, identity in enumerate(
        [IDENTITY, {**IDENTITY, "benchmark": "other"}, {**IDENTITY, "backend": {"model": "stub"}}]
    ):
        keys.add(Run(folder=tmp_path / str(number), identity=identity).key(item))
    assert len(keys) == 3
    again = Run(folder=tmp_path / "0", identity=dict(reversed(IDENTITY.items())))
    assert again.key(item) in keys


def test_torn_lines_of_other_processes_count_as_not_there(tmp_path):
    items = make_items(2)
    ask(tmp_path, items[:3], Stub(), shard=RunShard())
    with open(tmp_path / "answers-1-of-2.jsonl", "ab") as file:
        file.write(b'{"key": "abc", "reply": {"te')
    assert len(list(read_records(tmp_path))) == 3
    _, outcome = ask(tmp_path, items, Stub())
    assert outcome.known + outcome.answered == 6
    with open(tmp_path / "answers.jsonl", "ab") as file:
        file.write(b'{"kez": 1}\n')
    with pytest.raises(UserError, match=r"answers.jsonl:7: not an answer of this command"):
        list(read_records(tmp_path))


def test_shards_part_the_groups_and_merge(tmp_path):
    items = make_items(40)
    shards = [RunShard(index=index, count=3) for index in (1, 2, 3)]
    holders = [[shard.index for shard in shards if shard.holds(item)] for item in items]
    assert all(len(one) == 1 for one in holders)
    assert all(holders[3 * group] == holders[3 * group + 1] == holders[3 * group + 2] for group in range(40))
    assert set(Counter(map(tuple, holders))) == {(1,), (2,), (3,)}
    waiting = []
    for shard in shards:
        run, outcome = ask(tmp_path, items, Stub(), shard=shard)
        waiting.append(outcome.waiting)
    assert waiting[0] > waiting[1] > waiting[2] == 0
    assert len(run.answers().records) == 120
    assert len(list(tmp_path.glob("answers-*-of-3.jsonl"))) == 3
    # Another number of processes goes on from there.
    backend = Stub()
    ask(tmp_path, items, backend, shard=RunShard(index=1, count=2))
    assert backend.asked == []


def test_shards_by_name(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert RunShard.parse(None) == RunShard(index=1, count=1)
    assert RunShard.parse("3/4") == RunShard(index=3, count=4)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert RunShard.parse(None) == RunShard(index=3, count=4)
    for text in ("0/4", "5/4", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(UserError, match="--shard is"):
            RunShard.parse(text)


def test_two_processes_on_one_log(tmp_path):
    items = make_items(2)
    run = Run(folder=tmp_path, identity=IDENTITY)

    class Second(Stub):
        def answer(self, items, *, max_new_tokens):
            with pytest.raises(UserError, match=r"another process is writing.*--shard 1/N"):
                run.ask(items, Stub(), max_new_tokens=8, shard=RunShard())
            yield from super().answer(items, max_new_tokens=max_new_tokens)

    assert run.ask(items, Second(), max_new_tokens=8, shard=RunShard()).answered == 6


def test_the_same_question_twice_is_refused():
    items = make_items(1)
    with pytest.raises(UserError, match="item 0/0 is there twice"):
        check_groups([*items, items[0]])
    other = Item(key="x", group="0", images=(), prefix=("Another.",), question="?")
    with pytest.raises(UserError, match="differ in images or prefix"):
        check_groups([*items, other])
    with pytest.raises(ValueError, match="each of the 1 once"):
        Item(key="x", group="0", images=(Path("a.png"),), prefix=("no image",), question="?")
    with pytest.raises(ValueError, match="needs a key and a group"):
        Item(key="", group="0", images=(), prefix=(), question="?")


SLOW = """
import sys
sys.path.insert(0, {root!r})
from tests.evaluation.test_running import Stub, ask, make_items
from adcopilot.evaluation.running import RunShard
ask({folder!r}, make_items(), Stub(wait=0.01), shard=RunShard.parse({shard!r}))
"""


def start(folder, root, shard="1/1"):
    code = SLOW.format(root=str(root), folder=str(folder), shard=shard)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_twenty_kills_lose_and_double_nothing(tmp_path, project_root):
    """Each process is killed a few answers after it began, in the middle of whatever it did."""
    items, log = make_items(), tmp_path / "answers.jsonl"
    kill_again_and_again(
        lambda: start(tmp_path, project_root), tmp_path, kills=20, seed=8, wait=0.012, near=len(items) - 8
    )
    assert start(tmp_path, project_root).wait() == 0
    _, outcome = ask(tmp_path, items, Stub())
    assert (outcome.known, outcome.answered) == (30, 0)
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert Counter(line["item"] for line in lines) == Counter(item.key for item in items)
    assert all(line["reply"]["text"] == f"of {line['item']}" for line in lines)


def test_two_processes_at_once(tmp_path, project_root):
    first, second = (start(tmp_path, project_root, shard) for shard in ("1/2", "2/2"))
    assert (first.wait(), second.wait()) == (0, 0)
    run, outcome = ask(tmp_path, make_items(), Stub())
    assert (outcome.known, outcome.answered) == (30, 0)
    assert len(run.answers().records) == 30


def test_probabilities_of_a_reasonings_first_word_are_none(tmp_path):
    """A model that reasons unasked begins with any word; an option's letter or Yes may be a probable one."""

    class Reasoning(Stub):
        def answer(self, items, *, max_new_tokens):
            for item in items:
                text = "A" if item.key.endswith("0") else "<think>A closer look</think>A"
                yield item, Reply(text=text, option_logprobs={"A": -0.5, "B": -1.0})

    ask(tmp_path, make_items(groups=2, each=2), Reasoning())
    known = {line["item"]: line["reply"].get("option_logprobs") for line in read_records(tmp_path)}
    assert [known[key] is None for key in ("0/0", "0/1", "1/0", "1/1")] == [False, True, False, True]
