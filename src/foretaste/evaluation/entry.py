"""One row of a leaderboard: what a model scored on every query, and what its lists were like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.evaluation.intervals import Interval

__all__ = ["Answers", "Entry"]


@dataclass(frozen=True)
class Answers:
    """What the lists looked like, apart from what was right. Shares are of 0 to 1."""

    short: float  # lists with fewer items than the largest k
    fallback: float  # listed places that popularity filled instead of the model
    tied: float  # lists whose score at the cut of the primary metric equals that of the next place
    constant: float  # lists of two or more items that all have one score
    not_a_number: float  # lists with a score that is NaN
    shown: float  # different items in the lists, at the cut of the primary metric
    overlap: float  # share of a list that another query's list holds too, at the same cut; NaN for a single query


@dataclass(frozen=True, eq=False)
class Entry:
    """A model and how it did. An entry with ``why_absent`` has no numbers.

    Metrics are named like ndcg@10. All entries of a leaderboard are about the same queries in the same order.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # JSON
    per_query: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # (queries,); NaN: does not count
    known_per_query: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # the same over known targets only
    metrics: Mapping[str, Interval] = field(default_factory=dict)
    metrics_known_targets: Mapping[str, Interval] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)  # slice -> metric -> interval
    answers: Answers | None = None
    fit_seconds: float | None = None
    recommend_seconds: float | None = None
    parameters: int | None = None
    peak_memory_mb: float | None = None
    validation: Mapping[str, float] = field(default_factory=dict)  # metric -> value that the best epoch was chosen by
    curve: Sequence[Mapping[str, Any]] = ()  # one row per epoch
    rating_rmse: float | None = None  # of the ratings predicted for the targets; None: none are
    seed_spread: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # metric -> sd over seeds, n seeds
    why_absent: str | None = None  # in words, where the model could not take part

    def to_json(self) -> dict[str, Any]:
        def of(metrics: Mapping[str, Interval]) -> dict[str, Any]:
            return {name: interval.json() for name, interval in metrics.items()}

        return {
            "name": self.name,
            "settings": dict(self.settings),
            "metrics": of(self.metrics),
            "metrics_known_targets": of(self.metrics_known_targets),
            "slices": {name: of(metrics) for name, metrics in self.slices.items()},
            "fit_seconds": self.fit_seconds,
            "recommend_seconds": self.recommend_seconds,
            "parameters": self.parameters,
            "peak_memory_mb": self.peak_memory_mb,
            "answers": None if self.answers is None else vars(self.answers),
            "validation": dict(self.validation),
            "curve": [dict(row) for row in self.curve],
            "rating_rmse": self.rating_rmse,
            "seed_spread": {name: dict(spread) for name, spread in self.seed_spread.items()},
            "why_absent": self.why_absent,
        }
