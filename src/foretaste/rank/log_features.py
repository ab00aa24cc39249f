"""What the log tells of people, items and pairs of them, at the moment of asking and not later.

Of people it is read from the histories of queries, which end at that moment; of items from a part of the log that ends
before the queries do; so nothing comes from the future.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import NO_TIME, Categories, Category, Column, Number, Table, Time
from foretaste.dataset import Dataset, EventKinds
from foretaste.indicators import indicators
from foretaste.query import Queries
from foretaste.ragged import Ragged

__all__ = ["history_parts", "item_features", "item_statistics", "pair_features", "request_features"]

HOUR = 3_600_000.0
SESSION_GAP = 30 * 60_000  # a longer silence ends a session
DAY_PARTS = ("night", "morning", "afternoon", "evening")  # six hours each, UTC
SMOOTH = 1.0  # events that each rate begins with


def request_features(queries: Queries, kinds: EventKinds, items: Table) -> Table:
    """What is known of those who ask: one row per query, columns that begin with ``user`` or ``context``.

    Counts of events, items and kinds, rates from each kind to the next stronger one, time since the last event and
    since the first, sessions, their mean length and that of the running one, the level and spread of prices met, at
    which part of the day they come, and when they ask; then what is known of the person and of the moment. What needs
    times or kinds is left out where there are none.

    Args:
        kinds: Those that ``queries.kinds`` counts in.
        items: The catalogue; its first column of numbers with "price" in its name is the price.
    """
    history = queries.history
    columns: dict[str, Column] = {
        "user events": _counts(history.lengths),
        "user items": _counts(np.bincount(_first_of_pairs(history), minlength=len(queries))),
    }
    if queries.kinds is not None:
        columns |= _by_kind(history, queries.kinds, kinds)
    if queries.times is not None:
        columns |= _by_time(queries)
    if queries.session_start is not None:
        columns["user running session"] = _counts(history.lengths - queries.session_start)
    if (price := _price(items)) is not None:
        mean, spread = _mean_and_spread(history, np.log1p(np.maximum(price, 0)))
        columns |= {"user price level": Number(mean), "user price spread": Number(spread)}
    known = {} if queries.user_features is None else queries.user_features.columns
    context = {} if queries.context is None else queries.context.columns
    columns |= {f"user: {name}": column for name, column in known.items() if column.kind != "text"}
    columns |= {f"context: {name}": column for name, column in context.items() if column.kind != "text"}
    return Table(len(queries), columns)


def item_features(statistics: Table, catalog: Table) -> Table:
    """What is known of items, one row for each: ``item_statistics``, and the catalogue, texts left out."""
    known = {f"item: {name}": column for name, column in catalog.columns.items() if column.kind != "text"}
    return Table(len(statistics), {**known, **statistics.columns})


def item_statistics(seen: Dataset) -> Table:
    """What the log tells of items: a row for each, columns that begin with ``item``.

    How often each was met, by how many people, by each kind of event, and rates from each kind to the next stronger
    one. What changes from moment to moment is told by ``ItemTimes``.

    Args:
        seen: The part of the log that may be counted.
    """
    items = len(seen.items)
    met = np.bincount(seen.item, minlength=items)
    people = np.bincount(np.unique(seen.user.astype(np.int64) * items + seen.item) % items, minlength=items)
    columns: dict[str, Column] = {"item events": _counts(met), "item people": _counts(people)}
    if seen.kind is not None:
        of_kind = [np.bincount(seen.item[seen.kind == kind], minlength=items) for kind in range(len(seen.kinds))]
        columns |= {f"item {name}": _counts(count) for name, count in zip(seen.kinds.names, of_kind, strict=True)}
        columns |= _rates("item", seen.kinds.names, of_kind)
    return Table(items, columns)


def pair_features(queries: Queries, query: NDArray[np.int64], item: NDArray[np.int64], items: Table) -> Table:
    """What a history says of an item: one row per pair, columns that begin with ``pair``.

    How often it was met, and how many events ago; for each column of categories, the share of events that have the
    names of the item, of all the history, of the running session, and of its last event; and how far its price is from
    the level of the history.

    Args:
        query: (pairs,) the query of each pair.
        item: (pairs,) its item.
        items: The catalogue.
    """
    history, count = queries.history, max(1, len(items))
    key = history.row_of_value() * count + history.values
    from_end = np.repeat(history.offsets[1:], history.lengths) - np.arange(len(history.values))
    distinct, place, times = np.unique(key, return_inverse=True, return_counts=True)
    latest = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(latest, place, from_end)
    at = np.searchsorted(distinct, query * count + item).clip(max=max(0, len(distinct) - 1))
    met = (distinct[at] == query * count + item) if len(distinct) else np.zeros(len(query), bool)
    columns: dict[str, Column] = {
        "pair met": _counts(np.where(met, times[at] if len(distinct) else 0, 0)),
        "pair events ago": Number(np.where(met, np.log1p(latest[at] if len(distinct) else 0), np.nan)),
    }
    parts = history_parts(queries)
    for name, column in items.of_kind("category", "categories").items():
        owned = indicators(cast("Category | Categories", column))
        for of, part in parts.items():
            met = (np.ones(len(part.values)), part.values, part.offsets)
            liked = csr_matrix(met, shape=(len(queries), count), copy=True) @ owned  # (queries, names), sparse
            shares = _gathered(liked, owned, query, item) / np.maximum(part.lengths, 1)[query]
            columns[f"{of}: {name}"] = Number(shares)
    if (price := _price(items)) is not None:
        logged = np.log1p(np.maximum(price, 0))
        columns["pair price"] = Number(logged[item] - _mean_and_spread(history, logged)[0][query])
    return Table(len(query), columns)


def history_parts(queries: Queries) -> dict[str, Ragged]:
    """What an item is held against: all that somebody met, the last event alone, and the running session."""
    history = queries.history
    parts = {"pair": history, "pair last": history.last(1)}
    if queries.session_start is not None:
        place = np.arange(len(history.values)) - np.repeat(history.offsets[:-1], history.lengths)
        parts["pair session"] = history.where(place >= np.repeat(queries.session_start, history.lengths))
    return parts


def _counts(counts: NDArray[np.integer]) -> Number:
    """Counts as logarithms, as the tenth event says less than the first."""
    return Number(np.log1p(counts.astype(np.float64)))


def _first_of_pairs(history: Ragged) -> NDArray[np.int64]:
    """The query of each distinct item that a history holds."""
    span = int(history.values.max(initial=0)) + 1
    return np.unique(history.row_of_value() * span + history.values) // span


def _by_kind(history: Ragged, kind: NDArray[np.int8], kinds: EventKinds) -> Mapping[str, Column]:
    row = history.row_of_value()
    counts = [np.bincount(row[kind == number], minlength=len(history)) for number in range(len(kinds))]
    found: dict[str, Column] = {f"user {name}": _counts(count) for name, count in zip(kinds.names, counts, strict=True)}
    return found | _rates("user", kinds.names, counts)


def _rates(of: str, names: tuple[str, ...], counts: Sequence[NDArray[np.integer]]) -> dict[str, Column]:
    """How many of each kind came for one of the kind before it, which is weaker."""
    return {
        f"{of} {names[at]} per {names[at - 1]}": Number(np.log((counts[at] + SMOOTH) / (counts[at - 1] + 2 * SMOOTH)))
        for at in range(1, len(names))
    }


def _by_time(queries: Queries) -> Mapping[str, Column]:
    history, times = queries.history, queries.times
    if times is None:
        return {}
    row, rows = history.row_of_value(), len(history)
    known = times != NO_TIME
    now = np.full(rows, NO_TIME) if queries.now is None else queries.now
    first, last = np.full(rows, np.iinfo(np.int64).max), np.full(rows, NO_TIME)
    np.minimum.at(first, row[known], times[known])
    np.maximum.at(last, row[known], times[known])
    now = np.where(now == NO_TIME, last, now)
    there = (last != NO_TIME) & (now != NO_TIME)
    since = np.where(there, (now - last.astype(np.float64)) / HOUR, np.nan).clip(0)
    tenure = np.where(there, (now - first.astype(np.float64)) / HOUR, np.nan).clip(0)
    gaps = (np.diff(times) > SESSION_GAP) & (np.diff(row) == 0) & known[1:] & known[:-1]
    sessions = np.bincount(row[1:][gaps], minlength=rows) + (history.lengths > 0)
    part = (times[known] // int(6 * HOUR)) % 4
    come = np.stack([np.bincount(row[known][part == each], minlength=rows) for each in range(4)])
    share = come / np.maximum(come.sum(0), 1)
    return {
        "user hours since": Number(np.log1p(since)),
        "user tenure": Number(np.log1p(tenure)),
        "user sessions": _counts(sessions),
        "user events per session": Number(np.log1p(history.lengths / np.maximum(sessions, 1))),
        **{f"user at {name}": Number(each) for name, each in zip(DAY_PARTS, share, strict=True)},
        "context now": Time(now),
    }


def _price(items: Table) -> NDArray[np.float64] | None:
    """(items,) NaN = not known; None where no column is one of prices."""
    numbers = items.of_kind("number")
    for name, column in numbers.items():
        if "price" in name.lower() and isinstance(column, Number):
            return np.where(np.isfinite(column.values), column.values, np.nan)
    return None


def _mean_and_spread(history: Ragged, value: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(queries,) twice: over the items of each history whose value is known; NaN where there is none."""
    row, met = history.row_of_value(), value[history.values]
    known = ~np.isnan(met)
    row, met = row[known], met[known]
    count = np.bincount(row, minlength=len(history))
    total, squares = (np.bincount(row, weights=each, minlength=len(history)) for each in (met, met**2))
    filled = np.where(count > 0, count, np.nan)
    mean = total / filled
    return mean, np.sqrt(np.maximum(squares / filled - mean**2, 0))


def _gathered(
    liked: csr_matrix, owned: csr_matrix, query: NDArray[np.int64], item: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(pairs,) the sum of what a query likes of each name that its item has, divided by how many those are."""
    lengths = np.diff(owned.indptr)[item]
    pair = np.repeat(np.arange(len(item)), lengths)
    name = owned[item].indices
    liked.sum_duplicates()
    key = np.repeat(np.arange(liked.shape[0]), np.diff(liked.indptr)) * liked.shape[1] + liked.indices
    wanted = query[pair] * liked.shape[1] + name
    at = np.searchsorted(key, wanted).clip(max=max(0, len(key) - 1))
    found = np.where(key[at] == wanted, liked.data[at], 0.0) if len(key) else np.zeros(len(wanted))
    return np.bincount(pair, weights=found, minlength=len(item)) / np.maximum(lengths, 1)
