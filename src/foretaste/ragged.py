"""Rows of unequal length, and PAD, the index that is never one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["PAD", "Ragged", "groups_within", "spans"]

PAD = -1


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of unequal length, held as one flat array.

    Row r is ``values[offsets[r]:offsets[r + 1]]``. For three rows [5, 7], [], [2]:

        values   5 7 2
        offsets  0 2 2 3
    """

    values: NDArray[Any]  # (total,)
    offsets: NDArray[np.int64]  # (rows + 1,)

    @classmethod
    def from_lists(cls, rows: Iterable[Sequence[Any] | NDArray[Any]], dtype: DTypeLike = np.int32) -> Self:
        rows = list(rows)
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        filled = [np.asarray(row, dtype) for row in rows if len(row)]
        return cls.from_lengths(np.concatenate(filled) if filled else np.empty(0, dtype), lengths)

    @classmethod
    def from_lengths(cls, values: NDArray[Any], lengths: NDArray[np.integer]) -> Self:
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))

    @classmethod
    def from_rows(cls, row: NDArray[np.integer], values: NDArray[Any], rows: int) -> Self:
        """Group values by their row number; the order within a row is kept."""
        order = np.argsort(row, kind="stable")
        return cls.from_lengths(values[order], np.bincount(row, minlength=rows))

    @classmethod
    def empty(cls, rows: int, dtype: DTypeLike = np.int32) -> Self:
        return cls(np.empty(0, dtype), np.zeros(rows + 1, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def row_of_value(self) -> NDArray[np.int64]:
        """(total,) the row in which each value stands."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def with_values(self, values: NDArray[Any]) -> "Ragged":
        """The same rows over other values, such as the times beside the items."""
        return Ragged(values, self.offsets)

    def take(self, rows: NDArray[Any] | slice) -> "Ragged":
        """The given rows (indices, a slice or a mask), in the given order."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        elif rows.dtype == bool:
            rows = np.flatnonzero(rows)
        lengths = self.lengths[rows]
        return Ragged.from_lengths(self.values[self.positions(rows)], lengths)

    def positions(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where in ``values`` the given rows stand, row after row."""
        return spans(self.offsets[:-1][rows], self.lengths[rows])

    def where(self, keep: NDArray[np.bool_]) -> "Ragged":
        """The same rows with only the values for which ``keep`` (total,) is true."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        return Ragged(self.values[keep], kept[self.offsets])

    def last(self, count: int) -> "Ragged":
        """At most the last ``count`` values of each row."""
        place_from_end = np.repeat(self.offsets[1:], self.lengths) - np.arange(self.offsets[0], self.offsets[-1])
        return self.where(place_from_end <= count)

    def padded(self, width: int | None = None, *, left: bool = False, fill: Any = PAD) -> NDArray[Any]:
        """(rows, width) with ``fill`` where a row is short; of longer rows the last ``width`` values.

        Args:
            width: By default the length of the longest row.
            left: Put the padding before the values instead of after them.
        """
        width = int(self.lengths.max(initial=0)) if width is None else width
        rows = self.last(width)
        out = np.full((len(rows), width), fill, dtype=rows.values.dtype)
        place = np.arange(width)
        filled = place >= (width - rows.lengths)[:, None] if left else place < rows.lengths[:, None]
        out[filled] = rows.values
        return out

    def lists(self) -> list[list[Any]]:
        return [self[row].tolist() for row in range(len(self))]


def spans(start: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """The numbers start, start + 1, ... of each span, one after the other."""
    ends = np.cumsum(lengths)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    numbers: NDArray[np.int64] = np.repeat(start, lengths) + within
    return numbers


def groups_within(rows: NDArray[np.integer], lengths: NDArray[np.integer], places: int) -> list[NDArray[np.integer]]:
    """Consecutive groups of ``rows`` that, padded to their longest, stay within so many places.

    A single row that is longer is a group of its own.

    Args:
        rows: In the order in which they are grouped; sorted by length they need little padding.
        lengths: Of all rows; ``lengths[rows]`` are those in question.
    """
    groups, start, longest = [], 0, 0
    for place, length in enumerate(lengths[rows].tolist()):
        if place > start and max(longest, length) * (place - start + 1) > places:
            groups.append(rows[start:place])
            start, longest = place, 0
        longest = max(longest, length)
    return [*groups, rows[start:]] if len(rows) else groups
