"""Typed tables: what is known of items, of users, and of events beyond who, what and when."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import DataError, UnknownName
from foretaste.ragged import PAD, Ragged
from foretaste.vocab import Strings

__all__ = [
    "NO_TIME",
    "Catalog",
    "Categories",
    "Category",
    "Column",
    "ColumnKind",
    "Number",
    "Table",
    "Text",
    "Time",
    "Vector",
]

ColumnKind = Literal["category", "categories", "number", "text", "vector", "time"]

NO_TIME = np.iinfo(np.int64).min  # a missing moment
TITLE_COLUMNS = ("title", "name", "item_name", "product_name", "description", "text")


@dataclass(frozen=True, eq=False)
class Category:
    """One of few names per row."""

    kind: ClassVar[ColumnKind] = "category"
    codes: NDArray[np.int32]  # (rows,) index into names; PAD = missing
    names: Strings

    @classmethod
    def from_list(cls, names: Sequence[str | None]) -> Self:
        distinct = sorted({each for each in names if each is not None})
        code = {each: index for index, each in enumerate(distinct)}
        codes = np.fromiter((PAD if each is None else code[each] for each in names), np.int32, len(names))
        return cls(codes, Strings.from_list(distinct))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[Any]) -> "Category":
        return Category(_take(self.codes, rows, PAD), self.names)

    def lists(self) -> list[str | None]:
        names = self.names.lists()
        return [None if code == PAD else names[code] for code in self.codes.tolist()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"codes": self.codes, **_string_arrays(self.names)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(arrays["codes"], _strings(arrays))


@dataclass(frozen=True, eq=False)
class Categories:
    """Several of few names per row, such as genres. No name at all is an empty row."""

    kind: ClassVar[ColumnKind] = "categories"
    codes: Ragged  # index into names
    names: Strings

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[str]]) -> Self:
        distinct = sorted({each for row in rows for each in row})
        code = {each: index for index, each in enumerate(distinct)}
        return cls(Ragged.from_lists([[code[each] for each in row] for row in rows]), Strings.from_list(distinct))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[Any]) -> "Categories":
        known = rows != PAD
        taken = self.codes.take(rows[known])
        lengths = np.zeros(len(rows), np.int64)
        lengths[known] = taken.lengths
        return Categories(Ragged.from_lengths(taken.values, lengths), self.names)

    def lists(self) -> list[list[str]]:
        names = self.names.lists()
        return [[names[code] for code in row] for row in self.codes.lists()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"codes": self.codes.values, "code_offsets": self.codes.offsets, **_string_arrays(self.names)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(Ragged(arrays["codes"], arrays["code_offsets"]), _strings(arrays))


@dataclass(frozen=True, eq=False)
class Number:
    """A number per row, such as a price; NaN = missing."""

    kind: ClassVar[ColumnKind] = "number"
    values: NDArray[np.float64]  # (rows,)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[Any]) -> "Number":
        return Number(_take(self.values, rows, np.nan))

    def lists(self) -> list[float | None]:
        return [None if np.isnan(each) else each for each in self.values.tolist()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"values": self.values}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(arrays["values"])


@dataclass(frozen=True, eq=False)
class Text:
    """Free text per row; the empty text = missing."""

    kind: ClassVar[ColumnKind] = "text"
    texts: Strings

    @classmethod
    def from_list(cls, texts: Sequence[str | None]) -> Self:
        return cls(Strings.from_list("" if each is None else each for each in texts))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[Any]) -> "Text":
        if (rows == PAD).any():
            padded = Strings(self.texts.data, np.append(self.texts.offsets, self.texts.offsets[-1]))
            return Text(padded.take(np.where(rows == PAD, len(self), rows)))
        return Text(self.texts.take(rows))

    def lists(self) -> list[str]:
        return self.texts.lists()

    def arrays(self) -> dict[str, NDArray[Any]]:
        return _string_arrays(self.texts)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(_strings(arrays))


@dataclass(frozen=True, eq=False)
class Vector:
    """A vector per row, such as a pretrained embedding; a row of NaN = missing."""

    kind: ClassVar[ColumnKind] = "vector"
    values: NDArray[np.float32]  # (rows, dim)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[Any]) -> "Vector":
        return Vector(_take(self.values, rows, np.nan))

    def lists(self) -> list[list[float]]:
        return list(self.values.tolist())

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"values": self.values}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(arrays["values"])


@dataclass(frozen=True, eq=False)
class Time:
    """A moment per row, in milliseconds since 1970 UTC; NO_TIME = missing."""

    kind: ClassVar[ColumnKind] = "time"
    values: NDArray[np.int64]  # (rows,)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[Any]) -> "Time":
        return Time(_take(self.values, rows, NO_TIME))

    def lists(self) -> list[int | None]:
        return [None if each == NO_TIME else each for each in self.values.tolist()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"values": self.values}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(arrays["values"])


Column = Category | Categories | Number | Text | Vector | Time
KINDS: dict[str, type[Column]] = {each.kind: each for each in (Category, Categories, Number, Text, Vector, Time)}


@dataclass(frozen=True, eq=False)
class Table:
    """Named, typed columns of equal length."""

    rows: int
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if len(column) != self.rows:
                raise DataError(f"Column {name!r} has {len(column)} rows where the table has {self.rows}.")

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            raise UnknownName("column", name, self.columns)
        return self.columns[name]

    def of_kind(self, *kinds: ColumnKind) -> dict[str, Column]:
        return {name: column for name, column in self.columns.items() if column.kind in kinds}

    def take(self, rows: NDArray[Any]) -> "Table":
        """The given rows, as indices or a mask. PAD gives a row in which everything is missing."""
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        return Table(len(rows), {name: column.take(rows) for name, column in self.columns.items()})

    def with_column(self, name: str, column: Column) -> "Table":
        return Table(self.rows, {**self.columns, name: column})

    def without(self, *names: str) -> "Table":
        return Table(self.rows, {name: column for name, column in self.columns.items() if name not in names})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to store; with ``schema()`` they rebuild the table."""
        # Numbered, not named: a column may be called anything, a file may not.
        return {
            f"{number}.{part}": array
            for number, column in enumerate(self.columns.values())
            for part, array in column.arrays().items()
        }

    def schema(self) -> dict[str, Any]:
        return {"rows": self.rows, "columns": [[name, column.kind] for name, column in self.columns.items()]}

    @classmethod
    def from_arrays(cls, schema: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        columns = {}
        for number, (name, kind) in enumerate(schema["columns"]):
            prefix = f"{number}."
            parts = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            columns[name] = KINDS[kind].from_arrays(parts)
        return cls(schema["rows"], columns)


@dataclass(frozen=True, eq=False)
class Catalog:
    """What is known of items and users; row i of a table is about index i of its vocabulary."""

    items: Table
    users: Table

    @classmethod
    def empty(cls, items: int, users: int) -> Self:
        return cls(Table(items), Table(users))

    def titles(self) -> list[str] | None:
        """What to show for each item; None where the items have no text that could serve."""
        by_lower = {name.lower(): name for name in self.items}
        for candidate in TITLE_COLUMNS:
            if candidate in by_lower:
                return [str(each or "") for each in self.items[by_lower[candidate]].lists()]
        texts = self.items.of_kind("text")
        return next(iter(texts.values())).lists() if texts else None  # type: ignore[return-value]


def _take(values: NDArray[Any], rows: NDArray[Any], missing: Any) -> NDArray[Any]:
    """The rows of an array; PAD gives ``missing``."""
    if not len(values):
        return np.full((len(rows), *values.shape[1:]), missing, values.dtype)
    taken: NDArray[Any] = values[rows]
    taken[rows == PAD] = missing
    return taken


def _string_arrays(strings: Strings) -> dict[str, NDArray[Any]]:
    return {"data": strings.data, "offsets": strings.offsets}


def _strings(arrays: Mapping[str, NDArray[Any]]) -> Strings:
    return Strings(arrays["data"], arrays["offsets"])
