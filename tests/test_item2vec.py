"""Item2Vec: the pairs that it draws, its loss by hand, what stands together comes together."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import worlds
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foretaste.bundle import load
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError, MissingData
from foretaste.models.item2vec import Item2Vec, Item2VecNet, neighbors_within
from foretaste.pairs import Pairs
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=3, device="cpu", precision="fp32")
ROWS = st.lists(st.lists(st.integers(0, 6), max_size=8), max_size=5)


def pairs_of(rows: list[list[int]], window: int, seed: int = 0) -> Counter:
    anchors, positives = neighbors_within(Ragged.from_lists(rows), window, np.random.default_rng(seed))
    return Counter(zip(anchors.tolist(), positives.tolist(), strict=True))


@given(ROWS, st.integers(1, 4))
def test_pairs_are_of_different_items_of_one_row_within_the_window(rows, window):
    possible = Counter(
        (row[here], row[there])
        for row in rows
        for here in range(len(row))
        for there in range(max(0, here - window), min(len(row), here + window + 1))
        if row[here] != row[there]
    )
    assert pairs_of(rows, window) <= possible


@given(ROWS)
def test_with_a_window_of_one_all_neighbours_are_paired_from_both_sides(rows):
    beside = Counter()
    for row in rows:
        for one, other in pairwise(row):
            if one != other:
                beside.update([(one, other), (other, one)])
    assert pairs_of(rows, 1) == beside


def test_near_items_are_paired_more_often_than_far_ones():
    drawn = sum((pairs_of([[0, 1, 2, 3, 4, 5]], 5, seed) for seed in range(400)), Counter())
    shares = [drawn[(0, far)] / 400 for far in range(1, 6)]
    np.testing.assert_allclose(shares, [1.0, 0.8, 0.6, 0.4, 0.2], atol=0.08)


def test_frequent_items_are_left_out_by_the_chance_of_the_paper_and_rare_ones_never(shop):
    settings = Item2Vec(subsample=0.01, in_order=True)
    histories = Ragged.from_lists([[0] * 90, [1] * 9, [2]])
    kept = [settings.kept(histories, np.random.default_rng(seed)).values for seed in range(300)]
    shares = np.mean([np.bincount(each, minlength=3) for each in kept], axis=0) / [90, 9, 1]
    np.testing.assert_allclose(shares, [np.sqrt(0.01 / 0.9), np.sqrt(0.01 / 0.09), 1.0], atol=0.02)
    whole = Item2Vec(subsample=None, in_order=True).kept(histories, np.random.default_rng(0))
    assert whole.values.tolist() == histories.values.tolist()


def test_without_order_rows_are_shuffled_within_themselves():
    histories = Ragged.from_lists([list(range(10)), [20, 21]])
    kept = [Item2Vec(subsample=None).kept(histories, np.random.default_rng(seed)) for seed in range(2)]
    assert all(sorted(each[0].tolist()) == list(range(10)) for each in kept)
    assert kept[0][0].tolist() != kept[1][0].tolist()
    assert set(kept[0][1].tolist()) == {20, 21}


def test_the_loss_is_that_of_skip_grams_with_negatives(shop):
    torch.manual_seed(0)
    net = Item2VecNet(Item2Vec(dim=4, negatives=3), About.of(shop))
    torch.nn.init.normal_(net.contexts)
    batch = Pairs(torch.tensor([1, 4]), torch.tensor([2, 0]))
    torch.manual_seed(7)
    found = net.losses(batch)["skip-gram"]
    torch.manual_seed(7)
    negatives = Negatives(About.of(shop).popularity, 0.75).draw((2, 3), torch.device("cpu"))
    by_hand = 0.0
    for anchor, positive, others in zip(batch.anchor, batch.positive, negatives, strict=True):
        by_hand -= torch.log(torch.sigmoid(net.items[anchor] @ net.contexts[positive]))
        by_hand -= torch.log(torch.sigmoid(-net.contexts[others] @ net.items[anchor])).sum()
    torch.testing.assert_close(found, by_hand / 2)


def test_a_query_is_the_mean_of_the_unit_vectors_of_its_history(shop):
    model = Item2Vec(dim=8, plan=TrainPlan(epochs=1)).fit(shop, run=RUN)
    vectors = model.item_vectors()
    np.testing.assert_allclose(np.linalg.norm(vectors[:14], axis=1), 1, rtol=1e-5)
    found = model.query_vectors(Queries(Ragged.from_lists([[1, 2, 2], [], [14], [3]])))
    np.testing.assert_allclose(found[0], (vectors[1] + 2 * vectors[2]) / 3, rtol=1e-5)
    assert np.isnan(found[1:3]).all()
    np.testing.assert_allclose(found[3], vectors[3], rtol=1e-5)
    latest = replace_settings(model, recent=2, in_order=True)
    np.testing.assert_allclose(latest.query_vectors(Queries(Ragged.from_lists([[1, 2, 3]])))[0], vectors[2:4].mean(0))


def test_by_contexts_items_are_scored_by_what_is_learned_and_are_alike_by_cosines_all_the_same(shop, tmp_path):
    settings = Item2Vec(dim=8, similarity="context", plan=TrainPlan(epochs=3))
    model, cosines = (
        each.fit(shop, run=RUN) for each in (settings, settings.model_copy(update={"similarity": "cosine"}))
    )
    reads, scored = model.likeness_vectors(), model.item_vectors()
    np.testing.assert_allclose(reads / np.linalg.norm(reads, axis=1)[:, None], cosines.item_vectors(), atol=1e-6)
    query = Queries(Ragged.from_lists([[1, 2, 2]]))
    top = model.recommend(query, k=3)
    expected = scored @ ((reads[1] + 2 * reads[2]) / 3)
    np.testing.assert_allclose(top.scores[0], expected[top.items[0]], rtol=1e-5)
    np.testing.assert_array_equal(
        model.similar_items(["sku-1"], k=5).items, cosines.similar_items(["sku-1"], k=5).items
    )
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(load(tmp_path / "bundle").recommend(query, k=3).items, top.items)


def test_contexts_know_what_is_popular_and_cosines_do_not():
    """The items of a pair are always met together, so as neighbours they are alike; half of the pairs are rare."""
    rng = np.random.default_rng(5)
    pairs = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 60, 70, 80, 90, 100])
    user = np.repeat(np.arange(len(pairs)), 2)
    log = Dataset.from_arrays(
        Vocab(np.arange(len(pairs))), Vocab(np.arange(20)), user, (2 * pairs[:, None] + [0, 1]).ravel()
    )
    rare = Queries(Ragged.from_lists([[rng.integers(0, 10)] for _ in range(20)]))
    shares = {}
    for similarity in ("cosine", "context"):
        settings = Item2Vec(
            dim=16, similarity=similarity, negatives_alpha=0, subsample=None, plan=TrainPlan(epochs=40, lr=0.02)
        )
        rest = settings.fit(log, run=RUN).recommend(rare, k=5).items[:, 1:]  # behind the partner
        shares[similarity] = (rest >= 10).mean()
    assert shares["context"] > 0.95 > shares["cosine"]


def replace_settings(model, **changes):
    return model.settings.model_copy(update=changes).restore(model.about, model.state())


def test_items_of_one_club_come_together():
    """Nobody is in both clubs, so all that is alike is in one."""
    train = worlds.clubs().regulars.train
    model = Item2Vec(dim=8, plan=TrainPlan(epochs=60, lr=0.02), subsample=None).fit(train, run=RUN)
    found = model.similar_items([0, 6], k=4).lists()
    assert [set(each) for each in found] == [{1, 2, 3, 4}, {7, 8, 9, 10}]


def test_in_order_neighbours_on_the_ring_are_alike_and_those_across_are_not():
    ring = worlds.cycle()
    settings = Item2Vec(dim=16, window=2, in_order=True, subsample=None, plan=TrainPlan(epochs=30, lr=0.02))
    found = settings.fit(ring.train, run=RUN).similar_items(list(range(20)), k=4).items
    near = np.abs((found - np.arange(20)[:, None] + 10) % 20 - 10)
    assert (near <= 3).mean() > 0.9


def test_pairs_keep_within_sessions_where_that_is_asked(shop):
    alone = replace(shop, session=np.arange(len(shop)))
    with pytest.raises(DataError, match="shop has no session with two different items, so Item2Vec has none to pair"):
        Item2Vec(sessions=True).fit(alone, run=RUN)
    assert Item2Vec(dim=8, sessions=True, plan=TrainPlan(epochs=1)).fit(shop, run=RUN).item_vectors().shape == (15, 8)


@pytest.mark.parametrize(("option", "lacking"), [("in_order", Needs.ORDER), ("sessions", Needs.SESSIONS)])
def test_what_an_option_reads_must_be_there(shop, option, lacking):
    assert lacking in Item2Vec(**{option: True}).required
    with pytest.raises(MissingData):
        Item2Vec(**{option: True}).fit(shop.only(Needs.NOTHING), run=RUN)


def test_the_latest_events_need_an_order():
    with pytest.raises(ValidationError, match="recent takes the latest events, so it needs in_order"):
        Item2Vec(recent=3)


def test_an_epoch_of_which_nothing_would_be_left_takes_all(shop):
    settings = Item2Vec(dim=8, subsample=1e-9, plan=TrainPlan(epochs=2))
    model = settings.fit(shop, run=RUN)
    assert model.training["curve"][0]["loss"] > 1
    assert (model.recommend([["sku-1"]], k=3).items != PAD).all()
