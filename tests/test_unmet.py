"""How often what comes next is on an item never met, and the level of scores that says so."""

import math

import numpy as np
import pytest
import torch

from foretaste.enhanced import unmet
from foretaste.enhanced.unmet import level_of_unmet, unmet_share


def test_the_share_of_what_was_never_met_is_that_of_what_was_met_once():
    assert unmet_share(np.array([1, 1, 5, 0, 3])) == 2 / 10
    assert unmet_share(np.array([4, 4, 0])) == 1 / 8  # none was met once, and yet there may be something new
    assert unmet_share(np.array([1])) == 1 / 2  # of a single event nothing can be said


def test_the_share_is_right_where_everything_is_drawn_from_fixed_chances():
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 2001)
    chances /= chances.sum()
    guessed, true = [], []
    for _ in range(50):
        counts = np.bincount(rng.choice(2000, 3000, p=chances), minlength=2000)
        guessed.append(unmet_share(counts))
        true.append(chances[counts == 0].sum())
    assert np.mean(guessed) == pytest.approx(np.mean(true), rel=0.05)


def test_one_answer_is_solved_by_hand():
    answers, vectors = torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0], [2.0]])
    met = torch.tensor([True, True, False])
    # sigmoid(2 - log 2 + level) = 1/4
    assert level_of_unmet(answers, vectors, met, 0.25) == pytest.approx(math.log(1 / 3) - 2 + math.log(2), abs=1e-6)


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.5, 0.99])
def test_the_chances_of_what_was_never_met_sum_up_to_the_share(share, monkeypatch):
    monkeypatch.setattr(unmet, "LOGITS", 100)  # in several parts
    torch.manual_seed(1)
    answers, vectors, met = 3 * torch.randn(40, 8), torch.randn(30, 8), torch.arange(30) < 24
    level = level_of_unmet(answers, vectors, met, share)
    chances = (answers @ vectors.T + level * ~met).softmax(1)
    assert float(chances[:, ~met].sum(1).mean()) == pytest.approx(share, rel=1e-3)
