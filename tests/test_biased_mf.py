"""The yardstick of predicted ratings finds what it claims to find."""

import sys
from pathlib import Path

import numpy as np
import pytest

from foretaste.dataset import Dataset
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.vocab import Vocab


@pytest.fixture
def biased_mf(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import biased_mf

    yield biased_mf
    sys.modules.pop("biased_mf")


@pytest.fixture
def rated() -> tuple[Dataset, Dataset]:
    """Ratings of two biases and two factors; a tenth of them apart."""
    rng = np.random.default_rng(0)
    user, item = (each.ravel() for each in np.indices((60, 40)))
    p, q = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    value = 3 + rng.normal(size=60)[user] + rng.normal(size=40)[item] + (p[user] * q[item]).sum(1)
    apart = rng.random(len(user)) < 0.1
    whole = Dataset.from_arrays(Vocab(np.arange(60)), Vocab(np.arange(40)), user, item, value=value, ordered=True)
    return whole.where(~apart), whole.where(apart)


def test_biases_and_factors_are_found(biased_mf, rated):
    train, apart = rated
    error = {}
    for factors in (0, 2):
        found = biased_mf.BiasedMF.fit(train, factors, 0.01, sweeps=40)
        error[factors] = np.sqrt(np.mean((found.ratings(apart.user, apart.item) - apart.value) ** 2))
    assert error[2] < 0.05
    assert error[0] > 0.8


def test_without_factors_it_is_the_regression_on_user_and_item(biased_mf, rated):
    train, _ = rated
    found = biased_mf.BiasedMF.fit(train, 0, 2.0, sweeps=200)
    inputs = np.zeros((len(train), 100))
    inputs[np.arange(len(train)), train.user] = inputs[np.arange(len(train)), 60 + train.item] = 1
    wanted = train.value - train.value.mean()
    expected = np.linalg.solve(inputs.T @ inputs + 2 * np.eye(100), inputs.T @ wanted)
    np.testing.assert_allclose(np.r_[found.users[:, 0], found.items[:, 0]], expected, atol=1e-4)


def test_the_error_is_of_clipped_ratings_and_of_given_values(biased_mf):
    model = biased_mf.BiasedMF(3.0, np.array([[0.5], [4.0]]), np.array([[0.0], [-1.0]]))
    asked = Queries(Ragged.empty(2), user=np.array([0, 1], np.int32))
    holdout = Holdout(asked, Ragged.from_lists([[0, 1], [1]]))
    assert model.rmse(holdout, np.array([3.0, np.nan, 4.0]), 1.0, 5.0) == pytest.approx(np.sqrt((0.5**2 + 1) / 2))


def test_what_comes_before_the_targets_is_all_but_what_stands_behind_the_histories(biased_mf):
    log = Dataset.from_arrays(
        Vocab(np.arange(3)),
        Vocab(np.arange(5)),
        np.array([0, 0, 0, 1, 1, 2]),
        np.array([0, 1, 2, 3, 4, 0]),
        ordered=True,
    )
    test = Holdout(
        Queries(Ragged.from_lists([[0], [3]]), user=np.array([0, 1], np.int32)), Ragged.from_lists([[1, 2], [4]])
    )
    kept = biased_mf.before_targets(log, test)
    assert kept.user.tolist() == [0, 1, 2]
    assert kept.item.tolist() == [0, 3, 0]
