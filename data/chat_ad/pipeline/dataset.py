"""One dataset of a build: index → measure → select → embed → pair, then cut what is drawn, shard by shard.

What concerns all of a dataset at once (what is usual in a category, duplicates, the ratio, the pool of templates) is
decided here between the steps, from a few columns; images and rows are in memory a shard at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...cli.saying import say
from ...errors import UserError
from ...jsonl import content_key
from ..crops import collect_decoys
from ..dropped import Dropped
from ..fitness.leaks import LeakOptions
from ..pairing import Pool, template_key
from ..readers import READERS, ListedImage, Problem, Source, make_source, prescan, scan
from ..readers.contents import what_is_there
from ..readers.measure import fingerprint
from ..recipe.specs import DatasetSpec
from ..runners import Runner
from ..sources.mask_counts import mask_lines
from ..steps import Job, Shard, Steps, read, rows_of
from .against import LEAKS, Against
from .cut import CUT, files_there
from .dataset_steps import EMBED, INDEX, MEASURE, PAIR, POOL, SELECT, embedder, pool_there
from .losses import dataset_losses

__all__ = ["UNTIL", "DatasetBuild", "Place", "problems_line"]

#: Steps that a build may end with, each after the one before it.
UNTIL = ("index", "select", "pair")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a build works.

    Attributes:
        output: the folder that is written.
        media_dir: what the names of images are relative to.
        prefix: the output folder in `media_dir`, with a slash behind it or empty.
        marked: whether copies with outlined defects are needed.
        shard_images: images (or strips of views) of a shard.
    """

    output: Path
    media_dir: Path
    prefix: str
    marked: bool
    shard_images: int

    @property
    def work(self) -> Path:
        """The folder of finished shards."""
        return self.output / ".work"


