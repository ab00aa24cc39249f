"""Popularity: what everybody meets most."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.query import Holdout, Queries
from foretaste.recommender import About, Model, Settings
from foretaste.run import Run

if TYPE_CHECKING:
    import torch

__all__ = ["FixedRanking", "Popular"]


class Popular(Settings):
    """Items by the summed weights of their events; the row that every table needs."""

    count_users: bool = False
    """Count each user once per item, by the user's strongest event, instead of each event."""

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "FixedRanking":
        about = About.of(train)
        if not self.count_users:
            return FixedRanking(self, about, about.popularity)
        return FixedRanking(self, about, _strongest_per_user(train))

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "FixedRanking":
        return FixedRanking(self, about, state["score"])


class FixedRanking(Model):
    """The same ranking for everybody."""

    def __init__(self, settings: Settings, about: About, score: NDArray[np.float32]) -> None:
        super().__init__(settings, about)
        self._score = score

    def state(self) -> dict[str, NDArray[Any]]:
        return {"score": self._score}

    def _scores(self, queries: Queries) -> "torch.Tensor":
        import torch

        ranking = torch.from_numpy(np.where(self._score > 0, self._score, -np.inf).astype(np.float32))
        return ranking.repeat(len(queries), 1)


def _strongest_per_user(train: Dataset) -> NDArray[np.float32]:
    """(items,) the summed weights of the strongest event between each user and the item."""
    weights = train.weights()
    pair = train.user.astype(np.int64) * len(train.items) + train.item
    order = np.lexsort((-weights, pair))
    first = np.ones(len(order), bool)
    first[1:] = pair[order][1:] != pair[order][:-1]
    strongest = order[first]
    counts = np.bincount(train.item[strongest], weights=weights[strongest], minlength=len(train.items))
    return counts.astype(np.float32)
