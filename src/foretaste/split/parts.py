"""What every split shares: the result, the settings, and the step from rows of a log to queries and targets."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from foretaste.dataset import Dataset, Impressions, Needs
from foretaste.errors import DataError, TooLarge, UnknownName
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged, spans
from foretaste.split.leaks import LeakReport, leak_report
from foretaste.split.slices import slices

__all__ = [
    "Part",
    "Split",
    "SplitRule",
    "assembled",
    "between",
    "from_end",
    "impressions_before",
    "of_kinds",
    "part_of_rows",
    "part_of_users",
]

MOST_HISTORY = 1_000_000_000  # events in all histories of a part together; more is a mistake, or the wrong protocol


class SplitRule(BaseModel):
    """The settings of a split, frozen; ``split`` carries it out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, eq=False)
class Split:
    """What to learn from, what to choose by, and what to be judged by. All parts share the vocabularies."""

    train: Dataset
    validation: Holdout | None
    test: Holdout
    refit: Dataset | None  # what the final model learns from once the epochs are chosen; None = train
    protocol: Mapping[str, Any]  # JSON: kind, settings, counts, denominators, digest, sentences
    leaks: LeakReport
    filter_seen: bool  # whether this protocol hides what the history already holds

    @property
    def final(self) -> Dataset:
        """What the model that is tested learns from: ``refit``, or else ``train``."""
        return self.train if self.refit is None else self.refit


@dataclass(frozen=True, eq=False)
class Part:
    """A holdout, and the moment of each of its targets."""

    holdout: Holdout
    moments: NDArray[np.int64] | None  # aligned with holdout.targets.values, milliseconds; None = no times


def between(starts: NDArray[np.int64], ends: NDArray[np.int64], rows: int) -> NDArray[np.bool_]:
    """(rows,) true in every ``starts[i]:ends[i]``; the ranges must not overlap."""
    steps = np.zeros(rows + 1, np.int8)
    np.add.at(steps, starts, 1)
    np.subtract.at(steps, ends, 1)
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)


