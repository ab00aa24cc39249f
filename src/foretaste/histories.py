"""Stored histories, what is asked, and the two put together: known users, strangers, newer events, order of time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from foretaste.catalog import NO_TIME
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.vocab import Vocab

__all__ = [
    "Asked",
    "Histories",
    "concatenated",
    "extended",
    "known_or_strangers",
    "order_of_time",
    "stored_already",
]


@dataclass(frozen=True, eq=False)
class Histories:
    """The stored histories of known users, by which they can be asked for by name."""

    users: Vocab
    queries: Queries  # row u is user index u


@dataclass(frozen=True, eq=False)
class Asked:
    """What a caller asked, as queries, and what of it was not understood."""

    queries: Queries
    labels: Sequence[Any]  # who asked, by outside id
    unknown_users: Sequence[Any] = ()
    unknown_items: Sequence[Any] = ()
    unknown_features: Sequence[tuple[str, str]] = ()  # (feature, name) that the stored column does not know: missing
    reordered: Sequence[int] = ()  # the queries, from 1, whose events were put in order of time


def concatenated(parts: Sequence[Queries]) -> Queries:
    """The queries of all parts, one after another; their tables (user_features, context) are left out.

    What only some parts know is filled: times and ``now`` with NO_TIME, kinds with the weakest, values with NaN,
    users with PAD; where the running session is not known, all of the history is it.
    """
    events = [len(part.history.values) for part in parts]
    rows = [len(part) for part in parts]
    return Queries(
        Ragged.from_lengths(
            np.concatenate([part.history.values for part in parts]),
            np.concatenate([part.history.lengths for part in parts]),
        ),
        times=_joined([part.times for part in parts], events, NO_TIME, np.int64),
        kinds=_joined([part.kinds for part in parts], events, 0, np.int8),
        values=_joined([part.values for part in parts], events, np.nan, np.float32),
        session_start=_joined([part.session_start for part in parts], rows, 0, np.int64),
        user=_joined([part.user for part in parts], rows, PAD, np.int32),
        now=_joined([part.now for part in parts], rows, NO_TIME, np.int64),
    )


def known_or_strangers(stored: Queries, users: NDArray[np.int32]) -> Queries:
    """The stored queries of the given users; for PAD an empty one, asking at the latest moment known.

    Args:
        stored: Row u is user u.
    """
    known = np.flatnonzero(users != PAD)
    found = stored.take(users[known])
    lengths = np.zeros(len(users), np.int64)
    lengths[known] = found.history.lengths
    start, now = None, None
    if found.session_start is not None:
        start = np.zeros(len(users), np.int64)
        start[known] = found.session_start
    if stored.now is not None and found.now is not None:
        now = np.full(len(users), stored.now.max(initial=NO_TIME), np.int64)
        now[known] = found.now
    return replace(
        found,
        history=Ragged.from_lengths(found.history.values, lengths),
        session_start=start,
        user=users,
        user_features=None if stored.user_features is None else stored.user_features.take(users),
        context=None,
        now=now,
    )


def order_of_time(history: Ragged, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """(total,) the places of the events, each row in order of time (stable).

    An event without a time stays behind the event that it stands behind.
    """
    filled, row = _times_so_far(history, times), history.row_of_value()
    order: NDArray[np.int64] = np.lexsort((filled, row))
    return order


def extended(
    stored: Queries, fresh: Queries, again: NDArray[np.bool_], rows: NDArray[np.integer], users: int
) -> Queries:
    """Stored histories with newer events, each in order of time; what one side does not know is filled.

    An event without a time comes after those that are stored. Where both sides have times and sessions, the running
    session is the one that began last; else it is not known. The moment of asking is that of the last event, and for
    somebody without any the latest of all.

    Args:
        stored: Row u is user u.
        fresh: Row r belongs to user ``rows[r]``.
        again: (events of ``fresh``) those that are not appended, because they are stored.
        users: How many users there are, new ones included; those have no stored row.
    """
    added = fresh.where(~again)
    both = concatenated([stored, added])
    row = np.concatenate([stored.history.row_of_value(), rows[added.history.row_of_value()]])
    order = np.argsort(row, kind="stable")
    history = Ragged.from_lengths(both.history.values[order], np.bincount(row, minlength=users))
    if both.times is not None:
        order = order[order_of_time(history, both.times[order])]
    history = history.with_values(both.history.values[order])
    times = None if both.times is None else both.times[order]
    features = stored.user_features
    return Queries(
        history,
        times=times,
        kinds=None if both.kinds is None else both.kinds[order],
        values=None if both.values is None else both.values[order],
        session_start=None if times is None else _session_start(stored, fresh, rows, history, times),
        user=np.arange(users, dtype=np.int32),
        user_features=None if features is None else features.take(_own_row(len(features), users)),
        now=None if times is None else _last_moments(history, times),
    )


def stored_already(stored: Queries, fresh: Queries, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(events of ``fresh``) is the event stored: the same user, item, kind and time?

    An event without a time is never found, and kinds count only where both sides have them.

    Args:
        rows: The user, as a row of ``stored``, of each row of ``fresh``; new users lie beyond its rows.
    """
    if stored.times is None or fresh.times is None:
        return np.zeros(len(fresh.history.values), bool)
    old = stored.take(rows[rows < len(stored)])
    user = np.concatenate(
        [rows[rows < len(stored)][old.history.row_of_value()], rows[fresh.history.row_of_value()]]
    ).astype(np.int64)
    both = concatenated([old, fresh])
    event = user * (int(both.history.values.max(initial=0)) + 1) + both.history.values
    if old.kinds is not None and fresh.kinds is not None and both.kinds is not None:
        event = event * (int(both.kinds.max(initial=0)) + 1) + both.kinds
    times: NDArray[np.int64] = both.times  # type: ignore[assignment]
    # Numbered anew, so that event and time fit into one 64-bit number.
    moments, moment = np.unique(times, return_inverse=True)
    event = np.unique(event, return_inverse=True)[1] * len(moments) + moment
    count = len(old.history.values)
    found: NDArray[np.bool_] = np.isin(event[count:], event[:count]) & (times[count:] != NO_TIME)
    return found


