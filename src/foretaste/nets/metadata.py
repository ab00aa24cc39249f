"""Encoders of what stands beside events: names, numbers and seasons, put together to items and people."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foretaste.catalog import NO_TIME
from foretaste.nets.embeddings import ItemEmbedding
from foretaste.ragged import PAD

__all__ = [
    "DescribedItems",
    "ItemMetadataEncoder",
    "NamesEmbedding",
    "SeasonEmbedding",
    "SpanEmbedding",
    "UserEncoder",
]

YEAR_MS = 365.2425 * 86_400_000
HARMONICS = 8  # the shortest wave takes six weeks and a half


class NamesEmbedding(nn.Module):
    """The mean of the vectors of all names that a row has, such as the genres of each film; zero without any.

    This is a multi-hot row, divided by how many names it has, times a (names, dim) matrix.
    """

    codes: Tensor
    offsets: Tensor

    def __init__(self, codes: Tensor, offsets: Tensor, names: int, dim: int) -> None:
        """Args: codes (total,) of all rows one after another, and offsets (rows + 1,) as in ``Ragged``."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(names, dim))
        nn.init.normal_(self.weight, std=0.1)
        self.register_buffer("codes", codes.long(), persistent=False)
        self.register_buffer("offsets", offsets.long(), persistent=False)

    def forward(self) -> Tensor:
        """(rows, dim)."""
        return nn.functional.embedding_bag(self.codes, self.weight, self.offsets, mode="mean", include_last_offset=True)


class SpanEmbedding(nn.Module):
    """A vector for a number from 0 to 1: that of the nearest knots, mixed by nearness; NaN has a vector of its own."""

    def __init__(self, knots: int, dim: int, std: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(knots, dim))
        self.missing = nn.Parameter(torch.zeros(dim))
        nn.init.normal_(self.weight, std=std)

    def forward(self, numbers: Tensor) -> Tensor:
        """(..., dim) for numbers (...); those outside 0 ... 1 count as the nearer end."""
        known = ~numbers.isnan()
        place = torch.where(known, numbers, 0).float().clamp(0, 1) * (len(self.weight) - 1)
        below = place.floor().clamp_(max=len(self.weight) - 2)
        above = (place - below)[..., None]
        low, high = (nn.functional.embedding(below.long() + step, self.weight) for step in (0, 1))
        return torch.where(known[..., None], low + (high - low) * above, self.missing)


