"""BERT4Rec: the plain one by hand, what it may and may not see, and each option for what it does."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds

from foretaste import bundle, itemloss
from foretaste.batching import Padded, Sequences
from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.masking import MaskedBatch
from foretaste.models.bert4rec import BERT4Rec
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.run import Run
from foretaste.train import TrainPlan
from foretaste.vocab import Strings, Vocab

RUN = Run(seed=1, device="cpu", precision="fp32")
TINY = {"dim": 8, "length": 6, "batch_tokens": 128}
POSITIONS = ["learned", "sinusoidal", "rotary", "relative"]


def of_histories(*histories: list[int]) -> Queries:
    return Queries(Ragged.from_lists(histories))


def settings(**more) -> BERT4Rec:
    return BERT4Rec(**{**TINY, "plan": TrainPlan(epochs=2, lr=0.02), **more})


@pytest.fixture(scope="module")
def model(shop):
    return settings().fit(shop, run=RUN)


# The plain model.


def by_hand(net, history) -> np.ndarray:
    """What a history is answered by, in float64 and one place at a time; norms after each part."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in net.state_dict().items()}
    dim, heads = weights["items.weight"].shape[1], net.blocks[0].heads
    events = np.concatenate([weights["items.weight"][history], weights["hidden"][None]])
    states = norm(events + weights["places.weight"][: len(events)][::-1], weights, "before")
    for number in range(len(net.blocks)):
        block = f"blocks.{number}"
        joined = linear(states, weights, f"{block}.queries_keys_values")
        queries, keys, values = np.split(joined, 3, axis=1)
        mixed = np.zeros_like(states)
        for head in range(heads):
            part = slice(head * dim // heads, (head + 1) * dim // heads)
            for place in range(len(states)):
                likeness = keys[:, part] @ queries[place, part] / np.sqrt(dim // heads)
                share = np.exp(likeness - likeness.max())
                mixed[place, part] = share / share.sum() @ values[:, part]
        states = norm(states + linear(mixed, weights, f"{block}.attended"), weights, f"{block}.before_attention")
        inner = gelu(linear(states, weights, f"{block}.network.0"))
        states = norm(states + linear(inner, weights, f"{block}.network.3"), weights, f"{block}.before_network")
    return norm(gelu(linear(states[-1:], weights, "head.0")), weights, "head.2")[0]


def norm(x, weights, name):
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(x):
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("heads", [1, 2])
def test_an_answer_is_the_state_of_a_hidden_place_behind_the_history(shop, heads):
    model = settings(heads=heads).fit(shop, run=RUN)
    histories = [[3], [1, 2, 3, 1], [5, 4, 3, 2, 1], [9, 9, 5, 4, 3, 2, 1]]  # of the last two, five events are read
    found = model.query_vectors(of_histories(*histories))
    for row, history in enumerate(histories):
        np.testing.assert_allclose(found[row, :-1], by_hand(model.net, history[-5:]), rtol=1e-3, atol=1e-4)
    items, bias = model.net.items.weight.detach().numpy(), model.net.item_bias.detach().numpy()
    expected = found[:, :-1] @ items.T + bias
    assert np.abs(bias).max() > 0.01
    np.testing.assert_allclose(model.score(of_histories(*histories))[:, :14], expected[:, :14], rtol=1e-4, atol=1e-5)


def test_asking_is_the_same_as_hiding_the_last_event_in_training(model):
    net, rows = model.net.eval(), [[3, 4, 5, 6, 7, 8], [1, 2, 9], [4, 2]]
    padded = Sequences(Ragged.from_lists(rows)).padded()
    masked = torch.arange(6) == padded.lengths[:, None] - 1
    with torch.no_grad():
        guesses = net.guesses(net(padded, masked)[masked])
    asked = model.query_vectors(of_histories(*(row[:-1] for row in rows)))
    np.testing.assert_allclose(asked, guesses.numpy(), rtol=1e-4, atol=1e-5)


def test_a_place_is_counted_from_the_end_in_a_row_of_any_length(model):
    """Two histories that end alike differ only by what the longer one has before."""
    net = model.net
    seen = []
    handle = net.before.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    model.query_vectors(of_histories([3, 4], [1, 2, 9, 3, 4]))
    handle.remove()
    torch.testing.assert_close(seen[0][0, :3], seen[0][1, 3:6])


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_hidden_place_sees_both_sides(shop, positions):
    net = settings(positions=positions).fit(shop, run=RUN).net
    masked = torch.tensor([[False, False, True, False, False, False]])

    def hidden(*items: int) -> torch.Tensor:
        with torch.no_grad():
            return net(Padded(torch.tensor([[*items, PAD]])), masked)[0, 2]

    plain = hidden(1, 2, 3, 4, 5)
    for other in (hidden(9, 2, 3, 4, 5), hidden(1, 2, 3, 9, 5), hidden(1, 2, 3, 4, 9), hidden(2, 1, 3, 4, 5)):
        assert not torch.allclose(plain, other, atol=1e-4)


def test_what_is_hidden_is_never_read(shop):
    net = settings(rating_weight=1.0).fit(shop, run=RUN).net
    masked = torch.tensor([[False, True, False, True], [True, False, True, False]])
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, PAD]])
    values = torch.tensor([[1.0, 5.0, 2.0, 3.0], [1.0, 4.0, 4.0, torch.nan]])
    with torch.no_grad():
        one = net(Padded(items, values=values), masked)
        other = net(Padded(items.masked_fill(masked, 9), values=values.masked_fill(masked, 2.0)), masked)
        seen = net(Padded(items, values=values.where(masked, 5.0)), masked)
    real = items != PAD
    assert torch.equal(one[real], other[real])
    assert not torch.allclose(one[real], seen[real], atol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm_at", ["pre", "post"])
def test_states_of_some_places_are_those_of_all_and_padding_is_nothing(shop, positions, norm_at):
    net = settings(positions=positions, norm=norm_at, plan=TrainPlan(epochs=1, lr=0.05)).fit(shop, run=RUN).net
    padded = Sequences(Ragged.from_lists([[3, 4, 5, 6], [1, 2], [7, 8, 9]])).padded(6)
    masked = torch.zeros(3, 6, dtype=torch.bool)
    masked[0, 1] = masked[1, 1] = masked[2, 0] = True
    places = torch.tensor([[1, 3], [1, 0], [0, 2]])
    with torch.no_grad():
        every, some = net(padded, masked), net(padded, masked, places)
        torch.testing.assert_close(some, every[torch.arange(3)[:, None], places])
        alone = net(Padded(padded.items[1:2, :2]), masked[1:2, :2])
    torch.testing.assert_close(every[1, :2], alone[0], rtol=1e-4, atol=1e-5)


# Learning.


def a_batch(**beside) -> MaskedBatch:
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, PAD], [8, 9, PAD, PAD]])
    masked = torch.tensor([[True, False, True, True], [False, True, False, False], [False, True, False, False]])
    return MaskedBatch(Padded(items, **beside), masked)


