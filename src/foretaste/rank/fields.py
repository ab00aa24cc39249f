"""The features of a ranker with what training taught about reading them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Categories, Category, Column, Number, Table, Text, Time, Vector
from foretaste.errors import ConfigError, MissingData
from foretaste.new_items import names_in_texts, read_like
from foretaste.ragged import Ragged
from foretaste.rank.examples import LEVELS, Examples, Level
from foretaste.rank.features import Feature, FeatureKind, Groups
from foretaste.rank.reading import BasisReader, NamesReader, TokensReader, as_category
from foretaste.run import Log, silent
from foretaste.storage import part, prefixed
from foretaste.text_encoder import TextEncoder

__all__ = ["Field", "Fields"]

SEVERAL: tuple[FeatureKind, ...] = ("categories", "sequence")
BY_NAMES: tuple[FeatureKind, ...] = ("category", *SEVERAL)


@dataclass(frozen=True)
class Field:
    """A feature, where it stands, and how it is read."""

    feature: Feature  # its kind is told
    group: str
    level: Level
    reader: NamesReader | BasisReader | TokensReader

    @classmethod
    def of(cls, feature: Feature, group: str, examples: Examples, log: Log) -> Self:
        """What the examples tell of a feature.

        Raises:
            ConfigError: The column cannot be read as the feature says.
        """
        level = examples.level_of(feature.column)
        feature = feature.told(examples)
        if feature.answered_as is not None:
            _readable(feature, _same(feature.answered_as, 1), log)  # what cannot be read is said now
        column = _readable(feature, examples.column(feature.column), log)
        if feature.unfrozen_layers:
            return cls(feature, group, level, TokensReader(feature))
        rows = examples.rows(level)
        table_rows = len(examples.tables()[level])
        counts = np.ones(table_rows, np.int64) if rows is None else np.bincount(rows[rows >= 0], minlength=table_rows)
        if isinstance(column, Category | Categories):
            return cls(feature, group, level, NamesReader.of(feature, column.names, _name_counts(column, counts)))
        return cls(feature, group, level, BasisReader.of(feature, cast("Number | Time | Vector", column), counts))

    @property
    def name(self) -> str:
        return self.feature.column

    @property
    def kind(self) -> FeatureKind:
        return cast("FeatureKind", self.feature.kind)

    def is_plain_in(self, table: Table) -> bool:
        """Whether it is a number that is only standardised, so that many such can be read at once."""
        standard = isinstance(self.reader, BasisReader) and self.reader.kind == "standard"
        return standard and self.name in table and isinstance(table[self.name], Number)

    @property
    def fixed(self) -> bool:
        """Whether all examples get the same, whatever they have, when chances are asked for."""
        return self.feature.answered_as is not None

    def read(self, table: Table, *, answering: bool, log: Log = silent) -> NDArray[Any] | Ragged:
        """What a table tells, with a row behind its own in which nothing is known.

        (rows + 1,) codes of a category, (rows + 1) codes of categories and sequences, (rows + 1, width) of all others.

        Args:
            answering: Take what the feature is ``answered_as`` for all rows.
        """
        there = np.append(np.arange(len(table)), -1)
        if answering and self.feature.answered_as is not None:
            column = _readable(self.feature, _same(self.feature.answered_as, len(there)), log)
        elif self.name in table and not _empty(table[self.name]):
            column = _readable(self.feature, self._as_in_training(table[self.name]).take(there), log)
        else:
            return self._nothing(len(there))
        if isinstance(self.reader, BasisReader):
            return self.reader.read(cast("Number | Time | Vector", column))
        if isinstance(self.reader, TokensReader):
            return self.reader.read(cast("Text | Category", column))
        if isinstance(column, Category):
            return self.reader.read(column)
        codes = self.reader.read_rows(cast("Categories", column))
        return codes.last(self.feature.length) if self.kind == "sequence" else codes

    def _as_in_training(self, column: Column) -> Column:
        """The column, as one of the kind that training had: a few rows do not always show of what kind they are."""
        match self.kind:
            case "categories" | "sequence":
                names = cast("NamesReader", self.reader).names
                return read_like(Categories(Ragged.empty(0), names), column, self.name)
            case "number":
                return read_like(Number(np.empty(0)), column, self.name)
            case "text":
                return read_like(Text.from_list([]), column, self.name)
        return column

    def _nothing(self, rows: int) -> NDArray[Any] | Ragged:
        if isinstance(self.reader, BasisReader):
            found = np.zeros((rows, self.reader.width), np.float32)
            found[:, -1] = 1
            return found
        return np.zeros(rows, np.int64) if self.kind == "category" else Ragged.empty(rows, np.int64)


@dataclass(frozen=True, eq=False)
class Fields:
    """All features of a ranker, in the order of their declaration."""

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, examples: Examples, groups: Groups, log: Log = silent) -> Self:
        """What the examples tell of the features that are declared.

        Raises:
            MissingData: Columns are not there; all of them are named.
            ConfigError: A column cannot be read as its feature says, or stands in the groups twice.
        """
        declared = [(group, feature) for group, features in groups.items() for feature in features]
        names = [feature.column for _, feature in declared]
        there = {name for table in examples.tables().values() for name in table}
        if lacking := [name for name in names if name not in there]:
            raise MissingData(
                f"The examples lack the columns {', '.join(lacking)}; they have {', '.join(sorted(there)) or 'none'}. "
                "Correct the names, or leave these out of the groups."
            )
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"A column is read once; these stand in the groups more often: {', '.join(repeated)}.")
        if not declared:
            raise MissingData("The examples have no column to learn from.")
        return cls(tuple(Field.of(feature, group, examples, log) for group, feature in declared))

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def of_kind(self, *kinds: FeatureKind) -> list[Field]:
        return [field for field in self.fields if field.kind in kinds]

    def by_width(self) -> dict[int, list[Field]]:
        """The features that are read by functions, by how many functions."""
        return self._by_width

    @cached_property
    def _by_width(self) -> dict[int, list[Field]]:
        found: dict[int, list[Field]] = {}
        for field in self.fields:
            if isinstance(field.reader, BasisReader):
                found.setdefault(field.reader.width, []).append(field)
        return found

    def parts(self) -> list[list[Field]]:
        """The features as a network holds them: all by name, those by functions of each width, each of several names.

        Within a part by table.
        """
        return [
            _by_table(self.of_kind("category")),
            *(_by_table(among) for among in self.by_width().values()),
            *([field] for field in self.of_rows()),
        ]

    def of_rows(self) -> list[Field]:
        """The features that are several codes: names, or tokens."""
        return [field for field in self.fields if field.kind in SEVERAL or isinstance(field.reader, TokensReader)]

    def lacking(self, examples: Examples) -> list[str]:
        """The columns that these examples do not have, so that nothing is known there."""
        tables = examples.tables()
        return [
            field.name
            for field in self.fields
            if field.name not in tables[field.level] and field.feature.answered_as is None
        ]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to store; with ``schema()`` they rebuild these."""
        found: dict[str, NDArray[Any]] = {}
        for place, field in enumerate(self.fields):
            found |= prefixed(str(place), field.reader.arrays())
        return found

    def schema(self) -> list[dict[str, Any]]:
        return [
            {"group": field.group, "level": field.level, "feature": field.feature.model_dump(mode="json")}
            for field in self.fields
        ]

    @classmethod
    def from_arrays(cls, schema: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> Self:
        found = []
        for place, told in enumerate(schema):
            feature, own = Feature(**told["feature"]), part(arrays, str(place))
            reader: NamesReader | BasisReader | TokensReader
            if feature.unfrozen_layers:
                reader = TokensReader(feature)
            else:
                reader = (NamesReader if feature.kind in BY_NAMES else BasisReader).from_arrays(own)
            found.append(Field(feature, told["group"], told["level"], reader))
        return cls(tuple(found))


def _by_table(fields: Sequence[Field]) -> list[Field]:
    return sorted(fields, key=lambda field: LEVELS.index(field.level))


def _readable(feature: Feature, column: Column, log: Log) -> Column:
    """A column as what its feature reads: names, rows of names, numbers, times, vectors, or texts to be encoded later.

    Raises:
        ConfigError: It is of another kind.
    """
    found: Column | None = None
    match feature.kind:
        case "category":
            found = as_category(column)
        case "categories" | "sequence":
            found = _names_of_rows(column)
        case "number":
            found = column if isinstance(column, Number) else None
        case "time":
            found = _times_in_texts(column) if isinstance(column, Text | Category) else column
            found = found if isinstance(found, Time) else None
        case "vector":
            found = column if isinstance(column, Vector) else None
        case "text":
            if isinstance(column, Text | Category) and feature.unfrozen_layers:
                found = column
            elif isinstance(column, Text | Category):
                texts = [text or "" for text in column.lists()]
                found = Vector(TextEncoder(feature.encoder, pooling=feature.pooling).encode(texts, log))
    if found is None:
        raise ConfigError(f"{feature.column!r} is a column of {column.kind}, which cannot be read as {feature.kind}.")
    return found


def _names_of_rows(column: Column) -> Categories | None:
    """A column of lists of names, of texts that hold some, or of single names, as one of lists; None of any other."""
    if isinstance(column, Categories):
        return column
    if isinstance(column, Text):
        return names_in_texts([text or None for text in column.lists()])
    single = as_category(column)
    return (
        None if single is None else Categories.from_lists([[] if each is None else [each] for each in single.lists()])
    )


def _times_in_texts(column: Text | Category) -> Time:
    """The times that texts tell; what cannot be read as one is missing."""
    import polars as pl

    from foretaste.events.times import best_formats, text_times

    texts = pl.Series([text or None for text in column.lists()], dtype=pl.String)
    formats = best_formats(texts.drop_nulls()) if texts.null_count() < len(texts) else None
    return Time(np.full(len(texts), NO_TIME) if formats is None else text_times(texts, formats))


def _empty(column: Column) -> bool:
    """Whether nothing stands in a column at all, so that nobody could tell of what kind it is."""
    if isinstance(column, Number):
        return bool(np.isnan(column.values).all())
    return isinstance(column, Text) and len(column.texts.data) == 0


def _name_counts(column: Category | Categories, counts: NDArray[np.int64]) -> NDArray[np.number]:
    """(names,) how many examples have each, where so many have each row."""
    if isinstance(column, Category):
        known = column.codes >= 0
        return np.bincount(column.codes[known], weights=counts[known], minlength=len(column.names))
    weights = np.repeat(counts, column.codes.lengths)
    return np.bincount(column.codes.values, weights=weights, minlength=len(column.names))


def _same(value: float | str, rows: int) -> Column:
    if isinstance(value, str):
        return replace(Category.from_list([value]), codes=np.zeros(rows, np.int32))
    return Number(np.full(rows, float(value)))
