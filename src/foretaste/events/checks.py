"""What was found in a log: problems that stay in the data, repairs that changed it, and the report of both."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Category, Column, Number, Time
from foretaste.dataset import Dataset
from foretaste.events.parts import Part
from foretaste.events.report import LINES_SHOWN, Problem, moment

__all__ = ["Findings", "check_events"]

DAY = 86_400_000  # milliseconds
SAMPLE = 1_000_000  # events from which the span is estimated
OUTLYING = 10  # ranges between the quartiles; farther away, an event is out of the span
FEW = 8  # with fewer events there is no span to be out of

TEXTS = {
    "E001": ("rows equal an earlier row in every column; they are kept", "Remove them if they are no events."),
    "E002": ("events are before 1970", "Check the unit and the zone of the times, or remove them."),
    "E003": ("events are in the future", "Check the unit of the times, or remove them."),
    "E004": ("events are far from the time of all others", "Check their times, or remove them."),
    "E005": (
        "events happened at the same time as another of the same user; they keep the order of the log",
        "Give finer times if the order matters.",
    ),
    "E006": ("users have one event only", "Nothing can be learned and tested of them at once; that is normal in part."),
    "E007": ("items have one event only", "Their features say more than that: give --items."),
    "E009": ("identifiers are no plain integers while most are, so all are text", "Check them."),
    "E010": ("identifiers have spaces around them", "Remove the spaces if they are not meant."),
    "E011": ("user has all events", "Check --user-col."),
    "E012": ("item has all events", "Check --item-col."),
    "E013": ("places of a list are taken by two items", "Check the positions."),
    "F010": ("rows without a user were left out", "Fill them in, or name another column: --user-col."),
    "F011": ("rows without an item were left out", "Fill them in, or name another column: --item-col."),
    "F012": ("rows without a time that can be read were left out", "Write seconds, milliseconds or ISO text."),
    "F013": ("rows without an event kind were left out", "Fill them in, or name another column: --kind-col."),
    "F014": ("values are no finite numbers and count as not given", "Correct them."),
    "F015": ("rows with no value, or one below --min-value, were left out", "Lower --min-value to keep them."),
    "F016": ("rows without a session each got their own", "Fill them in."),
    "F018": ("rows without a request were left out", "Fill them in, or name another column."),
    "F017": ("identifiers were whole numbers written with a decimal point; the point was cut off", "Write integers."),
}


class Findings:
    """Collects what is found in the rows of a log, and looks up the lines at the end, once per file."""

    def __init__(self, parts: Sequence[Part], rows_of_part: Sequence[int]) -> None:
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum(rows_of_part)])
        self._found: list[tuple[str, int, NDArray[np.int64], str]] = []

    def add(self, code: str, count: int, rows: NDArray[np.integer] | None = None, example: str = "") -> None:
        """Note a finding.

        Args:
            rows: The rows of the log (from 0, over all parts) where it is.
        """
        if count:
            shown = np.empty(0, np.int64) if rows is None else _smallest(rows)
            self._found.append((code, count, shown, example))

    def problems(self) -> list[Problem]:
        """What is wrong with rows that are kept."""
        return [each for each in self._all if each.code.startswith("E")]

    def repairs(self) -> list[Problem]:
        """What was put right, that of the files first."""
        of_files = [
            each if len(self._parts) == 1 else replace(each, what=f"{each.what}, in {part.name}")
            for part in self._parts
            for each in part.repairs
        ]
        return of_files + [each for each in self._all if each.code.startswith("F")]

    @cached_property
    def _all(self) -> list[Problem]:
        lines = self._lines()
        problems = []
        for code, count, rows, example in self._found:
            what, do = TEXTS[code]
            part = int(np.searchsorted(self._starts, rows[0], side="right") - 1) if len(rows) else 0
            inside = rows[rows < self._starts[part + 1]]
            where = f", first in {self._parts[part].name}" if len(rows) and len(self._parts) > 1 else ""
            shown = [lines[int(row)] for row in inside]
            problems.append(Problem(code, count, shown, what + where, do, example, self._parts[part].word))
        return sorted(problems, key=lambda each: each.code)

    def _lines(self) -> dict[int, int]:
        wanted = np.unique(np.concatenate([np.empty(0, np.int64), *(rows for _, _, rows, _ in self._found)]))
        lines: dict[int, int] = {}
        for part, start, end in zip(self._parts, self._starts[:-1], self._starts[1:], strict=True):
            inside = wanted[(wanted >= start) & (wanted < end)]
            if len(inside):
                lines |= dict(zip(inside.tolist(), part.lines((inside - start).tolist()), strict=True))
        return lines


def _smallest(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    if len(rows) > LINES_SHOWN:
        rows = np.partition(rows, LINES_SHOWN)[:LINES_SHOWN]
    return np.sort(rows).astype(np.int64)


def check_events(data: Dataset, rows: NDArray[np.int64] | None, findings: Findings) -> None:
    """Look for what is wrong with the events of a dataset.

    Args:
        rows: (events,) the row of the log of each event; None: they stand in the order of the log.
    """

    def found(code: str, places: NDArray[np.int64], example: str = "") -> None:
        findings.add(code, len(places), places if rows is None else rows[places], example)

    if data.time is not None:
        _check_times(data.time, found)
    same = _same_moment(data)
    if data.time is not None:
        found("E005", same)
    found("E001", _duplicates(data, same))
    events_of_user = np.diff(data.offsets)
    events_of_item = np.bincount(data.item, minlength=len(data.items))
    findings.add("E006", int((events_of_user == 1).sum()))
    findings.add("E007", int((events_of_item == 1).sum()))
    if (events_of_user > 0).sum() == 1:
        findings.add("E011", 1)
    if (events_of_item > 0).sum() == 1:
        findings.add("E012", 1)


def _check_times(time: NDArray[np.int64], found: Callable[[str, NDArray[np.int64], str], None]) -> None:
    now = int(datetime.now(UTC).timestamp() * 1000)
    for code, wrong in (("E002", time < 0), ("E003", time > now + DAY)):
        places = np.flatnonzero(wrong)
        found(code, places, moment(int(time[places[0]])) if len(places) else "")
    low, high = (int(each) for each in np.quantile(time[:: max(1, len(time) // SAMPLE)], (0.25, 0.75)))
    room = max(OUTLYING * (high - low), DAY)
    places = np.flatnonzero((time < low - room) | (time > high + room))
    if len(time) >= FEW:
        found("E004", places, moment(int(time[places[0]])) if len(places) else "")


def _same_moment(data: Dataset) -> NDArray[np.int64]:
    """Places of events at the same time as the one before them, of the same user; without times, all but the first."""
    same = data.user[1:] == data.user[:-1]
    if data.time is not None:
        same &= data.time[1:] == data.time[:-1]
    return np.flatnonzero(same) + 1


def _duplicates(data: Dataset, same: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of events that equal an earlier one in every column."""
    if not len(same):
        return same
    # Only events that share user and time can be equal: the rest is not looked at again.
    places = np.union1d(same, same - 1)
    keys: list[NDArray[Any]] = [data.user[places], data.item[places]]
    keys += [each[places] for each in (data.time, data.kind, data.session) if each is not None]
    if data.value is not None:
        keys.append(data.value[places].view(np.int32))
    order = np.lexsort(keys[::-1])
    for column in (data.columns.columns if data.columns is not None else {}).values():
        again = _repeats(keys, order)
        if not again.any():
            return np.empty(0, np.int64)
        candidates = order[again | np.append(again[1:], False)]
        keys, places = [key[candidates] for key in keys], places[candidates]
        keys.append(_codes(column.take(places)))
        order = np.lexsort(keys[::-1])
    return places[order[_repeats(keys, order)]]


def _repeats(keys: Sequence[NDArray[Any]], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where, in this order, a row equals the one before in all keys."""
    again = np.ones(len(order), np.bool_)
    again[:1] = False
    for key in keys:
        ordered = key[order]
        again[1:] &= ordered[1:] == ordered[:-1]
    return again


def _codes(column: Column) -> NDArray[np.int64]:
    """A number for each distinct value of a column."""
    if isinstance(column, Number | Time):
        return column.values.view(np.int64)
    if isinstance(column, Category):
        return column.codes.astype(np.int64)
    code_of: dict[Any, int] = {}
    values = [tuple(each) if isinstance(each, list) else each for each in column.lists()]
    # A vector with NaN is never equal to itself; its repr is.
    return np.array([code_of.setdefault(repr(each), len(code_of)) for each in values], np.int64)
