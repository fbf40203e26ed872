"""One dataset of a build: index → measure → select → embed → pair, then cut what is drawn, shard by shard.

What concerns all of a dataset at once (what is usual in a category, duplicates, the ratio, the pool of templates) is
decided here between the steps, from a few columns; images and rows are in memory a shard at a time.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import UserError
from ..crops import collect_decoys
from ..pairing import POOL_COLUMNS, Pool, template_key
from ..readers import LICENCES, Item, Problem, Source, make_source, prescan, scan, with_depth
from ..readers.contents import what_is_there
from ..readers.measure import fingerprint
from ..recipe.reading import RECORDS
from ..recipe.specs import DatasetSpec, LeakSpec
from ..recorded_pairs import scan_records
from ..sources.mask_counts import count_masks, mask_lines
from ..table import SCHEMA
from .against import LEAKS_VERSION, Against, compare_shard
from .cut_step import CUT_VERSION, cut_shard, files_there
from .losses import dataset_losses
from .runners import Job, Runner, make_shards
from .select_step import select_rows
from .shard_steps import (
    VERSIONS,
    embed_shard,
    embedder,
    index_shard,
    measure_shard,
    pair_shard_rows,
    pool_there,
    write_pool,
)
from .shards import Shard, load, read, rows_of, save, step_key

__all__ = ["UNTIL", "DatasetBuild", "Place", "problems_line"]

#: Steps that a build may end with, each after the one before it.
UNTIL = ("index", "select", "pair")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a build works.

    Attributes:
        work: folder of finished shards.
        media_dir: what the names of images are relative to.
        prefix: the output folder in `media_dir`, with a slash behind it or empty.
        marked: whether copies with outlined defects are needed.
        shard_images: images (or strips of views) of a shard.
    """

    work: Path
    media_dir: Path
    prefix: str
    marked: bool
    shard_images: int


