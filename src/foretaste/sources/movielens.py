"""MovieLens 100K and 1M by GroupLens: ratings with times, films with genres, users with demographics."""

from pathlib import Path

import polars as pl

from foretaste.catalog import Column, Table
from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.run import Log
from foretaste.sources.assemble import aligned, assembled, categories, category, number, text
from foretaste.sources.source import RemoteFile, Source, content, located, reading, required
from foretaste.vocab import Vocab

__all__ = ["SOURCES", "film_table", "films_of_1m", "people_of_1m", "people_table"]

LICENCE = "GroupLens: research with citation; no redistribution, no commercial use without permission"

# In the order of the flags of u.item.
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)

# What the codes of users.dat stand for, from the README of MovieLens 1M.
AGES = {
    "1": "under 18",
    "18": "18-24",
    "25": "25-34",
    "35": "35-44",
    "45": "45-49",
    "50": "50-55",
    "56": "56+",
}
OCCUPATION_NAMES = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)
OCCUPATIONS = {str(code): name for code, name in enumerate(OCCUPATION_NAMES)}


def read_100k(folder: Path, log: Log) -> Dataset:
    """u.data, u.item, u.user, and the plots of movies_omdb.tsv where there are any."""
    path = required(folder, "u.data")
    with reading(path):
        ratings = pl.read_csv(
            path,
            separator="\t",
            has_header=False,
            schema={"user": pl.Int64, "item": pl.Int64, "value": pl.Float32, "time": pl.Int64},
        )
    films = _films_of_100k(folder)
    people = _people_of_100k(folder)
    return assembled(
        ratings.with_columns(pl.col("time") * 1000),
        item_table=lambda items: film_table(films, items),
        user_table=lambda users: people_table(people, users),
    )


def read_1m(folder: Path, log: Log) -> Dataset:
    """ratings.dat, movies.dat, users.dat, and the plots of movies_omdb.tsv where there are any."""
    path = required(folder, "ratings.dat")
    with reading(path):
        # A separator of two characters is one of one character with an empty column after each.
        cells = pl.read_csv(path, separator=":", has_header=False, schema={f"c{n}": pl.String for n in range(7)})
        ratings = cells.select(
            pl.col("c0").cast(pl.Int64).alias("user"),
            pl.col("c2").cast(pl.Int64).alias("item"),
            pl.col("c4").cast(pl.Float32).alias("value"),
            pl.col("c6").cast(pl.Int64).alias("time") * 1000,
        )
    films, people = films_of_1m(folder, log), people_of_1m(folder, log)
    return assembled(
        ratings,
        item_table=None if films is None else lambda items: film_table(films, items),
        user_table=None if people is None else lambda users: people_table(people, users),
    )


def films_of_1m(folder: Path, log: Log) -> pl.DataFrame | None:
    """movies.dat as item, title, genres and, with movies_omdb.tsv, plot; None where it is not there."""
    path = located(folder, "movies.dat")
    if path is None:
        log(f"movies.dat is not in {folder}: films stay without titles, genres and years")
        return None
    rows = _double_colons(path, 3)
    films = pl.DataFrame(
        {
            "item": [int(row[0]) for row in rows],
            "title": [row[1] for row in rows],
            "genres": [row[2].split("|") for row in rows],
        }
    )
    return _with_plots(films, folder)


def people_of_1m(folder: Path, log: Log) -> pl.DataFrame | None:
    """users.dat as user, gender, age bracket, occupation by name, zip; None where it is not there."""
    path = located(folder, "users.dat")
    if path is None:
        log(f"users.dat is not in {folder}: users stay without demographics")
        return None
    with reading(path):
        rows = _double_colons(path, 5)
        return pl.DataFrame(
            {
                "user": [int(row[0]) for row in rows],
                "gender": [row[1] for row in rows],
                "age": [AGES.get(row[2], row[2]) for row in rows],
                "occupation": [OCCUPATIONS.get(row[3], row[3]) for row in rows],
                "zip": [row[4] for row in rows],
            }
        )


def film_table(films: pl.DataFrame, items: Vocab) -> Table:
    """title, genres, year (from the title) and, where known, plot of each item."""
    known = aligned(films, "item", items)
    # Greedy and without an end, for titles such as "… (1995) (V)".
    year = known["title"].str.extract(r".*\((\d{4})\)", 1)
    columns: dict[str, Column] = {
        "title": text(known["title"]),
        "genres": categories(known["genres"]),
        "year": number(year),
    }
    if "plot" in known.columns:
        columns["plot"] = text(known["plot"])
    return Table(len(items), columns)


