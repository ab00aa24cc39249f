"""Ranks of the targets, counted against the model, and the ranking metrics that follow from them.

Definitions, for a query with T targets (unknown ones included) of which h stand within the first k:

- precision: h / k, also where the list is shorter than k.
- recall: h / T, over all targets and not over min(k, T).
- hit: 1 if h > 0. Equal to recall only where T = 1.
- ndcg: the sum of 1 / log2(rank + 1) over the h hits, divided by the same sum for ranks 1 to min(k, T).
- mrr: 1 / rank of the first hit; 0 if h = 0.
- map: the sum over the h hits of (hits up to its rank) / rank, divided by T, as recall is. Some libraries divide
  by min(k, T) instead; with one target per query there is no difference.

A query without any target has no value: NaN in every metric.

Source: Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002 (binary gains); Voorhees,
    "The TREC-8 question answering track report", 1999 (reciprocal rank); Manning et al., "Introduction to
    information retrieval", 2008, section 8.4. Differs: ranks are the worst that ties allow.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import ConfigError, DataError
from foretaste.ragged import PAD, Ragged

__all__ = [
    "METRICS",
    "Metric",
    "average_precision",
    "cutoffs",
    "hit",
    "measured",
    "ndcg",
    "precision",
    "primary",
    "ranks",
    "recall",
    "reciprocal_rank",
]

Metric = Callable[[Ragged, NDArray[np.integer], int], NDArray[np.float64]]


def ranks(items: NDArray[np.integer], scores: NDArray[np.floating], targets: Ragged) -> Ragged:
    """The rank of every target in the list of its query: 1 = first, 0 = a miss.

    Ties count against the model: ahead of a target stand all items listed before it and all others of equal score.
    Targets of one query do not push each other down: within a tie the other items come first, then the targets,
    one rank each. Where the score equals that of the last place of a full list, more items of this score may
    follow unseen, so it is a miss. To judge k places, give lists of k + 1.

    Lists in descending order of score are expected. In one that a re-ranker put into another order, the order counts.

    Args:
        items: (queries, n) best first; PAD at the end where nothing is left. A list without PAD is full.
        scores: (queries, n). NaN counts as the lowest score of all.
        targets: (queries) distinct item indices; PAD is found nowhere.

    Raises:
        DataError: Items, scores and targets are not about equally many queries.
    """
    if items.shape != scores.shape or len(items) != len(targets):
        raise DataError(f"Items {items.shape}, scores {scores.shape} and {len(targets)} rows of targets do not match.")
    rank = np.zeros(len(targets.values), np.int32)
    if not items.size or not len(targets.values):
        return targets.with_values(rank)
    hits, row, place = _found(items, targets)
    is_target = np.zeros(items.shape, bool)
    is_target[row, place] = True

    # Only rows with a hit are looked at from here on.
    listed = np.nan_to_num(scores[row], copy=True, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    own = listed[np.arange(len(row)), place][:, None]
    before = np.arange(items.shape[1]) < place[:, None]
    tied = (listed == own) & (items[row] != PAD) & ~is_target[row]
    runs_past = (items[row, -1] != PAD) & (own[:, 0] == listed[:, -1])
    rank[hits] = np.where(runs_past, 0, 1 + (before | tied).sum(1))
    return targets.with_values(rank)


def precision(ranks: Ragged, targets: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """(queries,) share of the k places that hold a target."""
    return _where_asked(_hits(ranks, k) / k, targets)


def recall(ranks: Ragged, targets: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """(queries,) share of all targets that stand within the first k."""
    return _where_asked(_hits(ranks, k) / np.maximum(targets, 1), targets)


def hit(ranks: Ragged, targets: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """(queries,) 1 where any target stands within the first k, else 0."""
    return _where_asked(np.minimum(_hits(ranks, k), 1.0), targets)


def ndcg(ranks: Ragged, targets: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """(queries,) discounted gain over that of the best list of k places, which has min(k, targets) hits."""
    row, rank = _within(ranks, k)
    gain = np.bincount(row, weights=1 / np.log2(rank + 1.0), minlength=len(ranks))
    best = np.clip(targets, 1, k)  # hits of the best list
    ideal = np.cumsum(1 / np.log2(np.arange(2.0, best.max(initial=1) + 2)))
    return _where_asked(gain / ideal[best - 1], targets)


def reciprocal_rank(ranks: Ragged, targets: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """(queries,) 1 / rank of the first target within the first k, else 0; its mean is the mrr."""
    row, rank = _within(ranks, k)
    best = np.zeros(len(ranks))
    np.maximum.at(best, row, 1.0 / rank)
    return _where_asked(best, targets)


def average_precision(ranks: Ragged, targets: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """(queries,) precisions at the ranks of the hits within the first k, summed, over all targets."""
    row, rank = _within(ranks, k)
    order = np.lexsort((rank, row))
    row, rank = row[order], rank[order]
    first = np.searchsorted(row, row)  # where the hits of the same query begin
    total = np.bincount(row, weights=(np.arange(len(row)) - first + 1) / rank, minlength=len(ranks))
    return _where_asked(total / np.maximum(targets, 1), targets)


METRICS: Mapping[str, Metric] = {
    "ndcg": ndcg,
    "hit": hit,
    "recall": recall,
    "precision": precision,
    "mrr": reciprocal_rank,
    "map": average_precision,
}


def measured(ranks: Ragged, targets: NDArray[np.integer], k: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """All metrics at all cut-offs, (queries,) each, named like ndcg@10.

    Args:
        ranks: As of ``ranks``, from lists longer than the largest k.
        targets: (queries,) how many targets each query has, those included that no list can hold.
        k: Cut-offs.
    """
    found = ranks.where((ranks.values > 0) & (ranks.values <= max(k)))
    return {f"{name}@{each}": metric(found, targets, each) for each in k for name, metric in METRICS.items()}


def cutoffs(k: int | Sequence[int]) -> tuple[int, ...]:
    """Distinct cut-offs in ascending order.

    Raises:
        ConfigError: There is none, or one is not a whole number above 0.
    """
    each = (k,) if isinstance(k, int) else tuple(k)
    if not each or any(isinstance(one, bool) or one != int(one) or one < 1 for one in each):
        raise ConfigError(f"k must be whole numbers of at least 1, such as 5, 10, 20; it is {k!r}.")
    return tuple(sorted({int(one) for one in each}))


def primary(k: Sequence[int]) -> str:
    """The metric that ranks a leaderboard: ndcg@10, or ndcg at the largest k where 10 is not asked for."""
    return f"ndcg@{10 if 10 in k else max(k)}"


def _found(
    items: NDArray[np.integer], targets: Ragged
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which targets are listed, as places in ``targets.values``, with their rows and their columns in the lists."""
    row = targets.row_of_value()
    same = items[row] == targets.values[:, None]
    same &= (targets.values != PAD)[:, None]
    place = same.argmax(1)
    hits = np.flatnonzero(same[np.arange(len(row)), place])
    return hits, row[hits], place[hits]


def _within(ranks: Ragged, k: int) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """Row and rank of every target that stands within the first k."""
    inside = (ranks.values > 0) & (ranks.values <= k)
    return ranks.row_of_value()[inside], ranks.values[inside]


def _hits(ranks: Ragged, k: int) -> NDArray[np.float64]:
    return np.bincount(_within(ranks, k)[0], minlength=len(ranks)).astype(np.float64)


def _where_asked(values: NDArray[Any], targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """The values, with NaN where a query has no targets."""
    asked: NDArray[np.float64] = np.where(np.asarray(targets) > 0, values, np.nan)
    return asked
