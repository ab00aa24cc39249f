"""Batches of sequences: windows over long histories, cut by a budget of tokens from sequences of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from foretaste.ragged import PAD, Ragged, groups_within

__all__ = ["SequenceBatch", "SequenceBatches", "windows"]


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """Sequences of similar length, padded on the right."""

    history: torch.Tensor  # (batch, length) int64; PAD on the right
    targets: torch.Tensor  # (batch, length) int64, the item that came next; PAD where nothing is to be predicted

    def __len__(self) -> int:
        """How many places are to be predicted."""
        return int((self.targets != PAD).sum())

    def to(self, device: torch.device) -> "SequenceBatch":
        return SequenceBatch(self.history.to(device, non_blocking=True), self.targets.to(device, non_blocking=True))


def windows(histories: Ragged, length: int) -> Ragged:
    """Rows cut from their end into windows of ``length + 1`` that overlap by one.

    So each event but the first of a row is a target exactly once, and nothing of a long history is lost. Rows with
    fewer than two events are left out.

    For length 2 the row a b c d e gives  a b c  and  c d e.
    """
    long_enough = np.flatnonzero(histories.lengths >= 2)
    size = histories.lengths[long_enough]
    count = -(-(size - 1) // length)
    row = np.repeat(long_enough, count)
    ends_before = np.cumsum(count) - count
    number = np.arange(len(row)) - np.repeat(ends_before, count)  # 0 = the latest window of its row
    stop = histories.offsets[1:][row] - number * length
    start = np.maximum(stop - length - 1, histories.offsets[:-1][row])
    lengths = stop - start
    ends = np.cumsum(lengths)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return Ragged.from_lengths(histories.values[np.repeat(start, lengths) + within], lengths)


WIDTHS = (
    16  # different widths of batches: torch's libraries keep a plan for every shape, and many shapes take gigabytes
)


class SequenceBatches(Sequence[SequenceBatch]):
    """One epoch of batches in random order, built when asked for.

    Args:
        sequences: At least two items each; the last is only a target.
        tokens: How many places, padding included, a batch may have.
        rng: Of this epoch.
    """

    def __init__(self, sequences: Ragged, tokens: int, rng: np.random.Generator) -> None:
        self._sequences = sequences
        lengths = sequences.lengths - 1
        # Sorting by length with some noise: little padding, yet other neighbours in each epoch.
        order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
        self._longest = int(lengths.max(initial=1))
        self._step = -(-self._longest // WIDTHS)
        self._groups = groups_within(order, self._width(lengths), tokens)
        rng.shuffle(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> SequenceBatch:  # type: ignore[override]
        sequences = self._sequences.take(self._groups[number])
        width = int(self._width(sequences.lengths.max() - 1)) + 1
        rows = torch.from_numpy(sequences.padded(width).astype(np.int64))
        history, targets = rows[:, :-1], rows[:, 1:]
        # What precedes padding is a row's last item: only a target, never read, so it does no harm as input.
        return SequenceBatch(history.contiguous(), targets.contiguous())

    def __iter__(self) -> Iterator[SequenceBatch]:
        return (self[number] for number in range(len(self)))

    def _width(self, lengths: Any) -> Any:
        """Lengths rounded up to one of few widths."""
        return np.minimum(-(-lengths // self._step) * self._step, self._longest)
