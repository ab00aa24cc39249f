"""What the catalogue says of each item, as codes: its categories, its words, and how large its numbers are."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Categories, Category, Number, Table, Text
from foretaste.ragged import Ragged
from foretaste.texts import words_of

__all__ = ["ItemFeatures"]

FEWEST = 3  # items that must share a name or word: what fewer have tells nothing about others
MOST_COMMON = 0.3  # of the items; a word that more have is as good as none
PARTS = 10  # quantiles that numbers are cut into


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """What can be read of a table of items; of another table the same can be read.

    Names of categories count as they are, texts by their words, numbers by the tenth of the rows that they fall into.
    Names and words that fewer than three rows have are left out, and words that more than 30 % have; so columns of
    identifiers vanish. Vectors and times are not read.
    """

    meanings: Sequence[str]  # of the codes, as "column: name"
    cuts: Mapping[str, NDArray[np.float64]]  # column of numbers -> where its parts end

    @classmethod
    def of(cls, table: Table) -> Self:
        """What the rows of this table have in common."""
        cuts = {name: _cuts(column.values) for name, column in table.columns.items() if isinstance(column, Number)}
        found: list[str] = []
        for name, column in table.columns.items():
            counts = Counter(text for texts in _texts(column, cuts.get(name)) for text in texts)
            most = MOST_COMMON * len(table) if isinstance(column, Text) else len(table)
            found += [f"{name}: {text}" for text, count in counts.items() if FEWEST <= count <= most]
        return cls(sorted(found), cuts)

    def codes(self, table: Table) -> Ragged:
        """For each row the codes of what it has, ascending; columns that the table lacks say nothing."""
        code = {text: number for number, text in enumerate(self.meanings)}
        said: list[list[int]] = [[] for _ in range(len(table))]
        for name, column in table.columns.items():
            for row, texts in enumerate(_texts(column, self.cuts.get(name))):
                said[row].extend(code[each] for text in texts if (each := f"{name}: {text}") in code)
        return Ragged.from_lists([sorted(row) for row in said])


def _texts(column: object, cuts: NDArray[np.float64] | None) -> Iterable[Iterable[str]]:
    """Per row, each once, what it says.

    Args:
        cuts: Where the parts of a column of numbers end; None: they are not read.
    """
    if isinstance(column, Category):
        return ([] if each is None else [each] for each in column.lists())
    if isinstance(column, Categories):
        return (set(row) for row in column.lists())
    if isinstance(column, Number) and cuts is not None:
        part = np.searchsorted(cuts, column.values, side="right")
        return ([] if np.isnan(value) else [f"part {each}"] for value, each in zip(column.values, part, strict=True))
    if isinstance(column, Text):
        return (set(words_of(text)) for text in column.lists())
    return []


def _cuts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = values[~np.isnan(values)]
    return np.unique(np.quantile(known, np.linspace(0, 1, PARTS + 1)[1:-1])) if len(known) else np.empty(0)
