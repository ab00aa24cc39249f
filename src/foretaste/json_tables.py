"""What JSON queries tell of people and of the moment, checked and typed: features and context, one row per query."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Categories, Category, Column, Number, Table, Text, Time, Vector
from foretaste.errors import DataError, UnknownName
from foretaste.ragged import PAD, Ragged

__all__ = ["Told", "feature_table", "is_number", "moment", "typed_table"]


@dataclass(frozen=True)
class Told:
    """The features, or the context, of one query as they were written; null is the same as not written."""

    where: str
    values: Mapping[str, Any]


def typed_table(told: Sequence[Told], subject: str) -> Table | None:
    """A column per name: numbers as Number, text and true or false as Category, lists of text as Categories.

    What a query does not tell is missing. None where no query tells anything.

    Args:
        subject: What the values are called in errors: "features" or "context".

    Raises:
        DataError: A value is of no such type, or of another one than in a query before.
    """
    names = list(dict.fromkeys(name for each in told for name in each.values))
    columns = {name: _typed_column(told, name, subject) for name in names}
    return Table(len(told), columns) if columns else None


def feature_table(
    told: Sequence[Told], stored: Table, users: NDArray[np.integer]
) -> tuple[Table, list[tuple[str, str]]]:
    """The stored features of the users, with those that the queries tell in their place.

    Args:
        stored: What is known of each user. It says of what kind each feature is.
        users: Who asks each query; PAD = somebody unknown, whose features are missing unless they are told.

    Returns:
        One row per query in the columns of ``stored``, and each name that a column does not know, with the column;
        those are missing.

    Raises:
        DataError: A query tells a feature that is not stored, or one of another kind.
    """
    for each in told:
        for name in each.values:
            if name not in stored:
                raise DataError(f"{each.where}: {UnknownName('feature', name, stored)}")
    columns, unknown = {}, []
    for name, column in stored.take(users).columns.items():
        given = {row: _of_kind(each, name, column) for row, each in enumerate(told) if name in each.values}
        columns[name] = _with_values(column, given) if given else column
        unknown += [(name, each) for each in _unknown_names(column, given)]
    return Table(len(told), columns), unknown


def is_number(value: Any) -> bool:
    """Is it a finite number of sensible size? Truth values are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**62  # false for NaN


def moment(value: Any, where: str) -> int | None:
    """Milliseconds since 1970 from a number or ISO text, UTC where it names no zone; None from null.

    Raises:
        DataError: It is neither; the text names ``where``.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
            return math.floor((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000 + 0.5)
        except (ValueError, OverflowError):
            pass
    elif is_number(value):
        return int(value)
    raise DataError(f"{where}: {value!r:.80} is no moment; write ISO text or milliseconds since 1970.")


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, bool))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


# What a value of each kind that needs no stored column is, in code and in words.
FREE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "number": (is_number, "a number"),
    "category": (_is_name, "text, true or false"),
    "categories": (_are_names, "a list of text"),
}


def _typed_column(told: Sequence[Told], name: str, subject: str) -> Column:
    kind, first = "", ""
    for each in told:
        value = each.values.get(name)
        if value is None:
            continue
        found = next((kind for kind, (fits, _) in FREE.items() if fits(value)), None)
        if found is None:
            kinds = ", ".join(words for _, words in FREE.values())
            raise DataError(f"{each.where}: {subject} {name!r} must be one of {kinds}; it is {value!r:.80}.")
        kind, first = kind or found, first or each.where
        if found != kind:
            raise DataError(
                f"{each.where}: {subject} {name!r} must be {FREE[kind][1]}, as in {first}; it is {value!r:.80}."
            )
    values = [each.values.get(name) for each in told]
    if kind == "number":
        return Number(np.array([np.nan if value is None else value for value in values], np.float64))
    if kind == "categories":
        return Categories.from_lists([value or [] for value in values])
    return Category.from_list([None if value is None else _name(value) for value in values])


def _name(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _of_kind(told: Told, name: str, column: Column) -> Any:
    """The value that a query tells, if it is one for this column."""
    value = told.values[name]
    if isinstance(column, Time):
        return moment(value, f"{told.where}: feature {name!r}")
    if isinstance(column, Vector):
        width = column.values.shape[1]
        fits = isinstance(value, list) and len(value) == width and all(map(is_number, value))
        words = f"a list of {width} numbers"
    elif isinstance(column, Text):
        fits, words = isinstance(value, str), "text"
    else:
        fits, words = FREE[column.kind][0](value), FREE[column.kind][1]
    if not fits:
        raise DataError(
            f"{told.where}: feature {name!r} is stored as {column.kind} and must be {words}; it is {value!r:.80}."
        )
    return _name(value) if isinstance(column, Category) else value


def _with_values(column: Column, given: Mapping[int, Any]) -> Column:
    """The column with other values in some rows; a name that it does not know is missing."""
    rows, values = np.array(list(given)), list(given.values())
    if isinstance(column, Category):
        code = {name: index for index, name in enumerate(column.names.lists())}
        return Category(_replaced(column.codes, rows, [code.get(value, PAD) for value in values]), column.names)
    if isinstance(column, Categories):
        code = {name: index for index, name in enumerate(column.names.lists())}
        told = {row: [code[name] for name in names if name in code] for row, names in given.items()}
        codes = [told.get(row, column.codes[row]) for row in range(len(column))]
        return Categories(Ragged.from_lists(codes), column.names)
    if isinstance(column, Text):
        return Text.from_list([given.get(row, text) for row, text in enumerate(column.lists())])
    if isinstance(column, Number):
        return Number(_replaced(column.values, rows, values))
    if isinstance(column, Time):
        return Time(_replaced(column.values, rows, values))
    return Vector(_replaced(column.values, rows, values))


def _replaced(array: NDArray[Any], rows: NDArray[np.integer], values: Sequence[Any]) -> NDArray[Any]:
    changed = array.copy()
    changed[rows] = values
    return changed


def _unknown_names(column: Column, given: Mapping[int, Any]) -> list[str]:
    """The names that a column of names does not know, each once."""
    if not isinstance(column, (Category, Categories)):
        return []
    names = [each for value in given.values() for each in ([value] if isinstance(value, str) else value)]
    known = set(column.names.lists())
    return [name for name in dict.fromkeys(names) if name not in known]
