"""Indexes: what they find against all items, what is hidden, and what they leave to the exact search."""

import builtins
from dataclasses import replace

import numpy as np
import pytest

from foretaste.ann import VectorIndex
from foretaste.bundle import load
from foretaste.errors import ConfigError
from foretaste.fitting import train_bundle
from foretaste.models import ALS, MODELS, Popular
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.run import Run
from foretaste.scoring import VectorModel

RUN = Run(seed=3, device="cpu", precision="fp32")
KINDS = pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])


def crowd(count: int = 4000, dim: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@KINDS
def test_an_index_finds_what_a_look_at_all_items_finds(kind):
    vectors, asked, said = crowd(), crowd(200, seed=1), []
    items = np.flatnonzero(np.arange(4000) % 3 > 0)
    log = lambda message, numbers=None: said.append((message, numbers))  # noqa: E731
    index = VectorIndex.of(vectors, items, asked, kind=kind, least_recall=0.97, log=log)
    found, scores = index.search(asked, 10)
    products = asked @ vectors.T
    products[:, np.arange(4000) % 3 == 0] = -np.inf
    best = np.argsort(-products, axis=1)[:, :10]
    hits = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found.tolist(), best.tolist(), strict=True)])
    assert hits >= 0.97
    np.testing.assert_allclose(scores, np.take_along_axis(products, found, 1), rtol=1e-4, atol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    ((message, numbers),) = said
    assert message.startswith("index of 2,666 items: ")
    assert numbers["recall@10"] == pytest.approx(hits, abs=0.005)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_the_effort_grows_until_the_recall_is_as_wanted(kind):
    vectors, asked = crowd(6000, 48), crowd(300, 48, seed=1)
    items = np.arange(6000)
    little = VectorIndex.of(vectors, items, asked, kind=kind, least_recall=0.2)
    much = VectorIndex.of(vectors, items, asked, kind=kind, least_recall=0.995)
    assert much.effort > little.effort


def test_the_kind_follows_the_number_of_items(monkeypatch):
    asked = crowd(5)
    assert VectorIndex.of(crowd(100), np.arange(100), asked).kind == "flat"
    monkeypatch.setattr("foretaste.ann.FLAT_UP_TO", 50)
    assert VectorIndex.of(crowd(100), np.arange(100), asked).kind == "hnsw"
    monkeypatch.setattr("foretaste.ann.HNSW_UP_TO", 90)
    assert VectorIndex.of(crowd(100), np.arange(100), asked).kind == "ivf"


@KINDS
def test_more_than_there_is_gives_all_there_is(kind):
    index = VectorIndex.of(crowd(8), np.array([1, 5, 6]), crowd(2), kind=kind)
    found, scores = index.search(crowd(3, seed=2), 5)
    assert [sorted(row) for row in found[:, :3].tolist()] == [[1, 5, 6]] * 3
    assert (found[:, 3:] == PAD).all() and (scores[:, 3:] == -np.inf).all()


@pytest.fixture(scope="module")
def fitted():
    cache = {}

    def of(name, shop):
        from test_contract import FAST

        if name not in cache:
            cache[name] = FAST[name].fit(shop, run=RUN)
        return cache[name]

    return of


@pytest.mark.parametrize("name", [name for name, settings in MODELS.items() if settings.by_vectors])
def test_every_model_with_vectors_answers_the_same_from_an_index(name, fitted, shop):
    model = fitted(name, shop)
    assert isinstance(model, VectorModel)
    indexed = model.with_index()
    users = Queries.of_users(shop)
    for filter_seen in (True, False):
        ours = indexed.recommend(users, k=6, filter_seen=filter_seen)
        theirs = model.recommend(users, k=6, filter_seen=filter_seen)
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
        assert (ours.source == theirs.source).all()
        assert np.mean(ours.items == theirs.items) > 0.99  # equal scores may change places
    assert indexed.recommend([["sku-1"], []], k=15).lists() == model.recommend([["sku-1"], []], k=15).lists()
    only = {"items": ["sku-2", "sku-5"]}
    assert indexed.recommend([["sku-1"]], **only).lists() == model.recommend([["sku-1"]], **only).lists()


def test_only_models_with_vectors_say_so(fitted, shop):
    for name, settings in MODELS.items():
        assert settings.by_vectors == isinstance(fitted(name, shop), VectorModel)


def test_who_has_met_nearly_all_is_answered_from_all_items(shop, monkeypatch):
    monkeypatch.setattr("foretaste.scoring.MOST_HIDDEN", 2)
    model = ALS(dim=8, epochs=3).fit(shop, run=RUN)
    queries = Queries(Ragged.from_lists([list(range(12)), [3], list(range(14)), []]))
    ours, theirs = model.with_index().recommend(queries, k=4), model.recommend(queries, k=4)
    assert ours.lists() == theirs.lists()
    assert (ours.source == theirs.source).all()


def test_a_bundle_keeps_the_index(shop, tmp_path):
    said = []
    run = replace(RUN, log=lambda message, numbers=None: said.append(message))
    model = train_bundle(ALS(dim=8, epochs=3), shop, tmp_path / "bundle", run, index="hnsw")
    assert any(message.startswith("index of 14 items: hnsw, effort 8, recall@10 1.000") for message in said)
    again = load(tmp_path / "bundle")
    assert (again.index.kind, again.index.effort) == ("hnsw", 8)
    users = shop.users.lists()[:20]
    assert again.recommend(users, k=5).lists() == model.recommend(users, k=5).lists()


def test_a_model_without_vectors_cannot_be_indexed_and_a_lack_of_faiss_is_said(shop, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="popular answers by no vectors, so there is nothing to index"):
        train_bundle(Popular(), shop, tmp_path / "bundle", RUN, index="auto")
    assert not (tmp_path / "bundle").exists()
    real = builtins.__import__

    def without(name, *more, **options):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"An index needs FAISS.*pip install 'foretaste\[ann\]'"):
        VectorIndex.of(crowd(10), np.arange(10), crowd(2))


def test_an_index_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="There is no item to put into an index"):
        VectorIndex.of(crowd(3), np.empty(0, np.int64), crowd(1))
