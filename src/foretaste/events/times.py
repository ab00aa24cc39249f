"""Columns of times, in whatever unit or notation, as milliseconds since 1970 UTC."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME
from foretaste.errors import DataError, UnknownName
from foretaste.events.identifiers import NO_CODE, Dictionary, encode_integers

__all__ = ["TimeColumn", "TimeUnit", "text_times"]

TimeUnit = Literal["s", "ms", "us", "ns"]

UNITS: dict[TimeUnit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SMALLEST: dict[TimeUnit, float] = {"ns": 1e17, "us": 1e14, "ms": 1e11}  # seconds reach 1e11 in the year 5138
FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999, in milliseconds

# Tried in this order; of two that read equally many values the first is taken.
ISO = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%+",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f %Z",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
OTHERS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%m %d, %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
)
SAMPLE = 2000


class TimeColumn:
    """Collects a column of times; the unit or notation is guessed once and said by ``guess``."""

    def __init__(self, name: str, unit: TimeUnit | None = None) -> None:
        if unit is not None and unit not in UNITS:
            raise UnknownName("unit of times", unit, UNITS)
        self.name = name
        self.unit = unit
        self.guess = ""
        self._formats: tuple[str, ...] | None = None
        # Dates in other notations wait as text until all are seen: '3/4/2020' alone tells no day from a month.
        self._dates: list[NDArray[np.uint32]] | None = None
        self._dictionary = Dictionary()
        self._chunks: list[tuple[bool, NDArray[np.int64] | NDArray[np.float64]]] = []  # (already milliseconds?, …)

    def add(self, values: pl.Series) -> None:
        if values.dtype == pl.String:
            self._add_text(values)
        elif values.dtype.is_temporal() and values.dtype not in (pl.Time, pl.Duration):
            times = values.cast(pl.Datetime("ms")).to_physical()
            self._chunks.append((True, times.fill_null(NO_TIME).to_numpy()))
            self.guess = self.guess or "dates"
        elif values.dtype.is_numeric() or values.dtype == pl.Null:
            self._add_numbers(values)
        else:
            raise DataError(f"Column {self.name!r} holds {values.dtype}, no times. Name the column of times.")

    def milliseconds(self) -> NDArray[np.int64]:
        """(rows,) the times; NO_TIME where there is none that can be read."""
        if self._dates is not None:
            self._chunks = [(True, self._read_dates(np.concatenate(self._dates)))]
            self._dates = None
        numbers = [chunk for ready, chunk in self._chunks if not ready]
        per_second = self._per_second(numbers)
        # Chunk by chunk, so that a long column is not held twice.
        out = np.empty(sum(len(chunk) for _, chunk in self._chunks), np.int64)
        at = 0
        for number, (ready, chunk) in enumerate(self._chunks):
            out[at : at + len(chunk)] = _in_range(chunk) if ready else _scaled(chunk, per_second)
            at += len(chunk)
            self._chunks[number] = (True, np.empty(0, np.int64))
        self._chunks = [(True, out)]
        return out

    def _add_numbers(self, values: pl.Series) -> None:
        if values.dtype.is_float():
            self._chunks.append((False, values.cast(pl.Float64).fill_null(np.nan).to_numpy()))
        else:
            whole = values.cast(pl.Int64, strict=False).fill_null(NO_TIME)
            self._chunks.append((False, whole.to_numpy()))

    def _add_text(self, values: pl.Series) -> None:
        if self._formats is None:
            self._formats = self._guess_formats(values)
        if self._dates is not None:
            self._dates.append(self._dictionary.codes(values))
            return
        if self._formats:
            self._chunks.append((True, text_times(values, self._formats)))
            return
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() > values.null_count():
            self._add_numbers(values.cast(pl.Float64, strict=False))
        else:
            self._add_numbers(whole)

    def _guess_formats(self, values: pl.Series) -> tuple[str, ...] | None:
        """Formats to try one after the other; none for numbers, None if there was nothing to see."""
        sample = values.drop_nulls().head(SAMPLE)
        if not len(sample):
            return None
        if sample.cast(pl.Float64, strict=False).count() >= len(sample) / 2:
            return ()
        formats = best_formats(sample)
        if formats is None:
            raise DataError(
                f"Column {self.name!r} has no times that can be read, such as {sample[0]!r}. "
                "Give seconds or milliseconds since 1970 or ISO text, or name another column of times."
            )
        if formats is ISO:
            self.guess = "ISO text, UTC where no zone is given"
        else:
            before = sum(len(chunk) for _, chunk in self._chunks)
            self._dates = [np.full(before, NO_CODE, np.uint32)]
        return formats

    def _read_dates(self, codes: NDArray[np.uint32]) -> NDArray[np.int64]:
        distinct, place = encode_integers([codes])
        texts = self._dictionary.texts(distinct)
        formats = best_formats(texts.drop_nulls()) or OTHERS
        other = formats[0].replace("%m/%d", "%d/%m")
        both = other != formats[0] and _read(text_times(texts, (other,))) == _read(text_times(texts, formats))
        hint = f" (just as well {other}: write ISO text if that is meant)" if both else ""
        self.guess = f"dates written as {formats[0]}{hint}"
        return text_times(texts, formats)[place]

    def _per_second(self, numbers: list[NDArray[np.int64] | NDArray[np.float64]]) -> int:
        """How many of the column's unit make a second; 0 for whole numbers that are dates such as 20140228."""
        sample = np.concatenate([chunk[:: max(1, len(chunk) // SAMPLE)] for chunk in numbers] or [np.empty(0)])
        sample = sample[np.isfinite(sample) & (sample != NO_TIME)].astype(np.float64)
        if self.unit is None and len(sample) and _are_dates(sample):
            self.guess = "dates written as YYYYMMDD"
            return 0
        size = float(np.median(np.abs(sample))) if len(sample) else 0.0
        guessed: list[TimeUnit] = [unit for unit, smallest in SMALLEST.items() if size >= smallest]
        unit = self.unit or (guessed[0] if guessed else "s")
        if numbers:
            self.guess = f"{UNITS[unit]} since 1970"
        return PER_SECOND[unit]


def best_formats(sample: pl.Series) -> tuple[str, ...] | None:
    """The notation that reads most of the texts, at least half of them; None if there is none."""
    if _read(text_times(sample, ISO)) >= len(sample) / 2:
        return ISO
    counts = {notation: _read(text_times(sample, (notation,))) for notation in OTHERS}
    best = max(counts, key=counts.__getitem__)
    return (best,) if counts[best] >= len(sample) / 2 else None


def text_times(texts: pl.Series, formats: tuple[str, ...]) -> NDArray[np.int64]:
    """(rows,) the times written in the first format that reads each; NO_TIME where none does."""
    out = np.full(len(texts), NO_TIME, np.int64)
    left = np.arange(len(texts))
    for notation in formats:
        if not len(left):
            break
        remaining = texts.gather(left) if len(left) < len(texts) else texts
        read = remaining.str.to_datetime(notation, time_unit="ms", strict=False, exact=True)
        times = read.to_physical().fill_null(NO_TIME).to_numpy()
        out[left] = times
        left = left[times == NO_TIME]
    return out


def _read(times: NDArray[np.int64]) -> int:
    return int(np.count_nonzero(times != NO_TIME))


def _scaled(raw: NDArray[np.int64] | NDArray[np.float64], per_second: int) -> NDArray[np.int64]:
    if per_second == 0:
        return _dates(raw)
    if raw.dtype == np.int64:
        if per_second >= 1000:
            missing = raw == NO_TIME
            times = raw // (per_second // 1000)
            times[missing] = NO_TIME
            return _in_range(times)
        bounded = np.where((raw >= FIRST // 1000) & (raw <= LAST // 1000), raw, 0)
        return np.where(bounded == raw, bounded * 1000, NO_TIME)
    with np.errstate(invalid="ignore"):
        times = np.rint(raw * (1000 / per_second))
        readable = (times >= FIRST) & (times <= LAST)  # false for NaN
    return np.where(readable, np.where(readable, times, 0).astype(np.int64), NO_TIME)


def _in_range(times: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where((times >= FIRST) & (times <= LAST), times, NO_TIME)


def _are_dates(sample: NDArray[np.float64]) -> bool:
    if not ((sample >= 19000101) & (sample <= 21001231)).all():
        return False
    return bool((_dates(sample) != NO_TIME).all())


def _dates(raw: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers such as 20140228 as times."""
    with np.errstate(invalid="ignore"):
        possible = (raw >= 19000101) & (raw <= 21001231)
    whole = np.where(possible, raw, 0).astype(np.int64)
    return text_times(pl.Series(whole).cast(pl.String), ("%Y%m%d",))
