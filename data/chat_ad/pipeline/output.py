"""One output of a build: draw pairs, have their records written, put them into one file in the order of the draw."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...anomaly_map.hints import HINT
from ...cli.saying import say
from ...jsonl import file_digest, write_json, write_jsonl
from ..crops import cut_boxes
from ..dropped import Dropped
from ..generation import AnnotationsGenerator, Generator, PromptFiles
from ..generation.pair_view import MAX_BOXES
from ..line_order import OrderedLines
from ..recipe.specs import OutputSpec, Recipe
from ..runners import HERE, Runner
from ..steps import Job, Made, Shard, Steps, read
from .candidates import COLUMNS, NO_BOXES, TOO_MANY_BOXES, Candidates, draw_waves, obstacle, possible_tasks, query_hash
from .dataset import DatasetBuild, Place
from .generate import ANNOTATE, GENERATE, Kinds, collect_kinds
from .hints import ADD_HINTS, Thresholds, describe, find_thresholds

__all__ = ["OutputBuild", "Writers"]


class Writers:
    """The generators of a recipe, opened once for all outputs. Use as a context manager.

    Args:
        recipe: says which.
        answers: folder of what an endpoint was paid for.

    Raises:
        UserError: the endpoint's key is missing, its cache is in use, or prompts are damaged.
    """

    def __init__(self, *, recipe: Recipe, answers: Path) -> None:
        self.prompts = PromptFiles(folder=recipe.prompts)
        self.annotations = AnnotationsGenerator(prompts=self.prompts, seed=recipe.seed)
        self.fallback = self.annotations if recipe.endpoint and recipe.endpoint.fallback else None
        self.endpoint = None
        self._answers = answers
        if recipe.endpoint is not None and any(one.generator != "annotations" for one in recipe.outputs.values()):
            from ..generation.endpoint import EndpointGenerator

            cache = answers / "answers.jsonl"
            self.endpoint = EndpointGenerator(settings=recipe.endpoint, prompts=self.prompts, cache=cache)

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.endpoint is not None:
            self.save_cost()
            self.endpoint.close()

    def of(self, spec: OutputSpec) -> Generator:
        """Who writes an output."""
        if self.endpoint is None or spec.generator == "annotations":
            return self.annotations
        return self.endpoint

    def save_cost(self) -> None:
        """Write what the endpoint has cost to `cost.json`."""
        write_json(self._answers / "cost.json", self.endpoint.report(), indent=1)


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """A shard of pairs that an output draws from: its dataset, its number there, and what else the dataset holds."""

    dataset: DatasetBuild
    number: int
    kinds: Kinds

    @property
    def shard(self) -> Shard:
        return self.dataset.pairs[self.number]


@dataclass(kw_only=True)
class OutputBuild:
    """The records of one output.

    Attributes:
        spec: from the recipe.
        recipe: for seed and prompts.
        place: where.
        datasets: finished, by name.
        writers: the generators.
        runner: where shards are made that need no endpoint.
    """

    spec: OutputSpec
    recipe: Recipe
    place: Place
    datasets: Mapping[str, DatasetBuild]
    writers: Writers
    runner: Runner

    def run(self) -> dict[str, Any]:
        """Write `NAME.jsonl` and `NAME.dropped.jsonl`; what the manifest says of them.

        Raises:
            UserError: the generator cannot go on.
        """
        spec, seed, output = self.spec, self.recipe.seed, self.place.output
        pairs = [
            _Pairs(dataset=dataset, number=number, kinds=kinds)
            for dataset in self.datasets.values()
            for kinds in [collect_kinds(dataset.pairs, product=dataset.spec.product)]
            for number in range(len(dataset.pairs))
        ]
        shards = [one.shard for one in pairs]
        candidates = Candidates.collect(shards, tasks=spec.tasks, seed=seed, name=spec.name)
        made: list[tuple[int, Shard]] = []
        thresholds = self._thresholds()

        def make(wave: int, chosen: Mapping[int, list[tuple[int, str]]]) -> int:
            cut = self._cut(pairs, chosen)
            jobs = (
                Job(
                    {"pairs": cut[number], "chosen": rows, "kinds": pairs[number].kinds, "seed": seed},
                    also=self._writers_digest(),
                    name=f"{wave:03d}-{number:06d}",
                )
                for number, rows in chosen.items()
            )
            new = list(zip(chosen, self._generate(jobs), strict=True))
            if spec.hints is not None:
                new = self._hinted(new, pairs, thresholds, wave)
            made.extend(new)
            return sum(shard.rows for _, shard in new)

        taken = draw_waves(candidates, spec.amount, make)
        counts, places = self._write(output / f"{spec.name}.jsonl", made, candidates)
        refused = [one for _, shard in made for one in shard.notes["refused"]]
        unasked = _Unasked(spec.tasks, candidates)
        write_jsonl(output / f"{spec.name}.dropped.jsonl", itertools.chain(unasked.of(shards), refused))
        writer = self.writers.of(spec)
        return {
            "datasets": list(self.datasets),
            "wanted": "all" if spec.amount is None else spec.amount,
            "available": len(candidates),
            "drawn": taken,
            "asked": list(spec.tasks),
            **counts,
            **unasked.counts(candidates, taken=taken, made=places),
            "refused": dict(sorted(Counter(one["task"] for one in refused).items())),
            "generator": writer.name,
            "prompts_sha256": self.writers.prompts.digest(),
            "prompt_hash": {task: writer.prompt_hash(task) for task in spec.tasks},
            **({"hints": describe(spec.hints, thresholds, [shard for _, shard in made])} if spec.hints else {}),
            "sha256": file_digest(output / f"{spec.name}.jsonl"),
        }

    def _steps(self, runner: Runner) -> Steps:
        return Steps(self.place.work / "outputs" / self.spec.name, runner)

    def _thresholds(self) -> dict[str, Thresholds]:
        """Dataset → the thresholds of its categories' maps; empty without hints."""
        if self.spec.hints is None:
            return {}
        steps = self._steps(self.runner)
        return {
            name: find_thresholds(dataset, self.spec.hints, steps, seed=self.recipe.seed)
            for name, dataset in self.datasets.items()
        }

    def _hinted(
        self, made: list[tuple[int, Shard]], pairs: list[_Pairs], thresholds: Mapping[str, Thresholds], wave: int
    ) -> list[tuple[int, Shard]]:
        """The records of shards of pairs with hints."""
        jobs = (
            Job(
                {
                    "records": shard,
                    "pairs": pairs[number].shard,
                    "thresholds": thresholds[pairs[number].dataset.spec.name],
                    "settings": self.spec.hints.settings(),
                },
                also=HINT,
                name=f"{wave:03d}-{number:06d}",
            )
            for number, shard in made
        )
        told = self._steps(self.runner).each(ADD_HINTS, jobs, media_dir=str(self.place.media_dir))
        return list(zip((number for number, _ in made), told, strict=True))

    def _cut(self, pairs: list[_Pairs], chosen: Mapping[int, list[tuple[int, str]]]) -> dict[int, Shard]:
        """The drawn pairs' images: number in `pairs` → shard."""
        found: dict[int, Shard] = {}
        for dataset in self.datasets.values():
            own = {pairs[number].number: number for number in chosen if pairs[number].dataset is dataset}
            wanted = {inside: [row for row, _ in chosen[number]] for inside, number in own.items()}
            found |= {own[inside]: shard for inside, shard in dataset.cut(self.runner, wanted).items()}
        return found

    def _writers_digest(self) -> list[Any]:
        """What the records depend on besides their pairs."""
        writer, fallback = self.writers.of(self.spec), self.writers.fallback
        second = fallback.fingerprint if fallback and writer.waits else ""
        return [writer.fingerprint, second, self.writers.prompts.digest()]

    def _generate(self, jobs: Iterator[Job]) -> Iterator[Shard]:
        writers = self.writers
        writer, where = writers.of(self.spec), {"media_dir": str(self.place.media_dir)}
        if not writer.waits:
            yield from self._steps(self.runner).each(ANNOTATE, jobs, prompts=self.recipe.prompts, **where)
            return

        def ask(**arguments: Any) -> Made:
            table, notes = GENERATE.function(generator=writer, fallback=writers.fallback, **arguments)
            writers.save_cost()
            say(f"{self.spec.name}: {table.num_rows} records more")
            return table, notes

        # An endpoint is asked from this process alone: one cache, one budget; it is the endpoint that is slow.
        steps = self._steps(HERE)
        yield from steps.each(GENERATE._replace(function=ask), jobs, prompts=writers.prompts, **where)

    def _write(
        self, path: Path, made: list[tuple[int, Shard]], candidates: Candidates
    ) -> tuple[dict[str, Any], np.ndarray]:
        """The records in the order of the draw; memory holds where each line is, not the lines.

        Returns:
            Counts for the manifest, and the places of what was made among the candidates.
        """
        places = np.lexsort((candidates.row, candidates.shard))
        keys = candidates.shard[places] << 32 | candidates.row[places]
        tasks: Counter = Counter()
        categories: Counter = Counter()
        labels: Counter = Counter()
        with OrderedLines(folder=path.parent) as lines:
            for number, shard in made:
                table = read(shard)
                for row, text in zip(table["row"].to_pylist(), table["record"].to_pylist(), strict=True):
                    place = int(places[np.searchsorted(keys, number << 32 | row)])
                    lines.add(place, text.encode("utf-8", "backslashreplace"))
                    record = json.loads(text)
                    tasks[record["task"]] += 1
                    categories[record["category"]] += 1
                    labels["anomalous" if record["anomalous"] else "normal"] += 1
            found = lines.write(path)
        counts = {
            "records": len(found),
            "tasks": dict(sorted(tasks.items())),
            "labels": dict(sorted(labels.items())),
            "categories": len(categories),
        }
        return counts, np.array(found, np.int64)


