"""Dropout that does not wait for the random numbers."""

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Zeroes each number with chance ``p`` while training, and scales up the others.

    Source: Srivastava et al., "Dropout", JMLR 2014. Differs on a CPU: one random byte decides each number, eight of
    them from one draw, because drawing one by one took a third of a training step; so there ``p`` is rounded to 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, states: Tensor) -> Tensor:
        """States of the same shape."""
        if not self.training or self.p == 0:
            return states
        if states.device.type != "cpu":
            return nn.functional.dropout(states, self.p)
        dropped = min(255, round(self.p * 256))
        draws = torch.empty(-(-states.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.uint8)[: states.numel()].view(states.shape) >= dropped
        return states * keep * (256 / (256 - dropped))
