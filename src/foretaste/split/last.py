"""The last events of each user are held out: leave one out, and leave the last n out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError
from foretaste.ragged import PAD
from foretaste.run import Run
from foretaste.split.parts import (
    Split,
    SplitRule,
    assembled,
    between,
    from_end,
    impressions_before,
    of_kinds,
    part_of_users,
)
from foretaste.storage import read_ids

__all__ = ["LastN", "LeaveOneOut"]

ValidationUsers = Annotated[int, Field(ge=0)] | tuple[int | str, ...] | Path


class LastN(SplitRule):
    """The last ``n`` events of each user are the test targets, the ``n`` before them those of validation.

    The order is that of the data: by time, events of the same time as in the log. A user with too few events stays
    in train whole. Train ends, for each user, before the first event that is withheld from it.
    """

    kind: Literal["last_n"] = "last_n"
    n: PositiveInt = 5
    validation_users: ValidationUsers | None = None
    """Who has a validation part: None = all, a number = as many drawn by ``seed``, or the ids, or a file with an id
    on each line. For all others train goes on to the test event."""
    min_history: PositiveInt = 1
    """Events that must stand before what is held out."""
    target_kinds: tuple[str, ...] | None = None
    """Only events of these kinds are targets. What a user does after the first test target is then in no part."""
    tell_time: bool = False
    """Tell the model when the target happens: an easier task, and another one."""
    refit: bool = False
    """Whether the final model learns from train and validation together once its epochs are chosen, as one that goes
    live does; those of published tables do not."""
    seed: int = 0

    def split(self, data: Dataset) -> Split:
        """Split a log whose order is meant.

        Raises:
            MissingData: The log has no order, or no kinds where some are named.
            DataError: Nobody has enough events.
            ConfigError: More validation users are asked for than there are, or unknown ones.
        """
        return _split(self, self.n, data)


class LeaveOneOut(SplitRule):
    """The last event of each user is the test target, the second last that of validation.

    The history of a test query is everything before the last event, the validation event included. The order is that
    of the data: by time, events of the same time as in the log. A user with too few events stays in train whole.
    Train ends, for each user, before the first event that is withheld from it.
    """

    kind: Literal["leave_one_out"] = "leave_one_out"
    validation_users: ValidationUsers | None = None
    """Who has a validation event: None = all, a number = as many drawn by ``seed``, or the ids, or a file with an id
    on each line. For all others train goes on to the test event."""
    min_history: PositiveInt = 1
    """Events that must stand before what is held out."""
    target_kinds: tuple[str, ...] | None = None
    """Only events of these kinds are targets: "next purchase". What a user does after it is then in no part."""
    tell_time: bool = False
    """Tell the model when the target happens: an easier task, and another one."""
    refit: bool = False
    """Whether the final model learns from train and validation together once its epochs are chosen, as one that goes
    live does; those of published tables do not."""
    seed: int = 0

    def split(self, data: Dataset) -> Split:
        """Split a log whose order is meant.

        Raises:
            MissingData: The log has no order, or no kinds where some are named.
            DataError: Nobody has enough events.
            ConfigError: More validation users are asked for than there are, or unknown ones.
        """
        return _split(self, 1, data)


def _split(rule: LastN | LeaveOneOut, n: int, data: Dataset) -> Split:
    data.require(Needs.ORDER, f"The split {rule.kind}")
    wanted = of_kinds(data, rule.target_kinds)
    begin, end, rows = data.offsets[:-1], data.offsets[1:], len(data)
    test_row, tested = from_end(data, wanted, n)
    tested &= test_row - begin >= rule.min_history
    validation_row, validated = from_end(data, wanted, 2 * n)
    validated &= tested & (validation_row - begin >= rule.min_history)
    chosen = _chosen(rule, data, validated)

    test_cut = np.where(tested, test_row, end)
    cut = np.where(chosen, validation_row, test_cut)
    held = between(test_cut, end, rows)
    held_for_validation = between(cut, test_cut, rows)
    targets = held if wanted is None else held & wanted
    validation_targets = held_for_validation if wanted is None else held_for_validation & wanted
    train = _learned_from(data, cut, tested)
    refit = _learned_from(data, test_cut, tested) if rule.refit and chosen.any() else None
    told = rule.tell_time
    if told:
        data.require(Needs.TIMES, "Telling the time of the target")
    validation = part_of_users(
        data, chosen, between(begin, cut, rows), validation_targets, name="validation", tell_time=told
    )
    test = part_of_users(data, tested, between(begin, test_cut, rows), targets, name="test", tell_time=told)
    return assembled(
        rule,
        data,
        train,
        validation,
        test,
        refit=refit,
        counts={
            "users_too_short_to_test": int(((end > begin) & ~tested).sum()),
            "users_too_short_to_validate": int((tested & ~validated).sum()),
            "events_only_in_test_histories": int(held_for_validation.sum() - validation_targets.sum()),
            "events_in_no_part": int(held.sum() - targets.sum()),
        },
        sentences=_sentences(rule, n, refit is not None),
        filter_seen=True,
    )


def _chosen(rule: LastN | LeaveOneOut, data: Dataset, able: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(users,) who has a validation part."""
    asked = rule.validation_users
    if asked is None:
        return able
    if isinstance(asked, int):
        candidates = np.flatnonzero(able)
        if asked > len(candidates):
            raise ConfigError(f"validation_users is {asked}, but only {len(candidates)} users have enough events.")
        drawn = Run(seed=rule.seed).rng("split", "validation users").choice(candidates, asked, replace=False)
        return np.isin(np.arange(len(able)), drawn)
    ids = read_ids(asked) if isinstance(asked, Path) else asked
    users = data.users.index(ids)
    unknown = [each for each, user in zip(ids, users, strict=True) if user == PAD]
    if unknown:
        raise ConfigError(
            f"{len(unknown)} of {len(ids)} validation_users are not in {data.name}: {', '.join(map(str, unknown[:5]))}."
        )
    named = np.zeros(len(able), bool)
    named[users] = True
    return named & able


def _learned_from(data: Dataset, cut: NDArray[np.int64], tested: NDArray[np.bool_]) -> Dataset:
    """The events of each user before the row ``cut``, with what was shown by then."""
    known = between(data.offsets[:-1], cut, len(data))
    train = data.where(known)
    if data.impressions is None:
        return train
    always = np.iinfo(np.int64).max  # from whom nothing is withheld, nothing shown is
    until = None if data.time is None else np.where(tested, data.time[(cut - 1).clip(0)], always)
    return replace(train, impressions=impressions_before(data, until, ~known))


def _sentences(rule: LastN | LeaveOneOut, n: int, refit: bool) -> Sequence[str]:
    what = "event" if rule.target_kinds is None else f"event of kind {' or '.join(rule.target_kinds)}"
    last = f"last {what}" if n == 1 else f"last {n} {what.replace('event', 'events', 1)}"
    second = f"{what} before it" if n == 1 else f"{n} before them"
    asked: Any = rule.validation_users
    whose = "each user" if asked is None else f"{asked if isinstance(asked, int) else 'the named'} users"
    sentences = [
        f"Test: the {last} of each user; the history is everything before.",
        f"Validation: the {second}, of {whose}; train ends before what is held out.",
    ]
    if refit:
        sentences.append("The final model learns from train and validation together.")
    if rule.target_kinds is not None:
        sentences.append("What a user did after the first test target is in no part.")
    sentences.append(
        "The moment of asking is the time of the target (told to the model)."
        if rule.tell_time
        else "The moment of asking is the time of the last known event."
    )
    return sentences
