"""Events are thrown into the parts at random: a split that leaks, kept for comparison with papers that use it."""

from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from foretaste.dataset import Dataset
from foretaste.run import Run
from foretaste.split.parts import Split, SplitRule, assembled, part_of_users

__all__ = ["RandomSplit"]


class RandomSplit(SplitRule):
    """Each event falls into train, validation or test by chance, so train holds what its users did after the test.

    A model can then be praised for guessing the past from the future: the numbers say nothing about life.
    """

    kind: Literal["random"] = "random"
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Chances of an event to fall into train, validation and test."""
    seed: int = 0

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if min(self.ratios) < 0 or abs(sum(self.ratios) - 1) > 1e-6 or not (self.ratios[0] and self.ratios[2]):
            raise ValueError(f"ratios must add up to 1, with shares of train and test above 0; these are {self.ratios}")
        return self

    def split(self, data: Dataset) -> Split:
        """Split any log.

        Raises:
            DataError: A part is left without events or queries.
        """
        drawn = Run(seed=self.seed).rng("split", "random").random(len(data))
        in_train = drawn < self.ratios[0]
        in_test = drawn >= self.ratios[0] + self.ratios[1]
        in_validation = ~in_train & ~in_test
        users = len(data.users)

        def has(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return np.bincount(data.user[mask], minlength=users) > 0

        latest = 0 if data.time is None or not len(data) else int(data.time.max())
        validation = part_of_users(
            data, has(in_train) & has(in_validation), in_train, in_validation, name="validation", empty_now=latest
        )
        asked = has(~in_test) & has(in_test)
        test = part_of_users(data, asked, ~in_test, in_test, name="test", empty_now=latest)
        return assembled(
            self,
            data,
            replace(data.where(in_train), impressions=None),
            validation,
            test,
            counts={
                "validation_events_without_history": int((in_validation & ~has(in_train)[data.user]).sum()),
                "test_events_without_history": int((in_test & ~asked[data.user]).sum()),
            },
            sentences=[
                "This split leaks: events fell into train, validation and test by chance, so training knows what the "
                "same users did after the test events."
            ],
            filter_seen=True,
        )
