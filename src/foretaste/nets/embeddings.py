"""Embeddings of items, and of what may stand beside an event: the time since the one before, and its kind."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from foretaste.catalog import NO_TIME
from foretaste.nets.rows import rows_taken
from foretaste.ragged import PAD, Ragged

__all__ = [
    "INTERVALS",
    "FeaturedItems",
    "IntervalEmbedding",
    "ItemEmbedding",
    "KindEmbedding",
    "PlaceEmbedding",
    "interval_buckets",
    "sinusoids",
]

LONGEST = 48  # the logarithm to base 2 of milliseconds reaches 47 after four thousand years
INTERVALS = LONGEST + 2  # buckets of intervals


class ItemEmbedding(nn.Module):
    """A vector per item, and a zero vector for PAD. Nobody else needs to know that torch cannot index by -1."""

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(items, dim))
        nn.init.normal_(self.weight, std=0.02)

    def vectors(self) -> Tensor:
        """The vectors (items, dim) of all items."""
        return self.weight

    def forward(self, items: Tensor, vectors: Tensor | None = None) -> Tensor:
        """The vectors (..., dim) of item indices (...).

        Args:
            vectors: Those of all items, where they are known already.
        """
        found = nn.functional.embedding(items.clamp(min=0), self.vectors() if vectors is None else vectors)
        return found * (items != PAD).unsqueeze(-1).to(found.dtype)


class FeaturedItems(ItemEmbedding):
    """A vector per item of its own, plus the mean of the vectors of what the catalogue says of it.

    Args:
        codes: What each item has; items without any have only their own vector.
        meanings: How many codes there are.

    Source: the sum of identity and attributes is that of S3-Rec and of many others (Zhou et al., CIKM 2020, section
        4.2, predicts attributes from items instead). Differs: a mean, so that items of which much is said are not
        longer, and both parts begin at the same size.
    """

    def __init__(self, items: int, dim: int, codes: Ragged, meanings: int) -> None:
        super().__init__(items, dim)
        self.features = nn.Parameter(torch.empty(max(1, meanings), dim))
        nn.init.normal_(self.features, std=0.02)
        self.codes: Tensor
        self.offsets: Tensor
        self.described: Tensor  # (items,) bool, does the catalogue say anything?
        self.register_buffer("codes", torch.from_numpy(codes.values.astype(np.int64)), persistent=False)
        self.register_buffer("offsets", torch.from_numpy(codes.offsets.copy()), persistent=False)
        self.register_buffer("described", self.offsets.diff() > 0, persistent=False)

    def vectors(self) -> Tensor:
        """The vectors (items, dim) of all items."""
        return self.weight + self.said()

    def said(self, items: Tensor | None = None) -> Tensor:
        """(n, dim) what the catalogue says of items (n,); zero where it says nothing. None: of all."""
        told = (self.codes, self.offsets) if items is None else rows_taken(self.codes, self.offsets, items)
        return nn.functional.embedding_bag(told[0], self.features, told[1], mode="mean", include_last_offset=True)


class IntervalEmbedding(nn.Module):
    """A vector for how long ago the event before was, by powers of two of a millisecond; it begins as zero.

    Source: the idea of TiSASRec (Li, Wang, McAuley, WSDM 2020). Differs: intervals to the neighbour only, in
        logarithmic steps, added to the input; the paper has each pair of places, clipped, in the attention.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(INTERVALS, dim))

    def forward(self, times: Tensor) -> Tensor:
        """(batch, length, dim) for times (batch, length); the first event of a row has no interval."""
        before = torch.cat([torch.full_like(times[:, :1], NO_TIME), times[:, :-1]], 1)
        return nn.functional.embedding(interval_buckets(before, times), self.weight)


def interval_buckets(earlier: Tensor, later: Tensor) -> Tensor:
    """A number in 0 ... INTERVALS - 1: 0 where a time is not known, else 1 + the rounded-down log2 of the distance."""
    known = (earlier != NO_TIME) & (later != NO_TIME)
    distance = torch.where(known, (later - earlier).abs(), 0)
    bucket = (distance + 1).double().log2().floor().long().clamp_(max=LONGEST) + 1
    return torch.where(known, bucket, 0)


class KindEmbedding(nn.Module):
    """A vector for the kind of an event, such as view or purchase; events that do not say their kind have none."""

    def __init__(self, kinds: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kinds, dim))

    def forward(self, kinds: Tensor) -> Tensor:
        """(batch, length, dim) for kinds (batch, length)."""
        vectors = nn.functional.embedding(kinds.clamp(min=0), self.weight)
        return vectors * (kinds != PAD).unsqueeze(-1).to(vectors.dtype)


class PlaceEmbedding(nn.Module):
    """A vector for each place, learned, or of sines and cosines.

    Args:
        scale: What sines and cosines are multiplied by at first; the factor is learned. As they are, which is the way
            of their authors, they are several times as long as item vectors that begin small.
    """

    def __init__(self, length: int, dim: int, *, learned: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = None if learned else nn.Parameter(torch.tensor(scale))
        if learned:
            self.weight = nn.Parameter(torch.empty(length, dim))
            nn.init.normal_(self.weight, std=0.02)
        else:
            self.register_buffer("weight", sinusoids(length, dim), persistent=False)

    def forward(self, length: int) -> Tensor:
        """(length, dim) of the first places."""
        places = torch.as_tensor(self.weight[:length])
        return places if self.scale is None else places * self.scale


def sinusoids(length: int, dim: int) -> Tensor:
    """(length, dim) sines and cosines of falling frequency.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5.
    """
    speed = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000) / dim))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * speed
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :dim]