def test_the_loss_is_cross_entropy_over_the_catalogue_at_hidden_places(model):
    net, batch = model.net.eval(), a_batch()
    (loss,) = model.settings.losses(net, batch).values()
    states = net(batch.history, batch.masked)[batch.masked]
    logits = net.head(states) @ net.items.weight.T + net.item_bias
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 3, 4, 6, 9]))
    torch.testing.assert_close(loss, expected)
    for parameter in (net.item_bias, net.hidden, net.items.weight, net.blocks[0].network[0].weight):
        (mine,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected, parameter, retain_graph=True)
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


CYCLE = worlds.cycle()
QUICK = {"dim": 32, "length": 8, "layers": 1, "dropout": 0.0, "batch_tokens": 256, "last_share": 0.5}


@pytest.mark.parametrize(
    ("positions", "norm_at", "lr", "epochs"),
    [
        ("learned", "pre", 0.005, 25),
        ("rotary", "post", 0.005, 25),
        ("relative", "pre", 0.005, 25),
        ("sinusoidal", "post", 0.002, 40),
    ],
)
def test_the_cycle_is_learned_with_other_positions_and_norms_too(positions, norm_at, lr, epochs):
    plan = TrainPlan(epochs=epochs, lr=lr)
    quick = BERT4Rec(**QUICK, positions=positions, norm=norm_at, masks_per_epoch=2, plan=plan)
    assert CYCLE.hit_rate(quick.fit(CYCLE.train, run=RUN)) > 0.9


