"""When each item was met, to tell of any moment what was so before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import NO_TIME, Column, Number, Table
from foretaste.dataset import Dataset
from foretaste.ragged import Ragged

__all__ = ["ItemTimes"]

HOUR = 3_600_000
WINDOWS = {"day": 24 * HOUR, "week": 7 * 24 * HOUR, "month": 30 * 24 * HOUR}


@dataclass(frozen=True, eq=False)
class ItemTimes:
    """The moments of all events, by item. Nothing is known of what came after the last of them."""

    times: Ragged  # (items) milliseconds, ascending

    @classmethod
    def of(cls, data: Dataset) -> Self | None:
        """Those of a log; None where it has no times."""
        if data.time is None:
            return None
        order = np.argsort(data.time, kind="stable")
        return cls(Ragged.from_rows(data.item[order], data.time[order], len(data.items)))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Those whose ``arrays()`` these are."""
        return cls(Ragged(arrays["values"], arrays["offsets"]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"values": self.times.values, "offsets": self.times.offsets}

    def features(self, item: NDArray[np.int64], moment: NDArray[np.int64]) -> Table:
        """How often items were met in the day, the week and the 30 days before a moment, and how long ago first.

        Args:
            item: (pairs,)
            moment: (pairs,) milliseconds; NO_TIME, and what is later than the log, stand for the end of the log.

        Returns:
            One row per pair, of logarithms. What happens at the moment itself is not counted. The age is NaN where the
            item had not been met.
        """
        moment = np.where((moment == NO_TIME) | (moment > self._end), self._end, moment)
        now = self._before(item, moment)
        columns: dict[str, Column] = {
            f"item events of the {name}": Number(np.log1p((now - self._before(item, moment - window)).astype(float)))
            for name, window in WINDOWS.items()
        }
        first = np.full(len(self.times), self._end)
        some = self.times.lengths > 0
        first[some] = self.times.values[self.times.offsets[:-1][some]]
        age = (moment - first[item]) / HOUR
        columns["item age"] = Number(np.log1p(np.where(now > 0, age, np.nan)))
        return Table(len(item), columns)

    @property
    def _end(self) -> int:
        """The moment after the last event."""
        return self._span[1]

    @cached_property
    def _span(self) -> tuple[int, int]:
        values = self.times.values
        return (int(values.min()), int(values.max()) + 1) if len(values) else (0, 0)

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """(events,) ascending: the item, and within it the moment."""
        begin, end = self._span
        keys: NDArray[np.int64] = self.times.row_of_value() * (end - begin + 1) + (self.times.values - begin)
        return keys

    def _before(self, item: NDArray[np.int64], moment: NDArray[np.int64]) -> NDArray[np.int64]:
        """(pairs,) how many events of the item came before the moment."""
        begin, end = self._span
        wanted = item * (end - begin + 1) + np.clip(moment - begin, 0, end - begin)
        before: NDArray[np.int64] = np.searchsorted(self._keys, wanted) - self.times.offsets[:-1][item]
        return before
