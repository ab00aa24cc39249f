"""Tiny worlds in which one family of models must be right and a simpler one cannot be."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Catalog, Category, Table, Text
from foretaste.dataset import Dataset
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.recommender import Model
from foretaste.vocab import Vocab

DAY = 86_400_000


@dataclass(frozen=True, eq=False)
class World:
    """What was seen, who asks, and the one right answer to each."""

    train: Dataset
    queries: Queries
    answers: NDArray[np.integer]  # (queries,)
    filter_seen: bool = True

    def hit_rate(self, model: Model, k: int = 1) -> float:
        found = model.recommend(self.queries, k, filter_seen=self.filter_seen).items
        return float((found == self.answers[:, None]).any(axis=1).mean())


def log(user, item, *, items: int, time=None) -> Dataset:
    """Events in the order in which they happened, one after another where no time is given; titles are all the same."""
    user, item = np.asarray(user), np.asarray(item)
    time = np.arange(len(user)) if time is None else np.asarray(time)
    users = Vocab(np.arange(user.max() + 1))
    alike = Catalog(Table(items, {"title": Text.from_list(["a thing"] * items)}), Table(len(users)))
    return Dataset.from_arrays(users, Vocab(np.arange(items)), user, item, time=time, catalog=alike)


def checkerboard(size: int = 30) -> World:
    """Even people like even items and odd ones odd items; each is asked for the item of their own number."""
    user, item = np.nonzero((np.add.outer(np.arange(size), np.arange(size)) % 2 == 0) & ~np.eye(size, dtype=bool))
    train = log(user, item, items=size)
    return World(train, Queries.of_users(train), np.arange(size))


def cycle(items: int = 20, users: int = 150, steps: int = 7) -> World:
    """Everybody walks the same ring of items in the same direction, from anywhere."""
    start = np.arange(users) % items
    walk = (start[:, None] + np.arange(steps)) % items
    train = log(np.repeat(np.arange(users), steps), walk.ravel(), items=items)
    asked = [[(end - 2) % items, (end - 1) % items, end] for end in range(items)]
    return World(train, Queries(Ragged.from_lists(asked)), (np.arange(items) + 1) % items)


@dataclass(frozen=True, eq=False)
class Lopsided:
    """Each event is drawn for itself from the same odds, so a history says nothing."""

    train: Dataset
    queries: Queries
    odds: NDArray[np.floating]  # (items,)

    def expected_hits(self, model: Model, k: int) -> float:
        """How likely the next event is among the k offered."""
        found = model.recommend(self.queries, k, filter_seen=False).items
        return float(self.odds[found].sum(axis=1).mean())


def lopsided(items: int = 20, users: int = 500, steps: int = 8) -> Lopsided:
    rng = np.random.default_rng(5)
    odds = 0.75 ** np.arange(items)
    odds = rng.permutation(odds / odds.sum())
    train = log(np.repeat(np.arange(users), steps), rng.choice(items, users * steps, p=odds), items=items)
    asked = rng.choice(items, (100, steps), p=odds)
    return Lopsided(train, Queries(Ragged.from_lists(list(asked))), odds)


@dataclass(frozen=True, eq=False)
class Clubs:
    """Two clubs with items of their own genre; the last of each club's six items was never met."""

    newcomers: World  # one of each club without a history: everybody begins with the first item of their club
    regulars: World  # who met all items of their club but the last


def clubs(users: int = 120, items: int = 6) -> Clubs:
    rng = np.random.default_rng(7)
    club = np.arange(users) % 2
    walks = np.array([[0, *rng.permutation(np.arange(1, items - 1))] for _ in range(users)]) + club[:, None] * items
    train = log(np.repeat(np.arange(users), items - 1), walks.ravel(), items=2 * items)
    genre = Category.from_list(["dance"] * items + ["chess"] * items)
    people = Table(users, {"club": Category.from_list([("dance", "chess")[each] for each in club])})
    train = replace(train, catalog=Catalog(Table(2 * items, {"genre": genre}), people))
    both = Table(2, {"club": Category.from_list(["dance", "chess"])})
    met = [list(range(items - 1)), list(range(items, 2 * items - 1))]
    return Clubs(
        World(train, Queries(Ragged.empty(2), user_features=both), np.array([0, items])),
        World(train, Queries(Ragged.from_lists(met)), np.array([items - 1, 2 * items - 1])),
    )


