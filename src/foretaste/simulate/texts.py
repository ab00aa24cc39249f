"""Writes the catalogue of the shop and the reviews of its customers."""

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Catalog, Category, Column, Number, Table, Text, Time
from foretaste.simulate.draw import Goods, People
from foretaste.simulate.truth import Truth
from foretaste.simulate.words import AGE_GROUPS, CATEGORIES, QUALITIES, REGIONS, REVIEWS, STYLES
from foretaste.vocab import Strings, Vocab

__all__ = ["item_vocab", "named", "reviews", "user_vocab", "write_catalog"]

NO_REVIEW = 0


def item_vocab(goods: Goods) -> Vocab:
    """Identifiers such as 'sku-00042', whose numbers say nothing about the items."""
    return Vocab(Strings.from_list(f"sku-{number:05d}" for number in goods.number.tolist()))


def user_vocab(count: int) -> Vocab:
    """Identifiers such as 'u00017'."""
    return Vocab(Strings.from_list(f"u{number:05d}" for number in range(count)))


def write_catalog(truth: Truth, goods: Goods, people: People, first_visit: NDArray[np.int64]) -> Catalog:
    """The tables of items and users.

    Titles and descriptions carry theme, style and quality in words; only the category has a column of its own.

    Args:
        first_visit: (users,) milliseconds.
    """
    category = truth.category[truth.theme].astype(np.int32)
    brands = [brand for each in CATEGORIES for brand in each.brands]
    brand = category * len(CATEGORIES[0].brands) + goods.brand
    titles, descriptions = _item_texts(truth, goods)
    items: dict[str, Column] = {
        "title": Text.from_list(titles),
        "description": Text.from_list(descriptions),
        "category": named(category, [each.name for each in CATEGORIES]),
        "brand": named(brand, brands),
        "price": Number(goods.price),
        "arrived": Time(truth.arrival_times()),
    }
    users: dict[str, Column] = {
        "age_group": named(people.age_group, AGE_GROUPS),
        "region": named(people.region, REGIONS),
        "arrived": Time(first_visit),
    }
    return Catalog(Table(truth.shop.items, items), Table(truth.shop.users, users))


def reviews(stars: NDArray[np.int64], chance: NDArray[np.float64]) -> Text:
    """(n,) a review for each rating, in words that agree with its stars.

    Args:
        stars: (n,) 1 to 5; 0 = no review.
        chance: (n,) a uniform number each, which chooses among the wordings.
    """
    # Every possible review is written once; each customer takes one.
    pool, begins = [""], []
    for openings, middles, ends in REVIEWS:
        begins.append(len(pool))
        pool += [f"{opening} {middle} {end}" for opening in openings for middle in middles for end in ends]
    first = np.array([NO_REVIEW, *begins])
    wordings = np.diff([*begins, len(pool)])
    chosen = first[stars] + (chance * wordings[np.maximum(stars - 1, 0)]).astype(np.int64)
    return Text(Strings.from_list(pool).take(np.where(stars == 0, NO_REVIEW, chosen)))


def named(codes: NDArray[np.integer], names: list[str] | tuple[str, ...]) -> Category:
    """A column of codes into the words of the shop."""
    return Category(codes.astype(np.int32), Strings.from_list(names))


def _item_texts(truth: Truth, goods: Goods) -> tuple[list[str], list[str]]:
    themes = [(category, theme) for category in CATEGORIES for theme in category.themes]
    titles, descriptions = [], []
    codes = zip(
        truth.theme.tolist(),
        truth.style.tolist(),
        goods.brand.tolist(),
        goods.noun.tolist(),
        goods.purpose.tolist(),
        goods.title_word.tolist(),
        goods.quality_words.tolist(),
        strict=True,
    )
    for place, style, brand, noun, purpose, word, (level, sentence) in codes:
        category, theme = themes[place]
        words, manner = STYLES[style]
        titles.append(f"{category.brands[brand]} {words[word]} {theme.nouns[noun].title()}")
        descriptions.append(
            f"{theme.nouns[noun].capitalize()}: {theme.purposes[purpose]}. {manner} {QUALITIES[level][sentence]}"
        )
    return titles, descriptions
