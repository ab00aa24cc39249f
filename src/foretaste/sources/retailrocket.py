"""RetailRocket: views, carts and purchases of a shop; whole, and the visitors who bought as used in papers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from foretaste.catalog import Table
from foretaste.dataset import Dataset, EventKinds
from foretaste.run import Log
from foretaste.sources.assemble import aligned, assembled, category, complete, number, vocab_of
from foretaste.sources.source import Given, RemoteFile, Source, located, reading, required
from foretaste.vocab import Vocab

__all__ = ["SOURCES", "given_purchases"]

KINDS = EventKinds(("view", "addtocart", "transaction"), (1.0, 2.0, 3.0))
LICENCE = "CC BY-NC-SA 4.0"
HOMEPAGE = "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset"

EVENTS: dict[str, Any] = {
    "timestamp": pl.Int64,
    "visitorid": pl.Int64,
    "event": pl.Enum(KINDS.names),
    "itemid": pl.Int64,
    "transactionid": pl.Int64,
}


def read(folder: Path, log: Log) -> Dataset:
    """events.csv; with the two other tables, the category, its parent and the availability of each item.

    Of a property that changed over time the latest value counts, also for events before the change.
    """
    events = _events(folder, log)
    properties = _properties(folder, log)
    return assembled(
        events,
        kinds=KINDS,
        columns={"transactionid": number(events["transactionid"])},
        item_table=None if properties is None else lambda items: _item_table(properties, items),
    )


def read_buyers(folder: Path, log: Log) -> Dataset:
    """events.csv alone. Its transaction ids are made up, one per row, so they are no baskets and are left out."""
    return assembled(_events(folder, log), kinds=KINDS)


def given_buyers(folder: Path, log: Log) -> Given:
    """events.csv, and one withheld purchase per visitor, without time, from test_buy.csv."""
    return given_purchases(_events(folder, log), required(folder, "test_buy.csv"), KINDS)


def given_purchases(train: pl.DataFrame, path: Path, kinds: EventKinds) -> Given:
    """A log, and the purchases (the strongest kind) withheld from it in a file with the columns user and item."""
    with reading(path):
        test = pl.read_csv(path, columns=["user", "item"], schema_overrides={"user": pl.Int64, "item": pl.Int64})
    test = test.with_columns(pl.lit(kinds.names[-1]).alias("kind"))
    users = vocab_of(pl.concat([train["user"], test["user"]]))
    items = vocab_of(pl.concat([train["item"], test["item"]]))
    return Given(
        assembled(train, users=users, items=items, kinds=kinds),
        assembled(test, users=users, items=items, kinds=kinds),
    )


def _events(folder: Path, log: Log) -> pl.DataFrame:
    path = required(folder, "events.csv")
    with reading(path):
        events = pl.read_csv(path, columns=list(EVENTS), schema_overrides=EVENTS)
    events = events.rename({"timestamp": "time", "visitorid": "user", "event": "kind", "itemid": "item"})
    return complete(events, log, "user", "item", "time", "kind")


def _properties(folder: Path, log: Log) -> pl.DataFrame | None:
    """item, categoryid, available and parentid; None where the files are not there."""
    parts = [path for part in (1, 2) if (path := located(folder, f"item_properties_part{part}.csv"))]
    if not parts:
        log(f"item_properties_part1.csv and _part2.csv are not in {folder}: items stay without categories")
        return None
    with reading(parts[0].parent):
        latest = _latest(parts)
        known = latest.pivot("property", index="itemid", values="value").rename({"itemid": "item"})
        for name in ("categoryid", "available"):
            if name not in known.columns:
                known = known.with_columns(pl.lit(None, pl.String).alias(name))
    return known.join(_parents(folder, log), on="categoryid", how="left", maintain_order="left")


def _latest(parts: Sequence[Path]) -> pl.DataFrame:
    """itemid, property and its latest value, of the two properties whose names are not hashed."""
    schema = {"timestamp": pl.Int64, "itemid": pl.Int64, "property": pl.String, "value": pl.String}
    return (
        pl.scan_csv(list(parts), schema_overrides=schema)
        .filter(pl.col("property").is_in(["categoryid", "available"]))
        .group_by("itemid", "property")
        .agg(pl.col("value").sort_by("timestamp").last())
        .sort("itemid", "property")
        .collect()
    )


def _parents(folder: Path, log: Log) -> pl.DataFrame:
    path = located(folder, "category_tree.csv")
    if path is None:
        log(f"category_tree.csv is not in {folder}: categories stay without parents")
        return pl.DataFrame(schema={"categoryid": pl.String, "parentid": pl.String})
    with reading(path):
        return pl.read_csv(path, columns=["categoryid", "parentid"], infer_schema=False)


def _item_table(properties: pl.DataFrame, items: Vocab) -> Table:
    known = aligned(properties, "item", items)
    return Table(
        len(items),
        {
            "category": category(known["categoryid"]),
            "parent_category": category(known["parentid"]),
            "available": number(known["available"]),
        },
    )


SOURCES = (
    Source(
        "retailrocket",
        "RetailRocket: views, carts and purchases of a shop, 2015",
        LICENCE,
        HOMEPAGE,
        (
            RemoteFile("events.csv"),
            RemoteFile("item_properties_part1.csv", optional=True),
            RemoteFile("item_properties_part2.csv", optional=True),
            RemoteFile("category_tree.csv", optional=True),
        ),
        "1,407,580 visitors, 235,061 items, 2,756,101 events",
        read,
    ),
    Source(
        "retailrocket-buyers",
        "RetailRocket, the visitors who bought, with one purchase of each withheld",
        LICENCE,
        HOMEPAGE,
        (RemoteFile("events.csv"), RemoteFile("test_buy.csv", optional=True)),
        "2,174 users, 75,374 views, 12,456 carts, 9,551 purchases, 2,174 withheld purchases",
        read_buyers,
        given=given_buyers,
    ),
)
