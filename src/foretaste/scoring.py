"""The two ways in which a model says what it thinks: a score for each item, or vectors whose products are scores."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.ann import LEAST_RECALL, IndexKind, VectorIndex
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError
from foretaste.query import Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Answer, Model
from foretaste.run import Log, silent, warned

if TYPE_CHECKING:
    import torch

__all__ = ["ScoringModel", "VectorModel", "similar"]

SAMPLED = 1000  # queries on which the recall of an index is measured
SEARCHED = 4096  # queries at a time
MOST_HIDDEN = 500  # items of a history that a search goes beyond; who has more is answered from all items


class ScoringModel(Model):
    """A model that gives each item a score."""

    @abstractmethod
    def score(self, queries: Queries) -> "NDArray[np.float32] | csr_matrix":
        """(queries, items) scores; NaN or -inf, or an entry that a sparse matrix lacks: no answer."""

    def _scores(self, queries: Queries) -> "torch.Tensor":
        import torch

        scores = self.score(queries)
        if isinstance(scores, np.ndarray):
            return torch.from_numpy(scores)
        dense = np.full(scores.shape, -np.inf, np.float32)
        row = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
        dense[row, scores.indices] = scores.data
        return torch.from_numpy(dense)


class VectorModel(Model):
    """Two functions: queries to vectors, items to vectors. The score is their inner product."""

    index: VectorIndex | None = None  # what is searched instead of all items, where there is one

    @abstractmethod
    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, dim); a row of NaN = no answer."""

    @abstractmethod
    def item_vectors(self) -> NDArray[np.float32]:
        """(items, dim)."""

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, items) inner products; -inf at items that the model cannot know, NaN rows = no answer."""
        return self._scores(queries).numpy()

    def with_index(self, kind: IndexKind = "auto", *, least_recall: float = LEAST_RECALL, log: Log = silent) -> Self:
        """This model with an index of its items, in which lists are searched from now on; a bundle keeps it.

        Answers that name the items to offer, or items to exclude, still look at all items; so do those in which too
        little is left of what was found once the history is hidden.

        Args:
            kind: "flat", "hnsw" or "ivf"; "auto" chooses by how many items there are.
            least_recall: The share of the exact ten best that a search is to find, measured on up to 1,000 of the
                stored histories, or else on histories of a single item.
            log: Gets what was built, and its recall.

        Raises:
            ConfigError: FAISS is not installed, or nothing was met in training.
        """
        items = np.flatnonzero(self.answerable())
        if self.histories is not None and len(self.histories.queries):
            queries = self.histories.queries
            queries = queries.take(np.linspace(0, len(queries) - 1, min(SAMPLED, len(queries))).astype(np.int64))
        else:
            single = items[np.linspace(0, len(items) - 1, min(SAMPLED, len(items))).astype(np.int64)]
            queries = Queries(Ragged.from_lists(single[:, None]))
        asked = self.query_vectors(queries)
        model = copy.copy(self)
        model.index = VectorIndex.of(
            self.item_vectors(),
            items,
            asked[~np.isnan(asked).any(1)],
            kind=kind,
            least_recall=least_recall,
            log=log,
        )
        return model

    def with_items(
        self, table: Any, events: Dataset | None = None, *, key: str | None = None, log: Log = warned
    ) -> Self:
        """As of every model; an index is built anew, of the same kind and as sure to find."""
        return super().with_items(table, events, key=key, log=log).indexed_like(self.index)

    def indexed_like(self, index: VectorIndex | None) -> Self:
        """This model with an index of the kind and the least recall of another; None: as it is."""
        if index is None:
            return self
        return self.with_index(index.kind, least_recall=index.least_recall)  # type: ignore[arg-type]

    def _answered(self, queries: Queries, k: int, hidden: Ragged | None, offered: NDArray[np.bool_] | None) -> Answer:
        """From the index where there is one; those for whom it finds too little are answered from all items."""
        if self.index is None or offered is not None or not len(queries):
            return super()._answered(queries, k, hidden, offered)
        vectors = self.query_vectors(queries)
        found, scores = np.full((len(queries), k), PAD, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        known = np.flatnonzero(~np.isnan(vectors).any(1))
        for rows in np.array_split(known, max(1, -(-len(known) // SEARCHED))):
            own = None if hidden is None else hidden.take(rows)
            found[rows], scores[rows] = _searched(self.index, vectors[rows], k, own)
        source = np.where(found == PAD, PAD, 0).astype(np.int8)
        lacking = np.flatnonzero(found[:, -1] == PAD)
        if len(lacking):
            rest = super()._answered(queries.take(lacking), k, None if hidden is None else hidden.take(lacking), None)
            found[lacking], scores[lacking], source[lacking] = rest
        return found, scores, source

    def likeness_vectors(self) -> NDArray[np.float32]:
        """(items, dim) whose cosine is the likeness of two items; by default the item vectors."""
        return self.item_vectors()

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the cosine between the vectors of likeness."""
        import torch

        index = self._known(items)
        vectors = self.likeness_vectors()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        scores = torch.from_numpy(unit[index] @ unit.T)
        return similar(self, index, scores, k, self.answerable())

    def _scores(self, queries: Queries) -> "torch.Tensor":
        return self._scorer(queries)(slice(None))

    def _scorer(self, queries: Queries) -> "Callable[[slice], torch.Tensor]":
        """All queries are encoded at once: how many a network reads together is no matter of the catalogue's size."""
        import torch

        vectors = torch.from_numpy(np.ascontiguousarray(self.query_vectors(queries), np.float32))
        items = torch.from_numpy(self.item_vectors())
        unanswerable = torch.from_numpy(np.flatnonzero(~self.answerable()))

        def scores(chunk: slice) -> torch.Tensor:
            return (vectors[chunk] @ items.T).index_fill_(1, unanswerable, -torch.inf)

        return scores


def _searched(
    index: VectorIndex, vectors: NDArray[np.float32], k: int, hidden: Ragged | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best of each query that are not hidden; PAD at the end of a row of which too many were."""
    most = 0 if hidden is None else int(hidden.lengths.max(initial=0))
    found, scores = index.search(vectors, k + min(most, MOST_HIDDEN))
    if hidden is not None and most:
        span = int(max(hidden.values.max(), found.max())) + 1
        pairs = hidden.row_of_value() * span + hidden.values
        seen = np.isin(np.arange(len(found))[:, None] * span + found, pairs)
        found, scores = np.where(seen, PAD, found), np.where(seen, -np.inf, scores)
    order = np.lexsort((found, -scores))[:, :k]
    return np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)


def similar(
    model: Model, index: NDArray[np.int32], scores: "torch.Tensor", k: int, offered: NDArray[np.bool_] | None
) -> TopK:
    """The answer to 'what is like these items', from their likeness (asked, items) to all others."""
    import torch

    from foretaste.topk import best, mask_scores

    if k < 1:
        raise ConfigError(f"k must be at least 1; it is {k}.")
    mask_scores(scores, Ragged.from_lists(index[:, None]), offered)
    if offered is not None:
        scores[torch.from_numpy(~offered[index])] = -torch.inf  # nothing is known of an item never met
    found, values = best(scores, min(k, max(1, len(model.items) - 1)))
    source = np.where(found == PAD, PAD, 0).astype(np.int8)
    return TopK(found, values, source, (model.name,), model.items, labels=model.items.lookup(index))