@pytest.mark.parametrize(("loss", "negatives"), [("softmax", None), ("sampled_softmax", 8), ("bce", 2), ("gbce", 8)])
def test_any_loss_lets_what_is_hidden_be_known(shop, loss, negatives):
    model = settings(loss=loss, negatives=negatives, dropout=0.0, plan=TrainPlan(epochs=12, lr=0.02)).fit(shop, run=RUN)
    curve = model.training["curve"]
    assert curve[-1]["loss"] < 0.98 * curve[0]["loss"]
    assert set(curve[0]) == {"epoch", "loss", "seconds", "events_per_second"}
    popularity = np.bincount(shop.item, minlength=15)[:14]  # all that there is to know here
    mean = model.score(of_histories(*([each] for each in range(14))))[:, :14].mean(0)
    assert np.corrcoef(popularity, mean)[0, 1] > 0.7


def test_a_catalogue_too_large_for_the_full_softmax_is_sampled_and_that_is_said(shop, monkeypatch):
    monkeypatch.setattr(itemloss, "FULL_UP_TO", 10)
    said: list[str] = []
    settings().fit(shop, run=replace(RUN, log=lambda message, numbers=None: said.append(message)))
    assert said[0].startswith("bert4rec: 15 items: the loss is the softmax over 2,048 sampled ones")


def test_no_event_of_a_long_history_is_lost():
    long = Sequences(Ragged.from_lists([list(range(100, 123)), [7], [], [8, 9]]))
    windows = settings(length=6).windows(long)
    assert windows.lengths.max() == 6
    assert windows.lengths.min() >= 2
    events = [event for row in windows.items.lists() for event in row]
    assert set(events) == {*range(100, 123), 8, 9}
    assert windows.items.lists()[0] == [117, 118, 119, 120, 121, 122]
    assert windows.items.lists()[1][-1] == 117  # overlaps by one


def test_each_sequence_comes_so_often_and_so_many_hide_their_last_event(shop):
    often = settings(masks_per_epoch=3, last_share=1.0)
    windows = often.windows(often.read(Sequences.of(shop)))
    batches = list(often.batches(windows, 128, np.random.default_rng(0)))
    assert sum(len(batch.history) for batch in batches) == 3 * len(windows)
    for batch in batches:
        assert torch.equal(batch.masked.int().argmax(1), batch.history.lengths - 1)
        assert (batch.masked.sum(1) == 1).all()
        assert batch.history.user is None
        assert batch.history.values is None


def test_more_is_learned_in_bf16_too(shop):
    model = settings(rating_weight=0.1, user_embedding=True, preference_weight=0.1).fit(
        shop, run=replace(RUN, precision="bf16")
    )
    assert np.isfinite(model.query_vectors(of_histories([1, 2]))).all()


def test_likeness_leaves_out_how_popular_items_are(model):
    before = model.similar_items(["sku-1"], k=5)
    with torch.no_grad():
        bias = model.net.item_bias.clone()
        model.net.item_bias += 100 * torch.arange(15)
        after = model.similar_items(["sku-1"], k=5)
        model.net.item_bias.copy_(bias)
    assert before.lists() == after.lists()


# Known users.