@dataclass(kw_only=True)
class DatasetBuild:
    """The steps of one dataset.

    Attributes:
        spec: from the recipe.
        place: where.
        seed: of every choice.
        against: evaluation sets whose images are left out.
        leaks: how that is done.
        source: what the reader says of the layout, after `preflight`.
        labels: images that the layout calls normal and anomalous, after `preflight`.
        index: shards of the table, after `run`.
        leaked: for each of them a shard of `against.LEAKS`, if there is anything to compare with.
        pairs: shards of pairs, after `run`; `cut` makes the files of some of them.
        counts: for the manifest, after `run`.
    """

    spec: DatasetSpec
    place: Place
    seed: int
    against: Sequence[Against] = ()
    leaks: LeakOptions = field(default_factory=LeakOptions)
    source: Source | None = None
    labels: Counter = field(default_factory=Counter)
    index: list[Shard] = field(default_factory=list)
    leaked: list[Shard] = field(default_factory=list)
    pairs: list[Shard] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    _unpaired: list[tuple[list[Shard], str]] = field(default_factory=list)
    _select: Shard | None = None

    @property
    def licence(self) -> str:
        """What is known about the terms."""
        return READERS[self.spec.reader].licence

    def preflight(self) -> int:
        """Read the layout, names and annotation files only; the number of images.

        Raises:
            UserError: the root is not the dataset, or there is nothing in it.
        """
        self.source = source = self._opened()
        self.labels = Counter()

        def counted() -> Iterator[ListedImage]:
            for item in scan(source):
                self.labels["anomalous" if item.anomalous else "normal"] += 1
                yield item

        total = prescan(source, counted())
        unknown = (
            sorted(set(self.spec.product) - source.seen_categories) if isinstance(self.spec.product, dict) else []
        )
        if unknown:
            there = ", ".join(sorted(source.seen_categories)[:20])
            raise UserError(f"datasets.{self.spec.name}.product: no category {unknown[0]!r} there; there are: {there}")
        if not total and not any(problem.blocking for problem in source.problems):
            there = what_is_there(source)
            raise UserError(
                f"{self.spec.root}: no image of {self.spec.reader} in it, {there}; check datasets.{self.spec.name}"
            )
        return total

    def run(self, runner: Runner, until: str = UNTIL[-1]) -> None:
        """Make the shards of this dataset.

        Args:
            runner: does it.
            until: the last step, of `UNTIL`.

        Raises:
            UserError: there are problems that are not to be skipped, or a category has no normal image.
        """
        wanted = UNTIL[: UNTIL.index(until) + 1]
        steps = self._steps(runner)
        self._read(steps)
        if "select" in wanted:
            self._select = self._choose(steps)
        if "pair" in wanted:
            self.pairs = self._pair(steps)
        self._count()

    def chosen(self) -> Iterator[tuple[Shard, list[int], list[int]]]:
        """Of each shard of `index`, after the step `select`: it, its rows that are templates, those that get one."""
        fit, query = (column.to_numpy() for column in read(self._select, ["fit", "query"]).columns)
        start = 0
        for shard in self.index:
            normal = pc.equal(read(shard, ["label"])["label"], "normal").to_numpy()
            end = start + shard.rows
            yield shard, np.flatnonzero(fit[start:end] & normal).tolist(), np.flatnonzero(query[start:end]).tolist()
            start = end

    def dropped(self) -> Iterator[dict[str, Any]]:
        """All that is in the dataset and in no pair, as lines (`Dropped`), in the steps' order."""
        for problem in self.source.problems:
            yield _line(problem)
        for shard in self.index:
            for problem in shard.notes["problems"]:
                yield _line(Problem(**problem))
        if self._select is not None:
            yield from map(json.loads, read(self._select, ["drop"])["drop"].drop_null().to_pylist())
        for shards, name in self._unpaired:
            for shard in shards:
                yield from shard.notes[name]

    def _opened(self) -> Source:
        spec = self.spec
        return make_source(
            spec.reader, spec.root, options=spec.options, categories=spec.categories, recipe=f"datasets.{spec.name}"
        )

    def _steps(self, runner: Runner) -> Steps:
        return Steps(self.place.work / self.spec.name, runner, self.spec.name)

    def _read(self, steps: Steps) -> None:
        spec, source, root = self.spec, self._opened(), str(self.spec.root)
        source.disputed, source.bits = self.source.disputed, self.source.bits
        given = {"dataset": spec.name, "licence": self.licence, "min_area": spec.min_area, "masks": spec.masks}

        def jobs() -> Iterator[Job]:
            items = scan(source)
            while part := list(islice(items, self.place.shard_images)):
                yield Job(given, also=fingerprint(part, root=root, options=dict(source.options)), more={"items": part})

        self.index = shards = []  # here already, so that `dropped` knows of a problem that ends the run
        for shard in steps.each(INDEX, jobs(), root=root, recipe=f"datasets.{spec.name}"):
            shards.append(shard)
            if not shards[0].rows and not spec.skip_problems:
                break  # a large dataset that was named wrongly is not read to its end
        for line in self._mask_lines():
            say(f"{spec.name}: {line}")
        blocking = [problem for shard in shards for problem in shard.notes["problems"] if problem["blocking"]]
        if blocking and not spec.skip_problems:
            raise UserError(problems_line(spec, [Problem(**problem) for problem in blocking]))
        if not sum(shard.rows for shard in shards):
            raise UserError(f"{spec.root}: none of the images of {spec.reader} could be used; see {spec.name}'s list")

    def _mask_lines(self) -> list[str]:
        return mask_lines(rows_of(self.index, ["image", "mask_kind", "mask_sha256"]))

    def _choose(self, steps: Steps) -> Shard:
        """Which rows are fit to be templates, and which get one: `fit`, `query`, and the reason against it `drop`."""
        spec, measures = self.spec, []
        if spec.filter is not None:
            measures = list(steps.each(MEASURE, (Job({"rows": one}) for one in self.index), root=str(spec.root)))
        if self.against and measures:
            more = {"against": tuple(self.against), "leaks": self.leaks}
            each = zip(self.index, measures, strict=True)
            jobs = (Job({"rows": rows, "measures": found, **more}) for rows, found in each)
            self.leaked = list(steps.each(LEAKS, jobs))
        asked = {name: getattr(spec, name) for name in ("ratio", "cut", "splits", "queries")}
        found = {"index": self.index, "measures": measures, "leaks": self.leaked}
        job = Job({**found, **asked, "limits": spec.filter, "seed": self.seed})
        return steps.one(SELECT, job, thumbs=steps.folder / "thumbs")

    def _pair(self, steps: Steps) -> list[Shard]:
        spec, root = self.spec, str(self.spec.root)
        chosen = list(self.chosen())
        vectors, kind = [], None
        if spec.pair.method == "nearest":
            kind = embedder(spec.pair).name  # what a folder or an id stands for
            jobs = (Job({"rows": shard, "chosen": normal}, also=kind) for shard, normal, _ in chosen)
            vectors = list(steps.each(EMBED, jobs, root=root, options=spec.pair))
        members = {"index": self.index, "normal": [normal for _, normal, _ in chosen], "vectors": vectors}
        pool = steps.one(POOL, Job(members), fits=pool_there, folder=steps.folder / POOL.name)
        self._unpaired.append(([pool], "unreadable"))
        self._check_templates(chosen, pool)
        decoys = {}
        if spec.crop is not None:
            decoys = collect_decoys((read(shard, rows=query) for shard, _, query in chosen), seed=self.seed)
        asked = {"pool": pool, "crops": spec.crop, "decoys": decoys, "seed": self.seed}
        also = [kind, spec.pair.choice]
        jobs = (Job({"rows": shard, "chosen": query, **asked}, also=also) for shard, _, query in chosen)
        shards = list(steps.each(PAIR, jobs, root=root, options=spec.pair))
        self._unpaired.append((shards, "unpaired"))
        return shards

    def _check_templates(self, chosen: Sequence[tuple[Shard, list[int], list[int]]], shard: Shard) -> None:
        """Refuse a category without normal images before any of them is paired."""
        if self.spec.pair.skip_unpaired:
            return
        pool, missing = Pool(read(shard)), Counter()
        for rows, _, query in chosen:
            columns = ["source", "category", "view"]
            for one in read(rows, columns, query).to_pylist():
                if not template_key(one, pool, other_views=self.spec.pair.other_views):
                    missing["/".join(one[name] for name in columns[1:] if one[name])] += 1
        lost = self._lost_normals()
        for name, count in missing.items():
            why = lost.get(name.partition("/")[0])
            if why:
                reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(why.items()))
                kept = ",".join(sorted({*why, *self.spec.filter.allow}))
                raise UserError(
                    f"datasets.{self.spec.name}: all {why.total()} good images of {name} are left out: {reasons}; "
                    f"nothing to compare its {count} images with is left; mend them, or keep them with --set "
                    f"'datasets.{self.spec.name}.filter.allow=[{kept}]'"
                )
        if missing:
            names = ", ".join(f"{name} ({count} images)" for name, count in sorted(missing.items())[:5])
            more = " …" if len(missing) > 5 else ""
            raise UserError(
                f"datasets.{self.spec.name}: no normal image to compare with in {len(missing)} categories or views: "
                f"{names}{more}; add some, or leave these out by pair.skip_unpaired: true (or other views, by "
                "pair.other_views: true)"
            )

    def _lost_normals(self) -> dict[str, Counter]:
        """Category → why its good images are not fit."""
        found: dict[str, Counter] = {}
        for text in read(self._select, ["drop"])["drop"].to_pylist():
            record = json.loads(text) if text is not None else {}
            if record.get("label") == "normal" and record["reason"] not in ("rebalanced", "leak", "unreadable"):
                found.setdefault(record["category"], Counter())[record["reason"]] += 1
        return found

    def cut(self, runner: Runner, chosen: Mapping[int, Sequence[int]]) -> dict[int, Shard]:
        """Write the images of some pairs; shard of pairs → shard of `cut.CUT`.

        Args:
            runner: does it.
            chosen: shard of pairs (its index in `pairs`) → rows.
        """
        spec, place = self.spec, self.place
        marked = f"{place.prefix}.work/marked" if place.marked else ""
        asked = {"prefix": place.prefix, "dataset": spec.name, "images": spec.images, "marked_prefix": marked}

        def jobs() -> Iterator[Job]:
            for number, rows in chosen.items():
                # Outputs draw different pairs of a shard.
                name = f"{number:06d}-{content_key(list(rows))[:12]}"
                yield Job({"pairs": self.pairs[number], "chosen": list(rows), **asked}, name=name)

        where = {"root": str(spec.root), "media_dir": str(place.media_dir)}
        made = self._steps(runner).each(CUT, jobs(), fits=lambda shard: files_there(shard, place.media_dir), **where)
        return dict(zip(chosen, made, strict=True))

    def _count(self) -> None:
        labels: Counter = Counter()
        categories: set[str] = set()
        for rows in rows_of(self.index, ["label", "category"]):
            labels.update(rows["label"].to_pylist())
            categories.update(rows["category"].to_pylist())
        reasons: dict[bool, Counter] = {True: Counter(), False: Counter()}  # left out or only told → why
        for one in self.dropped():
            reasons[one.get("left_out", True)][f"{one['step']}: {one['reason']}"] += one.get("count", 1)
        empty = pa.table({"query": pa.array([], pa.bool_()), "drop": pa.array([], pa.string())})
        chosen = empty if self._select is None else read(self._select, empty.column_names)
        self.counts = {
            "reader": self.spec.reader,
            "licence": self.licence,
            "layout": dict(sorted(self.source.found.items())),
            "images": sum(labels.values()),
            "normal": labels["normal"],
            "anomalous": labels["anomalous"],
            "categories": len(categories),
            "masks": self._mask_lines(),
            "queries": int(pc.sum(chosen["query"]).as_py() or 0),
            # By the recipe's splits and queries: templates at most.
            "not_asked_for": int(pc.sum(pc.and_(pc.invert(chosen["query"]), chosen["drop"].is_null())).as_py() or 0),
            "pairs": sum(shard.rows for shard in self.pairs),
            "left_out": dict(sorted(reasons[True].items())),
            "noted": dict(sorted(reasons[False].items())),
            "lost": dataset_losses(labels, self.dropped()),
            "index_digest": content_key("", 0, [shard.digest for shard in self.index]),
        }


def problems_line(spec: DatasetSpec, problems: Sequence[Problem]) -> str:
    """One line about what is wrong with a dataset."""
    kinds = Counter(problem.kind for problem in problems)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    first = "; ".join(f"{problem.file or '.'}: {problem.reason}" for problem in problems[:3])
    more = f"; and {len(problems) - 3:,} more" if len(problems) > 3 else ""
    return (
        f"datasets.{spec.name} ({spec.root}): problems: {counts}: {first}{more}; correct them, or leave these images "
        "out by skip_problems: true"
    )


def _line(problem: Problem) -> dict[str, Any]:
    found = {"image": problem.file, "reason": problem.kind, "detail": problem.reason, "count": problem.count}
    return Dropped(step="index", left_out=problem.blocking, **found).line()
