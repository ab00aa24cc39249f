"""What events were valued at, such as ratings: read where it is seen, guessed where it is hidden."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Ratings"]


DAMPING = 5.0  # values of the mean that an item, or a person, is thought to have besides its own, at first


class Ratings(nn.Module):
    """Reads values beside events, and guesses them from a state and an item.

    A guess is mean + deviation * (b + c + <A h + a, (e, 1)>) of a state h and an item with embedding e and number b;
    mean and deviation are those of all values in training, and c is the person's habit: how far above the numbers of
    their items they rate, as a damped mean over the values that are read,

        c = sum of (v_j - b_j) / (count + damping).

    So state and item meet in an inner product, and a person's ratings of the whole catalogue are one product of
    matrices; and the network has to learn only what the two biases leave over.

    Source: Koren, "Factor in the Neighbors", TKDD 2010, section 2.1, for the biases. Differs: that of a person is not
        learned but read off what they rated so far, with a damping that is learned.
    """

    scale: Tensor

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.reading = nn.Parameter(torch.zeros(2, dim))  # that there is a value, and how high it is
        self.guessing = nn.Linear(dim, dim + 1)
        self.item_bias = nn.Parameter(torch.zeros(items))
        self.damping = nn.Parameter(torch.tensor(DAMPING).log())
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 0.0, 0.0]))  # mean, deviation, lowest, highest

    def measure(self, items: NDArray[np.integer], values: NDArray[np.floating]) -> None:
        """Take mean, deviation and range from the events of training, and the number of each item to begin with.

        That is its damped mean, in deviations: as a zero it would be learned late, and habits, which lie above it, too.

        Args:
            items: (events,).
            values: (events,) NaN = not given.
        """
        rated = np.isfinite(values)
        given = values[rated].astype(np.float64)
        mean, deviation = given.mean(), given.std() or 1.0
        self.scale.copy_(torch.tensor([mean, deviation, given.min(), given.max()], dtype=torch.float32))
        sums = np.bincount(items[rated], (given - mean) / deviation, minlength=len(self.item_bias))
        counts = np.bincount(items[rated], minlength=len(self.item_bias))
        with torch.no_grad():
            self.item_bias.copy_(torch.from_numpy(sums / (counts + DAMPING)))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, length, dim) what values (batch, length) tell; NaN tells nothing."""
        given = values.isfinite().unsqueeze(-1)
        return given * self.reading[0] + self._measured(values).unsqueeze(-1) * self.reading[1]

    def habits(self, items: Tensor, values: Tensor | None, *, causal: bool = False) -> Tensor:
        """(batch, 1) the habit of each row, in deviations; with ``causal`` (batch, length), by the values before each.

        Args:
            items: (batch, length).
            values: (batch, length) what is read of them; NaN = nothing. None: nothing is read of any.
        """
        if values is None:
            return torch.zeros(len(items), 1, device=items.device)
        given = values.isfinite()
        above = torch.where(given, self._measured(values) - self.item_bias[items.clamp(min=0)], 0.0)
        sums, counts = above.cumsum(1), given.cumsum(1)
        if causal:
            sums, counts = sums - above, counts - given.long()
        else:
            sums, counts = sums[:, -1:], counts[:, -1:]
        return sums / (counts + self.damping.exp())

    def error(
        self, states: Tensor, habits: Tensor, there: Tensor, items: Tensor, targets: Tensor, values: Tensor
    ) -> Tensor:
        """Mean squared error, in units of the variance, over the events whose value is given.

        Args:
            states: (batch, count, dim) of which some are of hidden events.
            habits: (batch, count or 1) by the values that were read for these states.
            there: (batch, count) bool, which.
            items: (items, dim) embeddings.
            targets: (hidden,) the items that were hidden.
            values: (hidden,) what they were valued at; NaN = not given.
        """
        vectors = self.state_vectors(self.told(states, habits)[there])
        guessed = (vectors * self.item_vectors(items)[targets]).sum(1)
        given = values.isfinite()
        squares = (guessed - self._measured(values)).square() * given
        return torch.as_tensor(squares.sum() / given.sum().clamp(min=1))

    def told(self, states: Tensor, habits: Tensor) -> Tensor:
        """(..., dim + 1) A h + a of states (..., dim), with the habits (...) added to its last number."""
        told = self.guessing(states).float()
        return torch.cat([told[..., :-1], (told[..., -1] + habits)[..., None]], -1)

    def state_vectors(self, told: Tensor) -> Tensor:
        """(..., dim + 2) of what states tell, whose inner product with those of items is the guess, in deviations."""
        return nn.functional.pad(told, (0, 1), value=1.0)

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
