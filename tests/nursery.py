"""Processes that need not import torch and transformers each: forks of one that has.

A test that kills a command, or needs it in a working directory or environment of its own, wants a process of its own
and not the five seconds of imports in each of them. What a fork cannot show is how a fresh interpreter starts: what
imports what, entry points, environment variables that libraries read when they are imported.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CLI = "import sys; from adcopilot.cli import main; sys.exit(main(sys.argv[1:]))"

# Reads a request a line and answers each with a line. The fork leaves the loop and ends as any interpreter does: with
# exit handlers, a traceback on stderr and an exit status. It must not have `__main__.__file__`, or spawned children of
# the forks would import this again.
SERVER = """
import importlib, json, os, sys
for _name in sys.argv[1:]:
    importlib.import_module(_name)
_ended = {}
for _line in sys.stdin:
    _asked = json.loads(_line)
    if "status" in _asked:
        _pid = _asked["status"]
        if _pid not in _ended:
            _found, _status = os.waitpid(_pid, os.WNOHANG)
            if _found:
                _ended[_pid] = os.waitstatus_to_exitcode(_status)
        print(json.dumps(_ended.get(_pid)), flush=True)
        continue
    _pid = os.fork()
    if _pid:
        print(_pid, flush=True)
        continue
    for _number, _path in enumerate([os.devnull, _asked["stdout"], _asked["stderr"]]):
        _file = os.open(_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(_file, _number)
        os.close(_file)
    sys.stdin = open(0, closefd=False)
    os.chdir(_asked["cwd"])
    os.environ.clear()
    os.environ.update(_asked["environment"])
    sys.argv[1:] = _asked["argv"]
    exec(compile(_asked["code"], "<string>", "exec"), {"__name__": "__main__"})
    break
"""


class Fork:
    """A running process, with what the tests use of `subprocess.Popen`."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask(status=self.pid)
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """The exit status; minus the signal's number of one that was killed.

        Raises:
            subprocess.TimeoutExpired: it goes on running.
        """
        give_up = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > give_up:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Starts such processes; the modules named are imported once, when the first is started."""

    def __init__(self, folder: Path, *modules: str) -> None:
        self.folder, self.modules = folder, modules
        self._server: subprocess.Popen | None = None
        self._started = 0

    def ask(self, **request):
        """Send a request; the answer."""
        if self._server is None:
            command = [sys.executable, "-c", SERVER, *self.modules]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        assert answer, f"the nursery has ended with status {self._server.wait()}"
        return json.loads(answer)

    def start(self, *argv, code: str = CLI, cwd=None, env: dict | None = None, stdout=None, stderr=None) -> Fork:
        """A process that runs `code` with these arguments: the command `adcopilot`, unless told otherwise."""
        request = {
            "code": code,
            "argv": [str(word) for word in argv],
            "cwd": str(cwd or Path.cwd()),
            "environment": {**os.environ, **(env or {})},
            "stdout": str(stdout or os.devnull),
            "stderr": str(stderr or os.devnull),
        }
        return Fork(self, self.ask(**request))

    def run(self, *argv, timeout: float = 300, **options) -> subprocess.CompletedProcess:
        """The same, until it has ended; with what it said."""
        self._started += 1
        outputs = [self.folder / f"{self._started}.{name}" for name in ("out", "err")]
        process = self.start(*argv, stdout=outputs[0], stderr=outputs[1], **options)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(argv), status, *(path.read_text("utf-8") for path in outputs))

    def close(self) -> None:
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait(60)
