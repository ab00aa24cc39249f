"""Amazon reviews of 2014, 2018 and 2023 by category: JSON lines with text, rating and time, and product metadata."""

import ast
import gzip
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from foretaste.catalog import Column, Table
from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.run import Log
from foretaste.sources.amazon_releases import RELEASES, Release
from foretaste.sources.assemble import aligned, assembled, categories, category, complete, number, text
from foretaste.sources.source import RemoteFile, Source, located, reading, required
from foretaste.vocab import Vocab

__all__ = ["SOURCES", "amazon_names", "amazon_source"]


def amazon_source(name: str) -> Source | None:
    """The data set that a name such as amazon18-video-games stands for; None where it stands for none."""
    parts = re.fullmatch(r"amazon(14|18|23)-([a-z-]+)", name)
    if parts is None:
        return None
    release = RELEASES[parts[1]]
    found = next((each for each in release.categories if _in_names(each) == parts[2]), None)
    return None if found is None else _source(name, release, found)


def amazon_names() -> list[str]:
    """Every name that ``amazon_source`` knows."""
    return [f"amazon{key}-{_in_names(each)}" for key, release in RELEASES.items() for each in release.categories]


def read(folder: Path, log: Log, *, release: Release, category_name: str) -> Dataset:
    """The reviews and, where there is any, what the metadata say of the products.

    Left out: names of reviewers, pictures and, of the metadata, mean rating, number of ratings, sales rank and
    related products, because they were taken after the reviews and so tell of the future.
    """
    path = required(folder, release.reviews.format(category_name))
    with reading(path):
        reviews = pl.read_ndjson(path, schema=release.schema).rename(release.fields)
    reviews = complete(reviews, log, "user", "item", "time").with_columns(pl.col("time") * release.milliseconds)
    source = located(folder, _metadata_file(release, category_name))
    if source is None:
        log(f"{release.metadata.format(category_name)} is not in {folder}: products stay without titles")
    return assembled(
        reviews,
        columns=_review_columns(reviews),
        item_table=None if source is None else lambda items: _product_table(source, release, items, log),
    )


def _review_columns(reviews: pl.DataFrame) -> dict[str, Column]:
    columns: dict[str, Column] = {"review": text(reviews["review"]), "summary": text(reviews["summary"])}
    helpful = reviews["helpful"]
    if helpful.dtype == pl.List(pl.Int64):  # 2014: how many found it helpful, of how many who voted
        columns["helpful"] = number(helpful.list.get(0, null_on_oob=True))
        columns["votes"] = number(helpful.list.get(1, null_on_oob=True))
    elif helpful.dtype == pl.String:  # 2018: "1,234", and no field at all for none
        columns["helpful"] = number(helpful.str.replace_all(",", "").fill_null("0"))
    else:
        columns["helpful"] = number(helpful)
    if "verified" in reviews.columns:
        columns["verified"] = number(reviews["verified"].cast(pl.Int8))
    return columns


def _product_table(path: Path, release: Release, items: Vocab, log: Log) -> Table:
    with reading(path):
        products = [_product(record, release.item) for record in _records(path, release.item, set(items.lists()))]
    schema: dict[str, Any] = {
        "item": pl.String,
        "title": pl.String,
        "description": pl.String,
        "brand": pl.String,
        "categories": pl.List(pl.String),
        "price": pl.Float64,
    }
    frame = pl.DataFrame(products, schema=schema)
    unknown = len(items) - frame["item"].n_unique()
    if unknown:
        log(f"{unknown:,} of {len(items):,} products are not in {path.name}", {"items_without_metadata": unknown})
    known = aligned(frame, "item", items)
    return Table(
        len(items),
        {
            "title": text(known["title"]),
            "description": text(known["description"]),
            "brand": category(known["brand"]),
            "categories": categories(known["categories"]),
            "price": number(known["price"]),
        },
    )


def _records(path: Path, key: str, wanted: set[int | str]) -> Iterator[dict[str, Any]]:
    """The records of the wanted products.

    Metadata cover many times the products that were reviewed often, and those of 2014 are Python literals, which
    are slow to parse: so a line that does not mention a wanted product is passed over unread.
    """
    mention = re.compile(rf"""['"]{key}['"]:\s*['"]([^'"]+)['"]""")
    with _opened(path) as lines:
        for place, line in enumerate(lines, 1):
            if wanted.isdisjoint(mention.findall(line)):
                continue
            record = _parsed(line)
            if record is None:
                raise DataError(f"{path}, line {place}: neither JSON nor a Python literal. Download it again.")
            if record.get(key) in wanted:
                yield record


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _parsed(line: str) -> dict[str, Any] | None:
    """A line as JSON or as a literal, which is read and never run; None where it is neither."""
    try:
        record = json.loads(line)
    except ValueError:
        try:
            record = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return record if isinstance(record, dict) else None


def _product(record: dict[str, Any], key: str) -> dict[str, Any]:
    named = record.get("categories") or record.get("category") or []
    return {
        "item": record[key],
        "title": _joined(record.get("title")),
        "description": _joined(record.get("description")),
        "brand": _joined(record.get("brand") or record.get("store")),
        "categories": list(_names(named)),
        "price": _price(record.get("price")),
    }


def _joined(value: Any) -> str | None:
    """A text, or several one after another; None where there is none."""
    if isinstance(value, list):
        value = " ".join(each for each in value if isinstance(each, str))
    return value.strip() or None if isinstance(value, str) else None


def _names(named: Any) -> Iterator[str]:
    """The names in a list, or in a list of lists: paths down a tree."""
    if isinstance(named, str):
        yield named
    elif isinstance(named, list):
        for each in named:
            yield from _names(each)


def _price(price: Any) -> float | None:
    """The first number of 9.99, "$9.99", "$1,299.00" or "$9.99 - $12.50"."""
    if isinstance(price, (int, float)):
        return float(price)
    found = re.search(r"\d[\d,]*(\.\d+)?", price) if isinstance(price, str) else None
    return float(found[0].replace(",", "")) if found else None


def _metadata_file(release: Release, category_name: str) -> RemoteFile:
    name = release.metadata.format(category_name)
    other = name.replace(".jsonl.gz", ".json.gz") if ".jsonl" in name else name.replace(".json.gz", ".jsonl.gz")
    return RemoteFile(name, f"{release.metadata_at}/{name}", optional=True, also=(other,))


def _in_names(category_name: str) -> str:
    return category_name.lower().replace("_", "-")


def _source(name: str, release: Release, category_name: str, counts: str = "not stated here") -> Source:
    reviews = release.reviews.format(category_name)
    kept = "" if release.year == 2023 else ", five per user and item"
    return Source(
        name,
        f"Amazon reviews {release.year}, {category_name.replace('_', ' ')}{kept}",
        f"not stated; research use with citation ({release.citation})",
        release.homepage,
        (RemoteFile(reviews, f"{release.reviews_at}/{reviews}"), _metadata_file(release, category_name)),
        counts,
        partial(read, release=release, category_name=category_name),
    )


SOURCES = (
    _source(
        "amazon14-musical-instruments",
        RELEASES["14"],
        "Musical_Instruments",
        "1,429 users, 900 items, 10,261 reviews",
    ),
)
