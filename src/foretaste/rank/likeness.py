"""How much an item is like those of a history, by texts and by vectors of the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from foretaste.catalog import Number, Table, Vector
from foretaste.dataset import Dataset
from foretaste.query import Queries
from foretaste.rank.log_features import history_parts
from foretaste.recommender import About
from foretaste.texts import row_texts, word_weights

__all__ = ["Likeness"]

DIM = 48  # that the words of texts are brought down to
TOGETHER = 65_536  # pairs whose vectors are held at once


@dataclass(frozen=True, eq=False)
class Likeness:
    """Directions of items: what a text is about, and vectors that the catalogue has.

    Texts are weighted words (tf-idf) brought down to ``DIM`` dimensions by a singular value decomposition, so that
    texts without a common word can be alike, and a pair costs little. Words, their weights and the dimensions are those
    of items that were met.

    Source: Deerwester, Dumais, Furnas, Landauer, Harshman, "Indexing by Latent Semantic Analysis", JASIS 1990.
    """

    directions: Mapping[str, NDArray[np.float32]]  # column -> (items, dim) of length 1; 0 where nothing is known

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """That of a catalogue; of a catalogue without texts and vectors there is none in anything."""
        about = About.of(data)
        texts = list(about.catalog.of_kind("text"))
        found = {"texts": _meanings(row_texts(about.catalog, texts), about.met)} if texts and about.met.any() else {}
        return cls(found | _of_vectors(about.catalog))

    @classmethod
    def from_arrays(cls, catalog: Table, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """That of a catalogue whose ``arrays()`` these are."""
        return cls({**arrays, **_of_vectors(catalog)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What does not follow from the catalogue at once: the directions of texts."""
        return {name: each for name, each in self.directions.items() if name == "texts"}

    def features(self, queries: Queries, query: NDArray[np.int64], item: NDArray[np.int64]) -> Table:
        """How much items are like histories.

        Args:
            query: (pairs,) the query of each pair.
            item: (pairs,) its item.

        Returns:
            One row per pair: the cosine between the direction of the item and the mean direction of the history, of its
            running session, and of its last event. NaN where either is unknown.
        """
        columns = {}
        for of, part in history_parts(queries).items():
            for name, directions in self.directions.items():
                met = (np.ones(len(part.values), np.float32), part.values, part.offsets)
                asked = _of_length_one(csr_matrix(met, shape=(len(part), len(directions))) @ directions)
                columns[f"{of} like: {name}"] = Number(_cosines(asked, directions, query, item))
        return Table(len(query), columns)


def _of_vectors(catalog: Table) -> dict[str, NDArray[np.float32]]:
    """Those of each column of vectors."""
    found = {name: column.values for name, column in catalog.columns.items() if isinstance(column, Vector)}
    return {f"vector {name}": _of_length_one(np.nan_to_num(each)) for name, each in found.items()}


def _meanings(texts: list[str], met: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(items, dim) the directions of texts; 0 of those without a word that is known."""
    weights = word_weights(texts, met)
    lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(1)).ravel())
    row = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    weights.data /= lengths[row]
    known = weights[met].astype(np.float64)
    if min(known.shape) <= DIM:
        return np.asarray(weights.toarray(), np.float32)
    _, _, words = svds(known, k=DIM, v0=np.ones(min(known.shape)))
    return _of_length_one(weights @ words.T.astype(np.float32))


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def _cosines(
    asked: NDArray[np.float32], directions: NDArray[np.float32], query: NDArray[np.int64], item: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(pairs,) products of two rows of length 1; NaN where one of them is 0."""
    found = np.empty(len(query))
    for start in range(0, len(query), TOGETHER):
        pairs = slice(start, start + TOGETHER)
        found[pairs] = np.einsum("ij,ij->i", asked[query[pairs]], directions[item[pairs]])
    told, known = np.any(asked, axis=1), np.any(directions, axis=1)
    return np.where(told[query] & known[item], found, np.nan)
