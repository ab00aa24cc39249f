"""What events were valued at, such as ratings: read where it is seen, guessed where it is hidden."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Ratings"]


class Ratings(nn.Module):
    """Reads values beside events, and guesses them from a state and an item.

    Of an event e the value r, in deviations, is read as c + r (w + W e), added to e. So attention, which adds up
    events, can form the sum of r_j W e_j, by which asymmetric SVD knows a person (Koren, "Factorization Meets the
    Neighborhood", KDD 2008, eq. 10); from e and r each for itself it could not before a block has multiplied them.

    A guess is mean + deviation * (<A h + a, (e, 1)> + b) of a state h and an item with embedding e and number b; mean
    and deviation are those of all values in training. So state and item meet in an inner product, and a person's
    ratings of the whole catalogue are one product of matrices.
    """

    scale: Tensor

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.reading = nn.Parameter(torch.zeros(2, dim))  # that there is a value, and how high it is
        self.reading_of = nn.Linear(dim, dim, bias=False)  # the same of each item
        nn.init.normal_(self.reading_of.weight, std=dim**-0.5)
        self.guessing = nn.Linear(dim, dim + 1)
        self.item_bias = nn.Parameter(torch.zeros(items))
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 0.0, 0.0]))  # mean, deviation, lowest, highest

    def measure(self, values: NDArray[np.floating]) -> None:
        """Take mean, deviation and range from the values (events,) of training, NaN where not given."""
        given = values[np.isfinite(values)].astype(np.float64)
        ends = [given.mean(), given.std() or 1.0, given.min(), given.max()]
        self.scale.copy_(torch.tensor(ends, dtype=torch.float32))

    def forward(self, values: Tensor, events: Tensor) -> Tensor:
        """(batch, length, dim) what values (batch, length) of events (batch, length, dim) tell; NaN tells nothing."""
        given = values.isfinite().unsqueeze(-1)
        height = self.reading[1] + self.reading_of(events)
        return torch.as_tensor(given * self.reading[0] + self._measured(values).unsqueeze(-1) * height)

    def error(self, states: Tensor, there: Tensor, items: Tensor, targets: Tensor, values: Tensor) -> Tensor:
        """Mean squared error, in units of the variance, over the events whose value is given.

        Args:
            states: (batch, count, dim) of which some are of hidden events.
            there: (batch, count) bool, which.
            items: (items, dim) embeddings.
            targets: (hidden,) the items that were hidden.
            values: (hidden,) what they were valued at; NaN = not given.
        """
        guessed = (self.state_vectors(states)[there].float() * self.item_vectors(items)[targets]).sum(1)
        given = values.isfinite()
        squares = (guessed - self._measured(values)).square() * given
        return torch.as_tensor(squares.sum() / given.sum().clamp(min=1))

    def state_vectors(self, states: Tensor) -> Tensor:
        """(..., dim + 2) of states (..., dim), whose inner product with those of items is the guess, in deviations."""
        return torch.as_tensor(nn.functional.pad(self.guessing(states), (0, 1), value=1.0))

    def item_vectors(self, items: Tensor) -> Tensor:
        """(items, dim + 2) of item embeddings (items, dim)."""
        return torch.cat([items, torch.ones_like(items[:, :1]), self.item_bias.unsqueeze(1)], 1)

    def in_units(self, guessed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Guesses in deviations, in the units of the data and within the range of training; NaN stays NaN."""
        mean, deviation, lowest, highest = self.scale.cpu().numpy()
        return np.asarray((mean + deviation * guessed).clip(lowest, highest), np.float32)

    def _measured(self, values: Tensor) -> Tensor:
        """The values in deviations from their mean; 0 where not given."""
        return torch.where(values.isfinite(), (values - self.scale[0]) / self.scale[1], 0.0)
