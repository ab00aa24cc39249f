"""Batches of sequences of which some events are hidden, to be guessed from those on both sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretaste.batching import Padded, Sequences, Widths, groups_by_length
from foretaste.ragged import PAD

__all__ = ["MaskedBatch", "MaskedBatches", "hidden_places"]

COUNTS = 16  # different numbers of hidden places per row that batches of one width are filled up to


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """Sequences of similar length, and which of their events are hidden."""

    history: Padded  # as it was: a network must not read the items of hidden places
    masked: Tensor  # (batch, length) bool, never at PAD

    @property
    def targets(self) -> Tensor:
        """(batch, length) int64, the hidden items; PAD at all other places."""
        return self.history.items.masked_fill(~self.masked, PAD)

    def __len__(self) -> int:
        """How many places are to be guessed."""
        return int(self.masked.sum())

    def to(self, device: torch.device) -> "MaskedBatch":
        return MaskedBatch(self.history.to(device), self.masked.to(device, non_blocking=True))


class MaskedBatches(Sequence[MaskedBatch]):
    """One epoch in random order; each sequence comes ``repeats`` times, with other events hidden.

    Args:
        sequences: At least one event each.
        tokens: How many places, padding included, a batch may have.
        rng: Of this epoch.
        rate: The chance of each event to be hidden.
        last_share: The share of the sequences of which the last event alone is hidden, as it is when asked. So it is
            too where chance would hide no event of a sequence, or all of several.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokens: int,
        rng: np.random.Generator,
        *,
        rate: float,
        last_share: float = 0.0,
        repeats: int = 1,
    ) -> None:
        self._sequences, self._rate, self._last_share = sequences, rate, last_share
        self._widths = Widths(sequences.lengths)
        groups = [
            group for _ in range(repeats) for group in groups_by_length(sequences.lengths, self._widths, tokens, rng)
        ]
        self._groups = [groups[number] for number in rng.permutation(len(groups))]
        self._seed = int(rng.integers(2**63))

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> MaskedBatch:  # type: ignore[override]
        sequences = self._sequences.take(self._groups[number])
        lengths = sequences.lengths
        history = sequences.padded(int(self._widths.of(lengths.max())))
        # A stream for each batch, so that a batch is the same whichever was asked for before.
        rng = np.random.default_rng([self._seed, number])
        place = np.arange(history.items.shape[1])
        hidden = (rng.random(history.items.shape) < self._rate) & (place < lengths[:, None])
        count = hidden.sum(1)
        last_alone = (rng.random(len(lengths)) < self._last_share) | (count == 0) | (count == lengths)
        hidden[last_alone] = place == lengths[last_alone, None] - 1
        return MaskedBatch(history, torch.from_numpy(hidden))

    def __iter__(self) -> Iterator[MaskedBatch]:
        return (self[number] for number in range(len(self)))


def hidden_places(masked: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden places of each row, in order, side by side.

    Returns:
        (batch, count) places, filled up with others where a row hides fewer, and (batch, count) bool: is it hidden?
        There are few different counts for sequences of one length, so that batches have few shapes.
    """
    counts, width = masked.sum(1, keepdim=True), masked.shape[1]
    step = -(-width // COUNTS)
    count = min(-(-int(counts.max()) // step) * step, width)
    places = masked.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    return places, torch.arange(count, device=masked.device) < counts
