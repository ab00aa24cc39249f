"""What was shown: read beside the events, aligned with their vocabularies."""

from pathlib import Path

import pytest

from foretaste.dataset import Dataset
from foretaste.errors import DataError, UnknownName
from foretaste.events import read_events
from foretaste.events.impressions import ImpressionColumns, read_impressions

HEADER = "request_id,user_id,item_id,timestamp,position,page,click,purchase\n"
ROWS = "r2,u1,b,1700000100,2,home,1,0\nr2,u1,a,1700000100,1,home,0,0\nr1,u2,z,1700000000,1,cart,0,\n"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    path = tmp_path / "events.csv"
    path.write_text("user,item,time\nu1,a,1700000000\nu1,b,1700000001\nu2,a,1700000002\n")
    return read_events(path)


def read(tmp_path: Path, data: Dataset, content: str, **options: object) -> tuple[Dataset, str]:
    path = tmp_path / "shown.csv"
    path.write_text(content)
    messages: list[str] = []
    found = read_impressions(path, data, log=lambda message, numbers=None: messages.append(message), **options)
    return found, "\n".join(messages)


def test_shown_items_stand_in_the_order_of_request_and_position(tmp_path: Path, data: Dataset) -> None:
    found, text = read(tmp_path, data, HEADER + ROWS)
    shown = found.impressions
    assert [found.items[each] for each in shown.item] == ["z", "a", "b"]
    assert [found.users[each] for each in shown.user] == ["u2", "u1", "u1"]
    assert shown.position.tolist() == [0, 0, 1]
    assert shown.request.tolist() == [0, 1, 1]
    assert shown.time.tolist() == [1_700_000_000_000, 1_700_000_100_000, 1_700_000_100_000]
    assert {name: label.tolist() for name, label in shown.labels.items()} == {
        "click": [0, 0, 1],
        "purchase": [-1, 0, 0],
    }
    assert shown.context["page"].lists() == ["cart", "home", "home"]
    assert "labels: click, purchase; further columns: page" in text


def test_items_never_met_join_the_vocabulary_and_strangers_are_anonymous(tmp_path: Path, data: Dataset) -> None:
    found, text = read(
        tmp_path, data, HEADER + ROWS + "r3,nobody,a,1700000200,1,home,0,0\nr4,,b,1700000300,1,home,0,0\n"
    )
    assert found.items.lists() == ["a", "b", "z"]
    assert found.impressions.user.tolist()[-2:] == [-1, -1]
    assert "1 items that were shown and never met were added" in text
    assert "1 users who were shown something have no events" in text


def test_without_positions_the_order_of_the_rows_counts(tmp_path: Path, data: Dataset) -> None:
    content = "request_id,user_id,item_id,timestamp,click\n2,u1,b,1,1\n1,u1,a,1,0\n2,u1,a,1,0\n"
    shown = read(tmp_path, data, content)[0].impressions
    assert shown.position.tolist() == [0, 0, 1]
    assert shown.item.tolist() == [0, 1, 0]


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path, data: Dataset) -> None:
    last = "r9,u1,a,1700000000,1,home,0,0\n"
    bad = ",u1,a,1700000000,1,home,0,0\nr9,u1,,1700000000,1,home,0,0\nr9,u1,a,,1,home,0,0\n" + last
    found, text = read(tmp_path, data, HEADER + ROWS + bad + last)
    assert len(found.impressions) == 5
    for part in (
        "F018 1 rows",
        "(line 5)",
        "F011 1 rows",
        "(line 6)",
        "F012 1 rows",
        "(line 7)",
        "E013 1 places",
        "(line 9)",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("request_id", "number", "no column that looks like the request"),
        (",1,0\n", ",7,0\n", "Label 'click' holds other values than 0, 1"),
        (",2,home", ",1.5,home", "'position' holds positions that are no whole numbers"),
        (",2,home", ",,home", "'position' holds positions that are no whole numbers"),
    ],
)
def test_wrong_impressions_are_named(tmp_path: Path, data: Dataset, old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, data, (HEADER + ROWS).replace(old, new, 1))


def test_given_columns_and_labels_win(tmp_path: Path, data: Dataset) -> None:
    content = HEADER.replace("request_id", "list").replace("click", "tapped") + ROWS
    columns = ImpressionColumns(request="list")
    found, _ = read(tmp_path, data, content, columns=columns, labels=["tapped"])
    assert list(found.impressions.labels) == ["tapped"]
    assert "purchase" in found.impressions.context
    with pytest.raises(UnknownName, match="'taped' - did you mean 'tapped'"):
        read(tmp_path, data, content, columns=columns, labels=["taped"])


def test_text_items_beside_integer_items_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="The shown items are text, such as 'z'"):
        read(tmp_path, read_events(path), HEADER + ROWS)
