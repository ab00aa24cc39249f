"""Frappe: how often people used which app in which context, and what the store says of the apps."""

from pathlib import Path

import polars as pl

from foretaste.catalog import Table
from foretaste.dataset import Dataset
from foretaste.run import Log
from foretaste.sources.assemble import aligned, assembled, category, number, text
from foretaste.sources.source import RemoteFile, Source, located, reading, required
from foretaste.vocab import Vocab

__all__ = ["SOURCES"]

CONTEXT = ("daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")


def read(folder: Path, log: Log) -> Dataset:
    """frappe.csv, usage counts as values, the context beside them; with meta.csv, the apps.

    "unknown" stays a name of its own in a context, as in the published click data made from it; of an app it is
    a missing value. Package names and addresses of icons are left out.
    """
    path = required(folder, "frappe.csv")
    schema = {"user": pl.Int64, "item": pl.Int64, "cnt": pl.Float32, **dict.fromkeys(CONTEXT, pl.String)}
    with reading(path):
        events = pl.read_csv(path, separator="\t", columns=list(schema), schema_overrides=schema)
    apps = _apps(folder, log)
    return assembled(
        events.rename({"cnt": "value"}),
        columns={name: category(events[name]) for name in CONTEXT},
        item_table=None if apps is None else lambda items: _app_table(apps, items),
    )


def _apps(folder: Path, log: Log) -> pl.DataFrame | None:
    path = located(folder, "meta.csv")
    if path is None:
        log(f"meta.csv is not in {folder}: apps are numbers and nothing more")
        return None
    with reading(path):
        apps = pl.read_csv(path, separator="\t", infer_schema=False, null_values=["unknown"])
        return apps.with_columns(pl.col("item").cast(pl.Int64))


def _app_table(apps: pl.DataFrame, items: Vocab) -> Table:
    known = aligned(apps, "item", items)
    price = known["price"].replace("Free", "0").str.extract(r"(\d+(?:\.\d+)?)", 1)
    named = {name: category(known[name]) for name in ("category", "downloads", "developer", "language")}
    return Table(
        len(items),
        {
            "name": text(known["name"]),
            "description": text(known["description"]),
            "short_description": text(known["short desc"]),
            **named,
            "price": number(price),
            "rating": number(known["rating"]),
        },
    )


ADDRESS = "https://www.baltrunas.info/_files/archives/be17b7_474755a5e9684a749a012516d04fb456.zip?dn=Mobile_Frappe.zip"

SOURCES = (
    Source(
        "frappe",
        "Frappe: use of apps with context",
        "research with citation (arXiv:1505.03014); no redistribution, no commercial use without permission",
        "https://www.baltrunas.info/context-aware/frappe",
        (
            RemoteFile("frappe.csv", ADDRESS, member="frappe.csv"),
            RemoteFile("meta.csv", ADDRESS, member="meta.csv", optional=True),
        ),
        "957 users, 4,082 items, 96,203 usage counts",
        read,
    ),
)
