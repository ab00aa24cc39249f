"""The report about a log: problems that stay in the data, repairs that changed it, and how it was understood."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["LINES_SHOWN", "LogReport", "Problem", "moment"]

LINES_SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """Something wrong in a log, or (as a repair) something that was put right.

    The codes are listed in docs/data-formats.md: E… for problems, whose rows are kept, F… for repairs.
    """

    code: str
    count: int  # rows, or what ``what`` names
    lines: list[int] = field(default_factory=list)  # the first few, from 1; of a file with a header that is line 1
    what: str = ""
    do: str = ""
    example: str = ""
    word: str = "line"  # what the numbers in ``lines`` count: lines of a text file, or rows

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "count": self.count, "lines": self.lines, "what": self.what, "do": self.do}

    def text(self) -> str:
        """One sentence or two for people."""
        where = f" ({self.word} {', '.join(map(str, self.lines))}{' …' if self.count > len(self.lines) else ''})"
        example = f", such as {self.example}" if self.example else ""
        return f"{self.code} {self.count:,} {self.what}{example}{where if self.lines else ''}. {self.do}"


@dataclass(frozen=True)
class LogReport:
    """What a log holds after the repairs, how its columns were understood, and what is wrong with it."""

    name: str
    rows: int
    users: int
    items: int
    span: tuple[int, int] | None  # first and last time, milliseconds; None without times
    kinds: Mapping[str, int]  # name -> events, weakest first; empty without kinds
    guesses: Sequence[str]
    problems: Sequence[Problem]
    repairs: Sequence[Problem]

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "users": self.users,
            "items": self.items,
            "span": None if self.span is None else [moment(each) for each in self.span],
            "kinds": dict(self.kinds),
            "problems": [each.to_json() for each in self.problems],
            "repairs": [each.to_json() for each in self.repairs],
        }

    def text(self) -> str:
        """The report for people, one finding per line."""
        lines = [f"{self.name}: {self.rows:,} events, {self.users:,} users, {self.items:,} items"]
        if self.span is not None:
            lines.append(f"from {moment(self.span[0])} to {moment(self.span[1])}")
        if self.kinds:
            lines.append("kinds: " + " < ".join(f"{name} ({count:,})" for name, count in self.kinds.items()))
        lines += ["", "How the columns were read:", *_listed(self.guesses)]
        lines += ["", "Repairs:", *_listed(each.text() for each in self.repairs)]
        lines += ["", "Problems:", *_listed(each.text() for each in self.problems)]
        return "\n".join(lines) + "\n"


def moment(milliseconds: int) -> str:
    """A time as ISO text in UTC; the bare number where no calendar has it."""
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(milliseconds))
    except OverflowError:
        return str(milliseconds)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def _listed(sentences: Iterable[str]) -> list[str]:
    return [f"  {each}" for each in sentences] or ["  none"]
