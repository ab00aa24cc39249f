"""Two towers: what a batch holds, the loss by hand, people known by features or by name, hard negatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds

from foretaste.catalog import Category, Table
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError, MissingData
from foretaste.history_pairs import HistoryPairBatches
from foretaste.models.twotower import TwoTower, TwoTowerNet
from foretaste.nets.towers import FeatureEmbedding, Tower, distinct, mean_of_rows, unit
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.side_inputs import UserColumns
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=3, device="cpu", precision="fp32")
FAST = TwoTower(dim=8, batch_size=64, plan=TrainPlan(epochs=2, lr=0.01))


def with_(**changes) -> TwoTower:
    return FAST.model_copy(update=changes)


def batches_of(train, settings, *, hard=None, seed=0, size=16) -> HistoryPairBatches:
    codes = np.full((len(train.users), 0), PAD)
    return HistoryPairBatches(settings, train, settings._pairs(train), codes, size, hard, np.random.default_rng(seed))


def rows_of(batch) -> list[list[int]]:
    return Ragged(batch.history.numpy(), batch.offsets.numpy()).lists()


def test_each_user_and_item_is_learned_from_once_and_left_out_of_the_history(shop):
    met = {(user, item) for user, item in zip(shop.user.tolist(), shop.item.tolist(), strict=True)}
    pairs = []
    for batch in batches_of(shop, with_(length=1000)):
        for user, positive, history in zip(batch.user.tolist(), batch.positive.tolist(), rows_of(batch), strict=True):
            pairs.append((user, positive))
            expected = sorted(item for item in shop.item[shop.user == user].tolist() if item != positive)
            assert sorted(history) == expected
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == met


def test_in_order_a_history_is_what_came_before_and_not_the_item_itself(shop):
    settings, seen = with_(in_order=True, length=3), 0
    for batch in batches_of(shop, settings):
        for user, positive, history in zip(batch.user.tolist(), batch.positive.tolist(), rows_of(batch), strict=True):
            own = shop.item[shop.user == user].tolist()
            before = [own[max(0, place - 4) : place] for place in range(1, len(own)) if own[place] == positive]
            assert history in [[item for item in each if item != positive][-3:] for each in before]
            seen += 1
    assert seen == len(shop) - 60


def test_of_a_long_history_any_events_are_read(shop):
    users: dict[int, set[int]] = {}
    for seed in range(8):
        for batch in batches_of(shop, with_(length=2), seed=seed):
            for user, history in zip(batch.user.tolist(), rows_of(batch), strict=True):
                assert len(history) <= 2
                users.setdefault(user, set()).update(history)
    longest = int(np.bincount(shop.user).argmax())
    assert users[longest] == set(shop.item[shop.user == longest].tolist())


def test_a_tower_begins_as_what_goes_in_and_learns_beside_it():
    torch.manual_seed(0)
    tower, vectors, beside = Tower(4, 3, (8, 5), 0.0), torch.randn(6, 4), torch.randn(6, 3)
    assert torch.equal(tower(vectors, beside), vectors)
    assert [layer.out_features for layer in tower.layers if hasattr(layer, "out_features")] == [8, 5, 4]
    tower(vectors, beside).square().sum().backward()
    assert float(tower.layers[-1].weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("rows", [[[0, 1, 1], [], [2, 0]], [[], []]])
def test_the_gradient_of_a_mean_of_rows_is_that_of_torch(rows):
    vectors = torch.randn(4, 3, requires_grad=True)  # the last is in no row
    items = torch.tensor([item for row in rows for item in row], dtype=torch.long)
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    wanted = torch.nn.functional.embedding_bag(items, vectors, offsets, mode="mean", include_last_offset=True)
    weights = torch.randn_like(wanted)
    (of_torch,) = torch.autograd.grad((wanted * weights).sum(), vectors)
    (ours,) = torch.autograd.grad((mean_of_rows(vectors, items, offsets) * weights).sum(), vectors)
    torch.testing.assert_close(ours, of_torch)


def test_distinct_items_are_those_that_sorting_finds():
    items = torch.tensor([5, 0, 5, 3, 0])
    for ours, sorted_out in zip(distinct(items, 9), torch.unique(items, return_inverse=True), strict=True):
        assert ours.tolist() == sorted_out.tolist()


def test_the_mean_of_an_empty_row_is_zero_and_a_missing_feature_has_a_vector():
    vectors = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    found = mean_of_rows(vectors, torch.tensor([0, 1, 1]), torch.tensor([0, 2, 2, 3]))
    assert found.tolist() == [[2.0, 4.0], [0.0, 0.0], [3.0, 6.0]]
    features = FeatureEmbedding([2, 3], 4)
    table = features.weight
    torch.testing.assert_close(features(torch.tensor([[1, PAD]]))[0], table[2] + table[3])
    torch.testing.assert_close(features(torch.tensor([[PAD, 2]]))[0], table[0] + table[6])


def test_the_loss_is_the_softmax_of_the_papers_with_logits_corrected_by_what_was_expected(shop):
    torch.manual_seed(0)
    settings = with_(negatives=5, temperature=0.5, user_dropout=0.0, hard_negatives=1)
    net = TwoTowerNet(settings, About.of(shop), 60, UserColumns({}), np.bincount(shop.item))
    for each in net.parameters():
        torch.nn.init.normal_(each)
    batch = next(iter(batches_of(shop, settings, hard=np.full((60, 1), 9, np.int32), size=4)))
    torch.manual_seed(7)
    found = net.losses(batch)["in-batch softmax"]
    torch.manual_seed(7)
    drawn = net._negatives.draw(5, torch.device("cpu"))
    items = net.item_vectors()
    tower = net.user_tower
    counts = np.bincount(shop.item, minlength=15)
    expected = 4 * counts / counts.sum() + 5 * (counts > 0) / (counts > 0).sum()
    expected[9] += 4  # one for each pair
    total = 0.0
    there = torch.cat([batch.positive, drawn, batch.hard])
    for history, positive in zip(rows_of(batch), batch.positive.tolist(), strict=True):
        state = unit(tower(net.items.weight[history].mean(0, keepdim=True)))[0]
        logits = items @ state / 0.5
        others = [int(each) for each in there if int(each) != positive]
        against = [logits[each] - float(np.log(expected[each])) for each in others]
        total = total - torch.log_softmax(torch.stack([logits[positive], *against]), 0)[0]
    torch.testing.assert_close(found, total / 4, rtol=1e-4, atol=1e-5)


def test_of_somebody_of_whom_nothing_is_known_nothing_is_learned(shop):
    """A user with a single item has no history beside it; without bounds the gradient of such a row would be huge."""
    net = TwoTowerNet(with_(hidden=(6,)), About.of(shop), 60, UserColumns({}), np.bincount(shop.item))
    whole = next(iter(batches_of(shop, FAST, size=8)))
    row = Ragged(whole.history.numpy(), whole.offsets.numpy())
    empty = row.where(row.row_of_value() != 2)
    batch = replace(whole, history=torch.from_numpy(empty.values), offsets=torch.from_numpy(empty.offsets))
    torch.manual_seed(1)
    found = net.losses(batch)["in-batch softmax"]
    found.backward()
    assert all(float(each.grad.abs().max()) < 100 for each in net.parameters() if each.grad is not None)
    alone = replace(batch, history=batch.history[:0], offsets=torch.zeros_like(batch.offsets))
    assert net.losses(alone)["in-batch softmax"].item() == 0.0


def test_a_huge_history_takes_no_more_than_is_read(shop):
    user, item = np.repeat([0, 1], [50_000, 3]), np.concatenate([np.arange(50_000) % 4000, [1, 2, 3]])
    huge = Dataset.from_arrays(Vocab(np.arange(2)), Vocab(np.arange(4000)), user, item)
    batch = next(iter(batches_of(huge, with_(length=20), size=512)))
    assert len(batch.history) <= 512 * 20


def test_a_users_vector_is_left_out_of_a_share_of_the_pairs(shop):
    settings = with_(user_embedding=True, user_dropout=0.9, history_dropout=0.0)
    net = TwoTowerNet(settings, About.of(shop), 60, UserColumns({}), np.bincount(shop.item))
    told = []
    people = net.people
    net.people = lambda pooled, read, met, of: told.append(of.user) or people(pooled, read, met, of)
    for batch in batches_of(shop, settings, size=64):
        net.losses(batch)
    assert 0.8 < float((torch.cat(told) == PAD).float().mean()) < 0.97


def test_who_met_nothing_in_training_has_no_vector_that_could_answer(shop):
    settings = with_(user_embedding=True, plan=TrainPlan(epochs=2, lr=0.05))
    model = settings.fit(shop.where(shop.user < 50), run=RUN)
    nobody = Queries(Ragged.empty(60), user=np.arange(60, dtype=np.int32))
    known = ~np.isnan(model.query_vectors(nobody)).any(1)
    assert known[:50].all() and not known[50:].any()


def test_hard_negatives_are_of_the_best_that_a_person_has_not_met(shop):
    model = FAST.fit(shop, run=RUN)
    best = model.best_unmet(shop)
    for user, found in enumerate(best):
        assert not set(found[found != PAD].tolist()) & set(shop.item[shop.user == user].tolist())
    for batch in batches_of(shop, with_(hard_negatives=2), hard=best):
        allowed = {item for user in batch.user.tolist() for item in best[user].tolist()}
        assert set(batch.hard.tolist()) <= allowed
    harder = with_(hard_negatives=2).fit(shop, run=RUN)
    assert not np.array_equal(harder.item_vectors(), model.item_vectors())
    board = worlds.checkerboard()
    settings = with_(hard_negatives=1, plan=TrainPlan(epochs=15, lr=0.02))
    assert board.hit_rate(settings.fit(board.train, run=RUN)) == 1.0


def test_what_nobody_met_is_no_hard_negative():
    both = worlds.clubs()
    settings = with_(item_features=True, user_features=True, hard_negatives=4, plan=TrainPlan(epochs=10, lr=0.02))
    model = settings.fit(both.newcomers.train, run=RUN)
    assert not set(model.best_unmet(both.newcomers.train).ravel().tolist()) & {5, 11}
    assert both.regulars.hit_rate(model) == 1.0
    assert not model.net.items.weight[[5, 11]].any()


def test_newcomers_are_answered_by_what_is_known_of_them():
    clubs = worlds.clubs()
    train = clubs.newcomers.train
    model = with_(user_features=True, plan=TrainPlan(epochs=40, lr=0.02)).fit(train, run=RUN)
    own = [set(range(5)), set(range(6, 11))]
    found = model.recommend(clubs.newcomers.queries, k=4)
    assert all(set(row.tolist()) <= club for row, club in zip(found.items, own, strict=True))
    assert (found.source == 0).all()
    nobody = model.recommend(Queries(Ragged.empty(1)), k=3)
    assert (nobody.source == 1).all()


def test_a_user_of_training_is_known_by_the_name(shop, tmp_path):
    from foretaste.bundle import load

    settings = with_(user_embedding=True, user_dropout=0.2, plan=TrainPlan(epochs=4, lr=0.05))
    model = settings.fit(shop, run=RUN).with_histories(shop)
    users = shop.users.lists()[50:]
    few = shop.where(shop.user >= 50)
    moved = replace(few, users=Vocab(shop.users.ids.take(np.arange(50, 60))), user=few.user - 50, catalog=None)
    assert model.with_histories(moved).recommend(users, k=5).lists() == model.recommend(users, k=5).lists()
    known = model.ask(users).queries
    assert not np.allclose(model.query_vectors(known), model.query_vectors(replace(known, user=None)))
    model.save(tmp_path / "bundle")
    assert load(tmp_path / "bundle").recommend(users, k=5).lists() == model.recommend(users, k=5).lists()


def test_what_an_option_reads_must_be_there(shop):
    for option, need in (
        ("in_order", Needs.ORDER),
        ("item_features", Needs.ITEM_FEATURES),
        ("user_features", Needs.USER_FEATURES),
    ):
        assert with_(**{option: True}).required == need
        with pytest.raises(MissingData):
            with_(**{option: True}).fit(shop.only(Needs.NOTHING), run=RUN)
    nobody_alike = Table(60, {"name": Category.from_list([f"n{each}" for each in range(60)])})
    with pytest.raises(MissingData, match="user_features: no column of the users of shop groups them: name"):
        alone = replace(shop, catalog=replace(shop.catalog, users=nobody_alike))
        with_(user_features=True).fit(alone, run=RUN)


def test_single_events_have_nothing_before_them(shop):
    first = shop.where(np.isin(np.arange(len(shop)), shop.offsets[:-1]))
    with pytest.raises(DataError, match="shop has no user with two events, so TwoTower has nothing to predict"):
        with_(in_order=True).fit(first, run=RUN)
    assert (with_().fit(first, run=RUN).recommend([["sku-1"]], k=2).items != PAD).all()


def test_a_history_with_features_and_layers_learns_the_board():
    board = worlds.checkerboard()
    settings = with_(hidden=(16,), plan=TrainPlan(epochs=15, lr=0.02))
    assert board.hit_rate(settings.fit(board.train, run=RUN)) == 1.0
