"""A cheap stream of plain events, for tests of scale."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import ConfigError
from foretaste.run import Run
from foretaste.simulate.shop import DAY

__all__ = ["simulate_events"]

CHUNK = 1_000_000
SKEW = 3.0  # a uniform number to this power: the most popular hundredth gets a fifth of what it governs
START = 1_756_684_800_000  # milliseconds
SPAN = 365 * DAY
NEIGHBOURS = 32  # items around a user's own corner of the catalogue
OWN_CORNER = 0.5  # share of the events in it


def simulate_events(
    events: int, users: int, items: int, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Chunks of users, items and times (milliseconds), in the order of time; memory does not grow with ``events``.

    Popularity and activity are skewed, and half of a user's events lie in one corner of the catalogue, so that there
    is something to learn. There are no texts, no sessions and no truth; for those see ``simulate``.

    Raises:
        ConfigError: A count is not positive.
    """
    for name, count in (("events", events), ("users", users), ("items", items)):
        if count < 1:
            raise ConfigError(f"{name} is {count}; give at least 1.")
    rng = Run(seed=seed).rng("simulate", "stream")
    for begin in range(0, events, CHUNK):
        size = min(CHUNK, events - begin)
        user = (users * rng.random(size) ** 2).astype(np.int64)
        everywhere = (items * rng.random(size) ** SKEW).astype(np.int64)
        # A multiplication that scatters neighbouring users over the catalogue.
        corner = (user * 2_654_435_761 + rng.integers(0, NEIGHBOURS, size)) % items
        item = np.where(rng.random(size) < OWN_CORNER, corner, everywhere)
        time = START + np.sort(((begin + rng.random(size) * size) / events * SPAN).astype(np.int64))
        yield user, item, time
