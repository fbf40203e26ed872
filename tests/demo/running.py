"""`adcopilot demo` as a process of its own, and a client for its HTTP interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest


@dataclass
class Demo:
    """A running page."""

    url: str
    log: Path
    process: subprocess.Popen

    def client(self, **options) -> httpx.Client:
        """For requests of a stranger."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=300, **options)


@contextmanager
def demo(folder: Path, *words):
    """The command with `words`, until it answers; its temporary files lie in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    log = folder / "demo.log"
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "adcopilot.cli", "demo", "--port", str(port), *map(str, words)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        give_up = time.monotonic() + 400  # a machine may have much else to do
        while "Open http" not in log.read_text():
            if process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the demo did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield Demo(url=f"http://127.0.0.1:{port}", log=log, process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                pytest.fail("the demo did not end after SIGTERM")
