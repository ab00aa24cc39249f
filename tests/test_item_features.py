"""Codes of what a catalogue says."""

import numpy as np

from foretaste.catalog import Categories, Category, Number, Table, Text, Time, Vector
from foretaste.item_features import ItemFeatures


def meanings(table: Table) -> list[set[str]]:
    return said(ItemFeatures.of(table), table)


def said(features: ItemFeatures, table: Table) -> list[set[str]]:
    codes = features.codes(table)
    assert len(codes) == len(table)
    return [{features.meanings[code] for code in row} for row in codes.lists()]


def test_categories_count_as_they_are_and_rare_ones_vanish():
    table = Table(
        4,
        {
            "brand": Category.from_list(["a", "a", "a", None]),
            "genres": Categories.from_lists([["x", "y"], ["x"], ["x"], []]),
            "id": Category.from_list(["1", "2", "3", "4"]),
        },
    )
    assert meanings(table) == [{"brand: a", "genres: x"}] * 3 + [set()]


def test_texts_count_by_their_words_and_words_of_everybody_vanish():
    texts = [*["The red Nail-Lacquer of it"] * 3, *["the blue_soap"] * 3, *["the"] * 14]
    found = meanings(Table(20, {"title": Text.from_list(texts)}))
    assert found[0] == {"title: red", "title: nail", "title: lacquer"}
    assert found[3] == {"title: blue", "title: soap"}
    assert found[10] == set()


def test_numbers_count_by_the_part_they_fall_into_and_missing_ones_not():
    values = np.concatenate([np.arange(100.0), [np.nan]])
    found = meanings(Table(101, {"price": Number(values)}))
    assert found[0] == {"price: part 0"}
    assert found[99] == {"price: part 9"}
    assert found[100] == set()
    assert len({frozenset(row) for row in found[:100]}) == 10


def test_a_column_of_equal_numbers_or_of_none_is_no_error():
    table = Table(5, {"same": Number(np.ones(5)), "none": Number(np.full(5, np.nan))})
    assert meanings(table) == [{"same: part 1"}] * 5


def test_what_cannot_be_read_is_left_out():
    table = Table(3, {"look": Vector(np.ones((3, 2), np.float32)), "since": Time(np.arange(3))})
    assert meanings(table) == [set()] * 3
    assert meanings(Table(2)) == [set(), set()]


def test_another_table_is_read_as_the_first_one():
    table = Table(
        6,
        {
            "brand": Category.from_list(["a", "a", "a", "b", "b", "b"]),
            "price": Number(np.array([1.0, 1, 1, 9, 9, 9])),
            "title": Text.from_list(["red", "green", "blue", "red", "green", "blue"]),
        },
    )
    features = ItemFeatures.of(table)
    other = Table(2, {"price": Number(np.array([1.0, 100])), "brand": Category.from_list(["b", "new"])})
    largest = {each for each in said(features, table)[5] if each.startswith("price")}
    assert said(features, other) == [{"brand: b", "price: part 1"}, largest]
    assert features.codes(Table(2)).lists() == [[], []]
