"""What a policy chooses from: the candidates of some queries, how good each is, and what is known of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import Categories, Category, Table
from foretaste.errors import ConfigError
from foretaste.indicators import indicators
from foretaste.ragged import PAD, Ragged

__all__ = ["Shelf", "names_of_items", "relevance_of"]


@dataclass(frozen=True, eq=False)
class Shelf:
    """The candidates of some queries, best first."""

    items: NDArray[np.int32]  # (queries, candidates); PAD where there are fewer
    relevance: NDArray[np.float64]  # (queries, candidates) 1 = the best of its row, 0 = the worst
    history: Ragged  # (queries) what each has met

    def __len__(self) -> int:
        return len(self.items)


def relevance_of(items: NDArray[np.int32], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """(queries, candidates) scores between the worst (0) and the best (1) of their row; all 1 where they are equal.

    Args:
        scores: -inf at PAD.
    """
    there = items != PAD
    known = np.where(there, scores, np.nan).astype(np.float64)
    with np.errstate(invalid="ignore"):
        low = np.min(np.where(there, known, np.inf), axis=1, keepdims=True, initial=np.inf)
        high = np.max(np.where(there, known, -np.inf), axis=1, keepdims=True, initial=-np.inf)
        span = np.where(high > low, high - low, 1.0)
        found = np.where(high > low, (known - low) / span, 1.0)
    return np.where(there, found, 0.0)


def names_of_items(catalog: Table, column: str) -> csr_matrix:
    """(items, names) 1 where an item has a name of a column of categories.

    Raises:
        UnknownName: There is no such column.
        ConfigError: It holds no categories.
    """
    found = catalog[column]
    if not isinstance(found, Category | Categories):
        raise ConfigError(f"{column!r} is a column of {found.kind}; a policy counts categories.")
    return indicators(found)
