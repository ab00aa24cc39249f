"""Means over seeds with intervals over users, and paired tests between rows, from the results that are kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.evaluation.intervals import Interval, bootstrap, holm, paired_test
from quality.results import Result, of_strangers
from quality.rows import Claim, Rows

SEED = 0  # of resampling and of sign flips


@dataclass(frozen=True, eq=False)
class Standing:
    """A row over its seeds."""

    row: str
    results: Sequence[Result]
    metrics: Mapping[str, Interval]  # ends are None where the values of single queries are not kept
    mean: float  # of the metric by which rows are ranked
    spread: float | None  # its standard deviation over the seeds, n - 1; None for one seed


@dataclass(frozen=True)
class Pair:
    """Two rows on the same queries, the first of them ahead."""

    ahead: str
    behind: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float  # over the pairs of the same data


@dataclass(frozen=True)
class Gain:
    """What one row has more than another of a metric, as a share of the other's, beside what is claimed."""

    claim: Claim
    share: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if self.low >= self.claim.gain:
            return "holds"
        return "does not hold here" if self.high < self.claim.gain else "undecided"


def standings(rows: Rows, results: Mapping[str, Sequence[Result]]) -> list[Standing]:
    """The measured rows, best first."""
    names = dict.fromkeys([rows.ranked_by, *rows.headline])
    found = []
    for row, seeds in results.items():
        metrics = {name: _over_seeds(seeds, name) for name in names}
        means = [each.mean(rows.ranked_by) or 0.0 for each in seeds]
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
        found.append(Standing(row, seeds, metrics, metrics[rows.ranked_by].mean or 0.0, spread))
    return sorted(found, key=lambda each: -each.mean)


def pairs(rows: Rows, ranked: Sequence[Standing]) -> list[Pair]:
    """The best against the second, and the named pairs of which both are measured."""
    place = {each.row: number for number, each in enumerate(ranked)}
    asked = [tuple(each.row for each in ranked[:2])] if len(ranked) > 1 else []
    asked += [tuple(sorted(pair, key=place.__getitem__)) for pair in rows.pairs if set(pair) <= set(place)]
    asked = list(dict.fromkeys(asked))
    if not asked:
        return []
    seeds = {each.row: each.results for each in ranked}
    found = []
    for ahead, behind in asked:
        ours, theirs, sizes = paired(seeds[ahead], seeds[behind], rows.ranked_by)
        low, high = bootstrap(of_users(ours - theirs, sizes)[:, None], seed=SEED)
        # A user's sum is what changes sign as a whole: the queries of one user are no independent trials.
        p = paired_test(_sums(ours - theirs, sizes)[:, None], seed=SEED)
        found.append(((ours - theirs).mean(), low[0], high[0], p[0]))
    corrected = holm(np.array([p for *_, p in found]))
    numbers = [(*each, p) for each, p in zip(found, corrected, strict=True)]
    return [Pair(*names, *map(float, each)) for names, each in zip(asked, numbers, strict=True)]


def gains(rows: Rows, ranked: Sequence[Standing]) -> list[Gain]:
    """The claims of which both rows are measured, query by query.

    The interval resamples users, of whom the ratio of two means has these terms to first order.
    """
    found = []
    for claim in rows.claims:
        seeds: Mapping[str, Sequence[Result]] = {each.row: each.results for each in ranked}
        if claim.strangers is not None:
            seeds = of_strangers(seeds, claim.strangers)
        pair = [seeds.get(claim.row, ()), seeds.get(claim.over, ())]
        if not all(of and of[0].per_query(claim.metric) is not None for of in pair):
            continue
        ours, theirs, sizes = paired(*pair, claim.metric)
        ratio = ours.mean() / theirs.mean()
        terms = ratio + (ours - ratio * theirs) / theirs.mean()
        low, high = bootstrap(of_users(terms, sizes)[:, None], seed=SEED)
        found.append(Gain(claim, float(ratio - 1), float(low[0] - 1), float(high[0] - 1)))
    return found


def of_users(values: NDArray[np.float64], sizes: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """(users,) numbers whose mean is that of the queries, and whose resampling is that of users with all their queries.

    A user who asks once has the value of that query. Else the mean is a ratio, of sums to counts, and these are its
    terms to first order.

    Args:
        values: (queries,) one user after the other.
        sizes: (users,) how many queries each has; None: one each.

    Source: Efron, Tibshirani, "An introduction to the bootstrap", 1993, section 5 and chapter 22 (the delta method).
    """
    if sizes is None:
        return values
    mean = values.mean()
    return mean + (_sums(values, sizes) - mean * sizes / sizes.mean())


def _sums(values: NDArray[np.float64], sizes: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """(users,) the sum of each user's values, over the mean number of queries."""
    if sizes is None:
        return values
    return np.add.reduceat(values, np.cumsum(sizes) - sizes) / sizes.mean()


def _over_seeds(seeds: Sequence[Result], metric: str) -> Interval:
    queries = sum(int(same[0].content["per_query"]["queries"]) for same in _draws(seeds).values())
    if seeds[0].per_query(metric) is None:
        means = [mean for each in seeds if (mean := each.mean(metric)) is not None]
        return Interval(float(np.mean(means)) if means else None, None, None, queries)
    values, sizes = _of_queries(_draws(seeds).values(), metric)
    low, high = bootstrap(of_users(values, sizes)[:, None], seed=SEED)
    return Interval(float(values.mean()), float(low[0]), float(high[0]), queries)


def paired(
    ours: Sequence[Result], theirs: Sequence[Result], metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64] | None]:
    """(queries,) of two rows, over the queries that both were asked; and how many each user asks, None: one each."""
    both = [_draws(each) for each in (ours, theirs)]
    shared = [queries for queries in both[0] if queries in both[1]]
    if not shared:
        raise ValueError(f"{ours[0].path.name} and {theirs[0].path.name} were judged on no query that both have.")
    (one, sizes), (other, _) = (_of_queries([each[queries] for queries in shared], metric) for each in both)
    return one, other, sizes


def _draws(seeds: Sequence[Result]) -> dict[str, list[Result]]:
    """Queries -> the seeds that were judged on them: all of them, unless each draws anew what is asked."""
    found: dict[str, list[Result]] = {}
    for each in seeds:
        found.setdefault(each.queries, []).append(each)
    return found


def _of_queries(draws: Iterable[Sequence[Result]], metric: str) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """(queries,) the mean over the seeds of each draw, one draw behind another; and how many each user asks."""
    draws = list(draws)
    values = [np.mean([each.per_query(metric) for each in same], axis=0) for same in draws]
    sizes = [same[0].sizes for same in draws]
    whole = (
        None if any(each is None for each in sizes) else np.concatenate([each for each in sizes if each is not None])
    )
    return np.concatenate(values), whole
