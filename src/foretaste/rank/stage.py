"""Sources and what was known when they were fitted: from queries to candidates, and from candidates to examples."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Number, Table
from foretaste.dataset import Dataset, EventKinds
from foretaste.histories import Histories
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.rank.examples import Examples
from foretaste.rank.follows import Follows
from foretaste.rank.item_times import ItemTimes
from foretaste.rank.likeness import Likeness
from foretaste.rank.log_features import item_features, item_statistics, pair_features, request_features
from foretaste.rank.pool import Pool, pooled
from foretaste.recommender import About, Model
from foretaste.storage import part, prefixed

__all__ = ["Stage", "among", "drawn"]

POSITION = "position"  # of the column, by which the ranker knows what it is


@dataclass(frozen=True, eq=False)
class Stage:
    """Fitted sources, and what was known of the items when they were fitted."""

    sources: Mapping[str, Model]
    sizes: Mapping[str, int]  # how many candidates each names
    statistics: Table  # one row per item, from the log
    catalog: Table  # one row per item
    items: Table  # both together, as features; always the same table, by which a ranker knows that it has read it
    kinds: EventKinds
    times: ItemTimes | None  # when items were met; None: the log has no times
    follows: Follows | None  # what came after what; None: the log has no order
    likeness: Likeness  # of items, by what the catalogue says

    @classmethod
    def of(
        cls,
        sources: Mapping[str, Model],
        sizes: Mapping[str, int],
        seen: Dataset,
        known: Dataset | None = None,
        likeness: Likeness | None = None,
    ) -> Self:
        """The stage of sources that were fitted on ``seen``.

        Args:
            known: What is known of items at the moment of asking, where that is more than ``seen``.
            likeness: Of items, where it is known already.
        """
        catalog = Table(len(seen.items)) if seen.catalog is None else seen.catalog.items
        statistics, times = item_statistics(seen), ItemTimes.of(seen if known is None else known)
        items = item_features(statistics, catalog)
        likeness = Likeness.of(seen) if likeness is None else likeness
        return cls(sources, sizes, statistics, catalog, items, seen.kinds, times, Follows.of(seen), likeness)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was known, without the sources and the catalogue; with ``schema()`` it can be restored."""
        found = prefixed("statistics", self.statistics.arrays())
        if self.times is not None:
            found |= prefixed("times", self.times.arrays())
        if self.follows is not None:
            found |= prefixed("follows", self.follows.arrays())
        return found | prefixed("likeness", self.likeness.arrays())

    def schema(self) -> dict[str, Any]:
        return self.statistics.schema()

    @classmethod
    def restored(
        cls,
        sources: Mapping[str, Model],
        sizes: Mapping[str, int],
        about: About,
        schema: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
    ) -> Self:
        """The stage whose ``schema()`` and ``arrays()`` these are.

        Args:
            sources: As they were restored.
            about: What they know of the data.
        """
        statistics = Table.from_arrays(schema, part(arrays, "statistics"))
        items = item_features(statistics, about.catalog)
        times, follows = part(arrays, "times"), part(arrays, "follows")
        return cls(
            sources,
            sizes,
            statistics,
            about.catalog,
            items,
            about.kinds,
            ItemTimes.from_arrays(times) if times else None,
            Follows.from_arrays(len(about.items), follows) if follows else None,
            Likeness.from_arrays(about.catalog, part(arrays, "likeness")),
        )

    def with_histories(self, histories: Histories | None) -> "Stage":
        """The same; its sources number users as these histories do."""
        sources = {label: copy.copy(each) for label, each in self.sources.items()}
        for each in sources.values():
            each.histories = histories
        return replace(self, sources=sources)

    def pool(
        self,
        queries: Queries,
        hidden: Ragged | None,
        offered: NDArray[np.bool_] | None = None,
        given: Ragged | None = None,
    ) -> Pool:
        """The candidates of some queries; see ``pooled``."""
        return pooled(self.sources, queries, self.sizes, hidden, offered, given)

    def examples(
        self,
        queries: Queries,
        pool: Pool,
        labels: Mapping[str, NDArray[np.int8]] | None = None,
        position: NDArray[np.int64] | None = None,
    ) -> Examples:
        """Each candidate of each query, with what is known of both.

        Args:
            labels: Task -> (queries, candidates). None: nothing is known of what came.
            position: (queries, candidates) where each stood, from 0 on. None: that is not told; a ranker that learned
                of positions takes all to stand in the first place.
        """
        query, item = pool.flat()
        there = pool.items != PAD
        queries = self._readable(queries)
        places = {**pool.features(), **self.of_pairs(queries, query, item).columns}
        if position is not None:
            places[POSITION] = Number(position[there].astype(np.float64))
        told = {task: label[there] for task, label in (labels or {}).items()}
        return Examples(query, self.of_queries(queries), item, self.items, Table(len(query), places), told)

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those of which any source knows something."""
        known = [each.answerable() for each in self.sources.values()]
        return np.any(known, axis=0) if known else np.ones(len(self.items), bool)

    def _readable(self, queries: Queries) -> Queries:
        """The queries with only those items in their histories of which any source knows something."""
        known = self.answerable()[queries.history.values]
        return queries if known.all() else queries.where(known)

    def of_queries(self, queries: Queries) -> Table:
        """What the log tells of those who ask: one row per query."""
        return request_features(queries, self.kinds, self.catalog)

    def of_pairs(self, queries: Queries, query: NDArray[np.int64], item: NDArray[np.int64]) -> Table:
        """What the log tells of an item at the moment of a query, and of both together: one row per pair."""
        columns = dict(pair_features(queries, query, item, self.catalog).columns)
        if self.times is not None:
            now = np.full(len(query), NO_TIME) if queries.now is None else queries.now[query]
            columns |= self.times.features(item, now).columns
        if self.follows is not None:
            columns |= self.follows.features(queries, query, item).columns
        columns |= self.likeness.features(queries, query, item).columns
        return Table(len(query), columns)


def among(items: NDArray[np.int32], targets: Ragged) -> NDArray[np.bool_]:
    """(queries, candidates) which of the items are targets of their query."""
    span = int(max(items.max(initial=0), targets.values.max(initial=0))) + 1
    pairs = targets.row_of_value() * span + targets.values
    return np.asarray(np.isin(np.arange(len(items))[:, None] * span + items, pairs) & (items != PAD))


def drawn(
    items: NDArray[np.int32], positive: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(queries, candidates) all that something came of, and so many of the others, drawn by chance."""
    draws = np.where((items != PAD) & ~positive, rng.random(items.shape), 2.0)
    if count >= items.shape[1]:
        return np.asarray(items != PAD)
    bound = np.partition(draws, count - 1, axis=1)[:, count - 1 : count]
    return np.asarray(positive | ((draws <= bound) & (draws < 1)))
