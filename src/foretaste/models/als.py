"""Implicit ALS (Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from foretaste.dataset import Dataset
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged, groups_within
from foretaste.recommender import About, Settings
from foretaste.run import Run
from foretaste.scoring import VectorModel

__all__ = ["ALS", "ALSModel"]

FOLDED_IN = 50_000  # events, padding included, of the histories that are solved together


class ALS(Settings):
    """Factors of users and items by alternating least squares, through the package ``implicit``.

    Minimises  sum_ui c_ui (p_ui - x_u.y_i)^2 + reg (|x|^2 + |y|^2)  with c_ui = 1 + alpha r_ui (eq. 3).
    A query is folded in: its vector is the least-squares solution for its history against the item factors (eq. 4),
    so people never seen are answered like everybody else, and stored user factors are not needed.
    Differs from the paper: ``implicit`` solves by conjugate gradients while fitting; the fold-in is exact.
    """

    by_vectors: ClassVar[bool] = True
    dim: PositiveInt = 64
    regularization: PositiveFloat = 0.05
    alpha: PositiveFloat = 1.0
    epochs: PositiveInt = 15
    binary: bool = True
    """Count each user once per item; otherwise events add up by their kinds' weights."""

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "ALSModel":
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        confidence = train.matrix(binary=self.binary)
        confidence.data = 1 + self.alpha * confidence.data

        def report(epoch: int, seconds: float, loss: float | None = None) -> None:
            if run.progress:
                run.progress("als", epoch + 1, self.epochs, "epochs")

        # BLAS threads under implicit's own ones would fight over the cores.
        with threadpool_limits(1, "blas"):
            factors = AlternatingLeastSquares(
                factors=self.dim,
                regularization=self.regularization,
                alpha=1.0,  # the confidences are in the matrix already
                iterations=self.epochs,
                num_threads=run.threads or 0,
                random_state=run.seed_of("als") % 2**31,
            )
            factors.fit(confidence, show_progress=False, callback=report)
        return ALSModel(self, About.of(train), np.asarray(factors.item_factors, np.float32))

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "ALSModel":
        return ALSModel(self, about, state["item_factors"])

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        return 4 * self.dim * (counts["users"] + counts["items"]) + 32 * counts["events"]


class ALSModel(VectorModel):
    """Item factors; people are folded in."""

    settings: ALS

    def __init__(self, settings: ALS, about: About, factors: NDArray[np.float32]) -> None:
        super().__init__(settings, about)
        self._factors = factors  # (items, dim)
        regularized = settings.regularization * np.eye(settings.dim)
        self._base = (factors.T @ factors).astype(np.float64) + regularized

    def state(self) -> dict[str, NDArray[Any]]:
        return {"item_factors": self._factors}

    def item_vectors(self) -> NDArray[np.float32]:
        return self._factors

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """The exact least-squares solution for each history; NaN for one without an item met in training."""
        queries = self._readable(queries)
        history = queries.matrix(len(self.items), None if self.settings.binary else self.about.kinds.weights)
        offsets = history.indptr.astype(np.int64)
        items, worth = Ragged(history.indices, offsets), Ragged(history.data, offsets)
        vectors = np.full((len(queries), self.settings.dim), np.nan, np.float32)
        # Histories of similar length are solved together, so that little is computed for padding.
        asked = np.argsort(items.lengths, kind="stable")
        asked = asked[items.lengths[asked] > 0]
        for rows in groups_within(asked, items.lengths, FOLDED_IN):
            vectors[rows] = self._solve(items.take(rows), worth.take(rows))
        return vectors

    def _solve(self, items: Ragged, worth: Ragged) -> NDArray[np.float32]:
        """(rows, dim) the solutions of  (base + alpha sum r y y') x = sum (1 + alpha r) y."""
        import torch

        met = torch.from_numpy(self._factors)[torch.from_numpy(items.padded(fill=0).astype(np.int64))]
        present = torch.from_numpy(items.with_values(np.ones(len(items.values), np.float32)).padded(fill=0))
        rated = self.settings.alpha * torch.from_numpy(worth.padded(fill=0))
        left = torch.from_numpy(self._base) + (met * rated[:, :, None]).mT @ met
        right = ((present + rated)[:, None, :] @ met).mT.double()
        vectors: NDArray[np.float32] = torch.linalg.solve(left, right)[:, :, 0].float().numpy()
        return vectors