@dataclass(kw_only=True)
class DatasetBuild:
    """The steps of one dataset.

    Attributes:
        spec: from the recipe.
        place: where.
        seed: of the choice that the ratio makes.
        against: evaluation sets whose images are left out.
        leaks: how that is done.
        found: which of several forms of the layout was there, counted.
        passed_over: files that are no images, counted by suffix.
        problems: what the reader says.
        labels: images that the layout calls normal and anomalous, after `preflight`.
        index: shards of the table, after `run`.
        leaked: for each of them a shard of `against.compare_shard`, if there is anything to compare with.
        pairs: shards of pairs, after `run`; `cut` makes the files of some of them.
        counts: for the manifest, after `run`.
    """

    spec: DatasetSpec
    place: Place
    seed: int
    against: Sequence[Against] = ()
    leaks: LeakSpec = field(default_factory=LeakSpec)
    found: Counter = field(default_factory=Counter)
    passed_over: Counter = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    labels: Counter = field(default_factory=Counter)
    index: list[Shard] = field(default_factory=list)
    leaked: list[Shard] = field(default_factory=list)
    pairs: list[Shard] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    _left_out: list[tuple[str, list[Shard], str]] = field(default_factory=list)
    _select: Shard | None = None
    _first: Source | None = None

    @property
    def licence(self) -> str:
        """What is known about the terms."""
        return LICENCES.get(self.spec.reader, "the user's own")

    def preflight(self) -> int:
        """Read the layout, names and annotation files only; the number of images.

        Raises:
            UserError: the root is not the dataset, or there is nothing in it.
        """
        source = self._source()
        self.labels = Counter()

        def counted() -> Iterator[Item]:
            for item in self._scan(source):
                self.labels["anomalous" if item.anomalous else "normal"] += 1
                yield item

        total = prescan(source, counted())
        self.found, self.problems, self._first = source.found, source.problems, source
        self.passed_over = source.passed_over
        unknown = (
            sorted(set(self.spec.product) - source.seen_categories) if isinstance(self.spec.product, dict) else []
        )
        if unknown:
            there = ", ".join(sorted(source.seen_categories)[:20])
            raise UserError(f"datasets.{self.spec.name}.product: no category {unknown[0]!r} there; there are: {there}")
        if not total and not any(problem.blocking for problem in self.problems):
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
        steps = UNTIL[: UNTIL.index(until) + 1]
        self.index = self._index(runner)
        if "select" in steps:
            self._select = self._choose(self.index, runner)
        if "pair" in steps:
            self.pairs = self._pair(runner)
        self._count()

    def chosen(self) -> Iterator[tuple[Shard, list[int], list[int]]]:
        """Of each shard of `index`, after the step `select`: it, its rows that are templates, those that get one."""
        yield from _by_shard(self.index, read(self._select, ["fit", "query"]))

    def dropped(self) -> Iterator[dict[str, Any]]:
        """All that is in the dataset and in no pair: `{"step", "image", "reason", …}`, in the steps' order."""
        for problem in self.problems:
            yield _problem_line(asdict(problem))
        for step, shards, name in self._left_out:
            for shard in shards:
                for record in shard.notes[name]:
                    yield _problem_line(record) if step == "index" else {"step": step, **record}
            if step == "index" and self._select is not None:
                for text in read(self._select, ["drop"])["drop"].to_pylist():
                    if text is not None:
                        record = json.loads(text)
                        yield {"step": "rebalance" if record["reason"] == "rebalanced" else "filter", **record}

    def _source(self) -> Source:
        spec = self.spec
        if spec.reader == RECORDS:
            if not spec.root.is_dir():
                raise UserError(f"datasets.{spec.name}.root is {spec.root}: no such folder")
            return Source(root=spec.root, dataset=RECORDS, options=spec.options, categories=frozenset(spec.categories))
        return make_source(
            spec.reader, spec.root, options=spec.options, categories=spec.categories, recipe=f"datasets.{spec.name}"
        )

    def _scan(self, source: Source) -> Iterator[Item]:
        # Records of another build may share a mask: its files are named by their content.
        return with_depth(source, scan_records(source)) if self.spec.reader == RECORDS else scan(source)

    def _index(self, runner: Runner) -> list[Shard]:
        spec, source = self.spec, self._source()
        root = str(spec.root)
        if self._first is not None:
            source.disputed, source.bits = self._first.disputed, self._first.bits
        settings = {
            "dataset": spec.name,
            "options": dict(source.options),
            "min_area": spec.min_area,
            "masks": asdict(spec.mask),
        }

        def jobs() -> Iterator[Job]:
            items = self._scan(source)
            for number in range(sys.maxsize):
                part = list(islice(items, self.place.shard_images))
                if not part:
                    return
                key = fingerprint(part, root=root, version=[VERSIONS["index"]], licence=self.licence, **settings)
                arguments = {
                    "items": part,
                    "root": root,
                    "dataset": spec.name,
                    "licence": self.licence,
                    "min_area": spec.min_area,
                    "masks": spec.mask,
                    "recipe": f"datasets.{spec.name}",
                }
                yield Job(self._file("index", number), key, arguments)

        shards = []
        for shard in self._make("index", index_shard, jobs(), runner):
            shards.append(shard)
            if not shards[0].rows and not spec.skip_problems:
                break  # a large dataset that was named wrongly is not read to its end
        for line in self._mask_lines(shards):
            print(f"{spec.name}: {line}", file=sys.stderr, flush=True)
        self._left_out.append(("index", shards, "problems"))
        blocking = [problem for shard in shards for problem in shard.notes["problems"] if problem["blocking"]]
        if blocking and not spec.skip_problems:
            raise UserError(problems_line(spec, [Problem(**problem) for problem in blocking]))
        if not sum(shard.rows for shard in shards):
            raise UserError(f"{spec.root}: none of the images of {spec.reader} could be used; see {spec.name}'s list")
        return shards

    def _mask_lines(self, index: list[Shard]) -> list[str]:
        kinds, same = Counter(), {}
        for rows in rows_of(index, ["image", "mask_kind", "mask_sha256"]):
            count_masks(rows, kinds, same)
        return mask_lines(kinds, same)

    def _choose(self, index: list[Shard], runner: Runner) -> Shard:
        """Which rows are fit to be templates, and which get one: `fit`, `query`, and the reason against it `drop`."""
        spec, measures = self.spec, []
        if spec.filter is not None:
            jobs = (
                Job(
                    self._file("measure", number),
                    step_key("measure", VERSIONS["measure"], shard.digest),
                    {"rows": shard.path, "root": str(spec.root)},
                )
                for number, shard in enumerate(index)
            )
            measures = list(self._make("measure", measure_shard, jobs, runner))
        asked = [
            None if spec.filter is None else {**asdict(spec.filter), "allowed": sorted(spec.filter.allowed)},
            [spec.ratio, spec.cut, self.seed, spec.splits, spec.queries],
        ]
        leaks = self.leaked = self._compare(index, measures, runner)
        digests = [shard.digest for shard in (*index, *measures, *leaks)]
        key = step_key("select", VERSIONS["select"], digests, asked)
        path, thumbs = (self.place.work / spec.name / name for name in ("select.parquet", "thumbs"))
        return load(path, key) or save(
            path, key, select_rows(spec, seed=self.seed, index=index, measures=measures, leaks=leaks, thumbs=thumbs)
        )

    def _compare(self, index: list[Shard], measures: list[Shard], runner: Runner) -> list[Shard]:
        if not self.against or not measures:
            return []
        asked = [[one.digest for one in self.against], asdict(self.leaks.options), self.leaks.drop]
        more = {"against": tuple(self.against), "leaks": self.leaks}
        jobs = (
            Job(
                self._file("leaks", number),
                step_key("leaks", LEAKS_VERSION, rows.digest, found.digest, asked),
                {"rows": rows.path, "measures": found.path, **more},
            )
            for number, (rows, found) in enumerate(zip(index, measures, strict=True))
        )
        return list(self._make("leaks", compare_shard, jobs, runner))

    def _pair(self, runner: Runner) -> list[Shard]:
        spec, root = self.spec, str(self.spec.root)
        chosen = list(self.chosen())
        nearest = spec.pair.method == "nearest"
        vectors, kind = [], None
        if nearest:
            kind = embedder(spec.embed).name
            jobs = (
                Job(
                    self._file("embed", number),
                    step_key("embed", VERSIONS["embed"], shard.digest, normal, kind),
                    {"rows": shard.path, "chosen": normal, "root": root, "embed": spec.embed},
                )
                for number, (shard, normal, _) in enumerate(chosen)
            )
            vectors = list(self._make("embed", embed_shard, jobs, runner))
        pool_path = self.place.work / spec.name / "pool" / "pool.parquet"
        members = [[shard.digest, normal] for shard, normal, _ in chosen]
        pool_key = step_key("pool", VERSIONS["pool"], members, [shard.digest for shard in vectors])
        pool = load(pool_path, pool_key)
        if pool is None or not pool_there(pool, pool_key):
            schema = pa.schema([SCHEMA.field(name) for name in POOL_COLUMNS])
            parts = [read(shard, POOL_COLUMNS).take(pa.array(normal, pa.int64())) for shard, normal, _ in chosen]
            rows = pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()
            pool = write_pool(pool_path, pool_key, rows=rows, shards=vectors)
        self._check_templates(chosen, pool)
        decoys = {}
        if spec.crop is not None:
            decoys = collect_decoys((_taken(shard, query) for shard, _, query in chosen), seed=spec.crop.seed)
        known = sorted((list(key), values) for key, values in decoys.items())
        asked = [asdict(spec.pair), kind, None if spec.crop is None else asdict(spec.crop), known, pool.digest]
        jobs = (
            Job(
                self._file("pair", number),
                step_key("pair", VERSIONS["pair"], shard.digest, query, asked),
                {
                    "rows": shard.path,
                    "chosen": query,
                    "root": root,
                    "pool": pool_path,
                    "pool_key": pool_key,
                    "options": spec.pair,
                    "embed": spec.embed,
                    "crops": spec.crop,
                    "decoys": decoys,
                },
            )
            for number, (shard, _, query) in enumerate(chosen)
        )
        shards = list(self._make("pair", pair_shard_rows, jobs, runner))
        self._left_out.append(("pair", shards, "unpaired"))
        return shards

    def _check_templates(self, chosen: Sequence[tuple[Shard, list[int], list[int]]], shard: Shard) -> None:
        """Refuse a category without normal images before any of them is paired."""
        if self.spec.skip_unpaired:
            return
        pool, missing = Pool(read(shard)), Counter()
        for rows, _, query in chosen:
            columns = ["source", "category", "view"]
            for one in _taken(rows, query, columns).to_pylist():
                if not template_key(one, pool, other_views=self.spec.pair.other_views):
                    missing["/".join(one[name] for name in columns[1:] if one[name])] += 1
        lost = self._lost_normals()
        for name, count in missing.items():
            why = lost.get(name.partition("/")[0])
            if why:
                reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(why.items()))
                kept = ",".join(sorted({*why, *self.spec.filter.allowed}))
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
        """Write the images of some pairs; shard of pairs → shard of `shard_steps.cut_shard`.

        Args:
            runner: does it.
            chosen: shard of pairs (its index in `pairs`) → rows.
        """
        spec, place = self.spec, self.place
        marked = f"{place.prefix}.work/marked" if place.marked else ""
        options = [asdict(spec.images), place.prefix, marked]

        def jobs() -> Iterator[Job]:
            for number, rows in chosen.items():
                key = step_key("cut", CUT_VERSION, self.pairs[number].digest, spec.name, options, list(rows))
                arguments = {
                    "pairs": self.pairs[number].path,
                    "chosen": list(rows),
                    "root": str(spec.root),
                    "media_dir": str(place.media_dir),
                    "prefix": place.prefix,
                    "dataset": spec.name,
                    "images": spec.images,
                    "marked_prefix": marked,
                }
                yield Job(place.work / spec.name / "cut" / f"{number:06d}-{key[:12]}.parquet", key, arguments)

        made = self._make("cut", cut_shard, jobs(), runner, fits=lambda shard: files_there(shard, place.media_dir))
        return dict(zip(chosen, made, strict=True))

    def _count(self) -> None:
        labels: Counter = Counter()
        categories: set[str] = set()
        for rows in rows_of(self.index, ["label", "category"]):
            labels.update(rows["label"].to_pylist())
            categories.update(rows["category"].to_pylist())
        reasons: dict[bool, Counter] = {True: Counter(), False: Counter()}  # left out or only told → why
        for one in self.dropped():
            why = one["kind"] if one["step"] == "index" else one["reason"]
            reasons[one.get("left_out", True)][f"{one['step']}: {why}"] += one.get("count", 1)
        empty = pa.table({"query": pa.array([], pa.bool_()), "drop": pa.array([], pa.string())})
        chosen = empty if self._select is None else read(self._select, empty.column_names)
        self.counts = {
            "reader": self.spec.reader,
            "licence": self.licence,
            "layout": dict(sorted(self.found.items())),
            "images": sum(labels.values()),
            "normal": labels["normal"],
            "anomalous": labels["anomalous"],
            "categories": len(categories),
            "masks": self._mask_lines(self.index),
            "queries": int(pc.sum(chosen["query"]).as_py() or 0),
            # By the recipe's splits and queries: templates at most.
            "not_asked_for": int(pc.sum(pc.and_(pc.invert(chosen["query"]), chosen["drop"].is_null())).as_py() or 0),
            "pairs": sum(shard.rows for shard in self.pairs),
            "left_out": dict(sorted(reasons[True].items())),
            "noted": dict(sorted(reasons[False].items())),
            "lost": dataset_losses(labels, self.dropped()),
            "index_digest": step_key("", 0, [shard.digest for shard in self.index]),
        }

    def _file(self, step: str, number: int) -> Path:
        return self.place.work / self.spec.name / step / f"{number:06d}.parquet"

    def _make(self, step: str, function, jobs: Iterable[Job], runner: Runner, **more) -> Iterator[Shard]:
        done = 0

        def progress() -> None:
            nonlocal done
            done += 1
            if done % 10 == 0:
                print(f"{self.spec.name}: {step}, {done} shards", file=sys.stderr, flush=True)

        yield from make_shards(runner, function, jobs, progress=progress, **more)
        print(f"{self.spec.name}: {step} done, {done} shards", file=sys.stderr, flush=True)


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


def _problem_line(problem: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": "index",
        "image": problem["file"],
        "reason": problem["reason"],
        "kind": problem["kind"],
        "left_out": problem["blocking"],
        "count": problem.get("count", 1),
    }


def _by_shard(index: list[Shard], select: pa.Table) -> Iterator[tuple[Shard, list[int], list[int]]]:
    """(shard, its rows that are templates, its rows that are queries)"""
    fit, query = (select[name].to_numpy() for name in ("fit", "query"))
    start = 0
    for shard in index:
        normal = pc.equal(read(shard, ["label"])["label"], "normal").to_numpy()
        end = start + shard.rows
        yield shard, np.flatnonzero(fit[start:end] & normal).tolist(), np.flatnonzero(query[start:end]).tolist()
        start = end


def _taken(shard: Shard, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
    return read(shard, columns).take(pa.array(rows, pa.int64()))
