"""Queries, holdouts and answers: rows keep together whatever is taken of them."""

from dataclasses import fields

import numpy as np
import polars as pl
import pytest

from foretaste.catalog import Number, Table
from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.query import Holdout, Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.vocab import Vocab


@pytest.fixture
def full() -> Queries:
    """Three queries with all that one can have; the middle one is empty."""
    history = Ragged.from_lists([[4, 2, 4], [], [1, 0]])
    return Queries(
        history,
        times=np.arange(5),
        kinds=np.array([0, 1, 0, 1, 1], np.int8),
        values=np.arange(5, dtype=np.float32) / 2,
        session_start=np.array([1, 0, 2]),
        user=np.array([7, PAD, 9], np.int32),
        user_features=Table(3, {"age": Number(np.array([20.0, 30, 40]))}),
        context=Table(3, {"hour": Number(np.array([1.0, 2, 3]))}),
        now=np.array([100, 200, 300]),
    )


def test_histories_of_outside_ids_name_the_unknown():
    items = Vocab.from_ids(["a", "b", "c"])
    queries, unknown = Queries.of_histories(items, [["c", "x", "a"], [], ["y", "y"]])
    assert queries.history.lists() == [[2, 0], [], []]
    assert unknown == [["x"], [], ["y", "y"]]
    assert len(Queries.of_histories(items, [])[0]) == 0


def test_known_users_ask_after_all_their_events(shop):
    queries = Queries.of_users(shop)
    assert len(queries) == len(shop.users)
    assert queries.history.lists() == shop.histories.lists()
    assert queries.now.tolist() == [int(shop.time[shop.user == user].max()) for user in range(len(shop.users))]
    some = Queries.of_users(shop, np.array([5, 2]))
    assert some.user.tolist() == [5, 2]
    for part in ("time", "kind", "value"):
        expected = np.concatenate([getattr(shop, part)[shop.user == user] for user in (5, 2)])
        assert np.array_equal(getattr(some, f"{part}s"), expected, equal_nan=part == "value")
    assert some.user_features["age"].lists() == [shop.catalog.users["age"].lists()[user] for user in (5, 2)]


def test_known_users_are_in_the_session_of_their_last_event(shop):
    starts = Queries.of_users(shop).session_start
    for user, start in enumerate(starts.tolist()):
        mine = shop.session[shop.user == user]
        assert (mine[start:] == mine[-1]).all()
        assert start == 0 or mine[start - 1] != mine[-1]


def test_a_user_without_events_asks_at_the_last_moment_of_the_data():
    vocab = Vocab(np.arange(3))
    data = Dataset.from_arrays(vocab, vocab, np.array([1, 1]), np.array([0, 1]), time=np.array([5, 9]))
    assert Queries.of_users(data).now.tolist() == [9, 9, 9]
    assert Queries.of_users(data).history.lists() == [[], [0, 1], []]


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True]), slice(0, 2), np.array([], np.int64)])
def test_whatever_is_taken_keeps_together(full, rows):
    taken = full.take(rows)
    expected = np.arange(3)[rows]
    assert taken.history.lists() == [full.history.lists()[row] for row in expected]
    for name in ("times", "kinds", "values"):
        whole = full.history.with_values(getattr(full, name)).lists()
        assert taken.history.with_values(getattr(taken, name)).lists() == [whole[row] for row in expected]
    for name in ("session_start", "user", "now"):
        assert getattr(taken, name).tolist() == getattr(full, name)[expected].tolist()
    assert taken.user_features["age"].lists() == [20.0 + 10 * row for row in expected]
    assert taken.context["hour"].lists() == [1.0 + row for row in expected]


def test_taking_carries_every_field(full):
    assert all(getattr(full.take(slice(None)), each.name) is not None for each in fields(Queries))


def test_dropping_events_moves_the_start_of_the_session(full):
    kept = full.where(np.array([False, True, True, True, False]))
    assert kept.history.lists() == [[2, 4], [], [1]]
    assert kept.times.tolist() == [1, 2, 3]
    assert kept.session_start.tolist() == [0, 0, 1]
    assert kept.now is full.now


def test_the_matrix_counts_once_or_adds_weights_up(full):
    assert full.matrix(5).toarray().tolist() == [[0, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert full.matrix(5, (1.0, 3.0)).toarray().tolist() == [[0, 0, 3, 0, 2], [0, 0, 0, 0, 0], [3, 3, 0, 0, 0]]
    assert full.matrix(5, (0.0, 3.0)).nnz == 3


def test_the_matrix_leaves_the_order_of_histories_alone(full):
    full.matrix(5)
    full.matrix(5, (1.0, 3.0))
    assert full.history.lists() == [[4, 2, 4], [], [1, 0]]


def test_a_holdout_has_targets_for_each_query(full):
    with pytest.raises(DataError, match="3 queries have 2 rows of targets"):
        Holdout(full, Ragged.from_lists([[1], [2]]))


def test_rows_of_a_holdout_keep_together(full):
    holdout = Holdout(
        full,
        Ragged.from_lists([[1], [2, 3], []]),
        unknown=np.array([0, 1, 2], np.int32),
        slices={"new": np.array([True, False, True])},
        filter_seen=False,
        name="validation",
    )
    for rows in (np.array([2, 1]), np.array([False, True, True])):
        part = holdout.take(rows)
        expected = np.arange(3)[rows]
        assert part.targets.lists() == [[[1], [2, 3], []][row] for row in expected]
        assert part.unknown.tolist() == expected.tolist()
        assert part.slices["new"].tolist() == [row != 1 for row in expected]
        assert part.queries.user.tolist() == full.user[expected].tolist()
        assert (part.filter_seen, part.name) == (False, "validation")


def test_an_answer_becomes_a_frame_with_a_row_per_item():
    answer = TopK(
        np.array([[2, 0], [1, PAD]], np.int32),
        np.array([[0.5, 0.25], [0.75, -np.inf]], np.float32),
        np.array([[0, 1], [0, PAD]], np.int8),
        ("itemknn", "popularity"),
        Vocab.from_ids(["a", "b", "c"]),
        labels=["ann", "bob"],
        columns={"buys": np.array([[0.1, 0.2], [0.3, 0.0]])},
    )
    assert answer.lists() == [["c", "a"], ["b"]]
    assert answer.frame().to_dict(as_series=False) == {
        "user_id": ["ann", "ann", "bob"],
        "item_id": ["c", "a", "b"],
        "score": [0.5, 0.25, 0.75],
        "rank": [1, 2, 1],
        "source": ["itemknn", "popularity", "itemknn"],
        "buys": [0.1, 0.2, 0.3],
    }
    assert answer.frame().schema["rank"] == pl.Int32
    assert "itemknn" in answer._repr_html_()


def test_an_answer_to_nobody_is_an_empty_frame():
    nothing = TopK(
        np.empty((0, 3), np.int32), np.empty((0, 3), np.float32), np.empty((0, 3), np.int8), ("x",), Vocab.from_ids([1])
    )
    assert nothing.frame().shape == (0, 5)
    assert nothing.lists() == []


def test_events_that_do_not_say_their_kind_count_as_the_weakest():
    queries, _ = Queries.of_histories(Vocab.from_ids(["a", "b"]), [["b"]])
    assert queries.matrix(2, (2.0, 5.0)).toarray().tolist() == [[0.0, 2.0]]
