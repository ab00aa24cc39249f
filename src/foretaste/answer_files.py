"""Answers as files: CSV or Parquet, by the ending, written aside and then renamed."""

from pathlib import Path
from typing import TYPE_CHECKING

from foretaste.storage import staged_file

if TYPE_CHECKING:
    import polars as pl

__all__ = ["write_frame"]


def write_frame(frame: "pl.DataFrame", path: Path) -> None:
    """Write a frame as Parquet, or as CSV where the path ends so.

    Raises:
        ForetasteError: The place cannot be written, or is full.
    """
    from polars.exceptions import ComputeError

    write = frame.write_csv if path.suffix.lower() == ".csv" else frame.write_parquet
    with staged_file(path) as aside:
        try:
            write(aside)
        except ComputeError as error:  # what Polars makes of a full disk
            raise OSError(str(error)) from error
