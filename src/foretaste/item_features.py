"""What the catalogue says of each item, as codes: its categories, its words, and how large its numbers are."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Categories, Category, Number, Table, Text
from foretaste.ragged import Ragged

__all__ = ["item_codes"]

FEWEST = 3  # items that must share a name or word: what fewer have tells nothing about others
MOST_COMMON = 0.3  # of the items; a word that more have is as good as none
PARTS = 10  # quantiles that numbers are cut into
WORD = re.compile(r"[^\W_]{3,}")


def item_codes(table: Table) -> tuple[Ragged, list[str]]:
    """For each row the codes of what it has, and what each code means.

    Names of categories count as they are, texts by their words, numbers by the tenth of the rows that they fall into.
    Names and words that fewer than three rows have are left out, and words that more than 30 % have; so columns of
    identifiers vanish. Missing values have no code; vectors and times are not read.
    """
    said: list[list[str]] = [[] for _ in range(len(table))]
    for name, column in table.columns.items():
        for row, texts in enumerate(_texts(column)):
            said[row].extend(f"{name}: {text}" for text in texts)
    counts = Counter(text for row in said for text in row)
    names = sorted(text for text, count in counts.items() if count >= FEWEST)
    code = {text: number for number, text in enumerate(names)}
    return Ragged.from_lists([sorted(code[text] for text in row if text in code) for row in said]), names


def _texts(column: object) -> Iterable[Iterable[str]]:
    """Per row, each once, what it says."""
    if isinstance(column, Category):
        return [[] if each is None else [each] for each in column.lists()]
    if isinstance(column, Categories):
        return [set(row) for row in column.lists()]
    if isinstance(column, Number):
        return _quantiles(column.values)
    if isinstance(column, Text):
        return _words(column.lists())
    return []


def _words(texts: list[str]) -> Iterator[set[str]]:
    found = [set(WORD.findall(text.lower())) for text in texts]
    counts = Counter(word for row in found for word in row)
    common = {word for word, count in counts.items() if count > MOST_COMMON * len(texts)}
    return (row - common for row in found)


def _quantiles(values: NDArray[np.float64]) -> Iterator[list[str]]:
    known = values[~np.isnan(values)]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, PARTS + 1)[1:-1])) if len(known) else np.empty(0)
    part = np.searchsorted(cuts, values, side="right")
    return ([] if np.isnan(value) else [f"part {each}"] for value, each in zip(values, part, strict=True))
