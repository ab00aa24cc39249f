"""How much of a catalogue a step and a query look at: what the batch holds, and the histories asked."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds
from torch import nn

from foretaste.catalog import Catalog, Categories, Table, Text
from foretaste.dataset import Dataset
from foretaste.history_pairs import HistoryPairBatches
from foretaste.models import GraphSAGE, SBERTTwoTower, T5Hybrid, TwoTower
from foretaste.models.graphsage import GraphSAGENet
from foretaste.models.sberttwotower import SBERTTwoTowerNet
from foretaste.models.t5hybrid import T5HybridNet
from foretaste.models.twotower import TwoTowerNet
from foretaste.nets.rows import rows_taken
from foretaste.nets.sage import MeetingGraph
from foretaste.pairs import PairBatches
from foretaste.ragged import Ragged
from foretaste.recommender import About
from foretaste.side_inputs import UserColumns

ITEMS, USERS, PAIRS = 3000, 40, 16
SMALL = {"dim": 8, "negatives": 8, "item_features": True}
NOBODY = UserColumns({})


def shelves() -> Dataset:
    """A large catalogue with two names for each item, of which each person met five."""
    rng = np.random.default_rng(0)
    train = worlds.log(np.repeat(np.arange(USERS), 5), rng.integers(0, ITEMS, 5 * USERS), items=ITEMS)
    train = replace(train, item=(train.item % 300) * 10)  # so that each name is that of several items met
    shelf = Categories.from_lists([[f"s{item // 10 % 7}", f"c{item // 10 % 5}"] for item in range(ITEMS)])
    table = Table(ITEMS, {"title": Text.from_list([f"book {item}" for item in range(ITEMS)]), "shelf": shelf})
    return replace(train, catalog=Catalog(table, Table(USERS)))


def towers(settings: TwoTower, net: type[TwoTowerNet], *texts: np.ndarray) -> Callable[[Dataset], Callable]:
    """From a log to a function that takes a step."""

    def step_of(train: Dataset) -> Callable:
        about, counts = About.of(train), np.bincount(train.item)
        made = net(settings, about, USERS, NOBODY, counts, *texts)
        codes, rng = np.empty((USERS, 0), np.int64), np.random.default_rng(0)
        batch = HistoryPairBatches(settings, train, settings._pairs(train), codes, PAIRS, None, rng)[0]
        return lambda: made.losses(batch)

    return step_of


def graph(train: Dataset) -> Callable:
    met = train.matrix(binary=True)
    settings = GraphSAGE(**SMALL, fanouts=(2, 2))
    made = GraphSAGENet(settings, About.of(train), NOBODY, MeetingGraph(met), np.empty((USERS, 0), np.int64))
    batch = PairBatches(*met.nonzero(), PAIRS, np.random.default_rng(0))[0]
    return lambda: made.losses(batch)


STEPS = {
    "twotower": towers(TwoTower(**SMALL), TwoTowerNet),
    "sberttwotower": towers(SBERTTwoTower(**SMALL), SBERTTwoTowerNet, np.ones((ITEMS, 4))),
    "t5hybrid": towers(T5Hybrid(**SMALL), T5HybridNet, np.ones((ITEMS, 4, 4))),
    "graphsage": graph,
}


def test_rows_taken_are_those_of_ragged():
    rows = Ragged.from_lists([[3, 1], [], [4], [5, 9, 2]])
    found = rows_taken(*map(torch.from_numpy, (rows.values, rows.offsets)), torch.tensor([3, 1, 0, 3]))
    assert Ragged(*(each.numpy() for each in found)).lists() == [[5, 9, 2], [], [3, 1], [5, 9, 2]]
    nothing = rows_taken(*map(torch.from_numpy, (rows.values, rows.offsets)), torch.empty(0, dtype=torch.long))
    assert [each.tolist() for each in nothing] == [[], [0]]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_looks_up_what_is_said_of_the_items_of_its_batch_alone(name, monkeypatch):
    step, read, bag = STEPS[name](shelves()), [], nn.functional.embedding_bag

    def counted(codes, *more, **options):
        read.append(len(codes))
        return bag(codes, *more, **options)

    monkeypatch.setattr(nn.functional, "embedding_bag", counted)
    assert all(torch.isfinite(each) for each in step().values())
    assert 0 < max(read) < 2 * ITEMS / 4  # of two names each
