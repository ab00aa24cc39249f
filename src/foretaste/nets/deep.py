"""Plain layers one after another, with skips, and the heads that end in one number per task."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout

__all__ = ["Activation", "DeepNetwork", "LayerNorming", "TaskHead"]

LayerNorming = Literal["layer", "batch", "none"]
Activation = Literal["gelu", "relu"]


class DeepNetwork(nn.Module):
    """Layers of a matrix, a norm, an activation and dropout.

    Args:
        width: Of what goes in.
        hidden: The width of each layer.
        skips: Add to each layer's output what went into it: as it is where the widths agree, else by a matrix.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        dropout: float,
        norm: LayerNorming = "layer",
        activation: Activation = "gelu",
        skips: bool = True,
    ) -> None:
        super().__init__()
        widths = [width, *hidden]
        pairs = list(pairwise(widths))
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(there, here), _norm(norm, here), nn.GELU() if activation == "gelu" else nn.ReLU(),
                Dropout(dropout),
            )
            for there, here in pairs
        )  # fmt: skip
        self.skips = nn.ModuleList(
            nn.Identity() if there == here else nn.Linear(there, here, bias=False) for there, here in pairs
        ) if skips else None  # fmt: skip
        self.width = widths[-1]

    def forward(self, states: Tensor) -> Tensor:
        """(rows, the last width) from (rows, width)."""
        for number, layer in enumerate(self.layers):
            found = layer(states)
            states = found if self.skips is None else found + self.skips[number](states)
        return states


class TaskHead(nn.Module):
    """One number per row: the log-odds of what a task asks. Layers of a matrix, a batch norm, ReLU and dropout."""

    def __init__(self, width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.layers = DeepNetwork(width, hidden, dropout, "batch", "relu", skips=False)
        self.last = nn.Linear(self.layers.width, 1)

    def forward(self, states: Tensor) -> Tensor:
        """(rows,) in float32."""
        return torch.as_tensor(self.last(self.layers(states))).squeeze(1).float()


def _norm(norm: LayerNorming, width: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)
