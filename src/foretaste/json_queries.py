"""Queries as JSON lines: one contract for Python, the command line and HTTP."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Table
from foretaste.dataset import EventKinds
from foretaste.errors import DataError, UnknownName
from foretaste.histories import Asked, concatenated, order_of_time
from foretaste.json_tables import Told, feature_table, is_number, moment, typed_table
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Model
from foretaste.vocab import Vocab

__all__ = ["labels_of", "queries_of_json", "refuse_surrogates"]

KEYS = {"user", "history", "features", "context", "now"}
EVENT_KEYS = {"item", "kind", "time", "value"}


@dataclass
class _Line:
    """One query as it was written."""

    number: int
    where: str
    user: Any
    events: Sequence[Mapping[str, Any]] | None  # None: answer from the stored history of the user
    times: list[int]  # of the events; NO_TIME where none is written
    features: Told
    context: Told
    now: int  # NO_TIME where none is written


def queries_of_json(model: Model, lines: Iterable[str], where: str = "queries") -> Asked:
    """Queries from JSON lines: {"user", "history": [{"item", "kind", "time", "value"}], "now", "features", "context"}.

    An event may be just its item. Times are ISO text (UTC where no zone is given) or milliseconds since 1970. Where a
    history is given, the answer is made from it alone, in order of time; where only a user is, from all that is
    stored of that user. What one query does not say is missing in it and takes nothing from the others: NO_TIME in
    ``times`` and ``now``, NaN in ``values``, and an event without a kind is of the weakest. ``now`` is, where it is
    not given, the time of the last event. Answers are labelled by user; where no query names one, by the place of the
    query, from 0.

    Raises:
        ConfigError: A query names only a user, and the model holds no histories.
        DataError: A line is no JSON object, or holds unknown keys or wrong types; the text names the line.
    """
    parsed = [_parsed(text, number, where) for number, text in enumerate(lines, 1) if text.strip()]
    if not parsed:
        raise DataError(f"{where} holds no query; write one JSON object per line.")
    stored = np.flatnonzero([each.events is None for each in parsed])
    given = np.flatnonzero([each.events is not None for each in parsed])
    parts: list[Queries] = []
    unknown_users: list[Any] = []
    unknown_items: list[Any] = []
    reordered: list[int] = []
    if len(stored):
        asked = model.ask([parsed[place].user for place in stored])
        parts.append(asked.queries)
        unknown_users += asked.unknown_users
    if len(given):
        queries, unknown_items, reordered = _given(model, [parsed[place] for place in given])
        parts.append(queries)
    queries = concatenated(parts).take(np.argsort(np.concatenate([stored, given])))
    users = _users(model, parsed)
    features, unknown_features = _features(model, parsed, users)
    now = np.array([each.now for each in parsed], np.int64)
    if queries.now is not None:
        now = np.where(now == NO_TIME, queries.now, now)
    queries = replace(
        queries,
        times=_if_any(queries.times),
        now=_if_any(now),
        user=users,
        user_features=features,
        context=typed_table([each.context for each in parsed], "context"),
    )
    named = any(each.user is not None for each in parsed)
    labels = labels_of(model, [each.user for each in parsed]) if named else range(len(parsed))
    return Asked(queries, labels, unknown_users, unknown_items, unknown_features, reordered)


def labels_of(model: Model, users: Sequence[Any]) -> list[Any]:
    """What the users are called in the log; those that it does not know as they were asked for, None as None."""
    if model.histories is None:
        return list(users)
    known = model.histories.users
    found = known.index(["" if user is None else user for user in users])
    return [
        _as_the_log_has_it(user, known) if user is None or index == PAD else known[index]
        for user, index in zip(users, found.tolist(), strict=True)
    ]


def refuse_surrogates(text: Any, where: str) -> None:
    """Half a surrogate pair, or a byte that was no UTF-8, is in no identifier that could be answered with.

    Raises:
        DataError: There is one.
    """
    try:
        str(text).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} is not UTF-8 text: {error.reason}.") from error


def _parsed(text: str, number: int, source: str) -> _Line:
    where = f"{source}, line {number}"
    try:
        content = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # ValueError also where a number has thousands of digits
        raise DataError(f"{where} is not JSON: {error}. Write one JSON object per line.") from error
    if not isinstance(content, dict):
        raise DataError(f'{where} is not a JSON object such as {{"history": [{{"item": "sku-9"}}]}}.')
    _refuse_unknown(content, KEYS, where)
    user, history = content.get("user"), content.get("history")
    if user is None and history is None:
        raise DataError(f"{where} has neither a user nor a history.")
    if user is not None and not _is_id(user):
        raise DataError(f"{where}: user must be text or a whole number; it is {user!r:.80}.")
    if history is not None and not isinstance(history, list):
        raise DataError(f"{where}: history must be a list, oldest first; it is {history!r:.80}.")
    refuse_surrogates(json.dumps(content, ensure_ascii=False), where)
    events = None if history is None else [_event(event, where) for event in history]
    return _Line(
        number,
        where,
        user,
        events,
        [_moment(event.get("time"), where) for event in events or ()],
        _told(content, "features", where),
        _told(content, "context", where),
        _moment(content.get("now"), where),
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
    if value is not None and not is_number(value):
        raise DataError(f"{where}: value must be a number; it is {value!r:.80}.")
    if event.get("kind") is not None and not isinstance(event["kind"], str):
        raise DataError(f"{where}: kind must be text; it is {event['kind']!r:.80}.")
    return event


def _told(content: Mapping[str, Any], key: str, where: str) -> Told:
    values = content.get(key)
    if values is not None and not isinstance(values, dict):
        raise DataError(f"{where}: {key} must be an object of names and values; it is {values!r:.80}.")
    return Told(where, {name: value for name, value in (values or {}).items() if value is not None})


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _moment(value: Any, where: str) -> int:
    found = moment(value, where)
    return NO_TIME if found is None else found


def _refuse_unknown(content: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in content:
        if key not in known:
            raise DataError(f"{where}: {UnknownName('key', key, sorted(known))}")


def _given(model: Model, lines: Sequence[_Line]) -> tuple[Queries, list[Any], list[int]]:
    """Queries from the histories that were written, the items not known, and the lines put in order of time."""
    events = [event for each in lines for event in each.events or ()]
    kinds = _kinds(model, lines)
    items = model.items.index([event["item"] for event in events])
    history = Ragged.from_lengths(items, np.array([len(each.times) for each in lines]))
    times = np.array([time for each in lines for time in each.times], np.int64)
    values = np.array([np.nan if event.get("value") is None else event["value"] for event in events], np.float32)
    order = order_of_time(history, times)
    moved = np.unique(history.row_of_value()[order != np.arange(len(order))])
    now = np.full(len(lines), NO_TIME)
    filled = history.lengths > 0
    now[filled] = times[order][history.offsets[1:][filled] - 1]
    sessions = model.histories is not None and model.histories.queries.session_start is not None
    queries = Queries(
        history.with_values(items[order]),
        times=times[order],
        kinds=None if kinds is None else kinds[order],
        values=None if np.isnan(values).all() else values[order],
        session_start=np.zeros(len(lines), np.int64) if sessions else None,
        now=now,
    ).where(items[order] != PAD)
    read = (items != PAD) & model.answerable()[items]
    unknown = [event["item"] for event, known in zip(events, read.tolist(), strict=True) if not known]
    return queries, unknown, [lines[row].number for row in moved.tolist()]


def _kinds(model: Model, lines: Sequence[_Line]) -> NDArray[np.int8] | None:
    """Kinds as the model numbers them; an event without one counts as the weakest. None: the model knows no kinds."""
    names = model.about.kinds.names
    number: dict[str | None, int] = {None: 0} | {name: index for index, name in enumerate(names)}
    kinds = []
    for each in lines:
        for event in each.events or ():
            kind = event.get("kind")
            if kind not in number:
                raise DataError(f"{each.where}: {UnknownName('event kind', kind, names)}")
            kinds.append(number[kind])
    return None if names == EventKinds().names else np.array(kinds, np.int8)


def _users(model: Model, parsed: Sequence[_Line]) -> NDArray[np.int32] | None:
    if model.histories is None:
        return None
    users = model.histories.users
    found = users.index(["" if each.user is None else each.user for each in parsed])
    return np.where([each.user is None for each in parsed], PAD, found).astype(np.int32)


def _features(
    model: Model, parsed: Sequence[_Line], users: NDArray[np.int32] | None
) -> tuple[Table | None, list[tuple[str, str]]]:
    """What is known of those who ask, and the names in it that the stored columns do not know."""
    told = [each.features for each in parsed]
    stored = None if model.histories is None else model.histories.queries.user_features
    if stored is None or users is None or not stored.columns:
        return typed_table(told, "features"), []
    return feature_table(told, stored, users)


def _if_any(moments: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """The moments, or None where none at all is known."""
    return None if moments is None or (moments == NO_TIME).all() else moments


def _as_the_log_has_it(user: Any, users: Vocab) -> Any:
    """A stranger's id: a number where those of the log are numbers and it can be one, so that all stay numbers."""
    if users.is_text or isinstance(user, int):
        return user
    try:
        number = int(str(user))
    except ValueError:  # also where there are thousands of digits
        return user
    return number if str(number) == str(user) else user
