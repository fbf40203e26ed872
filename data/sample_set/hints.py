"""The sample set's training data once more, with the hints of an anomaly map in its questions.

    DIR/NAME_hinted.jsonl     a split's records, each told which places the map marks (`adcopilot.chat_ad.hinted`)
    DIR/hints.json            the map's threshold, from good pairs of `stage1`: inference needs the same

Made in shards as the set itself is; a run that was killed goes on after the last one.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path

from adcopilot.anomaly_map.hints import HINT
from adcopilot.chat_ad.runners import make_runner
from adcopilot.dataset_info import add_entries, entry
from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, write_json, write_text
from adcopilot.sample.shards import joined, write_once

__all__ = ["FILE", "SPLITS", "hinted_name", "media_root", "write_hints"]

FILE = "hints.json"
#: Training data about pairs; test data are asked with hints by whoever asks them.
SPLITS = ("stage0", "stage1", "stage2", "thinking", "rl")
#: Records of a shard.
SHARD = 500


def hinted_name(split: str) -> str:
    """What a split with hints is called."""
    return f"{split}_hinted"


def media_root(folder: Path, prefix: str) -> Path:
    """What the names of pictures in a set's records are relative to.

    Raises:
        UserError: the prefix is not how the folder's path ends.
    """
    root = folder.resolve()
    for name in reversed(Path(prefix).parts):
        if root.name != name:
            raise UserError(f"--prefix {prefix}: --output {folder} does not end so, and --hints opens the pictures")
        root = root.parent
    return root


def write_hints(
    folder: Path, splits: Iterable[str], *, prefix: str = "", workers: int = 1, progress: Callable[[str], None] = print
) -> float:
    """Write the splits that train with hints, and register them.

    Args:
        folder: of the set.
        splits: names of those that are there; others than `SPLITS` stay as they are.
        prefix: as of `generate.write_sample`.
        workers: processes.
        progress: called with a line after each split.

    Returns:
        The threshold.

    Raises:
        UserError: there are too few good pairs for a threshold, or as `media_root`.
    """
    root = media_root(folder, prefix)
    threshold = _threshold(folder, root)
    wanted = [split for split in SPLITS if split in splits]
    with make_runner(workers=workers) as runner:
        for split in wanted:
            lines = (folder / f"{split}.jsonl").read_text("utf-8").splitlines()
            work = partial(_write_shard, folder, root, threshold, split)
            text = joined(runner, work, ((at, lines[at : at + SHARD]) for at in range(0, len(lines), SHARD)))
            write_text(folder / f"{hinted_name(split)}.jsonl", text)
            progress(f"{hinted_name(split)}: {len(lines)} records")
    entries = {hinted_name(split): entry(f"{hinted_name(split)}.jsonl") for split in wanted}
    add_entries(folder / "dataset_info.json", entries, replace=True)
    values = {"sentence": HINT, "map": {"kind": "pixels"}, "threshold": threshold, "splits": wanted}
    write_json(folder / FILE, values, indent=1)
    return threshold


@cache
def _mapper():
    from adcopilot.anomaly_map.comparing import Mapper, MapSettings

    return Mapper(MapSettings())


def _threshold(folder: Path, root: Path) -> float:
    """Of the map, from the first good pairs of stage 1."""
    from adcopilot.chat_ad.hinted import GOOD_PAIRS, record_map, threshold_of
    from adcopilot.threads import keep_to_one_core

    file, scores = folder / "stage1.jsonl", []
    if file.is_file():
        with open(file, encoding="utf-8") as lines, keep_to_one_core():
            for line in lines:
                record = json.loads(line)
                if len(scores) < GOOD_PAIRS and not record["anomalous"]:
                    scores.append(record_map(record, _mapper(), folder=root).pred_score)
    found = threshold_of(scores)
    if found is None:
        raise UserError(f"{file}: {len(scores)} good pairs are too few for the map's threshold; give a larger --count")
    return found


def _write_shard(folder: Path, root: Path, threshold: float, split: str, start: int, lines: list[str]) -> Path:
    from adcopilot.chat_ad.hinted import with_map_hint
    from adcopilot.threads import keep_to_one_core

    def hinted() -> Iterator[dict]:
        with keep_to_one_core():
            for record in map(json.loads, lines):
                yield with_map_hint(record, _mapper(), threshold=threshold, folder=root) or record

    key = content_key(HINT, threshold, lines)[:12]
    return write_once(folder / "shards" / f"{hinted_name(split)}-{start:07d}-{key}.jsonl", hinted())
