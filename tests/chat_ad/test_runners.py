"""Where functions run, and in what order what they give arrives."""

import signal
import subprocess
import sys
from pathlib import Path

from adcopilot.chat_ad.runners import in_order
from tests.helpers.waiting import until


def test_in_order_and_only_so_far_ahead():
    begun = []

    def started():
        for number in range(6):
            begun.append(number)
            yield lambda number=number: number

    found = in_order(started(), ahead=3)
    assert begun == []
    assert (next(found), begun) == (0, [0, 1, 2])
    assert (next(found), begun) == (1, [0, 1, 2, 3])
    assert list(found) == [2, 3, 4, 5]


def test_workers_end_with_a_killed_parent(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from adcopilot.chat_ad.runners import make_runner\n"
        "if __name__ == '__main__':\n"
        "    with make_runner(workers=2) as runner:\n"
        "        print(runner.start(os.getpid)(), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    started = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert started.returncode == -signal.SIGKILL, started.stderr
    worker = Path("/proc") / started.stdout.strip()

    def has_ended():
        try:
            return (worker / "stat").read_text().split()[2] == "Z"
        except OSError:  # gone, perhaps in this moment
            return True

    until(has_ended, "the worker to end")
