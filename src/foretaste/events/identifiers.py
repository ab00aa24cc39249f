"""Identifiers of a log, gathered batch by batch: a vocabulary and indices, integers where all of them are."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foretaste.errors import DataError
from foretaste.ragged import PAD
from foretaste.vocab import Strings, Vocab

__all__ = ["MISSING", "NO_CODE", "Dictionary", "IdColumn", "encode_integers", "strings_of"]

# Texts that mean "nothing" where an identifier or a kind should stand.
MISSING = ("", "null", "NULL", "Null", "nan", "NaN", "NAN", "None", "none", "\\N", "<NA>", "N/A", "n/a")
NO_CODE = np.iinfo(np.uint32).max


class IdColumn:
    """Collects identifiers, and turns them into a vocabulary and indices. No identifier is held more than once.

    They become integers if every one is a plain 64-bit integer whose text is written as the integer is
    ('007' is not 7), else text, all of them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[tuple[str, int, str]] = []  # code, count, example
        self._chunks: list[NDArray[np.int64] | NDArray[np.uint32]] = []
        self._nulls: list[NDArray[np.int64]] = []
        self._rows = 0
        self._dictionary = Dictionary()

    def add(self, values: pl.Series) -> None:
        values = self._simple(values)
        if values.dtype == pl.String:
            self._chunks.append(self._dictionary.codes(values))
        else:
            self._nulls.append(np.flatnonzero(values.is_null().to_numpy()) + self._rows)
            self._chunks.append(values.fill_null(0).to_numpy())
        self._rows += len(values)

    def missing(self) -> NDArray[np.bool_]:
        """(rows,) where there is no identifier."""
        out = np.zeros(self._rows, np.bool_)
        words = self._dictionary.words
        at = 0
        for chunk in self._chunks:
            if chunk.dtype == np.uint32:
                out[at : at + len(chunk)] = np.isin(chunk, words)
            at += len(chunk)
        for rows in self._nulls:
            out[rows] = True
        return out

    def distinct(self) -> int:
        """How many different identifiers there are; an upper bound while integers and text are mixed."""
        texts = [chunk for chunk in self._chunks if chunk.dtype == np.uint32]
        whole = [chunk for chunk in self._chunks if chunk.dtype != np.uint32]
        return len(_distinct(texts)) + len(_distinct(whole))

    def encode(self, keep: NDArray[np.bool_] | None) -> tuple[Vocab, NDArray[np.int32]]:
        """The vocabulary in ascending order, and the index of each kept row. The column is used up.

        Args:
            keep: (rows,) which rows stay; None: all. None of them may be missing.
        """
        chunks, self._chunks = self._chunks, []
        if keep is not None:
            ends = np.cumsum([len(chunk) for chunk in chunks])[:-1]
            chunks = [chunk[kept] for chunk, kept in zip(chunks, np.split(keep, ends) if chunks else [], strict=True)]
        if any(chunk.dtype == np.uint32 for chunk in chunks):
            return self._encode_text([self._as_codes(chunk) for chunk in chunks])
        distinct, index = encode_integers(chunks)
        return Vocab(distinct), index

    def _simple(self, values: pl.Series) -> pl.Series:
        """The values as 64-bit integers if all can be, else as text."""
        kind = values.dtype
        if kind.is_nested():
            raise DataError(f"Column {self.name!r} holds {kind}, which identifies nothing. Name another column.")
        if kind == pl.Null:
            return values.cast(pl.Int64)
        if kind.is_float():
            values = values.fill_nan(None)
            whole = values.cast(pl.Int64, strict=False)
            return whole if (whole.cast(kind) == values).all() else values.cast(pl.String)
        if kind.is_integer():
            whole = values.cast(pl.Int64, strict=False)
            return whole if whole.null_count() == values.null_count() else values.cast(pl.String)
        if kind == pl.Binary:
            return values.cast(pl.String, strict=False)
        if kind != pl.String:
            return values.cast(pl.String)
        return self._integers_of_text(values)

    def _integers_of_text(self, texts: pl.Series) -> pl.Series:
        if not _plain_integers(texts.head(1000).drop_nulls()).all():
            return texts
        whole = texts.cast(pl.Int64, strict=False)
        unread = texts.filter(whole.is_null() & texts.is_not_null())
        same = (whole.cast(pl.String) == texts).all()
        return whole if same and unread.is_in(MISSING).all() else texts

    def _as_codes(self, chunk: NDArray[np.int64] | NDArray[np.uint32]) -> NDArray[np.uint32]:
        if chunk.dtype == np.uint32:
            return chunk  # type: ignore[return-value]
        return self._dictionary.codes(pl.Series(chunk).cast(pl.String))

    def _encode_text(self, chunks: list[NDArray[np.uint32]]) -> tuple[Vocab, NDArray[np.int32]]:
        present = np.zeros(max((int(chunk.max(initial=0)) for chunk in chunks), default=0) + 1, np.bool_)
        for chunk in chunks:
            present[chunk] = True
        codes = np.flatnonzero(present).astype(np.uint32)
        texts = self._whole(self._dictionary.texts(codes))
        plain = _plain_integers(texts)
        if len(texts) and plain.all():
            distinct, place = np.unique(texts.cast(pl.Int64).to_numpy(), return_inverse=True)
            vocab = Vocab(distinct)
        else:
            order = texts.arg_sort().to_numpy()
            vocab = Vocab(strings_of(texts.gather(order)))
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order))
            self._note(texts, plain)
        index_of = np.full(len(present), PAD, np.int32)
        index_of[codes] = place
        return vocab, _gathered(chunks, lambda chunk: index_of[chunk])

    def _whole(self, texts: pl.Series) -> pl.Series:
        """Whole numbers without the '.0' that some writers give them where others are missing."""
        decimal = texts.str.contains(r"^-?\d+\.0+$")
        stripped = texts.str.replace(r"\.0+$", "")
        if not decimal.any() or not _plain_integers(stripped).all():
            return texts
        self.notes.append(("F017", int(decimal.sum()), repr(texts.filter(decimal)[0])))
        return stripped

    def _note(self, texts: pl.Series, plain: pl.Series) -> None:
        others = texts.filter(~plain)
        if 0 < len(others) < len(texts) / 2:
            self.notes.append(("E009", len(others), repr(others[0])))
        spaced = texts.filter(texts.str.strip_chars() != texts)
        if len(spaced):
            self.notes.append(("E010", len(spaced), repr(spaced[0])))


