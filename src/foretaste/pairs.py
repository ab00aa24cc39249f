"""Batches of pairs that belong together: a person and what they met, or two items of one history."""

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
    """Each anchor is to be nearer to its positive than to other items."""

    anchor: Tensor  # (pairs,) users, or items
    positive: Tensor  # (pairs,) items

    def __len__(self) -> int:
        return len(self.anchor)

    def to(self, device: torch.device) -> Self:
        return type(self)(self.anchor.to(device), self.positive.to(device))


class PairBatches(Sequence[Pairs]):
    """One epoch of all pairs in random order; the last batch may be smaller.

    Args:
        size: Pairs in a batch.
        rng: Of this epoch.
    """

    def __init__(
        self, anchor: NDArray[np.integer], positive: NDArray[np.integer], size: int, rng: np.random.Generator
    ) -> None:
        order = rng.permutation(len(anchor))
        self._anchor = torch.from_numpy(anchor[order].astype(np.int64))
        self._positive = torch.from_numpy(positive[order].astype(np.int64))
        self._size = size

    def __len__(self) -> int:
        return -(-len(self._anchor) // self._size)

    def __getitem__(self, number: int) -> Pairs:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(f"There is no batch {number} of {len(self)}.")
        part = slice(number * self._size, (number + 1) * self._size)
        return Pairs(self._anchor[part], self._positive[part])
