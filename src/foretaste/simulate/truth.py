"""What is true in the simulated shop, and the chances that follow from it.

One view is chosen so. A session opens with the storefront (what all look at these days) or with a personal choice:
a theme by the person's taste and the season, then an item of that theme by its appeal and how it fits the person's
price level and style. Later views follow a link of the last item (or of the one before it: people go back), stay in
the theme of the last, look at the storefront again, or are again a personal choice. Chances change from day to day
(UTC), and a session keeps those of the day on which it begins.

The walk draws from these chances and the oracle reports them, so both read them here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.simulate.shop import DAY, Shop

__all__ = ["LINK_CHANCES", "LOOK_BACK", "PRICE_LEVELS", "Truth"]

Floats = NDArray[np.float64]
Indices = NDArray[np.integer]

LINK_CHANCES = np.array([0.3, 0.2, 0.15, 0.12, 0.09, 0.06, 0.05, 0.03])  # of the links of an item, strongest first
LOOK_BACK = 0.35  # of the views that follow a link: those that go back and follow one of the item before the last
SAME_THEME = 0.35  # of the later views that follow no link: those that stay in the theme
FRONT_AGAIN = 0.15  # of the later views that follow no link: those that look at the storefront
PRICE_LEVELS = 3  # cheap, middling, dear
FRESH_DAYS = 25.0  # in which the charm of the new falls to 1/e
NEVER_NEW = 0.2  # appeal that remains when the charm is gone
PRICE_MISFIT = 1.3  # log odds lost per price level between person and item
STYLE_FIT = 1.3  # log odds won where the style is the person's


@dataclass(frozen=True, eq=False)
class Truth:
    """Everything that the simulation knows. Items stand in the order of their themes."""

    shop: Shop
    # of items
    theme: NDArray[np.int32]  # (items,) ascending
    style: NDArray[np.int32]  # (items,)
    price_level: NDArray[np.int32]  # (items,) 0 = cheap, 2 = dear
    quality: Floats  # (items,) standard deviations from the mean
    popularity: Floats  # (items,) lasting appeal, before freshness and bursts
    arrival_day: NDArray[np.int32]  # (items,) 0 for what was there from the beginning
    age: Floats  # (items,) days for which an item was sold before its arrival day in the log
    links: NDArray[np.int32]  # (items, links) what people look at after an item, strongest first
    # of themes
    category: NDArray[np.int32]  # (themes,)
    theme_vectors: Floats  # (themes, dim) of length 1
    theme_size: Floats  # (themes,) log odds that hold for everybody
    peak: Floats  # (themes,) when in the year the season is highest, as share of a year
    swing: Floats  # (themes,) log odds at the peak; 0 = no season
    # of users
    taste_start: Floats  # (users, dim) at the first day
    taste_end: Floats  # (users, dim) where it turns to
    user_style: NDArray[np.int32]  # (users,)
    user_level: NDArray[np.int32]  # (users,) price level
    rate: Floats  # (users,) sessions per day after the first
    stay: Floats  # (users,) chance that a session goes on after a view
    # of bursts
    burst_item: NDArray[np.int32]  # (bursts,)
    burst_day: NDArray[np.int32]  # (bursts,) the day on which it goes viral

    def day(self, time: NDArray[np.int64]) -> NDArray[np.int64]:
        """Whole days since the first moment, for moments in milliseconds."""
        return (time - self.shop.start) // DAY

    def arrival_times(self) -> NDArray[np.int64]:
        """(items,) the first millisecond at which each item can be met."""
        return self.shop.start + self.arrival_day.astype(np.int64) * DAY

    def affinity(self, user: Indices, day: NDArray[np.integer]) -> Floats:
        """(n, themes) the taste of a user for each theme on a day, in standard deviations over users."""
        angle = (self.shop.drift * day / self.shop.days)[:, None]
        taste = np.cos(angle) * self.taste_start[user] + np.sin(angle) * self.taste_end[user]
        return taste @ self.theme_vectors.T

    def season(self, day: NDArray[np.integer]) -> Floats:
        """(n, themes) log odds that each theme wins or loses by the time of year."""
        year = (self.shop.start / DAY + day[:, None]) / 365.25
        return self.swing * np.cos(2 * np.pi * (year - self.peak))

    def theme_chances(self, affinity: Floats, day: NDArray[np.integer]) -> Floats:
        """(n, themes) the chance of each theme in a personal choice."""
        odds = self.shop.sharpness * affinity + self.theme_size + self.season(day)
        odds = np.exp(odds - odds.max(axis=1, keepdims=True))
        return _normalised(odds)

    def appeal(self, day: NDArray[np.integer], known: NDArray[np.integer]) -> Floats:
        """(n, items) how an item attracts on a day, as far as that can be known on another.

        Args:
            day: (n,) the day in question.
            known: (n,) items that arrive after this day have no appeal, and bursts after it are not foreseen.
        """
        sold = day[:, None] - self.arrival_day + self.age
        appeal = self.popularity * (NEVER_NEW + (1 - NEVER_NEW) * np.exp(-np.maximum(sold, 0) / FRESH_DAYS))
        for item, begin in zip(self.burst_item.tolist(), self.burst_day.tolist(), strict=True):
            running = (day >= begin) & (known >= begin)
            fall = np.exp(-(day[running] - begin) / self.shop.burst_days)
            appeal[running, item] *= 1 + (self.shop.burst_height - 1) * fall
        return np.where(self.arrival_day <= known[:, None], appeal, 0.0)

    def front_chances(self, appeal: Floats, day: NDArray[np.integer]) -> Floats:
        """(n, items) the chance of each item when somebody looks at the storefront."""
        odds = appeal * np.exp(self.theme_size + self.season(day))[:, self.theme]
        return _normalised(odds)

    def chances_within_theme(self, appeal: Floats, fit: Floats) -> Floats:
        """(n, items) the chance of each item once its theme is chosen; each theme sums to 1."""
        odds = appeal * fit
        sums = np.add.reduceat(odds, self.theme_begins(), axis=1)
        chances: Floats = odds / np.repeat(sums, np.bincount(self.theme, minlength=self.shop.themes), axis=1)
        return chances

    def theme_begins(self) -> NDArray[np.int64]:
        """(themes,) where the items of each theme begin."""
        return np.searchsorted(self.theme, np.arange(self.shop.themes)).astype(np.int64)

    def fit(self, style: Indices, level: Indices) -> Floats:
        """(n, items) odds of an item by the style and the price level of a person; the product of both."""
        same = self.style == style[:, None]
        apart = np.abs(self.price_level - level[:, None])
        odds: Floats = np.exp(STYLE_FIT * same - PRICE_MISFIT * apart)
        return odds

    def later_shares(self) -> tuple[float, float, float]:
        """Chances that a later view follows a link, stays in the theme, or looks at the storefront."""
        free = 1 - self.shop.related
        return self.shop.related, free * SAME_THEME, free * FRONT_AGAIN

    def liking(self, affinity: Floats, user: Indices, item: Indices) -> Floats:
        """(n,) how much a person likes an item that they look at, from taste, style, price and quality.

        Args:
            affinity: (n,) of the person to the item's theme.
        """
        same = self.style[item] == self.user_style[user]
        apart = np.abs(self.price_level[item] - self.user_level[user])
        liking: Floats = 0.6 * affinity + 0.8 * self.quality[item] + 0.6 * same - 0.5 * apart
        return liking

    def cart_chance(self, liking: Floats) -> Floats:
        """(n,) the chance that a view is followed by putting the item into the cart."""
        return _sigmoid(0.9 * liking - 2.3)

    def purchase_chance(self, liking: Floats) -> Floats:
        """(n,) the chance that an item in the cart is bought in the same session."""
        return _sigmoid(0.6 * liking - 0.7)


def _normalised(odds: Floats) -> Floats:
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def _sigmoid(odds: Floats) -> Floats:
    return 1 / (1 + np.exp(-odds))
