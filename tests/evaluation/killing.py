"""Runs that are killed again and again before they end."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def kill_again_and_again(
    start: Callable, run: Path, *, kills: int, seed: int, wait: float = 0.2, near: int = 50
) -> None:
    """Start a command, kill -9 it up to `wait` seconds after its first new answers, again and again; near the end of
    the run, where more than `near` answers are there (72 are all of mini MMAD), the log is torn and shortened. What a
    killed process had started must end by itself.

    `start()` returns a running process: `subprocess.Popen`, or a fork of the tests' nursery.
    """
    dice, log, done = random.Random(seed), run / "answers.jsonl", 0

    def size():
        return log.stat().st_size if log.exists() else 0

    while done < kills:
        before = size()
        process = start()
        while process.poll() is None and size() == before:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, wait))
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        done += process.wait() == -signal.SIGKILL
        _, alive = psutil.wait_procs(started, timeout=60)
        assert alive == []
        if log.read_bytes().count(b"\n") > near:
            lines = log.read_bytes().splitlines(keepends=True)
            log.write_bytes(b"".join(lines[: dice.randrange(20)]) + lines[-1][: dice.randrange(1, 100)])
