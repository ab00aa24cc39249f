"""Self-attention blocks over right-padded sequences."""

import torch
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout

__all__ = ["SelfAttentionBlock"]


class SelfAttentionBlock(nn.Module):
    """Attention and a position-wise network, each behind a layer norm and added to its input.

    Source: Vaswani et al., "Attention Is All You Need", 2017; the norm stands before each part, as in Xiong et al.,
        "On Layer Normalization in the Transformer Architecture", 2020. Written on ``scaled_dot_product_attention``,
        because ``nn.TransformerEncoder`` does not export to ONNX at lengths other than the one it was traced with.
        Differs: no dropout on the attention weights, only on what each part adds; it would forbid the fused kernel.
    """

    def __init__(self, dim: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.attended = nn.Linear(dim, dim)
        self.before_network = nn.LayerNorm(dim)
        self.network = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, dim), Dropout(dropout)
        )
        self.after_attention = Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """The states (batch, length, dim) after each has looked at itself and those before it.

        Padding stands on the right, so that causality alone keeps it out of every real place.
        """
        states = states + self.after_attention(self._attend(self.before_attention(states)))
        states = states + self.network(self.before_network(states))
        return states

    def _attend(self, states: Tensor) -> Tensor:
        batch, length, dim = states.shape
        split = self.queries_keys_values(states).view(batch, length, 3, self.heads, dim // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return torch.as_tensor(self.attended(mixed.transpose(1, 2).reshape(batch, length, dim)))
