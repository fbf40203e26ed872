"""A file of records made in shards, in several processes: one that is there is not made again."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from adcopilot.chat_ad.runners import Runner, in_order
from adcopilot.jsonl import write_text

__all__ = ["joined", "write_once"]


def joined(runner: Runner, write: Callable[..., Path], parts: Iterable[tuple]) -> str:
    """The text of all shards, in order.

    Args:
        runner: where they are made.
        write: `write(*part)` gives the file of a shard, as `write_once` does; importable by name.
        parts: of each shard.
    """
    started = (runner.start(write, *part) for part in parts)
    return "".join(path.read_text("utf-8") for path in in_order(started, ahead=2 * runner.workers))


def write_once(path: Path, records: Iterable[dict]) -> Path:
    """The shard at `path`. It appears by a rename once all `records` are taken; none is where it is there already."""
    if not path.exists():
        text = "".join(json.dumps(record) + "\n" for record in records)
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
    return path
