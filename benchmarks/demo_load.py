"""Load on `adcopilot demo`: many visitors at once, and many requests one after the other.

    python benchmarks/demo_load.py --model saves/tiny/merged

Starts the page over a model on this machine and asks it through its own HTTP interface, as the browser does:
each visitor uploads two pictures and asks the question of `adcopilot inspect`. Measured are the time from the question
to the answer, answers lost, and the resident memory of the server's process.

Writes docs/results/demo-load.md. Visitors run on the same machine as the server and take processor time from it.
"""

import argparse
import io
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adcopilot.demo.examples import read_examples  # noqa: E402
from adcopilot.demo.server import MOST_SESSIONS  # noqa: E402
from benchmarks.machine import as_lines, hardware, now, versions  # noqa: E402

RESULT = ROOT / "docs/results/demo-load.md"
MIB = 1 << 20


@contextmanager
def server(model: str, folder: Path):
    """The page's process and its address."""
    command = [sys.executable, "-m", "adcopilot.cli", "demo", "--model", model, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--queue", "64"], stdout=output, stderr=output, env=environment)
    try:
        while "Open " not in log.read_text():
            if process.poll() is not None:
                sys.exit(f"the page did not start: {log.read_text()[-500:]}")
            time.sleep(0.2)
        yield psutil.Process(process.pid), log.read_text().split("Open ")[1].split()[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@cache
def examples():
    """The page's own."""
    return read_examples()


class Visitor:
    """Somebody with two pictures and a question.

    Args:
        url: of the page.
        number: tells visitors' pictures apart.
        broken: the picture is none, so that the answer has to be words about that.
    """

    def __init__(self, url: str, number: int, *, broken: bool = False) -> None:
        self.client = httpx.Client(base_url=url, timeout=600, trust_env=False)
        config = self.client.get("/config").json()
        self.function = next(one["id"] for one in config["dependencies"] if one["api_name"] == "inspect")
        example = examples()[number % len(examples())]
        images = [image.copy() for image in (example.template, example.query)]
        images[1].putpixel((0, 0), (number % 256, number // 256 % 256, 7))  # nobody else's picture
        self.files = [self._upload(self._png(image)) for image in images]
        if broken:
            self.files[1] = self._upload(b"no picture %d" % number)

    @staticmethod
    def _png(image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    def _upload(self, data: bytes) -> dict:
        path = self.client.post("/gradio_api/upload", files={"files": ("part.png", data)}).json()[0]
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def ask(self) -> tuple[float, dict | str]:
        """Seconds until the answer, and the answer or the error's words."""
        session = secrets.token_hex(8)
        start = time.perf_counter()
        body = {"data": [*self.files, ""], "fn_index": self.function, "session_hash": session}
        joined = self.client.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            return time.perf_counter() - start, joined.text
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                event = json.loads(line[6:]) if line.startswith("data: ") else {}
                if event.get("msg") == "process_completed":
                    seconds = time.perf_counter() - start
                    if event["success"]:
                        return seconds, event["output"]["data"][0]
                    return seconds, event["output"]["error"]
                if event.get("msg") in ("unexpected_error", "close_stream"):
                    break
        return time.perf_counter() - start, ""


def one_after_the_other(visitor: Visitor, number: int) -> list[float]:
    """Seconds of so many questions of one visitor."""
    found = []
    for _ in range(number):
        seconds, answer = visitor.ask()
        if not isinstance(answer, dict):
            sys.exit(f"one visitor alone got no answer: {answer}")
        found.append(seconds)
    return found


def all_at_once(url: str, visitors: int, broken: int) -> tuple[list[float], int, list[str], float]:
    """Seconds of each answer, how many got one, the errors' words, and seconds until all had theirs."""
    people = [Visitor(url, number, broken=number < broken) for number in range(visitors)]
    alone = [visitor.ask()[1] for visitor in people[broken : broken + 4]]
    together = threading.Barrier(visitors)

    def ask(visitor: Visitor):
        together.wait()
        return visitor.ask()

    start = time.perf_counter()
    with ThreadPoolExecutor(visitors) as pool:
        found = list(pool.map(ask, people))
    whole = time.perf_counter() - start
    answers = [answer for _, answer in found]
    if answers[broken : broken + 4] != alone:
        sys.exit("answers under load differ from those without")
    answered = sum(isinstance(answer, dict) for answer in answers)
    return [seconds for seconds, _ in found], answered, [text for text in answers if isinstance(text, str)], whole


def memory_of(url: str, process: psutil.Process, requests: int, every: int) -> Iterator[list[tuple[int, float]]]:
    """(requests so far, resident MiB of the server) up to now, each request a new visitor with pictures of his own."""
    found = [(0, process.memory_info().rss / MIB)]
    yield found
    for number in range(1, requests + 1):
        visitor = Visitor(url, 1000 + number)
        _, answer = visitor.ask()
        visitor.client.close()
        if not isinstance(answer, dict):
            sys.exit(f"request {number} got no answer: {answer}")
        if number % every == 0:
            found.append((number, process.memory_info().rss / MIB))
            print(f"{number} requests: {found[-1][1]:.0f} MiB", file=sys.stderr, flush=True)
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--visitors", type=int, default=50, help="at the same time (50)")
    parser.add_argument("--broken", type=int, default=5, help="of whom so many bring a file that is no picture (5)")
    parser.add_argument("--requests", type=int, default=1000, help="one after the other, for the memory (1000)")
    parser.add_argument("--output", type=Path, default=RESULT, help="the page of results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(args.model, Path(folder)) as (process, url):
        facts = as_lines(hardware())
        first = Visitor(url, 0)
        one_after_the_other(first, 3)  # warm
        alone = statistics.median(one_after_the_other(first, 20))
        seconds, answered, words, whole = all_at_once(url, args.visitors, args.broken)
        lost = args.visitors - answered - len([text for text in words if "not an image" in text])
        median, slowest = statistics.median(seconds), max(seconds)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        # Written again after each step: a run that is broken off has measured something.
        for memory in memory_of(url, process, args.requests, max(1, args.requests // 10)):
            rows = "\n".join(f"| {number} | {size:.0f} |" for number, size in memory)
            args.output.write_text(
                f"""# `adcopilot demo` under load

`python benchmarks/demo_load.py`, {now()}. Model: {Path(args.model).name} (tiny preset), one thread.
{facts}. {as_lines(versions())}.
Visitors and server ran on the same machine: the ratios say more than the seconds.

| | |
|---|---|
| one visitor: question to answer, median of 20 | {alone:.2f} s |
| {args.visitors} visitors at once: median, slowest | {median:.2f} s, {slowest:.2f} s |
| ratio to one visitor: median, slowest | {median / alone:.1f}, {slowest / alone:.1f} |
| all {args.visitors} answered after | {whole:.2f} s ({args.visitors / whole:.1f} a second) |
| answers | {answered} of {args.visitors - args.broken} |
| files that are no picture, answered with words | {len(words)} of {args.broken} |
| lost | {lost} |

The model answers one question at a time, so the last of {args.visitors} waits for the others; the page shows each
visitor the place in the queue. What a visitor with a broken file reads: “{words[0] if words else ""}”.

Resident memory of the server over {memory[-1][0]} further visitors, each with two pictures of his own
({MOST_SESSIONS} conversations are remembered; what fills up stops there):

| visitors so far | MiB |
|---|---|
{rows}
"""
            )
    print(f"wrote {args.output}")
    if lost or len(words) != args.broken:
        sys.exit(f"{lost} answers were lost: {words[:3]}")


if __name__ == "__main__":
    main()
