"""Item2Vec (Barkan, Koenigstein, "Item2Vec: Neural Item Embedding for Collaborative Filtering", MLSP 2016)."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.iterative import IterativeSettings
from foretaste.losses import binary_cross_entropy
from foretaste.mishaps import weights_explained
from foretaste.pairs import PairBatches, Pairs
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives
from foretaste.scoring import VectorModel
from foretaste.sessions import by_session
from foretaste.train import TrainPlan

__all__ = ["Item2Vec", "Item2VecModel", "neighbors_within"]

NEGATIVES = 5


class Item2Vec(IterativeSettings):
    """Skip-gram with negative sampling: an item is known by those that stand beside it.

    Of each two items i, j near each other in a history or session:
    log sigmoid(u_i . v_j) + sum over negatives k of log sigmoid(-u_i . v_k)  is maximised (eq. 2 to 4), with negatives
    drawn by popularity^0.75, and events of frequent items left out by chance (eq. 5). The likeness of two items is the
    cosine of u_i and u_j; a query is answered by its mean over the ``recent`` items, or (``similarity``) by that of
    u_i . v_j.

    An item is paired with up to ``window`` others on either side, of a number drawn anew for each, as in word2vec
    (Mikolov et al., 2013). The paper takes a history for a set and pairs all of it; here its order is shuffled anew in
    each epoch, which it proposes for the same end, or kept (``in_order``). Differs from both: optimised by AdamW in
    batches of pairs, where word2vec goes pair by pair with a falling rate; a drawn item that happens to be the one
    paired counts against it all the same; an epoch of which too little is left by chance takes all events.
    """

    dim: PositiveInt = 64
    window: PositiveInt = 5
    """The most places between two items that are paired."""
    in_order: bool = False
    """Pair what was met shortly before or after; otherwise any two of a history. Needs order."""
    sessions: bool = False
    """Pair only within sessions. Needs sessions."""
    similarity: Literal["cosine", "context"] = "cosine"
    """What is summed over a history: cosines, as in the paper, or u_i . v_j, which is what is learned: how much
    likelier j stands beside i than it is drawn as a negative. Cosines know nothing of what is popular; this does, and
    the more so, the lower ``negatives_alpha``."""
    recent: PositiveInt | None = None
    """How many of the latest events an answer is made from. None: all."""
    negatives: PositiveInt | None = None
    """Drawn for each pair; None: 5."""
    negatives_alpha: NonNegativeFloat = 0.75
    """Negatives are drawn by popularity to this power."""
    subsample: float | None = Field(default=1e-3, gt=0, lt=1)
    """An event of an item with share f of all events stays with the chance sqrt(subsample / f), if that is below 1.
    None: all stay."""
    batch_size: PositiveInt | None = None
    """Pairs per step. None: a hundredth of an epoch, at least 1,024 and at most 16,384."""
    plan: TrainPlan = TrainPlan(epochs=100, lr=3e-3, patience=5)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.recent is not None and not self.in_order:
            raise ValueError("recent takes the latest events, so it needs in_order")
        return self

    @property
    def required(self) -> Needs:
        return self.needs | Needs.wanted({Needs.ORDER: self.in_order, Needs.SESSIONS: self.sessions})

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "Item2VecModel":
        rows = by_session(train) if self.sessions else train
        histories = rows.histories if self.in_order else rows.baskets
        if not len(neighbors_within(histories, 1, run.rng("item2vec", "any"))[0]):
            whose = "session" if self.sessions else "user"
            raise DataError(f"{train.name} has no {whose} with two different items, so Item2Vec has none to pair.")
        about = About.of(train)
        torch.manual_seed(run.seed_of("item2vec", "weights"))
        with weights_explained("item2vec"):
            net = Item2VecNet(self, about)
        model = Item2VecModel(self, about, *net.answers())

        def batches(epoch: int) -> PairBatches:
            rng = run.rng("item2vec", "batches", epoch)
            pairs = neighbors_within(self.kept(histories, rng), self.window, rng)
            if not len(pairs[0]):
                pairs = neighbors_within(histories, self.window, rng)
            size = self.batch_size or int(np.clip(len(pairs[0]) // 100, 1024, 16_384))
            return PairBatches(*pairs, size, rng)

        def calibrate() -> None:
            model.vectors, model.contexts = net.answers()

        self.learn(model, net, batches, net.losses, train, validation, run, calibrate=calibrate)
        return model

    def kept(self, histories: Ragged, rng: np.random.Generator) -> Ragged:
        """The histories of an epoch: without some events of frequent items, and shuffled where order means nothing."""
        if self.subsample is not None:
            share = np.bincount(histories.values) / max(1, len(histories.values))
            chance = np.sqrt(self.subsample / np.maximum(share, 1e-30))
            histories = histories.where(rng.random(len(histories.values)) < chance[histories.values])
        if self.in_order:
            return histories
        order = np.argsort(histories.row_of_value() + rng.random(len(histories.values)))
        return histories.with_values(histories.values[order])

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "Item2VecModel":
        return Item2VecModel(self, about, state["items"], state.get("contexts"))

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        pairs = counts["events"] * (self.window + 1)
        # Two tables with gradient, two moments and the best copy; the pairs of an epoch, drawn and in order.
        return 2 * 5 * 4 * self.dim * counts["items"] + 40 * pairs


def neighbors_within(
    histories: Ragged, window: int, rng: np.random.Generator
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Each two different items of a row that stand near each other, once from each side that reaches so far.

    Args:
        window: The farthest that a place reaches; how far each does is drawn anew from 1 to this.

    Returns:
        (pairs,) the items that reach, (pairs,) those that they reach.
    """
    items, row = histories.values, histories.row_of_value()
    reach = rng.integers(1, window + 1, len(items))
    anchors, positives = [items[:0]], [items[:0]]
    for distance in range(1, min(window, len(items) - 1) + 1):
        near = (row[:-distance] == row[distance:]) & (items[:-distance] != items[distance:])
        early, late = np.flatnonzero(near), np.flatnonzero(near) + distance
        for one, other in ((early, late), (late, early)):
            far_enough = reach[one] >= distance
            anchors.append(items[one[far_enough]])
            positives.append(items[other[far_enough]])
    return np.concatenate(anchors), np.concatenate(positives)


