"""What a split lets slip: the future in train, cold users and items, ties across the cut, duplicates across parts."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.query import Holdout
from foretaste.ragged import PAD, Ragged

__all__ = ["LeakReport", "leak_report"]

CHUNK = 4_000_000  # events looked at in one go, so that the memory for looking stays small


@dataclass(frozen=True)
class LeakReport:
    """Counts of what could make a test easier, or harder, than life. None = could not be checked."""

    train_events: int
    test_queries: int
    test_targets: int
    train_events_after_test: int | None  # train events later than the earliest test target
    queries_others_later: int | None  # queries with a train event of another user later than their first target
    own_events_later: int | None  # train events later than a test target of the same user: must be 0
    queries_tied: int | None  # queries with a target at the very time of the last event of the history
    cold_users: int  # test users without any event in train
    cold_user_queries: int
    cold_items: int  # distinct target items without any event in train
    cold_item_queries: int  # queries with at least one of them
    duplicates: int | None  # targets whose user, item and time stand in train too
    repeated_pairs: int  # targets whose user and item stand in train too, at whatever time
    targets_in_history: int  # targets that the query's own history already holds: a seen filter makes them unreachable
    unchecked: tuple[str, ...] = ()  # what could not be checked, and why

    @property
    def share_others_later(self) -> float | None:
        """Of the test queries, those for which train tells what others did after the target, 0 to 1."""
        return None if self.queries_others_later is None else self.queries_others_later / max(self.test_queries, 1)

    @property
    def found(self) -> bool:
        """Whether train holds a test event, or what its user did after it: then no number of this split is honest."""
        return bool(self.own_events_later or self.duplicates)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "share_others_later": self.share_others_later,
            "found": self.found,
            "unchecked": list(self.unchecked),
            "sentences": self.sentences(),
        }

    def sentences(self) -> list[str]:
        """The findings for people, worst first."""
        return [sentence for sentence in (*self._of_time(), *self._of_cold(), *self._of_repeats()) if sentence] + [
            *self.unchecked
        ]

    def _of_time(self) -> Iterator[str]:
        if self.own_events_later:
            yield (
                f"LEAK: {_number(self.own_events_later, 'training event')} of test users "
                f"{_are(self.own_events_later)} later than a target of theirs."
            )
        if self.duplicates:
            yield (
                f"LEAK: {_of(self.duplicates, self.test_targets, 'test target')} "
                f"{_are(self.duplicates)} in train with the same user, item and time."
            )
        if self.queries_others_later:
            yield (
                f"For {_of(self.queries_others_later, self.test_queries, 'test query')} the training data "
                f"holds events of others from after the target "
                f"({self.train_events_after_test:,} of {self.train_events:,} training events are later than the "
                "earliest target); life has no such hindsight."
            )
        elif self.queries_others_later == 0 and not self.own_events_later:
            yield "No training event is later than a test target that it could help to guess."
        if self.queries_tied:
            yield (
                f"In {_of(self.queries_tied, self.test_queries, 'test query')} a target has the same time as the last "
                "known event: which of them came last is the order of the log, not of time."
            )

    def _of_cold(self) -> Iterator[str]:
        if self.cold_users:
            queries = _of(self.cold_user_queries, self.test_queries, "query")
            who = _number(self.cold_users, "test user")
            yield f"{who}, asking {queries}, {_have(self.cold_users)} no event in train."
        if self.cold_items:
            queries = _of(self.cold_item_queries, self.test_queries, "query")
            yield (
                f"{_number(self.cold_items, 'target item')}, in {queries}, {_have(self.cold_items)} no event in train; "
                "models that know items by number miss them."
            )

    def _of_repeats(self) -> Iterator[str]:
        if self.targets_in_history:
            yield (
                f"{_of(self.targets_in_history, self.test_targets, 'test target')} already "
                f"{_stand(self.targets_in_history)} in the history: wherever seen items are hidden, they are misses."
            )


def leak_report(train: Dataset, test: Holdout, moments: NDArray[np.int64] | None) -> LeakReport:
    """What ``train`` tells of ``test``.

    Args:
        train: All that the tested model learns from.
        moments: (targets,) the time of each target, milliseconds; None = not known.
    """
    queries, targets = test.queries, test.targets
    timed = moments is not None and train.time is not None
    times = train.time if timed else None
    user = np.full(len(test), PAD, np.int32) if queries.user is None else queries.user
    first = _first_moment(targets, moments) if timed and moments is not None else None
    others, own, later = (None, None, None) if times is None or first is None else _later(train, times, user, first)
    support = np.bincount(train.item, minlength=len(train.items))
    cold_target = support[targets.values] == 0
    active = np.append(np.diff(train.offsets) > 0, False)
    cold_user = (user != PAD) & ~active[user]
    duplicates, pairs = _repeated(train, user, targets, moments)
    return LeakReport(
        train_events=len(train),
        test_queries=len(test),
        test_targets=len(targets.values),
        train_events_after_test=later,
        queries_others_later=others,
        own_events_later=own,
        queries_tied=None if moments is None or queries.times is None else _tied(test, moments),
        cold_users=len(np.unique(user[cold_user])),
        cold_user_queries=int(cold_user.sum()),
        cold_items=len(np.unique(targets.values[cold_target])),
        cold_item_queries=len(np.unique(targets.row_of_value()[cold_target])),
        duplicates=duplicates,
        repeated_pairs=pairs,
        targets_in_history=_in_history(queries.history, targets, len(train.items)),
        unchecked=() if timed else (_why_unchecked(train, moments, pairs, len(targets.values)),),
    )


def _first_moment(targets: Ragged, moments: NDArray[np.int64]) -> NDArray[np.int64]:
    """(queries,) the time of the earliest target; the last possible time where there is none."""
    first = np.full(len(targets), np.iinfo(np.int64).max)
    np.minimum.at(first, targets.row_of_value(), moments)
    return first


def _later(
    train: Dataset, times: NDArray[np.int64], user: NDArray[np.int32], first: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Queries with later events of others, later events of the users themselves, train events after the earliest."""
    filled = np.flatnonzero(np.diff(train.offsets))
    last = times[train.offsets[1:][filled] - 1]  # a user's events stand in order of time
    holder = np.argmax(last) if len(last) else 0
    latest = last[holder] if len(last) else np.iinfo(np.int64).min
    rest = np.delete(last, holder) if len(last) else last
    second = rest.max() if len(rest) else np.iinfo(np.int64).min
    is_holder = user == filled[holder] if len(filled) else np.zeros(len(user), bool)
    others = int((np.where(is_holder, second, latest) > first).sum())

    first_of = np.full(len(train.users) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_of, user, first)
    first_of[-1] = np.iinfo(np.int64).max  # PAD, the users unknown, came to stand there
    earliest = first.min(initial=np.iinfo(np.int64).max)
    own = later = 0
    for begin in range(0, len(train), CHUNK):
        part = slice(begin, begin + CHUNK)
        later += int((times[part] > earliest).sum())
        own += int((times[part] > first_of[train.user[part]]).sum())
    return others, own, later


