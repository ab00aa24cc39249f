"""Losses against torch's own cross-entropy, and against loops over pairs, in value and gradients."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from foretaste import losses
from foretaste.losses import (
    binary_cross_entropy,
    bpr_max,
    calibrated_power,
    full_softmax,
    sampled_softmax,
    top1_max,
)

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
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 8)
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


# Losses of pairs, weighted by the softmax of the negatives.

PAIRWISE = {"bpr_max": bpr_max, "top1_max": top1_max}
pairwise = pytest.mark.parametrize("name", PAIRWISE)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pair_by_pair(name, hidden, items, targets, negatives, regularization, elu):
    """The loss of the papers in float64, one place and one negative at a time."""
    losses = []
    for state, target in zip(hidden, targets, strict=True):
        scores = [state @ items[each] for each in [target, *(each for each in negatives if each != target)]]
        if elu:
            scores = [score if score > 0 else elu * (np.exp(score) - 1) for score in scores]
        right, others = scores[0], scores[1:]
        weights = [np.exp(other) / sum(np.exp(each) for each in others) for other in others]
        if name == "bpr_max":
            won = sum(weight * sigmoid(right - other) for weight, other in zip(weights, others, strict=True))
            size = sum(weight * other**2 for weight, other in zip(weights, others, strict=True))
            losses.append(-np.log(won + 1e-24) + regularization * size if others else 0.0)
        else:
            costs = [sigmoid(other - right) + regularization * sigmoid(other**2) for other in others]
            losses.append(sum(weight * cost for weight, cost in zip(weights, costs, strict=True)))
    return float(np.mean(losses))


def slopes(value, array):
    """The gradient of a function by an array, by differences in float64."""
    found = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + 1e-6
        above = value()
        array[place] = kept - 1e-6
        found[place] = (above - value()) / 2e-6
        array[place] = kept
    return found


@pairwise
@pytest.mark.parametrize(("regularization", "elu"), [(0.0, 0.0), (1.0, 0.0), (1.95, 0.5), (0.5, 1.0)])
def test_losses_of_pairs_are_those_of_the_papers(name, regularization, elu):
    hidden, items, targets = drawn(5)
    # Drawn twice, drawn as often as a target that it is, and drawn once.
    negatives = torch.cat([torch.tensor([3, 3, 9, 14, 22, 30]), targets[:2], targets[:1]])
    loss = PAIRWISE[name](hidden, items, targets, negatives, regularization=regularization, elu=elu)
    arrays = hidden.detach().double().numpy(), items.detach().double().numpy()

    def by_hand():
        return pair_by_pair(name, *arrays, targets.tolist(), negatives.tolist(), regularization, elu)

    assert loss.item() == pytest.approx(by_hand(), rel=1e-5)
    for found, array in zip(gradients(3 * loss, hidden, items), arrays, strict=True):
        np.testing.assert_allclose(found.numpy(), 3 * slopes(by_hand, array), rtol=1e-3, atol=2e-5)


@pairwise
@pytest.mark.parametrize("places", [1, 7, 8, 23])
def test_losses_of_pairs_do_not_depend_on_the_chunk(name, places, monkeypatch):
    hidden, items, targets = drawn(places)
    negatives = torch.arange(0, ITEMS, 2)
    whole = PAIRWISE[name](hidden, items, targets, negatives)
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 8)
    parts = PAIRWISE[name](hidden, items, targets, negatives)
    torch.testing.assert_close(parts, whole)
    for one, other in zip(gradients(parts, hidden, items), gradients(whole, hidden, items), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers how many numbers the largest array had that any operation made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return out


@pairwise
def test_losses_of_pairs_never_hold_all_places_times_all_negatives(name, monkeypatch):
    """No array, of any operation, is larger than a chunk of logits, or than what goes in."""
    hidden, items, targets = drawn(400)
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 1024)
    with Largest() as largest:
        PAIRWISE[name](hidden, items, targets, torch.arange(ITEMS))
    assert 400 * DIM <= largest.numbers <= 416 * DIM < 400 * ITEMS


@pytest.mark.parametrize("sampled", [False, True])
def test_a_softmax_never_holds_all_places_times_all_items_on_the_way_there_and_back(sampled, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 1024)
    monkeypatch.setattr(losses, "LEAST_CHUNK", 8)
    found = []
    for places in (400, 800):
        hidden, items, targets = drawn(places)
        with Largest() as largest:
            loss = (
                sampled_softmax(hidden, items, targets, torch.arange(ITEMS))
                if sampled
                else full_softmax(hidden, items, targets)
            )
            loss.backward()
        found.append(largest.numbers)
    assert found == [400 * DIM, 800 * DIM]  # what goes in is the largest there is


@pytest.mark.parametrize("power", [1.0, 0.3])
def test_binary_cross_entropy_is_the_formula_of_the_papers(power):
    hidden, items, targets = drawn(5)
    negatives = torch.randint(ITEMS, (5, 3), generator=torch.Generator().manual_seed(1))
    ours = binary_cross_entropy(hidden, items, targets, negatives, power)
    by_hand = torch.zeros(())
    for state, target, others in zip(hidden, targets, negatives, strict=True):
        by_hand = by_hand - torch.log(torch.sigmoid(state @ items[target]) ** power)
        for other in others:
            by_hand = by_hand - torch.log(1 - torch.sigmoid(state @ items[other]))
    torch.testing.assert_close(ours, by_hand / 5)
    for one, other in zip(gradients(ours, hidden, items), gradients(by_hand / 5, hidden, items), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_power_of_gbce_is_that_of_the_paper_and_never_above_one():
    # Equation 16 with the sampling rate a = negatives / (items - 1):  beta = a (t (1 - 1/a) + 1/a).
    assert calibrated_power(10, 101, 0.0) == pytest.approx(1.0)
    assert calibrated_power(10, 101, 1.0) == pytest.approx(0.1)
    assert calibrated_power(10, 101, 0.75) == pytest.approx(0.1 * (0.75 * (1 - 10) + 10))
    assert calibrated_power(256, 15, 0.75) == calibrated_power(5, 1, 0.75) == 1.0


@pairwise
def test_losses_of_pairs_with_extreme_scores_are_numbers(name):
    hidden, items, targets = drawn(9, size=1000.0)
    loss = PAIRWISE[name](hidden, items, targets, torch.arange(ITEMS), elu=0.5)
    assert all(bool(each.isfinite().all()) for each in (loss, *gradients(loss, hidden, items)))


@pairwise
def test_a_place_without_another_negative_costs_nothing(name):
    hidden, items, _ = drawn(2)
    targets, negatives = torch.tensor([4, 5]), torch.tensor([4, 4])
    alone = PAIRWISE[name](hidden[1:], items, targets[1:], negatives)
    both = PAIRWISE[name](hidden, items, targets, negatives)
    torch.testing.assert_close(both, alone / 2)
    of_hidden, of_items = gradients(both, hidden, items)
    assert bool((of_hidden[0] == 0).all())
    assert bool(of_items.isfinite().all())
    none = hidden[:0]
    assert PAIRWISE[name](none, items, targets[:0], negatives).item() == 0


@pairwise
def test_losses_of_pairs_under_autocast_are_close(name):
    hidden, items, targets = drawn(40)
    with torch.autocast("cpu", torch.bfloat16):
        loss = PAIRWISE[name](hidden, items, targets, torch.arange(0, ITEMS, 3), elu=0.5)
    exact = PAIRWISE[name](hidden, items, targets, torch.arange(0, ITEMS, 3), elu=0.5)
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    for mine, expected in zip(gradients(loss, hidden, items), gradients(exact, hidden, items), strict=True):
        assert mine.dtype == torch.float32
        assert torch.cosine_similarity(mine.flatten(), expected.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("places", [128, 129, 150, 300])
def test_chunks_of_several_sizes_add_up(places, monkeypatch):
    """Of 150 places 128 and 64 go together, the last filled up."""
    hidden, items, targets = drawn(places)
    negatives = torch.arange(0, ITEMS, 2)
    of = [
        lambda: full_softmax(hidden, items, targets),
        lambda: sampled_softmax(hidden, items, targets, negatives),
        lambda: bpr_max(hidden, items, targets, negatives),
    ]
    whole = [loss() for loss in of]
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 8192)
    _, chunks = losses._whole_chunks(hidden, ITEMS)
    assert [chunk.stop - chunk.start for chunk in chunks] == {
        128: [128],
        129: [128, 64],
        150: [128, 64],
        300: [128, 128, 64],
    }[places]
    for loss, expected in zip(of, whole, strict=True):
        found = loss()
        torch.testing.assert_close(found, expected)
        for one, other in zip(gradients(found, hidden, items), gradients(expected, hidden, items), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
