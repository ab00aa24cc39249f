"""A number beside an item's vector that says how likely it is for anybody."""

import numpy as np
import pytest
import torch

from foretaste.bundle import load
from foretaste.catalog import Catalog, Category, Table, Text
from foretaste.dataset import Dataset
from foretaste.models import GraphSAGE, SBERTTwoTower, T5Hybrid, TwoTower
from foretaste.nets.tasks import Tasks
from foretaste.nets.towers import ItemBias, with_one
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=3, device="cpu", precision="fp32")
ITEMS, NEW_HIT, NEW_FLOP = 22, 20, 21  # the last two were never met
PLAN = TrainPlan(epochs=30, lr=0.02)
FLAT = 2.0  # a temperature by which cosines alone make nothing ten times as likely as something else
MODELS = {
    "twotower": TwoTower(dim=8, item_features=True, item_bias=True, temperature=FLAT, batch_size=128, plan=PLAN),
    "graphsage": GraphSAGE(dim=8, item_features=True, item_bias=True, temperature=FLAT, batch_size=128, plan=PLAN),
    "sberttwotower": SBERTTwoTower(dim=8, item_bias=True, temperature=FLAT, batch_size=128, plan=PLAN),
    "t5hybrid": T5Hybrid(
        dim=8, item_bias=True, temperature=FLAT, pretrain=True, pretrain_epochs=1, batch_size=128, plan=PLAN
    ),
}
every = pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def shelf() -> Dataset:
    """Of the items with an even number, and a label that says so, there are ten times as many events."""
    rng = np.random.default_rng(0)
    odds = np.where(np.arange(NEW_HIT) % 2 == 0, 10.0, 1.0)
    item = np.concatenate([rng.choice(NEW_HIT, 5, replace=False, p=odds / odds.sum()) for _ in range(200)])
    labels = ["hit" if number % 2 == 0 else "flop" for number in range(ITEMS)]
    table = Table(ITEMS, {"label": Category.from_list(labels), "text": Text.from_list(f"a {each}" for each in labels)})
    users = Vocab(np.arange(200))
    return Dataset.from_arrays(
        users, Vocab(np.arange(ITEMS)), np.repeat(np.arange(200), 5), item, catalog=Catalog(table, Table(200))
    )


@every
def test_what_is_met_more_is_likelier_for_anybody_and_so_is_what_is_described_like_it(settings, shelf, tmp_path):
    model = settings.fit(shelf, run=RUN)
    vectors = model.item_vectors()
    assert vectors.shape == (ITEMS, 9)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :8], axis=1), 1, atol=1e-3)
    bias = vectors[:, 8]
    met = np.arange(NEW_HIT)
    assert bias[met[::2]].min() > bias[met[1::2]].max()
    assert bias[NEW_HIT] > bias[NEW_FLOP]
    queries = Queries(Ragged.from_lists([[0, 2], [1], []]))
    people = model.query_vectors(queries)
    assert (people[:2, 8] == 1).all() and np.isnan(people[2]).any()
    np.testing.assert_allclose(model.score(queries)[:2], people[:2] @ vectors.T, rtol=1e-5)
    alike = model.similar_items([0], k=ITEMS - 1)
    for other, score in zip(alike.lists()[0], alike.scores[0], strict=True):
        assert score == pytest.approx(vectors[0, :8] @ vectors[other, :8], abs=1e-3), "likeness knows no popularity"
    model.save(tmp_path / "bundle")
    kept = load(tmp_path / "bundle")
    np.testing.assert_array_equal(kept.item_vectors(), vectors)
    assert kept.recommend(queries, 3).lists() == model.recommend(queries, 3).lists()


@every
def test_an_index_finds_what_all_items_would(settings, shelf):
    model = settings.for_epochs(2).fit(shelf, run=RUN)
    queries = Queries(Ragged.from_lists([[0, 2], [1], [5, 6]]))
    assert model.with_index("flat").recommend(queries, 5).lists() == model.recommend(queries, 5).lists()


@pytest.mark.parametrize("name", ["sberttwotower", "t5hybrid"])
def test_reasons_tell_cosines_and_a_text_has_a_bias(name, shelf):
    model = MODELS[name].for_epochs(2).fit(shelf, run=RUN)
    queries = Queries(Ragged.from_lists([[0, 2]]))
    cosine = model.query_vectors(queries)[:, :8] @ model.item_vectors()[[3], :8].T
    np.testing.assert_allclose(model.reasons(queries, [3]).similarities, cosine, atol=1e-6)
    assert model.score_texts(queries, ["a hit"]).shape == (1, 1)


def test_tasks_read_the_vector_without_the_bias(shelf):
    tasks = Tasks(category=0.5, content=0.5)
    model = MODELS["twotower"].model_copy(update={"tasks": tasks}).for_epochs(2).fit(shelf, run=RUN)
    assert set(model.item_categories([0])[0]) == {"label: hit", "label: flop"}


def test_the_bias_is_nothing_at_first_and_is_not_divided_by_the_temperature():
    bias = ItemBias(4, 0.1)
    vectors, people = torch.randn(3, 4), torch.randn(2, 4)
    assert torch.equal(bias(vectors, vectors), torch.cat([vectors, torch.zeros(3, 1)], 1))
    torch.nn.init.ones_(bias.layer.weight)
    logits = with_one(people) @ bias(vectors, vectors).T / 0.1
    torch.testing.assert_close(logits, people @ vectors.T / 0.1 + vectors.sum(1))
