"""Commands that are carried out one after the other, each once: a chain that was killed goes on after the last that
finished."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..jsonl import file_digest, write_json

__all__ = ["ChainRun", "ChainStep", "run_step", "tool"]


@dataclass(frozen=True, kw_only=True)
class ChainStep:
    """One command of a run.

    Attributes:
        name: of the step, its log and its folder.
        command: what is executed.
        output: the folder it writes.
        resumes: whether the command goes on with what it left in `output` when it was stopped.
        inputs: files that it reads: with other content the step is another one.
    """

    name: str
    command: list[str]
    output: Path
    resumes: bool = False
    inputs: tuple[Path, ...] = ()

    @property
    def told(self) -> list[str]:
        """What a finished step is known by."""
        return [*self.command, *map(file_digest, self.inputs)]


def tool(name: str) -> str:
    """A command of this Python environment."""
    return str(Path(sys.executable).with_name(name))


def run_step(step: ChainStep, log: Path, *, cpu: bool = True, cwd: Path | None = None) -> None:
    """Runs a step, or does nothing if it has finished with the same command before.

    Args:
        step: what is run.
        log: file of what it says.
        cpu: hide GPUs from it, and keep it to one core.
        cwd: folder that it runs in.

    Raises:
        UserError: the command failed; it names the log.
    """
    mark = step.output.with_name(f"{step.output.name}.done")
    if mark.exists() and json.loads(mark.read_text()) == step.told:
        return
    mark.unlink(missing_ok=True)
    begun = step.output.with_name(f"{step.output.name}.begun")
    if not (step.resumes and begun.exists() and json.loads(begun.read_text()) == step.told):
        begun.unlink(missing_ok=True)
        shutil.rmtree(step.output, ignore_errors=True)
    step.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(begun, step.told, indent=None)
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(step.output.parent / "cache"),
    }
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} if cpu else {}
    with open(log, "w") as file:
        status = subprocess.run(
            step.command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=cwd
        ).returncode
    if status:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise UserError(f"{step.name} ended with status {status}: {' '.join(last)[:300]}; the whole log is {log}")
    begun.rename(mark)


class ChainRun(threading.Thread):
    """One run's steps in order; `state` says where it is, `error` why it stopped."""

    def __init__(
        self, *, name: str, folder: Path, steps: list[ChainStep], cpu: bool = True, cwd: Path | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.title, self.folder, self.steps, self.cpu, self.cwd = name, folder, steps, cpu, cwd
        self.current: ChainStep | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for step in self.steps:
                self.current = step
                run_step(step, self.folder / f"{step.output.name}.log", cpu=self.cpu, cwd=self.cwd)
            self.current = None
        except Exception as error:  # shown by the main thread, which must not wait for ever
            self.error = error

    def state(self) -> str:
        if self.current is None:
            return f"{self.title}: done"
        try:
            last = json.loads((self.current.output / "trainer_log.jsonl").read_text().splitlines()[-1])
            detail = f" step {last['current_steps']}/{last['total_steps']}"
            detail += f" loss {last['loss']:.3f}" if "loss" in last else ""
            detail += f", {last['remaining_time']} left" if "remaining_time" in last else ""
        except (OSError, IndexError, ValueError):
            detail = ""
        return f"{self.title}: {self.current.name}{detail}"
