"""Queries from outside: JSON lines, newer events, test events; one contract of Python, command line and HTTP."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset, EventKinds, Needs
from foretaste.errors import ConfigError, DataError, UnknownName
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Asked, Histories, Model
from foretaste.run import Log, silent
from foretaste.storage import check_exists
from foretaste.vocab import Vocab

if TYPE_CHECKING:
    from foretaste.events import Columns

__all__ = [
    "Protocol",
    "asked_by_users",
    "holdout_of_events",
    "queries_of_json",
    "read_ids",
    "read_items",
    "read_newer_events",
    "with_newer_events",
]

Protocol = Literal["later", "last"]
KEYS = {"user", "history", "features", "context", "now"}
EVENT_KEYS = {"item", "kind", "time", "value"}


@dataclass
class _Line:
    """One query as it was written."""

    where: str
    user: Any
    items: list[Any]
    kinds: list[str | None]
    times: list[int | None]
    values: list[float | None]
    now: int | None
    stored: bool  # answer from the stored history of the user


def queries_of_json(model: Model, lines: Iterable[str], where: str = "queries") -> Asked:
    """Queries from JSON lines: {"user", "history": [{"item", "kind", "time", "value"}], "now", "features", "context"}.

    An event may be just its item. Times are ISO text (UTC where no zone is given) or milliseconds since 1970. Where a
    history is given, the answer is made from it alone; where only a user is, from the stored history of that user.
    Answers are labelled by user; where no query names one, by the place of the query, from 0.

    Raises:
        DataError: A line is no JSON object, or holds unknown keys or wrong types; the text names the line.
    """
    parsed = [_parsed(text, f"{where}, line {number}") for number, text in enumerate(lines, 1) if text.strip()]
    if not parsed:
        raise DataError(f"{where} holds no query; write one JSON object per line.")
    unknown_users = [] if model.histories is None else _unknown_users(model.histories, parsed)
    _fill_stored(model, parsed)
    queries, unknown = Queries.of_histories(model.items, [each.items for each in parsed])
    known = _known_events(model, parsed)
    queries = replace(
        queries,
        kinds=_kinds(model, parsed, known),
        times=_aligned([each.times for each in parsed], known, np.int64),
        values=_aligned([each.values for each in parsed], known, np.float32),
        now=_now(parsed),
        user=_users(model, parsed),
    )
    named = any(each.user is not None for each in parsed)
    labels = _labels(model, [each.user for each in parsed]) if named else range(len(parsed))
    return Asked(queries, labels, unknown_users, [item for row in unknown for item in row])


def asked_by_users(model: Model, users: Sequence[Any]) -> Asked:
    """Queries of users, who in the answer are called what they are called in the log.

    Raises:
        ConfigError: The model holds no histories.
        DataError: An identifier is no text.
    """
    for user in users:
        _refuse_surrogates(user, f"user {user!r}")
    return replace(model.ask(users), labels=_labels(model, users))


def read_newer_events(
    model: Model, source: str, columns: "Columns", ordered: bool = False, log: Log = silent
) -> Dataset:
    """A log as ``read_events`` reads it, with the event kinds of the model; an event without one is of the weakest.

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
    return replace(data, kind=kind, kinds=model.about.kinds)


def with_newer_events(model: Model, newer: Dataset) -> Model:
    """The model with the events of ``newer`` appended to the stored histories; users may be new.

    Items that the model does not know are left out of the histories. Where both have times, events are put in order.
    """
    fresh = model.with_histories(newer).histories
    if fresh is None or model.histories is None:
        return model.with_histories(newer)
    stored = model.histories
    try:
        users = stored.users.extended(newer.users.lists())
    except DataError as error:
        raise DataError(
            f"{newer.name} has users that are text, such as {newer.users[0]!r}; those of the bundle are integers."
        ) from error
    rows = users.index(newer.users.lists())
    merged = _concatenated(stored.queries, fresh.queries, rows, len(users))
    result = model.with_histories(newer)
    result.histories = Histories(users, merged)
    return result


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
        past = model.with_histories(events.where(~last)).histories
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
        _rows_or_nobody(past.queries, row),
        Ragged.from_rows(pairs[0], pairs[1].astype(np.int32), len(asked)),
        unknown=np.bincount(outside, minlength=len(asked)).astype(np.int32),
        name=events.name,
    )


