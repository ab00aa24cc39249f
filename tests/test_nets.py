"""Blocks of networks: padding is nothing, and nobody looks ahead."""

import numpy as np
import pytest
import torch

from foretaste.catalog import NO_TIME
from foretaste.nets.attention import (
    RelativePlaces,
    Rotation,
    SelfAttentionBlock,
    attend,
    causal_bias,
    fused,
    padding_bias,
)
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import (
    IntervalEmbedding,
    ItemEmbedding,
    KindEmbedding,
    PlaceEmbedding,
    interval_buckets,
    sinusoids,
)
from foretaste.nets.ratings import Ratings
from foretaste.ragged import PAD


def test_padding_has_a_zero_vector_and_gives_no_gradient():
    items = ItemEmbedding(4, 3)
    vectors = items(torch.tensor([[2, PAD], [PAD, 0]]))
    assert torch.equal(vectors[0, 0], items.weight[2])
    assert (vectors[0, 1] == 0).all()
    vectors.sum().backward()
    assert items.weight.grad.sum(1).tolist() == [3, 0, 3, 0]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_place_sees_itself_and_those_before_it(heads):
    torch.manual_seed(0)
    block = SelfAttentionBlock(8, heads, 16, dropout=0.5).eval()
    states = torch.randn(2, 5, 8)
    other = states.clone()
    other[:, 3] = torch.randn(2, 8)
    bias = causal_bias(5, states.device)
    changed = (block(states, bias) != block(other, bias)).any(dim=2)
    assert changed.tolist() == [[False, False, False, True, True]] * 2


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    states = torch.ones(7, 11, 1001)
    kept = Dropout(p).train()(states)
    rounded = round(p * 256) / 256
    assert float((kept == 0).float().mean()) == pytest.approx(rounded, abs=0.006)
    assert kept[kept > 0].unique().tolist() == pytest.approx([1 / (1 - rounded)])
    # No number decides over its neighbour: two in a row are dropped as often as by chance.
    pairs = (kept[..., 1:] == 0) & (kept[..., :-1] == 0)
    assert float(pairs.float().mean()) == pytest.approx(rounded**2, abs=0.01)
    assert torch.equal(Dropout(p).eval()(states), states)


@pytest.mark.parametrize("p", [0.0, 0.001, 0.999])
def test_dropout_at_its_ends_is_finite(p):
    assert torch.isfinite(Dropout(p).train()(torch.ones(3, 5))).all()


def test_a_block_without_a_bias_looks_back():
    torch.manual_seed(0)
    block, states, places = SelfAttentionBlock(8, 2, 16, dropout=0.0), torch.randn(2, 4, 8), torch.tensor([[3], [1]])
    bias = causal_bias(4, states.device)
    torch.testing.assert_close(block(states, None), block(states, bias))
    torch.testing.assert_close(block(states, None, places=places), block(states, bias, places=places))


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    block, states = SelfAttentionBlock(8, 2, 16, dropout=0.5), torch.randn(1, 4, 8)
    bias = causal_bias(4, states.device)
    assert not torch.equal(block.train()(states, bias), block(states, bias))
    assert torch.equal(block.eval()(states, bias), block(states, bias))


@pytest.mark.parametrize("sees", ["both ways", "back", "back, with distances"])
def test_attention_of_a_cpu_is_that_of_a_gpu(sees):
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(3, 2, 5, 4, requires_grad=True) for _ in range(3))
    items = torch.tensor([[1, 2, 3, 4, 5], [1, 2, PAD, PAD, PAD], [1, 2, 3, PAD, PAD]])
    bias = {
        "both ways": padding_bias(items),
        "back": None,
        "back, with distances": causal_bias(5, queries.device) + torch.randn(2, 5, 5),
    }[sees]
    ours, theirs = attend(queries, keys, values, bias), fused(queries, keys, values, bias)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for mine, expected in zip(
        torch.autograd.grad((ours * weight).sum(), (queries, keys, values)),
        torch.autograd.grad((theirs * weight).sum(), (queries, keys, values)),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected)


