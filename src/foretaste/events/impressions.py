"""What was shown and what came of it: a log of impressions beside the events of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Table
from foretaste.dataset import Dataset, Impressions
from foretaste.errors import DataError, UnknownName
from foretaste.events.checks import Findings
from foretaste.events.columns import NAMES, guess_columns, normal
from foretaste.events.formats import open_parts
from foretaste.events.gathering import Gathered, gather
from foretaste.events.parts import Part
from foretaste.events.tables import with_items
from foretaste.events.times import TimeUnit
from foretaste.ragged import PAD
from foretaste.run import Log, silent
from foretaste.vocab import Vocab

__all__ = ["ImpressionColumns", "read_impressions"]

SHOWN_NAMES = {
    "request": ["requestid", "request", "impressionid", "listid", "queryid", "searchid", "slateid"],
    "user": NAMES["user"],
    "item": NAMES["item"],
    "time": NAMES["time"],
    "position": ["position", "pos", "rank", "slot", "place"],
}
LABEL_NAMES = (
    "click clicked isclick isclicked cart addtocart carted purchase purchased buy bought order ordered like liked fav "
    "favorite favourite conversion converted label watched longview follow share comment"
)


@dataclass(frozen=True)
class ImpressionColumns:
    """Which column of a log of impressions is what; None: guessed from its name."""

    request: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    position: str | None = None

    def given(self) -> dict[str, str]:
        """The columns that are named, by their role."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {role: name for role, name in named.items() if name is not None}


NOTHING_GIVEN = ImpressionColumns()


def read_impressions(
    source: Any,
    data: Dataset,
    *,
    columns: ImpressionColumns = NOTHING_GIVEN,
    labels: Sequence[str] | None = None,
    time_unit: TimeUnit | None = None,
    log: Log = silent,
) -> Dataset:
    """The dataset with what was shown to its users; what was guessed and repaired goes to ``log``.

    Items that were shown and never met join the vocabulary; users who never met anything are anonymous.

    Args:
        source: A path, a folder, a glob or a frame with one row per shown item, as for ``read_events``.
        columns: Columns by name, where the guess is not right. Without positions, the order of the rows counts.
        labels: The columns that say what came of it, 1 or 0; by default those with names such as click.
        time_unit: The unit of times that are numbers; by default guessed from their size.

    Raises:
        DataError: The log cannot be read, or a label holds something else than 0, 1 and nothing.
        UnknownName: A given column is not there.
    """
    parts = open_parts(source)
    name = parts[0].name
    roles, guesses = guess_columns(
        parts[0].columns, columns.given(), name, SHOWN_NAMES, needed=("request", "user", "item", "time")
    )
    roles |= {f"label {label}": label for label in _labels(parts[0], labels, list(roles.values()))}
    gathered = gather(parts, roles, time_unit)
    findings = Findings(parts, gathered.rows_of_part)
    time = _times(gathered)
    rows = np.flatnonzero(_keep(gathered, time, findings))
    if not len(rows):
        raise DataError(f"{name} has no row with a request, an item and a time. Check which columns are which.")
    data, shown = _shown(gathered, rows, time, data, findings, log)
    for guess in guesses:
        log(f"{guess}, {gathered.time.guess}" if guess.startswith("time:") and gathered.time else guess)
    log(f"labels: {', '.join(shown.labels) or 'none'}; further columns: {', '.join(shown.context) or 'none'}")
    for each in (*findings.repairs(), *findings.problems()):
        log(each.text())
    return replace(data, impressions=shown)


def _labels(part: Part, given: Sequence[str] | None, taken: Sequence[str]) -> list[str]:
    if given is None:
        return [name for name in part.columns if normal(name) in LABEL_NAMES.split() and name not in taken]
    for name in given:
        if name not in part.columns:
            raise UnknownName(f"column of {part.name}", name, part.columns)
    return list(given)


def _times(gathered: Gathered) -> NDArray[np.int64]:
    return np.full(gathered.rows, NO_TIME) if gathered.time is None else gathered.time.milliseconds()


