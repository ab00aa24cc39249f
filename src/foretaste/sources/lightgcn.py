"""The train.txt and test.txt of NGCF and LightGCN: `user item item ...`, without order, times or validation."""

from pathlib import Path

import numpy as np
import polars as pl

from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.run import Log
from foretaste.sources.assemble import assembled, integer_rows, vocab_of
from foretaste.sources.source import Given, RemoteFile, Source, reading, required

__all__ = ["SOURCES"]


def read(folder: Path, log: Log) -> Dataset:
    """Train and test together."""
    return assembled(pl.concat([_part(folder, "train.txt"), _part(folder, "test.txt")]))


def given(folder: Path, log: Log) -> Given:
    train, test = _part(folder, "train.txt"), _part(folder, "test.txt")
    users = vocab_of(pl.concat([train["user"], test["user"]]))
    items = vocab_of(pl.concat([train["item"], test["item"]]))
    return Given(assembled(train, users=users, items=items), assembled(test, users=users, items=items))


def _part(folder: Path, name: str) -> pl.DataFrame:
    path = required(folder, name)
    with reading(path):
        rows = integer_rows(path)
    rows = rows.take(rows.lengths > 0)
    if not len(rows):
        raise DataError(f"{path} has no line with a user. Download it again.")
    first = np.zeros(len(rows.values), bool)
    first[rows.offsets[:-1]] = True
    users = np.repeat(rows.values[first], rows.lengths - 1)
    return pl.DataFrame({"user": users, "item": rows.values[~first]})


def _source(name: str, title: str, counts: str, homepage: str) -> Source:
    address = f"https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data/{name}"
    files = tuple(RemoteFile(part, f"{address}/{part}") for part in ("train.txt", "test.txt"))
    return Source(name, title, "not stated; research use", homepage, files, counts, read, given=given)


SOURCES = (
    _source(
        "gowalla",
        "Gowalla check-ins, the split of LightGCN",
        "29,858 users, 40,981 items, 1,027,370 events",
        "https://snap.stanford.edu/data/loc-gowalla.html",
    ),
    _source(
        "yelp2018",
        "Yelp 2018, the split of LightGCN",
        "31,668 users, 38,048 items, 1,561,406 events",
        "https://github.com/gusye1234/LightGCN-PyTorch",
    ),
    _source(
        "amazon-book",
        "Amazon books, the split of LightGCN",
        "52,643 users, 91,599 items, 2,984,108 events",
        "https://github.com/gusye1234/LightGCN-PyTorch",
    ),
)
