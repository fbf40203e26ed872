"""A build that is killed, or whose workers are, ends with the bytes of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe

from ..builds import final_files, write_recipe

KILLS = 20

# One process imports everything once, and each build is a fork of it that may be killed. A line on stdin is an output
# folder and the seconds until the kill; a line on stdout is "done" or "killed" and the seconds it took.
NURSERY = """
import os, signal, sys, threading, time
from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe

for line in sys.stdin:
    output, seconds = line.split()
    start = time.monotonic()
    child = os.fork()
    if not child:
        code = 1
        try:
            sys.stderr = open(os.devnull, "w")
            build(load_recipe(__import__("pathlib").Path(sys.argv[1])), __import__("pathlib").Path(output))
            code = 0
        finally:
            os._exit(code)
    ended = 0
    while not ended and time.monotonic() - start < float(seconds):
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.001)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", time.monotonic() - start, flush=True)
    else:
        assert os.waitstatus_to_exitcode(status) == 0, status
        print("done", time.monotonic() - start, flush=True)
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def expected(recipe, tmp_path_factory):
    """The final files of a build that nobody disturbs."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    build(load_recipe(recipe), output)
    return final_files(output)


@pytest.mark.slow
def test_killed_at_random_moments(recipe, expected, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(recipe)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def attempt(output, seconds):
        print(output, seconds, file=nursery.stdin, flush=True)
        answer = nursery.stdout.readline().split()
        assert answer, "a build failed"
        return answer[0], float(answer[1])

    try:
        ended, whole = attempt(tmp_path / "measured", 500)
        assert ended == "done"
        assert final_files(tmp_path / "measured") == expected
        moments = random.Random(time.time_ns())  # others in each run of the suite
        kills = builds = 0
        unfinished = 0
        while kills < KILLS:
            output = tmp_path / str(builds)
            builds += 1
            for _ in range(4):  # up to so many times in the same build
                if attempt(output, moments.uniform(0, whole))[0] == "done":
                    break
                kills += 1
                unfinished += final_files(output) != expected
            assert attempt(output, 500)[0] == "done"
            assert final_files(output) == expected
            assert not list(output.rglob(".*.tmp"))
        assert unfinished > KILLS // 2  # they were killed in the middle of something
    finally:
        nursery.stdin.close()
        nursery.wait(30)


def test_killed_at_renames(recipe, expected, tmp_path, monkeypatch):
    """The moments that matter most: before and after a file appears."""

    class Killed(BaseException):
        pass

    rename = os.replace
    output = tmp_path / "out"
    for number in (1, 7, 3, 12, 2, 20, 9, 30, 5, 40):
        left = number

        def replace(source, target, number=number):
            nonlocal left
            left -= 1
            if left == 0 and number % 2:
                raise Killed
            rename(source, target)
            if left == 0:
                raise Killed

        monkeypatch.setattr(os, "replace", replace)
        try:
            build(load_recipe(recipe), output)
        except Killed:
            pass
        else:
            break
    monkeypatch.setattr(os, "replace", rename)
    build(load_recipe(recipe), output)
    assert final_files(output) == expected


def test_ray_gives_the_same_bytes_though_a_worker_is_killed(recipe, expected, tmp_path):
    pytest.importorskip("ray", reason="needs the extra [ray]")
    psutil = pytest.importorskip("psutil", reason="finds Ray's worker processes")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "adcopilot.cli", "data", "build", str(recipe), "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_DISABLE_IMPORT_WARNING": "1"}
    environment.pop("RAY_ADDRESS", None)
    running = subprocess.Popen(
        [*command, "--ray", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    killed = 0
    try:
        driver = psutil.Process(running.pid)
        deadline = time.monotonic() + 400
        while running.poll() is None and time.monotonic() < deadline:
            # In the middle: some shards are there, and a worker is busy with another.
            if not killed and len(list(output.glob(".work/*/measure/*.parquet"))) >= 1:
                for worker in driver.children(recursive=True):
                    try:
                        if worker.cmdline()[:1] and worker.cmdline()[0].startswith("ray::_guarded"):
                            os.kill(worker.pid, signal.SIGKILL)
                            killed += 1
                            break
                    except (psutil.Error, OSError):
                        continue
            time.sleep(0.005)
        assert running.wait(100) == 0, running.stderr.read()
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(30)
    assert killed == 1
    assert final_files(output) == expected
