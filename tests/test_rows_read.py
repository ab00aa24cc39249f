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
from foretaste.models.sberttwotower import SBERTTwoTowerModel, SBERTTwoTowerNet
from foretaste.models.t5hybrid import T5HybridModel, T5HybridNet
from foretaste.models.twotower import TwoTowerModel, TwoTowerNet
from foretaste.nets.rows import rows_taken
from foretaste.nets.sage import MeetingGraph
from foretaste.pairs import PairBatches
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.side_inputs import UserColumns
from foretaste.t5_encoder import T5Encoder

ITEMS, USERS, PAIRS = 3000, 40, 16
SMALL = {"dim": 8, "negatives": 8, "item_features": True}
NOBODY = UserColumns({})
RUN = Run(seed=1, device="cpu", precision="fp32")


def unread(*parts) -> T5HybridModel:
    return T5HybridModel(*parts, T5Encoder("./none"))  # nothing new is read


def shelves() -> Dataset:
    """A large catalogue with two names for each item, of which each person met five."""
    rng = np.random.default_rng(0)
    train = worlds.log(np.repeat(np.arange(USERS), 5), rng.integers(0, ITEMS, 5 * USERS), items=ITEMS)
    train = replace(train, item=(train.item % 300) * 10)  # so that each name is that of several items met
    shelf = Categories.from_lists([[f"s{item // 10 % 7}", f"c{item // 10 % 5}"] for item in range(ITEMS)])
    table = Table(ITEMS, {"title": Text.from_list([f"book {item}" for item in range(ITEMS)]), "shelf": shelf})
    return replace(train, catalog=Catalog(table, Table(USERS)))


TOWERS = {
    "twotower": (TwoTower(**SMALL), TwoTowerNet, TwoTowerModel, ()),
    "sberttwotower": (SBERTTwoTower(**SMALL), SBERTTwoTowerNet, SBERTTwoTowerModel, (np.ones((ITEMS, 4)),)),
    "t5hybrid": (T5Hybrid(**SMALL), T5HybridNet, unread, (np.ones((ITEMS, 4, 4)),)),
}


def towers(name: str, train: Dataset) -> TwoTowerModel:
    """Of a name, with the weights of the start and texts that are all the same."""
    settings, net, model, texts = TOWERS[name]
    about = About.of(train)
    torch.manual_seed(0)
    made = net(settings, about, USERS, NOBODY, np.bincount(train.item), *texts)
    for each in made.parameters():
        nn.init.normal_(each)
    return model(settings, about, made.eval(), RUN, NOBODY, train.users)


def step(name: str, train: Dataset) -> Callable:
    """What takes a step."""
    if name == "graphsage":
        return graph(train)
    settings, net = TOWERS[name][0], towers(name, train).net.train()
    codes, rng = np.empty((USERS, 0), np.int64), np.random.default_rng(0)
    batch = HistoryPairBatches(settings, train, settings._pairs(train), codes, PAIRS, None, rng)[0]
    return lambda: net.losses(batch)


def graph(train: Dataset) -> Callable:
    met = train.matrix(binary=True)
    settings = GraphSAGE(**SMALL, fanouts=(2, 2))
    made = GraphSAGENet(settings, About.of(train), NOBODY, MeetingGraph(met), np.empty((USERS, 0), np.int64))
    batch = PairBatches(*met.nonzero(), PAIRS, np.random.default_rng(0))[0]
    return lambda: made.losses(batch)


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """How many codes of a catalogue were looked up, time after time."""
    counts, bag = [], nn.functional.embedding_bag

    def counted(codes, *more, **options):
        counts.append(len(codes))
        return bag(codes, *more, **options)

    monkeypatch.setattr(nn.functional, "embedding_bag", counted)
    return counts


def test_rows_taken_are_those_of_ragged():
    rows = Ragged.from_lists([[3, 1], [], [4], [5, 9, 2]])
    found = rows_taken(*map(torch.from_numpy, (rows.values, rows.offsets)), torch.tensor([3, 1, 0, 3]))
    assert Ragged(*(each.numpy() for each in found)).lists() == [[5, 9, 2], [], [3, 1], [5, 9, 2]]
    nothing = rows_taken(*map(torch.from_numpy, (rows.values, rows.offsets)), torch.empty(0, dtype=torch.long))
    assert [each.tolist() for each in nothing] == [[], [0]]


@pytest.mark.parametrize("name", [*TOWERS, "graphsage"])
def test_a_step_looks_up_what_is_said_of_the_items_of_its_batch_alone(name, read):
    losses = step(name, shelves())()
    assert all(torch.isfinite(each) for each in losses.values())
    assert 0 < max(read) < 2 * ITEMS / 4  # of two names each


@pytest.mark.parametrize("name", TOWERS)
def test_a_query_puts_the_items_of_its_history_through_and_no_others(name, read):
    model = towers(name, shelves())
    few = Queries(Ragged.from_lists([[5, 10, 10], [], [20, 5]]))
    alone = model.query_vectors(few)
    assert max(read) == 2 * 3  # items, of two names each
    many = Queries(Ragged.from_lists([[5, 10, 10], [], [20, 5], *([each] for each in range(0, ITEMS, 3))]))
    np.testing.assert_allclose(alone, model.query_vectors(many)[:3], rtol=1e-5, atol=1e-6)
    assert np.isnan(alone[1]).all() and not np.isnan(alone[[0, 2]]).any()


@pytest.mark.parametrize("name", TOWERS)
def test_the_vectors_of_all_items_are_worked_out_once_for_all_queries(name, read):
    model = towers(name, shelves())
    first = model.recommend([[5, 10]], 5)
    read.clear()
    assert model.recommend([[5, 10]], 5).lists() == first.lists()
    assert max(read) == 2 * 2
    with torch.no_grad():
        model.net.items.weight.neg_()
    model.calibrate()  # the weights have changed
    assert not np.allclose(model.recommend([[5, 10]], 5).scores, first.scores)
