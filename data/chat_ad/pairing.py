"""Give each query a template: a normal image of the same category and view.

`nearest` takes the one whose vector (`embedding`) has the largest inner product with the query's; FAISS finds it among
thousands, and what comes out is what comparing with every one of them would give: candidates are compared again in
double precision, all of them where FAISS's single precision could have missed one; of equal ones the first by name.
`random` takes any, by a hash of the seed and the query's name.

An image is never its own template, nor is one with the same content. A good part of another shape (its aspect ratio
differs by more than `images.SHAPE`) is taken only where there is none of the query's, and one of the same physical
object (`group`) only where there is no other. Names of files decide nothing: `0001.jpg` is in every folder.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from ..images import ASPECT_SLACK, aspect
from .draws import below
from .dropped import Dropped
from .fitness.measures import Coded
from .recipe.model import Count, Spec, Text
from .table import SCHEMA

__all__ = ["METHODS", "PAIR_SCHEMA", "POOL_COLUMNS", "PairOptions", "Pool", "pair_shard", "template_key"]

METHODS = ("nearest", "random")

#: A pair: the query's row, its template with its size in pixels, how alike they are (cosine; null for `random`), and
#: the window (x1, y1, x2, y2) in the query's pixels that is cut out of both (null for the whole; `crops`).
PAIR_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("template", pa.string()),
        pa.field("template_sha256", pa.string()),
        pa.field("template_width", pa.int32()),
        pa.field("template_height", pa.int32()),
        pa.field("similarity", pa.float64()),
        pa.field("crop", pa.list_(pa.int32())),
    ]
)

#: The columns that a `Pool` needs.
POOL_COLUMNS = ["image", "category", "view", "label", "sha256", "source", "group", "width", "height"]

# Shelves (with their index) that a pool keeps in memory: tables often alternate between the views of a category.
_SHELVES = 8

# Single-precision sums of thousands of products are off by less than this.
_SLACK = 1e-4


class PairOptions(Spec):
    """How templates are chosen: a recipe's `pair`.

    Attributes:
        method: one of `METHODS`.
        among: `nearest` takes one of so many nearest ones, by the hash that `random` uses.
        templates: so many for each query, as far as there are, each of which makes a pair.
        other_views: take a normal image of another view of the category where its own view has none.
        least_similarity: of a pair; a query whose nearest template is less alike has no pair. None for any.
        skip_unpaired: whether a category without any normal image is left out instead of being an error.
        embed, device, dtype, batch_size: by what images are compared, see `embedding.load_embedder`.
    """

    method: Literal[METHODS] = "nearest"
    among: Count = 1
    templates: Annotated[int, Field(ge=1, le=64)] = 1
    other_views: bool = False
    least_similarity: Annotated[float, Field(ge=-1, le=1)] | None = None
    skip_unpaired: bool = False
    embed: Text | None = None
    device: Text = "auto"
    dtype: Text = "auto"
    batch_size: Count | None = None

    @model_validator(mode="after")
    def _random(self) -> PairOptions:
        if self.method == "random" and (self.embed or self.among > 1 or self.least_similarity is not None):
            raise ValueError("the method random takes any template; remove embed, among and least_similarity")
        return self

    @property
    def choice(self) -> dict[str, Any]:
        """What decides about the pairs besides the vectors."""
        return self.model_dump(include={"method", "among", "templates", "other_views", "least_similarity"})


class Pool:
    """Normal images to choose templates from.

    Args:
        rows: `POOL_COLUMNS`; anomalous rows are passed over.
        vectors: (n, d) float32 of unit length, one for each row (may be a mapped file); None if only `random` is used.
        unusable: row → why it cannot be opened.
    """

    def __init__(
        self, rows: pa.Table, vectors: np.ndarray | None = None, *, unusable: Mapping[int, str] | None = None
    ) -> None:
        self.rows, self.vectors, self.unusable = rows.combine_chunks(), vectors, dict(unusable or {})
        self._shelves: OrderedDict[tuple, _Shelf] = OrderedDict()
        usable = pc.equal(rows["label"], "normal").to_numpy().copy()
        usable[list(self.unusable)] = False
        # By name, so that the order of the table decides nothing.
        order = pc.sort_indices(rows["image"]).to_numpy()
        order = order[usable[order]]
        columns = [Coded(rows[name]) for name in ("source", "category", "view")]
        codes = np.stack([column.codes[order] for column in columns], axis=1)
        self._members: dict[tuple[str, ...], np.ndarray] = {}
        for width in (3, 2) if len(order) else ():
            inverse = np.unique(codes[:, :width], axis=0, return_inverse=True)[1].ravel()
            by_key = np.argsort(inverse, kind="stable")
            for places in np.split(by_key, np.flatnonzero(np.diff(inverse[by_key])) + 1):
                rows_of = order[places]
                self._members[tuple(column[rows_of[0]] for column in columns[:width])] = rows_of

    def __getstate__(self) -> dict:
        """For other processes: without the shelves, which are made again where they are needed."""
        return {**self.__dict__, "_shelves": OrderedDict()}

    def __contains__(self, key: tuple[str, ...]) -> bool:
        """Whether there is any for `(source, category, view)`, or for `(source, category)`."""
        return key in self._members

    def shelf(self, key: tuple[str, ...]) -> _Shelf:
        """The images of a key that is in the pool; the last few shelves stay in memory."""
        if key not in self._shelves:
            self._shelves[key] = _Shelf(self, self._members[key])
            if len(self._shelves) > _SHELVES:
                self._shelves.popitem(last=False)
        self._shelves.move_to_end(key)
        return self._shelves[key]


class _Shelf:
    """The normal images of one category and view; a *place* is an image's index among them."""

    def __init__(self, pool: Pool, members: np.ndarray) -> None:
        self.members, self._pool = members, pool
        rows = pool.rows.select(["image", "sha256", "group"]).take(pa.array(members)).to_pydict()
        self.places: dict[str, dict[str, list[int]]] = {name: {} for name in rows}
        for name, values in rows.items():
            for place, value in enumerate(values):
                self.places[name].setdefault(value, []).append(place)
        sizes = pool.rows.select(["width", "height"]).take(pa.array(members))
        self.aspects = np.array([aspect(size) for size in zip(*sizes.to_pydict().values(), strict=True)])
        self._index: faiss.IndexFlatIP | None = None
        self.vectors: np.ndarray | None = None

    def excluded(self, query: dict) -> set[int]:
        """The places that cannot be the query's template."""
        itself = {place for name in ("image", "sha256") for place in self.places[name].get(query[name], ())}
        same = self.places["group"].get(query["group"], ()) if query["group"] else ()
        far = np.abs(self.aspects - aspect((query["width"], query["height"]))) > ASPECT_SLACK
        unlike = np.flatnonzero(far).tolist()
        # What a template should not be, and what it must not be, given up in this order where nothing else is left.
        for more in ((*same, *unlike), unlike, same):
            out = itself.union(more)
            if len(out) < len(self.members):
                return out
        return itself

    def index(self) -> faiss.IndexFlatIP:
        if self._index is None:
            self.vectors = np.ascontiguousarray(self._pool.vectors[self.members])
            self._index = faiss.IndexFlatIP(self.vectors.shape[1])
            self._index.add(self.vectors)
        return self._index

    def nearest(self, queries: np.ndarray, excluded: list[set[int]], among: int) -> list[list[tuple[int, float]]]:
        """For each query the `among` places with the largest inner product, the first of equals, and that product.

        Args:
            queries: (n, d) float32.
            excluded: for each, the places that do not count; never all of them.
            among: at least 1; there may be fewer.
        """
        index = self.index()
        count = len(self.members)
        depth = min(count, among + max(map(len, excluded)) + 8)
        scores, found = index.search(np.ascontiguousarray(queries), depth)
        result = []
        for query, scores_of, places, out in zip(queries, scores, found, excluded, strict=True):
            wanted = min(among, count - len(out))
            ranked = self._exact(query, [place for place in places.tolist() if place not in out])
            # Whatever FAISS left out is at most its last score: is that, with its error, below what is taken?
            if depth < count and (len(ranked) < wanted or ranked[wanted - 1][1] <= scores_of[-1] + _SLACK):
                ranked = self._exact(query, [place for place in range(count) if place not in out])
            result.append(ranked[:wanted])
        return result

    def _exact(self, query: np.ndarray, places: list[int]) -> list[tuple[int, float]]:
        products = (self.vectors[places].astype(np.float64) * query.astype(np.float64)).sum(axis=1).tolist()
        # What differs in the last digits only is the same picture twice.
        return sorted(zip(places, products, strict=True), key=lambda one: (-round(one[1], 9), one[0]))


