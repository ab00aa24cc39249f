"""Typed tables: missing stays missing, rows can be taken, and everything survives storage."""

import numpy as np
import pytest

from foretaste.catalog import NO_TIME, Catalog, Categories, Category, Number, Table, Text, Time, Vector
from foretaste.errors import DataError, UnknownName
from foretaste.events import Columns, read_events

COLUMNS = {
    "category": (Category.from_list(["x", None, "y"]), ["x", None, "y"], None),
    "categories": (Categories.from_lists([["b", "a"], [], ["a"]]), [["b", "a"], [], ["a"]], []),
    "number": (Number(np.array([1.5, np.nan, 3.0])), [1.5, None, 3.0], None),
    "text": (Text.from_list(["häh", None, "two\nlines"]), ["häh", "", "two\nlines"], ""),
    "time": (Time(np.array([5, NO_TIME, 7])), [5, None, 7], None),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_keeps_its_values_and_says_what_is_missing(kind):
    column, expected, _ = COLUMNS[kind]
    assert column.kind == kind
    assert len(column) == 3
    assert column.lists() == expected


@pytest.mark.parametrize("kind", COLUMNS)
def test_rows_are_taken_in_any_order_and_pad_is_a_missing_one(kind):
    column, expected, missing = COLUMNS[kind]
    taken = Table(3, {"c": column}).take(np.array([2, -1, 0, 0]))
    assert taken["c"].lists() == [expected[2], missing, expected[0], expected[0]]
    assert column.lists() == expected  # the original is as it was
    masked = Table(3, {"c": column}).take(np.array([True, False, True]))
    assert masked["c"].lists() == [expected[0], expected[2]]


@pytest.mark.parametrize("kind", COLUMNS)
def test_pad_works_on_a_table_without_rows(kind):
    column, _, missing = COLUMNS[kind]
    nothing = column.take(np.empty(0, np.int64))
    assert len(nothing) == 0
    assert nothing.take(np.array([-1, -1])).lists() == [missing, missing]


def test_vectors_keep_their_width_and_miss_as_nan():
    vector = Vector(np.array([[1, 2], [3, 4]], np.float32))
    taken = vector.take(np.array([1, -1])).lists()
    assert taken[0] == [3.0, 4.0]
    assert np.isnan(taken[1]).all()


def test_a_table_survives_storage_whatever_its_columns_are_called():
    columns = {f"../{kind} 🛒": column for kind, (column, _, _) in COLUMNS.items()}
    columns["vector"] = Vector(np.eye(3, dtype=np.float32))
    table = Table(3, columns)
    again = Table.from_arrays(table.schema(), table.arrays())
    assert list(again) == list(table)
    for name in table:
        assert again[name].lists() == table[name].lists()
        assert again[name].kind == table[name].kind


def test_columns_of_other_length_are_refused():
    with pytest.raises(DataError, match="'price' has 2 rows where the table has 3"):
        Table(3, {"price": Number(np.zeros(2))})


def test_an_unknown_column_offers_the_nearest():
    with pytest.raises(UnknownName, match="Unknown column 'prise' - did you mean 'price'"):
        Table(1, {"price": Number(np.zeros(1))})["prise"]


def test_columns_come_and_go():
    table = Table(3).with_column("a", COLUMNS["number"][0]).with_column("b", COLUMNS["text"][0])
    assert list(table.without("a")) == ["b"]
    assert list(table.of_kind("number", "time")) == ["a"]
    assert "a" in table
    assert "c" not in table


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": COLUMNS["text"][0], "Title": COLUMNS["category"][0]}, ["x", "", "y"]),
        ({"whatever": COLUMNS["text"][0]}, ["häh", "", "two\nlines"]),
        ({"price": COLUMNS["number"][0]}, None),
    ],
)
def test_a_title_is_taken_where_there_is_one(columns, expected):
    assert Catalog(Table(3, columns), Table(0)).titles() == expected


def test_a_table_may_call_its_key_what_the_log_calls_it(tmp_path):
    (tmp_path / "log.csv").write_text("Kunde;Artikel;Datum\nk1;a;01.02.2026\nk2;b;02.02.2026\n")
    (tmp_path / "items.csv").write_text("Artikel;Name\na;Bread\nb;Wine\nc;Soap\n")
    (tmp_path / "users.csv").write_text("Kunde;Stadt\nk1;Bonn\nk2;Ulm\n")
    data = read_events(
        tmp_path / "log.csv",
        columns=Columns(user="Kunde", item="Artikel", time="Datum"),
        items=tmp_path / "items.csv",
        users=tmp_path / "users.csv",
    )
    assert data.items.lists() == ["a", "b", "c"]
    assert data.catalog.titles() == ["Bread", "Wine", "Soap"]
    assert data.catalog.users["Stadt"].lists() == ["Bonn", "Ulm"]
