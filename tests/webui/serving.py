"""LlamaFactory's web pages as its own commands serve them, and a headless Chromium to look at them with."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # nothing outside this machine: the page asks for fonts and scripts of other hosts, and would wait for them
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1400,1300",
)


@dataclass
class Server:
    """A running command, its working directory and its output so far."""

    url: str
    folder: Path
    log: Path


def stop(process: subprocess.Popen) -> None:
    """End a process and whatever it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.send_signal(signal.SIGTERM)
    for member in psutil.wait_procs(family, timeout=10)[1]:
        member.kill()
    process.wait()


@contextmanager
def served(*command: str, folder: Path) -> Iterator[Server]:
    """`llamafactory-cli` with a command that serves, in a directory that is made where it is not there yet: LlamaBoard
    keeps its settings and results there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    log = folder.with_suffix(".log")
    scripts = Path(sys.executable).parent  # LlamaBoard starts `llamafactory-cli` by its name
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "API_HOST": "127.0.0.1",
        "API_PORT": str(port),
        "BROWSER": "true",  # LlamaBoard opens one by itself: this is the command of that name, which does nothing
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [scripts / "llamafactory-cli", *command], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        give_up = time.monotonic() + 400  # a machine may have much else to do
        while True:
            try:
                opener.open(url, timeout=5).read()
                break
            except urllib.error.HTTPError:  # an API without a page at its root answers too
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > give_up:
                    pytest.fail(f"llamafactory-cli {' '.join(command)} did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.5)
        yield Server(url=url, folder=folder, log=log)
    finally:
        if process.poll() is None:
            stop(process)


@contextmanager
def browser(profile: Path):
    """Selenium's driver of a headless Chromium with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: the extra dev")
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = "a browser (chromium)" if chromium is None else "chromedriver"
        pytest.skip(f"needs {missing}: on Debian, apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield session
    finally:
        session.quit()
