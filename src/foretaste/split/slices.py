"""Groups of queries to look at apart: by length of history, by cold and warm, head and tail targets."""

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.query import Holdout
from foretaste.ragged import PAD

__all__ = ["slices"]

LENGTHS = ((0, 0), (1, 4), (5, 19), (20, 99), (100, None))  # first and last length of each group


def slices(train: Dataset, holdout: Holdout) -> dict[str, NDArray[np.bool_]]:
    """Named groups of the queries, as masks; a group that holds no query is left out.

    - ``history 1-4`` and the like: how many events the query's history has.
    - ``new user``: the user has no event in ``train``, or is not known at all.
    - ``cold target``: at least one target has no event in ``train``, or is outside the vocabulary; ``warm target``:
      the other queries.
    - ``head target``: every target is among the most popular items that together make up half of the events of
      ``train``, as few as that takes; ``tail target``: no target is. A query with both sorts is in neither.
    """
    lengths = holdout.queries.history.lengths
    masks = {
        _called(first, last): (lengths >= first) & (True if last is None else lengths <= last)
        for first, last in LENGTHS
    }
    masks["new user"] = _is_new(train, holdout)
    support = np.bincount(train.item, minlength=len(train.items))
    targets = holdout.targets
    row, wanted = targets.row_of_value(), targets.lengths
    cold = np.bincount(row[support[targets.values] == 0], minlength=len(holdout)) > 0
    if holdout.unknown is not None:
        cold |= holdout.unknown > 0
    masks |= {"cold target": cold, "warm target": ~cold}
    in_head = np.bincount(row[_head(support)[targets.values]], minlength=len(holdout))
    masks |= {"head target": (in_head == wanted) & (wanted > 0), "tail target": (in_head == 0) & (wanted > 0)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _called(first: int, last: int | None) -> str:
    if last is None:
        return f"history {first}+"
    return f"history {first}" if first == last else f"history {first}-{last}"


def _is_new(train: Dataset, holdout: Holdout) -> NDArray[np.bool_]:
    user = holdout.queries.user
    if user is None:
        return np.zeros(len(holdout), bool)
    known = np.append(np.diff(train.offsets) > 0, False)  # the last place answers for PAD, which is -1
    return ~known[np.where(user == PAD, len(train.users), user)]


def _head(support: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(items,) the fewest, most popular items that make up half of all events; of equals the first in order."""
    order = np.argsort(-support, kind="stable")
    before = np.cumsum(support[order]) - support[order]
    head = np.zeros(len(support), bool)
    head[order[(before * 2 < support.sum()) & (support[order] > 0)]] = True
    return head
