"""Ratings: what an item gets, how high a person rates, and what is read for that."""

import numpy as np
import pytest
import torch

from foretaste.nets.ratings import Ratings
from foretaste.ragged import PAD

NAN = float("nan")
ITEMS = torch.tensor([[0, 1, 2, 0], [2, 1, PAD, PAD]])
VALUES = torch.tensor([[5.0, NAN, 3.0, 1.0], [4.0, 2.0, NAN, NAN]])


@pytest.fixture
def ratings() -> Ratings:
    """Mean 3, deviation 2; the numbers of the three items are 0.5, 0 and -1."""
    head = Ratings(3, 4)
    head.measure(np.array([0, 2, 1]), np.array([1.0, 5.0, np.nan]))
    with torch.no_grad():
        head.item_bias.copy_(torch.tensor([0.5, 0.0, -1.0]))
        head.damping.copy_(torch.tensor(2.0).log())
    return head


def test_an_item_begins_with_its_damped_mean():
    head = Ratings(4, 4)
    head.measure(np.array([0, 0, 1, 2, 2]), np.array([5.0, 5.0, 1.0, 1.0, np.nan]))
    assert head.scale.tolist() == [3, 2, 1, 5]
    np.testing.assert_allclose(head.item_bias.tolist(), [2 / (2 + 5), -1 / (1 + 5), -1 / (1 + 5), 0], rtol=1e-6)


def test_a_habit_is_the_damped_mean_of_how_far_values_lie_above_what_their_items_get(ratings):
    # In deviations the values are 1, -, 0, -1 and 0.5, -0.5; above their items they lie 0.5, -, 1, -1.5 and 1.5, -0.5.
    found = ratings.habits(ITEMS, VALUES)
    torch.testing.assert_close(found, torch.tensor([[0.0 / 5], [1.0 / 4]]))


def test_looking_back_only_a_place_knows_the_values_before_it(ratings):
    found = ratings.habits(ITEMS, VALUES, causal=True)
    torch.testing.assert_close(found[0], torch.tensor([0, 0.5 / 3, 0.5 / 3, 1.5 / 4]))
    torch.testing.assert_close(found[1, :2], torch.tensor([0, 1.5 / 3]))


def test_without_values_there_is_no_habit(ratings):
    assert ratings.habits(ITEMS, None).tolist() == [[0], [0]]
    assert ratings.habits(ITEMS, torch.full((2, 4), NAN)).tolist() == [[0], [0]]
    assert ratings.habits(ITEMS, torch.full((2, 4), NAN), causal=True).abs().sum() == 0


def test_a_guess_is_the_number_of_the_item_the_habit_and_what_the_network_adds(ratings):
    states, items = torch.randn(2, 1, 4), torch.randn(3, 4)
    habits = torch.tensor([[0.25], [-1.0]])
    with torch.no_grad():
        vectors = ratings.state_vectors(ratings.told(states, habits))[:, 0] @ ratings.item_vectors(items).T
        told = ratings.guessing(states)[:, 0]
        expected = told[:, :4] @ items.T + told[:, 4:] + habits + ratings.item_bias
    torch.testing.assert_close(vectors, expected)
    hit = ratings.error(states, habits, torch.tensor([[True], [False]]), items, torch.tensor([1]), torch.tensor([5.0]))
    torch.testing.assert_close(hit, (expected[0, 1] - 1).square())


def test_biases_alone_are_learned_when_the_network_has_nothing_to_say(ratings):
    """People who rate high or low, items that get high or low, and states of zero."""
    torch.manual_seed(0)
    person, item = torch.randn(200, 1), torch.randn(3) * 0.5
    items = torch.randint(0, 3, (200, 8))
    values = 3 + 2 * (person + item[items])
    optimizer = torch.optim.Adam(ratings.parameters(), lr=0.05)
    states, there = torch.zeros(200, 8, 4), torch.ones(200, 8, dtype=torch.bool)
    there[:, :4] = False
    for _ in range(200):
        habits = ratings.habits(items, values, causal=True)
        error = ratings.error(states, habits, there, torch.zeros(3, 4), items[there], values[there])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.02
    assert float(ratings.damping.detach().exp()) < 0.5, "nothing is noise, so nothing is to be damped"