class Item2VecNet(nn.Module):
    """Two vectors per item: as the one that is paired, and as one that it is paired with."""

    def __init__(self, settings: Item2Vec, about: About) -> None:
        super().__init__()
        count = len(about.items)
        self._count, self._similarity = settings.negatives or NEGATIVES, settings.similarity
        self._negatives = Negatives(about.popularity, settings.negatives_alpha)
        self.items = nn.Parameter(torch.empty(count, settings.dim))
        self.contexts = nn.Parameter(torch.zeros(count, settings.dim))
        nn.init.uniform_(self.items, -0.5 / settings.dim, 0.5 / settings.dim)

    def losses(self, batch: Pairs) -> dict[str, Tensor]:
        negatives = self._negatives.draw((len(batch), self._count), batch.anchor.device)
        anchors = nn.functional.embedding(batch.anchor, self.items)
        return {"skip-gram": binary_cross_entropy(anchors, self.contexts, batch.positive, negatives)}

    @torch.no_grad()
    def answers(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """(items, dim) what a history is read by, and what items are scored by; None: by the same, of length 1."""
        if self._similarity == "cosine":
            return np.asarray(nn.functional.normalize(self.items.float(), dim=1).cpu().numpy()), None
        items, contexts = (each.float().cpu().numpy() for each in (self.items, self.contexts))
        return items, contexts


class Item2VecModel(VectorModel):
    """Vectors of items; a query is the mean of those of its history.

    Args:
        vectors: (items, dim) that histories are read by.
        contexts: (items, dim) that items are scored by. None: the same, which are of length 1.
    """

    settings: Item2Vec

    def __init__(
        self, settings: Item2Vec, about: About, vectors: NDArray[np.float32], contexts: NDArray[np.float32] | None
    ) -> None:
        super().__init__(settings, about)
        self.vectors, self.contexts = vectors, contexts

    def state(self) -> dict[str, NDArray[Any]]:
        return {"items": self.vectors, **({} if self.contexts is None else {"contexts": self.contexts})}

    def item_vectors(self) -> NDArray[np.float32]:
        return self.vectors if self.contexts is None else self.contexts

    def likeness_vectors(self) -> NDArray[np.float32]:
        return self.vectors

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """The mean over the latest items, each as often as it stands there; NaN without one met in training."""
        history = self._readable(queries).history
        if self.settings.recent is not None:
            history = history.last(self.settings.recent)
        ones = np.ones(len(history.values), np.float32)
        read = csr_matrix((ones, history.values, history.offsets), shape=(len(queries), len(self.items)))
        sums, lengths = read @ self.vectors, history.lengths[:, None]
        return np.where(lengths > 0, sums / np.maximum(lengths, 1), np.nan).astype(np.float32)
