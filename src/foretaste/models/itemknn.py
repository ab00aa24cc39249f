"""Item-based nearest neighbours (Deshpande, Karypis, "Item-based top-N recommendation algorithms", TOIS 2004)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags_array

from foretaste.dataset import Dataset
from foretaste.query import Holdout, Queries, TopK
from foretaste.recommender import About, Settings
from foretaste.run import Run
from foretaste.scoring import ScoringModel, similar

__all__ = ["ItemKNN", "ItemKNNModel"]


class ItemKNN(Settings):
    """Score of item j: the summed likeness of j to the items of the history, over j's nearest neighbours.

    Likeness is the cosine of the items' columns in the (user, item) matrix, damped so that two items which share
    a single user are not taken for twins:

        s(i, j) = <x_i, x_j> / (|x_i| |x_j|^(2 b) + damping)

    With b = 1/2 that is the cosine. Below it, items that many have met are worth more as answers, as in section 4.1.2
    of the paper, whose alpha is b and whose i is not under the root; its rows of unit length are user_power = 1/2.
    Columns are first weighted: plain, by TF-IDF, or by BM25 as in Robertson, Zaragoza, "The Probabilistic Relevance
    Framework", 2009, eq. 3.15, with users as documents and items as terms.
    Differs from the paper: no normalisation of each item's neighbours to unit sum.
    """

    neighbors: PositiveInt = 100
    weighting: Literal["cosine", "tfidf", "bm25"] = "cosine"
    damping: NonNegativeFloat = 10.0
    user_power: float = Field(default=0.0, ge=0, le=1)
    """What a user says is first divided by the sum of their row to this power: who met much says less of each."""
    item_power: float = Field(default=0.5, ge=0, le=1)
    """b: how far popularity is taken out of the likeness of what is recommended."""
    binary: bool = True
    """Count each user once per item; otherwise events add up by their kinds' weights."""
    bm25_k1: PositiveFloat = 1.2
    bm25_b: NonNegativeFloat = 0.75

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "ItemKNNModel":
        matrix = self._weighted(train.matrix(binary=self.binary))
        if self.user_power:
            of_users = np.asarray(matrix.sum(axis=1)).ravel().clip(min=1e-12)
            matrix = csr_matrix(diags_array(of_users**-self.user_power) @ matrix).astype(np.float32)
        return ItemKNNModel(self, About.of(train), _neighbours(matrix, self, run))

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "ItemKNNModel":
        shape = (len(about.items), len(about.items))
        return ItemKNNModel(self, about, csr_matrix((state["data"], state["indices"], state["indptr"]), shape=shape))

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        return 32 * counts["events"] + 2 * 12 * self.neighbors * counts["items"]

    def _weighted(self, matrix: csr_matrix) -> csr_matrix:
        if self.weighting == "cosine":
            return matrix
        users = max(1, int((np.diff(matrix.indptr) > 0).sum()))
        met_by = np.bincount(matrix.indices, minlength=matrix.shape[1])
        rarity = np.log((users + 1) / (met_by + 1)) + 1
        if self.weighting == "bm25":
            length = np.asarray(matrix.sum(axis=1)).ravel()
            saturation = self.bm25_k1 * (1 - self.bm25_b + self.bm25_b * length / max(length[length > 0].mean(), 1e-12))
            per_entry = np.repeat(saturation, np.diff(matrix.indptr))
            weighted = matrix.data * (self.bm25_k1 + 1) / (matrix.data + per_entry)
            matrix = csr_matrix((weighted, matrix.indices, matrix.indptr), shape=matrix.shape)
        return csr_matrix(matrix @ diags_array(rarity)).astype(np.float32)


