"""Batches of sequences: windows over long histories, cut by a budget of tokens from sequences of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.catalog import NO_TIME
from foretaste.dataset import Dataset
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged, groups_within, spans

__all__ = ["Padded", "SequenceBatch", "SequenceBatches", "Sequences", "Widths"]

# Different widths of batches: torch's libraries keep a plan for every shape, and many shapes take gigabytes.
WIDTHS = 16
CANDIDATES = 512  # among which they are chosen


@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences of events side by side, oldest first, padded on the right; what stands beside the items, or None."""

    items: Tensor  # (batch, length) int64; PAD on the right
    times: Tensor | None = None  # (batch, length) int64, milliseconds; NO_TIME = not known; 0 at PAD
    kinds: Tensor | None = None  # (batch, length) int64; PAD at PAD
    values: Tensor | None = None  # (batch, length) float32; NaN = not given, also at PAD
    user: Tensor | None = None  # (batch,) int64; PAD = nobody known

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> Tensor:
        """(batch,) int64, how many events each row has."""
        return (self.items != PAD).sum(1)

    def times_or_unknown(self) -> Tensor:
        """(batch, length) the times; NO_TIME everywhere where there are none."""
        return torch.full_like(self.items, NO_TIME) if self.times is None else self.times

    def to(self, device: torch.device) -> "Padded":
        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        items = self.items.to(device, non_blocking=True)
        return Padded(items, moved(self.times), moved(self.kinds), moved(self.values), moved(self.user))

    def take(self, rows: Tensor) -> "Padded":
        """The given rows, in the given order."""

        def taken(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return Padded(self.items[rows], taken(self.times), taken(self.kinds), taken(self.values), taken(self.user))

    def places(self, columns: slice) -> "Padded":
        """The same rows with only these places."""

        def cut(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[:, columns].contiguous()

        items = self.items[:, columns].contiguous()
        return Padded(items, cut(self.times), cut(self.kinds), cut(self.values), self.user)


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """Sequences of similar length, and at each place the event that came next."""

    history: Padded
    following: Padded  # items are PAD where nothing is to be predicted

    @property
    def targets(self) -> Tensor:
        """(batch, length) int64, the item that came next; PAD where nothing is to be predicted."""
        return self.following.items

    def __len__(self) -> int:
        """How many places are to be predicted."""
        return int((self.targets != PAD).sum())

    def to(self, device: torch.device) -> "SequenceBatch":
        return SequenceBatch(self.history.to(device), self.following.to(device))


@dataclass(frozen=True, eq=False)
class Sequences:
    """Rows of events, oldest first, with whatever stands beside each."""

    items: Ragged
    times: NDArray[np.int64] | None = None  # aligned with items.values, milliseconds; NO_TIME = not known
    kinds: NDArray[np.int8] | None = None
    values: NDArray[np.float32] | None = None  # NaN = not given
    user: NDArray[np.int32] | None = None  # (rows,)

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """The history of each user, in the order of the vocabulary.

        Raises:
            MissingData: The order of events is not meant.
        """
        return cls(data.histories, data.time, data.kind, data.value, np.arange(len(data.users), dtype=np.int32))

    @classmethod
    def of_queries(cls, queries: Queries) -> Self:
        return cls(queries.history, queries.times, queries.kinds, queries.values, queries.user)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.items.lengths

    def at(
        self, positions: NDArray[np.integer], lengths: NDArray[np.integer], rows: NDArray[np.integer]
    ) -> "Sequences":
        """New rows of the events at these positions of the flat arrays; row i is of the user of row ``rows[i]``."""
        return Sequences(
            Ragged.from_lengths(self.items.values[positions], lengths),
            times=None if self.times is None else self.times[positions],
            kinds=None if self.kinds is None else self.kinds[positions],
            values=None if self.values is None else self.values[positions],
            user=None if self.user is None else self.user[rows],
        )

    def take(self, rows: NDArray[np.integer]) -> "Sequences":
        return self.at(self.items.positions(rows), self.lengths[rows], rows)

    def last(self, count: int) -> "Sequences":
        """At most the last ``count`` events of each row."""
        lengths = np.minimum(self.lengths, count)
        return self.at(spans(self.items.offsets[1:] - lengths, lengths), lengths, np.arange(len(self)))

    def windows(self, length: int, stride: int | None = None) -> "Sequences":
        """Rows cut from their end into windows of ``length + 1``, each beginning ``stride`` events before the next.

        With ``stride`` None, which is ``length``, they overlap by one: each event but the first of a row is a target
        exactly once, and nothing of a long history is lost. Rows with fewer than two events are left out.

        For length 2 the row a b c d e gives  c d e  and  a b c;  with stride 1  c d e,  b c d  and  a b c.
        """
        stride = length if stride is None else stride
        long_enough = np.flatnonzero(self.lengths >= 2)
        size = self.lengths[long_enough]
        count = 1 + -(-np.maximum(size - 1 - length, 0) // stride)
        row = np.repeat(long_enough, count)
        ends_before = np.cumsum(count) - count
        number = np.arange(len(row)) - np.repeat(ends_before, count)  # 0 = the latest window of its row
        stop = self.items.offsets[1:][row] - number * stride
        start = np.maximum(stop - length - 1, self.items.offsets[:-1][row])
        return self.at(spans(start, stop - start), stop - start, row)

    def padded(self, width: int | None = None) -> Padded:
        """All rows side by side.

        Args:
            width: At least the length of the longest row, which it is by default.
        """
        width = int(self.lengths.max(initial=0)) if width is None else width

        def tensor(values: NDArray[Any] | None, fill: Any, dtype: Any) -> Tensor | None:
            if values is None:
                return None
            return torch.from_numpy(self.items.with_values(values).padded(width, fill=fill).astype(dtype))

        items = torch.from_numpy(self.items.padded(width).astype(np.int64))
        user = None if self.user is None else torch.from_numpy(self.user.astype(np.int64))
        return Padded(
            items,
            tensor(self.times, 0, np.int64),
            tensor(self.kinds, PAD, np.int64),
            tensor(self.values, np.nan, np.float32),
            user,
        )

    def only(
        self, *, times: bool = False, kinds: bool = False, values: bool = False, user: bool = False
    ) -> "Sequences":
        """The items with only so much beside them: what nobody reads need not be carried into batches."""
        return replace(
            self,
            times=self.times if times else None,
            kinds=self.kinds if kinds else None,
            values=self.values if values else None,
            user=self.user if user else None,
        )


class Widths:
    """Lengths rounded up to one of few widths, chosen so that as few places as possible are padding.

    Args:
        lengths: Of the sequences that are to be batched; others may be asked for up to the longest of them.
    """

    def __init__(self, lengths: NDArray[np.integer]) -> None:
        self._widths = _least_padding(lengths, WIDTHS)

    def of(self, lengths: Any) -> Any:
        return self._widths[np.searchsorted(self._widths, lengths)]


class SequenceBatches(Sequence[SequenceBatch]):
    """One epoch of batches in random order, built when asked for.

    Args:
        sequences: At least two events each; the last is only a target.
        tokens: How many places, padding included, a batch may have.
        rng: Of this epoch.
    """

    def __init__(self, sequences: Sequences, tokens: int, rng: np.random.Generator) -> None:
        self._sequences = sequences
        lengths = sequences.lengths - 1
        self._widths = Widths(lengths)
        self._groups = groups_by_length(lengths, self._widths, tokens, rng)

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> SequenceBatch:  # type: ignore[override]
        sequences = self._sequences.take(self._groups[number])
        rows = sequences.padded(int(self._widths.of(sequences.lengths.max() - 1)) + 1)
        # What precedes padding is a row's last item: only a target, never read, so it does no harm as input.
        return SequenceBatch(rows.places(slice(None, -1)), rows.places(slice(1, None)))

    def __iter__(self) -> Iterator[SequenceBatch]:
        return (self[number] for number in range(len(self)))


def groups_by_length(
    lengths: NDArray[np.int64], widths: Widths, tokens: int, rng: np.random.Generator
) -> list[NDArray[np.integer]]:
    """Rows of one width together, other neighbours in each epoch, in random order, each group within so many places."""
    rounded = widths.of(lengths)
    order = np.lexsort((rng.random(len(lengths)), rounded))
    groups = groups_within(order, rounded, tokens)
    rng.shuffle(groups)
    return groups


def _least_padding(lengths: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """At most so many widths, ascending, the last as wide as the longest, that pad as little as so many widths can.

    With lengths u_0 < u_1 < ..., of which c_i sequences are no longer than u_i, the least places that k widths need up
    to u_i are  P(k, i) = min over j < i of P(k - 1, j) + u_i (c_i - c_j),  where P(1, i) = u_i c_i.
    """
    step = -(-int(lengths.max(initial=1)) // CANDIDATES)
    width, count = np.unique(-(-lengths // step) * step, return_counts=True)
    if len(width) <= most:
        return _up_to(width, lengths)
    up_to = np.cumsum(count)
    added = np.where(np.tri(len(width), k=-1, dtype=bool), width[:, None] * (up_to[:, None] - up_to), np.inf)
    places, before = (width * up_to).astype(np.float64), []
    for _ in range(most - 1):
        through = places + added
        before.append(through.argmin(1))
        places = through.min(1)
    chosen = [len(width) - 1]
    for previous in reversed(before):
        chosen.append(int(previous[chosen[-1]]))
    return _up_to(width[chosen[::-1]], lengths)


def _up_to(widths: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    limited: NDArray[np.int64] = np.minimum(widths, lengths.max(initial=1)).astype(np.int64)
    return limited
