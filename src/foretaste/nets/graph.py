"""The graph of who met what, and vectors that are smoothed over it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

__all__ = ["MetGraph", "normalized", "product"]


def normalized(met: csr_matrix) -> csr_matrix:
    """(users, items) each entry divided by the roots of the sums of its row and of its column."""
    of_user, of_item = (np.asarray(met.sum(axis)).ravel() for axis in (1, 0))
    row = np.repeat(np.arange(met.shape[0]), np.diff(met.indptr))
    data = met.data / np.sqrt(of_user[row] * of_item[met.indices])
    return csr_matrix((data.astype(np.float32), met.indices, met.indptr), shape=met.shape)


class MetGraph(nn.Module):
    """Vectors of users and items, smoothed over the edges between them.

    With M the normalised matrix, a layer takes users to M items and items to M' users; ``forward`` gives the sum of
    layers 0 to K, each with its weight. That is a symmetric linear map, so its gradient is the same map of the
    gradient: nothing need be remembered of the layers, and backward costs what forward costs. It stays so where some
    edges are left out.

    Args:
        met: (users, items) what each has met, in positive numbers.
        weights: Of layers 0 to K.
    """

    def __init__(self, met: csr_matrix, weights: Sequence[float]) -> None:
        super().__init__()
        edges = normalized(met.sorted_indices())
        self.weights = tuple(weights)
        self.to_users: Tensor
        self.to_items: Tensor
        self.register_buffer("to_users", _sparse(edges), persistent=False)
        self.register_buffer("to_items", _sparse(csr_matrix(edges.T)), persistent=False)
        user, item = edges.nonzero()
        self.pairs: Tensor  # (edges,) ascending, as to_users has them: user * items + item
        self.turned: Tensor  # (edges,) where each of them stands in to_items
        self.register_buffer("pairs", torch.from_numpy(user.astype(np.int64) * met.shape[1] + item), persistent=False)
        self.register_buffer("turned", torch.from_numpy(_places(np.argsort(item, kind="stable"))), persistent=False)

    def forward(
        self, users: Tensor, items: Tensor, hidden: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The smoothed (users, dim) and (items, dim), in float32 whatever the precision of the run.

        Args:
            hidden: (pairs,) users and (pairs,) items between which there is no edge for now; degrees stay as they are.
        """
        matrices = (self.to_users, self.to_items) if hidden is None else self.without(*hidden)
        return _Smoothed.apply(users, items, matrices, self.weights)  # type: ignore[no-any-return, no-untyped-call]

    def smoothed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of which no gradient is wanted."""
        return _smoothed(users, items, (self.to_users, self.to_items), self.weights)

    def without(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The matrices to users and to items, in which these (pairs,) never met."""
        wanted = user * self.to_users.shape[1] + item
        edges = torch.searchsorted(self.pairs, wanted).clamp_(max=max(0, len(self.pairs) - 1))
        edges = edges[self.pairs[edges] == wanted]
        return _emptied(self.to_users, edges), _emptied(self.to_items, self.turned[edges])

    def told_to_users(self, users: Tensor, items: Tensor) -> Tensor:
        """(items, dim) what an item tells those who met it, over all layers, before the edges are normalised.

        A user's smoothed vector is ``weights[0]`` of their own, and the sum over their edges of this.
        """
        told = torch.zeros_like(items)
        for weight in self.weights[1:]:
            told.add_(items, alpha=weight)
            users, items = product(self.to_users, items), product(self.to_items, users)
        return told


def _smoothed(
    users: Tensor, items: Tensor, matrices: tuple[Tensor, Tensor], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    to_users, to_items = matrices
    of_users, of_items = users * weights[0], items * weights[0]
    for weight in weights[1:]:
        users, items = product(to_users, items), product(to_items, users)
        of_users.add_(users, alpha=weight)
        of_items.add_(items, alpha=weight)
    return of_users, of_items


class _Smoothed(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, users: Tensor, items: Tensor, matrices: tuple[Tensor, Tensor], weights: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        context.matrices, context.weights = matrices, weights
        with torch.autocast(users.device.type, enabled=False):
            return _smoothed(users.float(), items.float(), matrices, weights)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_users, of_items = gradients
        with torch.autocast(of_users.device.type, enabled=False):
            of_both = _smoothed(of_users.float(), of_items.float(), context.matrices, context.weights)
        return (*of_both, None, None)


def product(matrix: Tensor, vectors: Tensor) -> Tensor:
    """(rows, dim) a sparse matrix in rows (CSR) times vectors (columns, dim), of which no gradient is wanted."""
    if vectors.device.type != "cpu":
        return matrix @ vectors
    # The same sums as bags of embeddings: on a CPU these take a quarter of the time of torch's sparse product.
    return nn.functional.embedding_bag(
        matrix.col_indices(),
        vectors,
        matrix.crow_indices(),
        mode="sum",
        per_sample_weights=matrix.values(),
        include_last_offset=True,
    )


def _sparse(matrix: csr_matrix) -> Tensor:
    # 32 bits are enough, and half as much to read in each product.
    row_starts, columns = (torch.from_numpy(each.astype(np.int32)) for each in (matrix.indptr, matrix.indices))
    checked = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(), checked:
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            row_starts, columns, torch.from_numpy(matrix.data.astype(np.float32)), size=matrix.shape
        )


def _emptied(matrix: Tensor, entries: Tensor) -> Tensor:
    """A sparse matrix in rows with zero at some of its entries, by their places."""
    values = matrix.values().index_fill(0, entries, 0)
    return torch.sparse_csr_tensor(matrix.crow_indices(), matrix.col_indices(), values, size=matrix.shape)


def _places(order: NDArray[np.intp]) -> NDArray[np.int64]:
    """Where each of what an order sorts comes to stand."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places
