"""Some items are withheld from training wholly, and asked for afterwards: does a model know them without events?"""

from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.run import Run
from foretaste.split.parts import Part, Split, SplitRule, assembled, part_of_users

__all__ = ["ColdItems"]


class ColdItems(SplitRule):
    """A share of the items, drawn by ``seed``, has no event in train; its events are the test targets.

    Everybody who met such an item, and another, is asked once, with all other events as the history. Another share is
    withheld for validation, so that what is chosen is chosen by items never met too. Time is not respected: what is
    asked is not what comes next, but whether an item is known without events.

    Source: the protocol of DropoutNet (Volkovs, Yu, Poutanen, NeurIPS 2017, section 5) and of those after it. Differs:
        lists are of the whole catalogue by default; the papers rank the items withheld among themselves, which is
        ``offered="cold"``.
    """

    kind: Literal["cold_items"] = "cold_items"
    share: float = Field(default=0.1, gt=0, lt=1)
    """Of the items with events, those withheld for the test; at least one."""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """... and for validation; 0: there is none."""
    offered: Literal["all", "cold"] = "all"
    """What lists are made of: everything, or only what is withheld."""
    refit: bool = False
    """Whether the final model learns from the events of the validation items too, once its epochs are chosen."""
    seed: int = 0

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.share + self.validation_share >= 1:
            raise ValueError(
                f"share and validation_share must leave items to train on; they add up to "
                f"{self.share + self.validation_share:g}"
            )
        return self

    def split(self, data: Dataset) -> Split:
        """Split any log with a table of items.

        Raises:
            MissingData: Nothing is known of the items, so nobody could know those that are withheld.
            DataError: There are too few items.
        """
        data.require(Needs.ITEM_FEATURES, "The split cold_items")
        for_test, for_validation = self._drawn(data)
        in_test, in_validation = for_test[data.item], for_validation[data.item]
        known = ~in_test & ~in_validation
        refit = data.where(~in_test) if self.refit and in_validation.any() else None
        validation = self._part(data, known, in_validation, for_validation, "validation")
        test = self._part(data, ~in_test, in_test, for_test, "test")
        return assembled(
            self,
            data,
            replace(data.where(known), impressions=None),
            validation,
            test,
            refit=None if refit is None else replace(refit, impressions=None),
            counts={
                "test_items": int(for_test.sum()),
                "validation_items": int(for_validation.sum()),
                "test_events": int(in_test.sum()),
                "test_events_without_history": int((in_test & ~_met(data, ~in_test)[data.user]).sum()),
                "validation_events_without_history": int((in_validation & ~_met(data, known)[data.user]).sum()),
            },
            sentences=[
                f"{for_test.sum():,} items drawn by chance have no event in train; everybody who met some of them, and "
                "something else, is asked, with all other events of theirs as the history, later ones too.",
                *(["Only these items are offered."] if self.offered == "cold" else []),
            ],
            filter_seen=True,
        )

    def _drawn(self, data: Dataset) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(items,) those withheld for the test, and those for validation."""
        met = np.flatnonzero(np.bincount(data.item, minlength=len(data.items)))
        drawn = Run(seed=self.seed).rng("split", "items").permutation(met)
        ends = [max(1, round(self.share * len(met)))]
        ends.append(ends[0] + (max(1, round(self.validation_share * len(met))) if self.validation_share else 0))
        if ends[1] >= len(met):
            raise DataError(f"{data.name} has events of {len(met)} items; too few to withhold {ends[1]} of them.")
        masks = np.zeros((2, len(data.items)), bool)
        masks[0, drawn[: ends[0]]] = True
        masks[1, drawn[ends[0] : ends[1]]] = True
        return masks[0], masks[1]

    def _part(
        self,
        data: Dataset,
        known: NDArray[np.bool_],
        held: NDArray[np.bool_],
        items: NDArray[np.bool_],
        name: str,
    ) -> Part:
        asked = _met(data, held) & _met(data, known)
        part = part_of_users(data, asked, known, held, name=name)
        if self.offered == "all":
            return part
        return replace(part, holdout=replace(part.holdout, offered=np.flatnonzero(items).astype(np.int32)))


def _met(data: Dataset, events: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(users,) who has any of these events."""
    return np.bincount(data.user[events], minlength=len(data.users)) > 0
