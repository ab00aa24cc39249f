"""How sure a mean is: bootstrap intervals over queries, a paired test between two models, and Holm's correction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import DataError

__all__ = ["Interval", "bootstrap", "holm", "intervals", "paired_test"]

SAMPLES = 1000  # resamples per interval: the ends are then good to a few hundredths of its width
FLIPS = 10_000  # random sign flips per test
EXACT_UP_TO = 13  # as many differences have at most 8,192 sign flips: all of them are tried
CHUNK_BYTES = 32 * 2**20  # what the resampling counts, or the signs, of one step may take
GROUPS = 20_000  # with more queries than this, random groups of them are resampled instead of single ones


@dataclass(frozen=True)
class Interval:
    """A mean over queries and the interval that covers the true mean in 95 % of cases.

    None where there is nothing to average, and for ends where the value is one of all lists together (coverage, Gini).
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int  # queries averaged over

    def json(self) -> dict[str, Any]:
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def bootstrap(
    values: NDArray[np.float64], *, samples: int = SAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the percentile bootstrap interval of each column's mean, resampling queries.

    The same resamples serve all columns. With more than 20,000 queries, random groups of about equal size are
    resampled, whose means spread just as much; so time and memory stay bounded. Beside the values, 32 MiB and
    ``samples`` × metrics numbers are held.

    Args:
        values: (queries, metrics); NaN = this query does not count for this metric.
        samples: Number of resamples.
        level: Share of intervals that are to cover the true mean.
        seed: Of the resampling.

    Returns:
        (metrics,) lower and upper ends; NaN for a column of only NaN.

    Raises:
        DataError: There is no query.

    Source: Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
    """
    if not len(values):
        raise DataError("An interval needs at least one query; there is none.")
    rng = np.random.default_rng(seed)
    present = ~np.isnan(values)
    # Columns with gaps in the same places share one denominator: slices and rare targets have few such patterns.
    _, one, pattern = np.unique(np.packbits(present, axis=0), axis=1, return_index=True, return_inverse=True)
    sums, counts = _grouped(np.where(present, values, 0.0), present[:, one].astype(np.float64), rng)
    groups = len(sums)
    means = np.empty((samples, values.shape[1]))
    step = max(1, CHUNK_BYTES // (16 * groups))
    for start in range(0, samples, step):
        size = min(step, samples - start)
        drawn = rng.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)
        total = (times @ counts)[:, pattern.ravel()]
        # A resample without any counting query says nothing; NaN, and left out below.
        means[start : start + size] = (times @ sums) / np.where(total > 0, total, np.nan)
    ends = np.full((2, values.shape[1]), np.nan)
    filled = present.any(0)
    tail = (1 - level) / 2
    ends[:, filled] = np.nanquantile(means[:, filled], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def intervals(
    per_query: dict[str, NDArray[np.float64]], *, samples: int = SAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """The mean of each metric with its interval; NaN values do not count."""
    if not per_query:
        return {}
    values = np.stack(list(per_query.values()), axis=1)
    counts = (~np.isnan(values)).sum(0)
    if not len(values) or not counts.any():
        return {name: Interval(None, None, None, 0) for name in per_query}
    low, high = bootstrap(values, samples=samples, seed=seed)
    means = np.nansum(values, axis=0) / np.maximum(counts, 1)
    return {
        name: Interval(float(mean), float(a), float(b), int(n)) if n else Interval(None, None, None, 0)
        for name, mean, a, b, n in zip(per_query, means, low, high, counts, strict=True)
    }


def paired_test(differences: NDArray[np.float64], *, flips: int = FLIPS, seed: int = 0) -> NDArray[np.float64]:
    """Two-sided p values of 'these two models are equally good', from their differences query by query.

    If they are, each difference could as well have had the other sign. p is the share of sign flips whose mean is
    at least as far from 0 as the real one: of all flips where at most 13 differences are not 0, else of a random
    sample with the real one counted in (so never 0). Where that sample is too small to tell, that is below
    1 / (flips + 1), Hoeffding's bound on the same share is given: 2 exp(-t² / 2) with t² = (sum d)² / sum d².
    It is never smaller than the exact p. More than 20,000 queries flip in random groups.

    Args:
        differences: (queries, pairs) value of one model minus that of the other.
        flips: How many random sign flips.
        seed: Of the flips.

    Returns:
        (pairs,) p values; 1 where the models never differ.

    Source: Fisher, "The design of experiments", 1935, section 21; Hoeffding, JASA 1963, theorem 2. For recommenders and
        search: Smucker et al., "A comparison of statistical significance tests", CIKM 2007.
    """
    moving = (differences != 0).any(1)
    differences = differences[moving]  # zeros stay zero under any flip
    if not len(differences):
        return np.ones(differences.shape[1])
    rng = np.random.default_rng(seed)
    differences, _ = _grouped(differences, differences[:, :0], rng)
    # Sums that are equal by right may differ by rounding.
    reached = np.abs(differences.sum(0)) * (1 - 1e-9) - 1e-12
    signs = _all_signs(len(differences)) if len(differences) <= EXACT_UP_TO else None
    total = flips if signs is None else len(signs)
    extreme = np.zeros(differences.shape[1])
    step = max(1, CHUNK_BYTES // (9 * len(differences)))
    for start in range(0, total, step):
        size = min(step, total - start)
        part = _random_signs(rng, size, len(differences)) if signs is None else signs[start : start + size]
        extreme += (np.abs(part @ differences) >= reached).sum(0)
    if signs is not None:
        return extreme / total
    sampled = (1 + extreme) / (1 + total)
    squares = (differences**2).sum(0)
    bound = 2 * np.exp(-(differences.sum(0) ** 2) / (2 * np.where(squares > 0, squares, 1.0)))
    return np.minimum(sampled, np.where(bound < 1 / (1 + total), bound, 1.0))


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p values adjusted for their number: to call those below .05 true errs at all in at most 5 % of cases.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    order = np.argsort(p, kind="stable")
    stepwise = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)) if len(p) else p
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepwise, 1.0)
    return adjusted


def _grouped(
    values: NDArray[np.float64], counts: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of values and of counts over single queries or, where these are too many, over random groups of them."""
    if len(values) <= GROUPS:
        return values, counts
    order = rng.permutation(len(values))
    begin = np.linspace(0, len(values), GROUPS, endpoint=False).astype(np.int64)
    return np.add.reduceat(values[order], begin, axis=0), np.add.reduceat(counts[order], begin, axis=0)


def _all_signs(count: int) -> NDArray[np.float64]:
    """(2^count, count) every way to choose signs."""
    bits = np.arange(2**count)[:, None] >> np.arange(count)
    return (1 - 2 * (bits & 1)).astype(np.float64)


def _random_signs(rng: np.random.Generator, rows: int, count: int) -> NDArray[np.float64]:
    bits = np.frombuffer(rng.bytes(rows * ((count + 7) // 8)), np.uint8).reshape(rows, -1)
    return 1 - 2 * np.unpackbits(bits, axis=1, count=count).astype(np.float64)
