"""Negatives come as often as they are said to."""

import numpy as np
import pytest
import torch

from foretaste.sampling import Negatives, Unmet

COUNTS = np.array([0, 1, 4, 16, 0, 64, 0])
CPU = torch.device("cpu")


def shares(negatives: Negatives, draws: int = 40_000) -> np.ndarray:
    torch.manual_seed(1)
    return np.bincount(negatives.draw(draws, CPU).numpy(), minlength=len(COUNTS)) / draws


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_draws_follow_popularity_to_the_power(alpha):
    expected = np.where(COUNTS > 0, np.maximum(COUNTS, 1) ** alpha, 0)
    expected = expected / expected.sum()
    found = shares(Negatives(COUNTS, alpha))
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / 40_000))
    assert (found[COUNTS == 0] == 0).all()


def test_by_alpha_zero_all_items_are_drawn_alike():
    np.testing.assert_allclose(shares(Negatives(COUNTS, 0.0)), np.full(7, 1 / 7), atol=0.008)
    np.testing.assert_allclose(Negatives(COUNTS, 0.0).log_odds(14).exp().numpy(), np.full(7, 2.0), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_log_odds_are_the_expected_counts(alpha):
    chances = np.where(COUNTS > 0, np.maximum(COUNTS, 1) ** alpha, 0)
    odds = Negatives(COUNTS, alpha).log_odds(500)
    np.testing.assert_allclose(odds.exp().numpy(), 500 * chances / chances.sum(), rtol=1e-5, atol=1e-30)
    assert bool(torch.isfinite(odds).all())


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_items_without_events_are_not_drawn_at_the_edges_either(uniform, monkeypatch):
    """The first and the last items have no events, and these are the least and the largest number that can come."""
    monkeypatch.setattr(torch, "rand", lambda shape: torch.full(shape, uniform))
    rounding = np.append(np.full(49, 1 / 3), 0.0)  # sums that end a little beside 1
    for counts in (COUNTS, np.array([0.0, 0.1, 0.2, 0.7, 0.0]), rounding):
        found = Negatives(counts, 1.0).draw(500, CPU)
        assert (counts[found.numpy()] > 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_shape_is_kept_and_torchs_seed_decides(alpha):
    negatives = Negatives(COUNTS, alpha)
    torch.manual_seed(3)
    first = negatives.draw((5, 2), CPU)
    torch.manual_seed(3)
    assert first.shape == (5, 2)
    assert torch.equal(negatives.draw((5, 2), CPU), first)
    assert not torch.equal(negatives.draw((5, 2), CPU), first)
    assert negatives.draw(4, CPU).shape == (4,)


def test_what_a_user_has_met_is_not_drawn_and_all_else_alike():
    user, item = np.array([0, 0, 1, 1, 1, 1]), np.array([1, 3, 0, 1, 2, 3])
    torch.manual_seed(0)
    drawn = Unmet(user, item, 5).draw(torch.tensor([0, 1, 2]).repeat_interleave(6000)).reshape(3, 6000)
    shares = np.stack([np.bincount(each.numpy(), minlength=5) / 6000 for each in drawn])
    np.testing.assert_allclose(shares[0], [1 / 3, 0, 1 / 3, 0, 1 / 3], atol=0.025)
    assert shares[1, 4] > 0.85  # one item in five: ten draws miss it with a chance of 0.8 ** 10
    np.testing.assert_allclose(shares[2], np.full(5, 0.2), atol=0.025)
