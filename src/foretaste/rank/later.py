"""Later slices of a log, from which a ranker learns what came of the candidates of models that did not see them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.run import Run
from foretaste.split.parts import part_of_rows, part_of_users

__all__ = ["Asked", "ExampleKind", "Later", "Shown", "SliceRule", "kinds_of", "later_folds", "later_slice"]

SliceRule = float | Literal["last", "last_item"]
Asked = Literal["users", "events"]
ExampleKind = Literal["shown", "candidates", "both"]

DAY = 86_400_000
ANY = "next"  # the task of a log without kinds
NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class Later:
    """The log before a cut, who was there before and after it, and what they met after it."""

    early: Dataset
    queries: Queries
    came: Mapping[str, Ragged]  # kind of event -> (queries) items met by such events
    words: str  # how the slice was cut
    known: Dataset  # the early log and all after the cut; what was taken out is in neither
    shown: "Shown | None" = None  # lists shown after the cut; None where the log tells of none

    def tasks(self, kind: ExampleKind) -> set[str]:
        """Whose labels the examples of a kind have."""
        of_shown = set() if self.shown is None else set(self.shown.labels)
        return {"candidates": set(self.came), "shown": of_shown, "both": of_shown | set(self.came)}[kind]


@dataclass(frozen=True, eq=False)
class Shown:
    """Lists that were put before people, and what came of each place."""

    queries: Queries  # who saw them, with all that they had done before
    items: Ragged  # (lists) distinct items
    position: NDArray[np.int32]  # aligned with items.values; 0 = the first place
    labels: Mapping[str, NDArray[np.int8]]  # task -> aligned with items.values; UNKNOWN

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: NDArray[Any]) -> "Shown":
        """The given lists."""
        return self._at(self.items.take(rows), self.items.positions(rows), self.queries.take(rows))

    def without(self, hidden: Ragged | None) -> "Shown":
        """The same lists without the items that are hidden from each."""
        if hidden is None:
            return self
        span = np.int64(max(self.items.values.max(initial=0), hidden.values.max(initial=0)) + 1)
        pairs = self.items.row_of_value() * span + self.items.values
        keep = ~np.isin(pairs, hidden.row_of_value() * span + hidden.values)
        return self._at(self.items.where(keep), np.flatnonzero(keep), self.queries)

    def _at(self, items: Ragged, places: NDArray[np.int64], queries: Queries) -> "Shown":
        labels = {task: label[places] for task, label in self.labels.items()}
        return Shown(queries, items, self.position[places], labels)


@dataclass(frozen=True, eq=False)
class _Cut:
    """Which events come before and after, and which are taken out; what is in none of these stays with the sources."""

    after: NDArray[np.bool_]  # (events,)
    gone: NDArray[np.bool_]  # (events,)
    begins: NDArray[np.int64] | None  # (users,) milliseconds from which on lists count; None: the log has no times
    strangers: int | None  # the same of those who are not known by number; None: none of theirs
    words: str


def later_slice(data: Dataset, slice: SliceRule, run: Run, asked: Asked = "users", lists: int | None = None) -> Later:
    """Cut off the last part of a log.

    Args:
        slice: A share: the events of the last share of the log, for everybody from the same moment on; without times
            the last event of each user, and without an order a share of the events, drawn by chance. "last": from each
            user's last event of the strongest kind on. "last_item": the same, and what the user did before with the
            item of that event is taken out too, so that it is new to them, as where seen items are never offered.
        asked: "users": each user asks once, with what they did before the slice, and all that they met in it came.
            "events": they ask before each event of the slice, with all that they did before it; what came is its item,
            by the kinds of event with which they met this item within a day.
        lists: So many queries at most, drawn by chance. None: all.

    Raises:
        MissingData: The last event, or events of their own, are asked for of a log without an order.
        DataError: Nobody has events on both sides.
    """
    return _later(data, _cut_at_the_end(data, slice, run), asked, lists, run.rng("twostage", "lists"))


def later_folds(
    data: Dataset, share: float, folds: int, run: Run, asked: Asked = "users", lists: int | None = None
) -> list[Later]:
    """Deal the people into folds, and cut off the last events of one fold after the other.

    The sources of a fold are to see all that everybody else did, later events too: they are as little stale as those
    that answer after a split by user. After a split by time such sources know what the answering ones cannot.

    Args:
        share: Of the events of each person so much is cut off: at least the last, at most all but the first.
        asked: As in ``later_slice``.
        lists: So many queries at most of all folds together.

    Raises:
        MissingData: The log has no order.
        DataError: In a fold nobody has events on both sides.
    """
    data.require(Needs.ORDER, "Cutting off the last events of each person")
    fold = run.rng("twostage", "folds").integers(0, folds, len(data.users))
    length = np.diff(data.offsets)
    stay = np.clip(np.floor((1 - share) * length), 1, np.maximum(1, length - 1)).astype(np.int64)
    place = np.arange(len(data)) - data.offsets[data.user]
    found = []
    for number in range(folds):
        after = (place >= stay[data.user]) & (fold[data.user] == number)
        words = f"the last {share:.0%} of the events of part {number + 1} of {folds} of the people"
        rows = np.flatnonzero(after & (place == stay[data.user]))
        begins = None
        if data.time is not None:
            begins = np.full(len(data.users), NEVER)
            begins[data.user[rows]] = data.time[rows]
        strangers = None if begins is None or number else int(begins.min(initial=NEVER))
        cut = _Cut(after, np.zeros(len(data), bool), begins, strangers, words)
        of_fold = None if lists is None else max(1, lists // folds)
        found.append(_later(data, cut, asked, of_fold, run.rng("twostage", "lists", str(number))))
    return found


def _cut_at_the_end(data: Dataset, slice: SliceRule, run: Run) -> _Cut:
    """For everybody from one moment on, or from each user's last event on; see ``later_slice``."""
    gone = np.zeros(len(data), bool)
    begins = None if data.time is None else np.full(len(data.users), data.time.max(initial=0))
    if isinstance(slice, str):
        data.require(Needs.ORDER, f"The slice {slice!r}")
        after, last = _from_last(data)
        if begins is not None and data.time is not None:
            begins[data.user[last]] = data.time[last]
        words = "all from each user's last event of the strongest kind on"
        if slice == "last_item":
            pair = data.user.astype(np.int64) * len(data.items) + data.item
            gone = np.isin(pair, pair[last]) & ~after
            words += ", with what they did before with its item"
    elif data.time is not None:
        moment = int(np.quantile(data.time, 1 - slice))
        after = data.time >= moment
        begins = np.full(len(data.users), moment)
        words = f"the events of the last {slice:.0%}, for everybody from one moment on"
    elif data.ordered:
        after = np.zeros(len(data), bool)
        after[(data.offsets[1:] - 1)[np.diff(data.offsets) > 1]] = True
        words = "the last event of each user"
    else:
        after = run.rng("twostage", "slice").random(len(data)) < slice
        words = f"{slice:.0%} of the events, drawn by chance"
    return _Cut(after, gone, begins, None if begins is None else int(begins.min(initial=NEVER)), words)


