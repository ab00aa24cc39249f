"""Online Retail: a year of invoices of a British shop for gifts."""

from pathlib import Path

import polars as pl

from foretaste.dataset import Dataset
from foretaste.run import Log
from foretaste.sources.assemble import assembled, category, complete, number
from foretaste.sources.source import RemoteFile, Source, located, reading, required

__all__ = ["SOURCES"]


def read(folder: Path, log: Log) -> Dataset:
    """Invoice lines: an item is its description, an invoice (customer and minute) a session, the value a quantity.

    Lines without a customer or a description are left out and counted. Returns have a negative quantity and stay.
    Times are taken for UTC.
    """
    lines = complete(_lines(folder), log, "user", "item", "time")
    returned = int((lines["value"] < 0).sum())
    if returned:
        log(f"{returned:,} of {len(lines):,} lines are returns: their value is negative", {"returns": returned})
    session = lines.select(pl.struct("user", "time").rank("dense").cast(pl.Int64).alias("session") - 1)
    return assembled(
        lines.with_columns(session["session"]),
        columns={"price": number(lines["UnitPrice"]), "country": category(lines["Country"])},
    )


def _lines(folder: Path) -> pl.DataFrame:
    path = located(folder, "online_retail.parquet") or required(folder, "online_retail.csv")
    with reading(path):
        lines = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
        date = pl.col("InvoiceDate")
        if lines["InvoiceDate"].dtype == pl.String:
            date = date.str.to_datetime("%m/%d/%Y %H:%M", time_unit="ms")
        return lines.select(
            # Through floats, because the file has customers such as 17850.0.
            pl.col("CustomerID").cast(pl.Float64).cast(pl.Int64).alias("user"),
            pl.col("Description").alias("item"),
            date.cast(pl.Datetime("ms")).cast(pl.Int64).alias("time"),
            pl.col("Quantity").cast(pl.Float32).alias("value"),
            "UnitPrice",
            "Country",
        )


SOURCES = (
    Source(
        "online-retail",
        "Online Retail: invoices of a British shop for gifts, 2010 and 2011",
        "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/352/online+retail",
        (
            RemoteFile(
                "online_retail.csv",
                "https://archive.ics.uci.edu/static/public/352/data.csv",
                also=("online_retail.parquet",),
            ),
        ),
        "4,372 customers, 541,909 lines",
        read,
    ),
)
