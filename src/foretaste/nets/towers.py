"""Towers: what is known of somebody or something, put together to one vector."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout
from foretaste.ragged import PAD

__all__ = ["FeatureEmbedding", "ItemBias", "Tower", "distinct", "mean_of_rows", "unit", "with_one"]

SHORT = 1e-6


class Tower(nn.Module):
    """A vector, and what hidden layers add to it; at first they add nothing, so that learning begins from the vector.

    Args:
        dim: Of the vector.
        beside: How many numbers are known beside it.
        hidden: The widths of the layers; without any, only a matrix stands between what goes in and what is added.
    """

    def __init__(self, dim: int, beside: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = dim + beside
        for size in hidden:
            layers += [nn.Linear(width, size), nn.GELU(), Dropout(dropout)]
            width = size
        last = nn.Linear(width, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, vectors: Tensor, beside: Tensor | None = None) -> Tensor:
        """(rows, dim) from vectors (rows, dim) and what is known beside them (rows, beside)."""
        known = vectors if beside is None else torch.cat([vectors, beside.to(vectors.dtype)], 1)
        return torch.as_tensor(vectors + self.layers(known))


class FeatureEmbedding(nn.Module):
    """The sum of a vector per feature of a row; each feature has one for "missing" too.

    Args:
        sizes: How many names each feature has.
    """

    first: Tensor

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        first = torch.tensor([0, *(size + 1 for size in sizes)]).cumsum(0)
        self.register_buffer("first", first[:-1], persistent=False)
        self.weight = nn.Parameter(torch.empty(int(first[-1]), dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """(rows, dim) for codes (rows, features); PAD = missing."""
        return nn.functional.embedding(codes - PAD + self.first, self.weight).sum(1)


class ItemBias(nn.Module):
    """How likely an item is for anybody, read off its vector: one number more beside those that a cosine is made of.

    A cosine must turn popular items towards everybody; with this number it need not. It is 0 at first.

    Args:
        temperature: What scores are divided by; the number is not.
    """

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self._temperature = temperature

    def forward(self, sides: Tensor, vectors: Tensor) -> Tensor:
        """(rows, dim + 1) the sides of items (rows, dim), and the number as ``vectors`` (rows, dim) have it."""
        return torch.cat([sides, self._temperature * self.layer(vectors).to(sides.dtype)], 1)


def with_one(sides: Tensor) -> Tensor:
    """(rows, dim + 1) the sides of people (rows, dim), and the 1 that meets an item's bias."""
    return torch.cat([sides, torch.ones_like(sides[:, :1])], 1)


def unit(vectors: Tensor) -> Tensor:
    """(rows, dim) in float32, of length 1 but for a millionth; shorter where they are all but zero.

    Divided by their length alone, the gradient of a vector that is all but zero would be without bounds.
    """
    vectors = vectors.float()
    return vectors * (vectors.square().sum(1, keepdim=True) + SHORT).rsqrt()


def mean_of_rows(vectors: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
    """(rows, dim) the mean of the vectors (items, dim) of each row's items; zero for a row without any.

    Args:
        items: (total,) of all rows, one after another.
        offsets: (rows + 1,) where each row begins, as in ``Ragged``.
    """
    if vectors.device.type == "cpu":
        return _MeanOfRows.apply(vectors, items, offsets)  # type: ignore[no-any-return, no-untyped-call]
    return nn.functional.embedding_bag(items, vectors, offsets, mode="mean", include_last_offset=True)


def distinct(items: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The different ones of some items (total,), ascending, and where among them each stands (total,).

    What ``torch.unique`` finds, by marking instead of sorting: it costs what ``count``, the size of the catalogue, and
    ``total`` cost to go over once.
    """
    there = torch.zeros(count, dtype=torch.bool, device=items.device)
    there[items] = True
    return there.nonzero()[:, 0], (there.cumsum(0) - 1)[items]


class _MeanOfRows(torch.autograd.Function):
    """On a CPU torch's way back goes through the items one by one, which takes five times as long as the way there.

    The gradient of an item's vector is the sum over the rows that it stands in of each row's gradient divided by the
    row's length: bags again, of rows by item.
    """

    @staticmethod
    def forward(context: Any, vectors: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        context.save_for_backward(items, offsets)
        context.count, context.dtype = len(vectors), vectors.dtype
        return nn.functional.embedding_bag(items, vectors, offsets, mode="mean", include_last_offset=True)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        items, offsets = context.saved_tensors
        shares = gradients[0].float() / offsets.diff().clamp(min=1).unsqueeze(1)
        ones = np.ones(len(items), np.float32)
        of_rows = csr_matrix((ones, items.numpy(), offsets.numpy()), (len(shares), context.count))
        of_items = of_rows.tocsc()
        rows, starts = (torch.from_numpy(each) for each in (of_items.indices, of_items.indptr))
        found = nn.functional.embedding_bag(rows, shares, starts, mode="sum", include_last_offset=True)
        return found.to(context.dtype), None, None
