"""Ranks and metrics: by hand, against ranx, and what the lists are like."""

import warnings

import numpy as np
import pytest

from foretaste.catalog import Catalog, Categories, Category, Table
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError
from foretaste.evaluation import lists
from foretaste.evaluation.metrics import METRICS, cutoffs, measured, primary, ranks
from foretaste.ragged import PAD, Ragged
from foretaste.vocab import Vocab


def rank_of(items, scores, targets):
    found = ranks(np.array(items, np.int32), np.array(scores, np.float32), Ragged.from_lists(targets))
    return found.lists()


def value(metric, rank, targets, k):
    return METRICS[metric](Ragged.from_lists([rank]), np.array([targets]), k)[0]


def test_rank_is_the_place_in_the_list():
    assert rank_of([[7, 3, 9]], [[3, 2, 1]], [[7]]) == [[1]]
    assert rank_of([[7, 3, 9]], [[3, 2, 1]], [[3]]) == [[2]]


def test_item_not_listed_is_a_miss():
    assert rank_of([[7, 3, 9]], [[3, 2, 1]], [[4]]) == [[0]]


def test_equal_scores_stand_ahead_of_the_target():
    assert rank_of([[7, 3, 9, 1]], [[2, 2, 2, 1]], [[7]]) == [[3]]


def test_tie_that_runs_past_the_list_is_a_miss():
    assert rank_of([[7, 3, 9]], [[3, 1, 1]], [[3]]) == [[0]]
    assert rank_of([[7, 3, 9]], [[3, 1, 1]], [[9]]) == [[0]]


def test_tie_at_the_end_of_all_there_is_counts():
    assert rank_of([[7, 3, 9, PAD]], [[3, 1, 1, -np.inf]], [[3]]) == [[3]]


def test_constant_scores_earn_nothing():
    items, scores = [[0, 1, 2, 3]], [[0.5, 0.5, 0.5, 0.5]]
    for target in range(4):
        rank = Ragged.from_lists(rank_of(items, scores, [[target]]))
        assert all(values[0] == 0 for values in measured(rank, np.array([1]), (1, 3)).values())


def test_scores_that_are_not_numbers_earn_nothing():
    assert rank_of([[7, 3, 9]], [[np.nan, np.nan, np.nan]], [[7]]) == [[0]]


def test_targets_of_one_query_do_not_push_each_other_down():
    # 7, 3 and 9 tie; the only other item of the tie is 9, so the targets take the places 2 and 3.
    assert rank_of([[7, 3, 9, 1]], [[2, 2, 2, 1]], [[7, 3]]) == [[2, 3]]


def test_perfect_list_of_tied_targets_is_perfect():
    rank = Ragged.from_lists(rank_of([[7, 3, 9]], [[2, 2, 1]], [[3, 7]]))
    assert sorted(rank.lists()[0]) == [1, 2]
    assert measured(rank, np.array([2]), (2,))["ndcg@2"][0] == 1


def test_a_list_reordered_by_hand_is_judged_by_its_order():
    assert rank_of([[7, 3, 9, 1]], [[1, 5, 3, 0]], [[9]]) == [[3]]


def test_padding_is_never_a_hit():
    assert rank_of([[7, PAD]], [[1, -np.inf]], [[PAD]]) == [[0]]


def test_each_query_has_its_own_targets():
    assert rank_of([[1, 2, 3], [1, 2, 3], [1, 2, 3]], [[3, 2, 1]] * 3, [[2], [], [1, 5]]) == [[2], [], [1, 0]]


def test_lists_and_targets_of_different_length_are_refused():
    with pytest.raises(DataError, match=r"do not match"):
        rank_of([[1, 2]], [[2, 1]], [[1], [2]])


# Three targets at the places 1 and 4 of the list and nowhere; k = 5 and k = 2.
@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        ("precision", 5, 2 / 5),
        ("recall", 5, 2 / 3),
        ("hit", 5, 1.0),
        ("ndcg", 5, (1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3) + 1 / np.log2(4))),
        ("mrr", 5, 1.0),
        ("map", 5, (1 / 1 + 2 / 4) / 3),
        ("precision", 2, 1 / 2),
        ("recall", 2, 1 / 3),
        ("ndcg", 2, 1 / (1 + 1 / np.log2(3))),
        ("map", 2, 1 / 3),
    ],
)
def test_metrics_by_hand(metric, k, expected):
    assert value(metric, [4, 0, 1], 3, k) == pytest.approx(expected, abs=1e-12)


