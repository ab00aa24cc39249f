"""Plain tables of impressions as the examples of a ranker: CSV, JSON lines or Parquet, a row per shown item."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Category, Column, Number, Table, Text, Time
from foretaste.errors import DataError, UnknownName
from foretaste.events.columns import guess_columns, normal
from foretaste.events.formats import open_parts
from foretaste.events.gathering import Gathered, gather
from foretaste.events.impressions import LABEL_NAMES
from foretaste.events.typed_columns import NumberColumn
from foretaste.rank.examples import UNKNOWN, Examples
from foretaste.rank.features import CODES, FeatureKind, Groups
from foretaste.rank.fields import Fields
from foretaste.run import Log, silent

__all__ = ["PlainTable"]

TIME_NAMES = ("timestamp", "eventtimestamp", "time")
REQUEST_NAMES = {"request": ["requestid", "request", "impressionid", "listid", "queryid", "searchid", "slateid"]}
WRITTEN: tuple[FeatureKind, ...] = ("category", "categories", "sequence", "text")
YES_OR_NO = {"true", "false", "yes", "no", "t", "f", "y", "n", "0", "1"}


@dataclass(frozen=True, eq=False)
class PlainTable:
    """A table of impressions, with its rows as examples."""

    examples: Examples
    rows: NDArray[np.int64]  # (examples,) the row of the table that each was
    frame: pl.DataFrame  # as it was read

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        tasks: Sequence[str] | None = None,
        request: str | None = None,
        fields: Fields | None = None,
        groups: Groups | None = None,
        log: Log = silent,
    ) -> Self:
        """A table from a file, a folder, a glob or a frame.

        Args:
            tasks: The columns of labels, 1, 0 or nothing where it is not known; those that are not there are passed
                over where ``fields`` are given. None: those with names such as click or purchase.
            request: The column that says which rows were one list; by default guessed from its name. Where there is
                none, every row is a list of its own.
            fields: Of a fitted ranker, by which columns are read as in training.
            groups: The features that are declared; the names among them stay as they are written.
            log: Gets what was taken for what.

        Raises:
            DataError: The table cannot be read, or a label holds something else than 0, 1 and nothing.
            UnknownName: A column that is named is not there.
        """
        parts = open_parts(source)
        name, columns = parts[0].name, parts[0].columns
        given = {} if request is None else {"request": request}
        roles, said = guess_columns(columns, given, name, REQUEST_NAMES, needed=())
        labels = _labels(columns, tasks, name, roles, must=fields is None)
        as_written = _names_among(columns, fields, groups)
        numbers = _numbers_among(columns, fields, groups)
        roles |= {f"label {label}": label for label in labels}
        roles |= {f"number {number}": number for number in numbers if number not in labels}
        gathered = gather(parts, roles, texts=as_written)
        if not gathered.rows:
            raise DataError(f"{name} has no rows.")
        for each in said:
            log(each)
        log(f"labels: {', '.join(labels) or 'none'}")
        declared = {each.column for features in (groups or {}).values() for each in features}
        places = _places(gathered, set(as_written), log)
        if tasks is not None and fields is None:
            places = _without_outcomes(places, declared, log)
        told = {label: _label(label, gathered.numbers[f"label {label}"]) for label in labels}
        examples, rows = Examples.of_rows(places, _requests(gathered), told)
        frame = pl.concat([batch for part in parts for batch in part.batches()], how="diagonal_relaxed")
        return cls(examples, rows, frame)

    def with_chances(self, predicted: dict[str, NDArray[np.floating]]) -> pl.DataFrame:
        """The table in its own order, with a column more for each task, called after it with _probability behind.

        Raises:
            DataError: The table has a column of that name already.
        """
        for task in predicted:
            if f"{task}_probability" in self.frame.columns:
                raise DataError(
                    f"The table has a column {task}_probability already, which would be lost; rename it, or drop it."
                )
        back = np.empty_like(self.rows)
        back[self.rows] = np.arange(len(self.rows))
        return self.frame.with_columns(
            pl.Series(f"{task}_probability", chances[back]) for task, chances in predicted.items()
        )

    def split(self, share: float, seed: int) -> tuple[Examples, Examples]:
        """Most lists, and a share of them to choose by: the latest where the table tells times, else drawn."""
        count = len(self.examples.requests)
        moment = _moments(self.examples)
        order = np.random.default_rng(seed).permutation(count)
        if moment is not None:
            latest = np.full(count, -np.inf)
            np.maximum.at(latest, self.examples.request, moment)
            order = order[np.argsort(latest[order], kind="stable")]
        held_out = np.zeros(count, bool)
        held_out[order[count - max(1, round(share * count)) :]] = True
        chosen = held_out[self.examples.request]
        return self.examples.take(~chosen), self.examples.take(chosen)


def _labels(
    columns: Sequence[str], tasks: Sequence[str] | None, name: str, roles: dict[str, str], must: bool
) -> list[str]:
    if tasks is None:
        taken = set(roles.values())
        return [each for each in columns if normal(each) in LABEL_NAMES.split() and each not in taken]
    for task in tasks:
        if task not in columns and must:
            raise UnknownName(f"column of {name}", task, columns)
    return [task for task in tasks if task in columns]


def _names_among(columns: Sequence[str], fields: Fields | None, groups: Groups | None) -> list[str]:
    """The columns that are read as names, or as texts, whatever their values look like."""
    if fields is not None:
        return [each.name for each in fields.of_kind(*WRITTEN)]
    declared = {each.column: each.kind for features in (groups or {}).values() for each in features}
    return [name for name in columns if (declared.get(name) or ("category" if name in CODES else None)) in WRITTEN]


def _numbers_among(columns: Sequence[str], fields: Fields | None, groups: Groups | None) -> list[str]:
    """The columns that are read as numbers, whatever stands in them."""
    if fields is not None:
        return [each.name for each in fields.of_kind("number") if each.name in columns]
    declared = [each.column for features in (groups or {}).values() for each in features if each.kind == "number"]
    return [name for name in declared if name in columns]


def _without_outcomes(places: Table, declared: set[str], log: Log) -> Table:
    """Without the labels of tasks that are not to be learned: what came of an example tells what else came of it."""
    outcomes = [
        name
        for name, column in places.columns.items()
        if normal(name) in LABEL_NAMES.split() and name not in declared and _says_yes_or_no(column)
    ]
    for name in outcomes:
        log(f"{name}: left out, as it says what came of a row; to read it all the same, name it in the groups")
    return places.without(*outcomes)


def _says_yes_or_no(column: Column) -> bool:
    """Whether all that stands in a column is 0 or 1, or a word for it."""
    if isinstance(column, Number):
        return bool(np.isin(column.values[~np.isnan(column.values)], (0, 1)).all())
    if not isinstance(column, Category | Text):
        return False
    return {str(each).casefold() for each in set(column.lists()) if each} <= YES_OR_NO


def _places(gathered: Gathered, as_written: set[str], log: Log) -> Table:
    columns: dict[str, Column] = {}
    for name, column in gathered.others.items():
        if name in as_written:
            columns[name] = column.as_written(np.arange(gathered.rows), lists_of_names=True)
            continue
        columns[name], said = column.column(None)
        log(f"{name}: {said}")
    for role, numbers in gathered.numbers.items():
        if not role.startswith("number "):
            continue
        name = role.removeprefix("number ")
        columns[name] = Number(numbers.numbers())
        if unread := len(numbers.unread()):
            log(f"{name}: {unread:,} values are no finite numbers and count as missing")
    return Table(gathered.rows, columns)


def _requests(gathered: Gathered) -> NDArray[np.integer]:
    if "request" not in gathered.ids:
        return np.arange(gathered.rows)
    ids = gathered.ids["request"]
    missing = ids.missing()
    _, codes = ids.encode(~missing)
    found = np.empty(gathered.rows, np.int64)
    found[~missing] = codes
    found[missing] = gathered.rows + np.arange(int(missing.sum()))  # without a request, a row is a list of its own
    return found


def _label(name: str, column: NumberColumn) -> NDArray[np.int8]:
    numbers, unread = column.numbers(), column.unread()
    known = ~np.isnan(numbers)
    wrong = numbers[known][~np.isin(numbers[known], (0, 1))]
    if len(wrong) or len(unread):
        what = f"{wrong[0]:g}" if len(wrong) else f"something that is no number in row {int(unread[0]) + 1}"
        raise DataError(f"Label {name!r} holds {what}; it may hold 0, 1 and nothing. Name the labels, or correct it.")
    return np.where(known, numbers, UNKNOWN).astype(np.int8)


def _moments(examples: Examples) -> NDArray[np.float64] | None:
    """(examples,) when each was shown, -inf where that is not known; None where no column tells.

    By the first column of times, or of numbers with a name such as timestamp; those with such a name before others.
    """
    named = {name: column for name, column in examples.places.columns.items() if normal(name) in TIME_NAMES}
    for column in (*named.values(), *examples.places.of_kind("time").values()):
        if isinstance(column, Time):
            return np.where(column.values == NO_TIME, -np.inf, column.values.astype(np.float64))
        if isinstance(column, Number):
            return np.where(np.isfinite(column.values), column.values, -np.inf)
    return None