def _later(data: Dataset, cut: _Cut, asked: Asked, lists: int | None, draws: np.random.Generator) -> Later:
    if asked == "events":
        data.require(Needs.ORDER, "Asking before each event")
    before, words = ~cut.after & ~cut.gone, cut.words
    before_of, after_of = (np.bincount(data.user[rows], minlength=len(data.users)) for rows in (before, cut.after))
    there = (before_of > 0) & (after_of > 0)
    if not there.any():
        raise DataError(f"{data.name}: nobody has events both before and after a later slice to learn ranking from.")
    known = data.where(~cut.gone)
    if asked == "users":
        some = np.flatnonzero(there)
        if lists is not None:
            there[draws.permutation(some)[lists:]] = False
        queries, came = _by_user(data, there, before, cut.after)
    else:
        rows = np.flatnonzero(cut.after[~cut.gone])
        rows = rows[rows > known.offsets[known.user[rows]]]
        queries, came = _by_event(known, np.sort(draws.permutation(rows)[:lists]))
        words += ", each event of it asked for on its own"
    return Later(data.where(before), queries, came, words, known, _shown(known, cut))


def _by_user(
    data: Dataset, there: NDArray[np.bool_], before: NDArray[np.bool_], after: NDArray[np.bool_]
) -> tuple[Queries, dict[str, Ragged]]:
    """One query for each user, after what came before the slice, and by kind all that the user met in it."""
    parts = {
        name: part_of_users(data, there, before, after & of_kind, name="later").holdout
        for name, of_kind in _kinds(data).items()
    }
    return next(iter(parts.values())).queries, {name: part.targets for name, part in parts.items()}


