"""Self-attention over right-padded sequences, and what it may know of places."""

from typing import Literal

import torch
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import INTERVALS, interval_buckets
from foretaste.ragged import PAD

__all__ = [
    "Norm",
    "RelativePlaces",
    "RelativeTimes",
    "Rotation",
    "SelfAttentionBlock",
    "at_places",
    "attend",
    "causal_bias",
    "check_heads",
    "fused",
    "interval_table",
    "padding_bias",
    "rows_at",
]

Norm = Literal["pre", "post"]


def check_heads(dim: int, heads: int, *, rotary: bool = False) -> None:
    """Raises ValueError, as settings do, where the heads cannot share the width, or a head's cannot be turned."""
    if dim % heads:
        raise ValueError(f"dim ({dim}) must be a multiple of heads ({heads})")
    if rotary and dim // heads % 2:
        raise ValueError(f"rotary positions need an even width per head; dim {dim} / heads {heads} is odd")


class SelfAttentionBlock(nn.Module):
    """Attention and a position-wise network, each added to its input and normed before ("pre") or after ("post").

    Source: Vaswani et al., "Attention Is All You Need", 2017, has the norm after; before each part it is as in Xiong
        et al., "On Layer Normalization in the Transformer Architecture", 2020. Differs: no dropout on the attention
        weights, only on what each part adds; it would forbid the fused kernel.
    """

    def __init__(self, dim: int, heads: int, inner: int, dropout: float, norm: Norm = "pre") -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm
        self.before_attention = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.attended = nn.Linear(dim, dim)
        self.before_network = nn.LayerNorm(dim)
        self.network = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, dim), Dropout(dropout)
        )
        self.after_attention = Dropout(dropout)

    def forward(
        self, states: Tensor, bias: Tensor | None, rotation: "Rotation | None" = None, places: Tensor | None = None
    ) -> Tensor:
        """The states (batch, length, dim) after each has looked at those that it may see.

        Args:
            bias: Added to the attention logits; broadcasts to (batch, heads, length, length), -inf = may not see. None:
                each place sees itself and those before it, and nothing is added.
            rotation: Turns queries and keys by their places.
            places: (batch, count) the places whose states are wanted; None: all. The states are (batch, count, dim)
                then, and what only the others need is not computed.
        """
        if self.norm == "pre":
            mixed = self._attend(self.before_attention(states), bias, rotation, places)
            states = at_places(states, places) + self.after_attention(mixed)
            return torch.as_tensor(states + self.network(self.before_network(states)))
        mixed = self._attend(states, bias, rotation, places)
        states = self.before_attention(at_places(states, places) + self.after_attention(mixed))
        return torch.as_tensor(self.before_network(states + self.network(states)))

    def _attend(
        self, states: Tensor, bias: Tensor | None, rotation: "Rotation | None", places: Tensor | None = None
    ) -> Tensor:
        queries, keys, values = self._split(states)
        if rotation is not None:
            queries, keys = rotation(queries), rotation(keys)
        if places is not None:
            bias = causal_bias(states.shape[1], states.device) if bias is None else bias
            queries, bias = rows_at(queries, places), bias[(None,) * (4 - bias.dim())]
            bias = bias if bias.shape[2] == 1 else rows_at(bias, places)  # 1: the same for all places
        mixed = attend(queries, keys, values, bias)
        return torch.as_tensor(self.attended(mixed.transpose(1, 2).flatten(2)))

    def weights(self, states: Tensor, bias: Tensor) -> Tensor:
        """(batch, heads, length, length) how much each place takes from each; adds up to 1."""
        queries, keys, _ = self._split(self.before_attention(states) if self.norm == "pre" else states)
        return torch.softmax((queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2) + bias, -1)

    def _split(self, states: Tensor) -> Tensor:
        """(3, batch, heads, length, width) queries, keys and values."""
        batch, length, dim = states.shape
        split = self.queries_keys_values(states).view(batch, length, 3, self.heads, dim // self.heads)
        return torch.as_tensor(split.permute(2, 0, 3, 1, 4))


def at_places(states: Tensor, places: Tensor | None) -> Tensor:
    """(batch, count, dim) the states (batch, length, dim) at these places (batch, count) of each row; None: all."""
    if places is None:
        return states
    return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def rows_at(table: Tensor, places: Tensor) -> Tensor:
    """The rows (batch, heads, count, width) of (batch or 1, heads, length, width) that belong to these places."""
    (batch, count), (heads, width) = places.shape, (table.shape[1], table.shape[3])
    return table.expand(batch, -1, -1, -1).gather(2, places[:, None, :, None].expand(batch, heads, count, width))


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """What each query (batch, heads, length, width) takes from the values, by softmax(QK' / sqrt(width) + bias).

    On a GPU this is torch's fused kernel. On a CPU two products and a softmax take half the time of it, forward and
    backward, for histories of a few hundred places.

    Args:
        bias: As in ``SelfAttentionBlock``.
    """
    if queries.device.type != "cpu":
        return fused(queries, keys, values, bias)
    bias = causal_bias(queries.shape[-2], queries.device) if bias is None else bias
    logits = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return torch.softmax(logits + bias.to(logits.dtype), -1, dtype=logits.dtype) @ values


def fused(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """The same by torch's kernels: flash attention where nothing is added, else the one that saves memory too."""
    if bias is None:
        return nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    shape = (*queries.shape[:-1], keys.shape[-2])
    return nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=bias.to(queries.dtype).expand(shape)
    )


def causal_bias(length: int, device: torch.device) -> Tensor:
    """(length, length) 0 where a place may see another, itself or one before it, -inf elsewhere.

    With padding on the right, causality alone keeps it out of every real place.
    """
    return torch.full((length, length), -torch.inf, device=device).triu(1)


def padding_bias(items: Tensor) -> Tensor:
    """(batch, 1, 1, length) -inf at padding, for attention that looks both ways."""
    return torch.zeros(items.shape, device=items.device).masked_fill_(items == PAD, -torch.inf)[:, None, None]


class Rotation(nn.Module):
    """Turns each pair of numbers of a query or key by an angle that grows with its place.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, eq. 34. The two numbers
        of a pair are those at i and i + width / 2.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        speed = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.arange(length, dtype=torch.float32)[:, None] * speed
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """States (..., length, width), turned."""
        length, half = states.shape[-2], states.shape[-1] // 2
        cosines, sines = (table[:length].to(states.dtype) for table in (self.cosines, self.sines))  # type: ignore[index]
        first, second = states[..., :half], states[..., half:]
        return torch.cat([first * cosines - second * sines, first * sines + second * cosines], -1)


class RelativePlaces(nn.Module):
    """A learned bias per head for each distance between two places, as many as there are places.

    Source: Raffel et al., "Exploring the Limits of Transfer Learning", JMLR 2020, section 2.1. Differs: no buckets,
        each distance up to ``length`` has its own bias, and those to later places theirs.
    """

    def __init__(self, length: int, heads: int) -> None:
        super().__init__()
        self.length = length
        self.weight = nn.Parameter(torch.zeros(heads, 2 * length - 1))

    def forward(self, length: int) -> Tensor:
        """The biases (heads, length, length)."""
        place = torch.arange(length, device=self.weight.device)
        return self.weight[:, (place[None] - place[:, None]) + self.length - 1]


class RelativeTimes(nn.Module):
    """A learned bias for how much time lies between two events, in steps of powers of two; it begins as zero.

    Source: Zhai et al., "Actions Speak Louder than Words", ICML 2024, section 3.1. Differs: steps of powers of two of
        a millisecond, where the paper's code has those of 0.301 in the natural logarithm of seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(INTERVALS, 1))

    def forward(self, intervals: Tensor) -> Tensor:
        """The biases (batch, 1, length, length), the same for all heads, of an ``interval_table``."""
        return nn.functional.embedding(intervals, self.weight)[..., 0][:, None]


def interval_table(times: Tensor) -> Tensor:
    """(batch, length, length) the buckets of the time between each two events of (batch, length)."""
    return interval_buckets(times[:, None, :], times[:, :, None])
