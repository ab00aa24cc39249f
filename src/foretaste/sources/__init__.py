"""Published data sets in their publishers' file layout: found, downloaded where absent, and read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.errors import DataError, UnknownName
from foretaste.run import Log, silent
from foretaste.sources import (
    amazon_reviews,
    amazon_sequences,
    frappe,
    lightgcn,
    movielens,
    online_retail,
    retailrocket,
    sasrec,
    tmall,
    tmdb,
)
from foretaste.sources.download import Progress, fetch
from foretaste.sources.source import Given, RemoteFile, Source, present_in

__all__ = [
    "SOURCES",
    "Given",
    "RemoteFile",
    "Source",
    "SourceSummary",
    "data_folder",
    "describe_sources",
    "folder_of",
    "load",
    "load_given",
    "present",
    "source_of",
    "validation_users",
]

SOURCES: Mapping[str, Source] = {
    source.name: source
    for family in (
        movielens,
        sasrec,
        retailrocket,
        amazon_sequences,
        amazon_reviews,
        lightgcn,
        tmall,
        frappe,
        online_retail,
        tmdb,
    )
    for source in family.SOURCES
}


@dataclass(frozen=True)
class SourceSummary:
    """What there is to say of a data set without reading it."""

    name: str
    title: str
    counts: str
    licence: str
    homepage: str
    present: bool
    folder: Path


def load(name: str, data_dir: Path | str | None = None, log: Log = silent, progress: Progress | None = None) -> Dataset:
    """A published data set, downloaded first where its files are absent.

    Args:
        name: One of SOURCES, or amazon14-, amazon18-, amazon23- with a category, such as amazon23-video-games.
        data_dir: Where the folders of the data sets lie; by default FORETASTE_DATA, else the user's cache.
        log: Told of everything that is left out or not there.
        progress: Called during a download, at most a few times a second.

    Raises:
        UnknownName: No data set is called that.
        DataError: Files are absent and cannot be downloaded, or are not in the publisher's layout.
    """
    source, folder = source_of(name), folder_of(name, data_dir)
    fetch(source, folder, log, progress)
    data = replace(source.read(folder, log), name=name)
    counts = data.counts()
    listed = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    log(f"{name}: {listed} from {folder}", dict(counts))
    return data


def load_given(
    name: str, data_dir: Path | str | None = None, log: Log = silent, progress: Progress | None = None
) -> Given:
    """The publisher's own train and test parts, with shared vocabularies.

    The test part has no order and no times. Arguments and errors as of ``load``.

    Raises:
        DataError: This data set comes without a split.
    """
    source, folder = source_of(name), folder_of(name, data_dir)
    if source.given is None:
        able = ", ".join(each.name for each in SOURCES.values() if each.given is not None)
        raise DataError(f"{name} comes without a split of its own; those with one are {able}.")
    fetch(source, folder, log, progress)
    given = source.given(folder, log)
    log(f"{name}: {len(given.train):,} events for training, {len(given.test):,} for testing from {folder}")
    return Given(replace(given.train, name=name), replace(given.test, name=name))


def validation_users(name: str, data_dir: Path | str | None = None) -> NDArray[np.int64] | None:
    """The outside ids of the users whom the published split validates on; None where there is none or its file is not.

    Raises:
        DataError: The files of the split do not fit together.
    """
    source = source_of(name)
    return None if source.validation is None else source.validation(folder_of(name, data_dir))


def folder_of(name: str, data_dir: Path | str | None = None) -> Path:
    """Where the files of a data set lie, or would."""
    return data_folder(data_dir) / (source_of(name).folder or name)


def present(name: str, data_dir: Path | str | None = None) -> bool:
    """Whether the data set can be read without a download."""
    return present_in(folder_of(name, data_dir), source_of(name))


def describe_sources(data_dir: Path | str | None = None) -> list[SourceSummary]:
    """The data sets of SOURCES, and of the other Amazon categories those whose folder is there."""
    others = [name for name in amazon_reviews.amazon_names() if name not in SOURCES and present(name, data_dir)]
    return [
        SourceSummary(
            name,
            source.title,
            source.counts,
            source.licence,
            source.homepage,
            present(name, data_dir),
            folder_of(name, data_dir),
        )
        for name in (*SOURCES, *others)
        for source in [source_of(name)]
    ]


def source_of(name: str) -> Source:
    """The data set of that name.

    Raises:
        UnknownName: There is none.
    """
    source = SOURCES.get(name) or amazon_reviews.amazon_source(name)
    if source is None:
        known = amazon_reviews.amazon_names() if name.startswith("amazon") else []
        raise UnknownName("data set", name, dict.fromkeys([*SOURCES, *known]))
    return source


def data_folder(data_dir: Path | str | None = None) -> Path:
    """Where the folders of the data sets lie: as told, else FORETASTE_DATA, else in the user's cache."""
    if data_dir is not None:
        return Path(data_dir)
    if named := os.environ.get("FORETASTE_DATA"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foretaste"