def _tied(test: Holdout, moments: NDArray[np.int64]) -> int:
    history, times = test.queries.history, test.queries.times
    if times is None or not len(times):
        return 0
    row = test.targets.row_of_value()
    last = times[(history.offsets[1:] - 1).clip(0)]
    tied = (moments == last[row]) & (history.lengths[row] > 0)
    return len(np.unique(row[tied]))


def _repeated(
    train: Dataset, user: NDArray[np.int32], targets: Ragged, moments: NDArray[np.int64] | None
) -> tuple[int | None, int]:
    """Targets that stand in train with the same user, item and time (None without times), and with user and item."""
    items = max(len(train.items), 1)
    row = targets.row_of_value()
    known = user[row] != PAD
    key = user[row][known].astype(np.int64) * items + targets.values[known]
    wanted = np.unique(key)
    timed = moments is not None and train.time is not None
    found = np.zeros(len(wanted), bool)
    twins: list[NDArray[np.int64]] = []
    moment = np.unique(moments[known]) if timed and moments is not None else np.empty(0, np.int64)
    for begin in range(0, len(train) if len(wanted) else 0, CHUNK):
        part = slice(begin, begin + CHUNK)
        place, same = _find(wanted, train.user[part].astype(np.int64) * items + train.item[part])
        found[place[same]] = True
        if timed and train.time is not None:
            at, exact = _find(moment, train.time[part][same])
            twins.append(np.unique((place[same] * len(moment) + at)[exact]))
    pairs = int(found[np.searchsorted(wanted, key)].sum()) if len(wanted) else 0
    if not timed or moments is None:
        return None, pairs
    mine = np.searchsorted(wanted, key) * len(moment) + np.searchsorted(moment, moments[known])
    return int(np.isin(mine, np.concatenate(twins)).sum()) if twins else 0, pairs


def _in_history(history: Ragged, targets: Ragged, items: int) -> int:
    """How many targets stand in the history of their own query."""
    wanted = np.sort(targets.row_of_value() * items + targets.values)
    found = np.zeros(len(wanted), bool)
    steps = np.arange(0, history.offsets[-1] + 1, CHUNK)
    edges = np.unique(np.append(np.searchsorted(history.offsets, steps), len(history)))
    for begin, end in pairwise(edges.tolist()):
        row = np.repeat(np.arange(begin, end), history.lengths[begin:end])
        item = history.values[history.offsets[begin] : history.offsets[end]]
        place, same = _find(wanted, row * items + item)
        found[place[same]] = True
    return int(found.sum())


def _find(known: NDArray[np.int64], keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each key would stand in the ascending ``known``, and whether it does stand there."""
    if not len(known):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return place, known[place] == keys


def _why_unchecked(train: Dataset, moments: NDArray[np.int64] | None, pairs: int, targets: int) -> str:
    lacking = "The log has" if train.time is None else "The test part has"
    if train.time is None and moments is not None:
        lacking = "The training part has"
    again = (
        f"no test target repeats a user and item of train (of {targets:,})"
        if not pairs
        else f"{_of(pairs, targets, 'test target')} {'repeats' if pairs == 1 else 'repeat'} a user and item of train"
    )
    return f"{lacking} no times: whether train holds later events, and which events tie, could not be checked; {again}."


def _number(count: int, what: str) -> str:
    return f"{count:,} {what if count == 1 else _plural(what)}"


def _of(count: int, whole: int, what: str) -> str:
    return f"{count:,} of {_number(whole, what)} ({count / max(whole, 1):.1%})"


def _plural(what: str) -> str:
    return f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"
