"""Train and test come ready-made; validation is cut from train."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.ragged import PAD
from foretaste.run import Run
from foretaste.split.parts import Part, Split, SplitRule, assembled, between, from_end, of_kinds, part_of_users
from foretaste.vocab import Strings, Vocab

__all__ = ["Given"]


class Given(SplitRule):
    """The publisher's train and test parts, and a validation part that is cut from train, as published ones lack it.

    Every user of the test part is asked once, with their whole train part as history, and all their test items are
    targets. Users and items that train does not know count too.
    """

    kind: Literal["given"] = "given"
    validation: Literal["random", "last", "last_item", "none"] = "random"
    """From each user's train events: some at random, the last one (where the order is meant), the item of the last one
    with everything that the user did with it (as for a test of items that its people never met), or nothing."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """How much of each user's events "random" takes, rounded; one event always stays in train."""
    refit: bool = True
    """Whether the final model learns from the whole train part once its epochs are chosen."""
    target_kinds: tuple[str, ...] | None = None
    """Only events of these kinds are targets, of test and of validation. Of a log without kinds, every event is."""
    seed: int = 0

    def split(self, train: Dataset, test: Dataset) -> Split:
        """Make the parts from two logs that share their vocabularies.

        Raises:
            DataError: The vocabularies differ, or a part is empty.
            MissingData: "last" is asked for and train has no order; or no kinds where some are named.
        """
        if not (_same(train.users, test.users) and _same(train.items, test.items)):
            raise DataError("Train and test must share their vocabularies of users and items: read them together.")
        latest = 0 if train.time is None or not len(train) else int(train.time.max())
        targets = self._wanted(test, train)
        test_part = part_of_users(
            train,
            np.bincount(test.user[targets], minlength=len(test.users)) > 0,
            np.ones(len(train), bool),
            targets,
            name="test",
            log=test,
            empty_now=latest,
        )
        wanted = self._wanted(train, test)
        held = None if self.validation == "none" else self._held(train, wanted)
        return assembled(
            self,
            train,
            train if held is None else replace(train.where(~held), impressions=None),
            None if held is None else _validation(train, held, wanted, latest),
            test_part,
            refit=train if self.refit and held is not None else None,
            counts={
                "test_events_of_other_kinds": int((~targets).sum()),
                "repeated_test_events": int(targets.sum()) - len(test_part.holdout.targets.values),
                "test_queries_without_history": int((test_part.holdout.queries.history.lengths == 0).sum()),
                "train_events_withheld_beside_targets": 0 if held is None else int((held & ~wanted).sum()),
            },
            sentences=self._sentences(held is not None),
            filter_seen=True,
        )

    def _wanted(self, log: Dataset, other: Dataset) -> NDArray[np.bool_]:
        """(events of log,) which may be targets; all, where only the other log has kinds."""
        names = None if log.kind is None and other.kind is not None else self.target_kinds
        wanted = of_kinds(log, names)
        return np.ones(len(log), bool) if wanted is None else wanted

    def _held(self, train: Dataset, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(events of train,) which are withheld for validation."""
        if self.validation == "last":
            train.require(Needs.ORDER, "Validation by the last event")
            row, there = from_end(train, wanted, 1)
            begin, end = train.offsets[:-1], train.offsets[1:]
            return between(np.where(there & (row > begin), row, end), end, len(train))
        if self.validation == "last_item":
            return self._last_items(train, wanted)
        lengths = np.bincount(train.user[wanted], minlength=len(train.users))
        most = np.diff(train.offsets) - 1
        quota = np.minimum(np.floor(self.fraction * lengths + 0.5), most).astype(np.int64)
        drawn = Run(seed=self.seed).rng("split", "validation events").random(len(train), np.float32)
        drawn[~wanted] = 1  # behind all that may be drawn
        order = np.lexsort((drawn, train.user))
        held = np.empty(len(train), bool)
        held[order] = np.arange(len(train)) - train.offsets[train.user] < quota[train.user]
        return held

    def _last_items(self, train: Dataset, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(events of train,) those of each user on the item of the last wanted event; nobody loses everything."""
        train.require(Needs.ORDER, "Validation by the last item")
        row, there = from_end(train, wanted, 1)
        item = np.where(there, train.item[row.clip(0)], PAD)
        held: NDArray[np.bool_] = train.item == item[train.user]
        left = np.bincount(train.user[~held], minlength=len(train.users)) > 0
        held &= left[train.user]
        return held

    def _sentences(self, validated: bool) -> list[str]:
        sentences = ["Train and test are as published; each test user is asked once, all their test items are targets."]
        if validated and self.validation == "random":
            sentences.append(
                f"Validation: {self.fraction:.0%} of each user's train events, drawn with seed {self.seed}."
            )
        elif validated and self.validation == "last_item":
            sentences.append(
                "Validation: the item of each user's last train event that may be a target, withheld with all that the "
                "user did with it; users with nothing else are not asked."
            )
        elif validated:
            sentences.append("Validation: the last train event of each user who has another before it.")
        if validated and self.refit:
            sentences.append("The final model learns from the whole train part.")
        return sentences


def _validation(train: Dataset, held: NDArray[np.bool_], wanted: NDArray[np.bool_], latest: int) -> Part:
    asked = np.bincount(train.user[held & wanted], minlength=len(train.users)) > 0
    return part_of_users(train, asked, ~held, held & wanted, name="validation", empty_now=latest)


def _same(first: Vocab, second: Vocab) -> bool:
    if first is second:
        return True
    if isinstance(first.ids, Strings) and isinstance(second.ids, Strings):
        return np.array_equal(first.ids.offsets, second.ids.offsets) and np.array_equal(first.ids.data, second.ids.data)
    if isinstance(first.ids, Strings) or isinstance(second.ids, Strings):
        return False
    return np.array_equal(first.ids, second.ids)
