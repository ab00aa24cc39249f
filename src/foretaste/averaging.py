"""Weights averaged over the steps of training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of a network's parameters, which often answers better than the last of them.

    It begins at the weights that the network has. The means and variances that batch norms keep are averaged with them:
    those of the moment belong to the weights of the moment. Other buffers stay out of it.

    Args:
        decay: How much of the average stays at each step, once warm: the average reaches back some 1 / (1 - decay)
            steps.

    Source: Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017, section 2. Differs: the decay
        warms up as (1 + step) / (10 + step), so that the random weights of the start are soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay = net, decay
        self.averages = {name: each.detach().clone() for name, each in _averaged(net)}

    def update(self, step: int) -> None:
        """Take the weights after an optimiser step, counted from 0, into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        blend(list(self.averages.values()), [each for _, each in _averaged(self.net)], None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the network holds the average, after it, to the bit, the weights that are trained."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def finish(self) -> None:
        """Leave the average in the network."""
        with torch.no_grad():
            for name, each in _averaged(self.net):
                each.copy_(self.averages[name])

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Go on from averages that were saved."""
        for name, each in self.averages.items():
            each.copy_(averages[name])

    def _swap(self) -> None:
        with torch.no_grad():
            for name, each in _averaged(self.net):
                trained = each.detach().clone()
                each.copy_(self.averages[name])
                self.averages[name].copy_(trained)


def _averaged(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None and module.running_var is not None:
            yield f"{name}.running_mean", module.running_mean
            yield f"{name}.running_var", module.running_var
