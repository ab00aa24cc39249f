"""JSON lines as a part of a log; read row by row, with each repair counted, where the fast reader stumbles."""

import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from foretaste.errors import DataError
from foretaste.events.files import TextLines, head_of, open_bytes, torn
from foretaste.events.parts import BLOCK_BYTES, BROKEN_SHARE, CAREFUL_ROWS, NeedsCare, Repairs
from foretaste.events.report import Problem

__all__ = ["JsonLines"]


class JsonLines:
    """A file with one JSON object per line."""

    word = "line"
    header = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._repairs = Repairs()
        self._careful = False
        lines = head_of(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")
        keys: dict[str, None] = {}
        for line in lines[: max(1, len(lines) - 1)]:
            keys.update(dict.fromkeys(_json_object(line.decode("utf-8", "replace")) or ()))
        if not keys:
            raise DataError(f"{path} line 1 is no JSON object: {lines[0][:60]!r}. Write one object per line.")
        self.columns = list(keys)

    @property
    def repairs(self) -> list[Problem]:
        return self._repairs.problems()

    def be_careful(self) -> None:
        self._careful = True

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        frames = self._careful_frames() if self._careful else self._fast()
        for frame in frames:
            missing = [pl.lit(None).alias(name) for name in columns or () if name not in frame.columns]
            yield frame if columns is None else frame.with_columns(missing).select(columns)

    def lines(self, rows: Sequence[int]) -> list[int]:
        wanted, found = set(rows), []
        for row, (line, _) in enumerate(self._objects(Repairs())):
            if row in wanted:
                found.append(line)
            if len(found) == len(wanted):
                break
        return found

    def _fast(self) -> Iterator[pl.DataFrame]:
        rest = b""
        try:
            with open_bytes(self.path) as stream:
                while block := stream.read(BLOCK_BYTES):
                    whole, newline, rest = (rest + block).rpartition(b"\n")
                    if newline:
                        yield from self._parsed(whole)
        except OSError as error:
            raise torn(self.path, error) from error
        yield from self._parsed(rest)

    def _parsed(self, block: bytes) -> Iterator[pl.DataFrame]:
        block = block.removeprefix(b"\xef\xbb\xbf")
        if not block.strip():
            return
        try:
            frame = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
        except pl.exceptions.PolarsError as error:
            raise NeedsCare(self) from error
        yield frame

    def _careful_frames(self) -> Iterator[pl.DataFrame]:
        self._repairs = Repairs()
        objects = (each for _, each in self._objects(self._repairs))
        while rows := list(islice(objects, CAREFUL_ROWS)):
            names = dict.fromkeys(name for row in rows for name in row)
            yield pl.DataFrame([_json_series(name, [row.get(name) for row in rows]) for name in names])

    def _objects(self, repairs: Repairs) -> Iterator[tuple[int, dict[str, Any]]]:
        rows = broken = 0
        for line, text in enumerate(TextLines(self.path, lambda line: repairs.add("F001", line)), 1):
            if not text.strip():
                continue
            rows += 1
            found = _json_object(text)
            if found is None:
                broken += 1
                repairs.add("F007", line)
                continue
            yield line, found
        if broken > max(1, rows * BROKEN_SHARE):
            raise DataError(
                f"{self.name}: {broken:,} of {rows:,} lines are no JSON object; the first is line "
                f"{repairs.first('F007')}. Write one object per line."
            )


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _json_series(name: str, values: list[Any]) -> pl.Series:
    """A column of JSON values; where their types are mixed, as text."""
    types = {type(each) for each in values if each is not None}
    try:
        if types == {int, float}:
            return pl.Series(name, values, pl.Float64, strict=False)
        if len(types) < 2:
            return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        pass
    return pl.Series(name, [None if each is None else _json_text(each) for each in values], pl.String)


def _json_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()
