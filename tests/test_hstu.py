"""HSTU: one block by hand, and each option for what it does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds

from foretaste.batching import Padded
from foretaste.dataset import Needs
from foretaste.errors import MissingData
from foretaste.models.hstu import HSTU
from foretaste.models.sasrec import SASRec
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.train import TrainPlan

RUN = Run(seed=1, device="cpu", precision="fp32")
SMALL = HSTU(dim=8, length=5, layers=2, heads=2, batch_tokens=128, plan=TrainPlan(epochs=2, lr=0.02))
CYCLE = worlds.cycle()


def of_histories(*histories: list[int]) -> Queries:
    return Queries(Ragged.from_lists(histories))


def by_hand(net, history, attention) -> np.ndarray:
    """The state of the last place, in float64 and one place at a time."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in net.state_dict().items()}
    dim, heads = weights["items.weight"].shape[1], net.blocks[0].heads
    states = weights["items.weight"][history] * np.sqrt(dim) + weights["places.weight"][: len(history)]

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def silu(x):
        return x / (1 + np.exp(-x))

    for number in range(len(net.blocks)):
        block = f"blocks.{number}"
        product = (
            norm(states, f"{block}.before") @ weights[f"{block}.gate_queries_keys_values.weight"].T
            + weights[f"{block}.gate_queries_keys_values.bias"]
        )
        gate, queries, keys, values = np.split(silu(product), 4, axis=1)
        bias = weights[f"{block}.distances.weight"]
        read = np.zeros_like(states)
        for head in range(heads):
            part = slice(head * dim // heads, (head + 1) * dim // heads)
            for place in range(len(history)):
                logits = [
                    keys[other, part] @ queries[place, part] / np.sqrt(dim // heads)
                    + bias[head, other - place + net.places.weight.shape[0] - 1]
                    for other in range(place + 1)
                ]
                share = silu(np.array(logits)) / np.sqrt(place + 1)
                if attention == "softmax":
                    share = np.exp(logits) / np.exp(logits).sum()
                read[place, part] = share @ values[: place + 1, part]
        added = norm(read, f"{block}.after") * gate
        states = states + added @ weights[f"{block}.added.weight"].T + weights[f"{block}.added.bias"]
    return norm(states, "norm")[-1]


@pytest.mark.parametrize("attention", ["silu", "softmax"])
def test_hstu_is_what_the_equations_say(shop, attention):
    model = SMALL.model_copy(update={"attention": attention}).fit(shop, run=RUN)
    for block in model.net.blocks:
        torch.nn.init.normal_(block.distances.weight, std=0.5)
    histories = [[3], [1, 2, 3, 1], [5, 4, 3, 2, 1], [9, 9, 5, 4, 3, 2, 1]]  # the last is longer than is read
    found = model.query_vectors(of_histories(*histories))
    for row, history in enumerate(histories):
        np.testing.assert_allclose(found[row], by_hand(model.net, history[-5:], attention), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attention", ["silu", "softmax"])
def test_it_never_looks_ahead(shop, attention):
    net = SMALL.model_copy(update={"attention": attention, "length": 6}).fit(shop, run=RUN).net
    with torch.no_grad():
        states = net(Padded(torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 8, -1]])))
    torch.testing.assert_close(states[0, :3], states[1, :3])
    assert not torch.allclose(states[0, 3], states[1, 3])


@pytest.mark.parametrize("attention", ["silu", "softmax"])
@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax"])
def test_the_cycle_is_learned(attention, loss):
    settings = HSTU(
        dim=16, length=8, layers=2, heads=2, dropout=0.0, batch_tokens=512, attention=attention, loss=loss,
        plan=TrainPlan(epochs=20, lr=0.02),
    )  # fmt: skip
    assert CYCLE.hit_rate(settings.fit(CYCLE.train, run=RUN)) > 0.9


def test_times_are_read_where_asked_for_and_only_their_distances(shop):
    model = SMALL.model_copy(update={"time_intervals": True}).fit(shop, run=RUN)
    for block in model.net.blocks:
        torch.nn.init.normal_(block.times.weight)
    day = 86_400_000

    def answer(*times):
        return model.query_vectors(replace(of_histories([1, 2, 3]), times=np.array(times, np.int64)))

    assert not np.allclose(answer(0, 1, 2), answer(0, day, 9 * day), atol=1e-4)
    np.testing.assert_allclose(answer(0, day, 9 * day), answer(day, 2 * day, 10 * day), rtol=1e-5)
    assert np.isfinite(model.query_vectors(of_histories([1, 2, 3]))).all()


@pytest.mark.parametrize("kind", [HSTU, SASRec])
def test_items_that_are_described_alike_are_alike(kind, shop):
    settings = kind(dim=8, length=6, layers=1, item_features=True, plan=TrainPlan(epochs=3, lr=0.05))
    model = settings.fit(shop, run=RUN)
    with torch.no_grad():
        model.net.items.weight.zero_()
    vectors = model.item_vectors()
    # Prices and titles are shared by too few of so few items; what is left are the genres, in turn none, a, a and b.
    assert all(np.array_equal(vectors[item], vectors[item % 3]) for item in range(15))
    assert (vectors[0] == 0).all()
    assert not np.allclose(vectors[1], vectors[2])
    with pytest.raises(MissingData, match="needs ITEM_FEATURES"):
        settings.fit(shop.only(Needs.ORDER), run=RUN)


def test_heads_must_divide_dim():
    with pytest.raises(ValueError, match=r"dim \(10\) must be a multiple of heads \(3\)"):
        HSTU(dim=10, heads=3)
