"""The two ways in which a model says what it thinks: a score for each item, or vectors whose products are scores."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.errors import ConfigError
from foretaste.query import Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Model

if TYPE_CHECKING:
    import torch

__all__ = ["ScoringModel", "VectorModel", "similar"]


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

    @abstractmethod
    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, dim); a row of NaN = no answer."""

    @abstractmethod
    def item_vectors(self) -> NDArray[np.float32]:
        """(items, dim)."""

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, items) inner products; -inf at items that the model cannot know, NaN rows = no answer."""
        return self._scores(queries).numpy()

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