def test_padding_is_not_looked_at_from_either_side():
    torch.manual_seed(0)
    block = SelfAttentionBlock(8, 2, 16, dropout=0.0).eval()
    states = torch.randn(1, 5, 8)
    alone = block(states[:, :3], padding_bias(torch.tensor([[1, 2, 3]])))
    padded = block(states, padding_bias(torch.tensor([[1, 2, 3, PAD, PAD]])))
    torch.testing.assert_close(padded[:, :3], alone)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_norm_stands_where_it_was_asked_for(norm):
    torch.manual_seed(0)
    block = SelfAttentionBlock(8, 2, 16, 0.0, norm).eval()
    large = block(100 * torch.randn(2, 5, 8), causal_bias(5, torch.device("cpu")))
    assert (float(large.detach().std()) < 2) == (norm == "post")


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("bias_of", ["causal", "padding", "relative"])
def test_states_of_some_places_are_those_of_all(norm, bias_of):
    torch.manual_seed(0)
    block = SelfAttentionBlock(8, 2, 16, 0.0, norm)
    states, places = torch.randn(3, 5, 8, requires_grad=True), torch.tensor([[4, 0], [1, 1], [2, 3]])
    relative = RelativePlaces(5, 2)
    torch.nn.init.normal_(relative.weight)
    padding = padding_bias(torch.tensor([[1, 2, 3, 4, 5], [1, 2, PAD, PAD, PAD], [1, 2, 3, 4, PAD]]))
    bias = {"causal": causal_bias(5, states.device), "padding": padding, "relative": padding + relative(5)}[bias_of]
    for rotation in (None, Rotation(5, 4)):
        some = block(states, bias, rotation, places)
        rows = torch.arange(3)[:, None]
        every = block(states, bias, rotation)[rows, places]
        torch.testing.assert_close(some, every)
        weight = torch.randn_like(some)
        (mine,), (expected,) = (torch.autograd.grad((each * weight).sum(), states) for each in (some, every))
        torch.testing.assert_close(mine, expected)


def test_turned_queries_and_keys_know_only_their_distance():
    torch.manual_seed(0)
    query, key = torch.randn(4), torch.randn(4)
    turn = Rotation(20, 4)
    queries, keys = turn(query.expand(20, 4)), turn(key.expand(20, 4))
    products = queries @ keys.T
    for distance in (-3, 0, 5):
        same = products.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert not torch.allclose(products[0, 0], products[0, 5])
    torch.testing.assert_close(queries.norm(dim=1), query.norm().expand(20))


def test_relative_places_have_a_bias_per_head_and_distance():
    places = RelativePlaces(6, 2)
    torch.nn.init.normal_(places.weight)
    bias = places(4)
    assert bias.shape == (2, 4, 4)
    for distance in range(-3, 4):
        same = bias.diagonal(distance, 1, 2)
        assert torch.equal(same, same[:, :1].expand_as(same))
    assert len(bias.unique()) == 2 * 7


def test_intervals_fall_into_powers_of_two():
    earlier = torch.tensor([0, 0, 0, 0, NO_TIME, 10])
    later = torch.tensor([0, 1, 3, 86_400_000, 5, NO_TIME])
    assert interval_buckets(earlier, later).tolist() == [1, 2, 3, 27, 0, 0]


def test_the_first_event_of_a_row_has_no_interval():
    intervals = IntervalEmbedding(3)
    torch.nn.init.normal_(intervals.weight)
    vectors = intervals(torch.tensor([[5, 5, 1_000_005]]))
    assert torch.equal(vectors[0, 0], intervals.weight[0])
    assert torch.equal(vectors[0, 1], intervals.weight[1])
    assert torch.equal(vectors[0, 2], intervals.weight[20])


def test_an_event_without_a_kind_adds_nothing():
    kinds = KindEmbedding(2, 3)
    torch.nn.init.normal_(kinds.weight)
    vectors = kinds(torch.tensor([[1, PAD]]))
    assert torch.equal(vectors[0, 0], kinds.weight[1])
    assert (vectors[0, 1] == 0).all()


def test_sinusoids_start_at_zero_and_one_and_differ_everywhere():
    table = sinusoids(50, 6)
    assert table.shape == (50, 6)
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert torch.unique(table, dim=0).shape == (50, 6)
    assert sinusoids(3, 5).shape == (3, 5)


def test_sines_of_places_are_scaled_by_a_number_that_is_learned():
    places = PlaceEmbedding(5, 4, learned=False, scale=0.1)
    torch.testing.assert_close(places(3), 0.1 * sinusoids(3, 4))
    places(3).sum().backward()
    assert places.scale.grad is not None
    assert [name for name, _ in places.named_parameters()] == ["scale"]


def test_a_rating_is_read_of_its_event_and_an_average_or_missing_one_tells_little():
    ratings = Ratings(3, 4)
    ratings.measure(np.array([1.0, 3.0, 5.0]))
    torch.nn.init.normal_(ratings.reading)
    events = torch.randn(1, 4, 4)
    told = ratings(torch.tensor([[3.0, 5.0, 1.0, torch.nan]]), events)[0]
    given, height = ratings.reading[0], ratings.reading[1] + events[0] @ ratings.reading_of.weight.T
    deviations = 2 / np.array([1.0, 3.0, 5.0]).std()
    torch.testing.assert_close(told[0], given)
    torch.testing.assert_close(told[1], given + deviations * height[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(told[2], given - deviations * height[2], rtol=1e-5, atol=1e-5)
    assert (told[3] == 0).all()
