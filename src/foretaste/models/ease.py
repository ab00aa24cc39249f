"""EASE: linear, in closed form (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags_array

from foretaste.dataset import Dataset
from foretaste.errors import TooLarge
from foretaste.query import Holdout, Queries, TopK
from foretaste.recommender import About, Settings
from foretaste.run import Run
from foretaste.scoring import ScoringModel, similar

if TYPE_CHECKING:
    import torch

__all__ = ["EASE", "EASEModel"]

BLOCK = 2048  # rows and columns inverted at a time


class EASE(Settings):
    """Scores X B, where B minimises |X - X B|^2 + l2 |B|^2 with an empty diagonal (eq. 3 to 8).

    With P = (X'X + l2 I)^-1:  B[i, j] = -P[i, j] / P[j, j] for i != j, and 0 on the diagonal.

    With powers, the rows of X are first divided by the users' sums ^ user_power, and its columns by the items' sums ^
    item_power, so that neither who meets much nor what is met much rules the squares; scores are of X itself again:

        X~ = Du^-a X Di^-b,   B~ from X~ as above,   B = Di^-b B~ Di^b

    Source of the powers: the linear filters of Shen et al., "How Powerful is Graph Convolution for Recommendation?"
        (GF-CF), CIKM 2021, have a = b = 1/2 on either side; that the best powers lie between 0 and 1/2, and differ by
        data, is what we found.

    Differs from the paper: float32 with one Cholesky inversion in place, and only the ``keep`` strongest weights of
    each row are kept, because the dense matrix of a large catalogue would not fit into a service.
    """

    l2: PositiveFloat = 250.0
    """As if each item had been met so many times more; with powers, by as large a share of the mean item."""
    user_power: float = Field(default=0.0, ge=0, le=1)
    """a: 0 counts every event of everybody as one; 1/2 gives everybody the same length."""
    item_power: float = Field(default=0.0, ge=0, le=1)
    """b: the same of items."""
    keep: PositiveInt | None = 1000
    """Weights kept per item, by their size. None: all."""
    binary: bool = True
    """Count each user once per item; otherwise events add up by their kinds' weights."""
    memory_gib: PositiveFloat = 12.0
    """The most memory that a fit may take; above it, it is refused before any work."""

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "EASEModel":
        self._refuse_if_too_large(train)
        matrix = train.matrix(binary=self.binary)
        # Items without events have no weights; leaving them out keeps the inverse small.
        met = np.flatnonzero(np.bincount(train.item, minlength=len(train.items)))
        matrix = csr_matrix(matrix[:, met])
        even, back = self._even(matrix)
        weights = _weights(_gram(even), self.l2 * float(even.power(2).sum() / matrix.power(2).sum()))
        for start in range(0, len(met), BLOCK):
            weights[start : start + BLOCK] *= back / back[start : start + BLOCK, None]
        return EASEModel(self, About.of(train), _strongest(weights, self.keep, met, len(train.items)))

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "EASEModel":
        shape = (len(about.items), len(about.items))
        return EASEModel(self, about, csr_matrix((state["data"], state["indices"], state["indptr"]), shape=shape))

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        # The Gram matrix, in place its inverse; then the kept weights with their columns.
        items = counts["items"]
        return 4 * items**2 + 16 * counts["events"] + 12 * items * min(self.keep or items, items)

    def _even(self, matrix: csr_matrix) -> tuple[csr_matrix, NDArray[np.float32]]:
        """X~, and Di^b."""
        of_users, of_items = (np.asarray(matrix.sum(axis)).ravel().clip(min=1e-12) for axis in (1, 0))
        back = (of_items**self.item_power).astype(np.float32)
        even = diags_array(of_users**-self.user_power) @ matrix @ diags_array(of_items**-self.item_power)
        return csr_matrix(even, dtype=np.float32), back

    def _refuse_if_too_large(self, train: Dataset) -> None:
        counts = train.counts()
        needed = self.memory_needed(counts) / 2**30
        if needed > self.memory_gib:
            raise TooLarge(
                f"EASE on {counts['items']:,} items needs about {needed:.1f} GiB (a float32 matrix of items x items, "
                f"and the weights that it keeps); memory_gib allows {self.memory_gib:g}. Raise memory_gib if the "
                "machine has more, keep fewer items, or take itemknn or als, whose memory grows with the events."
            )


class EASEModel(ScoringModel):
    """Item-to-item weights."""

    settings: EASE

    def __init__(self, settings: EASE, about: About, weights: csr_matrix) -> None:
        super().__init__(settings, about)
        self._weights = weights  # (items, items): [i, j] = what i in the history says for j

    def state(self) -> dict[str, NDArray[Any]]:
        return {"data": self._weights.data, "indices": self._weights.indices, "indptr": self._weights.indptr}

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """A weight of zero says as much as any other, so every item met in training has a score."""
        queries = self._readable(queries)
        worth = None if self.settings.binary else self.about.kinds.weights
        scores: NDArray[np.float32] = (queries.matrix(len(self.items), worth) @ self._weights).toarray()
        scores[:, ~self.about.met] = -np.inf
        scores[queries.history.lengths == 0] = np.nan
        return scores

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the weight with which the item speaks for others."""
        import torch

        index = self._known(items)
        rows = np.asarray(self._weights[index].todense(), np.float32)
        return similar(self, index, torch.from_numpy(rows), k, self.about.met)


def _gram(matrix: csr_matrix) -> NDArray[np.float32]:
    """X'X, dense, filled in blocks of rows."""
    items = matrix.shape[1]
    gram = np.zeros((items, items), np.float32)
    transposed = matrix.T.tocsr()
    block = max(1, 100_000_000 // max(1, items))
    for start in range(0, items, block):
        gram[start : start + block] = (transposed[start : start + block] @ matrix).toarray()
    return gram


def _weights(gram: NDArray[np.float32], l2: float) -> NDArray[np.float32]:
    """B, in the memory of the Gram matrix."""
    import torch

    inverse = torch.from_numpy(gram)
    inverse.diagonal().add_(l2)
    _invert(inverse, l2)
    inverse /= -inverse.diagonal().clone()[None, :]
    inverse.diagonal().zero_()
    return gram


def _invert(matrix: "torch.Tensor", l2: float) -> None:
    """The inverse of a positive definite matrix, in its own memory, by Cholesky's factor L: inv(L)' inv(L).

    In blocks of rows and columns, because the in-place routines of LAPACK crash on matrices of some 30,000 rows with
    the BLAS that SciPy brings. Only the lower triangle is read until the end.
    """
    import torch

    edges = [(start, min(start + BLOCK, len(matrix))) for start in range(0, len(matrix), BLOCK)]
    for start, end in edges:
        done = matrix[start:end, :start]
        matrix[start:, start:end] -= matrix[start:, :start] @ done.T
        factor, failed = torch.linalg.cholesky_ex(matrix[start:end, start:end])
        if failed:
            raise TooLarge(f"EASE: the matrix of items is not positive definite in float32. Raise l2 above {l2:g}.")
        matrix[start:end, start:end] = factor
        matrix[start:end, end:] = 0
        below = matrix[end:, start:end]
        below.copy_(torch.linalg.solve_triangular(factor.T, below, upper=True, left=False))
    for start, end in reversed(edges):
        corner = matrix[start:end, start:end]
        identity = torch.eye(end - start, dtype=matrix.dtype)
        corner.copy_(torch.linalg.solve_triangular(corner, identity, upper=False))
        below = matrix[end:, start:end] @ corner
        for first, last in edges:
            if first >= end:  # what is right of the diagonal is zero, so each block of rows needs only what is above it
                matrix[first:last, start:end] = -(matrix[first:last, end:last] @ below[: last - end])
    for start, end in edges:
        # Rows above ``start`` are needed no more, so the product may take the place of its own factor.
        matrix[start:end, :end] = matrix[start:, start:end].T @ matrix[start:, :end]
        matrix[:start, start:end] = matrix[start:end, :start].T


def _strongest(weights: NDArray[np.float32], keep: int | None, met: NDArray[np.int64], items: int) -> csr_matrix:
    """The ``keep`` entries of each row that are largest in size, over the whole catalogue."""
    count = min(keep or len(met), len(met))
    columns = np.empty((len(met), count), np.int32)
    values = np.empty((len(met), count), np.float32)
    for start in range(0, len(met), 256):
        rows = np.ascontiguousarray(weights[start : start + 256])
        if count < len(met):
            chosen = np.sort(np.argpartition(-np.abs(rows), count - 1, axis=1)[:, :count], axis=1)
        else:
            chosen = np.broadcast_to(np.arange(count), rows.shape)
        columns[start : start + 256] = met[chosen]
        values[start : start + 256] = np.take_along_axis(rows, chosen, 1)
    lengths = np.zeros(items, np.int64)
    lengths[met] = count
    kept = csr_matrix(
        (values.ravel(), columns.ravel(), np.concatenate([[0], np.cumsum(lengths)])), shape=(items, items)
    )
    kept.eliminate_zeros()
    return kept
