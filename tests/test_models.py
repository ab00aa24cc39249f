"""Each model against an independent computation: by hand, dense, or in the words of its paper."""

from dataclasses import replace

import numpy as np
import pytest

from foretaste.dataset import Dataset, EventKinds, Needs
from foretaste.errors import TooLarge
from foretaste.models import ALS, EASE, ItemKNN, Popular, RecentPopular, ease, itemknn
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.vocab import Vocab

DAY = 86_400_000
RUN = Run(seed=2, device="cpu", precision="fp32")


def log(rows, *, items: int) -> Dataset:
    """Rows of (user, item, day, kind)."""
    user, item, day, kind = map(np.array, zip(*rows, strict=True))
    return Dataset.from_arrays(
        Vocab(np.arange(user.max() + 1)),
        Vocab(np.arange(items)),
        user,
        item,
        time=day * DAY,
        kind=kind,
        kinds=EventKinds(("view", "buy"), (1.0, 4.0)),
    )


@pytest.fixture
def small() -> Dataset:
    return log(
        [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 2, 1), (0, 1, 10, 0), (1, 1, 9, 0), (1, 1, 10, 1), (2, 2, 8, 1)], items=4
    )


def of_histories(*histories) -> Queries:
    return Queries(Ragged.from_lists(histories))


# Popular and RecentPopular.


def test_popular_adds_weights_up(small):
    assert Popular().fit(small).state()["score"].tolist() == [6, 6, 4, 0]
    assert Popular().fit(small.only(Needs.TIMES)).state()["score"].tolist() == [3, 3, 1, 0]


def test_popular_by_users_counts_each_by_the_strongest_event(small):
    assert Popular(count_users=True).fit(small).state()["score"].tolist() == [4, 5, 4, 0]
    assert Popular(count_users=True).fit(small.only(Needs.TIMES)).state()["score"].tolist() == [1, 2, 1, 0]


