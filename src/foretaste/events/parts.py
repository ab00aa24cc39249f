"""A part of a log: a file or a frame, as a stream of frames in which every row knows its line."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import polars as pl

from foretaste.events.report import LINES_SHOWN, Problem

__all__ = ["BATCH_ROWS", "BLOCK_BYTES", "BROKEN_SHARE", "CAREFUL_ROWS", "NeedsCare", "Part", "Repairs"]

BATCH_ROWS = 1 << 19
BLOCK_BYTES = 1 << 24
CAREFUL_ROWS = 1 << 15
BROKEN_SHARE = 0.1  # with more broken rows than that, the reading itself must be wrong

REPAIR_TEXTS = {
    "F001": ("lines were not UTF-8 and were read as Windows-1252 (latin-1)", "Save the file as UTF-8."),
    "F002": ("rows had too few fields; the last ones are taken as missing", "Complete them."),
    "F003": ("rows had empty fields too many, which were cut off", "Remove the delimiters at their ends."),
    "F004": ("rows had too many fields and were left out", "Quote the values that hold the delimiter."),
    "F005": ("repeated headers were left out", "Write the header once."),
    "F006": ("rows were read as UTF-16", "Save the file as UTF-8."),
    "F007": ("lines were no JSON object and were left out", "Write one whole object per line."),
}


class NeedsCare(Exception):
    """The fast reader met something unusual; what was read of this part must be thrown away and read again."""

    def __init__(self, part: "Part") -> None:
        super().__init__(part.name)
        self.part = part


class Part(Protocol):
    """One file or frame of a log."""

    name: str
    columns: list[str]
    header: bool  # False: the columns have no names but their numbers
    word: str  # how a place in it is called: line or row

    @property
    def repairs(self) -> list[Problem]:
        """What the last whole reading had to put right."""
        ...

    def be_careful(self) -> None:
        """Read slowly and tolerantly from now on."""
        ...

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Frames in the order of the rows, of all columns or of those named.

        Raises:
            NeedsCare: The part must be read carefully, from its beginning.
            DataError: The part cannot be read.
        """
        ...

    def lines(self, rows: Sequence[int]) -> list[int]:
        """The numbers, from 1, of the lines in which the given rows (ascending, from 0) begin."""
        ...


class Repairs:
    """How often each repair of a text file was needed, and the first lines of each."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[int]]] = {}

    def add(self, code: str, line: int, count: int = 1) -> None:
        before, lines = self._found.get(code, (0, []))
        if len(lines) < LINES_SHOWN:
            lines.append(line)
        self._found[code] = (before + count, lines)

    def first(self, *codes: str) -> int:
        """The first line with any of these repairs."""
        return min(self._found[code][1][0] for code in codes if code in self._found)

    def problems(self) -> list[Problem]:
        return [
            Problem(code, count, lines, *REPAIR_TEXTS[code]) for code, (count, lines) in sorted(self._found.items())
        ]