def read_ids(path: Path) -> list[str]:
    """The identifiers in a file, one per line; empty lines are passed over.

    Raises:
        DataError: The file is not there, is no text, or holds no ids.
    """
    check_exists(path)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            ids = [line.strip() for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Write one id per line.") from error
    if not ids:
        raise DataError(f"{path} holds no ids; write one per line.")
    return ids


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


def _parsed(text: str, where: str) -> _Line:
    try:
        content = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # ValueError also where a number has thousands of digits
        raise DataError(f"{where} is not JSON: {error}. Write one JSON object per line.") from error
    if not isinstance(content, dict):
        raise DataError(f'{where} is not a JSON object such as {{"history": [{{"item": "sku-9"}}]}}.')
    _refuse_unknown(content, KEYS, where)
    if content.get("user") is None and content.get("history") is None:
        raise DataError(f"{where} has neither a user nor a history.")
    if content.get("user") is not None and not _is_id(content["user"]):
        raise DataError(f"{where}: user must be text or a whole number; it is {content['user']!r:.80}.")
    if not isinstance(content.get("history") or [], list):
        raise DataError(f"{where}: history must be a list, oldest first; it is {content['history']!r:.80}.")
    _refuse_surrogates(json.dumps(content, ensure_ascii=False), where)
    for name in ("features", "context"):
        if not isinstance(content.get(name) or {}, dict):
            raise DataError(f"{where}: {name} must be an object of names and values; it is {content[name]!r:.80}.")
    events = [_event(event, where) for event in content.get("history") or []]
    return _Line(
        where,
        content.get("user"),
        [event["item"] for event in events],
        [event.get("kind") for event in events],
        [_moment(event.get("time"), where) for event in events],
        [event.get("value") for event in events],
        _moment(content.get("now"), where),
        stored=content.get("history") is None,
    )


def _event(event: Any, where: str) -> Mapping[str, Any]:
    if _is_id(event):
        return {"item": event}
    if not isinstance(event, dict) or not _is_id(event.get("item")):
        raise DataError(
            f'{where}: an event must be an item or have one, as {{"item": "sku-9"}}; this is {event!r:.80}.'
        )
    _refuse_unknown(event, EVENT_KEYS, where)
    value = event.get("value")
    if value is not None and not _is_number(value):
        raise DataError(f"{where}: value must be a number; it is {value!r:.80}.")
    if event.get("kind") is not None and not isinstance(event["kind"], str):
        raise DataError(f"{where}: kind must be text; it is {event['kind']!r:.80}.")
    return event


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**62  # false for NaN


def _refuse_surrogates(text: Any, where: str) -> None:
    """Half a surrogate pair, or a byte that was no UTF-8, is in no identifier that could be answered with."""
    try:
        str(text).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} is not UTF-8 text: {error.reason}.") from error


