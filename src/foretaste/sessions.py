"""Visits: events of a user that follow each other closely, given by the log or cut where nothing happened for long."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Catalog
from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError
from foretaste.vocab import Vocab

__all__ = ["by_session", "rearranged", "sessions", "without_repeats"]

MILLISECONDS_PER_MINUTE = 60_000


def sessions(
    data: Dataset,
    *,
    gap_minutes: float = 30,
    min_length: int = 1,
    drop_repeats: bool = False,
    respect: bool = True,
) -> Dataset:
    """The log with a session number beside each event: 0, 1, 2 ... in the order in which the sessions begin per user.

    No number occurs with two users. What is dropped shows in the length of the result.

    Args:
        data: With session ids of its own, or with times.
        gap_minutes: A longer silence between two events of a user ends the session; exactly this long does not.
        min_length: Sessions with fewer events are dropped, after the repeats.
        drop_repeats: Of the same item several times in a row within a session, keep only the first event.
        respect: Keep the sessions of the log where it has them; otherwise they are cut anew.

    Raises:
        MissingData: There are neither session ids to respect nor times.
        ConfigError: The gap is not positive, or the least length is below 1.
    """
    if not gap_minutes > 0:
        raise ConfigError(f"gap_minutes is {gap_minutes}; it must be more than 0.")
    if min_length < 1:
        raise ConfigError(f"min_length is {min_length}; a session has at least 1 event.")
    if data.session is not None and respect:
        number = _of_the_log(data.user, data.session)
    else:
        data.require(Needs.TIMES, "Cutting sessions by gaps")
        number = _by_gap(data, gap_minutes)
    found = replace(data, session=number)
    if drop_repeats:
        found = without_repeats(found)
    if min_length > 1 and len(found):
        found = found.where(np.bincount(_numbers(found))[_numbers(found)] >= min_length)
    if len(found) < len(data):
        found = replace(found, session=_dense(_numbers(found)))
    return found


def without_repeats(data: Dataset) -> Dataset:
    """The log without events whose item is that of the event before in the same session: i, i, j becomes i, j.

    Raises:
        MissingData: The log has no sessions.
    """
    data.require(Needs.SESSIONS, "Dropping immediate repeats")
    session = _numbers(data)
    order = _session_order(data.user, session)
    item = data.item if order is None else data.item[order]
    session = session if order is None else session[order]
    user = data.user if order is None else data.user[order]
    fresh = np.ones(len(data), bool)
    fresh[1:] = (item[1:] != item[:-1]) | (session[1:] != session[:-1]) | (user[1:] != user[:-1])
    if order is None:
        return data.where(fresh)
    keep = np.empty(len(data), bool)
    keep[order] = fresh
    return data.where(keep)


def by_session(data: Dataset) -> Dataset:
    """The log as if every session were somebody new: its users are the sessions, called 0, 1, 2 ...

    The sessions stand in the order of their users, and those of a user in the order in which they begin. What is known
    of a user is known of each of their sessions. Impressions stay behind: nothing says to which session they belong.

    Raises:
        MissingData: The log has no sessions.
    """
    data.require(Needs.SESSIONS, "A log by sessions")
    number = _of_the_log(data.user, _numbers(data))
    order = None if (np.diff(number) >= 0).all() else np.argsort(number, kind="stable")
    if order is not None:
        data, number = rearranged(data, order), number[order]
    count = int(number[-1]) + 1 if len(number) else 0
    first = np.searchsorted(number, np.arange(count))
    catalog = data.catalog
    return replace(
        data,
        users=Vocab(np.arange(count)),
        user=number.astype(np.int32),
        session=number,
        catalog=None if catalog is None else Catalog(catalog.items, catalog.users.take(data.user[first])),
        impressions=None,
    )


def rearranged(data: Dataset, order: NDArray[np.int64]) -> Dataset:
    """The events in another order, which must again be one by user and time."""
    return replace(
        data,
        user=data.user[order],
        item=data.item[order],
        time=None if data.time is None else data.time[order],
        kind=None if data.kind is None else data.kind[order],
        value=None if data.value is None else data.value[order],
        session=None if data.session is None else data.session[order],
        columns=None if data.columns is None else data.columns.take(order),
    )


def _by_gap(data: Dataset, gap_minutes: float) -> NDArray[np.int64]:
    if data.time is None or not len(data):
        return np.zeros(0, np.int64)
    begins = np.diff(data.time) > gap_minutes * MILLISECONDS_PER_MINUTE
    begins |= np.diff(data.user) != 0
    return np.concatenate([[0], np.cumsum(begins, dtype=np.int64)])


def _of_the_log(user: NDArray[np.int32], session: NDArray[np.int64]) -> NDArray[np.int64]:
    """(events,) the log's sessions numbered by their first event; a session may be interrupted by another."""
    order = _session_order(user, session)
    if order is None:
        return _runs(user, session)
    run = np.empty(len(user), np.int64)
    run[order] = _runs(user[order], session[order])
    # The sort put the sessions of a user in the order of their ids; what is wanted is that of their first events.
    first = np.full(int(run.max()) + 1, len(user))
    np.minimum.at(first, run, np.arange(len(user)))
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[run]


def _session_order(user: NDArray[np.int32], session: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The stable order by user, then session; None where no session is interrupted by another as they stand."""
    if ((np.diff(session) >= 0) | (np.diff(user) != 0)).all():
        return None
    return np.lexsort((session, user))


def _runs(user: NDArray[np.int32], session: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(user):
        return np.zeros(0, np.int64)
    begins = (np.diff(session) != 0) | (np.diff(user) != 0)
    return np.concatenate([[0], np.cumsum(begins, dtype=np.int64)])


def _dense(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers without gaps, in the same order."""
    there = np.bincount(number) > 0
    return (np.cumsum(there) - 1)[number] if len(number) else number


def _numbers(data: Dataset) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if data.session is None else data.session
