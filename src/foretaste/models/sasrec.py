"""SASRec: attention over the history (Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018)."""

from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.batching import Padded, Sequences
from foretaste.dataset import Needs
from foretaste.nets.attention import Norm, RelativePlaces, Rotation, SelfAttentionBlock, causal_bias, check_heads
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import IntervalEmbedding, KindEmbedding, PlaceEmbedding
from foretaste.nextitem import NextItemNet, NextItemSettings
from foretaste.recommender import About
from foretaste.sampling import Negatives
from foretaste.sequential import item_embedding

__all__ = ["SASRec", "SASRecNet"]


class SASRec(NextItemSettings):
    """Predicts each next item from those before it; the score is <state of the last place, item embedding>.

    Differs from the paper: cross-entropy over the whole catalogue instead of one sampled negative (Klenitskiy,
    Vasilev, "Turning Dross Into Gold Loss", RecSys 2023, show what that is worth), layer norm before each block, GELU,
    AdamW, and windows that use every event of histories longer than ``length``; ``inner`` is four times ``dim`` where
    the paper has ``dim``; there is no dropout on the attention weights; negatives of the sampled losses may be items
    that the user has met, which the paper leaves out. ``loss="bce"``, ``norm="post"``, ``inner=dim`` and
    ``positions="learned"`` come near the paper.
    """

    heads: PositiveInt = 1
    inner: PositiveInt | None = None
    """Width of the position-wise network; None: four times ``dim``."""
    positions: Literal["learned", "sinusoidal", "rotary", "relative"] = "learned"
    """How places are told apart: vectors added to the items, queries and keys turned, or a bias per distance."""
    norm: Norm = "pre"
    time_intervals: bool = False
    """Read how long after the event before it each event came. Needs times."""
    event_kinds: bool = False
    """Read of what kind each event is. Needs kinds."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_heads(self.dim, self.heads, rotary=self.positions == "rotary")
        return self

    @property
    def required(self) -> Needs:
        return self.needs | Needs.wanted(
            {Needs.TIMES: self.time_intervals, Needs.KINDS: self.event_kinds, Needs.ITEM_FEATURES: self.item_features}
        )

    def read(self, sequences: Sequences) -> Sequences:
        return sequences.only(times=self.time_intervals, kinds=self.event_kinds)

    def net(self, about: About) -> "SASRecNet":
        return SASRecNet(about, self)


class SASRecNet(NextItemNet):
    """Item and place embeddings, attention blocks, a last norm."""

    def __init__(self, about: About, settings: SASRec) -> None:
        super().__init__()
        dim, heads, length = settings.dim, settings.heads, settings.length
        self.items = item_embedding(about, dim, settings.item_features)
        self.intervals = IntervalEmbedding(dim) if settings.time_intervals else None
        self.kinds = KindEmbedding(len(about.kinds), dim) if settings.event_kinds else None
        added = settings.positions in ("learned", "sinusoidal")
        self.places = PlaceEmbedding(length, dim, learned=settings.positions == "learned") if added else None
        self.rotation = Rotation(length, dim // heads) if settings.positions == "rotary" else None
        self.distances = RelativePlaces(length, heads) if settings.positions == "relative" else None
        self.dropout = Dropout(settings.dropout)
        inner = settings.inner or 4 * dim
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(dim, heads, inner, settings.dropout, settings.norm) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(dim) if settings.norm == "pre" else nn.Identity()
        self.negatives = Negatives(about.popularity, settings.negatives_alpha)

    def forward(self, history: Padded, vectors: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        length = history.items.shape[1]
        states = self.items(history.items, vectors) * self.items.weight.shape[1] ** 0.5
        if self.places is not None:
            states = states + self.places(length)
        if self.intervals is not None:
            states = states + self.intervals(history.times_or_unknown())
        if self.kinds is not None and history.kinds is not None:
            states = states + self.kinds(history.kinds)
        states = self.dropout(states)
        bias = None
        if self.distances is not None:
            bias = causal_bias(length, states.device) + self.distances(length)
        *lower, last = self.blocks
        for block in lower:
            states = block(states, bias, self.rotation)
        return torch.as_tensor(self.norm(last(states, bias, self.rotation, places)))
