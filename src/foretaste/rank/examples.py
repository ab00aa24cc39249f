"""Examples of a ranker: what was shown in lists, what is known of each, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Categories, Category, Column, Table, Text
from foretaste.errors import DataError, UnknownName
from foretaste.ragged import PAD, Ragged
from foretaste.storage import digest_of, prefixed
from foretaste.vocab import Strings

__all__ = ["LEVELS", "UNKNOWN", "Examples", "Level"]

UNKNOWN = -1  # a label that nobody knows
Level = Literal["requests", "items", "places"]
LEVELS: tuple[Level, ...] = ("requests", "items", "places")


@dataclass(frozen=True, eq=False)
class Examples:
    """One row per item of a list, in three tables, so that nothing is held or computed twice.

    What is true of the whole list (who asks, when, where) stands once per request, what is true of an item wherever it
    is shown stands once per item, and what is true of this item in this list (its place, the score of its source)
    stands once per example.
    """

    request: NDArray[np.int64]  # (examples,) row of requests, ascending: a list stands together
    requests: Table  # one row per list
    item: NDArray[np.int64]  # (examples,) row of items; PAD = nothing is known of it
    items: Table  # one row per item
    places: Table  # one row per example
    labels: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)  # task -> (examples,) 1, 0; UNKNOWN

    def __post_init__(self) -> None:
        for name, rows in (("item", len(self.item)), ("places", len(self.places))):
            if rows != len(self):
                raise DataError(f"{name} has {rows} rows where there are {len(self)} examples.")
        if len(self) and (np.diff(self.request) < 0).any():
            raise DataError("Examples of one request must stand together, in the order of the requests.")
        for name, index, size in (("request", self.request, len(self.requests)), ("item", self.item, len(self.items))):
            if len(self) and (index.max() >= size or index.min() < (PAD if name == "item" else 0)):
                raise DataError(f"{name} holds rows outside 0..{size - 1}.")
        for name, label in self.labels.items():
            if len(label) != len(self) or not np.isin(label, (0, 1, UNKNOWN)).all():
                raise DataError(f"Label {name!r} needs 1, 0 or {UNKNOWN} (not known) for each of {len(self)} examples.")
        seen: set[str] = set()
        for table in self.tables().values():
            for name in table:
                if name in seen:
                    raise DataError(
                        f"Two columns are called {name!r}; requests, items and places need names of their own."
                    )
                seen.add(name)

    @classmethod
    def of_rows(
        cls, places: Table, request: NDArray[np.integer], labels: Mapping[str, NDArray[np.int8]]
    ) -> "tuple[Examples, NDArray[np.int64]]":
        """Examples of a plain table, in which everything stands beside each example.

        Args:
            request: (rows,) equal numbers are one list; they may stand anywhere.

        Returns:
            The examples, in the order of their requests, and (examples,) the row of the table that each was.
        """
        _, number = np.unique(request, return_inverse=True)
        order = np.argsort(number, kind="stable")
        count = int(number.max()) + 1 if len(number) else 0
        nothing = np.full(len(order), PAD)
        labels = {name: label[order] for name, label in labels.items()}
        return cls(number[order], Table(count), nothing, Table(0), places.take(order), labels), order

    @classmethod
    def together(cls, parts: "Sequence[Examples]") -> "Examples":
        """Several examples, one behind the other; what one does not have is not known of it.

        Items of the same table stay one; other tables, which say of items what was known elsewhere, follow behind.

        Raises:
            DataError: A column is of another kind, or has other names, in some of them.
        """
        begin = np.cumsum([0, *(len(part.requests) for part in parts[:-1])])
        tables = list({id(part.items): part.items for part in parts}.values())
        starts = np.cumsum([0, *map(len, tables[:-1])]).tolist()
        start_of = {id(table): start for table, start in zip(tables, starts, strict=True)}
        return cls(
            np.concatenate([start + part.request for start, part in zip(begin, parts, strict=True)]),
            _stacked([part.requests for part in parts]),
            np.concatenate([np.where(part.item == PAD, PAD, start_of[id(part.items)] + part.item) for part in parts]),
            tables[0] if len(tables) == 1 else _stacked(tables),
            _stacked([part.places for part in parts]),
            {
                name: np.concatenate([part.labels.get(name, np.full(len(part), UNKNOWN, np.int8)) for part in parts])
                for name in dict.fromkeys(name for part in parts for name in part.labels)
            },
        )

    def __len__(self) -> int:
        return len(self.request)

    def tables(self) -> dict[Level, Table]:
        """The three tables by name."""
        return {"requests": self.requests, "items": self.items, "places": self.places}

    def rows(self, level: Level) -> NDArray[np.int64] | None:
        """(examples,) the row of each example in a table; None: its own."""
        return {"requests": self.request, "items": self.item, "places": None}[level]

    def level_of(self, name: str) -> Level:
        """The table in which a column stands.

        Raises:
            UnknownName: No table has it.
        """
        for level, table in self.tables().items():
            if name in table:
                return level
        raise UnknownName("column", name, [each for table in self.tables().values() for each in table])

    def column(self, name: str) -> Column:
        """A column, with a row for each row of its own table."""
        return self.tables()[self.level_of(name)][name]

    def fingerprint(self) -> str:
        """A digest of the tables, of what stands in which list, and of the labels: equal for equal examples."""
        arrays: dict[str, NDArray[Any]] = {"request": self.request, "item": self.item, **prefixed("label", self.labels)}
        for level, table in self.tables().items():
            arrays |= prefixed(level, table.arrays())
        return digest_of(arrays, {level: table.schema() for level, table in self.tables().items()})

    def take(self, rows: NDArray[Any]) -> "Examples":
        """The given examples, as ascending indices or a mask; tables of requests and items stay whole."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Examples(
            self.request[rows],
            self.requests,
            self.item[rows],
            self.items,
            self.places.take(rows),
            {name: label[rows] for name, label in self.labels.items()},
        )


def _stacked(tables: Sequence[Table]) -> Table:
    columns = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        like = next(table[name] for table in tables if name in table)
        missing = [like.take(np.full(len(table), PAD)) if name not in table else table[name] for table in tables]
        columns[name] = _behind(name, missing)
    return Table(sum(map(len, tables)), columns)


def _behind(name: str, columns: Sequence[Any]) -> Column:
    first = columns[0]
    named = isinstance(first, Category | Categories)
    if any(each.kind != first.kind or (named and not _same(each.names, first.names)) for each in columns):
        raise DataError(f"Column {name!r} is of another kind, or has other names, in some of the examples.")
    if isinstance(first, Category):
        return Category(np.concatenate([each.codes for each in columns]), first.names)
    if isinstance(first, Categories):
        codes = np.concatenate([each.codes.values for each in columns])
        return Categories(
            Ragged.from_lengths(codes, np.concatenate([each.codes.lengths for each in columns])), first.names
        )
    if isinstance(first, Text):
        return Text.from_list([text for each in columns for text in each.lists()])
    joined: Column = type(first)(np.concatenate([each.values for each in columns]))
    return joined


def _same(names: Strings, other: Strings) -> bool:
    return np.array_equal(names.data, other.data) and np.array_equal(names.offsets, other.offsets)
