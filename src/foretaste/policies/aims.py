"""What a list is chosen for, place by place: MMR, determinantal point processes, and a person's own mix."""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_matrix

from foretaste.catalog import Table
from foretaste.evaluation.lists import ItemVectors
from foretaste.policies.shelf import Shelf, names_of_items

__all__ = ["DPP", "MMR", "Aim", "Calibrated", "Pursuit", "by_relevance", "shares_of"]

STEEPEST = 100.0  # theta, beyond which volumes would not fit into a number
LEAST = 1e-10  # volume that a further item may add before it counts as one that is there already


class Pursuit(ABC):
    """An aim on some shelves: what each candidate is worth as the next, given what was taken."""

    @abstractmethod
    def gains(self) -> NDArray[np.float64]:
        """(queries, candidates) the higher the better."""

    @abstractmethod
    def take(self, candidate: NDArray[np.int64]) -> None:
        """Put a candidate (queries,) of each query behind what was taken."""


class _Aim(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dial: ClassVar[str] = "diversity"  # the setting that says how much beside relevance counts

    def at(self, strength: float) -> Self:
        """The same aim, as strong as that: between 0, for relevance alone, and 1."""
        return self.model_copy(update={self.dial: strength})


class MMR(_Aim):
    """Maximal marginal relevance: (1 - diversity) relevance - diversity * the likeness to the most alike item above.

    Source: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking", SIGIR 1998. Relevance is between the
        worst and the best of the candidates; likeness is a cosine of categories, or of who met both.
    """

    kind: Literal["mmr"] = "mmr"
    diversity: float = Field(default=0.3, ge=0, le=1)

    def pursued(self, shelf: Shelf, catalog: Table, vectors: ItemVectors) -> Pursuit:
        return _MMR(shelf, vectors.values[shelf.items], self.diversity)


class DPP(_Aim):
    """A determinantal point process: the list whose items, as long as they are good, span the largest volume.

    The kernel is q_i s_ij q_j with q = exp(theta relevance), theta = (1 - diversity) / (2 diversity), s the likeness;
    items are taken greedily by what they add to the logarithm of its determinant.

    Source: Chen, Zhang, Zhou, "Fast Greedy MAP Inference for Determinantal Point Process to Improve Recommendation
        Diversity", NeurIPS 2018, algorithm 1 and eq. 12.
    """

    kind: Literal["dpp"] = "dpp"
    diversity: float = Field(default=0.3, gt=0, lt=1)

    def pursued(self, shelf: Shelf, catalog: Table, vectors: ItemVectors) -> Pursuit:
        if not self.diversity:
            return by_relevance(shelf)
        return _DPP(shelf, vectors.values[shelf.items], self.diversity)


class Calibrated(_Aim):
    """The mix of categories that a person's history has, in the list too.

    (1 - strength) the sum of relevance - strength KL(p, q), where p is the mix of the history and q that of the list,
    smoothed by a hundredth of p.

    Source: Steck, "Calibrated Recommendations", RecSys 2018, eqs. 2, 3, 5 and 6. An item shares its weight among its
        categories; all events of a history count the same.
    """

    dial: ClassVar[str] = "strength"
    kind: Literal["calibrated"] = "calibrated"
    column: str
    """Of categories, such as genres."""
    strength: float = Field(default=0.5, ge=0, le=1)

    def pursued(self, shelf: Shelf, catalog: Table, vectors: ItemVectors) -> Pursuit:
        return _Calibrated(shelf, shares_of(names_of_items(catalog, self.column)), self.strength)


Aim = Annotated[MMR | DPP | Calibrated, Field(discriminator="kind")]


def by_relevance(shelf: Shelf) -> Pursuit:
    """The candidates in the order that they have."""
    return _Relevance(shelf.relevance)


class _Relevance(Pursuit):
    def __init__(self, relevance: NDArray[np.float64]) -> None:
        self._relevance = relevance

    def gains(self) -> NDArray[np.float64]:
        return self._relevance

    def take(self, candidate: NDArray[np.int64]) -> None:
        """Nothing changes."""


class _MMR(Pursuit):
    def __init__(self, shelf: Shelf, vectors: NDArray[np.float32], diversity: float) -> None:
        self._relevance, self._vectors, self._diversity = shelf.relevance, vectors, diversity
        self._nearest = np.zeros(shelf.items.shape)

    def gains(self) -> NDArray[np.float64]:
        return np.asarray((1 - self._diversity) * self._relevance - self._diversity * self._nearest)

    def take(self, candidate: NDArray[np.int64]) -> None:
        self._nearest = np.maximum(self._nearest, _likeness(self._vectors, candidate))


class _DPP(Pursuit):
    def __init__(self, shelf: Shelf, vectors: NDArray[np.float32], diversity: float) -> None:
        self._vectors, self._relevance = vectors, shelf.relevance
        self._quality = np.exp(min((1 - diversity) / (2 * diversity), STEEPEST) * shelf.relevance)
        self._adds = self._quality**2  # what each would add to the volume; likeness to itself is 1
        self._taken: list[NDArray[np.float64]] = []  # a row of the Cholesky factor for each place

    def gains(self) -> NDArray[np.float64]:
        # Of items that add nothing any more, the more relevant ones come first.
        return np.asarray(np.log(np.maximum(self._adds, LEAST)) + LEAST * self._relevance)

    def take(self, candidate: NDArray[np.int64]) -> None:
        row = np.arange(len(candidate))
        alike = _likeness(self._vectors, candidate)
        alike[row, candidate] = 1.0
        kernel = self._quality[row, candidate, None] * alike * self._quality
        for before in self._taken:
            kernel -= before[row, candidate, None] * before
        step = kernel / np.sqrt(np.maximum(self._adds[row, candidate], LEAST))[:, None]
        self._taken.append(step)
        self._adds = self._adds - step**2


class _Calibrated(Pursuit):
    SMOOTHING = 0.01

    def __init__(self, shelf: Shelf, shares: csr_matrix, strength: float) -> None:
        self._relevance, self._strength = shelf.relevance, strength
        ones = np.ones(len(shelf.history.values))
        met = csr_matrix(
            (ones, shelf.history.values, shelf.history.offsets), shape=(len(shelf), shares.shape[0]), copy=True
        )
        wanted = np.asarray((met @ shares).todense())
        self._wanted = wanted / np.maximum(wanted.sum(1, keepdims=True), LEAST)
        self._shares = np.stack([np.asarray(shares[row].todense()) for row in shelf.items])
        self._shares[shelf.items < 0] = 0
        self._listed, self._places = np.zeros_like(self._wanted), 0

    def gains(self) -> NDArray[np.float64]:
        return (1 - self._strength) * self._relevance - self._strength * self._divergence()

    def _divergence(self) -> NDArray[np.float64]:
        """(queries, candidates) KL(p, q) of the list with each candidate behind it; 0 for those without a history."""
        listed = (self._listed[:, None] + self._shares) / (self._places + 1)
        smoothed = (1 - self.SMOOTHING) * listed + self.SMOOTHING * self._wanted[:, None]
        wanted = self._wanted[:, None]
        ratio = np.where(wanted > 0, wanted / np.maximum(smoothed, LEAST), 1.0)
        return np.asarray((wanted * np.log(ratio)).sum(2))

    def take(self, candidate: NDArray[np.int64]) -> None:
        self._listed = self._listed + self._shares[np.arange(len(candidate)), candidate]
        self._places += 1


def _likeness(vectors: NDArray[np.float32], candidate: NDArray[np.int64]) -> NDArray[np.float64]:
    """(queries, candidates) how alike each candidate is to the one named (queries,)."""
    chosen = vectors[np.arange(len(candidate)), candidate]
    return np.asarray(np.einsum("qd,qcd->qc", chosen, vectors), np.float64)


def shares_of(names: csr_matrix) -> csr_matrix:
    """(items, names) each item's weight, shared among its names."""
    lengths = np.diff(names.indptr)
    return csr_matrix((np.repeat(1 / np.maximum(lengths, 1), lengths), names.indices, names.indptr), shape=names.shape)
