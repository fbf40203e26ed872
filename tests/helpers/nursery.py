"""Processes that need not import torch and transformers each: forks of one that has.

A test that kills a command, or needs it in a working directory or environment of its own, wants a process of its own
and not the six seconds of imports in each of them. Before the fork only other people's packages are imported, neither
this one nor LlamaFactory, and torch loads its entry points after it, as the fork's environment says. What a fork
cannot show is how a fresh interpreter starts: in which order the packages import one another, and environment
variables that those imported before read when they are imported.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

#: What is imported before the fork, as far as it is installed.
MODULES = (
    "torch",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "transformers.trainer_seq2seq",
    "datasets",
    "peft",
    "trl.trainer.grpo_trainer",
)
#: The environment of that: torch loads no entry points yet, this package's hook among them. (And the code of model
#: folders, and what `datasets` keeps, lie in folders of the tests' own.)
BEFORE = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}

CLI = "import sys; from adcopilot.cli import main; sys.exit(main(sys.argv[1:]))"

# Reads a request a line and answers each with a line. A fork ends as any interpreter does, with a traceback on stderr,
# exit handlers and an exit status, but does not take the imported modules apart: that touches, and so copies, hundreds
# of megabytes. There is no `__main__.__file__`, which spawned children of a fork would import again.
SERVER = """
import atexit, gc, importlib, json, os, sys, threading
for _name in sys.argv[1:]:
    try:
        importlib.import_module(_name)
    except ModuleNotFoundError:  # not every environment has all extras
        pass
gc.collect()
gc.freeze()
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
    _paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [_path for _path in _paths if _path and _path not in sys.path]
    if "torch" in sys.modules and sys.modules["torch"]._is_device_backend_autoload_enabled():
        sys.modules["torch"]._import_device_backends()  # what torch's import ends with
    _status = 0
    try:
        exec(compile(_asked["code"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as _error:
        _status = _error.code
        if not isinstance(_status, int | None):
            print(_status, file=sys.stderr)
            _status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        _status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status or 0)
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
    """Starts such processes; `MODULES` are imported once, when the first is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen | None = None
        self._started = 0

    def ask(self, **request):
        """Send a request; the answer."""
        if self._server is None:
            command = [sys.executable, "-c", SERVER, *MODULES]
            caches = {f"HF_{name}_CACHE": str(self.folder / name.lower()) for name in ("MODULES", "DATASETS")}
            before = {**os.environ, **BEFORE, **caches}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._server = subprocess.Popen(command, env=before, **pipes)
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

    def said(self, *argv, code: str, **options) -> str:
        """The last line that code prints, which has to end well."""
        done = self.run(*argv, code=code, **options)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip().splitlines()[-1]

    def close(self) -> None:
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait(60)