_WHY = {
    NO_BOXES: "it has no mask, and {task} names where the defect is; draw one",
    TOO_MANY_BOXES: f"it has more than {MAX_BOXES} regions, too many to list; raise min_area",
}


class _Unasked:
    """The pairs that an output cannot use, or not for all of its tasks, as lines of its `dropped.jsonl`."""

    def __init__(self, tasks: Mapping[str, float], candidates: Candidates) -> None:
        self._tasks, self._surplus = tasks, candidates.surplus
        self._lost: dict[str, dict[int, str]] = {"normal": {}, "anomalous": {}}  # query → why it has no record
        self._instead: dict[str, set[int]] = {}

    def of(self, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
        """A line for each image and each task that it cannot have; each image once, however many templates it has."""
        seen: set[tuple[int, str]] = set()
        for number, shard in enumerate(shards):
            for row, pair in enumerate(read(shard, COLUMNS).to_pylist()):
                label, boxes, query = pair["label"], len(cut_boxes(pair)[0]), query_hash(pair)
                if (number, row) in self._surplus:
                    yield _line(pair, "verdict", "one too many of its answer: as many are Yes as No")
                why = {task: text for task in self._tasks if (text := obstacle(task, label, boxes))}
                left = [task for task in possible_tasks(label, boxes) if task in self._tasks]
                if label == "normal" or not why:
                    continue
                if not left:
                    self._lost[label][query] = next(iter(why.values()))
                for task, text in why.items():
                    if left:
                        self._instead.setdefault(task, set()).add(query)
                    if (query, task) not in seen:
                        seen.add((query, task))
                        yield _line(pair, task, _WHY[text].format(task=task))

    def counts(self, candidates: Candidates, *, taken: int, made: np.ndarray) -> dict[str, Any]:
        """`lost` and `instead` for the manifest (`losses`), once all lines are written.

        Args:
            candidates: of the output.
            taken: how many of them were drawn.
            made: the places of those that became records.
        """
        lost = {}
        done = set(candidates.query[made].tolist())
        for label, without in self._lost.items():
            drawn = candidates.anomalous[:taken] == (label == "anomalous")
            asked = set(candidates.query[:taken][drawn].tolist())
            why = Counter(text for query, text in without.items() if query not in done)
            if refused := len(asked - done):
                why["were refused"] = refused
            if why:
                given = len(asked | without.keys())
                lost[label] = {"given": given, "why": dict(sorted(why.items()))}
        return {"lost": lost, "instead": {task: len(found) for task, found in sorted(self._instead.items())}}


def _line(pair: Mapping[str, Any], task: str, why: str) -> dict[str, Any]:
    return Dropped(step="write", image=pair["image"], task=task, reason="not_applicable", detail=why).line()
