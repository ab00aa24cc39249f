"""The best possible answer: the true chances of what a person meets next, as known at the moment of asking."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import MissingData
from foretaste.query import Queries
from foretaste.ragged import PAD
from foretaste.simulate.shop import DAY
from foretaste.simulate.truth import LINK_CHANCES, LOOK_BACK, Truth
from foretaste.simulate.visits import BETWEEN_SESSIONS, MEAN_GAP, SHORTEST_GAP

__all__ = ["Oracle"]

Floats = NDArray[np.float64]

# The wait until a new session is averaged over these shares of its distribution.
WAITS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
NEVER = 1e-12  # stands for no chance, and for no sessions per day, where one must divide
CHUNK_CELLS = 2_000_000  # of a table of queries and items; about ten such tables are held at once


@dataclass(frozen=True, eq=False)
class Oracle:
    """Ranks every item by the true chance to be the next one.

    What it knows: the person's taste, its drift, and how often and how long the person visits; the links, seasons
    and appeal of all items that have arrived by the moment of asking; the bursts that run by then and how they fade;
    the last event and the view before it in its session; and that a next event comes before the log ends. What it
    does not know: which item comes next, whether the session goes on, when the next session begins, what arrives or
    goes viral until then. It therefore weighs "the session goes on" against "a new one begins", and averages the
    latter over the waiting time.

    So the chances hold for a next event asked for at any moment of the log, save that one or two targets in a hundred
    arrive after the moment of asking; those are misses. Leave-one-out asks for the *last* event of each user, and its
    being last makes a new session a little likelier than the oracle believes.
    """

    truth: Truth
    next: Literal["event", "view"] = "event"  # "view": carts and purchases are passed over, as when views are targets
    asked_at: int | None = None  # milliseconds; nobody asks earlier, whatever ``now`` says: the cut of a split by time

    def scores(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, items) the chance of each item to be met next; −inf where it has not arrived.

        Without the kinds of the history, its last event is taken for a view.

        Raises:
            MissingData: A query does not say which user asks, or when.
        """
        chances = self.chances(queries)
        arrived = self.truth.arrival_day <= self.truth.day(self._moments(queries))[:, None]
        return np.where(arrived, chances, -np.inf).astype(np.float32)

    def chances(self, queries: Queries) -> Floats:
        """(queries, items) the chance of each item to be met next; each row sums to 1.

        Raises:
            MissingData: A query does not say which user asks, or when.
        """
        if queries.user is None or (queries.user == PAD).any():
            raise MissingData("The oracle knows people, not histories: every query must name a known user.")
        now = self._moments(queries)
        out = np.empty((len(queries), self.truth.shop.items))
        rows = max(1, CHUNK_CELLS // self.truth.shop.items)
        for begin in range(0, len(queries), rows):
            chunk = slice(begin, begin + rows)
            out[chunk] = self._chances(queries.take(chunk), now[chunk])
        return out

    def _chances(self, queries: Queries, now: NDArray[np.int64]) -> Floats:
        user: NDArray[np.int32] = queries.user  # type: ignore[assignment]
        last, before, kind, since = _last_events(queries, now)
        day = self.truth.day(now)
        funnel, goes_on = self._session_goes_on(user, last, kind, since, now)
        chances = (1 - funnel - goes_on)[:, None] * self._of_first_view(user, now)
        running = np.flatnonzero(last != PAD)
        later = self._of_later_view(user[running], last[running], before[running], day[running])
        chances[running] += goes_on[running, None] * later
        chances[running, last[running]] += funnel[running]
        return chances

    def _session_goes_on(
        self,
        user: NDArray[np.int32],
        last: NDArray[np.int32],
        kind: NDArray[np.int64],
        since: NDArray[np.int64],
        now: NDArray[np.int64],
    ) -> tuple[Floats, Floats]:
        """(queries,) the chances that the next event is the funnel's next stage, and that it is a view in this session.

        The longer nothing has come, the likelier is it that the session is over: both shrink with the time since
        the last event, as fast as the gaps between views do.
        """
        truth, day = self.truth, self.truth.day(now)
        score = truth.affinity(user, day)[np.arange(len(user)), truth.theme[last]]
        liking = truth.liking(score, user, last)
        stages = np.stack([truth.cart_chance(liking), truth.purchase_chance(liking), np.zeros(len(user))])
        funnel = stages[kind, np.arange(len(user))] if self.next == "event" else np.zeros(len(user))
        alive = np.where(last == PAD, 0.0, np.exp(-np.maximum(since - SHORTEST_GAP, 0) / MEAN_GAP))
        returns = 1 - np.exp(-truth.rate[user] * self._days_left(now))
        goes_on = alive * (1 - funnel) * truth.stay[user]
        anew = (1 - funnel) * (1 - truth.stay[user]) * returns
        # At the very end nothing is left but a session that begins at once.
        total = np.maximum(alive * funnel + goes_on + anew, NEVER)
        return alive * funnel / total, goes_on / total

    def _of_first_view(self, user: NDArray[np.int32], now: NDArray[np.int64]) -> Floats:
        """(queries, items) the chances of the first view of the next session, over the time until it begins."""
        rate, left = np.maximum(self.truth.rate[user], NEVER), self._days_left(now)
        comes = -np.expm1(-rate * left)
        whole = np.zeros((len(user), self.truth.shop.items))
        for share in WAITS:
            wait = np.minimum(-np.log1p(-share * comes) / rate, left)
            day = self.truth.day(now + (wait * DAY).astype(np.int64))
            personal, front, _ = self._choices(user, np.minimum(day, self.truth.shop.days - 1), self.truth.day(now))
            whole += self.truth.shop.storefront * front + (1 - self.truth.shop.storefront) * personal
        return whole / len(WAITS)

    def _of_later_view(
        self, user: NDArray[np.int32], last: NDArray[np.int32], before: NDArray[np.int32], day: NDArray[np.int64]
    ) -> Floats:
        """(queries, items) the chances of the next view of the running session."""
        truth = self.truth
        personal, front, within = self._choices(user, day, day)
        links = np.concatenate([truth.links[last], truth.links[before]], axis=1)
        by_place = np.concatenate([(1 - LOOK_BACK) * LINK_CHANCES, LOOK_BACK * LINK_CHANCES])
        there = by_place * (truth.arrival_day[links] <= day[:, None])
        by_link, by_theme, by_front = truth.later_shares()
        free = 1 - by_theme - by_front - by_link * there.sum(axis=1)
        stays = truth.theme == truth.theme[last][:, None]
        chances: Floats = free[:, None] * personal + by_theme * stays * within + by_front * front
        np.add.at(chances, (np.arange(len(user))[:, None], links), by_link * there)
        return chances

    def _choices(
        self, user: NDArray[np.int32], day: NDArray[np.int64], known: NDArray[np.int64]
    ) -> tuple[Floats, Floats, Floats]:
        """(queries, items) the chances of a personal choice, of the storefront, and of each item within its theme."""
        truth = self.truth
        appeal = truth.appeal(day, known)
        within = truth.chances_within_theme(appeal, truth.fit(truth.user_style[user], truth.user_level[user]))
        themes = truth.theme_chances(truth.affinity(user, day), day)
        return themes[:, truth.theme] * within, truth.front_chances(appeal, day), within

    def _moments(self, queries: Queries) -> NDArray[np.int64]:
        """(queries,) the moments of asking."""
        if queries.now is None:
            raise MissingData("The oracle needs the moment of asking of every query (now).")
        return queries.now if self.asked_at is None else np.maximum(queries.now, self.asked_at)

    def _days_left(self, now: NDArray[np.int64]) -> Floats:
        return np.maximum(self.truth.shop.end - now, 0) / DAY


def _last_events(
    queries: Queries, now: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """(queries,) what the running session hangs on; without any event, item PAD.

    Returns:
        The item of the last event; the item viewed before it in the same session, or else the same again; the kind of
        the last event; and its age in milliseconds.
    """
    history, rows = queries.history, np.flatnonzero(queries.history.lengths > 0)
    end = history.offsets[1:][rows] - 1
    last, kind, since = np.full(len(queries), PAD, np.int32), np.zeros(len(queries), np.int64), np.zeros_like(now)
    last[rows] = history.values[end]
    if queries.kinds is not None:
        kind[rows] = queries.kinds[end]
    # The stages of the funnel follow each other at once, so as many events back stands the one before the view.
    earlier = end - kind[rows] - 1
    same_session = earlier >= history.offsets[:-1][rows]
    if queries.times is not None:
        since[rows] = now[rows] - queries.times[end]
        same_session &= queries.times[end] - queries.times[earlier] < BETWEEN_SESSIONS
    before = last.copy()
    before[rows] = np.where(same_session, history.values[earlier], last[rows])
    return last, before, kind, since
