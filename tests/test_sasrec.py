"""SASRec: the plain one by hand, and each option for what it does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds

from foretaste import itemloss
from foretaste.batching import Padded
from foretaste.catalog import NO_TIME
from foretaste.dataset import Needs
from foretaste.errors import MissingData
from foretaste.models.sasrec import SASRec
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.train import TrainPlan

RUN = Run(seed=1, device="cpu", precision="fp32")
QUICK = {"dim": 16, "length": 8, "layers": 1, "heads": 2, "dropout": 0.0, "batch_tokens": 512}


def of_histories(*histories: list[int]) -> Queries:
    return Queries(Ragged.from_lists(histories))


def attention_by_hand(net, history) -> np.ndarray:
    """The state of the last place, in float64 and one place at a time."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in net.state_dict().items()}
    dim, heads = weights["items.weight"].shape[1], net.blocks[0].heads
    states = weights["items.weight"][history] * np.sqrt(dim) + weights["places.weight"][: len(history)]

    def norm(x, name):
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt(np.square(x - x.mean(axis=1, keepdims=True)).mean(axis=1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    for number in range(len(net.blocks)):
        block = f"blocks.{number}"
        queries, keys, values = np.split(
            linear(norm(states, f"{block}.before_attention"), f"{block}.queries_keys_values"), 3, axis=1
        )
        mixed = np.zeros_like(states)
        for head in range(heads):
            part = slice(head * dim // heads, (head + 1) * dim // heads)
            for place in range(len(history)):
                likeness = keys[: place + 1, part] @ queries[place, part] / np.sqrt(dim // heads)
                share = np.exp(likeness - likeness.max())
                mixed[place, part] = share / share.sum() @ values[: place + 1, part]
        states = states + linear(mixed, f"{block}.attended")
        inner = linear(norm(states, f"{block}.before_network"), f"{block}.network.0")
        gelu = torch.nn.functional.gelu(torch.from_numpy(inner)).numpy()
        states = states + linear(gelu, f"{block}.network.3")
    return norm(states, "norm")[-1]


@pytest.mark.parametrize("heads", [1, 2])
def test_sasrec_is_attention_over_the_history(shop, heads):
    settings = SASRec(dim=8, length=5, layers=2, heads=heads, batch_tokens=128, plan=TrainPlan(epochs=2, lr=0.02))
    model = settings.fit(shop, run=RUN)
    histories = [[3], [1, 2, 3, 1], [5, 4, 3, 2, 1], [9, 9, 5, 4, 3, 2, 1]]  # the last is longer than is read
    found = model.query_vectors(of_histories(*histories))
    for row, history in enumerate(histories):
        np.testing.assert_allclose(found[row], attention_by_hand(model.net, history[-5:]), rtol=1e-3, atol=1e-4)
    scores = model.score(of_histories(*histories))
    np.testing.assert_allclose(scores[:, :14], (found @ model.item_vectors().T)[:, :14], rtol=1e-5, atol=1e-5)


def test_sasrec_answers_without_dropout_and_leaves_the_mode_as_it_was(shop):
    model = SASRec(dim=8, length=6, dropout=0.5, plan=TrainPlan(epochs=1)).fit(shop, run=RUN)
    expected = model.query_vectors(of_histories([1, 2]))
    model.net.train()
    assert np.array_equal(model.query_vectors(of_histories([1, 2])), expected)
    assert model.net.training


def test_sasrec_never_looks_ahead(shop):
    net = SASRec(dim=8, length=6, plan=TrainPlan(epochs=1)).fit(shop, run=RUN).net
    with torch.no_grad():
        states = net(Padded(torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 8, -1]])))
    torch.testing.assert_close(states[0, :3], states[1, :3])
    assert not torch.allclose(states[0, 3], states[1, 3])


def test_sasrec_refuses_heads_that_do_not_divide_dim():
    with pytest.raises(ValueError, match=r"dim \(10\) must be a multiple of heads \(3\)"):
        SASRec(dim=10, heads=3)


CYCLE = worlds.cycle()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "relative"])
def test_the_cycle_is_learned_with_any_positions_and_norm(positions, norm):
    settings = SASRec(**QUICK, positions=positions, norm=norm, plan=TrainPlan(epochs=20, lr=0.02))
    assert CYCLE.hit_rate(settings.fit(CYCLE.train, run=RUN)) > 0.9


@pytest.mark.parametrize(
    ("loss", "negatives"), [("softmax", None), ("sampled_softmax", 8), ("bce", 1), ("bce", 3), ("gbce", 8)]
)
def test_the_cycle_is_learned_by_any_loss(loss, negatives):
    plan = TrainPlan(epochs=60 if "bce" in loss else 20, lr=0.02)
    model = SASRec(**QUICK, loss=loss, negatives=negatives, plan=plan).fit(CYCLE.train, run=RUN)
    assert CYCLE.hit_rate(model) > 0.9
    assert set(model.training["curve"][0]) == {"epoch", "loss", "seconds", "events_per_second"}


