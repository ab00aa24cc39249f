"""Columns of numbers and of any type, gathered batch by batch; a column's type is guessed from its values."""

import json

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foretaste.catalog import Categories, Category, Column, Number, Text, Time, Vector
from foretaste.events.columns import normal
from foretaste.events.identifiers import MISSING, NO_CODE, Dictionary, encode_integers, strings_of
from foretaste.events.times import TimeColumn, best_formats, text_times
from foretaste.ragged import PAD

__all__ = ["NumberColumn", "TypedColumn", "TypesChanged"]

MOST_CATEGORIES = 1000
# Names of categories such as <none> are no markup.
TAG = r"(?i)</?(?:p|br|b|i|u|a|div|span|ul|ol|li|strong|em|h[1-6]|table|tr|td|img|font)\b[^<>]*>"
ENTITY = r"&(?:#\d+|#x[0-9a-fA-F]+|\w+);"


class TypesChanged(Exception):
    """A column of numbers turned out to be text; the log must be read again with these columns as text."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NumberColumn:
    """Collects numbers; what cannot be read is NaN."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._chunks: list[NDArray[np.float64]] = []
        self._unread: list[NDArray[np.int64]] = []
        self._rows = 0

    def add(self, values: pl.Series) -> None:
        numbers = values.cast(pl.Float64, strict=False) if not values.dtype.is_nested() else _no_numbers(len(values))
        array = numbers.fill_null(np.nan).to_numpy()
        given = values.is_not_null().to_numpy()
        self._unread.append(np.flatnonzero(given & ~np.isfinite(array)) + self._rows)
        self._chunks.append(np.where(np.isfinite(array), array, np.nan))
        self._rows += len(values)

    def unread(self) -> NDArray[np.int64]:
        """The rows in which something stands that is no finite number."""
        return np.concatenate(self._unread) if self._unread else np.empty(0, np.int64)

    def numbers(self) -> NDArray[np.float64]:
        return np.concatenate(self._chunks) if self._chunks else np.empty(0)


class TypedColumn:
    """Collects a column of any type, and guesses what kind of column it is."""

    def __init__(self, name: str, *, text: bool = False, rows: int = 0) -> None:
        self.name = name
        self._text = text
        self._kind: str | None = None  # numbers, text, times, lists
        self._chunks: list[NDArray[np.float64] | NDArray[np.uint32] | NDArray[np.int64] | pl.Series] = []
        self._waiting = rows  # rows before the first value that is not null
        self._dictionary = Dictionary()

    def add(self, values: pl.Series) -> None:
        kind = self._kind or self._kind_of(values)
        if kind is None:
            self._waiting += len(values)
            return
        if self._kind is None:
            self._kind = kind
            if self._waiting:
                waiting, self._waiting = self._waiting, 0
                self.add(pl.Series(self.name, [None], values.dtype).new_from_index(0, waiting))
        self._chunks.append(self._chunk(values))

    def column(self, rows: NDArray[np.int64] | None) -> tuple[Column, str]:
        """The typed column and what it was taken for.

        Args:
            rows: The rows to keep, in this order; None: all as they are.
        """
        if self._kind is None:
            empty = Number(np.full(self._waiting if rows is None else len(rows), np.nan))
            return empty, "number (empty)"
        if self._kind == "lists":
            lists = pl.concat([each for each in self._chunks if isinstance(each, pl.Series)], how="vertical")
            return _of_lists(lists if rows is None else lists.gather(rows))
        whole = np.concatenate(self._chunks)
        self._chunks = []
        whole = whole if rows is None else whole[rows]
        if self._kind == "numbers":
            return Number(whole), "number"
        if self._kind == "times":
            return Time(whole), "time"
        return _of_texts(self.name, whole, self._dictionary)

    def as_written(self, rows: NDArray[np.int64], *, lists_of_names: bool = False) -> Column:
        """The same, but texts are texts, whatever they look like.

        Args:
            lists_of_names: Lists are of names, even where all are numbers and equally many.
        """
        if self._kind == "lists" and lists_of_names:
            lists = pl.concat([each for each in self._chunks if isinstance(each, pl.Series)], how="vertical")
            return _names_of(lists.gather(rows))
        if self._kind != "text":
            return self.column(rows)[0]
        codes = np.concatenate(self._chunks)[rows]
        return Text(strings_of(self._dictionary.texts(codes)))

    def _kind_of(self, values: pl.Series) -> str | None:
        given = values.drop_nulls()
        if not len(given):
            return None
        kind = values.dtype
        if kind.is_numeric():
            return "numbers"
        if kind.is_temporal() and kind not in (pl.Time, pl.Duration):
            return "times"
        if kind in (pl.List, pl.Array):
            return "lists"
        if kind == pl.String and not self._text and _read_numbers(given).null_count() == 0:
            return "numbers"
        return "text"

    def _chunk(self, values: pl.Series) -> NDArray[np.float64] | NDArray[np.uint32] | NDArray[np.int64] | pl.Series:
        if self._kind == "numbers":
            numbers = _read_numbers(values) if values.dtype == pl.String else values.cast(pl.Float64, strict=False)
            if numbers.null_count() > values.null_count():
                raise TypesChanged(self.name)
            return numbers.fill_null(np.nan).to_numpy()
        if self._kind == "times":
            times = TimeColumn(self.name)
            times.add(values)
            return times.milliseconds()
        if self._kind == "lists":
            return values
        if values.dtype.is_nested():
            values = pl.Series(self.name, [None if each is None else _json(each) for each in values.to_list()])
        return self._dictionary.codes(values.cast(pl.String, strict=False))