class ItemKNNModel(ScoringModel):
    """Row i of the likeness: the items whose nearest neighbours hold i."""

    settings: ItemKNN

    def __init__(self, settings: ItemKNN, about: About, likeness: csr_matrix) -> None:
        super().__init__(settings, about)
        self._likeness = likeness  # (items, items): [i, j] = what i in the history says for j

    def state(self) -> dict[str, NDArray[Any]]:
        return {"data": self._likeness.data, "indices": self._likeness.indices, "indptr": self._likeness.indptr}

    def score(self, queries: Queries) -> csr_matrix:
        worth = None if self.settings.binary else self.about.kinds.weights
        return csr_matrix(queries.matrix(len(self.items), worth) @ self._likeness)

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the damped likeness, among the nearest neighbours."""
        import torch

        index = self._known(items)
        near = self._likeness.T.tocsr()[index]
        scores = np.full(near.shape, -np.inf, np.float32)
        row = np.repeat(np.arange(len(index)), np.diff(near.indptr))
        scores[row, near.indices] = near.data
        return similar(self, index, torch.from_numpy(scores), k, None)


def _neighbours(matrix: csr_matrix, settings: ItemKNN, run: Run) -> csr_matrix:
    """(items, items) column j holds the likeness of item j to its nearest neighbours.

    Items are taken in blocks whose product stays small, so memory is bounded by the result and not by the
    (items x items) matrix of everything that ever met.
    """
    columns = matrix.tocsc()
    rows = matrix.tocsr()
    norms = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0)).ravel())
    others = norms if settings.item_power == 0.5 else norms ** (2 * settings.item_power)  # of what is recommended
    blocks: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    for start, end in _blocks(rows, columns):
        product = csr_matrix(columns[:, start:end].T @ rows)  # (block, items)
        item = np.repeat(np.arange(start, end), np.diff(product.indptr))
        product.data /= others[item] * norms[product.indices] + settings.damping
        product.data[product.indices == item] = 0
        blocks.append(_strongest(product, settings.neighbors))
        if run.progress:
            run.progress("itemknn", end, matrix.shape[1], "items")
    lengths = np.concatenate([block[0] for block in blocks])
    near = csr_matrix(
        (
            np.concatenate([block[2] for block in blocks]),
            np.concatenate([block[1] for block in blocks]),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(matrix.shape[1], matrix.shape[1]),
    )
    return csr_matrix(near.T.tocsr()).astype(np.float32)


BLOCK_ENTRIES = 20_000_000  # entries that one block's product may take


def _blocks(rows: csr_matrix, columns: Any) -> list[tuple[int, int]]:
    """Ranges of items whose products stay within BLOCK_ENTRIES, by an upper bound on each item's entries."""
    per_user = np.diff(rows.indptr)
    work = np.add.reduceat(np.append(per_user[columns.indices], 0), columns.indptr[:-1].clip(max=len(columns.indices)))
    work = np.where(np.diff(columns.indptr) > 0, work, 0).clip(max=rows.shape[1])
    block = np.cumsum(work) // BLOCK_ENTRIES
    cuts = np.flatnonzero(np.diff(block)) + 1
    return list(zip([0, *cuts.tolist()], [*cuts.tolist(), rows.shape[1]], strict=True))


def _strongest(product: csr_matrix, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Row lengths, columns and values of the ``count`` highest positive entries of each row; of equals the first."""
    keep = product.data > 0
    offsets = np.concatenate([[0], np.cumsum(keep)])[product.indptr]
    # Row by row, because only long rows need work, and a partition of each costs less than one sort of all.
    for row in np.flatnonzero(np.diff(offsets) > count):
        entries = slice(product.indptr[row], product.indptr[row + 1])
        keep[entries] &= _highest(product.data[entries], product.indices[entries], count)
    lengths = np.diff(np.concatenate([[0], np.cumsum(keep)])[product.indptr])
    return lengths, product.indices[keep], product.data[keep].astype(np.float32)


def _highest(values: NDArray[Any], columns: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Where the ``count`` highest values stand; of those equal to the last, the ones with the lowest columns."""
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    highest: NDArray[np.bool_] = values > threshold
    ties = np.flatnonzero(values == threshold)
    first = np.argsort(columns[ties])[: count - int(highest.sum())]
    highest[ties[first]] = True
    return highest
