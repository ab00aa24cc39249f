"""A later slice of a log, from which a ranker learns what came of the candidates of models that did not see it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.split.parts import part_of_users

__all__ = ["Later", "later_slice"]

ANY = "next"  # the task of a log without kinds


@dataclass(frozen=True, eq=False)
class Later:
    """The log before a cut, who was there before and after it, and what they met after it."""

    early: Dataset
    queries: Queries
    came: Mapping[str, Ragged]  # kind of event -> (queries) items met by such events
    words: str  # how the slice was cut


def later_slice(data: Dataset, share: float, run: Run) -> Later:
    """Cut off the last part of a log.

    With times it is the last share of the events, for everybody from the same moment on; with an order alone it is the
    last event of each user; without any, a share of each user's events, drawn by chance.

    Raises:
        DataError: Nobody has events on both sides.
    """
    if data.time is not None:
        moment = int(np.quantile(data.time, 1 - share))
        after = data.time >= moment
        words = f"the events of the last {share:.0%}, for everybody from one moment on"
    elif data.ordered:
        after = np.zeros(len(data), bool)
        after[(data.offsets[1:] - 1)[np.diff(data.offsets) > 1]] = True
        words = "the last event of each user"
    else:
        after = run.rng("twostage", "slice").random(len(data)) < share
        words = f"{share:.0%} of the events, drawn by chance"
    before_of, after_of = (np.bincount(data.user[rows], minlength=len(data.users)) for rows in (~after, after))
    asked = (before_of > 0) & (after_of > 0)
    if not asked.any():
        raise DataError(f"{data.name}: nobody has events both before and after a later slice to learn ranking from.")
    came: dict[str, Ragged] = {}
    queries: Queries | None = None
    for name, of_kind in _kinds(data).items():
        holdout = part_of_users(data, asked, ~after, after & of_kind, name="later").holdout
        queries, came[name] = holdout.queries, holdout.targets
    if queries is None:
        raise DataError(f"{data.name} has no kinds of events.")
    return Later(data.where(~after), queries, came, words)


def _kinds(data: Dataset) -> dict[str, NDArray[np.bool_]]:
    """(events,) of which kind each is, by the names of those that occur."""
    if data.kind is None:
        return {ANY: np.ones(len(data), bool)}
    present = np.unique(data.kind).tolist()
    return {data.kinds.names[kind]: data.kind == kind for kind in present}