def _by_event(known: Dataset, rows: NDArray[np.int64]) -> tuple[Queries, dict[str, Ragged]]:
    """One query before each of the given events, and by kind its item, where it was met so within a day."""
    holdout = part_of_rows(known, rows, name="later").holdout
    time, horizon = (np.arange(len(known)), len(known)) if known.time is None else (known.time - known.time.min(), DAY)
    pair = known.user.astype(np.int64) * len(known.items) + known.item
    order = np.lexsort((time, pair))
    number = np.unique(pair[order], return_inverse=True)[1]  # small enough to stand before a moment in one number
    span = int(time.max()) + horizon + 2
    pair = np.empty_like(number)
    pair[order] = number
    came = {}
    for name, of_kind in _kinds(known).items():
        keys = np.sort(pair[of_kind] * span + time[of_kind])
        begin, end = (np.searchsorted(keys, pair[rows] * span + time[rows] + wait) for wait in (0, horizon))
        came[name] = holdout.targets.where(begin < end)
    return holdout.queries, came


def _shown(known: Dataset, cut: _Cut) -> Shown | None:
    """The lists that were shown after a cut.

    Args:
        known: The log to know people by; it holds the lists.
    """
    log = known.impressions
    if log is None or cut.begins is None:
        return None
    strangers = NEVER if cut.strangers is None else cut.strangers
    log = log.take(log.time >= np.where(log.user == PAD, strangers, cut.begins[log.user]))
    if not len(log):
        return None
    pair = np.unique(log.request, return_inverse=True)[1] * np.int64(len(known.items)) + log.item
    log = log.take(np.sort(np.unique(pair, return_index=True)[1]))  # an item counts where it stood first
    first = np.flatnonzero(np.diff(log.request, prepend=log.request[0] - 1))
    queries = Queries.at_moments(known, log.user[first], log.time[first])
    if len(log.context):
        queries = replace(queries, context=log.context.take(first))
    items = Ragged(log.item, np.append(first, len(log)))
    return Shown(queries, items, log.position, log.labels)


def _from_last(data: Dataset) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(events,) what each user did from the last event of the strongest kind on, and the rows of these last events."""
    wanted = np.ones(len(data), bool)
    if data.kind is not None:
        wanted = data.kind == int(
            np.argmax(np.where(np.bincount(data.kind, minlength=len(data.kinds)), data.kinds.weights, -np.inf))
        )
    rows = np.flatnonzero(wanted)
    last = rows[np.append(np.flatnonzero(np.diff(data.user[rows])), len(rows) - 1)] if len(rows) else rows
    cut = data.offsets[1:].copy()
    cut[data.user[last]] = last
    return np.arange(len(data)) >= cut[data.user], last


def kinds_of(data: Dataset) -> list[str]:
    """The kinds of event of which a ranker of this log has a task."""
    return list(_kinds(data))


def _kinds(data: Dataset) -> dict[str, NDArray[np.bool_]]:
    """(events,) of which kind each is, by the names of those that occur."""
    if data.kind is None:
        return {ANY: np.ones(len(data), bool)}
    present = np.unique(data.kind).tolist()
    return {data.kinds.names[kind]: data.kind == kind for kind in present}
