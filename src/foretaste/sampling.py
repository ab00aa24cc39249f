"""Negatives: items drawn to score against where the whole catalogue would be too much."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Negatives", "Unmet"]

MOST_DRAWS = 10


class Negatives:
    """Draws items with chances proportional to popularity ** alpha.

    Torch's generator draws, which ``train`` seeds anew for each epoch; so a resumed run draws what an uninterrupted
    one does.

    Args:
        counts: (items,) the popularity.
        among: (items,) bool, those that may be drawn by alpha = 0. None: all.

    Source: GRU4Rec calls the power sample_alpha (Hidasi, Karatzoglou, "Recurrent Neural Networks with Top-k Gains",
        CIKM 2018, section 3.1). Items without events are never drawn, except by alpha = 0.
    """

    def __init__(
        self,
        counts: NDArray[np.floating] | NDArray[np.integer],
        alpha: float = 0.0,
        *,
        among: NDArray[np.bool_] | None = None,
    ) -> None:
        evenly = np.ones(len(counts)) if among is None else among.astype(np.float64)
        weights = np.asarray(counts, np.float64) ** alpha if alpha else evenly
        chances = weights / weights.sum()
        self._log_chances = torch.from_numpy(np.log(np.maximum(chances, 1e-300)).astype(np.float32))
        self._items, self._chances = len(counts), chances
        self._uniform = not alpha and bool((evenly > 0).all())

    def draw(self, shape: int | tuple[int, ...], device: torch.device) -> Tensor:
        """Item indices, with repetition."""
        shape = (shape,) if isinstance(shape, int) else shape
        if self._uniform:
            return torch.randint(self._items, shape, device=device)
        own, other = self._table
        drawn = torch.randint(self._items, shape)
        return torch.where(torch.rand(shape) < own[drawn], drawn, other[drawn]).to(device)

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Made at the first draw: a model that is only asked never draws."""
        return _alias_table(self._chances)

    def log_odds(self, draws: int) -> Tensor:
        """(items,) the natural logarithm of how often each item is expected among so many draws.

        Very small, but finite, for items that are never drawn.
        """
        return self._log_chances + float(np.log(draws))


def _alias_table(chances: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """(items,) the share of an item's place that is its own, and the item that has the rest of it.

    A place drawn evenly, and then one of the two items that share it, is a draw by these chances, at a cost that does
    not grow with the items.

    Source: Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", IEEE Transactions on
        Software Engineering 17 (1991).
    """
    left = (chances * len(chances)).tolist()
    small = [item for item, share in enumerate(left) if share < 1]
    large = [item for item, share in enumerate(left) if share >= 1]
    own, other = [1.0] * len(left), list(range(len(left)))
    while small and large:
        item, giver = small.pop(), large[-1]
        own[item], other[item] = left[item], giver
        left[giver] -= 1 - left[item]
        if left[giver] < 1:
            small.append(large.pop())
    likeliest = int(chances.argmax())
    for item in small:  # by rounding nobody is left to fill their places; an item without a chance must still have none
        own[item], other[item] = left[item], likeliest
    return torch.tensor(own), torch.tensor(other)


class Unmet:
    """Draws items that a user has not met, uniformly.

    Args:
        user: (pairs,) who met
        item: (pairs,) what.
        items: How many items there are.
    """

    def __init__(self, user: NDArray[np.integer], item: NDArray[np.integer], items: int) -> None:
        self._items = items
        self._met = torch.from_numpy(np.unique(user.astype(np.int64) * items + item))

    def draw(self, user: Tensor) -> Tensor:
        """(n,) an item for each of (n,) users; for one who has met nearly everything it may be a met one.

        Those that turn out to have been met are drawn again, all at once, at most ``MOST_DRAWS`` times.
        """
        met = self._met.to(user.device)
        drawn = torch.randint(self._items, user.shape, device=user.device)
        again = torch.arange(len(user), device=user.device)
        for _ in range(MOST_DRAWS - 1):
            pair = user[again] * self._items + drawn[again]
            place = torch.searchsorted(met, pair).clamp_(max=len(met) - 1)
            again = again[met[place] == pair]
            if not len(again):
                break
            drawn[again] = torch.randint(self._items, again.shape, device=user.device)
        return drawn
