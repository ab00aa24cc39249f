"""A log of any format as its parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretaste.errors import DataError
from foretaste.events.delimited import Delimited
from foretaste.events.files import find_files, format_of
from foretaste.events.frames import Frame, ParquetFile
from foretaste.events.json_lines import JsonLines
from foretaste.events.parts import Part

__all__ = ["open_parts"]


def open_parts(source: Any) -> list[Part]:
    """The parts of a log: each file of a path, a folder or a glob, or one frame.

    Raises:
        DataError: Nothing is there, or something cannot be read, or the parts differ in their columns.
    """
    if not isinstance(source, (str, Path)):
        return [Frame(source)]
    openers: dict[str, Callable[[Path], Part]] = {"delimited": Delimited, "json": JsonLines, "parquet": ParquetFile}
    parts = [openers[format_of(path)](path) for path in find_files(source)]
    first = parts[0]
    for part in parts[1:]:
        if isinstance(part, JsonLines) and isinstance(first, JsonLines):
            continue  # an absent key is a missing value
        different = sorted(set(first.columns) ^ set(part.columns))
        if different:
            raise DataError(
                f"{part.name} and {first.name} do not have the same columns: they differ in "
                f"{', '.join(different[:5])}. Read them apart, or give all the same header."
            )
    return parts