def from_end(
    data: Dataset, wanted: NDArray[np.bool_] | None, place: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(users,) the row of each user's target that is ``place``-th from the end, and whether there is one."""
    if wanted is None:
        row = data.offsets[1:] - place
        return row, row >= data.offsets[:-1]
    rows = np.flatnonzero(wanted)
    edges = np.searchsorted(rows, data.offsets)
    at = edges[1:] - place
    there = at >= edges[:-1]
    return (rows[at.clip(0)] if len(rows) else np.zeros(len(there), np.int64)), there


def of_kinds(data: Dataset, names: Sequence[str] | None) -> NDArray[np.bool_] | None:
    """(events,) whether an event is of one of the named kinds; None where every kind is meant.

    Raises:
        MissingData: Kinds are named, and the log has none.
        UnknownName: The log has no kind of that name.
    """
    if names is None:
        return None
    data.require(Needs.KINDS, "A choice of event kinds")
    for name in names:
        if name not in data.kinds.names:
            raise UnknownName("event kind", name, data.kinds.names)
    wanted = np.array([name in names for name in data.kinds.names])
    return wanted[data.kind]


def part_of_users(
    data: Dataset,
    asked: NDArray[np.bool_],
    history: NDArray[np.bool_],
    targets: NDArray[np.bool_],
    *,
    name: str,
    log: Dataset | None = None,
    empty_now: int = 0,
    tell_time: bool = False,
) -> Part:
    """One query for each user who is asked, with all their targets at once.

    Args:
        data: Where the histories come from.
        asked: (users,) who is asked.
        history: (events of data,) which events are known when asking; those of others are left out.
        targets: (events of log,) which events came of it; those of others are left out.
        log: Where the targets come from, by default ``data``.
        empty_now: The moment of asking of those who have no history, milliseconds.
        tell_time: The moment of asking is that of the first target, instead of the last known event.
    """
    log = data if log is None else log
    users = np.flatnonzero(asked)
    queries = _queries(data, users, history & asked[data.user], empty_now)
    rows = np.flatnonzero(targets & asked[log.user])
    place = np.cumsum(asked) - 1
    return _part(log, queries, place[log.user[rows]], rows, name, tell_time=tell_time)


def part_of_rows(data: Dataset, rows: NDArray[np.int64], *, name: str, empty_now: int = 0) -> Part:
    """One query for each given event: its history is all that its user did before, it is the only target.

    Raises:
        TooLarge: The histories together would be too long to hold.
    """
    user = data.user[rows]
    begin = data.offsets[user]
    lengths = rows - begin
    if lengths.sum() > MOST_HISTORY:
        raise TooLarge(
            f"The histories of {len(rows):,} queries hold {lengths.sum():,} events, more than {MOST_HISTORY:,}. "
            "Ask once per user, or hold out a shorter time."
        )
    places = spans(begin, lengths)
    queries = _queries_at(data, user, Ragged.from_lengths(data.item[places], lengths), places, empty_now)
    return _part(data, queries, np.arange(len(rows)), rows, name)


def impressions_before(data: Dataset, until: NDArray[np.int64] | None, held: NDArray[np.bool_]) -> Impressions | None:
    """What was shown to each user up to their last known event, without what was later taken from it.

    Args:
        until: (users,) milliseconds, inclusive; what was shown to nobody known stays whole. None = the log has no
            times, so nothing shown can be kept.
        held: (events,) which events are withheld. A list shown before can tell that its item was taken.
    """
    shown = data.impressions
    if shown is None or until is None or not len(shown):
        return None
    known = shown.user != PAD
    latest = np.where(known, until[shown.user], np.iinfo(np.int64).max)
    pairs = np.unique(data.user[held].astype(np.int64) * len(data.items) + data.item[held])
    withheld = known & np.isin(shown.user.astype(np.int64) * len(data.items) + shown.item, pairs)
    return shown.take((shown.time <= latest) & ~withheld)


def assembled(
    rule: SplitRule,
    data: Dataset,
    train: Dataset,
    validation: Part | None,
    test: Part,
    *,
    refit: Dataset | None = None,
    counts: Mapping[str, int],
    sentences: Sequence[str],
    filter_seen: bool,
    cuts: Mapping[str, str] | None = None,
    missed: int = 0,
) -> Split:
    """The split of these parts, with slices, leak report and the protocol in words.

    Args:
        counts: What was left out, by name; only what is not zero is kept.
        sentences: What the protocol does, for people.
        cuts: When validation and test begin, as ISO text.
        missed: How many queries the headline leaves out that count as misses in the other denominator.

    Raises:
        DataError: Nobody is left to test, or nothing to train on.
    """
    kind = str(rule.model_dump()["kind"])
    if not len(test.holdout):
        raise DataError(f"The split {kind} leaves no test query in {data.name}: histories or spans are too short.")
    if not len(train):
        raise DataError(f"The split {kind} leaves no event of {data.name} to train on.")
    if validation is not None and not len(validation.holdout):
        validation = None
    final = train if refit is None else refit
    holdouts = [
        None if part is None else replace(part.holdout, slices=slices(known, part.holdout), filter_seen=filter_seen)
        for part, known in ((validation, train), (test, final))
    ]
    headline = len(test.holdout)
    protocol = {
        "kind": kind,
        "settings": rule.model_dump(mode="json"),
        "filter_seen": filter_seen,
        "counts": {
            "train_events": len(train),
            **({} if refit is None else {"refit_events": len(refit)}),
            "validation_queries": 0 if validation is None else len(validation.holdout),
            "test_queries": headline,
            "test_targets": len(test.holdout.targets.values),
            **{name: int(count) for name, count in counts.items() if count},
        },
        **({} if cuts is None else {"cuts": dict(cuts)}),
        "denominators": {"headline": headline, "with_unknown": headline + missed},
        "digest": _digest(train, *holdouts),
        "sentences": list(sentences),
    }
    return Split(
        train,
        holdouts[0],
        holdouts[1],  # type: ignore[arg-type]
        refit,
        protocol,
        leak_report(final, test.holdout, test.moments),
        filter_seen,
    )


def _queries(data: Dataset, users: NDArray[np.int64], kept: NDArray[np.bool_], empty_now: int) -> Queries:
    lengths = np.bincount(data.user[kept], minlength=len(data.users))[users]
    return _queries_at(data, users, Ragged.from_lengths(data.item[kept], lengths), kept, empty_now)


def _queries_at(
    data: Dataset, user: NDArray[np.integer], history: Ragged, places: NDArray[Any], empty_now: int
) -> Queries:
    """Queries whose histories stand at the given places (rows or a mask) of the log."""
    now = None
    if data.time is not None:
        now = np.full(len(history), empty_now, np.int64)
        filled = history.lengths > 0
        now[filled] = data.time[places][history.offsets[1:][filled] - 1]
    return Queries.at_places(data, user, history, places, now)


def _part(
    log: Dataset,
    queries: Queries,
    query: NDArray[np.int64],
    rows: NDArray[np.int64],
    name: str,
    *,
    tell_time: bool = False,
) -> Part:
    """Targets (rows of the log, each with its query, ascending) joined to their queries; each item once."""
    item = log.item[rows]
    if len(query) > 1 and (np.diff(query) == 0).any():
        _, first = np.unique(query * len(log.items) + item, return_index=True)
        first.sort()
        query, rows, item = query[first], rows[first], item[first]
    targets = Ragged.from_lengths(item, np.bincount(query, minlength=len(queries)))
    moments = None if log.time is None else log.time[rows]
    if tell_time and moments is not None:
        queries = replace(queries, now=moments[targets.offsets[:-1]])
    return Part(Holdout(queries, targets, name=name), moments)


def _digest(train: Dataset, *holdouts: Holdout | None) -> str:
    """Equal splits of equal data have equal digests."""
    digest = hashlib.blake2b(digest_size=12)
    arrays: list[NDArray[Any]] = [train.item, train.offsets]
    for holdout in holdouts:
        if holdout is None:
            arrays.append(np.empty(0))
        else:
            user = np.empty(0) if holdout.queries.user is None else holdout.queries.user
            arrays += [user, holdout.queries.history.offsets, holdout.targets.values, holdout.targets.offsets]
            arrays += [] if holdout.offered is None else [holdout.offered]
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(memoryview(np.ascontiguousarray(array).view(np.uint8)) if array.size else b"")  # type: ignore[arg-type]
    return digest.hexdigest()
