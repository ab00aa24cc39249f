"""Embeddings of items and places."""

import torch
from torch import Tensor, nn

from foretaste.ragged import PAD

__all__ = ["ItemEmbedding"]


class ItemEmbedding(nn.Module):
    """A vector per item, and a zero vector for PAD. Nobody else needs to know that torch cannot index by -1."""

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(items, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, items: Tensor) -> Tensor:
        """The vectors (..., dim) of item indices (...)."""
        vectors = nn.functional.embedding(items.clamp(min=0), self.weight)
        return vectors * (items != PAD).unsqueeze(-1)
