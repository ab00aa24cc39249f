"""Any event log as a dataset: its columns guessed and said, its rows checked, every repair counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Catalog, Table
from foretaste.dataset import Dataset, EventKinds
from foretaste.errors import DataError
from foretaste.event_order import event_order
from foretaste.events.checks import Findings, check_events
from foretaste.events.columns import GUESSED, Columns, guess_columns, guess_positions
from foretaste.events.formats import open_parts
from foretaste.events.gathering import Gathered, gather
from foretaste.events.kinds import MOST_KINDS, KindsGiven, order_kinds
from foretaste.events.parts import Part
from foretaste.events.report import LogReport, Problem
from foretaste.events.tables import read_item_table, read_table
from foretaste.events.times import TimeUnit
from foretaste.run import Log, silent
from foretaste.vocab import Vocab

__all__ = ["Columns", "LogReport", "Problem", "inspect_events", "read_events", "validate_events"]

# Problems that read_events tells; the others are for validate.
LOUD = ("E001", "E002", "E003", "E004", "E009", "E010")


def read_events(
    source: Any,
    *,
    items: Any = None,
    users: Any = None,
    columns: Columns = GUESSED,
    kinds: KindsGiven | None = None,
    min_value: float | None = None,
    ordered: bool = False,
    time_unit: TimeUnit | None = None,
    name: str | None = None,
    log: Log = silent,
    report: list[LogReport] | None = None,
) -> Dataset:
    """The dataset of an event log; what was guessed and repaired goes to ``log``.

    Args:
        source: A path, a folder or a glob of CSV, TSV, JSON lines or Parquet, plain, .gz or .zst; or a frame of
            polars, pandas or Arrow. Read in batches: only the columns of the result are held.
        items: A table of items, as a path or a frame. Its items without events join the vocabulary.
        users: A table of users. Its users without events are left out.
        columns: Columns by name, where the guess is not right.
        kinds: The kinds of event, weakest first: "view < cart < buy", or with weights "view=1 < cart=3 < buy=10"; or
            names in that order; or a mapping of names to weights. By default inferred.
        min_value: Keep only events with at least this value.
        ordered: The rows of a user stand in their order although there are no times.
        time_unit: The unit of times that are numbers; by default guessed from their size.
        name: What the dataset is called; by default as the file.
        report: A list that gets the LogReport.

    Raises:
        DataError: The log cannot be read, or has no events, or lacks what was asked for.
        UnknownName: A given column or kind is not there.
    """
    data, found = inspect_events(
        source,
        items=items,
        users=users,
        columns=columns,
        kinds=kinds,
        min_value=min_value,
        ordered=ordered,
        time_unit=time_unit,
        name=name,
        log=log,
    )
    if report is not None:
        report.append(found)
    return data


def validate_events(
    source: Any,
    *,
    items: Any = None,
    users: Any = None,
    columns: Columns = GUESSED,
    kinds: KindsGiven | None = None,
    min_value: float | None = None,
    ordered: bool = False,
    time_unit: TimeUnit | None = None,
    name: str | None = None,
    log: Log = silent,
) -> LogReport:
    """What a log holds and what is wrong with it; takes and raises what ``read_events`` does."""
    return inspect_events(
        source,
        items=items,
        users=users,
        columns=columns,
        kinds=kinds,
        min_value=min_value,
        ordered=ordered,
        time_unit=time_unit,
        name=name,
        log=log,
    )[1]


def inspect_events(
    source: Any,
    *,
    items: Any = None,
    users: Any = None,
    columns: Columns = GUESSED,
    kinds: KindsGiven | None = None,
    min_value: float | None = None,
    ordered: bool = False,
    time_unit: TimeUnit | None = None,
    name: str | None = None,
    log: Log = silent,
) -> tuple[Dataset, LogReport]:
    """The dataset of a log and the report about it; takes and raises what ``read_events`` does."""
    parts = open_parts(source)
    roles, guesses = _roles(parts, columns)
    gathered = _gather(parts, roles, guesses, columns, time_unit)
    findings = Findings(parts, gathered.rows_of_part)
    events, kept = _events(gathered, kinds, min_value, guesses, findings, parts[0].name)
    order = event_order(events.user, events.time)
    rows = order if kept is None else kept if order is None else kept[order]
    table = _typed(gathered, rows, guesses)
    if events.time is None:
        stated = "the rows of a user stand in their order, as stated" if ordered else "their order means nothing"
        guesses.append(f"time: there is no column of times; {stated}")
    for guess in guesses:
        log(guess)
    vocab, catalog = _catalog(items, users, events, gathered.roles, log)
    data = Dataset.from_arrays(
        events.users,
        vocab,
        *(each if order is None else each[order] for each in (events.user, events.item)),
        time=_at(events.time, order),
        kind=_at(events.kind, order),
        value=_at(events.value, order),
        session=_at(events.session, order),
        ordered=ordered,
        kinds=events.kinds,
        columns=table,
        catalog=catalog,
        name=name or (Path(source).name if isinstance(source, (str, Path)) else "events"),
    )
    check_events(data, rows, findings)
    found = _report(data, guesses, findings)
    for each in (*found.repairs, *(problem for problem in found.problems if problem.code in LOUD)):
        log(each.text())
    return data, found


@dataclass(frozen=True, eq=False)
class _Events:
    """The rows that are kept, in the order of the log."""

    users: Vocab
    items: Vocab
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64] | None
    kind: NDArray[np.int8] | None
    value: NDArray[np.float32] | None
    session: NDArray[np.int64] | None
    kinds: EventKinds | None


def _roles(parts: Sequence[Part], columns: Columns) -> tuple[dict[str, str], list[str]]:
    first = parts[0]
    headerless = [part.name for part in parts if not part.header]
    if not headerless or columns != GUESSED:
        return guess_columns(first.columns, columns.given(), first.name)
    if len(headerless) < len(parts):
        raise DataError(f"{headerless[0]} has no header while other files have one. Give all the same.")
    sample = next(iter(first.batches()))
    return guess_positions(first.columns, sample.head(1000), first.name)


def _gather(
    parts: Sequence[Part], roles: dict[str, str], guesses: list[str], given: Columns, time_unit: TimeUnit | None
) -> Gathered:
    """The columns of the log; a column that was only guessed to hold kinds, and does not, becomes an ordinary one."""
    gathered = gather(parts, roles, time_unit)
    if not gathered.rows:
        raise DataError(f"{parts[0].name} has a header and no events. Give one line per event.")
    if given.kind is None and "kind" in roles and gathered.ids["kind"].distinct() > MOST_KINDS:
        guesses[:] = [each for each in guesses if not each.startswith("kind:")]
        guesses.append(f"column {roles['kind']!r} has too many values to be the kind of event")
        return gather(parts, {role: name for role, name in roles.items() if role != "kind"}, time_unit)
    return gathered


def _events(
    gathered: Gathered,
    kinds: KindsGiven | None,
    min_value: float | None,
    guesses: list[str],
    findings: Findings,
    name: str,
) -> tuple[_Events, NDArray[np.int64] | None]:
    """The events of the rows that can be used, and which rows these are; None: all."""
    time = None if gathered.time is None else gathered.time.milliseconds()
    if gathered.time is not None:
        guesses[:] = [f"{each}, {gathered.time.guess}" if each.startswith("time:") else each for each in guesses]
    value = _values(gathered, min_value, findings, name)
    keep = _keep(gathered, time, value, min_value, findings)
    if not keep.any():
        lost = "; ".join(f"{each.count:,} {each.what}" for each in findings.repairs())
        raise DataError(f"No event of {name} is left: {lost}. Check which columns are which.")
    mask = None if keep.all() else keep
    session = _sessions(gathered, mask, findings)
    users, user = gathered.ids["user"].encode(mask)
    items, item = gathered.ids["item"].encode(mask)
    for role in ("user", "item"):
        for code, count, example in gathered.ids[role].notes:
            findings.add(code, count, example=f"{role} {example}")
    found, kind = _kinds(gathered, mask, kinds, guesses)
    events = _Events(users, items, user, item, _at(time, mask), kind, _at(value, mask), session, found)
    return events, None if mask is None else np.flatnonzero(mask)


def _values(gathered: Gathered, min_value: float | None, findings: Findings, name: str) -> NDArray[np.float32] | None:
    if "value" not in gathered.numbers:
        if min_value is not None:
            raise DataError(f"{name} has no column of values to compare with {min_value:g}. Name it: --value-col.")
        return None
    unread = gathered.numbers["value"].unread()
    findings.add("F014", len(unread), unread)
    return gathered.numbers["value"].numbers().astype(np.float32)


def _keep(
    gathered: Gathered,
    time: NDArray[np.int64] | None,
    value: NDArray[np.float32] | None,
    min_value: float | None,
    findings: Findings,
) -> NDArray[np.bool_]:
    """(rows,) which rows are events. Each row that is not is counted for its first reason."""
    keep = np.ones(gathered.rows, np.bool_)

    def leave_out(code: str, wrong: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(wrong & keep)
        findings.add(code, len(rows), rows)
        keep[rows] = False

    for role, code in (("user", "F010"), ("item", "F011"), ("kind", "F013")):
        if role in gathered.ids:
            leave_out(code, gathered.ids[role].missing())
    if time is not None:
        leave_out("F012", time == NO_TIME)
    if value is not None and min_value is not None:
        leave_out("F015", ~(value >= min_value))
    return keep


def _sessions(gathered: Gathered, mask: NDArray[np.bool_] | None, findings: Findings) -> NDArray[np.int64] | None:
    """(kept rows,) a number per session; rows without one each get their own, below zero."""
    if "session" not in gathered.ids:
        return None
    missing = gathered.ids["session"].missing()
    given = ~missing if mask is None else mask & ~missing
    _, codes = gathered.ids["session"].encode(given if not given.all() else None)
    session = -1 - np.arange(gathered.rows, dtype=np.int64)
    session[given] = codes
    own = np.flatnonzero(missing if mask is None else missing & mask)
    findings.add("F016", len(own), own)
    return session if mask is None else session[mask]


def _kinds(
    gathered: Gathered, mask: NDArray[np.bool_] | None, given: KindsGiven | None, guesses: list[str]
) -> tuple[EventKinds | None, NDArray[np.int8] | None]:
    if "kind" not in gathered.ids:
        if given is not None:
            raise DataError(f"Event kinds {given!r} are given, but there is no column of them. Name it: --kind-col.")
        return None, None
    vocab, codes = gathered.ids["kind"].encode(mask)
    if len(vocab) > MOST_KINDS:
        raise DataError(
            f"Column {gathered.roles['kind']!r} has {len(vocab):,} distinct values, such as {vocab[0]!r}; event kinds "
            f"are at most {MOST_KINDS}. Name another column: --kind-col."
        )
    names = [str(each) for each in vocab.lists()]
    counts = np.bincount(codes, minlength=len(names))
    kinds, said = order_kinds(dict(zip(names, counts.tolist(), strict=True)), given)
    guesses.append(said)
    place = np.array([kinds.names.index(each) for each in names], np.int8)
    return kinds, place[codes]


def _typed(gathered: Gathered, rows: NDArray[np.int64] | None, guesses: list[str]) -> Table | None:
    """The columns without a role, typed; None if there are none."""
    if not gathered.others:
        return None
    columns = {}
    for name, column in gathered.others.items():
        columns[name], kind = column.column(rows)
        guesses.append(f"further column {name!r}: {kind}")
    return Table(gathered.rows if rows is None else len(rows), columns)


def _catalog(
    items: Any, users: Any, events: _Events, roles: Mapping[str, str], log: Log
) -> tuple[Vocab, Catalog | None]:
    """The items, with those that only their table has, and the catalogue; None if there are no tables."""
    vocab, item_table = events.items, None
    if items is not None:
        vocab, item_table = read_item_table(items, vocab, in_log=roles.get("item"), log=log)
    user_table = None
    if users is not None:
        user_table = read_table(users, events.users, "user", in_log=roles.get("user"), log=log)
    if item_table is None and user_table is None:
        return vocab, None
    return vocab, Catalog(item_table or Table(len(vocab)), user_table or Table(len(events.users)))


def _report(data: Dataset, guesses: list[str], findings: Findings) -> LogReport:
    counts = data.counts()
    kinds: dict[str, int] = {}
    if data.kind is not None:
        events = np.bincount(data.kind, minlength=len(data.kinds))
        kinds = dict(zip(data.kinds.names, events.tolist(), strict=True))
    return LogReport(
        name=data.name,
        rows=len(data),
        users=counts["users"],
        items=counts["items"],
        span=None if data.time is None else (int(data.time.min()), int(data.time.max())),
        kinds=kinds,
        guesses=guesses,
        problems=findings.problems(),
        repairs=findings.repairs(),
    )


def _at(array: NDArray[Any] | None, places: NDArray[Any] | None) -> Any:
    return array if array is None or places is None else array[places]