def _joined(
    arrays: Sequence[NDArray[Any] | None], lengths: Sequence[int], missing: Any, dtype: DTypeLike
) -> NDArray[Any] | None:
    """One array; ``missing`` where a part has none, None where no part has any."""
    if all(each is None for each in arrays):
        return None
    filled = [
        np.full(length, missing, dtype) if each is None else each for each, length in zip(arrays, lengths, strict=True)
    ]
    return np.concatenate(filled).astype(dtype, copy=False)


def _times_so_far(history: Ragged, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """(total,) the time of each event, or else that of the nearest before it in its row; NO_TIME before the first."""
    last_known = np.maximum.accumulate(np.where(times != NO_TIME, np.arange(len(times)), -1))
    begin = np.repeat(history.offsets[:-1], history.lengths)
    return np.where(last_known >= begin, times[last_known], NO_TIME)


def _own_row(rows: int, users: int) -> NDArray[np.int64]:
    """(users,) each user's own row of a table; PAD for those that it does not have."""
    own = np.arange(users)
    return np.where(own < rows, own, PAD)


def _last_moments(history: Ragged, times: NDArray[np.int64]) -> NDArray[np.int64]:
    moments = np.full(len(history), times.max(initial=NO_TIME), np.int64)
    filled = np.flatnonzero(history.lengths > 0)
    moments[filled] = times[history.offsets[1:][filled] - 1]
    return moments


def _session_start(
    stored: Queries, fresh: Queries, rows: NDArray[np.integer], history: Ragged, times: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """(users,) where the running session begins: with the later of the moments at which it begins on both sides."""
    begun = np.full(len(history), NO_TIME)
    for queries, users in ((stored, np.arange(len(stored))), (fresh, rows)):
        if queries.session_start is None or queries.times is None:
            return None
        filled = np.flatnonzero(queries.history.lengths > 0)
        first = queries.times[queries.history.offsets[:-1][filled] + queries.session_start[filled]]
        np.maximum.at(begun, users[filled], first)
    row = history.row_of_value()
    before = _times_so_far(history, times) < begun[row]
    return np.bincount(row[before], minlength=len(history))