def test_popular_negatives_are_corrected_for(shop, monkeypatch):
    """Without the correction popular items would be learned to be unlikely."""
    settings = SASRec(**QUICK, negatives=5, negatives_alpha=1.0, plan=TrainPlan(epochs=30, lr=0.02))
    corrected = settings.fit(shop, run=RUN)
    monkeypatch.setattr(
        itemloss, "sampled_softmax", lambda states, items, targets, drawn, odds: LOSS(states, items, targets, drawn)
    )
    plain = settings.fit(shop, run=RUN)
    share = np.corrcoef(shop_counts(shop)[:14], mean_scores(corrected))[0, 1]
    assert share > np.corrcoef(shop_counts(shop)[:14], mean_scores(plain))[0, 1] + 0.2


LOSS = itemloss.sampled_softmax


def shop_counts(shop) -> np.ndarray:
    return np.bincount(shop.item, minlength=15)


def mean_scores(model) -> np.ndarray:
    return model.score(of_histories(*[[item] for item in range(14)]))[:, :14].mean(axis=0)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "relative"])
def test_places_are_told_apart(shop, positions):
    settings = SASRec(dim=8, length=6, layers=2, heads=2, positions=positions, plan=TrainPlan(epochs=3, lr=0.02))
    model = settings.fit(shop, run=RUN)
    one, two = model.query_vectors(of_histories([1, 2, 3, 4], [2, 1, 3, 4]))
    assert not np.allclose(one, two, atol=1e-5)


def timed(times: list[int]) -> Queries:
    return Queries(Ragged.from_lists([[1, 2, 3]]), times=np.array(times, np.int64))


def test_intervals_are_read_where_asked_for(shop):
    settings = SASRec(dim=8, length=6, time_intervals=True, plan=TrainPlan(epochs=3, lr=0.05))
    model = settings.fit(shop, run=RUN)
    minute, day = 60_000, 86_400_000
    near, far = model.query_vectors(timed([0, minute, 2 * minute])), model.query_vectors(timed([0, day, 2 * day]))
    later = model.query_vectors(timed([5 * day, 5 * day + minute, 5 * day + 2 * minute]))
    assert not np.allclose(near, far, atol=1e-4)
    np.testing.assert_allclose(near, later, rtol=1e-5)  # intervals, not moments
    unknown = model.query_vectors(timed([NO_TIME] * 3))
    np.testing.assert_allclose(model.query_vectors(of_histories([1, 2, 3])), unknown, rtol=1e-5)
    plain = SASRec(dim=8, length=6, plan=TrainPlan(epochs=1)).fit(shop, run=RUN)
    assert np.array_equal(plain.query_vectors(timed([0, 1, 2])), plain.query_vectors(timed([0, day, 2 * day])))


def test_kinds_are_read_where_asked_for(shop):
    settings = SASRec(dim=8, length=6, event_kinds=True, plan=TrainPlan(epochs=3, lr=0.05))
    model = settings.fit(shop, run=RUN)
    views = replace(of_histories([1, 2]), kinds=np.zeros(2, np.int8))
    bought = replace(views, kinds=np.array([0, 2], np.int8))
    assert not np.allclose(model.query_vectors(views), model.query_vectors(bought), atol=1e-4)
    assert np.isfinite(model.query_vectors(of_histories([1, 2]))).all()  # kinds not told


@pytest.mark.parametrize(("option", "need"), [("time_intervals", Needs.TIMES), ("event_kinds", Needs.KINDS)])
def test_what_an_option_reads_is_asked_for(shop, option, need):
    settings = SASRec(dim=8, length=6, plan=TrainPlan(epochs=1), **{option: True})
    settings.fit(shop.only(Needs.ORDER | need), run=RUN)
    stripped = replace(shop.only(~need), ordered=True)
    with pytest.raises(MissingData, match=f"SASRec needs {need.name}"):
        settings.fit(stripped, run=RUN)


def test_a_catalogue_too_large_for_the_full_softmax_is_sampled_and_that_is_said(shop, monkeypatch):
    monkeypatch.setattr(itemloss, "FULL_UP_TO", 10)
    said: list[str] = []
    run = replace(RUN, log=lambda message, numbers=None: said.append(message))
    settings = SASRec(dim=8, length=6, plan=TrainPlan(epochs=1))
    assert settings.chosen_loss(10) == "softmax"
    assert settings.chosen_loss(11) == "sampled_softmax"
    settings.fit(shop, run=run)
    assert said[0] == (
        "sasrec: 15 items: the loss is the softmax over 2,048 sampled ones (loss: softmax takes them all)"
    )
    assert settings.model_copy(update={"loss": "softmax"}).chosen_loss(11) == "softmax"


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="draws no negatives; loss sampled_softmax does"):
        SASRec(loss="softmax", negatives=5)
    with pytest.raises(ValueError, match="rotary positions need an even width per head; dim 6 / heads 2 is odd"):
        SASRec(dim=6, heads=2, positions="rotary")