def tribes() -> tuple[Dataset, np.ndarray]:
    """From any of items 0 to 3 half of the people go on to 4, the others to 5, and then to the next beginning."""
    rng = np.random.default_rng(0)
    tribe = np.arange(40) % 2
    item = np.stack([rng.integers(0, 4, (40, 2)), np.repeat(4 + tribe[:, None], 2, axis=1)], 2).reshape(40, 4)
    users = Vocab(Strings.from_list(f"person {number}" for number in range(40)))
    user = np.repeat(np.arange(40), 4)
    return Dataset.from_arrays(users, Vocab(np.arange(6)), user, item.ravel(), ordered=True), tribe


def at_the_beginning(users) -> Queries:
    users = np.asarray(users, np.int32)
    return replace(of_histories(*([each % 4] for each in range(len(users)))), user=users)


def answers(model, queries) -> np.ndarray:
    return model.recommend(queries, k=1, filter_seen=False).items[:, 0]


# Much is hidden, so that it is often not to be seen from the other events of which tribe somebody is.
HIDING = {
    **QUICK,
    **{"mask_rate": 0.5, "last_share": 0.0, "masks_per_epoch": 4, "plan": TrainPlan(epochs=40, lr=0.005)},
}


@pytest.fixture(scope="module")
def tribal():
    data, tribe = tribes()
    known = BERT4Rec(**HIDING, user_embedding=True, preference_weight=0.5)
    return known.fit(data, run=RUN), data, tribe


def test_of_a_known_user_a_short_history_suffices(tribal):
    model, data, tribe = tribal
    assert (answers(model, at_the_beginning(np.arange(40))) == 4 + tribe).mean() > 0.95
    plain = BERT4Rec(**HIDING).fit(data, run=RUN)
    assert (answers(plain, at_the_beginning(np.arange(40))) == 4 + tribe).mean() < 0.8
    assert plain.net.users is None


def test_strangers_are_answered_by_their_history(tribal):
    model, _, tribe = tribal
    told = replace(of_histories(*([0, 4 + each, 1] for each in tribe)), user=np.full(40, PAD, np.int32))
    assert (answers(model, told) == 4 + tribe).mean() > 0.95
    nobody = replace(told, user=None)
    np.testing.assert_allclose(model.query_vectors(told), model.query_vectors(nobody), rtol=1e-5)
    beyond = replace(told, user=np.full(40, 1000, np.int32))
    np.testing.assert_allclose(model.query_vectors(beyond), model.query_vectors(nobody), rtol=1e-5)


def test_users_are_known_by_what_they_are_called(tribal, tmp_path):
    """A model with stored histories is asked by their numbers, which need not be those of training."""
    model, data, tribe = tribal
    later = Dataset.from_arrays(
        Vocab(Strings.from_list(["person 1", "somebody", "person 0"])),
        data.items,
        np.arange(3),
        np.array([0, 0, 0]),
        ordered=True,
    )
    model.with_histories(later).save(tmp_path / "model")
    again = bundle.load(tmp_path / "model")
    assert again.settings == model.settings
    assert again.users.lists() == data.users.lists()
    found = again.query_vectors(again.histories.queries)
    expected = model.query_vectors(replace(of_histories([0], [0], [0]), user=np.array([1, PAD, 0], np.int32)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found[0], found[2], atol=1e-3)
    top = again.recommend(["person 1", "person 0"], k=1)
    assert top.items[:, 0].tolist() == [4 + tribe[1], 4 + tribe[0]]


def test_who_has_too_few_events_to_learn_from_is_a_stranger(shop):
    lonely = replace(shop.where(np.isin(np.arange(len(shop)), shop.offsets[:-1][:3]) | (shop.user >= 3)), catalog=None)
    model = settings(user_embedding=True, plan=TrainPlan(epochs=2, lr=0.02, weight_decay=0.1)).fit(lonely, run=RUN)
    weights = model.net.users.weight.detach()
    assert (weights[:3] == 0).all()
    assert (weights[3:] != 0).all()


@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.9])
def test_users_are_left_out_as_often_as_asked(shop, monkeypatch, dropout):
    known = settings(user_embedding=True, user_dropout=dropout)
    model, read = known.fit(shop, run=RUN), []
    monkeypatch.setattr(type(model.net), "_beside", lambda net, history, *others: read.append(history.user) or 0.0)
    items = torch.randint(14, (600, 3))
    history = Padded(items, user=torch.arange(600) % 60)
    known.losses(model.net, MaskedBatch(history, torch.tensor([False, True, False]).expand(600, 3)))
    assert float((read[0] == PAD).float().mean()) == pytest.approx(dropout, abs=0.06)
    assert torch.equal(read[0][read[0] != PAD], history.user[read[0] != PAD])


