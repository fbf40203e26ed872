"""Where shards are made: in order, only a few ahead, and a dead worker or parent is no riddle."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from adcopilot.chat_ad.recipe.specs import ImageSpec
from adcopilot.chat_ad.runners import HERE, make_runner
from adcopilot.chat_ad.steps import Job, Shard, Step, Steps, load, read, save, step_key
from adcopilot.errors import UserError


def count(number, behaviour=""):
    if behaviour == "mistake":
        raise UserError(f"shard {number} is at fault")
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 * (number % 3))  # they end in another order than they began
    return pa.table({"number": [number]}), {"number": number}


COUNT = Step("count", 1, count)


def jobs(amount, **behaviours):
    return (Job({"number": number}, more={"behaviour": behaviours.get(f"_{number}", "")}) for number in range(amount))


@pytest.mark.parametrize("workers", [1, 2])
def test_in_order_and_once(tmp_path, workers):
    with make_runner(workers=workers) as runner:
        shards = list(Steps(tmp_path, runner).each(COUNT, jobs(9)))
        assert [shard.notes["number"] for shard in shards] == list(range(9))
        times = [shard.path.stat().st_mtime_ns for shard in shards]
        again = list(Steps(tmp_path, runner).each(COUNT, jobs(9)))
    assert again == shards
    assert [shard.path.stat().st_mtime_ns for shard in again] == times


def test_jobs_are_taken_as_they_are_needed(tmp_path):
    taken = []

    def counted():
        for job in jobs(50):
            taken.append(job)
            yield job

    with make_runner(workers=2) as runner:
        shards = Steps(tmp_path, runner).each(COUNT, counted())
        next(shards)
        assert len(taken) <= 4
        next(shards)
        assert len(taken) <= 5
        assert len(list(shards)) == 48


def test_unfit_shards_are_made_again(tmp_path):
    steps = Steps(tmp_path, HERE)
    before = [shard.path.stat().st_mtime_ns for shard in steps.each(COUNT, jobs(3))]
    again = steps.each(COUNT, jobs(3), fits=lambda shard: shard.notes["number"] != 1)
    after = [shard.path.stat().st_mtime_ns for shard in again]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_mistake_arrives_as_it_is(tmp_path, workers):
    with make_runner(workers=workers) as runner, pytest.raises(UserError, match=r"^shard 2 is at fault$"):
        list(Steps(tmp_path, runner).each(COUNT, jobs(5, _2="mistake")))


def test_a_killed_worker_is_one_line(tmp_path):
    with make_runner(workers=2) as runner, pytest.raises(UserError, match="worker process was killed"):
        list(Steps(tmp_path, runner).each(COUNT, jobs(5, _2="die")))


def test_ray_passes_mistakes_on(tmp_path):
    pytest.importorskip("ray", reason="needs the extra [ray]")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from adcopilot.chat_ad.pipeline.dataset_steps import MEASURE\n"
        "from adcopilot.chat_ad.runners import make_runner\n"
        "from adcopilot.chat_ad.steps import Job, Steps\n"
        "from adcopilot.errors import UserError\n"
        "folder = Path(sys.argv[1])\n"
        "with make_runner(workers=1, ray=True) as runner:\n"
        "    try:\n"
        "        jobs = [Job({'rows': folder / 'gone.parquet'})]\n"
        "        list(Steps(folder, runner).each(MEASURE, jobs, root=str(folder)))\n"
        "    except UserError as error:\n"
        "        print('UserError:', error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=400, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("UserError:")]
    assert "gone.parquet: gone or damaged" in line
    assert "Traceback" not in line


def test_shard_knows_its_key_and_rows(tmp_path):
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "ü"]})
    shard = save(tmp_path / "s.parquet", "key", table, note=["ü"])
    assert (
        load(shard.path, "key") == shard == Shard(path=shard.path, digest=shard.digest, rows=3, notes={"note": ["ü"]})
    )
    assert load(shard.path, "other") is None
    assert read(shard).equals(table)
    assert save(tmp_path / "t.parquet", "other", table, note=["ü"]).digest == shard.digest
    assert save(tmp_path / "t.parquet", "key", table.slice(1), note=["ü"]).digest != shard.digest
    assert save(tmp_path / "t.parquet", "key", table, note=["u"]).digest != shard.digest
    # However the rows came together.
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert save(tmp_path / "t.parquet", "key", pieces, note=["ü"]).digest == shard.digest
    shard.path.write_bytes(shard.path.read_bytes()[:-20])
    assert load(shard.path, "key") is None
    with pytest.raises(UserError, match="gone or damaged"):
        read(shard)


def test_what_a_key_depends_on(tmp_path):
    shard = save(tmp_path / "s", "k", pa.table({"n": [1]}))
    inputs = {
        "rows": shard,
        "images": ImageSpec(),
        "chosen": (1, 2),
        "decoys": {("a", "b"): [1.5]},
        "allow": frozenset("ba"),
    }
    key = step_key(COUNT, Job(inputs, also=["x"]))
    assert key == step_key(
        COUNT, Job(dict(reversed(inputs.items())), also=("x",), more={"root": "elsewhere"}, name="n")
    )
    moved = Shard(path=tmp_path / "moved", digest=shard.digest, rows=1)
    assert key == step_key(COUNT, Job({**inputs, "rows": moved}, also=["x"]))
    other = save(tmp_path / "o", "k", pa.table({"n": [2]}))
    changes = {"rows": other, "images": ImageSpec(quality=90), "chosen": [2, 1], "decoys": {}, "allow": frozenset()}
    for name, value in changes.items():
        assert key != step_key(COUNT, Job({**inputs, name: value}, also=["x"]))
    assert key != step_key(COUNT, Job(inputs))
    assert key != step_key(COUNT._replace(version=2), Job(inputs, also=["x"]))


def test_notes_keep_their_order(tmp_path):
    """A build that finds a shard finished writes the same lines as the one that made it."""
    notes = {"b": [{"z": 1, "a": 2}], "a": 0}
    made = save(tmp_path / "s", "k", pa.table({"n": [1]}), **notes)
    found = load(tmp_path / "s", "k")
    assert json.dumps(made.notes) == json.dumps(found.notes) == json.dumps(notes)
    assert found.digest == save(tmp_path / "s", "k", pa.table({"n": [1]}), a=0, b=[{"a": 2, "z": 1}]).digest
