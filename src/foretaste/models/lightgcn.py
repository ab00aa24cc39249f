"""LightGCN (He et al., "LightGCN: Simplifying and Powering Graph Convolution Network", SIGIR 2020)."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.dataset import Dataset
from foretaste.itemloss import SAMPLED, sampling_notes, softmax_for
from foretaste.iterative import IterativeSettings
from foretaste.losses import full_softmax, sampled_softmax
from foretaste.mishaps import weights_explained
from foretaste.nets.graph import MetGraph
from foretaste.pairs import PairBatches, Pairs
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives, Unmet
from foretaste.scoring import VectorModel
from foretaste.storage import part, prefixed
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

__all__ = ["LightGCN", "LightGCNModel"]

KNOWN = "known_users"


class LightGCN(IterativeSettings):
    """Vectors of users and items, smoothed over the graph of who met what; nothing else is learned.

    With e_u, e_i learned, and d the degrees:  e_u^(k+1) = sum over i met by u of e_i^(k) / sqrt(d_u d_i),  likewise
    for items (eq. 3);  the vector that answers is the mean of layers 0 to K (eq. 4), the score the inner product.

    A query is answered from its history: the smoothed vector of a user is e_u / (K + 1) plus the sum over the history
    of what its items tell their neighbours, divided by the root of its length. For a user of training, asked with the
    history of training, that is what was learned, to the last digit; a history that has grown is taken as it is now;
    and somebody never seen lacks only e_u.

    Differs from the paper: the edges of the pairs that a step learns from are not in the graph that it sees, as those
    that are asked for later are not (``hide_edges``). The loss is by default a softmax over cosines, as in Wu et al.,
    "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", TOIS 2024; with loss="bpr",
    similarity="dot", temperature=1 and hide_edges=False it is the paper's. A step may have any number of pairs, because
    smoothing the whole graph, once there and once back, is most of its cost: the paper has 2,048.
    """

    dim: PositiveInt = 64
    layers: PositiveInt = 3
    layer_weights: tuple[float, ...] | None = None
    """How much layers 0, 1, ... count; None: all the same."""
    loss: Literal["softmax", "sampled_softmax", "bpr"] | None = None
    """None: the full softmax up to 100,000 items, the sampled one beyond."""
    negatives: PositiveInt | None = None
    """Items that a batch is scored against by the sampled softmax (2,048). Given without a loss it means that loss."""
    negatives_alpha: NonNegativeFloat = 0.0
    """Negatives are drawn by popularity to this power; the sampled softmax is corrected for it."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """What the score of two vectors is."""
    temperature: PositiveFloat = 0.1
    """The loss sees scores divided by this; inner products need none, 1.0."""
    l2: NonNegativeFloat = 0.0
    """How much half the squared length of the learned vectors of a batch counts, per pair; of bpr."""
    hide_edges: bool = True
    """Smooth the vectors of a step as if those of its pairs had not met: what is to be told cannot be read off the
    graph. False is the paper, whose graph has all edges."""
    batch_size: PositiveInt | None = None
    """Pairs per step. None: a hundredth of an epoch, at least 1,024 and at most 16,384."""
    plan: TrainPlan = TrainPlan(epochs=200, lr=3e-3, patience=5, validate_every=2)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.layer_weights is not None and len(self.layer_weights) != self.layers + 1:
            raise ValueError(
                f"layer_weights has {len(self.layer_weights)} weights; {self.layers} layers need {self.layers + 1}, "
                "the first for the learned vectors themselves"
            )
        if self.loss in ("softmax", "bpr") and self.negatives is not None:
            raise ValueError(f"negatives are those of loss sampled_softmax; {self.loss} has no such number")
        if self.loss in ("softmax", "bpr") and self.negatives_alpha:
            raise ValueError(f"negatives_alpha is of loss sampled_softmax; {self.loss} draws by no popularity")
        if self.l2 and self.loss != "bpr":
            raise ValueError("l2 is a setting of loss bpr; with the others use plan.weight_decay")
        return self

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "LightGCNModel":
        about, met = About.of(train), train.matrix(binary=True)
        for note in sampling_notes(len(about.items), self.loss, self.negatives):
            run.log(f"lightgcn: {note}")
        torch.manual_seed(run.seed_of("lightgcn", "weights"))
        user, item = met.nonzero()
        unmet = Unmet(user, item, len(about.items)) if self.loss == "bpr" else None
        with weights_explained("lightgcn"):
            net = LightGCNNet(self, MetGraph(met, self.weights_of_layers()), about.popularity, unmet)
        model = LightGCNModel(self, about, {}, train.users)
        size = self.batch_size or int(np.clip(len(user) // 100, 1024, 16_384))
        self.learn(
            model,
            net,
            lambda epoch: PairBatches(user, item, size, run.rng("lightgcn", "batches", epoch)),
            net.losses,
            train,
            validation,
            run,
            calibrate=lambda: model.take(net),
        )
        return model

    def weights_of_layers(self) -> tuple[float, ...]:
        return self.layer_weights or (1 / (self.layers + 1),) * (self.layers + 1)

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "LightGCNModel":
        vectors = {name: array for name, array in state.items() if not name.startswith(f"{KNOWN}.")}
        return LightGCNModel(self, about, vectors, Vocab.from_arrays(part(state, KNOWN)))

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        # Weights, gradient, two moments, the best copy; three layers at a time on the way there and back; of each edge
        # its place and its weight in both directions, the weights once more without those of a step, and its ends.
        vectors = 4 * self.dim * (counts["users"] + counts["items"])
        chunk = 0 if self.loss == "bpr" else 3 * 4 * 512 * counts["items"]
        return 8 * vectors + chunk + 90 * counts["events"]


class LightGCNNet(nn.Module):
    """The learned vectors, the graph that smooths them, and the loss of a batch of pairs.

    Args:
        popularity: (items,) by whose power negatives are drawn.
        unmet: Draws the negatives of bpr; None with the other losses.
    """

    def __init__(
        self, settings: LightGCN, graph: MetGraph, popularity: NDArray[np.float32], unmet: Unmet | None
    ) -> None:
        super().__init__()
        users, items = graph.to_users.shape
        self.settings, self.graph, self._unmet = settings, graph, unmet
        self._negatives = Negatives(popularity, settings.negatives_alpha)
        self.users = nn.Parameter(torch.empty(users, settings.dim))
        self.items = nn.Parameter(torch.empty(items, settings.dim))
        for table in (self.users, self.items):
            nn.init.normal_(table, std=0.1)

    def losses(self, batch: Pairs) -> dict[str, Tensor]:
        """The chosen loss, by its name."""
        settings = self.settings
        hidden = (batch.anchor, batch.positive) if settings.hide_edges else None
        users, items = self.graph(self.users, self.items, hidden)
        users, items = self.scored(nn.functional.embedding(batch.anchor, users)), self.scored(items)
        if self._unmet is not None:
            return self._bpr(users, items, batch, self._unmet.draw(batch.anchor))
        states = users / settings.temperature
        loss = settings.loss or softmax_for(len(items), settings.negatives)
        if loss == "softmax":
            return {loss: full_softmax(states, items, batch.positive)}
        count = settings.negatives or SAMPLED[loss]
        odds = self._negatives.log_odds(count).to(states.device) if settings.negatives_alpha else None
        return {loss: sampled_softmax(states, items, batch.positive, self._negatives.draw(count, states.device), odds)}

    def _bpr(self, users: Tensor, items: Tensor, batch: Pairs, other: Tensor) -> dict[str, Tensor]:
        """-log sigmoid(score of the met item - score of one not met), and half the squares of what was learned."""
        difference = (users * (items[batch.positive] - items[other])).sum(1)
        losses = {"bpr": nn.functional.softplus(-difference / self.settings.temperature).mean()}
        if self.settings.l2:
            learned = self.users[batch.anchor], self.items[batch.positive], self.items[other]
            losses["l2"] = self.settings.l2 / 2 * sum(each.square().sum(1).mean() for each in learned)  # type: ignore[assignment]
        return losses

    def scored(self, vectors: Tensor) -> Tensor:
        """Smoothed vectors as scores take them: of length 1 where scores are cosines."""
        return vectors if self.settings.similarity == "dot" else nn.functional.normalize(vectors, dim=1)

    @torch.no_grad()
    def answers(self) -> dict[str, NDArray[np.float32]]:
        """What answers are made of.

        Returns:
            items: (items, dim) their vectors.
            told: (items, dim) what each tells a history that it stands in.
            users: (users, dim) what the users of training bring of their own; zero for those who met nothing there.
        """
        degree = self.graph.to_items.crow_indices().diff().clamp(min=1).unsqueeze(1)
        told = self.graph.told_to_users(self.users, self.items) / degree.sqrt()
        items = self.scored(self.graph.smoothed(self.users, self.items)[1])
        met = self.graph.to_users.crow_indices().diff() > 0
        own = self.users * self.graph.weights[0] * met.unsqueeze(1)
        return {name: each.float().cpu().numpy() for name, each in (("items", items), ("told", told), ("users", own))}


class LightGCNModel(VectorModel):
    """Vectors of items, what each of them tells a history, and what the users of training bring of their own."""

    settings: LightGCN

    def __init__(
        self, settings: LightGCN, about: About, vectors: Mapping[str, NDArray[np.float32]], users: Vocab
    ) -> None:
        super().__init__(settings, about)
        self._vectors = dict(vectors)
        self._users = users

    def take(self, net: LightGCNNet) -> None:
        """While fitting: answer from the weights as they are now."""
        self._vectors = net.answers()

    def state(self) -> dict[str, NDArray[Any]]:
        return {**self._vectors, **prefixed(KNOWN, self._users.arrays())}

    def item_vectors(self) -> NDArray[np.float32]:
        return self._vectors["items"]

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """The smoothed vector of each history; NaN for one without an item met in training."""
        history = self._readable(queries).matrix(len(self.items))
        count = np.diff(history.indptr)
        vectors = (history @ self._vectors["told"]) / np.sqrt(np.maximum(count, 1), dtype=np.float32)[:, None]
        if queries.user is not None:
            stored = None if self.histories is None else self.histories.users
            own = self._users.renumbered(queries.user, stored)
            vectors[own != PAD] += self._vectors["users"][own[own != PAD]]
        vectors[count == 0] = np.nan
        return np.asarray(vectors, np.float32)
