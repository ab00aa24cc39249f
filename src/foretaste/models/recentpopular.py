"""Recent popularity: what everybody meets most of late."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from foretaste.dataset import Dataset, Needs
from foretaste.models.popular import FixedRanking
from foretaste.query import Holdout
from foretaste.recommender import About, Settings
from foretaste.run import Run

__all__ = ["RecentPopular"]

DAY = 86_400_000  # milliseconds


class RecentPopular(Settings):
    """Items by the summed weights of their events near the end of the data.

    An event of age a (days before the last event) counts 0.5^(a / half_life_days), and nothing once it is
    older than ``window_days``.
    """

    needs = Needs.TIMES
    window_days: PositiveFloat = 30.0
    half_life_days: PositiveFloat | None = 7.0
    """None: every event within the window counts the same."""

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> FixedRanking:
        time = train.time
        if time is None:
            raise TypeError("require() has checked that there are times")
        age = (time.max() - time) / DAY
        weights = train.weights() * (age <= self.window_days)
        if self.half_life_days is not None:
            weights = weights * 0.5 ** (age / self.half_life_days)
        score = np.bincount(train.item, weights=weights, minlength=len(train.items)).astype(np.float32)
        return FixedRanking(self, About.of(train), score)

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> FixedRanking:
        return FixedRanking(self, about, state["score"])
