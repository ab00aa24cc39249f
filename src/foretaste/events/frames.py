"""Parquet files, and frames of polars, pandas and Arrow, as parts of a log."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet

from foretaste.errors import DataError
from foretaste.events.files import open_seekable, torn
from foretaste.events.parts import BATCH_ROWS
from foretaste.events.report import Problem

__all__ = ["Frame", "ParquetFile"]


class ParquetFile:
    """A Parquet file; places in it are rows, counted from 1."""

    word = "row"
    header = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.repairs: list[Problem] = []
        try:
            with open_seekable(path) as file, parquet.ParquetFile(file) as opened:
                self.columns = list(opened.schema_arrow.names)
        except (OSError, pa.ArrowException) as error:
            raise torn(path, error) from error

    def be_careful(self) -> None:
        pass

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        try:
            with open_seekable(self.path) as file, parquet.ParquetFile(file) as opened:
                for batch in opened.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns)):
                    yield pl.DataFrame(pl.from_arrow(batch))
        except (OSError, pa.ArrowException) as error:
            raise torn(self.path, error) from error

    def lines(self, rows: Sequence[int]) -> list[int]:
        return [row + 1 for row in rows]


class Frame:
    """A frame of polars, pandas or Arrow; places in it are rows, counted from 1."""

    word = "row"
    header = True

    def __init__(self, source: Any) -> None:
        self.name = "the frame"
        self.repairs: list[Problem] = []
        self.frame = _as_frame(source)
        self.columns = list(self.frame.columns)

    def be_careful(self) -> None:
        pass

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        yield from (self.frame if columns is None else self.frame.select(columns)).iter_slices(BATCH_ROWS)

    def lines(self, rows: Sequence[int]) -> list[int]:
        return [row + 1 for row in rows]


def _as_frame(source: Any) -> pl.DataFrame:
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if type(source).__module__.partition(".")[0] == "pandas":
        return _from_pandas(source)
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        try:
            return pl.DataFrame(source)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise DataError(f"The frame cannot be read: {error}. Give a table with one row per event.") from error
    raise DataError(
        f"A log is a path, or a frame of polars, pandas or Arrow; this is {type(source).__name__!r}. "
        "Make one of it: polars.DataFrame({'user_id': …, 'item_id': …})."
    )


def _from_pandas(source: Any) -> pl.DataFrame:
    if source.index.names != [None]:
        source = source.reset_index()
    series = []
    for name in source.columns:
        column = source[name]
        try:
            series.append(pl.Series(str(name), pl.from_arrow(pa.array(column, from_pandas=True))))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            texts = [None if missing else str(each) for each, missing in zip(column, column.isna(), strict=True)]
            series.append(pl.Series(str(name), texts, pl.String))
    return pl.DataFrame(series)
