"""Which item came right after which, counted over a log."""

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


@dataclass(frozen=True, eq=False)
class Follows:
    """How often each item came right after another one, in the same session."""

    items: int
    keys: NDArray[np.int64]  # (pairs,) ascending: the item before * items + the one after
    counts: NDArray[np.int64]  # (pairs,)

    @classmethod
    def of(cls, data: Dataset) -> Self | None:
        """Those of a log; None where nobody's events have an order."""
        if Needs.ORDER not in data.has:
            return None
        begins = np.diff(data.user) != 0
        if data.session is not None:
            begins |= np.diff(data.session) != 0
        elif data.time is not None:
            begins |= np.diff(data.time) > SILENCE
        follows = ~begins & (np.diff(data.item) != 0)  # what is bought right after it was viewed follows nothing
        keys = data.item[:-1][follows].astype(np.int64) * len(data.items) + data.item[1:][follows]
        return cls(len(data.items), *np.unique(keys, return_counts=True))

    @classmethod
    def from_arrays(cls, items: int, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Those whose ``arrays()`` these are."""
        return cls(items, arrays["keys"], arrays["counts"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"keys": self.keys, "counts": self.counts}

    def features(self, queries: Queries, query: NDArray[np.int64], item: NDArray[np.int64]) -> Table:
        """How often an item came after the last one of a history, and after the one before that.

        Args:
            query: (pairs,) the query of each pair.
            item: (pairs,) its item.

        Returns:
            One row per pair: the logarithms of both counts, and which share of all that came after the last one; NaN
            where the history is too short.
        """
        last, before = _last_two(queries.history)
        after = np.bincount(self.keys // self.items, weights=self.counts, minlength=self.items)
        came = self._count(last[query], item)
        share = came / np.maximum(after[last[query]], 1)
        columns = {
            "pair follows": Number(np.log1p(came)),
            "pair follows share": Number(np.where(np.isnan(came), np.nan, share)),
            "pair follows earlier": Number(np.log1p(self._count(before[query], item))),
        }
        return Table(len(query), columns)

    def _count(self, first: NDArray[np.int64], then: NDArray[np.int64]) -> NDArray[np.float64]:
        """(pairs,) NaN where there is no first."""
        wanted = first * self.items + then
        if not len(self.keys):
            return np.where(first == PAD, np.nan, 0.0)
        at = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        count = np.where(self.keys[at] == wanted, self.counts[at], 0)
        return np.where(first == PAD, np.nan, count)


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