# Preferences.


def test_a_person_is_told_by_the_sequence(tribal):
    model, _, tribe = tribal
    told = of_histories(*([0, 4 + each, 1, 4 + each] for each in (0, 1)))
    predicted = model.preferences(told)
    np.testing.assert_allclose(np.linalg.norm(predicted, axis=1), 1, rtol=1e-5)
    own = model.net.users.weight.detach().numpy()
    own = own / np.linalg.norm(own, axis=1, keepdims=True)
    likeness = predicted @ own.T
    assert ((likeness[0] > likeness[1]) == (tribe == 0)).mean() > 0.9
    named = replace(told, user=np.array([3, 4], np.int32))
    np.testing.assert_allclose(model.preferences(named), predicted, rtol=1e-5)  # the answer is not read
    assert np.isnan(model.preferences([[]])).all()
    curve = model.training["curve"]
    assert set(curve[0]) >= {"loss softmax", "loss preference"}
    assert curve[-1]["loss preference"] < 0.7 * curve[0]["loss preference"]


def test_the_preference_loss_is_the_cosine_to_the_users_own_vector_and_does_not_move_it(shop):
    liking = settings(user_embedding=True, user_dropout=0.6, preference_weight=0.5, dropout=0.0)
    net, batch = liking.fit(shop, run=RUN).net, a_batch(user=torch.tensor([3, 4, 5]))
    torch.manual_seed(6)
    losses = liking.losses(net, batch)
    torch.manual_seed(6)
    without = torch.rand(3) < 0.6
    assert 0 < without.sum() < 3
    expected = []
    for row in without.nonzero()[:, 0].tolist():
        length = int(batch.history.lengths[row])
        states = net(Padded(batch.history.items[row : row + 1, :length]), batch.masked[row : row + 1, :length])
        predicted = net.taste(states[0].mean(0))
        expected.append(1 - torch.cosine_similarity(predicted, net.users.weight[3 + row], dim=0))
    torch.testing.assert_close(losses["preference"], 0.5 * torch.stack(expected).mean(), rtol=1e-4, atol=1e-6)
    gradient = torch.autograd.grad(losses["preference"], net.users.weight, retain_graph=True, allow_unused=True)[0]
    assert gradient is None or (gradient == 0).all()


# Ratings.


def critics() -> tuple[Dataset, np.ndarray]:
    """What an event is valued at: 3, what the item is worth, and how generous the person is."""
    rng = np.random.default_rng(0)
    people, length, items = 150, 8, 12
    item = np.stack([rng.permutation(items)[:length] for _ in range(people)])
    generous, worth = np.repeat(rng.choice([-1.0, 1.0], people), length), rng.choice([-0.5, 0.0, 0.5], items)
    value = 30 + 10 * (generous + worth[item.ravel()])
    user = np.repeat(np.arange(people), length)
    data = Dataset.from_arrays(
        Vocab(np.arange(people)), Vocab(np.arange(items + 1)), user, item.ravel(), value=value, ordered=True
    )
    return data, worth


@pytest.fixture(scope="module")
def critical():
    data, worth = critics()
    rating = BERT4Rec(**QUICK, rating_weight=1.0, masks_per_epoch=2, plan=TrainPlan(epochs=25, lr=0.01))
    last = np.zeros(len(data), bool)
    last[data.offsets[1:] - 1] = True
    return rating.fit(data.where(~last), run=RUN), data.where(~last), data.where(last), worth


