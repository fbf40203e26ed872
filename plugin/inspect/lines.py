"""The line of each pair: asked for, or found again in the file of results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..jsonl import JsonlLog, content_key, file_digest, read_jsonl, write_jsonl
from .pairs import Pair
from .result import Result, source_name

if TYPE_CHECKING:  # they need torch, which takes seconds
    from ..anomaly_map.comparing import AnomalyMap
    from .map_inspector import MapInspector
    from .model_inspector import ModelInspector
    from .question import Question

__all__ = ["AHEAD", "inspect_all", "renew", "results_of"]

#: Pairs that are ready or wait beyond those that are compared.
AHEAD = 8


def results_of(inspector: ModelInspector | MapInspector, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Result]]:
    """Each pair with its result, in order; one that has an error already is not asked about."""
    waiting: deque[Pair] = deque()

    def questions() -> Iterator[Question]:
        for pair in pairs:
            waiting.append(pair)
            if pair.error is None:
                yield inspector.pair_question(pair.template, pair.query, pair.more)

    def failed() -> Iterator[tuple[Pair, Result]]:
        while waiting and waiting[0].error is not None:
            pair = waiting.popleft()
            template = None if pair.template is None else source_name(pair.template, "template")
            yield pair, Result(query=source_name(pair.query, "query"), template=template, error=pair.error)

    for result in inspector.ask(questions()):
        yield from failed()
        yield waiting.popleft(), result
    yield from failed()


def inspect_all(
    inspector: ModelInspector | MapInspector,
    work: Iterable[Pair],
    *,
    model: str,
    log: JsonlLog | None,
    maps: bool = False,
    boxes: bool = True,
) -> Iterator[tuple[Pair, dict[str, Any], AnomalyMap | None]]:
    """The line of each pair, in order, and its anomaly map if it was made just now.

    A pair that the log has is not asked about again: its verdict is given anew, by today's thresholds, from what the
    line holds.

    Args:
        model: the model's digest.
        log: the file of results; None for none.
        maps: make the anomaly map of stored pairs again.
        boxes: of stored pairs by today's threshold, for which it is made again where the threshold has changed.
    """
    settings = inspector.settings()
    stored = {record["key"]: record for record in log.records()} if log is not None else {}
    keys: dict[int, str] = {}
    waiting: deque[Pair] = deque()  # read ahead by the inspector, not given out yet
    threads = inspector.mapper.workers if inspector.mapper else 1
    pool = ThreadPoolExecutor(threads)
    coming: dict[int, Future[Result]] = {}  # with their maps, which are made again

    def new_pairs() -> Iterator[Pair]:
        for pair in work:
            waiting.append(pair)
            if log is not None:
                keys[id(pair)] = pair_key(pair, model, settings)
            if keys.get(id(pair)) not in stored:
                yield pair

    def again(pair: Pair, kept: dict[str, Any]) -> Result:
        # the same images under another path are still the same result
        names = {"query": str(pair.query), "template": str(pair.template) if pair.template else None}
        result = Result.from_dict({**kept, **names})
        changed = kept["settings"].get("map_threshold") != inspector.judge.map_threshold
        if result.error is not None or not (maps or (changed and boxes)):
            return result
        return inspector.map_again(result, inspector.pair_question(pair.template, pair.query, pair.more))

    def old() -> Iterator[tuple[Pair, dict[str, Any], AnomalyMap | None]]:
        while waiting and keys.get(id(waiting[0])) in stored:
            for index in range(min(len(waiting), AHEAD + threads)):  # others are being put in at its end
                pair = waiting[index]
                if id(pair) not in coming and keys.get(id(pair)) in stored:
                    coming[id(pair)] = pool.submit(again, pair, stored[keys[id(pair)]])
            pair = waiting.popleft()
            del keys[id(pair)]
            result = inspector.judge.judged(coming.pop(id(pair)).result())
            yield pair, result.to_dict(**pair.extra), result.map

    try:
        for pair, result in results_of(inspector, new_pairs()):
            yield from old()
            waiting.popleft()
            line = result.to_dict(**pair.extra)
            if log is not None:
                used = {"model": str(inspector.folder), **settings, "map_threshold": inspector.judge.map_threshold}
                log.append({"key": keys.pop(id(pair)), **line, **result.kept(), "settings": used})
            yield pair, line, result.map
        yield from old()
    finally:
        pool.shutdown(cancel_futures=True)


def renew(
    path: Path, inspector: ModelInspector | MapInspector, judged: Iterable[tuple[Pair, dict]], *, model: str
) -> None:
    """Give stored lines the verdicts and boxes of today's thresholds; nothing is asked, and the file appears whole.

    Args:
        path: the file of results, which nobody has open.
        judged: pairs and their lines, of `inspect_all`.
        model: the model's digest.
    """
    settings = inspector.settings()
    lines = {pair_key(pair, model, settings): line for pair, line in judged}

    def renewed(record: dict[str, Any]) -> dict[str, Any]:
        line = lines.get(record["key"])
        if line is None:
            return record
        used = {**record["settings"], "map_threshold": inspector.judge.map_threshold}
        return {"key": record["key"], **line, **Result.from_dict(record).kept(), "settings": used}

    write_jsonl(path, [renewed(record) for _, record in read_jsonl(path)])


def pair_key(pair: Pair, model: str, settings: dict[str, Any]) -> str:
    """What a stored result is found again by: the content of model, query and template, the settings, the name."""

    def digest(file: Path | None) -> str:
        try:
            return file_digest(file) if file else "none"
        except UserError:
            return "unreadable"

    more = [digest(file) for file in pair.more]
    return content_key(
        model, settings, pair.name, digest(pair.query), digest(pair.template), *([more] if more else [])
    )
