"""The simulated log as files, for trying the command line on."""

from pathlib import Path

import numpy as np
import polars as pl

from foretaste.catalog import NO_TIME, Column, Table
from foretaste.dataset import Dataset, Impressions
from foretaste.storage import staged_folder
from foretaste.vocab import Vocab

__all__ = ["write_files"]


def write_files(data: Dataset, folder: Path) -> None:
    """Write events.csv, items.csv, users.csv and impressions.csv.

    Raises:
        ForetasteError: The folder holds other things, or cannot be written.
    """
    with staged_folder(folder, marker="events.csv") as aside:
        _events(data).write_csv(aside / "events.csv")
        catalog = data.catalog
        if catalog is not None:
            _table("item_id", data.items, catalog.items).write_csv(aside / "items.csv")
            _table("user_id", data.users, catalog.users).write_csv(aside / "users.csv")
        if data.impressions is not None:
            _impressions(data, data.impressions).write_csv(aside / "impressions.csv")


def _events(data: Dataset) -> pl.DataFrame:
    """Events in the order of time, as a shop would log them."""
    kinds = np.zeros(len(data), np.int8) if data.kind is None else data.kind
    columns = {} if data.columns is None else {name: _series(column) for name, column in data.columns.columns.items()}
    frame = pl.DataFrame(
        {
            "user_id": data.users.lookup(data.user),
            "item_id": data.items.lookup(data.item),
            "event": pl.Series(data.kinds.names).gather(kinds),
            "timestamp": data.time,
            "value": pl.Series(data.value).fill_nan(None),
            "session_id": data.session,
            **columns,
        }
    )
    return frame.sort("timestamp", maintain_order=True)


def _table(called: str, vocab: Vocab, table: Table) -> pl.DataFrame:
    columns = {name: _series(column) for name, column in table.columns.items()}
    return pl.DataFrame({called: vocab.lists(), **columns}).sort(called)


def _impressions(data: Dataset, shown: Impressions) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "request_id": shown.request,
            "user_id": data.users.lookup(shown.user),
            "item_id": data.items.lookup(shown.item),
            "timestamp": shown.time,
            "position": shown.position,
            **shown.labels,
            **{name: _series(column) for name, column in shown.context.columns.items()},
        }
    )


def _series(column: Column) -> pl.Series:
    """Missing values are empty fields; moments are ISO text."""
    values = [None if each in ("", NO_TIME) else each for each in column.lists()]
    if column.kind == "time":
        return pl.Series(values, dtype=pl.Int64).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return pl.Series(values)
