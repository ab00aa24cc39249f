"""Draws the truth of a shop: its items, its people, its seasons and bursts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.run import Run
from foretaste.simulate.shop import EVENTS_PER_VIEW, Shop
from foretaste.simulate.truth import LINK_CHANCES, PRICE_LEVELS, Truth
from foretaste.simulate.words import AGE_GROUPS, CATEGORIES, DEVICES, QUALITIES, REGIONS, STYLES

__all__ = ["Goods", "People", "draw_shop"]

TASTE_DIM = 5
CATEGORY_WEIGHT = 1.6  # of what the themes of a category have in common, beside 1 for what is their own
POPULARITY_SPREAD = 0.9  # standard deviation of the logarithm of an item's lasting appeal
ACTIVITY_SPREAD = 1.0  # standard deviation of the logarithm of a user's sessions per day
OLDEST = 200.0  # days for which an item may have been sold before the log begins
QUIET_END = 3  # days at the end in which nothing and nobody new arrives
LINKS_TO_NEXT_THEME = 0.6  # the others stay in the item's own theme


@dataclass(frozen=True, eq=False)
class Goods:
    """What the catalogue says of the items, as codes into the words of the shop."""

    noun: NDArray[np.int64]  # (items,) of its theme
    purpose: NDArray[np.int64]  # (items,) of its theme
    title_word: NDArray[np.int64]  # (items,) of its style
    quality_words: NDArray[np.int64]  # (items, 2) level and sentence
    brand: NDArray[np.int64]  # (items,) of its category
    price: NDArray[np.float64]  # (items,) in euros
    number: NDArray[np.int64]  # (items,) the number in the item's identifier, in no order


@dataclass(frozen=True, eq=False)
class People:
    """What the user table says, as codes into the words of the shop; and when each person comes first."""

    age_group: NDArray[np.int64]  # (users,)
    region: NDArray[np.int64]  # (users,)
    device: NDArray[np.int64]  # (users,) the usual one
    arrival_day: NDArray[np.int64]  # (users,) of the first session


def draw_shop(shop: Shop) -> tuple[Truth, Goods, People]:
    """What is true of the shop, and what its tables say of its items and people."""
    run = Run(seed=shop.seed)
    rng = run.rng("simulate", "themes")
    category = np.repeat(np.arange(shop.categories, dtype=np.int32), shop.themes // shop.categories)
    vectors = CATEGORY_WEIGHT * rng.normal(size=(shop.categories, TASTE_DIM))[category] + rng.normal(
        size=(shop.themes, TASTE_DIM)
    )
    # Every other category has a season, so that both kinds are there even in a shop of two.
    swing = np.where(np.arange(shop.categories) % 2 == 0, shop.season, 0.0)[category]
    peak = rng.random(shop.categories)[category]
    items, goods = _draw_items(shop, category, run)
    users, people = _draw_users(shop, run)
    truth = Truth(
        shop=shop,
        category=category,
        theme_vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        theme_size=rng.normal(0, 0.4, shop.themes),
        peak=peak,
        swing=swing,
        **items,
        **users,
        **_draw_bursts(shop, items["arrival_day"], run),
    )
    return truth, goods, people


def _draw_items(shop: Shop, category: NDArray[np.int32], run: Run) -> tuple[dict[str, Any], Goods]:
    rng = run.rng("simulate", "items")
    count = shop.items
    shares = rng.dirichlet(np.full(shop.themes, 6.0))
    extra = rng.choice(shop.themes, count - 2 * shop.themes, p=shares)
    theme = np.sort(np.concatenate([np.repeat(np.arange(shop.themes), 2), extra])).astype(np.int32)
    begins = np.searchsorted(theme, np.arange(shop.themes))
    late = rng.random(count) < shop.late_items
    late[begins] = False  # a theme is never empty
    arrival = np.where(late, rng.integers(1, max(shop.days - QUIET_END, 2), count), 0).astype(np.int32)
    brand = rng.integers(0, len(CATEGORIES[0].brands), count)
    # A brand leans towards a price level and a quality: the last of each category is the finest.
    level = np.clip(np.rint(brand * 2 / 3 + rng.normal(0, 0.6, count)), 0, PRICE_LEVELS - 1).astype(np.int32)
    quality = rng.normal(0, 0.8, count) + 0.4 * (brand - 1.5)
    popularity = np.exp(rng.normal(0, POPULARITY_SPREAD, count))
    typical = np.array([each.price for each in CATEGORIES])[category[theme]]
    style = rng.integers(0, len(STYLES), count).astype(np.int32)
    items = {
        "theme": theme,
        "style": style,
        "price_level": level,
        "quality": quality,
        "popularity": popularity,
        "arrival_day": arrival,
        "age": np.where(late, 0.0, rng.random(count) * OLDEST),
        "links": _draw_links(theme, begins, popularity, rng),
    }
    goods = Goods(
        noun=rng.integers(0, len(CATEGORIES[0].themes[0].nouns), count),
        purpose=rng.integers(0, len(CATEGORIES[0].themes[0].purposes), count),
        title_word=rng.integers(0, len(STYLES[0][0]), count),
        quality_words=np.stack([np.digitize(quality, [-0.5, 0.5]), rng.integers(0, len(QUALITIES[0]), count)], axis=1),
        brand=brand,
        price=np.round(typical * np.exp(0.6 * (level - 1) + rng.normal(0, 0.15, count)), 2),
        number=rng.permutation(count),
    )
    return items, goods


def _draw_links(
    theme: NDArray[np.int32], begins: NDArray[np.int64], popularity: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int32]:
    """(items, links) items of the same theme, or of the next: tents lead to sleeping bags, those to stoves."""
    themes = len(begins)
    shape = (len(theme), len(LINK_CHANCES))
    onwards = rng.random(shape) < LINKS_TO_NEXT_THEME
    target = (theme[:, None] + onwards) % themes
    ends = np.append(begins[1:], len(theme))
    # Popular items are linked more often, but less than in proportion, or all roads would lead to a few.
    cumulative = np.concatenate([[0.0], np.cumsum(np.sqrt(popularity))])
    low, high = cumulative[begins][target], cumulative[ends][target]
    found = np.searchsorted(cumulative, low + rng.random(shape) * (high - low), side="right") - 1
    found = np.clip(found, begins[target], ends[target] - 1)
    itself = found == np.arange(len(theme))[:, None]
    beside = np.where(found + 1 < ends[target], found + 1, begins[target])
    return np.where(itself, beside, found).astype(np.int32)


def _draw_users(shop: Shop, run: Run) -> tuple[dict[str, Any], People]:
    rng = run.rng("simulate", "users")
    count = shop.users
    age_group = rng.choice(len(AGE_GROUPS), count, p=[0.18, 0.27, 0.23, 0.2, 0.12])
    group_taste = rng.normal(size=(len(AGE_GROUPS), TASTE_DIM))
    late = rng.random(count) < shop.late_users
    arrival = np.where(late, rng.integers(0, shop.days - QUIET_END, count), rng.integers(0, QUIET_END, count))
    stay = np.clip(rng.normal(shop.stay, 0.06, count), 0.0, 0.95) if shop.stay else np.zeros(count)
    activity = np.exp(rng.normal(0, ACTIVITY_SPREAD, count))
    active_days = shop.days - arrival
    views = 1 / (1 - stay)
    wanted = max(shop.events / EVENTS_PER_VIEW - views.sum(), 0.0)
    users = {
        # Three tenths of the variance of a taste are those of the age group.
        "taste_start": np.sqrt(0.3) * group_taste[age_group] + np.sqrt(0.7) * rng.normal(size=(count, TASTE_DIM)),
        "taste_end": np.sqrt(0.3) * group_taste[age_group] + np.sqrt(0.7) * rng.normal(size=(count, TASTE_DIM)),
        "user_style": rng.integers(0, len(STYLES), count).astype(np.int32),
        "user_level": np.clip(np.rint(0.4 * age_group + rng.normal(0.2, 0.6, count)), 0, PRICE_LEVELS - 1).astype(
            np.int32
        ),
        "rate": activity * wanted / (activity * active_days * views).sum(),
        "stay": stay,
    }
    people = People(
        age_group=age_group,
        region=rng.integers(0, len(REGIONS), count),
        device=rng.choice(len(DEVICES), count, p=[0.35, 0.55, 0.1]),
        arrival_day=arrival,
    )
    return users, people


def _draw_bursts(shop: Shop, arrival: NDArray[np.int32], run: Run) -> dict[str, Any]:
    rng = run.rng("simulate", "bursts")
    item = rng.integers(0, shop.items, shop.bursts)
    wait = rng.random(shop.bursts) * (shop.days - arrival[item])
    return {"burst_item": item.astype(np.int32), "burst_day": (arrival[item] + wait.astype(np.int64)).astype(np.int32)}
