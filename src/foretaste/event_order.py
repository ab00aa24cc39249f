"""The order in which a dataset holds its events."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["event_order"]

PIECE = 1 << 22  # events looked at together


def event_order(user: NDArray[np.integer], time: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """The stable order by user, then time; None where the events stand in it already."""
    if _is_ordered(user, time):
        return None
    order = _grouped(user)
    if time is not None and not _is_ordered(user[order], time[order]):
        by_time = np.argsort(time, kind="stable")
        order = by_time[_grouped(user[by_time])]
    return order


def _is_ordered(user: NDArray[np.integer], time: NDArray[np.int64] | None) -> bool:
    # In pieces: the differences of a long log would be the largest arrays of all.
    for start in range(0, len(user) - 1, PIECE):
        piece = slice(start, start + PIECE + 1)
        # Compared, not subtracted: a difference of unsigned indices never falls below zero.
        before, after = user[piece][:-1], user[piece][1:]
        if (after < before).any():
            return False
        if time is not None and ((after == before) & (time[piece][1:] < time[piece][:-1])).any():
            return False
    return True


def _grouped(user: NDArray[np.integer]) -> NDArray[np.int64]:
    """The stable order by user, by counting: a sparse matrix with one entry per event keeps them in rows."""
    places = np.arange(len(user))
    entries = (np.ones(len(user), np.int8), (user, places))
    return csr_matrix(entries, shape=(int(user.max()) + 1, len(user))).indices.astype(np.int64)