def _keep(gathered: Gathered, time: NDArray[np.int64], findings: Findings) -> NDArray[np.bool_]:
    keep = np.ones(gathered.rows, np.bool_)
    for code, missing in (
        ("F018", gathered.ids["request"].missing()),
        ("F011", gathered.ids["item"].missing()),
        ("F012", time == NO_TIME),
    ):
        rows = np.flatnonzero(keep & missing)
        findings.add(code, len(rows), rows)
        keep[rows] = False
    return keep


def _shown(
    gathered: Gathered, rows: NDArray[np.int64], time: NDArray[np.int64], data: Dataset, findings: Findings, log: Log
) -> tuple[Dataset, Impressions]:
    """The dataset with the shown items in its vocabulary, and the impressions in the order of request and position."""
    kept = np.zeros(gathered.rows, np.bool_)
    kept[rows] = True
    _, request = gathered.ids["request"].encode(kept)
    data, item = _items(*gathered.ids["item"].encode(kept), data, log)
    user = _users(gathered, kept, data.users, log)[rows]
    position = _positions(gathered, rows, request)
    order = np.lexsort((position, request))
    repeated = (np.diff(request[order]) == 0) & (np.diff(position[order]) == 0)
    findings.add("E013", int(repeated.sum()), rows[order[1:][repeated]])
    context = {name: column.column(rows[order])[0] for name, column in gathered.others.items()}
    labels = {
        role.removeprefix("label "): _label(role.removeprefix("label "), column.numbers()[rows[order]])
        for role, column in gathered.numbers.items()
        if role.startswith("label ")
    }
    return data, Impressions(
        request[order].astype(np.int64),
        user[order],
        item[order],
        time[rows[order]],
        position[order],
        labels,
        Table(len(rows), context),
    )


def _items(vocab: Vocab, codes: NDArray[np.int32], data: Dataset, log: Log) -> tuple[Dataset, NDArray[np.int32]]:
    ids = vocab.lists()
    if vocab.is_text and not data.items.is_text and (data.items.index(ids) == PAD).any():
        raise DataError(
            f"The shown items are text, such as {ids[-1]!r}, where those of the events are integers. "
            "Write the same identifiers in both."
        )
    items = data.items.extended(ids)
    fresh = len(items) - len(data.items)
    if fresh:
        log(f"{fresh:,} items that were shown and never met were added to the {len(data.items):,} of the events")
        data = replace(data, items=items, catalog=with_items(data.catalog, len(items), len(data.users)))
    return data, items.index(ids)[codes]


def _users(gathered: Gathered, kept: NDArray[np.bool_], users: Vocab, log: Log) -> NDArray[np.int32]:
    """(rows) the index of each user; PAD where there is none or none that is known."""
    present = kept & ~gathered.ids["user"].missing()
    vocab, codes = gathered.ids["user"].encode(present)
    index = users.index(vocab.lists())
    strangers = int((index == PAD).sum())
    if strangers:
        log(f"{strangers:,} users who were shown something have no events; they count as anonymous")
    user = np.full(gathered.rows, PAD, np.int32)
    user[present] = index[codes]
    return user


def _positions(gathered: Gathered, rows: NDArray[np.int64], request: NDArray[np.int32]) -> NDArray[np.int32]:
    """(kept rows,) 0 = first place; by the order of the rows where there is no column."""
    if "position" not in gathered.numbers:
        order = np.argsort(request, kind="stable")
        starts = np.flatnonzero(np.diff(request[order], prepend=-1))
        place = np.empty(len(rows), np.int32)
        place[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
        return place
    numbers = gathered.numbers["position"].numbers()[rows]
    if not ((numbers >= 0) & (numbers == np.rint(numbers))).all():
        raise DataError(
            f"Column {gathered.roles['position']!r} holds positions that are no whole numbers from 0. Correct them."
        )
    # Many systems count places from 1; ours is an index.
    return (numbers - (1 if numbers.min() >= 1 else 0)).astype(np.int32)


def _label(name: str, numbers: NDArray[np.float64]) -> NDArray[np.int8]:
    known = ~np.isnan(numbers)
    if not np.isin(numbers[known], (0, 1)).all():
        raise DataError(f"Label {name!r} holds other values than 0, 1 and nothing. Name the labels, or correct it.")
    return np.where(known, numbers, -1).astype(np.int8)
