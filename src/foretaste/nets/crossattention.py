"""Attention of a sequence to something else that is known: the places ask, the other's tokens answer."""

import torch
from torch import Tensor, nn

from foretaste.nets.attention import attend
from foretaste.nets.dropout import Dropout

__all__ = ["CrossAttention"]


class CrossAttention(nn.Module):
    """What each place takes from the tokens, added to it.

    With a single token the softmax over the tokens would be 1 whatever is asked, and each place would get the same.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.3, with the norm before as in Xiong et al.,
        "On Layer Normalization in the Transformer Architecture", 2020.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_asking, self.before_telling = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries, self.keys_values, self.told = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The states (batch, length, dim) with what the tokens (batch, tokens, dim) told them."""
        queries, keys, values = self._split(states, tokens)
        none = torch.zeros((), device=states.device)
        mixed = attend(queries, keys, values, none.expand(1, 1, 1, 1))
        return torch.as_tensor(states + self.dropout(self.told(mixed.transpose(1, 2).reshape(states.shape))))

    def weights(self, states: Tensor, tokens: Tensor) -> Tensor:
        """(batch, heads, length, tokens) how much each place takes from each token; adds up to 1."""
        queries, keys, _ = self._split(states, tokens)
        return torch.softmax((queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2), -1)

    def _split(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys, values = self.keys_values(self.before_telling(tokens)).chunk(2, -1)
        return self._heads(self.queries(self.before_asking(states))), self._heads(keys), self._heads(values)

    def _heads(self, states: Tensor) -> Tensor:
        """(batch, heads, places, width)."""
        batch, places, dim = states.shape
        return states.view(batch, places, self.heads, dim // self.heads).transpose(1, 2)
