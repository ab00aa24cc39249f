"""What a fitted model is asked from outside: known users, newer events, test events, lists of items."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset, EventKinds, Needs
from foretaste.errors import ConfigError, DataError, UnknownName
from foretaste.histories import Asked, Histories, extended, known_or_strangers, stored_already
from foretaste.json_queries import labels_of, queries_of_json, refuse_surrogates
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Model
from foretaste.run import Log, silent
from foretaste.storage import read_ids

if TYPE_CHECKING:
    from foretaste.events import Columns

__all__ = [
    "Protocol",
    "asked_by_users",
    "holdout_of_events",
    "queries_of_json",
    "read_items",
    "read_newer_events",
    "with_newer_events",
]

Protocol = Literal["later", "last"]


def asked_by_users(model: Model, users: Sequence[Any]) -> Asked:
    """Queries of users, who in the answer are called what they are called in the log.

    Raises:
        ConfigError: The model holds no histories.
        DataError: An identifier is no text.
    """
    for user in users:
        refuse_surrogates(user, f"user {user!r}")
    return replace(model.ask(users), labels=labels_of(model, users))


def read_newer_events(
    model: Model, source: str, columns: "Columns", ordered: bool = False, log: Log = silent
) -> Dataset:
    """A log as ``read_events`` reads it, with the event kinds of the model; an event without one is of the weakest.

    Args:
        log: Gets what was read, what of it the model does not know, and what of it is in the stored histories already.

    Raises:
        UnknownName: The log has an event kind that the model does not know.
        DataError: The log cannot be read.
    """
    from foretaste.events import read_events

    data = read_events(source, columns=columns, ordered=ordered, log=log)
    names = model.about.kinds.names
    if names == EventKinds().names:
        if data.kind is not None and len(data.kinds) > 1:
            log(f"the model knows no event kinds; those of {data.name} ({', '.join(data.kinds.names)}) all count alike")
        kind = None
    elif data.kind is None:
        log(f"{data.name} has no event kinds; its events count as {names[0]!r}")
        kind = np.zeros(len(data), np.int8)
    else:
        for name in data.kinds.names:
            if name not in names:
                raise UnknownName(f"event kind in {source}", name, names)
        kind = np.array([names.index(name) for name in data.kinds.names], np.int8)[data.kind]
    unknown = data.items.lists()
    unknown = [item for item, index in zip(unknown, model.items.index(unknown), strict=True) if index == PAD]
    if unknown:
        log(f"{len(unknown):,} items of {data.name} are unknown to the model, such as {unknown[0]!r}")
    data = replace(data, kind=kind, kinds=model.about.kinds)
    if model.histories is not None:
        _compare_with_stored(model, model.histories, data, log)
    return data


def with_newer_events(model: Model, newer: Dataset, log: Log = silent) -> Model:
    """The model with the events of ``newer`` appended to the stored histories; users may be new.

    Events are put in order of time; one without a time comes after those that are stored. An event that is stored
    already (the same user, item, kind and time) is not appended again. Items that the model does not know are left
    out of the histories.

    Args:
        log: Gets how many events were stored already, and which side has no times.

    Raises:
        DataError: The users are text where the stored ones are integers.
    """
    joined = model.with_histories(newer, log)
    if joined.histories is None or model.histories is None:
        return joined.after_newer_events()
    stored, fresh = model.histories.queries, joined.histories.queries
    try:
        users = model.histories.users.extended(newer.users.lists())
    except DataError as error:
        raise DataError(
            f"{newer.name} has users that are text, such as {newer.users[0]!r}; those of the bundle are integers."
        ) from error
    rows = users.index(newer.users.lists())
    again = stored_already(stored, fresh, rows)
    _say_what_is_stored(stored, fresh, again, newer.name, log)
    joined.histories = Histories(users, extended(stored, fresh, again, rows, len(users)))
    return joined.after_newer_events()


def holdout_of_events(model: Model, events: Dataset, protocol: Protocol) -> Holdout:
    """What a bundle is judged by, from a log of test events.

    Args:
        protocol: "later": the stored histories are the past, and all items of a user's test events are targets.
            "last": the test log stands for itself; each user's last event is the target, those before it the history.

    Raises:
        MissingData: "last" needs an order.
        DataError: No test event is left.
    """
    index = model.items.index(events.items.lists())[events.item] if len(events) else np.empty(0, np.int32)
    if protocol == "last":
        events.require(Needs.ORDER, "--protocol last")
        last = np.zeros(len(events), bool)
        last[events.offsets[1:][np.diff(events.offsets) > 1] - 1] = True
        past = model.with_histories(events.where(~last), silent).histories
    else:
        last = np.ones(len(events), bool)
        past = model.histories
    if past is None:
        raise ConfigError("This bundle holds no histories. Train it with them, or use --protocol last.")
    asked = np.unique(events.user[last])
    if not len(asked):
        raise DataError(f"{events.name} has no user with two events, so --protocol last asks nothing; use later.")
    row = past.users.index(events.users.lookup(asked))
    place = np.searchsorted(asked, events.user[last])
    target, known = index[last], index[last] != PAD
    pairs = np.unique(np.stack([place[known], target[known]]), axis=1)
    outside = np.unique(np.stack([place[~known], events.item[last][~known]]), axis=1)[0]
    return Holdout(
        known_or_strangers(past.queries, row),
        Ragged.from_rows(pairs[0], pairs[1].astype(np.int32), len(asked)),
        unknown=np.bincount(outside, minlength=len(asked)).astype(np.int32),
        name=events.name,
    )


def read_items(model: Model, path: Path) -> list[str]:
    """The items in a file, one per line, all of which the model must know.

    Raises:
        DataError: The file cannot be read.
        UnknownName: An item is not in the catalogue.
    """
    items = read_ids(path)
    unknown = model.items.index(items) == PAD
    if unknown.any():
        raise UnknownName(f"item in {path}", items[int(np.argmax(unknown))], model.items.lists())
    return items


def _compare_with_stored(model: Model, histories: Histories, newer: Dataset, log: Log) -> None:
    users = newer.users.lists()
    index = histories.users.index(users)
    strangers = len(histories.users) + np.arange(len(users))
    fresh = model.with_histories(newer, silent).histories
    if fresh is not None:
        again = stored_already(histories.queries, fresh.queries, np.where(index == PAD, strangers, index))
        _say_what_is_stored(histories.queries, fresh.queries, again, newer.name, log)


def _say_what_is_stored(stored: Queries, fresh: Queries, again: NDArray[np.bool_], name: str, log: Log) -> None:
    """Say what of newer events is stored already, and what cannot be known of it."""
    if again.any():
        log(
            f"{int(again.sum()):,} of the {len(again):,} events of {name} are in the stored histories already; "
            "joined with them, they count once",
            {"stored already": int(again.sum())},
        )
    if stored.times is None or fresh.times is None:
        side = {
            (True, True): f"neither {name} nor the stored histories have times",
            (True, False): f"the stored histories have no times where {name} has",
            (False, True): f"{name} has no times where the stored histories have",
        }[stored.times is None, fresh.times is None]
        log(f"{side}: joined with them, its events come last, and which of them are stored already cannot be seen")
    if stored.session_start is not None and fresh.session_start is None:
        log(f"{name} has no sessions; joined with it, the stored histories do not say where the last session begins")
