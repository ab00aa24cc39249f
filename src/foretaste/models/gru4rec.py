"""GRU4Rec: recurrent units over a session (Hidasi et al., "Session-based Recommendations with RNNs", ICLR 2016)."""

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.batching import Padded, SequenceBatch, Sequences
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError
from foretaste.itemloss import SAMPLED, sampling_notes, softmax_for
from foretaste.losses import bpr_max, full_softmax, sampled_softmax, top1_max
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import ItemEmbedding
from foretaste.nets.gru import GRU, fill_evenly
from foretaste.query import Queries
from foretaste.ragged import PAD
from foretaste.recommender import About
from foretaste.sampling import Negatives
from foretaste.sequential import MOST_TOKENS, SequenceNet, SequenceSettings
from foretaste.sessions import by_session

__all__ = ["GRU4Rec", "GRU4RecNet"]

Loss = Literal["softmax", "sampled_softmax", "bpr_max", "top1_max"]


class GRU4Rec(SequenceSettings):
    """Predicts each next item from a state that every event so far has changed; the score is <state, item> + bias.

    The bias of an item is one more coordinate of its vector, and the state has a 1 there. With ``sessions`` each
    session is somebody new: it is learned from by itself, its state begins at 0, and an answer depends on the running
    session alone. A history without known sessions, such as a plain list of items, is one running session.

    The authors' own way on RetailRocket, say, is ``GRU4Rec(sessions=True, loss="bpr_max", dim=224, dropout=0.5,
    dropout_hidden=0.05, score_regularization=1.95, negatives_alpha=0.4, batch_negatives=80,
    plan=TrainPlan(optimizer="adagrad", lr=0.05, momentum=0.4, epochs=10))``, and the cross-entropy of their tables
    ``loss="sampled_softmax", negatives_correction="all"``.

    Sources: the two papers, the second being Hidasi, Karatzoglou, "Recurrent Neural Networks with Top-k Gains for
    Session-based Recommendations", CIKM 2018; and the published code (GRU4Rec, GRU4Rec_PyTorch_Official), from which
    come tied embeddings, biases, dropout on the carried state, the initial weights, ELU on scores, logQ and Adagrad
    with momentum. Hidasi, Czapp, "The Effect of Third Party Implementations on Reproducibility", RecSys 2023, count
    what others leave out.

    Differs from the published code: rows are learned from whole, with gradients through all of their places; there,
    sessions run side by side and each step sees one event of each, with a gradient through that one event. So a step
    here sees ``batch_tokens`` places where theirs sees 32 to 240, and ``batch_negatives`` of their targets, drawn, are
    negatives for all, where there all of them are; they may be of the same session. An item that is a place's target
    is never its negative. Sessions come in random order, not by time; a row longer than ``length`` is cut into
    windows, which begin at 0, and an answer reads the last ``length`` events from 0. All layers have ``dim`` units. In
    the one-hot form dropout on the first state is ``dropout_hidden``, as in the Theano code. AdamW and, up to 100,000
    items, the softmax over the whole catalogue are the default. Left out: the losses TOP1 and BPR that the second
    paper replaces, other activations, label smoothing, and strengths of the logQ correction between none and full.
    """

    layers: PositiveInt = 1
    embeddings: Literal["tied", "separate", "one_hot"] = "tied"
    """What is read of an item: the vector that states are compared with ("constrained" embeddings), a vector of its
    own, or a row of the first layer's input weights."""
    embedding_dim: PositiveInt | None = None
    """Width of separate embeddings; None: ``dim``."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """On what is read of each item; the one-hot form has nothing for it to fall on."""
    dropout_hidden: float = Field(default=0.0, ge=0, lt=1)
    """On the state of each layer."""
    dropout_carried: bool = True
    """Whether the state after dropout is also the one that is carried to the next event, as in the published code. Over
    histories much longer than a session little would be left of what came long ago: False lets it fall only on what is
    handed on to the next layer and the scores."""
    loss: Loss | None = None
    """None: the full softmax up to 100,000 items, the sampled one beyond."""
    negatives: PositiveInt | None = None
    """How many items all places of a batch are scored against; None: 2,048 where the loss draws any. Given without a
    loss it means the sampled softmax."""
    negatives_alpha: NonNegativeFloat = 0.5
    """They are drawn by popularity to this power."""
    batch_negatives: NonNegativeInt = 128
    """How many targets of the batch, drawn from them, are negatives besides."""
    negatives_correction: Literal["none", "negatives", "all"] = "negatives"
    """Of the sampled softmax, for how its negatives are drawn. "negatives": the logarithm of how often each is expected
    is taken off its score, so that the sum estimates that over the catalogue. "all": off the score of the target, too,
    as the published code does (logq = 1): popularity for those of the batch, its power for the others."""
    score_regularization: NonNegativeFloat = 1.0
    """Of bpr_max and top1_max: how much the size of the negatives' scores counts."""
    elu: NonNegativeFloat = 0.5
    """Of bpr_max and top1_max: scores below 0 are bent so that none is below minus this; 0: they stay as they are."""
    sessions: bool = False
    """Learn from sessions and answer the running one, instead of whole histories. Needs sessions."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.loss == "softmax" and self.negatives is not None:
            raise ValueError("the softmax is over all items and draws no negatives; loss sampled_softmax does")
        if self.embedding_dim is not None and self.embeddings != "separate":
            raise ValueError(
                f"embedding_dim ({self.embedding_dim}) is the width of separate embeddings; these are {self.embeddings}"
            )
        return self

    @property
    def required(self) -> Needs:
        return self.needs | (Needs.SESSIONS if self.sessions else Needs.NOTHING)

    def histories(self, data: Dataset) -> Sequences:
        if not self.sessions:
            return Sequences.of(data)
        rows = Sequences.of(by_session(data))
        if rows.lengths.max(initial=0) < 2:
            raise DataError(f"{data.name} has no session with two events, so GRU4Rec has nothing to predict.")
        return rows

    def asked(self, queries: Queries) -> Queries:
        if not self.sessions or queries.session_start is None:
            return queries
        history = queries.history
        place = np.arange(len(history.values)) - np.repeat(history.offsets[:-1], history.lengths)
        return queries.where(place >= np.repeat(queries.session_start, history.lengths))

    def net(self, about: About) -> "GRU4RecNet":
        return GRU4RecNet(about, self)

    def chosen_loss(self, items: int) -> Loss:
        """The loss that is meant where none is named."""
        return self.loss or softmax_for(items, self.negatives)

    def notes(self, about: About) -> list[str]:
        return sampling_notes(len(about.items), self.loss, self.negatives)

    def losses(self, net: "GRU4RecNet", batch: SequenceBatch) -> Mapping[str, Tensor]:
        wanted = batch.targets != PAD
        states, targets = net(batch.history)[wanted], batch.targets[wanted]
        loss = self.chosen_loss(net.count)
        if loss == "softmax":
            return {loss: full_softmax(states, net.item_vectors(), targets)}
        of_batch = targets[torch.randperm(len(targets), device=targets.device)[: self.batch_negatives]]
        others = net.negatives.draw(self.negatives or SAMPLED["sampled_softmax"], targets.device)
        # From here on there are only the items that take part, so a step costs the same in any catalogue.
        taking_part, place = torch.unique(torch.cat([targets, of_batch, others]), return_inverse=True)
        vectors = net.item_vectors(taking_part)
        targets, of_batch, others = place.split([len(targets), len(of_batch), len(others)])
        drawn = torch.cat([of_batch, others])
        if loss == "sampled_softmax":
            shift, log_odds = self._corrections(net, taking_part, of_batch, others)
            vectors = torch.cat([vectors[:, :-1], vectors[:, -1:] - shift[:, None]], 1)
            return {loss: sampled_softmax(states, vectors, targets, drawn, log_odds)}
        pairwise = bpr_max if loss == "bpr_max" else top1_max
        value = pairwise(states, vectors, targets, drawn, regularization=self.score_regularization, elu=self.elu)
        return {loss: value}

    def _corrections(
        self, net: "GRU4RecNet", items: Tensor, of_batch: Tensor, others: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What to take off the scores of these items, and what besides where they are negatives, in nats.

        Args:
            items: (items,) those that take part.
            of_batch: Places in ``items`` of the negatives that are targets of the batch.
            others: The same of those drawn by popularity^alpha.
        """
        nothing = torch.zeros(len(items), device=items.device)
        if self.negatives_correction == "none":
            return nothing, None
        popularity = net.log_popularity[items]
        if self.negatives_correction == "negatives":
            expected = net.negatives.log_odds(len(others)).to(items.device)[items]
            if len(of_batch):
                share = popularity - net.log_popularity.logsumexp(0)
                expected = torch.logaddexp(expected, share + float(np.log(len(of_batch))))
            return nothing, expected
        # The code takes log p off a target and a negative of the batch, and log p^alpha off another. So an item of
        # which there are m and n counts as m / p + n / p^alpha, which is 1 / p times m + n p^(1 - alpha).
        first, second = (torch.bincount(part, minlength=len(items)).float() for part in (of_batch, others))
        counts = first + second * ((1 - self.negatives_alpha) * popularity).exp()
        return popularity, (first + second).log() - counts.log()

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        width = {"tied": 0, "separate": self.embedding_dim or self.dim, "one_hot": 3 * self.dim}[self.embeddings]
        tables = counts["items"] * (self.dim + 1 + width)
        activations = (self.batch_tokens or MOST_TOKENS) * self.dim * (4 + 20 * self.layers)
        logits = 512 * counts["items"] if self.chosen_loss(counts["items"]) == "softmax" else 0
        return 4 * (5 * (tables + self.layers * 6 * self.dim**2) + activations + 3 * logits) + 8 * counts["events"]


