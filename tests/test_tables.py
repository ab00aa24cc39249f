"""Tables of items and users: typed, aligned with the vocabularies, nothing left out in silence."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from foretaste.catalog import Categories, Category, Number, Text, Time, Vector
from foretaste.errors import DataError, UnknownName
from foretaste.events import read_events
from foretaste.events.tables import read_item_table, read_table
from foretaste.vocab import Vocab

ITEMS = Vocab.from_ids(["a", "b", "c"])


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_rows_stand_where_the_vocabulary_has_them_and_the_rest_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", "sku,price\nc,3\na,1\nz,9\n,4\na,5\n")
    messages: list[str] = []
    table = read_table(path, ITEMS, "item", log=lambda message, numbers=None: messages.append(message))
    assert table["price"].lists() == [1.0, None, 3.0]
    text = "\n".join(messages)
    for part in (
        "1 rows without item were left out",
        "1 rows are about a item that has one already",
        "key 'sku', columns: price (number)",
        "1 rows about items without events were left out",
        "1 of 3 items have no row",
    ):
        assert part in text


def test_items_without_events_join_the_vocabulary_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", "item_id,price\nB0,2\nc,3\nA0,1\n")
    vocab, table = read_item_table(path, ITEMS)
    assert vocab.lists() == ["a", "b", "c", "A0", "B0"]
    assert table["price"].lists() == [None, None, 3.0, 1.0, 2.0]


def test_integer_items_become_text_with_a_table_of_text(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", "item_id,price\n7,2\nx,3\n")
    vocab, table = read_item_table(path, Vocab.from_ids([5, 7]))
    assert vocab.lists() == ["5", "7", "x"]
    assert table["price"].lists() == [None, 2.0, 3.0]


def test_a_log_with_tables_has_a_catalogue(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", "user,item\n2,10\n1,11\n")
    items = pl.DataFrame({"item_id": [11, 10, 12], "title": ["eleven", "ten", "twelve"]})
    users = write(tmp_path / "users.csv", "id,age\n1,30\n2,20\n3,9\n")
    data = read_events(events, items=items, users=users)
    assert data.items.lists() == [10, 11, 12]
    assert data.catalog.titles() == ["ten", "eleven", "twelve"]
    assert data.catalog.users["age"].lists() == [30.0, 20.0]


def test_a_table_about_others_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", "item_id,price\nx,2\n")
    for read in (lambda: read_table(path, ITEMS, "item"), lambda: read_item_table(path, ITEMS)):
        with pytest.raises(DataError, match="none of the items of the log: its first is 'x', the log's is 'a'"):
            read()


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", "number,price\na,2\n")
    with pytest.raises(DataError, match="no column that looks like the item; it has number, price"):
        read_table(path, ITEMS, "item")
    with pytest.raises(UnknownName, match="'numbr' - did you mean 'number'"):
        read_table(path, ITEMS, "item", key="numbr")
    assert read_table(path, ITEMS, "item", key="number")["price"].lists() == [2.0, None, None]


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no header"):
        read_table(write(tmp_path / "items.csv", "a,2\nb,3\n"), ITEMS, "item")


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("brand", ["acme", "acme", "zeta", "acme"], Category),
        ("colour", ["red", "blue", "green", "black"], Category),
        ("genres", ["Drama|War", "War", "Drama|Comedy", "Comedy"], Categories),
        ("tags", ["a; b", "b", "a; b; c", "c"], Categories),
        ("genre", ["Action, Comedy", "Comedy, Drama", "Action", "Drama, Action"], Categories),
        ("labels", ['["x", "y"]', '["y"]', "[]", '["x"]'], Categories),
        ("price", ["1", "2.5", "", "1e3"], Number),
        ("released", ["2020-01-01", "2021-05-05", "", "1999-12-31"], Time),
        ("vector", ["[0.1, 0.2]", "[1, 2]", "[3, 4]", "[5, 6]"], Vector),
        ("title", ["Tea", "Cup", "Pot", "Jug"], Text),
        ("plot", ["He goes, she comes.", "A tea, a cup.", "War, then peace, then war.", "Nothing, really."], Text),
        ("blurb", ["<p>Tea &amp; milk</p>", "<p>Tea &amp; ice</p>", "Ice", "<p>Milk &amp; ice</p>"], Text),
        ("groups", ["Home &amp; Garden|Toys", "Toys", "Home &amp; Garden", "Toys|Music"], Categories),
        ("group", ["Home &amp; Garden", "Arts &amp; Crafts", "Home &amp; Garden", "Arts &amp; Crafts"], Category),
        ("grade", ["<none>", "a", "<none>", "a"], Category),
        ("remark", [f"all different words number {n} of them" for n in range(4)], Text),
    ],
)
def test_types_are_guessed(name: str, values: list[str], kind: type) -> None:
    vocab = Vocab.from_ids(range(len(values)))
    source = pl.DataFrame({"item": list(range(len(values))), name: [each or None for each in values]})
    messages: list[str] = []
    table = read_table(source, vocab, "item", log=lambda message, numbers=None: messages.append(message))
    assert isinstance(table[name], kind)
    assert f"{name} ({kind.kind}" in messages[0]


def test_guessed_values_are_right(tmp_path: Path) -> None:
    source = pl.DataFrame(
        {
            "item": ["c", "a"],
            "genres": ["War|Drama", "Drama"],
            "parts": [["x", "y"], ["y"]],
            "vector": [[1.0, 2.0], None],
            "released": ["2020-01-01", None],
            "sold": [True, False],
        }
    )
    table = read_table(source, ITEMS, "item")
    assert table["genres"].lists() == [["Drama"], [], ["War", "Drama"]]
    assert table["parts"].lists() == [["y"], [], ["x", "y"]]
    np.testing.assert_array_equal(table["vector"].values, [[np.nan] * 2, [np.nan] * 2, [1, 2]])
    assert table["released"].lists() == [None, None, 1_577_836_800_000]
    assert table["sold"].lists() == ["false", None, "true"]
