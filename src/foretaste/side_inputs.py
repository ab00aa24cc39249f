"""What stands beside the events, as numbers for a network: names and years of items, features of people."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.sparse import csr_matrix

from foretaste.catalog import NO_TIME, Categories, Category, Column, Number, Table, Text, Time
from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError, MissingData, UnknownName
from foretaste.ragged import PAD, Ragged
from foretaste.storage import part, prefixed
from foretaste.vocab import Strings, Vocab

__all__ = ["AGE_GROUPS", "ItemMetadata", "SideInputs", "Use", "UserColumns"]

# The groups of MovieLens 1M: the lowest age of each, and what it is called.
AGE_GROUPS = {0: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}

MOST_ITEM_NAMES = 5000
MOST_USER_NAMES = 1000
MOST_NUMBERS = 50  # different whole numbers: a column of more measures something, one of fewer is a code
LIKENESSES = 1 << 22  # between items, at a time
YEAR_MS = 365.2425 * 86_400_000
YEAR_IN_TITLE = re.compile(r".*\((\d{4})\)")  # greedy: the last one of "2001 (1968) (V)"


@dataclass(frozen=True, eq=False)
class ItemMetadata:
    """What is known of each item: names such as genres, and when it appeared within the span of the catalogue."""

    names: Sequence[str]  # of more than one column, as "column: name"
    codes: Ragged  # (items) index into names; empty = none known
    year: NDArray[np.float32]  # (items,) 0 = the first year of the span, 1 = the last; NaN = not known
    span: tuple[float, float] | None  # the first and the last year; None = no item has one
    columns: Sequence[str]  # that were read

    @classmethod
    def of(
        cls,
        table: Table,
        columns: Sequence[str] | None = None,
        year: str | None = None,
        *,
        met: NDArray[np.bool_] | None = None,
    ) -> Self | None:
        """What the columns of an item table tell.

        Args:
            met: (rows,) those by which is decided what to read: names that only others have, and years beyond those of
                the rest, mean nothing to whom learned from these. None: all.
            columns: Of names. None: all columns of names of which each is, on average, that of two items or more.
            year: A column of numbers, moments or titles that end as "Toy Story (1995)". None: a number whose name
                has "year" in it, else the first column of moments, else the first text in which half of the items
                have such an ending.

        Returns:
            None where the table tells neither.

        Raises:
            UnknownName: There is no such column.
            ConfigError: A named column is of another kind.
        """
        own = table if met is None else table.take(met)
        named = _name_columns(own, columns)
        years, said = _years(own, year)
        span = None if years is None or np.isnan(years).all() else (float(np.nanmin(years)), float(np.nanmax(years)))
        if not named and span is None:
            return None
        names, codes = _joined(named, table)
        relative = np.full(len(table), np.nan, np.float32)
        if said is not None and span is not None and (years := _as_years(table[said])) is not None:
            relative = ((years - span[0]) / max(span[1] - span[0], 1e-9)).astype(np.float32)
        return cls(names, codes, relative, span, [*named, *([said] if span is not None and said else [])])

    @property
    def known(self) -> NDArray[np.bool_]:
        """(items,) of which anything is known."""
        return (self.codes.lengths > 0) | ~np.isnan(self.year)

    def alike(
        self, asked: NDArray[np.integer], among: NDArray[np.integer], count: int = 20
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """For each item asked those most like it, by the cosine of their names.

        Returns:
            (asked, count) items from ``among``, and their shares of the likeness, which add up to 1; the shares are all
            0 where no name is in common. Of items equally alike the earlier ones of ``among`` are taken.
        """
        count = min(count, len(among))
        ones = np.ones(len(self.codes.values), np.float32)
        has = csr_matrix((ones, self.codes.values.copy(), self.codes.offsets), (len(self.codes), len(self.names)))
        has.sum_duplicates()
        has.data[:] = 1
        lengths = np.sqrt(has.getnnz(axis=1)).clip(1)
        found, shares = np.zeros((len(asked), count), np.int64), np.zeros((len(asked), count), np.float32)
        size = max(1, LIKENESSES // max(1, len(among)))
        for start in range(0, len(asked), size):
            rows = asked[start : start + size]
            likeness = (has[rows] @ has[among].T).toarray() / lengths[None, among]
            best = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
            nearest = np.take_along_axis(likeness, best, 1)
            found[start : start + size] = among[best]
            shares[start : start + size] = nearest / nearest.sum(1, keepdims=True).clip(1e-12)
        return found, shares


@dataclass(frozen=True, eq=False)
class UserColumns:
    """The columns of a table of people that a model has learned to read, and the names in each."""

    names: Mapping[str, Sequence[str]]  # column -> names, in the order of their codes

    @classmethod
    def of(cls, table: Table, columns: Sequence[str] | None = None) -> Self:
        """The columns to read.

        Args:
            columns: Of names, ages or codes. None: all of which each name is, on average, that of two people or more.

        Raises:
            UnknownName: There is no such column.
            ConfigError: A named column is of another kind.
        """
        found: dict[str, Sequence[str]] = {}
        for called in table if columns is None else columns:
            coded = _coded(called, table[called])
            if columns is not None and coded is None:
                raise ConfigError(
                    f"user_columns: {called!r} is a column of {table[called].kind}; names, ages and codes can be read."
                )
            if coded is not None and (columns is not None or _tells(coded[0], len(coded[1]), MOST_USER_NAMES)):
                found[called] = coded[1]
        return cls(found)

    @classmethod
    def needed(cls, data: Dataset, setting: str, columns: Sequence[str] | None = None, otherwise: str = "") -> Self:
        """The columns to read of the people of a log, because a setting asks for them.

        Args:
            otherwise: What else can be done than to leave the setting out.

        Raises:
            MissingData: There is nothing to read.
        """
        people = Table(0) if data.catalog is None else data.catalog.users
        found = cls.of(people, columns)
        if not len(found):
            raise MissingData(
                f"{setting}: no column of the users of {data.name} groups them: {', '.join(people) or 'none'}. "
                f"{otherwise or 'Leave it out.'}"
            )
        return found

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, table: Table | None, rows: int) -> NDArray[np.int64]:
        """(rows, columns) what a table of people tells, in the codes of this model; PAD = missing, or never met.

        Args:
            table: May lack columns, have others, and have other names in them. None: nothing is known.
        """
        found = np.full((rows, len(self)), PAD, np.int64)
        for place, (called, names) in enumerate(self.names.items()):
            coded = None if table is None or called not in table else _coded(called, table[called])
            if coded is None or not coded[1]:
                continue
            code_of = {name: code for code, name in enumerate(names)}
            own = np.array([code_of.get(name, PAD) for name in coded[1]])
            found[:, place] = np.where(coded[0] == PAD, PAD, own[coded[0]])
        return found

    def told(self, codes: NDArray[np.integer]) -> dict[str, str | None]:
        """The names of one row of codes by column; a column of ages is called age_group."""
        return {
            "age_group" if _is_age(called) else called: None if code == PAD else names[code]
            for (called, names), code in zip(self.names.items(), codes.tolist(), strict=True)
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to store."""
        arrays = prefixed("columns", _string_arrays(list(self.names)))
        for place, names in enumerate(self.names.values()):
            arrays |= prefixed(f"names{place}", _string_arrays(names))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        columns = _strings(part(arrays, "columns"))
        return cls({called: _strings(part(arrays, f"names{place}")) for place, called in enumerate(columns)})


