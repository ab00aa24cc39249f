"""Blocks of networks: padding is nothing, and nobody looks ahead."""

import pytest
import torch

from foretaste.nets.attention import SelfAttentionBlock
from foretaste.nets.dropout import Dropout
from foretaste.nets.embeddings import ItemEmbedding
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
    changed = (block(states) != block(other)).any(dim=2)
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


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    block, states = SelfAttentionBlock(8, 2, 16, dropout=0.5), torch.randn(1, 4, 8)
    assert not torch.equal(block.train()(states), block(states))
    assert torch.equal(block.eval()(states), block(states))
