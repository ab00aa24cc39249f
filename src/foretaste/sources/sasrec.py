"""The ML-1M file of the published SASRec, BERT4Rec and gSASRec numbers: `user item` in order, no times."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.ragged import Ragged
from foretaste.run import Log
from foretaste.sources.assemble import assembled, integer_rows
from foretaste.sources.movielens import LICENCE, film_table, films_of_1m, people_of_1m, people_table
from foretaste.sources.source import RemoteFile, Source, located, reading, required

__all__ = ["SOURCES"]

WITHHELD = 2  # events of each user that the train file of gSASRec lacks ...
WITHHELD_OF_VALIDATION_USERS = 3  # ... and of those users on whom it validates


def read(folder: Path, log: Log) -> Dataset:
    """ml-1m.txt; with the two sas_to_original files, titles, genres, years, plots and demographics of ML-1M."""
    events = _events(folder)
    films = _under_own_ids(folder, "item", films_of_1m(folder, log), log)
    people = _under_own_ids(folder, "user", people_of_1m(folder, log), log)
    return assembled(
        events,
        ordered=True,
        item_table=None if films is None else lambda items: film_table(films, items),
        user_table=None if people is None else lambda users: people_table(people, users),
    )


def validation_users(folder: Path) -> NDArray[np.int64] | None:
    """The users on whom gSASRec-pytorch validates, ascending; None where its train file is not there.

    Line n of gsasrec_split/train/input.txt is what the n-th user (by ascending id) did before the withheld
    events: three are withheld of a validation user, two of everybody else.

    Raises:
        DataError: The file does not belong to ml-1m.txt.
    """
    path = located(folder, "gsasrec_split/train/input.txt")
    if path is None:
        return None
    events = _events(folder).sort("user", maintain_order=True)
    users: NDArray[np.int64]
    users, counts = np.unique(events["user"].to_numpy(), return_counts=True)
    histories = Ragged.from_lengths(events["item"].to_numpy(), counts)
    with reading(path):
        lines = integer_rows(path)
    withheld = counts - lines.lengths if len(lines) == len(users) else np.empty(0, np.int64)
    fits = len(withheld) > 0 and bool(np.isin(withheld, (WITHHELD, WITHHELD_OF_VALIDATION_USERS)).all())
    if fits:
        place = np.arange(len(histories.values)) - np.repeat(histories.offsets[:-1], counts)
        fits = np.array_equal(histories.values[place < np.repeat(lines.lengths, counts)], lines.values)
    if not fits:
        raise DataError(f"{path} does not belong to ml-1m.txt: its lines are not the users' first events.")
    found: NDArray[np.int64] = users[withheld == WITHHELD_OF_VALIDATION_USERS]
    return found


def _events(folder: Path) -> pl.DataFrame:
    path = required(folder, "ml-1m.txt")
    with reading(path):
        return pl.read_csv(path, separator=" ", has_header=False, schema={"user": pl.Int64, "item": pl.Int64})


def _under_own_ids(folder: Path, what: str, known: pl.DataFrame | None, log: Log) -> pl.DataFrame | None:
    """What MovieLens knows, under the numbers of ml-1m.txt; None where the mapping is not there."""
    path = located(folder, f"sas_to_original_{what}s.txt")
    if known is None or path is None:
        if path is None:
            log(f"sas_to_original_{what}s.txt is not in {folder}: {what}s are numbers and nothing more")
        return None
    with reading(path):
        mapping = pl.read_csv(path, separator=" ", has_header=False, schema={"own": pl.Int64, what: pl.Int64})
    return mapping.join(known, on=what, how="inner").drop(what).rename({"own": what})


SOURCES = (
    Source(
        "ml-1m-sasrec",
        "MovieLens 1M as in the SASRec benchmark: order instead of times",
        LICENCE,
        "https://github.com/kang205/SASRec",
        (
            RemoteFile(
                "ml-1m.txt",
                "https://raw.githubusercontent.com/kang205/SASRec/master/data/ml-1m.txt",
                "b725f3acb3986fe3130bffd1e77a74d182a1f51799567a236dbd60270f95b0a2",
            ),
            RemoteFile(
                "gsasrec_split/train/input.txt",
                "https://raw.githubusercontent.com/asash/gSASRec-pytorch/main/datasets/ml1m/train/input.txt",
                optional=True,
            ),
            *(
                RemoteFile(name, optional=True)
                for name in ("sas_to_original_items.txt", "sas_to_original_users.txt", "movies.dat", "users.dat")
            ),
        ),
        "6,040 users, 3,416 items, 999,611 events",
        read,
        validation=validation_users,
        folder="ml-1m",
    ),
)
