"""Delimited text (CSV, TSV …) as a part of a log.

It is read by a fast reader; at the first row that is not as it should be, again from the beginning, row by row, with
each repair counted.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from foretaste.errors import DataError
from foretaste.events.files import TextLines, head_of, open_bytes, torn
from foretaste.events.parts import BLOCK_BYTES, BROKEN_SHARE, CAREFUL_ROWS, NeedsCare, Repairs
from foretaste.events.report import Problem

__all__ = ["Delimited"]

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "space"}


class Delimited:
    """A file of delimited text (CSV, TSV …); every value is text, the empty text is missing."""

    word = "line"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.delimiter, first, self.header_lines = _layout(path)
        self.header = not _is_data(first)
        self.columns = _column_names(first) if self.header else [f"column{n}" for n in range(1, len(first) + 1)]
        repeated = sorted({each for each in self.columns if self.columns.count(each) > 1})
        if repeated:
            raise DataError(f"{path} line 1 names the column {repeated[0]!r} twice. Rename one of them.")
        if not self.header:
            self.header_lines = 0
        self.careful = head_of(path).startswith((b"\xff\xfe", b"\xfe\xff"))
        self._repairs = Repairs()

    @property
    def repairs(self) -> list[Problem]:
        return self._repairs.problems()

    def be_careful(self) -> None:
        self.careful = True

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        wanted = self.columns if columns is None else list(columns)
        if not self.careful:
            yield from self._fast(wanted)
            return
        self._repairs = Repairs()
        records = (record for _, record in self._records(self._repairs))
        while rows := list(islice(records, CAREFUL_ROWS)):
            turned = dict(zip(self.columns, zip(*rows, strict=True), strict=True))
            yield pl.DataFrame({name: [each or None for each in turned[name]] for name in wanted}, _text(wanted))

    def lines(self, rows: Sequence[int]) -> list[int]:
        if not self.careful and self._is_one_line_each(rows[-1] + 1):
            return [row + self.header_lines + 1 for row in rows]
        wanted = iter(rows)
        next_row = next(wanted, None)
        found: list[int] = []
        for row, (line, _) in enumerate(self._records(Repairs())):
            if next_row is None:
                break
            if row == next_row:
                found.append(line)
                next_row = next(wanted, None)
        return found

    def _is_one_line_each(self, rows: int) -> bool:
        """Whether the first rows have no quotes and no empty lines between them, seen at the speed of the disk."""
        left, before = rows + self.header_lines, b""
        with open_bytes(self.path) as stream:
            while left > 0 and (block := stream.read(BLOCK_BYTES)):
                if any(each in before[-3:] + block for each in (b'"', b"\n\n", b"\n\r")):
                    return False
                before = block
                left -= block.count(b"\n")
        return True

    def _fast(self, wanted: list[str]) -> Iterator[pl.DataFrame]:
        last: pl.DataFrame | None = None
        try:
            with open_bytes(self.path) as stream:
                reader = arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(
                        block_size=BLOCK_BYTES, column_names=self.columns, skip_rows=self.header_lines
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "error"
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types={name: pa.string() for name in self.columns},
                        include_columns=wanted,
                        strings_can_be_null=True,
                        null_values=[""],
                    ),
                )
                for batch in reader:
                    frame = pl.DataFrame(pl.from_arrow(batch))
                    yield frame
                    last = frame if len(frame) else last
        except OSError as error:
            raise torn(self.path, error) from error
        except pa.ArrowInvalid as error:
            raise NeedsCare(self) from error
        # A quote that is never closed swallows the rest of the file into one value, without a word.
        if last is not None and any("\n" in (value or "") for value in last.row(-1)):
            raise NeedsCare(self)

    def _records(self, repairs: Repairs) -> Iterator[tuple[int, list[str]]]:
        """Each row with the line in which it begins; rows too long or too short are repaired or left out."""
        width, rows, broken = len(self.columns), 0, 0
        texts = TextLines(self.path, lambda line: repairs.add("F001", line))
        for line, record in _parsed(self.path, texts, self.delimiter, self.header_lines):
            rows += 1
            if len(record) < width:
                broken += 1
                repairs.add("F002", line)
                record = record + [""] * (width - len(record))
            elif len(record) > width:
                if any(each.strip() for each in record[width:]):
                    broken += 1
                    repairs.add("F004", line)
                    self._check_share(broken, rows, line, len(record), final=False)
                    continue
                repairs.add("F003", line)
                record = record[:width]
            if self.header and record == self.columns:
                repairs.add("F005", line)
                continue
            yield line, record
        if broken:
            self._check_share(broken, rows, repairs.first("F002", "F004"), None, final=True)
        if texts.utf16:
            repairs.add("F006", 1, rows)

    def _check_share(self, broken: int, rows: int, line: int, width: int | None, *, final: bool) -> None:
        if broken <= max(1, rows * BROKEN_SHARE) or (rows < CAREFUL_ROWS and not final):
            return
        has = f" (line {line} has {width})" if width else f" (the first is line {line})"
        raise DataError(
            f"{self.name}: {broken:,} of {rows:,} rows do not have {len(self.columns)} fields split by "
            f"{DELIMITERS[self.delimiter]}{has}. Quote the values that hold it, or use another delimiter."
        )


def _layout(path: Path) -> tuple[str, list[str], int]:
    """The delimiter, the fields of the first row, and how many lines that row ends after."""
    lines = list(islice(TextLines(path), 200))
    if sum(map(len, lines)) > 1 << 20:
        lines = lines[:20]
    best: tuple[tuple[bool, bool, int], str, list[str], int] | None = None
    for delimiter in DELIMITERS:
        rows = csv.reader(iter(lines), delimiter=delimiter)
        records, ends = [], []
        for record in rows:
            records.append(record)
            ends.append(rows.line_num)
        first = next((number for number, record in enumerate(records) if record), None)
        if first is None or len(records[first]) < 2:
            continue
        body = [len(record) for record in records[first + 1 : -1] if record]
        same = sum(length == len(records[first]) for length in body) >= 0.8 * len(body)
        numbers = all(_is_number(each) for each in records[first])
        if delimiter == " " and not (same and numbers):
            continue
        score = (same, delimiter != " ", len(records[first]))
        if best is None or score > best[0]:
            best = (score, delimiter, records[first], ends[first])
    if "::" in lines[0]:
        raise DataError(f"{path} line 1 is split by '::', {lines[0].strip()[:80]!r}. Replace each '::' by a tab.")
    if best is None:
        raise DataError(
            f"{path} line 1 has a single column, {lines[0].strip()[:80]!r}: neither comma, tab, semicolon nor bar "
            f"splits it. Write the log with one of these, with a user and an item per line."
        )
    return best[1:]


def _column_names(first: list[str]) -> list[str]:
    return [name.strip() or f"column{number}" for number, name in enumerate(first, 1)]


def _is_data(first: list[str]) -> bool:
    """Whether a first row is data: a header holds no numbers."""
    return any(_is_number(each) for each in first)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")


def _parsed(path: Path, texts: TextLines, delimiter: str, skip: int) -> Iterator[tuple[int, list[str]]]:
    """The records of delimited text, each with the number of the line in which it begins."""
    csv.field_size_limit(2**31 - 1)
    recent: list[str] = []

    def remembered() -> Iterator[str]:
        for text in texts:
            recent.append(text)
            yield text

    reader = csv.reader(remembered(), delimiter=delimiter)
    start = 0
    try:
        for record in reader:
            line, start = start + 1, reader.line_num
            pieces = recent[: start - line + 1]
            recent.clear()
            if line <= skip or not record or (len(record) == 1 and not record[0].strip()):
                continue
            if len(pieces) > 1:
                _check_quotes(path, pieces, delimiter, line)
            yield line, record
    except csv.Error as error:
        raise DataError(f"{path} line {start + 1} cannot be split into fields: {error}. Check its quotes.") from error


def _check_quotes(path: Path, pieces: list[str], delimiter: str, line: int) -> None:
    """Only at the end of the file can a record of several lines have a quote that is still open."""
    try:
        list(csv.reader(pieces, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(f"{path} line {line} opens a quote that is never closed. Close or remove it.") from error


def _text(names: Sequence[str]) -> dict[str, pl.DataType]:
    return {name: pl.String() for name in names}