class GRU4RecNet(SequenceNet):
    """Item vectors with their biases, what is read of the items, and the recurrent layers."""

    log_popularity: Tensor  # (items,) natural logarithm; items without events count as much as the least popular

    def __init__(self, about: About, settings: GRU4Rec) -> None:
        super().__init__()
        self.count, dim = len(about.items), settings.dim
        # Adagrad can do with the rows that were touched; the norm that clips the gradient needs all of them.
        in_rows = settings.plan.optimizer == "adagrad" and settings.plan.clip is None
        in_rows = in_rows and settings.chosen_loss(self.count) != "softmax"
        self.items = ItemRows(self.count, dim, in_rows=in_rows)
        self.biases = ItemRows(self.count, 1, in_rows=in_rows)
        nn.init.zeros_(self.biases.weight)
        width = {"tied": dim, "separate": settings.embedding_dim or dim, "one_hot": 3 * dim}[settings.embeddings]
        self.inputs = None if settings.embeddings == "tied" else ItemRows(self.count, width, in_rows=in_rows)
        projected = settings.embeddings == "one_hot"
        if self.inputs is not None and projected:
            for gate in self.inputs.weight.chunk(3, 1):
                fill_evenly(gate)
        self.dropout = Dropout(0.0 if projected else settings.dropout)
        self.blocks = nn.ModuleList(
            GRU(
                dim if number else None if projected else width,
                dim,
                settings.dropout_hidden,
                carried=settings.dropout_carried,
            )
            for number in range(settings.layers)
        )
        self.negatives = Negatives(about.popularity, settings.negatives_alpha)
        least = about.popularity[about.popularity > 0].min(initial=1)
        log_popularity = torch.from_numpy(np.log(np.maximum(about.popularity, least)).astype(np.float32))
        self.register_buffer("log_popularity", log_popularity, persistent=False)

    def forward(self, history: Padded) -> Tensor:
        """States (batch, length, dim + 1) of right-padded histories; those of padding mean nothing."""
        # Padding is read as the row's first item: no item is touched that would not be, and what comes of it is unused.
        items = torch.where(history.items == PAD, history.items[:, :1], history.items).T
        states = self.dropout((self.items if self.inputs is None else self.inputs)(items))
        for block in self.blocks:
            states = block(states)
        return torch.cat([states, states.new_ones(*items.shape, 1)], 2).transpose(0, 1)

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """(items, dim + 1) vectors, and the bias, of some items or all."""
        if items is None:
            return torch.cat([self.items.weight, self.biases.weight], 1)
        return torch.cat([self.items(items), self.biases(items)], 1)


class ItemRows(ItemEmbedding):
    """A vector per item, whose gradient may hold only the rows that were read.

    Args:
        in_rows: Whether it does (torch calls it sparse).
    """

    def __init__(self, items: int, dim: int, *, in_rows: bool) -> None:
        super().__init__(items, dim)
        self.in_rows = in_rows
        fill_evenly(self.weight)

    def forward(self, items: Tensor, vectors: Tensor | None = None) -> Tensor:
        """The vectors (..., dim) of item indices (...), among which there must be no PAD."""
        return nn.functional.embedding(items, self.weight if vectors is None else vectors, sparse=self.in_rows)
