"""HSTU: gated attention without a softmax (Zhai et al., "Actions Speak Louder than Words", ICML 2024)."""

from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.batching import Padded, Sequences
from foretaste.dataset import Needs
from foretaste.nets.attention import (
    RelativePlaces,
    RelativeTimes,
    at_places,
    causal_bias,
    check_heads,
    interval_table,
    rows_at,
)
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import PlaceEmbedding
from foretaste.nextitem import NextItemNet, NextItemSettings
from foretaste.recommender import About
from foretaste.sampling import Negatives
from foretaste.sequential import item_embedding

__all__ = ["HSTU", "HSTUNet"]


class HSTU(NextItemSettings):
    """Predicts each next item from those before it, by blocks that gate what attention has read.

    A block makes a gate U, queries Q, keys K and values V of its normed input X by one product and SiLU (eq. 1), reads
    A V with A = SiLU(Q K' + bias of distance and time) over the places up to its own (eq. 2), and adds
    f(norm(A V) * U) to its input (eq. 3). There is no position-wise network: the gate takes its place, so a block has
    5 dim^2 weights where one of SASRec has 12.

    Differs from the paper and its code: cross-entropy over the whole catalogue instead of sampled negatives; queries
    are divided by the root of their width and the weights A by the root of how many places may be seen (the paper
    divides by the constant maximal length), so that what is read neither vanishes nor grows with the history; items
    and states are compared by inner product without temperature; learned vectors of places are added to the items;
    each distance has its own bias per head, and times theirs in steps of powers of two. The moment of asking is not
    told to the model: times are those of the events that were read.
    """

    layers: PositiveInt = 4
    heads: PositiveInt = 1
    attention: Literal["silu", "softmax"] = "silu"
    """How logits become weights; "softmax" for comparison."""
    time_intervals: bool = False
    """Let attention know how much time lies between two events. Needs times."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        check_heads(self.dim, self.heads)
        return self

    @property
    def required(self) -> Needs:
        times = Needs.TIMES if self.time_intervals else Needs.NOTHING
        return self.needs | times | (Needs.ITEM_FEATURES if self.item_features else Needs.NOTHING)

    def read(self, sequences: Sequences) -> Sequences:
        return sequences.only(times=self.time_intervals)

    def net(self, about: About) -> "HSTUNet":
        return HSTUNet(about, self)


class HSTUNet(NextItemNet):
    """Item and place embeddings, HSTU blocks, a last norm."""

    def __init__(self, about: About, settings: HSTU) -> None:
        super().__init__()
        self.items = item_embedding(about, settings.dim, settings.item_features)
        self.places = PlaceEmbedding(settings.length, settings.dim)
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(_Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.dim)
        self.negatives = Negatives(about.popularity, settings.negatives_alpha)
        self.attention, self.reads_times = settings.attention, settings.time_intervals

    def forward(self, history: Padded, vectors: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        length = history.items.shape[1]
        states = self.items(history.items, vectors) * self.items.weight.shape[1] ** 0.5 + self.places(length)
        states = self.dropout(states)
        mask = causal_bias(length, states.device)
        if self.attention == "silu":
            seen = torch.arange(1, length + 1, device=states.device)[:, None]
            mask = mask.exp() / seen.sqrt()
        intervals = interval_table(history.times_or_unknown()) if self.reads_times else None
        *lower, last = self.blocks
        for block in lower:
            states = block(states, mask, intervals)
        return torch.as_tensor(self.norm(last(states, mask, intervals, places)))


class _Block(nn.Module):
    def __init__(self, settings: HSTU) -> None:
        super().__init__()
        dim = settings.dim
        self.heads, self.attention = settings.heads, settings.attention
        self.before = nn.LayerNorm(dim)
        self.gate_queries_keys_values = nn.Linear(dim, 4 * dim)
        self.distances = RelativePlaces(settings.length, settings.heads)
        self.times = RelativeTimes() if settings.time_intervals else None
        self.after = nn.LayerNorm(dim)
        self.added = nn.Linear(dim, dim)
        self.dropout = Dropout(settings.dropout)

    def forward(self, states: Tensor, mask: Tensor, intervals: Tensor | None, places: Tensor | None = None) -> Tensor:
        batch, length, dim = states.shape
        mixed = nn.functional.silu(self.gate_queries_keys_values(self.before(states)))
        split = mixed[..., dim:].view(batch, length, 3, self.heads, dim // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        bias = self.distances(length)
        if self.times is not None and intervals is not None:
            bias = bias + self.times(intervals)
        if places is not None:
            bias = bias if bias.dim() == 4 else bias[None]
            queries, bias, mask = (rows_at(each, places) for each in (queries, bias, mask[None, None]))
        read = self._weights(queries, keys, bias, mask) @ values
        read = self.after(read.transpose(1, 2).flatten(2).float())
        gate = at_places(mixed[..., :dim], places)
        return torch.as_tensor(at_places(states, places) + self.dropout(self.added(read * gate)))

    def _weights(self, queries: Tensor, keys: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        """(batch, heads, length, length) how much each place takes from those that it may see."""
        logits = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        logits = logits + bias.to(logits.dtype)
        if self.attention == "softmax":
            return torch.softmax(logits + mask.to(logits.dtype), -1, dtype=logits.dtype)
        return nn.functional.silu(logits) * mask.to(logits.dtype)
