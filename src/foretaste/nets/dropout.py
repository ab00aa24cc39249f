"""Dropout that does not wait for the random numbers."""

import numpy as np
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
        if states.device.type != "cpu" or torch.compiler.is_compiling():  # compiled, torch's own draws are cheap
            return nn.functional.dropout(states, self.p)
        return states * _kept(states, min(255, round(self.p * 256)))


def _kept(states: Tensor, dropped: int) -> Tensor:
    """What to multiply the states by, in their own type: of two types, torch would multiply number by number."""
    seed = int(torch.randint(2**63 - 1, (1,)))  # so that torch's seed decides
    draws = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, -(-states.numel() // 8), dtype=np.uint64)
    keep = np.greater_equal(draws.view(np.uint8)[: states.numel()], dropped).view(np.int8)
    return torch.from_numpy(keep).to(states.dtype).mul_(256 / (256 - dropped)).view(states.shape)