def _no_numbers(rows: int) -> pl.Series:
    return pl.Series([None], dtype=pl.Float64).new_from_index(0, rows)


def _read_numbers(texts: pl.Series) -> pl.Series:
    """The texts as numbers, null where one is none; the words for a missing value are NaN."""
    numbers = texts.cast(pl.Float64, strict=False)
    if numbers.null_count() == texts.null_count():
        return numbers
    return numbers.set(texts.is_in(MISSING).fill_null(False), np.nan)


def _json(value: object) -> str:
    value = value.to_list() if isinstance(value, pl.Series) else value
    return json.dumps(value, ensure_ascii=False, default=str)


def _of_lists(lists: pl.Series) -> tuple[Column, str]:
    """A column of lists: vectors if all are numbers of one length, else several categories."""
    inner = lists.explode()
    lengths = lists.cast(pl.List(inner.dtype)).list.len()
    if inner.dtype.is_numeric() and lengths.drop_nulls().n_unique() == 1 and (width := int(lengths.max() or 0)) > 1:  # type: ignore[arg-type]
        values = np.full((len(lists), width), np.nan, np.float32)
        given = lists.is_not_null().to_numpy()
        values[given] = lists.drop_nulls().explode().cast(pl.Float32).fill_null(np.nan).to_numpy().reshape(-1, width)
        return Vector(values), f"vector of {width}"
    return _names_of(lists), "categories"


def _names_of(lists: pl.Series) -> Categories:
    return Categories.from_lists([[str(each) for each in row or () if each is not None] for row in lists.to_list()])


def _of_texts(name: str, codes: NDArray[np.uint32], dictionary: Dictionary) -> tuple[Column, str]:
    """A column of texts, by what its distinct values look like."""
    missing = codes == NO_CODE
    distinct, place = encode_integers([codes[~missing]])
    row_of = np.full(len(codes), PAD, np.int32)
    row_of[~missing] = place
    texts = dictionary.texts(distinct)
    if not len(texts):
        return Text(strings_of(dictionary.texts(codes))), "text (empty)"
    formats = best_formats(texts.head(2000)) if _looks_like_dates(texts.head(20)) else None
    if formats is not None:
        return Time(text_times(texts, formats)).take(row_of), "time"
    lists = _json_lists(texts)
    if lists is not None:
        column, said = _of_lists(lists)
        return column.take(row_of), said
    counts = np.bincount(place, minlength=len(texts))
    separator = _separator(name, texts, counts)
    if separator is not None:
        parts = [[part.strip() for part in text.split(separator) if part.strip()] for text in texts]
        return Categories.from_lists(parts).take(row_of), f"categories, split by {separator!r}"
    if _is_category(name, texts, len(place)):
        order = texts.arg_sort().to_numpy()
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return Category(np.where(row_of == PAD, PAD, rank[row_of]), strings_of(texts.gather(order))), "category"
    return Text(strings_of(dictionary.texts(codes))), "text"


def _looks_like_dates(texts: pl.Series) -> bool:
    """A quick look, because trying all notations costs."""
    return bool(((texts.str.len_chars() <= 40) & texts.str.contains(r"\d")).all())


def _json_lists(texts: pl.Series) -> pl.Series | None:
    """Texts that are all JSON lists of numbers, or of texts, as lists."""
    if not texts.str.starts_with("[").all():
        return None
    try:
        rows = [json.loads(each) for each in texts]
        return pl.Series(rows, strict=True) if all(isinstance(row, list) for row in rows) else None
    except (ValueError, TypeError, RecursionError, pl.exceptions.PolarsError):
        return None


def _separator(name: str, texts: pl.Series, counts: NDArray[np.int64]) -> str | None:
    """What separates several categories in a text; None if nothing does."""
    if _is_prose(name) or texts.str.contains(TAG).any():
        return None
    # A semicolon that ends an entity, as in "Home &amp; Garden", separates nothing.
    for separator in "|," if texts.str.contains(ENTITY).any() else "|;,":
        holds = texts.str.contains(separator, literal=True)
        if counts[holds.to_numpy()].sum() < 0.1 * counts.sum() or len(texts) < 2:
            continue
        parts = texts.str.split(separator).explode().str.strip_chars()
        distinct = parts.n_unique()
        short = float(parts.str.len_chars().mean() or 0) <= 25 and int(parts.str.count_matches(" ").max() or 0) <= 4  # type: ignore[arg-type]
        if short and distinct <= max(MOST_CATEGORIES, len(texts) // 10) and distinct < 0.7 * len(parts):
            return separator
    return None


def _is_category(name: str, texts: pl.Series, rows: int) -> bool:
    if len(texts) > MOST_CATEGORIES or _is_prose(name) or texts.str.contains(TAG).any():
        return False
    if len(texts) <= 0.05 * rows:
        return True
    longest = int(texts.str.len_chars().max() or 0)  # type: ignore[arg-type]
    spaced = bool(texts.str.contains(" ", literal=True).any())
    return longest <= 40 and (len(texts) <= rows / 2 or not spaced)


def _is_prose(name: str) -> bool:
    words = ("title", "text", "description", "review", "summary", "comment", "plot", "overview", "name")
    return any(word in normal(name) for word in words)
