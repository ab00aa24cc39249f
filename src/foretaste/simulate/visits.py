"""Who looks at what and when: sessions in time, the walk through each of them, and the funnel behind each view."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.run import Run
from foretaste.simulate.draw import People
from foretaste.simulate.shop import DAY, Shop
from foretaste.simulate.truth import LINK_CHANCES, LOOK_BACK, PRICE_LEVELS, Truth
from foretaste.simulate.words import STYLES

__all__ = [
    "CATEGORY_PAGE",
    "HOME",
    "MEAN_GAP",
    "PRODUCT_PAGE",
    "DayTables",
    "Sessions",
    "Views",
    "batches",
    "draw_sessions",
    "walk",
]

HOME, CATEGORY_PAGE, PRODUCT_PAGE = 0, 1, 2  # where a viewed item was found
LONGEST_SESSION = 60  # views
SHORTEST_GAP = 15_000  # milliseconds between two views
MEAN_GAP = 75_000  # milliseconds beyond the shortest
LONGEST_GAP = 20 * 60_000
BETWEEN_SESSIONS = 45 * 60_000  # at least, so that a cut at 30 minutes finds the sessions
TABLE_CELLS = 4_000_000  # of a table of days, kinds of people and items; bounds the memory of a batch
BATCH_SESSIONS = 50_000
KINDS_OF_PEOPLE = len(STYLES) * PRICE_LEVELS  # by style and price level: who sees equal chances within a theme
# Chances of the hours of a day: quiet nights, a small peak at noon and a large one in the evening.
HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 6, 6, 7, 8, 10, 11, 10, 7, 4], np.float64)


@dataclass(frozen=True, eq=False)
class Sessions:
    """All sessions, by user and then time."""

    user: NDArray[np.int32]  # (sessions,)
    first: NDArray[np.int64]  # (sessions + 1,) where the views of each begin
    day: NDArray[np.int64]  # (sessions,) the day on which each begins; its chances are those of that day
    time: NDArray[np.int64]  # (views,) milliseconds
    gap: NDArray[np.int64]  # (views,) milliseconds until the visitor has done with the item

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, eq=False)
class Views:
    """What was viewed, aligned with the times of the sessions."""

    item: NDArray[np.int32]  # (views,)
    page: NDArray[np.int8]  # (views,) HOME, CATEGORY_PAGE or PRODUCT_PAGE
    liking: NDArray[np.float64]  # (views,)


def draw_sessions(truth: Truth, people: People, run: Run) -> Sessions:
    """Sessions at random moments after each user's first; what would overlap comes later instead."""
    shop = truth.shop
    rng = run.rng("simulate", "sessions")
    later = rng.poisson(truth.rate * (shop.days - people.arrival_day))
    user = np.repeat(np.arange(shop.users, dtype=np.int32), later + 1)
    opens = np.cumsum(later + 1) - (later + 1)
    share = rng.random(len(user))
    share[opens] = 0.0
    day = (people.arrival_day[user] + share * (shop.days - people.arrival_day[user])).astype(np.int64)
    start = day * DAY + _moments_of_day(len(user), rng)
    # The order is that of the draw, so that the first session stays first whatever the hour of the others.
    order = np.lexsort((share, user))
    start = start[order]
    length = np.minimum(rng.geometric(1 - truth.stay[user]), LONGEST_SESSION)
    offsets = np.concatenate([[0], np.cumsum(length)])
    gap = SHORTEST_GAP + np.minimum(rng.exponential(MEAN_GAP, offsets[-1]), LONGEST_GAP).astype(np.int64)
    before = np.cumsum(gap) - gap
    within = before - np.repeat(before[offsets[:-1]], length)
    duration = np.add.reduceat(gap, offsets[:-1])
    start = shop.start + _without_overlap(user, start, duration + BETWEEN_SESSIONS)
    return _inside(shop, user, start, length, np.repeat(start, length) + within, gap)


