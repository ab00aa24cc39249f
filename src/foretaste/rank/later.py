"""A later slice of a log, from which a ranker learns what came of the candidates of models that did not see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.split.parts import part_of_users

__all__ = ["Later", "SliceRule", "kinds_of", "later_slice"]

SliceRule = float | Literal["last", "last_item"]

ANY = "next"  # the task of a log without kinds


@dataclass(frozen=True, eq=False)
class Later:
    """The log before a cut, who was there before and after it, and what they met after it."""

    early: Dataset
    queries: Queries
    came: Mapping[str, Ragged]  # kind of event -> (queries) items met by such events
    words: str  # how the slice was cut


def later_slice(data: Dataset, slice: SliceRule, run: Run) -> Later:
    """Cut off the last part of a log.

    Args:
        slice: A share: the events of the last share of the log, for everybody from the same moment on; without times
            the last event of each user, and without an order a share of the events, drawn by chance. "last": from each
            user's last event of the strongest kind on. "last_item": the same, and what the user did before with the
            item of that event is taken out too, so that it is new to them, as where seen items are never offered.

    Raises:
        MissingData: The last event is asked for of a log without an order.
        DataError: Nobody has events on both sides.
    """
    gone = np.zeros(len(data), bool)
    if isinstance(slice, str):
        data.require(Needs.ORDER, f"The slice {slice!r}")
        after, last = _from_last(data)
        words = "all from each user's last event of the strongest kind on"
        if slice == "last_item":
            pair = data.user.astype(np.int64) * len(data.items) + data.item
            gone = np.isin(pair, pair[last]) & ~after
            words += ", with what they did before with its item"
    elif data.time is not None:
        moment = int(np.quantile(data.time, 1 - slice))
        after = data.time >= moment
        words = f"the events of the last {slice:.0%}, for everybody from one moment on"
    elif data.ordered:
        after = np.zeros(len(data), bool)
        after[(data.offsets[1:] - 1)[np.diff(data.offsets) > 1]] = True
        words = "the last event of each user"
    else:
        after = run.rng("twostage", "slice").random(len(data)) < slice
        words = f"{slice:.0%} of the events, drawn by chance"
    before = ~after & ~gone
    before_of, after_of = (np.bincount(data.user[rows], minlength=len(data.users)) for rows in (before, after))
    asked = (before_of > 0) & (after_of > 0)
    if not asked.any():
        raise DataError(f"{data.name}: nobody has events both before and after a later slice to learn ranking from.")
    came: dict[str, Ragged] = {}
    queries: Queries | None = None
    for name, of_kind in _kinds(data).items():
        holdout = part_of_users(data, asked, before, after & of_kind, name="later").holdout
        queries, came[name] = holdout.queries, holdout.targets
    if queries is None:
        raise DataError(f"{data.name} has no kinds of events.")
    return Later(data.where(before), queries, came, words)


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
