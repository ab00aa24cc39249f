"""Rows of unequal length, against plain Python lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.ragged import PAD, Ragged

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=8)


@given(ROWS)
def test_lists_come_back_as_they_were(rows):
    ragged = Ragged.from_lists(rows)
    assert ragged.lists() == rows
    assert len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.row_of_value().tolist() == [number for number, row in enumerate(rows) for _ in row]


@given(ROWS, st.data())
def test_rows_are_taken_by_index_mask_and_slice(rows, data):
    ragged = Ragged.from_lists(rows)
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5)) if rows else []
    assert ragged.take(np.array(index, np.int64)).lists() == [rows[each] for each in index]
    mask = np.array([len(row) % 2 == 0 for row in rows], bool)
    assert ragged.take(mask).lists() == [row for row in rows if len(row) % 2 == 0]
    assert ragged.take(slice(1, None, 2)).lists() == rows[1::2]


@given(ROWS, st.integers(0, 7))
def test_the_last_of_each_row_and_a_condition(rows, count):
    ragged = Ragged.from_lists(rows)
    assert ragged.last(count).lists() == [row[max(0, len(row) - count) :] for row in rows]
    kept = ragged.where(ragged.values % 2 == 1)
    assert kept.lists() == [[each for each in row if each % 2] for row in rows]


@given(ROWS, st.integers(0, 7))
def test_padding_stands_on_the_asked_side_and_the_latest_stay(rows, width):
    ragged = Ragged.from_lists(rows)
    latest = [row[max(0, len(row) - width) :] for row in rows]
    right, left = ragged.padded(width), ragged.padded(width, left=True)
    assert right.shape == left.shape == (len(rows), width)
    assert right.tolist() == [row + [PAD] * (width - len(row)) for row in latest]
    assert left.tolist() == [[PAD] * (width - len(row)) + row for row in latest]


def test_without_a_width_the_longest_row_sets_it():
    assert Ragged.from_lists([[1], [], [2, 3]]).padded(fill=-2).tolist() == [[1, -2], [-2, -2], [2, 3]]
    assert Ragged.empty(3).padded().shape == (3, 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=20))
def test_grouping_by_row_keeps_the_order_within_a_row(pairs):
    row = np.array([each for each, _ in pairs], np.int64)
    values = np.array([each for _, each in pairs], np.int32)
    expected = [[value for at, value in pairs if at == number] for number in range(5)]
    assert Ragged.from_rows(row, values, 5).lists() == expected


def test_other_values_share_the_rows():
    ragged = Ragged.from_lists([[1, 2], [], [3]])
    assert ragged.with_values(np.array([0.5, 1.5, 2.5])).lists() == [[0.5, 1.5], [], [2.5]]


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_nothing_at_all_is_fine(rows):
    ragged = Ragged.from_lists(rows)
    assert ragged.take(np.arange(len(rows))).lists() == rows
    assert ragged.positions(np.arange(len(rows))).tolist() == []
