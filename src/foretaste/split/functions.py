"""The splits as functions: ``ft.split.leave_one_out(data)``. Every setting is told of in the class of the same name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError

from foretaste.dataset import Dataset
from foretaste.errors import ConfigError
from foretaste.split.at_random import RandomSplit
from foretaste.split.by_item import ColdItems
from foretaste.split.by_moment import ByTime
from foretaste.split.files import Given
from foretaste.split.last import LastN, LeaveOneOut
from foretaste.split.parts import Split, SplitRule
from foretaste.split.session_end import LastSessions

__all__ = ["by_time", "cold_items", "given", "last_n", "last_sessions", "leave_one_out", "random"]

Rule = TypeVar("Rule", bound=SplitRule)


def leave_one_out(
    data: Dataset,
    *,
    validation_users: int | Sequence[Any] | Path | None = None,
    min_history: int = 1,
    target_kinds: Sequence[str] | None = None,
    tell_time: bool = False,
    refit: bool = False,
    seed: int = 0,
) -> Split:
    """The last event of each user as test, the second last as validation; see ``LeaveOneOut``.

    Args:
        data: A log whose order is meant.
        validation_users: Who has a validation event: None = all, a number, outside ids, or a file of them.
        min_history: Events that must stand before what is held out.
        target_kinds: Only events of these kinds are targets; None = all.
        tell_time: Tell the model when the target happens.
        refit: Whether the final model learns from train and validation together.
        seed: Of the draw of the validation users.
    """
    settings = {
        "validation_users": _plain(validation_users),
        "min_history": min_history,
        "target_kinds": target_kinds,
        "tell_time": tell_time,
        "refit": refit,
        "seed": seed,
    }
    return _made(LeaveOneOut, settings).split(data)


def last_n(
    data: Dataset,
    n: int = 5,
    *,
    validation_users: int | Sequence[Any] | Path | None = None,
    min_history: int = 1,
    target_kinds: Sequence[str] | None = None,
    tell_time: bool = False,
    refit: bool = False,
    seed: int = 0,
) -> Split:
    """The last n events of each user as test, the n before as validation; see ``LastN``, and ``leave_one_out``."""
    settings = {
        "n": n,
        "validation_users": _plain(validation_users),
        "min_history": min_history,
        "target_kinds": target_kinds,
        "tell_time": tell_time,
        "refit": refit,
        "seed": seed,
    }
    return _made(LastN, settings).split(data)


def by_time(
    data: Dataset,
    *,
    ratios: Sequence[float] | None = None,
    dates: Sequence[str] | None = None,
    spans: Sequence[str] | None = None,
    queries: Literal["users", "events"] = "users",
    min_history: int = 1,
    target_kinds: Sequence[str] | None = None,
    refit: bool = False,
) -> Split:
    """The whole log cut at one moment or two; see ``ByTime``.

    Args:
        data: A log with times.
        ratios: Shares of the events in train, validation and test; by default 0.8, 0.1, 0.1.
        dates: ISO times at which validation and test begin, or test alone.
        spans: How long validation and test last, such as ("7d", "7d"), or test alone.
        queries: Ask each user once, at the cut, or before each event.
        min_history: Events that must stand before a query.
        target_kinds: Only events of these kinds are targets; None = all.
        refit: Whether the final model learns from train and validation together.
    """
    settings = {
        "ratios": ratios,
        "dates": dates,
        "spans": spans,
        "queries": queries,
        "min_history": min_history,
        "target_kinds": target_kinds,
        "refit": refit,
    }
    return _made(ByTime, settings).split(data)


def last_sessions(
    data: Dataset,
    *,
    days: float = 7,
    end: str | None = None,
    gap_minutes: float = 60,
    respect_sessions: bool = True,
    kinds: Sequence[str] | None = None,
    drop_repeats: bool = True,
    min_length: int = 2,
    min_support: int = 5,
    ties: Literal["item", "log"] = "item",
    validation: bool = True,
    refit: bool = True,
) -> Split:
    """The sessions of the last days as test, by GRU4Rec's protocol; see ``LastSessions``.

    Args:
        data: A log with times.
        days: How long test lasts, and validation before it.
        end: ISO time from which the days count back; None = the last event that is left.
        gap_minutes: A longer silence ends a session.
        respect_sessions: Keep the sessions of the log where it has them.
        kinds: Which events count; None = "view" where there is such a kind, else all.
        drop_repeats: Of immediate repeats keep the first.
        min_length: Events that a session must have.
        min_support: Events that an item must have.
        ties: How events of the same time are ordered.
        validation: Whether to cut a validation part too.
        refit: Whether the final model learns from train and validation together.
    """
    settings = {
        "days": days,
        "end": end,
        "gap_minutes": gap_minutes,
        "respect_sessions": respect_sessions,
        "kinds": kinds,
        "drop_repeats": drop_repeats,
        "min_length": min_length,
        "min_support": min_support,
        "ties": ties,
        "validation": validation,
        "refit": refit,
    }
    return _made(LastSessions, settings).split(data)


def given(
    train: Dataset,
    test: Dataset,
    *,
    validation: Literal["random", "last", "last_item", "none"] = "random",
    fraction: float = 0.1,
    refit: bool = True,
    target_kinds: Sequence[str] | None = None,
    seed: int = 0,
) -> Split:
    """Ready-made train and test, with validation cut from train; see ``Given``.

    Args:
        train: Everything that may be learnt from.
        test: What came of it, over the same vocabularies.
        validation: Take from each user's train events some at random, the last, or none.
        fraction: How much "random" takes of each user's events.
        refit: Whether the final model learns from all of train.
        target_kinds: Only events of these kinds are targets; None = all.
        seed: Of the draw of the validation events.
    """
    settings = {
        "validation": validation,
        "fraction": fraction,
        "refit": refit,
        "target_kinds": target_kinds,
        "seed": seed,
    }
    return _made(Given, settings).split(train, test)


def cold_items(
    data: Dataset,
    share: float = 0.1,
    *,
    validation_share: float = 0.1,
    offered: Literal["all", "cold"] = "all",
    refit: bool = False,
    seed: int = 0,
) -> Split:
    """A share of the items has no event in train and is asked for; see ``ColdItems``.

    Args:
        data: A log with a table of items.
        share: Of the items with events, those withheld for the test.
        validation_share: ... and for validation.
        offered: What lists are made of: everything, or only what is withheld.
        refit: Whether the final model learns from the events of the validation items too.
        seed: Of the draw of the items.
    """
    settings = {
        "share": share,
        "validation_share": validation_share,
        "offered": offered,
        "refit": refit,
        "seed": seed,
    }
    return _made(ColdItems, settings).split(data)


def random(data: Dataset, *, ratios: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> Split:
    """Events thrown into the parts by chance. It leaks; see ``RandomSplit``."""
    return _made(RandomSplit, {"ratios": ratios, "seed": seed}).split(data)


def _made(rule: type[Rule], settings: Mapping[str, Any]) -> Rule:
    """The rule with these settings; a wrong one is told in a sentence."""
    try:
        return rule.model_validate(settings)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, each['loc'])) or 'settings'} = {each['input']!r}: {each['msg']}"
            if each["loc"]
            else each["msg"].removeprefix("Value error, ")
            for each in error.errors()
        ]
        raise ConfigError(f"Wrong settings for the split {rule.__name__}: {'; '.join(wrong)}.") from error


def _plain(validation_users: int | Sequence[Any] | Path | None) -> Any:
    if validation_users is None or isinstance(validation_users, (int, str, Path)):
        return validation_users
    return [each.item() if isinstance(each, np.generic) else each for each in validation_users]
