"""TMDB 5000: what is known of 4,803 films, and nobody who watched them."""

from pathlib import Path

import polars as pl

from foretaste.catalog import Table
from foretaste.dataset import Dataset
from foretaste.run import Log
from foretaste.sources.assemble import aligned, assembled, categories, category, moment, number, text
from foretaste.sources.source import RemoteFile, Source, reading, required
from foretaste.vocab import Vocab

__all__ = ["SOURCES"]

NUMBERS = ("runtime", "popularity", "vote_average", "vote_count")
LISTS = ("genres", "keywords", "production_companies", "production_countries", "spoken_languages")


def read(folder: Path, log: Log) -> Dataset:
    """A dataset without users and events: the catalogue under the ids of TMDB.

    A budget, revenue or runtime of 0 means that it is not known.
    """
    path = required(folder, "tmdb_5000_movies.csv")
    with reading(path):
        films = pl.read_csv(path, infer_schema=False).with_columns(pl.col("id").cast(pl.Int64))
        named = pl.List(pl.Struct({"name": pl.String}))
        films = films.with_columns(
            pl.col(name).str.json_decode(named).list.eval(pl.element().struct.field("name")) for name in LISTS
        )
        films = films.with_columns(
            pl.col("release_date").str.to_date("%Y-%m-%d", strict=False),
            *(pl.col(name).cast(pl.Float64).replace(0.0, None) for name in ("budget", "revenue", "runtime")),
        )
    nobody = pl.DataFrame(schema={"user": pl.Int64, "item": pl.Int64})
    items = Vocab.from_ids(films["id"].to_list())
    return assembled(nobody, items=items, item_table=lambda items: _film_table(films, items))


def _film_table(films: pl.DataFrame, items: Vocab) -> Table:
    known = aligned(films, "id", items)
    return Table(
        len(items),
        {
            **{name: text(known[name]) for name in ("title", "overview", "tagline")},
            **{name: categories(known[name]) for name in LISTS},
            "original_language": category(known["original_language"]),
            "year": number(known["release_date"].dt.year()),
            "release_date": moment(known["release_date"]),
            **{name: number(known[name]) for name in ("budget", "revenue", *NUMBERS)},
        },
    )


SOURCES = (
    Source(
        "tmdb-5000",
        "TMDB 5000: films with plots, genres and keywords; no events",
        "TMDB terms of use",
        "https://www.kaggle.com/datasets/tmdb/tmdb-movie-metadata",
        (RemoteFile("tmdb_5000_movies.csv"),),
        "4,803 items, no events",
        read,
    ),
)
