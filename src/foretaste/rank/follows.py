"""What comes next after the last two items: chances of a mixture of transitions, learned from a log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Number, Table
from foretaste.dataset import Dataset, Needs
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged

__all__ = ["Follows"]

SILENCE = 30 * 60_000  # milliseconds, after which nothing follows what came before
PRIOR = 5.0  # events that the row of each item begins with, of what is popular
ITERATIONS = 15
HELD_OUT = 5  # of so many people one, by whose steps the weights are learned
WEIGHTS = (0.5, 0.3, 0.2)  # of popularity, the last item and the one before it, to begin with
FAINTEST = 0.01  # expected counts below are forgotten


@dataclass(frozen=True, eq=False)
class Follows:
    """A mixture of transitions.

    The next item j comes after the last, i, and the one before it, h, with the chance

        P(j | i, h) = w0 p_j + w1 A_ij + w2 A_hj,    A_ij = (n_ij + c p_j) / (n_i + c)

    with p the share of each item in the log. Source: Raftery, "A Model for High-order Markov Chains", JRSS B 1985: one
    matrix for all lags. Its counts n_ij are those expected by EM, so a step that popularity or the item before explains
    is not counted as one from the last. The weights are learned from steps of people whose steps are not counted
    (Jelinek & Mercer, "Interpolated estimation of Markov source parameters from sparse data", 1980): by the steps that
    are counted themselves, popularity would explain nothing.
    """

    items: int
    keys: NDArray[np.int64]  # (pairs,) ascending: the item before * items + the one after
    counts: NDArray[np.float32]  # (pairs,) how often the one is expected to have led to the other
    popularity: NDArray[np.float64]  # (items,) adds up to 1
    weights: NDArray[np.float64]  # (3,) of popularity, the last item and the one before it; add up to 1

    @classmethod
    def of(cls, data: Dataset) -> Self | None:
        """That of a log; None where nobody's events have an order."""
        if Needs.ORDER not in data.has:
            return None
        items = len(data.items)
        met = np.bincount(data.item, minlength=items) + 1.0
        popularity = (met / met.sum()).astype(np.float64)
        steps = _Steps.of(data)
        weights = _weights(steps, popularity)
        counts = _expected(steps, popularity, weights)
        kept = counts >= FAINTEST
        return cls(items, steps.keys[kept], counts[kept].astype(np.float32), popularity, weights)

    @classmethod
    def from_arrays(cls, items: int, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """That whose ``arrays()`` these are."""
        return cls(items, arrays["keys"], arrays["counts"], arrays["popularity"], arrays["weights"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"keys": self.keys, "counts": self.counts, "popularity": self.popularity, "weights": self.weights}

    def features(self, queries: Queries, query: NDArray[np.int64], item: NDArray[np.int64]) -> Table:
        """The chances that items come next.

        Args:
            query: (pairs,) the query of each pair.
            item: (pairs,) its item.

        Returns:
            One row per pair, logarithms: A of the last item of the history, A of the one before that, and P, where
            popularity stands for the last item of those who have none, and the last item for the one before it. The
            first two are NaN where the history is too short.
        """
        last, before = (each[query] for each in _last_two(queries.history))
        after_last, after_before = self._chance(last, item), self._chance(before, item)
        popular = self.popularity[item]
        by_last = np.where(last == PAD, popular, after_last)
        both = self.weights @ np.stack([popular, by_last, np.where(before == PAD, by_last, after_before)])
        columns = {
            "pair follows": Number(np.log(after_last)),
            "pair follows earlier": Number(np.log(after_before)),
            "pair follows both": Number(np.log(both)),
        }
        return Table(len(query), columns)

    def _chance(self, first: NDArray[np.int64], then: NDArray[np.int64]) -> NDArray[np.float64]:
        """(pairs,) the entry of A; NaN where there is no first."""
        count = np.zeros(len(first))
        if len(self.keys):
            wanted = first * self.items + then
            at = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
            count = np.where(self.keys[at] == wanted, self.counts[at], 0.0)
        out = np.bincount(self.keys // self.items, weights=self.counts, minlength=self.items)
        return np.where(first == PAD, np.nan, (count + PRIOR * self.popularity[then]) / (out[first] + PRIOR))


@dataclass(frozen=True, eq=False)
class _Steps:
    """Each time that an item came right after another one, in the same session."""

    items: int
    user: NDArray[np.int32]  # (steps,)
    last: NDArray[np.int64]  # (steps,) the item that was left
    before: NDArray[np.int64]  # (steps,) the one before that; the last one once more, where the session began with it
    next: NDArray[np.int64]  # (steps,)
    keys: NDArray[np.int64]  # (pairs,) ascending, all that occur: the item before * items + the one after
    of_last: NDArray[np.int64]  # (steps,) the pair of the last item and the next
    of_before: NDArray[np.int64]  # (steps,) the pair of the one before and the next

    @classmethod
    def of(cls, data: Dataset) -> Self:
        begins = np.diff(data.user, prepend=-1) != 0
        if data.session is not None:
            begins |= np.diff(data.session, prepend=-1) != 0
        elif data.time is not None:
            begins |= np.diff(data.time, prepend=data.time[:1]) > SILENCE
        visit = np.cumsum(begins)
        moves = begins | (np.diff(data.item, prepend=-1) != 0)  # what is bought right after it was viewed is no step
        item, visit, user = data.item[moves].astype(np.int64), visit[moves], data.user[moves]
        at = np.flatnonzero(np.diff(visit) == 0) + 1
        earlier = np.where((at > 1) & (visit[at - 2] == visit[at]), at - 2, at - 1)
        last, before, after, items = item[at - 1], item[earlier], item[at], len(data.items)
        keys, place = np.unique(np.concatenate([last, before]) * items + np.tile(after, 2), return_inverse=True)
        return cls(items, user[at], last, before, after, keys, place[: len(at)], place[len(at) :])

    def shares(
        self, counts: NDArray[np.float64], popularity: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(3, steps) how likely popularity, the last item and the one before it led to each step; adds up to 1."""
        out = np.bincount(self.keys // self.items, weights=counts, minlength=self.items)
        prior = PRIOR * popularity[self.next]
        after_last = (counts[self.of_last] + prior) / (out[self.last] + PRIOR)
        after_before = (counts[self.of_before] + prior) / (out[self.before] + PRIOR)
        shares = weights[:, None] * np.stack([popularity[self.next], after_last, after_before])
        return np.asarray(shares / shares.sum(0))


def _expected(
    steps: _Steps,
    popularity: NDArray[np.float64],
    weights: NDArray[np.float64],
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """(pairs,) how often the one item of each led to the other, by EM with these weights.

    Args:
        counted: (steps,) those that count. None: all.
    """
    each = np.ones(len(steps.next)) if counted is None else counted.astype(np.float64)
    shares = np.broadcast_to(weights[:, None], (3, len(each)))
    counts = np.zeros(len(steps.keys))
    for _ in range(ITERATIONS):
        counts = np.bincount(steps.of_last, each * shares[1], len(steps.keys)).astype(np.float64)
        counts += np.bincount(steps.of_before, each * shares[2], len(steps.keys))
        shares = steps.shares(counts, popularity, weights)
    return counts


def _weights(steps: _Steps, popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) with which the steps of some people are likeliest, by what the others' tell of transitions."""
    weights = np.array(WEIGHTS)
    held_out = steps.user % HELD_OUT == 0
    if held_out.all() or not held_out.any():
        return weights
    counts = _expected(steps, popularity, weights, ~held_out)
    for _ in range(ITERATIONS):
        weights = steps.shares(counts, popularity, weights)[:, held_out].mean(1)
    return weights


def _last_two(history: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(queries,) twice: the last item, and the last one that differs from it; PAD where there is none."""
    values = history.values.astype(np.int64)
    row = history.row_of_value()
    last = np.full(len(history), PAD, np.int64)
    some = history.lengths > 0
    last[some] = values[history.offsets[1:][some] - 1]
    other = values != last[row]
    place = np.full(len(history), -1)
    np.maximum.at(place, row[other], np.flatnonzero(other))
    before = np.full(len(history), PAD, np.int64)
    before[place >= 0] = values[place[place >= 0]]
    return last, before
