"""The best k against a full stable sort, with many ties, NaN and infinities."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from foretaste.ragged import PAD
from foretaste.topk import best

SCORE = st.sampled_from([-np.inf, np.nan, -1.0, -0.0, 0.0, 1.0, 2.0, 3.0, np.inf])


def sorted_in_full(scores, k):
    """What ``best`` must give, the slow way."""
    plain = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-plain, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(plain, order, 1)
    lacking = ((0, 0), (0, k - values.shape[1]))
    values = np.pad(values, lacking, constant_values=-np.inf)
    return np.where(values == -np.inf, PAD, np.pad(order, lacking, constant_values=PAD)), values


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=SCORE), st.integers(1, 11))
@example(np.array([[5, 9, 3, 3]], np.float32), 3)  # a tie across the end, and two different ones before it
@example(np.array([[np.nan, 1, np.inf]], np.float32), 2)
def test_the_best_are_those_of_a_full_stable_sort(scores, k):
    before = scores.copy()
    found, values = best(torch.from_numpy(scores), k)
    expected, expected_values = sorted_in_full(before, k)
    assert np.array_equal(found, expected)
    assert np.array_equal(values, expected_values)
    assert (found.dtype, values.dtype) == (np.int32, np.float32)
    assert np.array_equal(scores, before, equal_nan=True)


@pytest.mark.parametrize("levels", [2, 40, 100_000])
def test_large_rows_with_few_and_many_ties(levels):
    scores = np.random.default_rng(levels).integers(0, levels, (20, 3000)).astype(np.float32)
    found, values = best(torch.from_numpy(scores), 10)
    expected, expected_values = sorted_in_full(scores, 10)
    assert np.array_equal(found, expected)
    assert np.array_equal(values, expected_values)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_no_rows_or_no_items_give_padding(shape):
    found, values = best(torch.zeros(shape), 2)
    assert found.shape == values.shape == (shape[0], 2)
    assert (found[:, shape[1] :] == PAD).all()


@pytest.mark.parametrize("levels", [1, 40, 1_000_000])
def test_rows_long_enough_to_be_searched_in_stretches_give_the_same(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (12, 11_300)).astype(np.float32)
    scores[0] = -np.inf
    scores[1, :-3] = -np.inf  # all that is left stands behind the last whole stretch
    scores[2, rng.random(11_300) < 0.9995] = -np.inf
    scores[3, ::5], scores[4], scores[5, -1] = np.nan, np.nan, np.nan
    scores[6, 100:140] = np.inf
    found, values = best(torch.from_numpy(scores.copy()), 10)
    expected, expected_values = sorted_in_full(scores, 10)
    assert np.array_equal(found, expected)
    assert np.array_equal(values, expected_values)