def test_ratings_are_guessed_in_the_units_of_the_data(critical):
    model, train, last, worth = critical
    queries = Queries.of_users(train)
    guessed = model.ratings(queries)
    assert guessed.shape == (150, 13)
    error = guessed[np.arange(150), last.item] - last.value
    by_item = 30 + 10 * worth[last.item] - last.value
    assert np.sqrt(np.mean(error**2)) < 0.4 * np.sqrt(np.mean(by_item**2))
    assert np.nanmin(guessed) >= train.value.min()
    assert np.nanmax(guessed) <= train.value.max()
    some = model.ratings(queries, [3, 0])
    np.testing.assert_allclose(some, guessed[:, [3, 0]], rtol=1e-5)
    pairs = model.pair_ratings(queries, Ragged.from_lists([[each, 12] for each in last.item]))
    np.testing.assert_allclose(pairs[::2], guessed[np.arange(150), last.item], rtol=1e-4)
    np.testing.assert_allclose(pairs[1::2], guessed[:, 12], rtol=1e-4)


def test_an_item_never_met_is_valued_like_the_mean_item(critical, monkeypatch):
    model, train, *_ = critical
    monkeypatch.setattr(type(model.net.ratings), "in_units", lambda head, guessed: guessed)  # nothing is cut off
    guessed = model.ratings(Queries.of_users(train))
    np.testing.assert_allclose(guessed[:, 12], guessed[:, :12].mean(1), rtol=1e-3, atol=1e-5)


def test_what_was_valued_before_is_read_and_may_be_missing(critical):
    model = critical[0]
    high, low = (replace(of_histories([1, 2, 3]), values=np.full(3, value, np.float32)) for value in (45.0, 15.0))
    assert (model.ratings(high)[:, :12] > model.ratings(low)[:, :12] + 10).all()
    unknown = model.ratings([[1, 2, 3]])[:, :12]
    assert np.isfinite(unknown).all()
    nothing = replace(of_histories([1, 2, 3]), values=np.full(3, np.nan, np.float32))
    np.testing.assert_allclose(model.ratings(nothing)[:, :12], unknown, rtol=1e-5)


def test_without_a_history_there_is_no_rating(critical):
    assert np.isnan(critical[0].ratings([[], [12]])).all()
    with pytest.raises(UnknownName, match="Unknown item 99"):
        critical[0].ratings([[1]], [99])


def test_a_saved_model_rates_the_same(critical, tmp_path):
    model, train, *_ = critical
    model.save(tmp_path / "model")
    again = bundle.load(tmp_path / "model")
    np.testing.assert_allclose(
        again.ratings(Queries.of_users(train)), model.ratings(Queries.of_users(train)), rtol=1e-5
    )


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_rating_loss_is_the_weighted_squared_error_where_values_are_given(shop, weight):
    rating = settings(rating_weight=weight, dropout=0.0)
    net = rating.fit(shop, run=RUN).net
    values = torch.tensor([[5.0, 1.0, torch.nan, 2.0], [1.0, 3.0, 2.0, torch.nan], [4.0, 2.0, torch.nan, torch.nan]])
    batch = a_batch(values=values)
    loss = rating.losses(net, batch)["rating"]
    states = net(batch.history, batch.masked)
    mean, deviation = np.nanmean(shop.value), np.nanstd(shop.value)
    errors = []
    for row, place in batch.masked.nonzero().tolist():
        if values[row, place].isnan():
            continue
        item, read = batch.history.items[row, place], net.ratings.guessing(states[row, place])
        guessed = read[:-1] @ net.items.weight[item] + read[-1] + net.ratings.item_bias[item]
        errors.append((guessed - (values[row, place] - mean) / deviation) ** 2)
    assert len(errors) == 4
    torch.testing.assert_close(loss, weight * torch.stack(errors).mean(), rtol=1e-4, atol=1e-6)