def test_ideal_list_has_no_more_hits_than_places_and_no_more_than_targets():
    assert value("ndcg", [1, 2, 0, 0], 4, 2) == 1
    assert value("ndcg", [1], 1, 10) == 1
    assert value("ndcg", [2], 1, 10) == pytest.approx(1 / np.log2(3))


def test_unknown_targets_are_misses_in_every_denominator():
    # One target found at place 1, one outside the vocabulary.
    assert value("recall", [1], 2, 5) == 0.5
    assert value("map", [1], 2, 5) == 0.5
    assert value("ndcg", [1], 2, 5) == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert value("hit", [], 1, 5) == 0


def test_query_without_target_has_no_value():
    assert all(np.isnan(value(metric, [], 0, 5)) for metric in METRICS)


def test_mrr_is_of_the_first_hit_within_k():
    assert value("mrr", [5, 3], 2, 10) == pytest.approx(1 / 3)
    assert value("mrr", [5, 3], 2, 2) == 0


def test_metrics_agree_with_ranx(monkeypatch):
    rng = np.random.default_rng(5)
    queries, items, length = 60, 40, 21
    found = np.stack([rng.permutation(items)[:length] for _ in range(queries)]).astype(np.int32)
    scores = -np.sort(-rng.random((queries, length)).astype(np.float32), axis=1)
    targets = [rng.permutation(items)[: rng.integers(1, 30)].tolist() for _ in range(queries)]
    rank = ranks(found, scores, Ragged.from_lists(targets))
    ours = measured(rank, np.array([len(each) for each in targets]), (1, 5, 10, 20))

    called = {
        "ndcg": "ndcg",
        "hit": "hit_rate",
        "recall": "recall",
        "precision": "precision",
        "mrr": "mrr",
        "map": "map",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, about caching and types
        import numba

        # Compiling takes most of a minute; as plain Python the same code takes a moment for so few queries.
        monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
        import ranx

        qrels = ranx.Qrels({str(q): {str(item): 1 for item in row} for q, row in enumerate(targets)})
        run = ranx.Run(
            {
                str(q): {str(item): float(length - place) for place, item in enumerate(row)}
                for q, row in enumerate(found.tolist())
            }
        )
        names = [f"{theirs}@{k}" for theirs in called.values() for k in (1, 5, 10, 20)]
        ranx.evaluate(qrels, run, names, return_mean=False)
        for name, theirs in called.items():
            for k in (1, 5, 10, 20):
                of_query = run.scores[f"{theirs}@{k}"]
                expected = [of_query[str(q)] for q in range(queries)]
                np.testing.assert_allclose(ours[f"{name}@{k}"], expected, atol=1e-9, err_msg=f"{name}@{k}")


def test_cutoffs_are_distinct_and_ascending():
    assert cutoffs([20, 5, 5]) == (5, 20)
    assert cutoffs(10) == (10,)


@pytest.mark.parametrize("k", [0, [5, 0], [], [2.5], [True]])
def test_cutoffs_below_one_are_refused(k):
    with pytest.raises(ConfigError, match="k must be whole numbers of at least 1"):
        cutoffs(k)


def test_primary_metric_is_ndcg_at_ten_where_there_is_one():
    assert primary((5, 10, 20)) == "ndcg@10"
    assert primary((1, 50)) == "ndcg@50"


# ── what the lists are like ──────────────────────────────────────────────────────────────────────────────────────────


def shop(item, *, items=4, columns=None):
    users = Vocab.from_ids(range(10))
    catalog = None if columns is None else Catalog(Table(items, columns), Table(10))
    user = np.arange(len(item)) % 10
    return Dataset.from_arrays(users, Vocab.from_ids(range(items)), user, np.array(item), catalog=catalog)


def test_coverage_is_the_share_of_the_catalogue_that_is_shown():
    assert lists.coverage(np.array([3, 0, 1, 0])) == 0.5


def test_gini_is_zero_for_equal_and_near_one_for_a_single_item():
    assert lists.gini(np.array([2, 2, 2, 2])) == pytest.approx(0)
    assert lists.gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert lists.gini(np.array([1, 3])) == pytest.approx(1 / 4)
    assert np.isnan(lists.gini(np.zeros(3, np.int64)))


def test_overlap_is_one_for_equal_lists_and_zero_for_disjoint_ones():
    assert lists.overlap(np.array([3, 3, 0]), 6, 3) == 1
    assert lists.overlap(np.array([1, 1, 1, 1]), 4, 2) == 0
    # Lists {0, 1} and {0, 2} share half of their items.
    assert lists.overlap(np.array([2, 1, 1]), 4, 2) == 0.5


def test_novelty_is_self_information_in_bits():
    popularity = lists.popularity(shop([0, 0, 0, 0, 1, 1, 2, 2]))
    assert popularity.tolist() == [4, 2, 2, 0]
    novelty = lists.novelty(np.array([[0, 1], [0, PAD], [3, PAD], [PAD, PAD]], np.int32), popularity)
    np.testing.assert_allclose(novelty, [1.5, 1, 3, np.nan])


def test_average_popularity_counts_training_events():
    popularity = np.array([4, 2, 2, 0])
    listed = np.array([[0, 1], [3, PAD]], np.int32)
    np.testing.assert_allclose(lists.average_popularity(listed, popularity), [3, 0])


def test_long_tail_is_what_is_outside_the_first_half_of_the_events():
    assert lists.long_tail(np.array([1, 6, 3, 2, 0])).tolist() == [True, False, True, True, True]
    assert lists.long_tail(np.array([3, 5, 3, 0])).tolist() == [False, False, True, True]


def test_diversity_by_categories_is_one_minus_their_cosine():
    genres = Categories.from_lists([["a"], ["a"], ["a", "b"], []])
    vectors = lists.item_vectors(shop([0, 1, 2, 3], columns={"genres": genres}))
    assert vectors.of == "categories (genres)"
    listed = np.array([[0, 1], [0, 2], [0, 3], [0, PAD]], np.int32)
    np.testing.assert_allclose(lists.diversity(listed, vectors), [0, 1 - 1 / np.sqrt(2), np.nan, np.nan], atol=1e-6)


def test_diversity_of_three_is_the_mean_over_pairs():
    kind = Category.from_list(["a", "a", "b", None])
    vectors = lists.item_vectors(shop([0, 1, 2, 3], columns={"kind": kind}))
    assert lists.diversity(np.array([[0, 1, 2]], np.int32), vectors)[0] == pytest.approx(2 / 3)


def test_diversity_without_categories_comes_from_shared_users():
    data = Dataset.from_arrays(
        Vocab.from_ids(range(2)), Vocab.from_ids(range(3)), np.array([0, 0, 1]), np.array([0, 1, 2])
    )
    vectors = lists.item_vectors(data)
    assert vectors.of == "co-occurrence in training"
    np.testing.assert_allclose(lists.diversity(np.array([[0, 1], [0, 2]], np.int32), vectors), [0, 1], atol=1e-6)


def test_hashed_likeness_is_close():
    rng = np.random.default_rng(0)
    users, items = 2000, 80
    matrix = rng.random((users, items)) < (0.02 + rng.random(items) * 0.3)
    user, item = np.nonzero(matrix)
    data = Dataset.from_arrays(Vocab.from_ids(range(users)), Vocab.from_ids(range(items)), user, item)
    unit = matrix / np.linalg.norm(matrix, axis=0)
    listed = np.stack([rng.permutation(items)[:10] for _ in range(500)]).astype(np.int32)
    exact = [1 - ((unit[:, row].T @ unit[:, row]).sum() - 10) / 90 for row in listed]
    assert np.mean(lists.diversity(listed, lists.item_vectors(data))) == pytest.approx(np.mean(exact), abs=0.03)