class SeasonEmbedding(nn.Module):
    """A vector for the day of the year, by waves of a year and its fractions; it begins as zero.

    The day before New Year's Eve and the day after New Year are neighbours, and a day of which training has few events
    has a vector from those around it, where a table of 366 rows would have left it as it began. The year counts from
    1970 in mean years, so the same date moves by up to a day and a half with the leap years.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.waves = nn.Linear(2 * HARMONICS, dim, bias=False)
        nn.init.zeros_(self.waves.weight)

    def forward(self, times: Tensor) -> Tensor:
        """(..., dim) for times (...) in milliseconds; zero where a time is not known."""
        known = times != NO_TIME
        turn = torch.where(known, times, 0).double().div(YEAR_MS).remainder(1).float()
        angles = turn[..., None] * (2 * math.pi * torch.arange(1, HARMONICS + 1, device=times.device))
        return torch.as_tensor(self.waves(torch.cat([angles.sin(), angles.cos()], -1)) * known[..., None])


class ItemMetadataEncoder(nn.Module):
    """Names (multi-hot, to ``inner`` numbers) and the relative year (to ``inner``), side by side, projected.

    Args:
        year: (items,) from 0 to 1; NaN = not known.
    """

    KNOTS = 33  # of the years: of a century, one every three years

    def __init__(self, codes: Tensor, offsets: Tensor, year: Tensor, names: int, inner: int, dim: int) -> None:
        super().__init__()
        self.names = NamesEmbedding(codes, offsets, names, inner) if names else None
        self.years = None if year.isnan().all() else SpanEmbedding(self.KNOTS, inner, std=0.1)
        self.register_buffer("year", year, persistent=False)
        self.project = nn.Linear(inner * ((self.names is not None) + (self.years is not None)), dim)

    def forward(self) -> Tensor:
        """(items, dim)."""
        parts = [self.names()] if self.names is not None else []
        if self.years is not None:
            parts.append(self.years(self.year))
        return torch.as_tensor(self.project(torch.cat(parts, -1)))


class DescribedItems(ItemEmbedding):
    """A vector per item of its own, plus what its metadata say; an item never met has nothing but the latter.

    While training each item is, with the chance ``forgotten`` and anew for each batch, treated like one never met.
    Else the own vectors would learn whatever is needed to tell the items apart, and the metadata would mean little.
    Where nothing is ever forgotten, metadata alone never learned to stand for an item; then an item never met gets,
    as the last resort, the mean of the own vectors of the items with the most names in common.

    Args:
        met: (items,) bool, those that training met.
        like: For the items never met, in their order, (never met, count) items that were, and their shares; None: the
            last resort is not wanted.

    Source: the idea of DropoutNet (Volkovs, Yu, Poutanen, NeurIPS 2017), which forgets what preferences tell of an
        item. Differs: nothing is put in its place.
    """

    met: Tensor
    number_among_met: Tensor

    def __init__(
        self,
        met: Tensor,
        dim: int,
        metadata: ItemMetadataEncoder | None,
        forgotten: float = 0.0,
        like: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(len(met), dim)
        self.metadata, self.forgotten = metadata, forgotten
        self.leans = like is not None
        self.register_buffer("met", met, persistent=False)
        self.any_cold = not bool(met.all())
        self.register_buffer("number_among_met", met.cumsum(0) - 1, persistent=False)
        self.register_buffer("like", None if like is None else like[0], persistent=False)
        self.register_buffer("shares", None if like is None else like[1], persistent=False)

    def vectors(self) -> Tensor:
        kept = self.met
        if self.training and self.forgotten:
            kept = kept & (torch.rand(len(kept), device=kept.device) >= self.forgotten)
        own = self.weight * kept[:, None]
        if self.leans and not self.training:
            taken = (self.weight[self.like] * self.shares[..., None]).sum(1)  # type: ignore[index]
            own = own.index_copy(0, (~self.met).nonzero()[:, 0], taken)
        return own if self.metadata is None else torch.as_tensor(own + self.metadata())


class UserEncoder(nn.Module):
    """What is known of a person, as tokens: one per feature, one for who it is, and all of them projected to one.

    Each feature has a vector for "missing", and so has the person for "nobody known"; they are trained where training
    hides what it knows.
    """

    first: Tensor

    def __init__(self, users: int, sizes: Sequence[int], dim: int) -> None:
        """Args: users with a vector of their own, 0 = they have none; sizes, how many names each feature has."""
        super().__init__()
        self.sizes = list(sizes)
        first = torch.tensor([0, *(size + 1 for size in sizes)]).cumsum(0)
        self.register_buffer("first", first[:-1], persistent=False)
        self.features = nn.Parameter(torch.empty(int(first[-1]), dim))
        nn.init.normal_(self.features, std=0.1)
        self.own = nn.Parameter(torch.zeros(users + 1, dim)) if users else None
        self.project = nn.Linear(dim * self.parts, dim)

    @property
    def parts(self) -> int:
        return len(self.sizes) + (self.own is not None)

    def forward(self, user: Tensor, features: Tensor) -> Tensor:
        """(batch, parts + 1, dim): the features, the person, and last the profile, which is all of them projected.

        Args:
            user: (batch,) PAD = nobody known.
            features: (batch, features) codes; PAD = missing.
        """
        parts = [nn.functional.embedding(features + 1 + self.first, self.features)]
        if self.own is not None:
            parts.append(nn.functional.embedding(user + 1, self.own)[:, None])
        known = torch.cat(parts, 1)
        return torch.cat([known, self.project(known.flatten(1))[:, None]], 1)

    def anything(self, user: Tensor, features: Tensor) -> Tensor:
        """(batch,) bool, is anything known of each?"""
        return (features != PAD).any(1) | ((user != PAD) & (self.own is not None))
