"""Metrics of rankers against their definitions, pair by pair and list by list."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.catalog import Table
from foretaste.rank.examples import Examples
from foretaste.rank.metrics import (
    auc,
    average_precision,
    calibration_error,
    grouped_auc,
    list_ndcg,
    log_loss,
    task_metrics,
)

EXAMPLES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9])), min_size=1, max_size=40
)


def columns(rows):
    lists, labels, scores = zip(*rows, strict=True)
    return np.array(lists), np.array(labels), np.array(scores)


def auc_by_pairs(labels, scores):
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[labels == 1]
        for low in scores[labels == 0]
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


@given(EXAMPLES)
def test_auc_is_that_of_all_pairs(rows):
    _, labels, scores = columns(rows)
    assert auc(labels, scores) == pytest.approx(auc_by_pairs(labels, scores), nan_ok=True)


@given(EXAMPLES)
def test_grouped_auc_is_that_of_each_list(rows):
    lists, labels, scores = columns(rows)
    found, weights = [], []
    for number in np.unique(lists):
        own = lists == number
        each = auc_by_pairs(labels[own], scores[own])
        if not math.isnan(each):
            found.append(each)
            weights.append(own.sum())
    expected = np.average(found, weights=weights) if found else math.nan
    assert grouped_auc(lists, labels, scores) == pytest.approx(expected, nan_ok=True)


@given(EXAMPLES)
def test_average_precision_counts_equal_scores_as_one_step(rows):
    _, labels, scores = columns(rows)
    expected, before = 0.0, 0.0
    for bound in sorted(set(scores), reverse=True):
        taken = scores >= bound
        recall = labels[taken].sum() / max(1, labels.sum())
        expected += (recall - before) * labels[taken].mean()
        before = recall
    assert average_precision(labels, scores) == pytest.approx(expected if labels.any() else math.nan, nan_ok=True)


@given(EXAMPLES)
def test_list_ndcg_puts_negatives_first_among_equals(rows):
    lists, labels, scores = columns(rows)
    found = []
    for number in np.unique(lists):
        own = sorted(zip(-scores[lists == number], labels[lists == number], strict=True))
        if not any(label for _, label in own):
            continue
        gained = sum(label / math.log2(place + 2) for place, (_, label) in enumerate(own[:10]))
        best = sum(1 / math.log2(place + 2) for place in range(min(10, sum(label for _, label in own))))
        found.append(gained / best)
    expected = np.mean(found) if found else math.nan
    assert list_ndcg(lists, labels, scores) == pytest.approx(expected, nan_ok=True)


def test_log_loss_is_finite_for_sure_mistakes():
    assert log_loss(np.array([1, 0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-math.log(1e-7))


def test_calibration_error_is_the_distance_of_rates():
    rng = np.random.default_rng(0)
    told = rng.random(200_000)
    came = (rng.random(200_000) < told).astype(int)
    assert calibration_error(came, told) < 0.01
    assert calibration_error(came, np.clip(told + 0.2, 0, 1)) > 0.1
    assert calibration_error(np.ones(10, int), np.full(10, 0.25)) == pytest.approx(0.75)


def test_what_cannot_be_had_is_nan():
    nothing = np.array([], int)
    assert math.isnan(log_loss(nothing, nothing.astype(float)))
    assert math.isnan(auc(np.array([1, 1]), np.array([0.1, 0.2])))
    assert math.isnan(grouped_auc(np.array([0, 1]), np.array([1, 0]), np.array([0.1, 0.2])))
    assert math.isnan(average_precision(np.array([0]), np.array([0.3])))
    assert math.isnan(list_ndcg(np.array([0]), np.array([0]), np.array([0.3])))


def test_metrics_are_of_known_labels_alone():
    request = np.array([0, 0, 1, 1])
    labels = {"click": np.array([1, 0, -1, 1], np.int8)}
    examples = Examples(request, Table(2), np.full(4, -1), Table(0), Table(4), labels)
    found = task_metrics(examples, {"click": np.array([0.9, 0.1, 0.5, 0.2]), "cart": np.zeros(4)})
    assert list(found) == ["click"]
    assert found["click"]["examples"] == 3
    assert found["click"]["positives"] == 2
    assert found["click"]["auc"] == 1
    assert found["click"]["grouped_auc"] == 1
    assert found["click"]["ndcg@10"] == 1