class Use(BaseModel):
    """Which side inputs a model reads; None: where the data has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_metadata: bool | None = None
    """Names of items, such as genres, and years. They are also all that is known of items never met."""
    user_features: bool | None = None
    """Names, codes and ages of people."""
    user_embedding: bool | None = None
    """A vector for each user of training."""
    times: bool | None = None
    """The day of the year of each event, and how much time lies between two."""
    ratings: bool | None = None
    """What events were valued at: read of those before, and predicted."""

    @property
    def required(self) -> Needs:
        """What must be there because it was asked for."""
        return Needs.wanted(
            {
                Needs.ITEM_FEATURES: self.item_metadata,
                Needs.USER_FEATURES: self.user_features,
                Needs.TIMES: self.times,
                Needs.VALUES: self.ratings,
            }
        )


@dataclass(frozen=True, eq=False)
class SideInputs:
    """What a model has learned to read of people and beside events; it is kept with the model."""

    times: bool
    ratings: bool
    columns: UserColumns  # of people; none where their features are not read
    users: Vocab | None  # who may have a vector of their own; None = nobody has
    met: NDArray[np.bool_]  # (users,) from whom training learned, so that the vector is worth something

    @classmethod
    def nothing(cls) -> Self:
        return cls(False, False, UserColumns({}), None, np.zeros(0, bool))

    @classmethod
    def of(cls, data: Dataset, use: Use, user_columns: Sequence[str] | None = None) -> Self:
        """What the data has of what is wanted.

        Raises:
            MissingData: ``use`` asks for something in which there is nothing to read.
            UnknownName: There is no such column of users.
            ConfigError: A named column is of another kind.
        """
        columns = UserColumns({})
        if use.user_features:
            otherwise = "Name some in user_columns, or leave it out."
            columns = UserColumns.needed(data, "use.user_features", user_columns, otherwise)
        elif use.user_features is None:
            columns = UserColumns.of(Table(0) if data.catalog is None else data.catalog.users, user_columns)
        valued = data.value is not None and bool(np.isfinite(data.value).any())
        if use.ratings and not valued:
            raise MissingData(f"use.ratings: no event of {data.name} has a value. Leave it out.")
        wanted = use.user_embedding is not False
        return cls(
            use.times is not False and data.time is not None,
            use.ratings is not False and valued,
            columns,
            data.users if wanted else None,
            np.diff(data.offsets) > 1 if wanted else np.zeros(0, bool),  # nothing is learned from a single event
        )

    def own_users(self, asked: Vocab | None, user: NDArray[np.integer] | None, rows: int) -> NDArray[np.int32]:
        """(rows,) the users in the numbers of training; PAD = not met there, or nobody known.

        Args:
            asked: The vocabulary of ``user``; None: that of training.
        """
        if self.users is None or user is None:
            return np.full(rows, PAD, np.int32)
        own = self.users.renumbered(user, asked)
        return np.where((own != PAD) & self.met[own], own, PAD).astype(np.int32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to store."""
        return {
            "times_and_ratings": np.array([self.times, self.ratings]),
            "met": self.met,
            **prefixed("columns", self.columns.arrays()),
            **({} if self.users is None else prefixed("users", self.users.arrays())),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        users = part(arrays, "users")
        return cls(
            bool(arrays["times_and_ratings"][0]),
            bool(arrays["times_and_ratings"][1]),
            UserColumns.from_arrays(part(arrays, "columns")),
            Vocab.from_arrays(users) if users else None,
            arrays["met"],
        )


def _name_columns(table: Table, columns: Sequence[str] | None) -> dict[str, Category | Categories]:
    chosen = {}
    for called in table if columns is None else columns:
        column = table[called]
        if isinstance(column, (Category, Categories)):
            codes = column.codes.values if isinstance(column, Categories) else column.codes
            if columns is not None or _tells(codes, len(np.unique(codes[codes != PAD])), MOST_ITEM_NAMES):
                chosen[called] = column
        elif columns is not None:
            raise ConfigError(f"item_columns: {called!r} is a column of {column.kind}, and not of names.")
    return chosen


def _joined(columns: Mapping[str, Category | Categories], table: Table) -> tuple[list[str], Ragged]:
    """The names that stand in these columns, and for each row of the table the codes of all that it has of them."""
    names: list[str] = []
    row, code = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for called, column in columns.items():
        here = np.unique(_rows_and_codes(column)[1])
        number = np.full(len(column.names), PAD, np.int64)
        number[here] = len(names) + np.arange(len(here))
        there, codes = _rows_and_codes(table[called])  # type: ignore[arg-type]
        known = number[codes] != PAD
        row.append(there[known])
        code.append(number[codes][known])
        said = column.names.take(here).lists()
        names += [name if len(columns) == 1 else f"{called}: {name}" for name in said]
    return names, Ragged.from_rows(np.concatenate(row), np.concatenate(code), len(table))


def _rows_and_codes(column: Category | Categories) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The rows that have a name, and the codes of the names, pair by pair."""
    if isinstance(column, Category):
        return np.flatnonzero(column.codes != PAD), column.codes[column.codes != PAD]
    return column.codes.row_of_value(), column.codes.values


def _years(table: Table, called: str | None) -> tuple[NDArray[np.float64] | None, str | None]:
    """(rows,) when each item appeared, in years, NaN = not known; and the column that says so."""
    if called is not None:
        if called not in table:
            raise UnknownName("column", called, table)
        years = _as_years(table[called])
        if years is None:
            raise ConfigError(
                f"year_column: {called!r} is a column of {table[called].kind}; no year can be read off it."
            )
        return years, called
    numbers = [name for name in table.of_kind("number") if "year" in name.lower()]
    titles = [name for name, column in table.of_kind("text").items() if _mostly(_as_years(column))]
    for name in [*numbers, *table.of_kind("time"), *titles]:
        return _as_years(table[name]), name
    return None, None


def _as_years(column: Column) -> NDArray[np.float64] | None:
    if isinstance(column, Number):
        return column.values.astype(np.float64)
    if isinstance(column, Time):
        return np.where(column.values == NO_TIME, np.nan, 1970 + column.values / YEAR_MS)
    if isinstance(column, Text):
        found = [YEAR_IN_TITLE.match(title) for title in column.lists()]
        return np.array([np.nan if each is None else float(each[1]) for each in found])
    return None


def _mostly(years: NDArray[np.float64] | None) -> bool:
    return years is not None and len(years) > 0 and bool(np.isnan(years).mean() < 0.5)


def _coded(called: str, column: Column) -> tuple[NDArray[np.integer], list[str]] | None:
    """(rows,) codes, PAD = missing, and their names; None where the column is no matter of names."""
    if isinstance(column, Category):
        return column.codes, column.names.lists()
    if not isinstance(column, Number):
        return None
    missing = np.isnan(column.values)
    if _is_age(called):
        group = np.searchsorted(list(AGE_GROUPS), np.nan_to_num(column.values).clip(0), side="right") - 1
        return np.where(missing, PAD, group), list(AGE_GROUPS.values())
    distinct = np.unique(column.values[~missing])
    if len(distinct) > MOST_NUMBERS or (distinct != np.round(distinct)).any():
        return None
    return np.where(missing, PAD, np.searchsorted(distinct, column.values)), [f"{each:.0f}" for each in distinct]


def _is_age(called: str) -> bool:
    return "age" in re.split(r"[^a-z]+", called.lower())


def _tells(codes: NDArray[np.integer], names: int, most: int) -> bool:
    """Do the names of a column group those who have one, or does nearly everybody have a name of their own?"""
    return 0 < names <= most and 2 * len(np.unique(codes[codes != PAD])) <= int((codes != PAD).sum())


def _string_arrays(strings: Sequence[str]) -> dict[str, NDArray[Any]]:
    packed = Strings.from_list(strings)
    return {"data": packed.data, "offsets": packed.offsets}


def _strings(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    return Strings(arrays["data"], arrays["offsets"]).lists()