def pair_shard(
    rows: pa.Table,
    vectors: np.ndarray | None,
    pool: Pool,
    *,
    options: PairOptions | None = None,
    seed: int = 0,
    problems: dict[int, str] | None = None,
) -> tuple[pa.Table, list[dict]]:
    """The pairs of a shard's queries.

    Args:
        rows: the queries, of `table.SCHEMA`.
        vectors: (n, d) float32, theirs; None for `random`.
        pool: to choose from, the same for all shards.
        options: how.
        seed: of the hash by which one is chosen among several.
        problems: row → why a query cannot be opened.

    Returns:
        A table of `PAIR_SCHEMA` (`crop` null), queries in order, each with its templates, and a line
        (`Dropped`) for each query that has no pair: `unreadable`, `no_normal` (none of its category and
        view), `only_itself`, `too_different`.
    """
    options, problems = options or PairOptions(), problems or {}
    chosen: dict[int, list[tuple[int, float | None]]] = {}
    unpaired: dict[int, dict] = {}
    queries = rows.select(POOL_COLUMNS).to_pylist()
    by_key: dict[tuple[str, ...], list[int]] = {}

    def lost(row: int, reason: str, value: Any, limit: Any = None) -> None:
        unpaired[row] = Dropped.row("pair", queries[row], reason, value, limit).line()

    for row, query in enumerate(queries):
        key = template_key(query, pool, other_views=options.other_views)
        if row in problems:
            lost(row, "unreadable", problems[row])
        elif key is None:
            name = "/".join(query[name] for name in ("source", "category", "view") if query[name])
            lost(row, "no_normal", name, "a normal image of it")
        else:
            by_key.setdefault(key, []).append(row)
    for key, asking in by_key.items():
        shelf = pool.shelf(key)
        excluded = {row: shelf.excluded(queries[row]) for row in asking}
        alone = {row for row in asking if len(excluded[row]) == len(shelf.members)}
        for row in alone:
            lost(row, "only_itself", len(shelf.members), "another normal image")
        asking = [row for row in asking if row not in alone]
        if options.method == "random":
            for row in asking:
                free = [place for place in range(len(shelf.members)) if place not in excluded[row]]
                first = below(len(free), seed, queries[row]["image"])
                wanted = min(options.templates, len(free))
                places = [free[(first + number * len(free) // wanted) % len(free)] for number in range(wanted)]
                chosen[row] = [(int(shelf.members[place]), None) for place in places]
        elif asking:
            depth = max(options.among, options.templates)
            ranked = shelf.nearest(vectors[asking], [excluded[row] for row in asking], depth)
            for row, found in zip(asking, ranked, strict=True):
                best = round(found[0][1], 6)
                if options.least_similarity is not None:
                    found = [one for one in found if round(one[1], 6) >= options.least_similarity]
                if not found:
                    lost(row, "too_different", best, options.least_similarity)
                    continue
                first = below(len(found[: options.among]), seed, queries[row]["image"])
                taken = [*found[first:], *found[:first]][: options.templates]
                chosen[row] = [(int(shelf.members[place]), round(similarity, 6)) for place, similarity in taken]
    kept = [(row, member, similarity) for row in sorted(chosen) for member, similarity in chosen[row]]
    names = ["image", "sha256", "width", "height"]
    picked = pool.rows.select(names).take(pa.array([member for _, member, _ in kept], pa.int64()))
    columns = [
        *rows.take(pa.array([row for row, _, _ in kept], pa.int64())).select(SCHEMA.names).columns,
        *(picked[name] for name in names),
        pa.array([similarity for _, _, similarity in kept], pa.float64()),
        pa.nulls(len(kept), PAIR_SCHEMA.field("crop").type),
    ]
    return pa.table(columns, schema=PAIR_SCHEMA), [unpaired[row] for row in sorted(unpaired)]


def template_key(query: Mapping[str, str], pool: Pool, *, other_views: bool) -> tuple[str, ...] | None:
    """Under which key the pool has templates for a query: its category and view, its category, or none."""
    key = (query["source"], query["category"], query["view"])
    if key in pool:
        return key
    return key[:2] if other_views and key[:2] in pool else None
