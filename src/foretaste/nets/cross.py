"""Cross layers: products of features with each other, of an order that grows by one with each layer."""

import torch
from torch import Tensor, nn

__all__ = ["CrossLayer", "CrossMixture", "CrossNetwork", "DropPath"]


class DropPath(nn.Module):
    """Leaves out what a layer adds, for some rows drawn while training, and scales up what it adds to the others.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016. Differs: drawn for each row and not for the
        batch, and scaled while training and not when answering.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, added: Tensor) -> Tensor:
        """What is left (rows, width) of what a layer adds (rows, width)."""
        if not self.training or self.chance == 0:
            return added
        kept = torch.rand(len(added), 1, device=added.device) >= self.chance
        return added * (kept / (1 - self.chance)).to(added.dtype)


class CrossLayer(nn.Module):
    """What one layer adds: x_0 * (W x + b), or x_0 * (U V x + b) where W has a low rank.

    Source: Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank
        Systems", WWW 2021, the cross layer and its low-rank form.
    """

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        if rank is None:
            self.layers = nn.Sequential(nn.Linear(width, width))
        else:
            self.layers = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, first: Tensor, states: Tensor) -> Tensor:
        """(rows, width).

        Args:
            first: x_0 (rows, width), what went into the first layer.
            states: x (rows, width), what goes into this one.
        """
        return first * torch.as_tensor(self.layers(states))


class CrossMixture(nn.Module):
    """A low-rank layer of several experts: what it adds is x_0 * (sum_i G_i(x) U_i g(C_i g(V_i x)) + b), g = tanh.

    The gates G add up to 1, so they may be multiplied into the experts' small states, and all experts together are one
    product down and one up.

    Source: as ``CrossLayer``, the mixture of low-rank experts. The gate is a softmax.
    """

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.experts, self.rank = experts, rank
        self.down = nn.Linear(width, experts * rank, bias=False)
        self.inner = nn.Parameter(torch.empty(experts, rank, rank))
        self.up = nn.Linear(experts * rank, width)
        self.gates = nn.Linear(width, experts, bias=False)
        for each in self.inner:
            nn.init.xavier_normal_(each)

    def forward(self, first: Tensor, states: Tensor) -> Tensor:
        """As ``CrossLayer``."""
        small = torch.tanh(self.down(states)).view(-1, self.experts, self.rank)
        small = torch.tanh(torch.einsum("ner,ers->nes", small, self.inner.to(small.dtype)))
        gates = torch.softmax(self.gates(states), 1, dtype=small.dtype)
        return first * torch.as_tensor(self.up((small * gates.unsqueeze(2)).flatten(1)))


class CrossNetwork(nn.Module):
    """x_{l+1} = x_l + what layer l adds, normed where wanted: polynomials in the features up to degree layers + 1.

    Args:
        rank: Of the matrices. None: full.
        experts: How many low-rank experts a layer mixes; 1: none are mixed.
        norm: Norm each layer's output, so that products of products stay small.
        drop_path: The chance of the last layer to be left out for a row; it grows evenly from the first on.
    """

    def __init__(
        self, width: int, layers: int, rank: int | None, experts: int = 1, norm: bool = True, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CrossLayer(width, rank) if rank is None or experts == 1 else CrossMixture(width, rank, experts)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(layers))
        self.paths = nn.ModuleList(DropPath(drop_path * (layer + 1) / layers) for layer in range(layers))

    def forward(self, first: Tensor) -> Tensor:
        """(rows, width) from the features (rows, width)."""
        states = first
        for layer, norm, path in zip(self.layers, self.norms, self.paths, strict=True):
            states = norm(states + path(layer(first, states)))
        return states
