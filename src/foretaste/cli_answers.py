"""Who is asked about on the command line, and how an answer is written or printed."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretaste.errors import ConfigError, DataError

__all__ = ["check_ending", "listed", "print_table", "queries_asked", "write_answer"]

NAMED = 10  # unknown ids that are named one by one


def queries_asked(
    model: Any, user: list[str] | None, users: str | None, history: str | None, queries: Path | None
) -> Any:
    """What the options ask; exactly one way of asking must be given."""
    from foretaste.answers import asked_by_users
    from foretaste.histories import Asked
    from foretaste.storage import read_ids

    options = {"--user": user, "--users": users, "--history": history, "--queries": queries}
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(f"Give exactly one of {', '.join(options)}; given: {', '.join(given) or 'none'}.")
    if queries is not None:
        return _asked_in_file(model, queries)
    if history is not None:
        fields = next(csv.reader([history], skipinitialspace=True), [])
        asked = model.ask([[item.strip() for item in fields if item.strip()]])
        return Asked(asked.queries, [None], unknown_items=asked.unknown_items)
    if model.histories is None:
        raise ConfigError("This bundle holds no histories, so it knows no users. Ask by --history, or train it again.")
    if users == "all":
        return model.ask(model.histories.users.lists())
    return asked_by_users(model, user if user is not None else read_ids(Path(str(users))))


def _asked_in_file(model: Any, path: Path) -> Any:
    from foretaste.answers import queries_of_json
    from foretaste.storage import check_exists

    try:
        if str(path) == "-":
            return queries_of_json(model, sys.stdin, "standard input")
        check_exists(path)
        with path.open(encoding="utf-8-sig") as lines:
            return queries_of_json(model, lines, str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error


def write_answer(top: Any, model: Any, out: Path | None, as_json: bool, who: str = "user_id") -> None:
    """Write or print an answer."""
    from foretaste.answer_files import write_frame

    frame = top.frame().rename({"user_id": who})
    if out is not None:
        write_frame(frame, out)
    if as_json:
        print(frame.write_json())
    elif out is None:
        titles = model.about.titles()
        rows = [[_shown(value) for value in row] for row in frame.iter_rows()]
        header = frame.columns
        if titles is not None:
            places = model.items.index(frame["item_id"].to_list())
            rows = [[*row, titles[place]] for row, place in zip(rows, places, strict=True)]
            header = [*header, "title"]
        print_table(header, rows)


def check_ending(out: Path | None) -> None:
    """Refuse a file that could not be written, before the work."""
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out}: the ending must be .csv or .parquet.")


def listed(ids: Sequence[Any]) -> str:
    """The distinct ids, the first few by name."""
    names = [repr(each) for each in dict.fromkeys(ids)]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of text, as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
