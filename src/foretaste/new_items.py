"""Items that a fitted model has never met: their rows, read as those of its own catalogue and put behind them."""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from foretaste.catalog import Categories, Category, Column, Number, Table, Text, Time, Vector
from foretaste.errors import DataError
from foretaste.ragged import PAD, Ragged
from foretaste.vocab import Strings

__all__ = ["appended", "names_in_texts", "read_like"]

SEPARATORS = "|;,"
AnyNames = TypeVar("AnyNames", Category, Categories)


def appended(catalog: Table, rows: Table) -> Table:
    """The rows of a catalogue, and behind them others, each column of which is read as the catalogue's is.

    Columns that the catalogue lacks are left out; in those that the new rows lack everything is missing.

    Raises:
        DataError: A column cannot be read as the catalogue's.
    """
    nothing = np.full(len(rows), PAD)
    columns = {
        name: _joined(column, read_like(column, rows[name], name) if name in rows else column.take(nothing))
        for name, column in catalog.columns.items()
    }
    return Table(len(catalog) + len(rows), columns)


def read_like(known: Column, column: Column, name: str) -> Column:
    """A column as one of the same kind as a known one: a few rows do not always show of what kind they are.

    Args:
        known: May have no rows; its names are those by which texts are split.

    Raises:
        DataError: It cannot be read so.
    """
    if isinstance(known, Vector) and isinstance(column, Vector):
        if known.values.shape[1] != column.values.shape[1]:
            raise DataError(
                f"Column {name!r} has vectors of {column.values.shape[1]} numbers; the model's catalogue has "
                f"{known.values.shape[1]}. Make them by the same means."
            )
        return column
    if column.kind == known.kind:
        return column
    values = column.lists()
    missing = [each is None or each == "" or each == [] for each in values]
    if all(missing):
        return known.take(np.full(len(column), PAD))
    make = _FROM_TEXTS.get(type(known))
    if make is None or isinstance(column, (Vector, Time)):
        raise DataError(
            f"Column {name!r} is a column of {column.kind}; in the model's catalogue it is one of {known.kind}, "
            f"such as {next((each for each in known.lists() if each is not None), None)!r}. Write it in the same way."
        )
    return make(known, [None if lacks else _as_text(each) for each, lacks in zip(values, missing, strict=True)], name)


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else repr(value)
    return ", ".join(value) if isinstance(value, list) else str(value)


def names_in_texts(texts: Sequence[str | None], known: Collection[str] | None = None) -> Categories:
    """The names that each text holds: those of a JSON list, or what separators stand between.

    Args:
        known: Texts are split where the most of these are found: a separator that stands in two rows is not seen as
            one. None: by the separator that the most of them hold; by none where that is none.
    """

    def split(separator: str | None) -> list[list[str]]:
        return [[] if each is None else _names_in(each, separator) for each in texts]

    if known is None:
        counts = {each: sum(each in text for text in texts if text is not None) for each in SEPARATORS}
        most = max(SEPARATORS, key=counts.__getitem__)
        return Categories.from_lists(split(most if counts[most] else None))
    ways = [split(None), *(split(each) for each in SEPARATORS)]
    return Categories.from_lists(max(ways, key=lambda rows: sum(part in known for row in rows for part in row)))


def _names_in(text: str, separator: str | None) -> list[str]:
    if text.startswith("["):
        with suppress(ValueError, RecursionError):
            parts = json.loads(text)
            if isinstance(parts, list):
                return [str(each) for each in parts if each is not None]
    parts = [text] if separator is None else text.split(separator)
    return [part.strip() for part in parts if part.strip()]


def _as_categories(known: Column, texts: Sequence[str | None], name: str) -> Column:
    return names_in_texts(texts, set(known.names.lists()))  # type: ignore[union-attr]


def _as_numbers(known: Column, texts: Sequence[str | None], name: str) -> Column:
    try:
        return Number(np.array([np.nan if each is None else float(each) for each in texts]))
    except ValueError as error:
        raise DataError(f"Column {name!r} is one of numbers in the model's catalogue; {error}.") from error


_FROM_TEXTS: dict[type[Column], Callable[[Column, Sequence[str | None], str], Column]] = {
    Category: lambda known, texts, name: Category.from_list(list(texts)),
    Categories: _as_categories,
    Text: lambda known, texts, name: Text.from_list(texts),
    Number: _as_numbers,
}


def _joined(first: Column, second: Column) -> Column:
    """Two columns of the same kind, one behind the other; the codes of the first stay as they are."""
    if isinstance(first, Category) and isinstance(second, Category):
        names, code = _all_names(first, second)
        codes = np.where(second.codes == PAD, PAD, code[second.codes]) if len(code) else second.codes
        return Category(np.concatenate([first.codes, codes]).astype(first.codes.dtype), names)
    if isinstance(first, Categories) and isinstance(second, Categories):
        names, code = _all_names(first, second)
        values = np.concatenate([first.codes.values, code[second.codes.values]]).astype(np.int32)
        lengths = np.concatenate([first.codes.lengths, second.codes.lengths])
        return Categories(Ragged.from_lengths(values, lengths), names)
    if isinstance(first, Text) and isinstance(second, Text):
        return Text(Strings.from_list([*first.lists(), *second.lists()]))
    return type(first)(np.concatenate([first.values, second.values]))  # type: ignore[union-attr, call-arg, arg-type]


def _all_names(first: AnyNames, second: AnyNames) -> tuple[Strings, Any]:
    """The names of the first and behind them what the second adds; and the number of each name of the second."""
    names = list(dict.fromkeys([*first.names.lists(), *second.names.lists()]))
    number = {name: place for place, name in enumerate(names)}
    return Strings.from_list(names), np.array([number[each] for each in second.names.lists()], np.int64)
