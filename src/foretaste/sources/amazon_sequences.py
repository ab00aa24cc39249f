"""Amazon 2014 Beauty and Sports as in the published tables of next-item models: `user item item ...` in order."""

from pathlib import Path

import numpy as np
import polars as pl

from foretaste.catalog import Table
from foretaste.dataset import Dataset
from foretaste.run import Log
from foretaste.sources.assemble import aligned, assembled, categories, category, integer_rows, text
from foretaste.sources.source import RemoteFile, Source, located, reading, required
from foretaste.vocab import Vocab

__all__ = ["SOURCES"]

ITEMS = {"asin": pl.String, "s3rec_id": pl.Int64, "attribute_ids": pl.String, "text_id": pl.String}


def read(folder: Path, log: Log) -> Dataset:
    """sequences.txt under its own numbers; with items.csv, the asin, the attributes and a short title of each item.

    Times are left out: the order within a day is in the sequences only.
    """
    path = required(folder, "sequences.txt")
    with reading(path):
        rows = integer_rows(path)
        rows = rows.take(rows.lengths > 1)
    first = np.zeros(len(rows.values), bool)
    first[rows.offsets[:-1]] = True
    users = np.repeat(rows.values[first], rows.lengths - 1)
    known = _items(folder, log)
    return assembled(
        pl.DataFrame({"user": users, "item": rows.values[~first]}),
        ordered=True,
        item_table=None if known is None else lambda items: _item_table(known, items),
    )


def _items(folder: Path, log: Log) -> pl.DataFrame | None:
    path = located(folder, "items.csv")
    if path is None:
        log(f"items.csv is not in {folder}: items are numbers and nothing more")
        return None
    with reading(path):
        return pl.read_csv(path, columns=list(ITEMS), schema_overrides=ITEMS).rename({"s3rec_id": "item"})


def _item_table(known: pl.DataFrame, items: Vocab) -> Table:
    known = aligned(known, "item", items)
    attributes = known["attribute_ids"].str.split(" ").list.filter(pl.element() != "")
    return Table(
        len(items),
        {"title": text(known["text_id"]), "attributes": categories(attributes), "asin": category(known["asin"])},
    )


def _source(name: str, category_name: str, counts: str) -> Source:
    url = f"https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/master/data/{category_name}.txt"
    return Source(
        name,
        f"Amazon reviews 2014, {category_name.replace('_', ' ')}, five per user and item: order instead of times",
        "not stated; research use with citation (McAuley et al., 2015)",
        "https://github.com/RUCAIBox/CIKM2020-S3Rec",
        (RemoteFile("sequences.txt", url), RemoteFile("items.csv", optional=True)),
        counts,
        read,
    )


SOURCES = (
    _source("amazon14-beauty", "Beauty", "22,363 users, 12,101 items, 198,502 events"),
    _source("amazon14-sports", "Sports_and_Outdoors", "35,598 users, 18,357 items, 296,337 events"),
)