def _moments_of_day(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    hour = rng.choice(24, count, p=HOURS / HOURS.sum())
    return ((hour + rng.random(count)) * 3_600_000).astype(np.int64)


def _without_overlap(user: NDArray[np.int32], start: NDArray[np.int64], busy: NDArray[np.int64]) -> NDArray[np.int64]:
    """Start times, moved to when the user's session before has ended where they are too early.

    A start is the largest, over the sessions up to it, of their wish plus all the busy time from there on. With the
    busy time taken off, that is a running maximum; users are kept apart by a step that no start can bridge.
    """
    elapsed = np.cumsum(busy) - busy
    opens = np.flatnonzero(np.diff(user, prepend=-1))
    elapsed -= np.repeat(elapsed[opens], np.diff(np.append(opens, len(user))))
    apart = user.astype(np.int64) * (int(start.max()) + int(elapsed.max()) + 1)
    return np.maximum.accumulate(start - elapsed + apart) - apart + elapsed


def _inside(
    shop: Shop,
    user: NDArray[np.int32],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    time: NDArray[np.int64],
    gap: NDArray[np.int64],
) -> Sessions:
    """The sessions as far as they lie in the span of the log: its end cuts through what is going on."""
    seen = time < shop.end
    length = np.bincount(np.repeat(np.arange(len(user)), length)[seen], minlength=len(user))
    kept = length > 0
    offsets = np.concatenate([[0], np.cumsum(length[kept])])
    return Sessions(user[kept], offsets, (start[kept] - shop.start) // DAY, time[seen], gap[seen])


class DayTables:
    """Cumulative chances of some days, to draw many items at once.

    Each row of a table is a day (and a kind of person); rows follow each other in one ascending array, so that one
    binary search serves all draws.
    """

    def __init__(self, truth: Truth, days: NDArray[np.int64]) -> None:
        self.truth = truth
        self.first_day = int(days[0])
        appeal = truth.appeal(days, days)
        front = np.cumsum(truth.front_chances(appeal, days), axis=1)
        self._front = (front + np.arange(len(days))[:, None]).ravel()
        style, level = np.divmod(np.arange(KINDS_OF_PEOPLE), PRICE_LEVELS)
        # The last row fits everybody alike: what a page shows before it knows its visitor.
        fit = np.concatenate([truth.fit(style, level), np.ones((1, truth.shop.items))])
        chances = [truth.chances_within_theme(appeal, fit[[kind]]) for kind in range(len(fit))]
        rows = np.cumsum(np.stack(chances, axis=1), axis=2).reshape(-1, truth.shop.items)
        self._within = (rows + np.arange(len(rows))[:, None] * truth.shop.themes).ravel()
        begins = truth.theme_begins()
        self._begins, self._ends = begins, np.append(begins[1:], truth.shop.items) - 1

    def front(self, day: NDArray[np.int64], chance: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) items of the storefront, for uniform numbers ``chance``."""
        row = day - self.first_day
        found = np.searchsorted(self._front, row + chance, side="right") - row * self.truth.shop.items
        return np.asarray(np.clip(found, 0, self.truth.shop.items - 1), np.int64)

    def within(
        self,
        day: NDArray[np.int64],
        kind: NDArray[np.integer] | int,
        theme: NDArray[np.integer],
        chance: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """(n,) items of the given themes, for uniform numbers ``chance``."""
        row = (day - self.first_day) * (KINDS_OF_PEOPLE + 1) + kind
        found = np.searchsorted(self._within, row * self.truth.shop.themes + theme + chance, side="right")
        found -= row * self.truth.shop.items
        return np.asarray(np.clip(found, self._begins[theme], self._ends[theme]), np.int64)

    def kind(self, user: NDArray[np.integer]) -> NDArray[np.int64]:
        """(n,) the kind of person that each user is."""
        return np.asarray(self.truth.user_style[user] * PRICE_LEVELS + self.truth.user_level[user], np.int64)


def batches(truth: Truth, sessions: Sessions) -> Iterator[tuple[DayTables, NDArray[np.int64]]]:
    """Days in order, a few at a time, with the sessions that begin on them: as many as memory should hold."""
    by_day = np.argsort(sessions.day, kind="stable")
    per_day = TABLE_CELLS // (truth.shop.items * (KINDS_OF_PEOPLE + 1))
    ends = np.searchsorted(sessions.day[by_day], np.arange(truth.shop.days + 1))
    day = 0
    while day < truth.shop.days:
        last = int(np.searchsorted(ends, ends[day] + BATCH_SESSIONS, side="right")) - 1
        last = min(max(last, day + 1), day + max(per_day, 1), truth.shop.days)
        tables = DayTables(truth, np.arange(day, last))
        chosen = by_day[ends[day] : ends[last]]
        for begin in range(0, len(chosen), BATCH_SESSIONS):
            yield tables, chosen[begin : begin + BATCH_SESSIONS]
        day = last


def walk(
    tables: DayTables, sessions: Sessions, chosen: NDArray[np.int64], views: Views, rng: np.random.Generator
) -> None:
    """Write what is viewed in the chosen sessions into ``views``: the first view of all, then the second, and so on."""
    truth = tables.truth
    length = np.diff(sessions.first)[chosen]
    chosen = chosen[np.argsort(-length, kind="stable")]
    place, length = sessions.first[chosen], np.diff(sessions.first)[chosen]
    user, day = sessions.user[chosen], sessions.day[chosen]
    affinity = truth.affinity(user, day)
    themes = np.cumsum(truth.theme_chances(affinity, day), axis=1)
    themes = (themes / themes[:, -1:] + np.arange(len(chosen))[:, None]).ravel()
    item = before = np.empty(len(chosen), np.int64)
    for step in range(int(length.max(initial=0))):
        running = int(np.searchsorted(-length, -step))  # the longest sessions stand first
        now = slice(0, running)
        last = None if step == 0 else (item[now], before[now] if step > 1 else item[now])
        before = item
        item, page = _step(tables, user[now], day[now], themes, last, rng)
        views.item[place[now] + step] = item
        views.page[place[now] + step] = page
        score = affinity[np.arange(running), truth.theme[item]]
        views.liking[place[now] + step] = truth.liking(score, user[now], item)


def _step(
    tables: DayTables,
    user: NDArray[np.int32],
    day: NDArray[np.int64],
    themes: NDArray[np.float64],
    last: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """The next item of each running session, and the page on which it was found.

    Args:
        themes: Cumulative chances of the themes, row after row, ascending as a whole.
        last: The item viewed last and the one before it; twice the same at the second view, None at the first.
    """
    truth, shop = tables.truth, tables.truth.shop
    row = np.arange(len(user))
    way, theme_chance, item_chance, link_chance, back_chance = rng.random((5, len(user)))
    theme = np.searchsorted(themes[: len(user) * shop.themes], row + theme_chance, side="right") - row * shop.themes
    theme = np.clip(theme, 0, shop.themes - 1)
    related, same, front = (0.0, 0.0, shop.storefront) if last is None else truth.later_shares()
    if last is not None:
        stays = (way >= related) & (way < related + same)
        theme = np.where(stays, truth.theme[last[0]], theme)
    item = tables.within(day, tables.kind(user), theme, item_chance)
    page = np.full(len(user), CATEGORY_PAGE, np.int8)
    looks = (way >= related + same) & (way < related + same + front)
    item[looks] = tables.front(day[looks], item_chance[looks])
    page[looks] = HOME
    if last is not None:
        link = np.searchsorted(np.cumsum(LINK_CHANCES)[:-1], link_chance, side="right")
        target = truth.links[np.where(back_chance < LOOK_BACK, last[1], last[0]), link]
        # A link to what has not arrived yet leads nowhere; the visitor chooses as if there were none.
        follows = (way < related) & (truth.arrival_day[target] <= day)
        item[follows] = target[follows]
        page[follows] = PRODUCT_PAGE
    return item, page