def people_table(people: pl.DataFrame, users: Vocab) -> Table:
    """gender, age, occupation and zip of each user; age is a number where it is given in years, else a bracket."""
    known = aligned(people, "user", users)
    age = number(known["age"]) if known["age"].dtype.is_numeric() else category(known["age"])
    named = {name: category(known[name]) for name in ("gender", "occupation", "zip")}
    return Table(len(users), {"age": age, **named})


def _films_of_100k(folder: Path) -> pl.DataFrame:
    path = required(folder, "u.item")
    with reading(path):
        rows = [line.split("|") for line in _lines(path)]
        for number_of_line, row in enumerate(rows, 1):
            if len(row) != 5 + len(GENRES):
                raise DataError(f"{path}, line {number_of_line}: {len(row)} fields where u.item has 24.")
        # "unknown" is no genre: a film without one has an empty row.
        genres = [[genre for genre, flag in zip(GENRES[1:], row[6:], strict=True) if flag == "1"] for row in rows]
        films = pl.DataFrame(
            {"item": [int(row[0]) for row in rows], "title": [row[1] for row in rows], "genres": genres}
        )
    return _with_plots(films, folder)


def _people_of_100k(folder: Path) -> pl.DataFrame:
    path = required(folder, "u.user")
    schema = {"user": pl.Int64, "age": pl.Int64, "gender": pl.String, "occupation": pl.String, "zip": pl.String}
    with reading(path):
        return pl.read_csv(path, separator="|", has_header=False, schema=schema)


def _with_plots(films: pl.DataFrame, folder: Path) -> pl.DataFrame:
    path = located(folder, "movies_omdb.tsv")
    if path is None:
        return films
    with reading(path):
        plots = pl.read_csv(
            path,
            separator="\t",
            columns=["movie_id", "plot"],
            schema_overrides={"movie_id": pl.Int64, "plot": pl.String},
            null_values=["N/A"],
        )
    return films.join(plots.rename({"movie_id": "item"}), on="item", how="left", maintain_order="left")


def _double_colons(path: Path, fields: int) -> list[list[str]]:
    """The rows of a file whose fields are parted by '::'."""
    with reading(path):
        rows = [line.split("::") for line in _lines(path)]
        for number_of_line, row in enumerate(rows, 1):
            if len(row) != fields or not row[0].isdigit():
                raise DataError(f"{path}, line {number_of_line}: expected {fields} fields parted by '::'.")
    return rows


def _lines(path: Path) -> list[str]:
    """The lines of a file in latin-1, which all MovieLens files of that time are in."""
    # Not splitlines(): latin-1 has characters that it takes for the end of a line.
    return [line.removesuffix("\r") for line in content(path).decode("latin-1").split("\n") if line.strip()]


def _files(archive: str, sha256: str, *names: str, optional: bool = False) -> tuple[RemoteFile, ...]:
    url = f"https://files.grouplens.org/datasets/movielens/{archive}"
    return tuple(RemoteFile(name, url, sha256, member=name, optional=optional) for name in names)


ML_1M_SHA256 = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"

SOURCES = (
    Source(
        "ml-100k",
        "MovieLens 100K: film ratings of 1997 and 1998",
        LICENCE,
        "https://grouplens.org/datasets/movielens/100k/",
        (
            *_files(
                "ml-100k.zip",
                "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
                *("u.data", "u.item", "u.user"),
            ),
            RemoteFile("movies_omdb.tsv", optional=True),
        ),
        "943 users, 1,682 items, 100,000 ratings",
        read_100k,
    ),
    Source(
        "ml-1m",
        "MovieLens 1M: film ratings of 2000 to 2003",
        LICENCE,
        "https://grouplens.org/datasets/movielens/1m/",
        (
            *_files("ml-1m.zip", ML_1M_SHA256, "ratings.dat"),
            *_files("ml-1m.zip", ML_1M_SHA256, "movies.dat", "users.dat", optional=True),
            RemoteFile("movies_omdb.tsv", optional=True),
        ),
        "6,040 users, 3,706 items, 1,000,209 ratings",
        read_1m,
    ),
)