def test_a_batch_without_values_costs_nothing(shop):
    rating = settings(rating_weight=1.0)
    net = rating.fit(shop, run=RUN).net
    assert rating.losses(net, a_batch(values=torch.full((3, 4), torch.nan)))["rating"] == 0


def test_values_are_asked_for_where_they_are_needed(shop):
    rating = settings(rating_weight=0.5)
    rating.fit(shop.only(Needs.ORDER | Needs.VALUES), run=RUN)
    with pytest.raises(MissingData, match="BERT4Rec needs VALUES"):
        rating.fit(shop.only(~Needs.VALUES), run=RUN)
    silent = replace(shop, value=np.full(len(shop), np.nan, np.float32))
    with pytest.raises(DataError, match=r"No event of shop has a value.*Set rating_weight to 0"):
        rating.fit(silent, run=RUN)


def test_what_was_not_learned_is_not_told(model):
    with pytest.raises(ConfigError, match="guesses no ratings; fit it with rating_weight above 0"):
        model.ratings([["sku-1"]])
    with pytest.raises(ConfigError, match="predicts no preferences; fit it with preference_weight above 0"):
        model.preferences([["sku-1"]])


# Edges.


def test_histories_of_any_length_are_answered(model):
    long = [each % 14 for each in range(40)]
    found = model.query_vectors(of_histories([], [3], long, long[-5:], long[-4:], [3] * 9))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()
    np.testing.assert_allclose(found[2], found[3], rtol=1e-4, atol=1e-5)  # the last five are read
    assert not np.allclose(found[3], found[4], atol=1e-4)  # and not fewer


def test_a_catalogue_of_two_items_is_enough():
    data = worlds.log([0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0], items=2)
    model = settings(length=2, plan=TrainPlan(epochs=60, lr=0.02)).fit(data, run=RUN)
    assert answers(model, of_histories([0], [1], [0, 1])).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dim": 10, "heads": 3}, r"dim \(10\) must be a multiple of heads \(3\)"),
        ({"dim": 6, "heads": 2, "positions": "rotary"}, "rotary positions need an even width per head"),
        ({"length": 1}, r"length \(1\) must be at least 2"),
        ({"preference_weight": 0.1}, "so it needs user_embedding"),
        ({"loss": "softmax", "negatives": 3}, "draws no negatives"),
        ({"mask_rate": 1.0}, "less than 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        BERT4Rec(**wrong)


ONE_STEP = """
import numpy as np, torch
from foretaste.memory import forget_peak, peak_memory
from foretaste.models.bert4rec import BERT4Rec
from foretaste.run import Run
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab
from foretaste.dataset import Dataset

torch.set_num_threads(1)
walk = np.arange(24) % 10
log = Dataset.from_arrays(Vocab(np.arange(4)), Vocab(np.arange(10)), np.arange(24) // 6, walk, ordered=True)
large = BERT4Rec.large()
short = large.model_copy(update={"length": 6, "batch_tokens": 24, "plan": TrainPlan(epochs=1, lr=1e-4)})
forget_peak()
model = short.fit(log, run=Run(device="cpu", precision="fp32"))
parameters = sum(each.numel() for each in model.net.parameters())
print(parameters, model.training["curve"][0]["loss"], peak_memory(), short.memory_needed(log.counts()))
"""


def test_the_large_one_has_the_size_of_bert_and_learns_within_the_stated_memory():
    large = BERT4Rec.large()
    assert (large.dim, large.heads, large.layers) == (768, 12, 12)
    done = subprocess.run([sys.executable, "-c", ONE_STEP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parameters, loss, peak, predicted = map(float, done.stdout.split())
    block = 12 * 768**2 + 13 * 768
    around = 768 * 768 + 768 + 2 * 768 + 2 * 768 + 2 * 768 + 768  # head, its norm, the first and the last, hidden
    assert parameters == 12 * block + around + 10 * 769 + 6 * 768
    assert 1 < loss < 10
    assert peak < 2.2e9
    assert 0.7 * predicted < peak < 1.4 * predicted
