"""Batches of people with what they had met and what they met beside that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.dataset import Dataset
from foretaste.ragged import PAD, Ragged, spans

__all__ = ["HistoryPairBatches", "HistoryPairs", "HistoryReading", "People"]


class HistoryReading(Protocol):
    """How histories are read; settings have it."""

    @property
    def length(self) -> int: ...  # events of a history that are read
    @property
    def in_order(self) -> bool: ...  # only what came before the pair's event
    @property
    def hard_negatives(self) -> int: ...  # of each pair


@dataclass(frozen=True, eq=False)
class People:
    """What is known of people beside their histories."""

    user: Tensor  # (people,) of training; PAD = strangers
    features: Tensor  # (people, features) codes; PAD = missing
    texts: Tensor | None = None  # (people, width) what is said of them in words; NaN = nothing; None = of nobody

    def take(self, rows: Tensor) -> Self:
        return type(self)(self.user[rows], self.features[rows], None if self.texts is None else self.texts[rows])

    def to(self, device: torch.device) -> Self:
        texts = None if self.texts is None else self.texts.to(device)
        return type(self)(self.user.to(device), self.features.to(device), texts)


@dataclass(frozen=True, eq=False)
class HistoryPairs:
    """People with what they had met, and what they met beside that."""

    user: Tensor  # (pairs,) users of training
    features: Tensor  # (pairs, features) codes; PAD = missing
    history: Tensor  # (total,) items of all pairs, one after another
    offsets: Tensor  # (pairs + 1,) where the history of each begins
    positive: Tensor  # (pairs,)
    hard: Tensor  # (any,) hard negatives
    value: Tensor  # (pairs,) what the item was valued at; NaN = not given

    def __len__(self) -> int:
        return len(self.positive)

    def to(self, device: torch.device) -> Self:
        return type(self)(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class HistoryPairBatches(Sequence[HistoryPairs]):
    """One epoch of the pairs in random order, built when asked for.

    Args:
        pairs: The events that are learned from.
        codes: (users, features) what is known of each user.
        size: Pairs in a batch.
        hard: (users, any) items to draw hard negatives from, PAD where there are fewer. None: there are none.
        rng: Of this epoch.
    """

    def __init__(
        self,
        settings: HistoryReading,
        train: Dataset,
        pairs: NDArray[np.int64],
        codes: NDArray[np.int64],
        size: int,
        hard: NDArray[np.int32] | None,
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._train, self._codes, self._size, self._hard = settings, train, codes, size, hard
        self._pairs = rng.permutation(pairs)
        self._items = train.item
        if not settings.in_order:  # so that the last events of a row are any of it
            self._items = train.item[np.argsort(train.user + rng.random(len(train)))]
        # The draws of each batch have a seed of their own, as batches may be asked for in any order.
        self._seeds = rng.integers(2**63, size=len(self))

    def __len__(self) -> int:
        return -(-len(self._pairs) // self._size)

    def __getitem__(self, number: int) -> HistoryPairs:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(f"There is no batch {number} of {len(self)}.")
        pairs = self._pairs[number * self._size : (number + 1) * self._size]
        user, positive = self._train.user[pairs], self._train.item[pairs]
        history = self._history(pairs if self._settings.in_order else self._train.offsets[user + 1], user, positive)
        hard = self._hard_of(user, np.random.default_rng(self._seeds[number]))
        arrays = (user, self._codes[user], history.values, history.offsets, positive, hard)
        values = np.full(len(pairs), np.nan) if self._train.value is None else self._train.value[pairs]
        value = torch.from_numpy(values.astype(np.float32))
        return HistoryPairs(*[*(torch.from_numpy(each.astype(np.int64)) for each in arrays), value])

    def _history(self, until: NDArray[np.int64], user: NDArray[np.int32], positive: NDArray[np.int32]) -> Ragged:
        """The last events of each user before a place of the log, without those of the pair's own item."""
        begin = np.maximum(self._train.offsets[user], until - self._settings.length - 1)
        lengths = until - begin
        rows = Ragged.from_lengths(self._items[spans(begin, lengths)], lengths)
        return rows.where(rows.values != np.repeat(positive, lengths)).last(self._settings.length)

    def _hard_of(self, user: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int64]:
        if self._hard is None:
            return np.empty(0, np.int64)
        drawn = rng.integers(self._hard.shape[1], size=(len(user), self._settings.hard_negatives))
        found = self._hard[user[:, None], drawn].ravel()
        return np.asarray(found[found != PAD], np.int64)