class Dictionary:
    """A number for each distinct text, the same in every batch."""

    def __init__(self) -> None:
        self._type = pl.Categorical(pl.Categories.random())
        # The categories live as long as a series of them does; this one keeps them.
        self._words = pl.Series(MISSING).cast(self._type)
        self.words: NDArray[np.uint32] = np.append(self._words.to_physical().to_numpy(), NO_CODE).astype(np.uint32)

    def codes(self, texts: pl.Series) -> NDArray[np.uint32]:
        """(rows,) NO_CODE for null."""
        return texts.cast(self._type).to_physical().cast(pl.UInt32).fill_null(NO_CODE).to_numpy()

    def texts(self, codes: NDArray[np.integer]) -> pl.Series:
        """The texts of the given numbers; null for NO_CODE."""
        numbers = pl.Series(codes.astype(np.uint32))
        numbers = numbers.set(numbers == NO_CODE, None) if len(codes) and codes.max() == NO_CODE else numbers
        return numbers.cat.to(self._type).cast(pl.String)


def encode_integers(chunks: Sequence[NDArray[np.integer]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The distinct integers in ascending order, and the place among them of each."""
    rows = sum(len(chunk) for chunk in chunks)
    filled = [chunk for chunk in chunks if len(chunk)]
    if not filled:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    low = min(int(chunk.min()) for chunk in filled)
    high = max(int(chunk.max()) for chunk in filled)
    if high - low < max(4 * rows, 1 << 16):
        present = np.zeros(high - low + 1, np.bool_)
        for chunk in filled:
            present[chunk - low] = True
        distinct = np.flatnonzero(present).astype(np.int64)
        index_of = np.zeros(len(present), np.int32)
        index_of[distinct] = np.arange(len(distinct), dtype=np.int32)
        return distinct + low, _gathered(filled, lambda chunk: index_of[chunk - low])
    distinct = _distinct(filled)
    return distinct, _gathered(filled, lambda chunk: np.searchsorted(distinct, chunk).astype(np.int32))


def strings_of(texts: pl.Series) -> Strings:
    """Texts as one array of bytes; null becomes the empty text."""
    import pyarrow as pa

    array = texts.fill_null("").rechunk().to_arrow().cast(pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    if not len(array):
        return Strings(np.empty(0, np.uint8), np.zeros(1, np.int64))
    return Strings(raw[ends[0] : ends[-1]].copy(), ends - ends[0])


def _distinct(chunks: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    known, waiting, size = np.empty(0, np.int64), [], 0
    for chunk in chunks:
        waiting.append(np.unique(chunk))
        size += len(waiting[-1])
        if size > max(len(known), 1 << 20):
            known, waiting, size = np.unique(np.concatenate([known, *waiting])), [], 0
    return np.unique(np.concatenate([known, *waiting]))


def _gathered(chunks: Sequence[NDArray[Any]], encode: Callable[[NDArray[Any]], NDArray[np.int32]]) -> NDArray[np.int32]:
    out = np.empty(sum(len(chunk) for chunk in chunks), np.int32)
    at = 0
    for chunk in chunks:
        out[at : at + len(chunk)] = encode(chunk)
        at += len(chunk)
    return out


def _plain_integers(texts: pl.Series) -> pl.Series:
    """Which texts are 64-bit integers, written as such."""
    return (texts.cast(pl.Int64, strict=False).cast(pl.String) == texts).fill_null(False)
