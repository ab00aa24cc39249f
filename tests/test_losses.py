"""Losses against torch's own cross-entropy, in value and gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from foretaste import losses
from foretaste.losses import full_softmax, sampled_softmax

ITEMS, DIM = 37, 6


def drawn(places: int, *, size: float = 1.0):
    random = torch.Generator().manual_seed(places)
    hidden = (size * torch.randn(places, DIM, generator=random)).requires_grad_()
    items = torch.randn(ITEMS, DIM, generator=random).requires_grad_()
    return hidden, items, torch.randint(ITEMS, (places,), generator=random)


def gradients(loss, *of):
    return torch.autograd.grad(loss, of)


@pytest.mark.parametrize("places", [1, 7, 8, 9, 16, 23])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_the_full_softmax_is_cross_entropy_whatever_the_chunk(places, size, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 8)
    hidden, items, targets = drawn(places, size=size)
    ours, theirs = full_softmax(hidden, items, targets), cross_entropy(hidden @ items.T, targets)
    torch.testing.assert_close(ours, theirs)
    # Behind another operation, so that the incoming gradient is not 1.
    for mine, expected in zip(gradients(3 * ours, hidden, items), gradients(3 * theirs, hidden, items), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_the_gradient_of_one_input_alone(which):
    hidden, items, targets = drawn(9)
    inputs = [hidden.detach(), items.detach()]
    inputs[which].requires_grad_()
    (mine,) = gradients(full_softmax(*inputs, targets), inputs[which])
    (expected,) = gradients(cross_entropy(inputs[0] @ inputs[1].T, targets), inputs[which])
    torch.testing.assert_close(mine, expected)


def test_without_gradients_the_value_is_the_same():
    hidden, items, targets = drawn(20)
    with torch.no_grad():
        value = full_softmax(hidden, items, targets)
    assert not value.requires_grad
    torch.testing.assert_close(value, full_softmax(hidden, items, targets).detach())


def test_under_autocast_it_is_close_and_gradients_keep_their_type():
    hidden, items, targets = drawn(40)
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax(hidden, items, targets)
    exact = cross_entropy(hidden @ items.T, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    for mine, expected in zip(gradients(loss, hidden, items), gradients(exact, hidden, items), strict=True):
        assert mine.dtype == torch.float32
        assert torch.cosine_similarity(mine.flatten(), expected.flatten(), dim=0) > 0.999


def test_no_places_cost_nothing():
    hidden, items, targets = drawn(0)
    loss = full_softmax(hidden, items, targets)
    assert loss.item() == 0
    assert all((each == 0).all() for each in gradients(loss, hidden, items))


def test_the_sampled_softmax_over_all_items_is_the_full_one():
    hidden, items, targets = drawn(12)
    sampled = sampled_softmax(hidden, items, targets, torch.arange(ITEMS))
    full = full_softmax(hidden, items, targets)
    torch.testing.assert_close(sampled, full)
    for mine, expected in zip(gradients(sampled, hidden, items), gradients(full, hidden, items), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_a_negative_that_is_the_target_does_not_count():
    hidden, items, targets = drawn(1)
    with_hit = torch.cat([targets, torch.tensor([3, 5]), targets])
    expected = cross_entropy(hidden @ items[torch.cat([targets, torch.tensor([3, 5])])].T, torch.tensor([0]))
    torch.testing.assert_close(sampled_softmax(hidden, items, targets, with_hit), expected)


def test_only_hits_leave_nothing_to_lose():
    hidden, items, targets = drawn(1)
    assert sampled_softmax(hidden, items, targets, targets.repeat(4)).item() == 0


def test_negatives_are_corrected_for_how_often_they_are_drawn():
    hidden, items, targets = drawn(5)
    negatives = torch.tensor([(each + 1) % ITEMS for each in range(4)])
    log_odds = torch.linspace(-3, 0, ITEMS)
    positive = (hidden * items[targets]).sum(1)
    against = hidden @ items[negatives].T - log_odds[negatives]
    against[targets[:, None] == negatives] = -torch.inf
    expected = (torch.logsumexp(torch.cat([positive[:, None], against], 1), 1) - positive).mean()
    torch.testing.assert_close(sampled_softmax(hidden, items, targets, negatives, log_odds), expected)