def _refuse_unknown(content: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in content:
        if key not in known:
            raise DataError(f"{where}: {UnknownName('key', key, sorted(known))}")


def _moment(value: Any, where: str) -> int | None:
    """Milliseconds since 1970 from a number or ISO text."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000 + 0.5)
        except (ValueError, OverflowError):
            pass
    elif _is_number(value):
        return int(value)
    raise DataError(f"{where}: {value!r:.80} is no moment; write ISO text or milliseconds since 1970.")


def _labels(model: Model, users: Sequence[Any]) -> list[Any]:
    """What the users are called in the log; those that it does not know as they were asked for, None as None."""
    if model.histories is None:
        return list(users)
    known = model.histories.users
    found = known.index(["" if user is None else user for user in users])
    return [
        _as_the_log_has_it(user, known) if index == PAD else known[index]
        for user, index in zip(users, found.tolist(), strict=True)
    ]


def _as_the_log_has_it(user: Any, users: Vocab) -> Any:
    """A stranger's id: a number where those of the log are numbers and it can be one, so that all stay numbers."""
    if users.is_text or isinstance(user, int):
        return user
    try:
        number = int(str(user))
    except ValueError:  # also where there are thousands of digits
        return user
    return number if str(number) == str(user) else user


def _unknown_users(histories: Histories, parsed: Sequence[_Line]) -> list[Any]:
    asked = [each.user for each in parsed if each.stored]
    return [user for user, row in zip(asked, histories.users.index(asked), strict=True) if row == PAD]


def _fill_stored(model: Model, parsed: Sequence[_Line]) -> None:
    """Put the stored histories into the lines that name only a user."""
    lines = [each for each in parsed if each.stored]
    if not lines:
        return
    queries = model.ask([each.user for each in lines]).queries
    names = model.about.kinds.names
    for row, line in enumerate(lines):
        span = slice(queries.history.offsets[row], queries.history.offsets[row + 1])
        line.items = model.items.lookup(queries.history[row])
        count = len(line.items)
        line.kinds = [None] * count if queries.kinds is None else [names[kind] for kind in queries.kinds[span]]
        line.times = [None] * count if queries.times is None else queries.times[span].tolist()
        line.values = [None] * count if queries.values is None else queries.values[span].tolist()


def _known_events(model: Model, parsed: Sequence[_Line]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = model.items.index([item for each in parsed for item in each.items]) != PAD
    return known


def _kinds(model: Model, parsed: Sequence[_Line], known: NDArray[np.bool_]) -> NDArray[np.int8] | None:
    """Kinds as the model numbers them; an event without one counts as the weakest kind."""
    given = [kind for each in parsed for kind in each.kinds]
    if all(kind is None for kind in given):
        return None
    names = model.about.kinds.names
    for each in parsed:
        for kind in each.kinds:
            if kind is not None and kind not in names:
                raise DataError(f"{each.where}: {UnknownName('event kind', kind, names)}")
    return np.array([0 if kind is None else names.index(kind) for kind in given], np.int8)[known]


def _aligned(rows: Sequence[Sequence[Any]], known: NDArray[np.bool_], dtype: type) -> Any:
    """One array beside the histories; None unless every event says it (values may lack, as NaN)."""
    flat = [each for row in rows for each in row]
    if not flat or all(each is None for each in flat) or (dtype is np.int64 and any(each is None for each in flat)):
        return None
    return np.array([np.nan if each is None else each for each in flat], dtype)[known]


def _now(parsed: Sequence[_Line]) -> NDArray[np.int64] | None:
    """The moment of asking: as given, else that of the last event."""
    moments = [each.now if each.now is not None else (each.times[-1] if each.times else None) for each in parsed]
    return None if any(each is None for each in moments) else np.array(moments, np.int64)


def _users(model: Model, parsed: Sequence[_Line]) -> NDArray[np.int32] | None:
    if model.histories is None:
        return None
    users = model.histories.users
    found = users.index(["" if each.user is None else each.user for each in parsed])
    return np.where([each.user is None for each in parsed], PAD, found).astype(np.int32)


def _concatenated(stored: Queries, fresh: Queries, rows: NDArray[np.int32], users: int) -> Queries:
    """The stored histories followed by the fresh ones; row r of ``fresh`` belongs to user ``rows[r]``."""
    row = np.concatenate([stored.history.row_of_value(), rows[fresh.history.row_of_value()]])
    items = np.concatenate([stored.history.values, fresh.history.values])
    times, kinds, values = (
        None if old is None or new is None else np.concatenate([old, new])
        for old, new in ((stored.times, fresh.times), (stored.kinds, fresh.kinds), (stored.values, fresh.values))
    )
    order = np.argsort(row, kind="stable") if times is None else np.lexsort((times, row))
    history = Ragged.from_lengths(items[order], np.bincount(row, minlength=users))
    features = stored.user_features
    ends = history.offsets[1:] - 1
    return Queries(
        history,
        times=None if times is None else times[order],
        kinds=None if kinds is None else kinds[order],
        values=None if values is None else values[order],
        user=np.arange(users, dtype=np.int32),
        user_features=None
        if features is None
        else features.take(np.where(np.arange(users) < len(features), np.arange(users), PAD)),
        now=None if times is None else np.where(history.lengths > 0, times[order][ends.clip(0)], times.max(initial=0)),
    )


def _rows_or_nobody(queries: Queries, rows: NDArray[np.int32]) -> Queries:
    """The given rows; PAD gives somebody without a history."""
    found = queries.take(np.where(rows == PAD, 0, rows))
    keep = np.repeat(rows != PAD, found.history.lengths)
    return replace(found.where(keep), user=rows)
