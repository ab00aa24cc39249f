"""What a published data set is: its files, where they come from, and how they are read."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.run import Log

__all__ = ["Given", "RemoteFile", "Source", "content", "located", "present_in", "reading", "required"]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set and where its publisher keeps it."""

    target: str  # path inside the folder; with or without .gz is the same to the readers
    url: str | None = None  # None: the publisher asks for a login, or the file is not on the net by itself
    sha256: str | None = None  # of what the URL gives; None: not known for certain
    member: str | None = None  # the URL gives a zip archive, and this is the end of the file's path in it
    optional: bool = False  # the data set can be read without it, with less beside the events
    also: tuple[str, ...] = ()  # other names under which the same content is accepted


@dataclass(frozen=True, eq=False)
class Given:
    """The publisher's own split: two parts that share vocabularies and catalogue."""

    train: Dataset
    test: Dataset


@dataclass(frozen=True)
class Source:
    """One published data set."""

    name: str
    title: str
    licence: str
    homepage: str
    files: tuple[RemoteFile, ...]
    counts: str  # what the publisher states
    read: Callable[[Path, Log], Dataset]
    given: Callable[[Path, Log], Given] | None = None  # where the publisher ships train and test files
    validation: Callable[[Path], NDArray[np.int64] | None] | None = None  # outside ids of its validation users
    folder: str | None = None  # name of the folder; None: the name of the data set


def located(folder: Path, file: RemoteFile | str) -> Path | None:
    """Where a file lies in the folder, plain or compressed; None where it does not."""
    names = (file,) if isinstance(file, str) else (file.target, *file.also)
    for name in names:
        plain = name.removesuffix(".gz")
        for candidate in (name, plain, f"{plain}.gz"):
            if (folder / candidate).is_file():
                return folder / candidate
    return None


def required(folder: Path, name: str) -> Path:
    """The path of a file that has to be there.

    Raises:
        DataError: It is not.
    """
    path = located(folder, name)
    if path is None:
        raise DataError(f"{name} is not in {folder}; put it there.")
    return path


def present_in(folder: Path, source: Source) -> bool:
    """Whether every file that the data set cannot do without is there."""
    return all(located(folder, file) for file in source.files if not file.optional)


def content(path: Path) -> bytes:
    """What a file holds, unpacked where it is compressed."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read into one sentence that names the file."""
    try:
        yield
    except DataError:
        raise
    # EOFError: a torn gzip file. ValueError: wrong encodings, and numbers that are none.
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise DataError(f"{path} is not in the publisher's layout: {reason}. Download it again.") from error