def test_recent_popularity_halves_with_age_and_ends_with_the_window(small):
    found = RecentPopular(half_life_days=2, window_days=9).fit(small).state()["score"]
    # Days before the last event: item 0: 10 (outside), 9, 8; item 1: 0, 1, 0; item 2: 2.
    expected = [2**-4.5 + 4 * 2**-4, 1 + 2**-0.5 + 4, 4 * 0.5, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    flat = RecentPopular(half_life_days=None, window_days=9).fit(small).state()["score"]
    assert flat.tolist() == [5, 6, 4, 0]


def test_an_item_out_of_the_window_is_not_offered_by_the_model(small):
    answer = RecentPopular(window_days=3).fit(small).recommend([[]], k=4)
    assert answer.items.tolist() == [[1, 2, 0, 3]]
    assert answer.source.tolist() == [[0, 0, 1, 1]]


# ItemKNN.


def likeness(matrix, settings) -> np.ndarray:
    """[i, j] the damped cosine, for i among the nearest neighbours of j; dense and one by one."""
    users, items = matrix.shape
    weighted = matrix.copy()
    met_by = (matrix > 0).sum(axis=0)
    there = (matrix > 0).any(axis=1)
    if settings.weighting == "bm25":
        lengths = matrix.sum(axis=1)
        mean = lengths[there].mean()
        for user in range(users):
            for item in range(items):
                count, norm = matrix[user, item], 1 - settings.bm25_b + settings.bm25_b * lengths[user] / mean
                weighted[user, item] = count * (settings.bm25_k1 + 1) / (count + settings.bm25_k1 * norm)
    if settings.weighting != "cosine":
        weighted = weighted * (np.log((there.sum() + 1) / (met_by + 1)) + 1)
    weighted = weighted / np.maximum(weighted.sum(1, keepdims=True), 1e-12) ** settings.user_power
    out = np.zeros((items, items))
    for j in range(items):
        for i in range(items):
            product = weighted[:, i] @ weighted[:, j]
            if i != j and product > 0:
                size = np.linalg.norm(weighted[:, i]) * np.linalg.norm(weighted[:, j]) ** (2 * settings.item_power)
                out[i, j] = product / (size + settings.damping)
        out[np.argsort(-out[:, j], kind="stable")[settings.neighbors :], j] = 0
    return out


@pytest.mark.parametrize("weighting", ["cosine", "tfidf", "bm25"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("neighbors", "damping"), [(3, 10.0), (100, 0.0)])
@pytest.mark.parametrize("block", [1, 60, 10**9])
@pytest.mark.parametrize("powers", [{}, {"user_power": 0.4, "item_power": 0.2}], ids=["cosine", "powers"])
def test_itemknn_is_the_dense_computation(shop, monkeypatch, weighting, binary, neighbors, damping, block, powers):
    monkeypatch.setattr(itemknn, "BLOCK_ENTRIES", block)
    settings = ItemKNN(neighbors=neighbors, weighting=weighting, damping=damping, binary=binary, **powers)
    data = replace(shop.where(np.arange(len(shop)) < 300), kinds=EventKinds(shop.kinds.names, (1.0, 3.3, 5.7)))
    matrix = np.asarray(data.matrix(binary=binary).toarray(), np.float64)
    expected = likeness(matrix, settings)
    model = settings.fit(data)
    found = model._likeness.toarray()
    # Where neighbours tie at the end of a list, either may stand in it: what must agree is how alike they are.
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=1e-5, atol=1e-7)
    if neighbors == 100:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    asked = of_histories([3, 5, 5], [], [13])
    held = asked.matrix(15, None if binary else data.kinds.weights).toarray()
    np.testing.assert_allclose(model.score(asked).toarray(), held @ found, rtol=1e-5, atol=1e-7)


def test_itemknn_splits_its_work_where_it_would_grow_too_large(shop, monkeypatch):
    monkeypatch.setattr(itemknn, "BLOCK_ENTRIES", 30)
    matrix = shop.matrix(binary=True)
    blocks = itemknn._blocks(matrix, matrix.tocsc())
    assert len(blocks) > 3
    assert [start for start, _ in blocks[1:]] == [end for _, end in blocks[:-1]]
    assert (blocks[0][0], blocks[-1][1]) == (0, 15)


def test_of_equally_alike_neighbours_the_first_items_stay():
    data = log([(0, item, 0, 0) for item in range(5)], items=5)
    model = ItemKNN(neighbors=2, damping=1.0).fit(data)
    assert (model._likeness.toarray()[:, 4] > 0).tolist() == [True, True, False, False, False]
    assert (model._likeness.toarray()[:, 0] > 0).tolist() == [False, True, True, False, False]


def test_itemknn_likeness_is_read_off_the_neighbours():
    data = log([(0, 0, 0, 0), (0, 1, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 2, 0, 0)], items=3)
    answer = ItemKNN(damping=0).fit(data).similar_items([0], k=3)
    assert answer.items.tolist() == [[1, 2]]
    np.testing.assert_allclose(answer.scores[0], [1.0, 2**-0.5], rtol=1e-6)


# EASE.


def closed_form(matrix, l2) -> np.ndarray:
    """Equation 8 of the paper, in float64."""
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(matrix.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("l2", [1.0, 250.0])
@pytest.mark.parametrize("block", [1, 4, 7, 14, 1000])
def test_ease_is_the_closed_form(shop, binary, l2, block, monkeypatch):
    monkeypatch.setattr(ease, "BLOCK", block)
    matrix = np.asarray(shop.matrix(binary=binary).toarray(), np.float64)
    model = EASE(l2=l2, keep=None, binary=binary).fit(shop)
    expected = closed_form(matrix[:, :14], l2)  # nobody met the last item
    np.testing.assert_allclose(model._weights.toarray()[:14, :14], expected, rtol=1e-3, atol=1e-5)
    assert model._weights.toarray()[14].tolist() == [0] * 15
    asked = of_histories([3, 5, 5], [0])
    expected_scores = asked.matrix(15, None if binary else shop.kinds.weights).toarray()[:, :14] @ expected
    np.testing.assert_allclose(model.score(asked)[:, :14], expected_scores, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_ease_with_powers_is_the_closed_form_of_evened_rows_and_columns(shop, binary):
    matrix = np.asarray(shop.matrix(binary=binary).toarray(), np.float64)[:, :14]
    of_users, of_items = matrix.sum(1).clip(1e-12), matrix.sum(0)
    even = matrix / of_users[:, None] ** 0.25 / of_items**0.4
    weights = closed_form(even, 30.0 * np.square(even).sum() / np.square(matrix).sum())
    expected = weights * of_items**0.4 / of_items[:, None] ** 0.4
    model = EASE(l2=30.0, keep=None, binary=binary, user_power=0.25, item_power=0.4).fit(shop)
    np.testing.assert_allclose(model._weights.toarray()[:14, :14], expected, rtol=1e-3, atol=1e-5)
    asked = of_histories([3, 5, 5])
    worth = None if binary else shop.kinds.weights
    expected_scores = asked.matrix(15, worth).toarray()[:, :14] @ expected
    np.testing.assert_allclose(model.score(asked)[:, :14], expected_scores, rtol=1e-3, atol=1e-5)


def test_ease_minimises_what_it_says_it_minimises(shop):
    """No small change of B with an empty diagonal makes the objective (eq. 4) smaller."""
    matrix = np.asarray(shop.matrix(binary=True).toarray(), np.float64)[:, :14]
    weights = EASE(l2=30.0, keep=None).fit(shop)._weights.toarray()[:14, :14].astype(np.float64)

    def objective(b):
        return np.square(matrix - matrix @ b).sum() + 30 * np.square(b).sum()

    rng = np.random.default_rng(0)
    for _ in range(20):
        change = 0.01 * rng.standard_normal(weights.shape)
        np.fill_diagonal(change, 0)
        assert objective(weights + change) > objective(weights)


def test_ease_keeps_the_strongest_weights_of_each_row(shop):
    whole = EASE(l2=5.0, keep=None).fit(shop)._weights.toarray()
    kept = EASE(l2=5.0, keep=4).fit(shop)._weights.toarray()
    for row, (all_weights, some) in enumerate(zip(whole, kept, strict=True)):
        strongest = np.argsort(-np.abs(all_weights), kind="stable")[:4]
        expected = np.zeros(15)
        expected[strongest] = all_weights[strongest]
        np.testing.assert_array_equal(some, expected, err_msg=str(row))


def test_ease_says_what_to_do_where_float32_does_not_suffice():
    twins = log([(0, 0, 0, 0), (0, 1, 0, 0)], items=2)
    with pytest.raises(TooLarge, match=r"EASE: .* not positive definite in float32\. Raise l2 above 1e-30"):
        EASE(l2=1e-30).fit(twins)


def test_ease_is_refused_before_any_work_where_it_cannot_fit(shop):
    with pytest.raises(
        TooLarge, match=r"EASE on 14 items needs about .* GiB .*memory_gib allows 1e-09\..*take itemknn"
    ):
        EASE(memory_gib=1e-9).fit(shop)


# ALS.


@pytest.mark.parametrize("binary", [True, False])
def test_als_folds_a_history_in_by_least_squares(shop, binary):
    settings = ALS(dim=5, epochs=3, alpha=2.0, regularization=0.3, binary=binary)
    model = settings.fit(shop, run=RUN)
    factors = model.item_vectors().astype(np.float64)
    queries = Queries.of_users(shop)
    found = model.query_vectors(queries)
    matrix = np.asarray(shop.matrix(binary=binary).toarray(), np.float64)
    for user in range(0, 60, 7):
        confidence, preference = 1 + 2.0 * matrix[user], (matrix[user] > 0).astype(float)
        # Least squares with one equation per item and one per dimension, instead of the normal equations.
        rows = np.concatenate([factors * np.sqrt(confidence)[:, None], np.sqrt(0.3) * np.eye(5)])
        right = np.concatenate([np.sqrt(confidence) * preference, np.zeros(5)])
        np.testing.assert_allclose(found[user], np.linalg.lstsq(rows, right)[0], rtol=1e-4, atol=1e-5)


def test_als_folds_people_in_close_to_where_implicit_puts_them(shop):
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    settings = ALS(dim=4, epochs=30, alpha=1.5, regularization=0.2)
    model = settings.fit(shop, run=RUN)
    confidence = shop.matrix(binary=True)
    confidence.data = 1 + 1.5 * confidence.data
    with threadpool_limits(1, "blas"):
        theirs = AlternatingLeastSquares(
            factors=4,
            regularization=0.2,
            alpha=1.0,
            iterations=30,
            random_state=RUN.seed_of("als") % 2**31,
            num_threads=1,
        )
        theirs.fit(confidence, show_progress=False)
    np.testing.assert_allclose(model.item_vectors(), theirs.item_factors, rtol=1e-3, atol=1e-3)
    # Their users were solved against the items of the step before, ours against the last ones.
    np.testing.assert_allclose(model.query_vectors(Queries.of_users(shop)), theirs.user_factors, rtol=0.05, atol=0.02)


def test_als_refuses_a_regularization_of_zero():
    with pytest.raises(ValueError, match=r"regularization.*\n.*greater than 0"):
        ALS(regularization=0)
