"""Tmall: favourites, carts and purchases as used by papers on several kinds of behaviour."""

from pathlib import Path
from typing import Any

import polars as pl

from foretaste.dataset import Dataset, EventKinds
from foretaste.run import Log
from foretaste.sources.assemble import assembled, complete
from foretaste.sources.retailrocket import given_purchases
from foretaste.sources.source import Given, RemoteFile, Source, reading, required

__all__ = ["SOURCES"]

# A favourite is put aside for some day, a cart for this purchase: so a favourite is the weaker sign.
KINDS = EventKinds(("fav", "cart", "buy"), (1.0, 2.0, 3.0))


def read(folder: Path, log: Log) -> Dataset:
    """events.csv; its times are seconds."""
    return assembled(_events(folder, log), kinds=KINDS)


def given(folder: Path, log: Log) -> Given:
    """events.csv, and 10,000 withheld purchases, without time, from test_buy.csv."""
    return given_purchases(_events(folder, log), required(folder, "test_buy.csv"), KINDS)


def _events(folder: Path, log: Log) -> pl.DataFrame:
    path = required(folder, "events.csv")
    schema: dict[str, Any] = {"user": pl.Int64, "item": pl.Int64, "event": pl.Enum(KINDS.names), "timestamp": pl.Int64}
    with reading(path):
        events = pl.read_csv(path, columns=list(schema), schema_overrides=schema)
    events = events.rename({"event": "kind"}).with_columns((pl.col("timestamp") * 1000).alias("time"))
    return complete(events, log, "user", "item", "time", "kind")


SOURCES = (
    Source(
        "tmall",
        "Tmall: favourites, carts and purchases, with 10,000 purchases withheld",
        "not stated; research use",
        "https://tianchi.aliyun.com/dataset/649",
        (RemoteFile("events.csv"), RemoteFile("test_buy.csv", optional=True)),
        "31,882 users, 49,482 favourites, 140,068 carts, 167,862 purchases, 10,000 withheld purchases",
        read,
        given=given,
    ),
)
