"""Which checkpoint a run goes on from, whether it is the same run, and whether there is anything left to do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import UserError, changed_settings, reason_of
from ..files import stored_object
from ..jsonl import atomic_write, write_json

__all__ = ["check_same_run", "finish", "finished_steps", "has_ended", "last_checkpoint", "read_about", "write_about"]

#: What a run says of itself: settings, versions, data, and, at its end, that it is finished.
ABOUT = "grpo.json"
#: What a checkpoint holds beside what the finished run's folder does: optimizer, random numbers, DeepSpeed's shards.
ONLY_TO_GO_ON = re.compile(
    r"optimizer.*|scheduler.*|scaler.*|rng_state.*|trainer_state\.json|latest|zero_to_fp32\.py|.*\.bin\.index\.json"
)


def last_checkpoint(output_dir: str | Path, *, tidy: bool) -> tuple[Path, int] | None:
    """The newest whole checkpoint of a run and its step; None where there is none.

    transformers takes the one with the highest number, also if the process was killed, or the disk was full, while it
    was written.

    Args:
        output_dir: of the run.
        tidy: remove newer ones that are torn; one process does this.
    """
    found = []
    for folder in Path(output_dir).glob("checkpoint-*"):
        number = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if number:
            found.append((int(number[1]), folder))
    for step, folder in sorted(found, reverse=True):
        if _whole(folder):
            return folder, step
        if tidy:
            shutil.rmtree(folder, ignore_errors=True)
    return None


def write_about(output_dir: Path, about: Mapping[str, Any]) -> None:
    """Write `grpo.json`.

    Raises:
        UserError: the folder cannot be written to.
    """
    write_json(output_dir / ABOUT, about, indent=1, allow_nan=False)


def check_same_run(
    output_dir: Path, settings: Mapping[str, Any], *, versions: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Refuse to go on with other settings than the run was begun with.

    Args:
        output_dir: of the run.
        settings: all that its numbers depend on, as they are now.
        versions: of the packages, now; other ones are said, and go on.
        say: called with a line.

    Raises:
        UserError: naming what differs, or that it is not known what the run was begun with.
    """
    file = output_dir / ABOUT
    about = read_about(output_dir)
    before = about.get("settings")
    if not isinstance(before, dict):
        raise UserError(
            f"{file}: does not say with which settings this run was begun, so it cannot be gone on with; give another "
            "output_dir"
        )
    now = json.loads(json.dumps(settings))
    unknown = sorted(now.keys() - before.keys())
    if unknown:
        say(f"{file}: an older version wrote it, without {', '.join(unknown[:6])}; these are not compared")
    changed = sorted(changed_settings(before, {key: now[key] for key in now if key not in unknown}))
    if changed:
        raise UserError(
            f"{output_dir}: holds a run with other settings ({'; '.join(changed[:6])}); give another output_dir, or "
            "the same settings to go on"
        )
    began = about.get("versions") if isinstance(about.get("versions"), dict) else {}
    other = [
        f"{name} {began[name]}, now {versions[name]}"
        for name in versions
        if began.get(name, versions[name]) != versions[name]
    ]
    if other:
        say(f"{output_dir}: was begun with other versions ({', '.join(other)}); its numbers may change")


def finished_steps(output_dir: Path) -> int | None:
    """After how many updates a run was finished; None where it was not."""
    finished = read_about(output_dir).get("finished")
    steps = finished.get("steps") if isinstance(finished, dict) else None
    return steps if isinstance(steps, int) and (output_dir / "adapter_model.safetensors").is_file() else None


def has_ended(checkpoint: Path) -> bool:
    """Whether a checkpoint is a run's last: all its steps are made, or early stopping had stopped it."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    control = (state.get("stateful_callbacks") or {}).get("TrainerControl") or {}
    stopped = bool((control.get("args") or {}).get("should_training_stop"))
    return stopped or 0 < state.get("max_steps", 0) <= state.get("global_step", 0)


def finish(output_dir: Path, checkpoint: Path, *, best: bool) -> None:
    """Do what was left to do after the last step: the adapter and its files into the run's folder, the mark.

    Args:
        output_dir: of the run.
        checkpoint: its last.
        best: take the adapter of the best checkpoint by the held-out reward, as early stopping does.

    Raises:
        UserError: a file cannot be read or written.
    """
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    source = checkpoint
    if best and state.get("best_model_checkpoint"):
        source = output_dir / Path(state["best_model_checkpoint"]).name  # the run may have been moved
        if not _whole(source):
            raise UserError(f"{source}: the best checkpoint is gone or damaged; the newest is {checkpoint}")
    files = [file for file in sorted(source.iterdir()) if file.is_file() and not ONLY_TO_GO_ON.fullmatch(file.name)]
    try:
        for file in [*files, checkpoint / "trainer_state.json"]:
            content = file.read_bytes()
            atomic_write(output_dir / file.name, lambda out, content=content: out.write(content))
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({reason_of(error)})") from None
    write_about(output_dir, {**read_about(output_dir), "finished": {"steps": state["global_step"]}})


def read_about(output_dir: Path) -> dict[str, Any]:
    """What `grpo.json` holds; nothing where there is none."""
    return stored_object(output_dir / ABOUT)


def _whole(folder: Path) -> bool:
    """`trainer_state.json` is what transformers writes last; the adapter's file must hold what its header says."""
    try:
        if not isinstance(json.loads((folder / "trainer_state.json").read_text()), dict):
            return False
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            return bool(list(file.keys()))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return False
