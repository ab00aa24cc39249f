"""Batches of events as pairs, for models to which the order of a history says nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PairBatches", "Pairs"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Who met what."""

    user: Tensor  # (pairs,)
    item: Tensor  # (pairs,)

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device) -> Self:
        return type(self)(self.user.to(device), self.item.to(device))


class PairBatches(Sequence[Pairs]):
    """One epoch of all pairs in random order; the last batch may be smaller.

    Args:
        size: Pairs in a batch.
        rng: Of this epoch.
    """

    def __init__(
        self, user: NDArray[np.integer], item: NDArray[np.integer], size: int, rng: np.random.Generator
    ) -> None:
        order = rng.permutation(len(user))
        self._user = torch.from_numpy(user[order].astype(np.int64))
        self._item = torch.from_numpy(item[order].astype(np.int64))
        self._size = size

    def __len__(self) -> int:
        return -(-len(self._user) // self._size)

    def __getitem__(self, number: int) -> Pairs:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(f"There is no batch {number} of {len(self)}.")
        part = slice(number * self._size, (number + 1) * self._size)
        return Pairs(self._user[part], self._item[part])