def fashion(users: int = 100) -> World:
    """For three months everybody met items 0 to 4; in the last week a fifth as many events, all of items 5 to 9."""
    rng = np.random.default_rng(6)
    old, new = users * 10, users * 2
    time = np.concatenate([rng.integers(0, 90 * DAY, old), rng.integers(90 * DAY, 97 * DAY, new)])
    item = np.concatenate([rng.integers(0, 5, old), 5 + np.minimum(rng.geometric(0.5, new) - 1, 4)])
    train = log(rng.integers(0, users, old + new), item, items=10, time=time)
    return World(train, Queries(Ragged.empty(20)), np.full(20, 5), filter_seen=False)


def bridges(chains: int = 10, users: int = 4) -> World:
    """In each chain a, b, c some people met a and b, others b and c, nobody a and c; asked is who met a.

    The first answer is b and the second c, to which only a path over b leads. What most people met stands elsewhere.
    """
    first = 3 * np.arange(chains)
    met = np.repeat(np.concatenate([np.stack([first, first + 1], 1), np.stack([first + 1, first + 2], 1)]), users, 0)
    crowd = 3 * chains + np.tile(np.arange(2), (5 * users, 1))  # two items that everybody else met
    baskets = np.concatenate([met, crowd])
    train = log(np.repeat(np.arange(len(baskets)), 2), baskets.ravel(), items=3 * chains + 2)
    return World(train, Queries(Ragged.from_lists(first[:, None])), first + 2)


# Of each circle its name, and three pairs of twins: what is written of the one, and of the other in other words.
TWINS = {
    "kitchen": (
        ("a book on baking bread", "knead dough, then put it into an oven"),
        ("pasta with sauce for dinner", "cooking spaghetti"),
        ("the best of winter soup", "recipes of hot broths or stews"),
    ),
    "space": (
        ("rockets to the moon", "lunar landing of Apollo astronauts"),
        ("missions on the red planet", "could humans live among Martians"),
        ("black holes and galaxies", "telescopes that watch distant stars"),
    ),
    "garden": (
        ("roses from spring to autumn", "growing flowers outdoors"),
        ("a vegetable patch", "planting tomatoes or beans"),
        ("pruning trees and shrubs", "trimming a hedge of evergreen plants"),
    ),
    "music": (
        ("jazz guitar in ten lessons", "chords of an acoustic string instrument"),
        ("piano sonatas", "keyboard concertos by Mozart"),
        ("songs of a choir", "learn how to sing opera"),
    ),
}


def twins(said: Literal["text", "meaning", "names"], people: int = 15) -> World:
    """Circles of three pairs of twins, of which training met one; who asks knows a whole circle but for one twin.

    Item 2n + 1, never met, is the twin of item 2n: what is known of it stands in the catalogue alone.

    Args:
        said: What a twin shares with the other: the same "text"; or a text of like "meaning" that has no word of three
            letters in common with any of those met; or, without any text, the "names" of what the catalogue says.
        people: Who met the three items of each circle.
    """
    circle, items = np.repeat(np.arange(len(TWINS)), 3), 6 * len(TWINS)
    met = 2 * np.arange(items // 2).reshape(-1, 3)
    rng = np.random.default_rng(8)
    together = rng.permuted(np.tile(met, (people, 1)), axis=1)
    train = log(np.repeat(np.arange(len(together)), 3), together.ravel(), items=items)
    names = list(TWINS)
    columns = {"kind": Category.from_list([names[each] for each in np.repeat(circle, 2)])}
    if said != "names":
        columns = {"title": Text.from_list([text for name in names for text in _written(name, said == "meaning")])}
    train = replace(train, catalog=Catalog(Table(items, columns), Table(len(train.users))))
    answers = 2 * np.arange(items // 2) + 1
    whole = np.arange(items).reshape(-1, 6)[circle]
    others = whole[whole != answers[:, None]].reshape(-1, 5)
    return World(train, Queries(Ragged.from_lists(list(others))), answers)


def _written(circle: str, in_other_words: bool) -> list[str]:
    """What is written of the items of a circle, each followed by its twin; the same has the circle's name in it."""
    if in_other_words:
        return [text for pair in TWINS[circle] for text in pair]
    return [f"{circle}: {one}" for one, _ in TWINS[circle] for _ in range(2)]
