"""Queries from outside: JSON lines, newer events, test events."""

import json
from pathlib import Path

import numpy as np
import pytest

from foretaste.answers import (
    asked_by_users,
    holdout_of_events,
    queries_of_json,
    read_ids,
    read_items,
    read_newer_events,
    with_newer_events,
)
from foretaste.dataset import Dataset, EventKinds
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.events import Columns
from foretaste.models.itemknn import ItemKNN
from foretaste.ragged import PAD
from foretaste.recommender import Model
from foretaste.vocab import Vocab

HOUR = 3_600_000
VIEW, BUY = 0, 1


def log(events: list[tuple[int | str, str, int, int]], *, name: str = "log") -> Dataset:
    """Events as (user, item, hour, kind)."""
    users, items = Vocab.from_ids(each[0] for each in events), Vocab.from_ids(each[1] for each in events)
    return Dataset.from_arrays(
        users,
        items,
        users.index([each[0] for each in events]),
        items.index([each[1] for each in events]),
        time=np.array([each[2] * HOUR for each in events]),
        kind=np.array([each[3] for each in events]),
        value=np.arange(len(events), dtype=float),
        kinds=EventKinds(("view", "buy"), (1.0, 3.0)),
        name=name,
    )


EVENTS = [
    (1, "a", 1, VIEW),
    (1, "b", 2, BUY),
    (2, "b", 1, VIEW),
    (2, "c", 3, VIEW),
    (3, "c", 4, BUY),
    (3, "d", 5, VIEW),
]


@pytest.fixture
def model() -> Model:
    data = log(EVENTS)
    return ItemKNN().fit(data).with_histories(data)


def asked(model: Model, *lines: object):
    return queries_of_json(model, [json.dumps(line) for line in lines])


def test_a_user_alone_is_asked_for_by_the_stored_history(model: Model) -> None:
    found = asked(model, {"user": 1}, {"user": "3"})
    assert [model.items.lookup(row) for row in map(found.queries.history.__getitem__, range(2))] == [
        ["a", "b"],
        ["c", "d"],
    ]
    assert found.queries.kinds.tolist() == [VIEW, BUY, BUY, VIEW]
    assert found.queries.times.tolist() == [HOUR, 2 * HOUR, 4 * HOUR, 5 * HOUR]
    assert found.queries.now.tolist() == [2 * HOUR, 5 * HOUR]
    assert found.queries.user.tolist() == [0, 2]
    assert list(found.labels) == [1, 3]


def test_a_given_history_is_all_there_is_even_for_a_known_user(model: Model) -> None:
    found = asked(model, {"user": 1, "history": ["c", {"item": "d", "kind": "buy", "value": 2}]})
    assert model.items.lookup(found.queries.history[0]) == ["c", "d"]
    assert found.queries.kinds.tolist() == [VIEW, BUY]
    assert found.queries.values.tolist()[1] == 2.0
    assert np.isnan(found.queries.values[0])
    assert found.unknown_users == []
    assert asked(model, {"user": 1, "history": []}).queries.history.lengths.tolist() == [0]


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("1970-01-01T05:00:00Z", 5),
        ("1970-01-01T05:00:00", 5),
        ("1970-01-01T07:00:00+02:00", 5),
        ("1970-01-01T00:30:00-04:30", 5),
        ("1970-01-01 05:00:00.000", 5),
        ("1970-01-02", 24),
        ("1969-12-31T23:00:00Z", -1),
        (5 * HOUR, 5),
        (5.0 * HOUR, 5),
    ],
)
def test_moments_are_iso_text_in_any_zone_or_milliseconds(written: object, hour: int, model: Model) -> None:
    found = asked(model, {"history": [{"item": "a", "time": written}]}, {"history": ["a"], "now": written})
    assert found.queries.times is None, "times stand beside the events only where all have one"
    assert found.queries.now.tolist() == [hour * HOUR] * 2
    alone = asked(model, {"history": [{"item": "a", "time": written}]})
    assert alone.queries.times.tolist() == [hour * HOUR]


def test_milliseconds_of_iso_text_are_kept(model: Model) -> None:
    found = asked(model, {"history": ["a"], "now": "2026-01-01T00:00:00.123Z"})
    assert found.queries.now.tolist() == [1_767_225_600_123]


def test_unknown_items_leave_the_history_with_all_that_stood_beside_them(model: Model) -> None:
    found = asked(model, {"history": [{"item": "a", "time": 1}, {"item": "zz", "time": 2}, {"item": "b", "time": 3}]})
    assert found.queries.history.lists() == [[0, 1]]
    assert found.queries.times.tolist() == [1, 3]
    assert list(found.unknown_items) == ["zz"]


def test_answers_are_labelled_by_user_or_where_nobody_is_named_by_number(model: Model) -> None:
    assert list(asked(model, {"history": ["a"]}, {"history": ["b"]}).labels) == [0, 1]
    mixed = asked(model, {"history": ["a"]}, {"user": "2"}, {"user": "77"}, {"user": "bob"})
    assert list(mixed.labels) == [None, 2, 77, "bob"]
    assert list(mixed.unknown_users) == ["77", "bob"]
    assert mixed.queries.user.tolist() == [PAD, 1, PAD, PAD]


def test_strangers_are_called_as_those_of_the_log_are(model: Model) -> None:
    assert list(asked_by_users(model, ["2", "9", "x"]).labels) == [2, 9, "x"]
    text = log([("07", "a", 1, VIEW), ("8", "a", 2, VIEW)])
    named = ItemKNN().fit(text).with_histories(text)
    assert list(asked_by_users(named, ["07", "7", "8"]).labels) == ["07", "7", "8"]


def test_strangers_with_odd_names_keep_them(model: Model) -> None:
    odd = ["--5", "007", "1" * 5000]
    assert list(asked_by_users(model, odd).labels) == odd


def test_numbers_with_thousands_of_digits_are_no_json(model: Model) -> None:
    with pytest.raises(DataError, match="line 1 is not JSON: Exceeds the limit"):
        queries_of_json(model, ['{"user": ' + "1" * 5000 + "}"])


@pytest.mark.parametrize("name", ["features", "context"])
def test_features_and_context_are_objects(name: str, model: Model) -> None:
    with pytest.raises(DataError, match=f"{name} must be an object of names and values; it is 'phone'"):
        asked(model, {"user": 1, name: "phone"})
    assert len(asked(model, {"user": 1, name: {"device": "phone"}}, {"user": 1, name: None}).queries) == 2


def test_users_cannot_be_asked_for_where_there_are_no_histories() -> None:
    bare = ItemKNN().fit(log(EVENTS))
    with pytest.raises(ConfigError, match="holds no histories"):
        asked(bare, {"user": 1})
    assert asked(bare, {"user": 1, "history": ["a"]}).labels == [1]


def test_newer_events_join_the_histories_in_the_order_of_time(model: Model) -> None:
    newer = log([(1, "d", 0, BUY), (1, "c", 9, VIEW), (9, "a", 8, BUY), (9, "zz", 9, BUY)])
    joined = with_newer_events(model, newer)
    found = asked_by_users(joined, [1, 2, 9])
    histories = [joined.items.lookup(found.queries.history[row]) for row in range(3)]
    assert histories == [["d", "a", "b", "c"], ["b", "c"], ["a"]]
    assert found.queries.kinds.tolist() == [BUY, VIEW, BUY, VIEW, VIEW, VIEW, BUY]
    assert found.queries.now.tolist() == [9 * HOUR, 3 * HOUR, 8 * HOUR]
    assert found.unknown_users == []
    assert asked_by_users(model, [9]).unknown_users == [9], "the model that was given stays as it is"


def test_newer_events_alone_are_histories_where_none_are_stored() -> None:
    bare = ItemKNN().fit(log(EVENTS))
    joined = with_newer_events(bare, log([(5, "a", 1, VIEW)]))
    assert asked_by_users(joined, [5]).unknown_users == []


def test_users_of_another_type_cannot_join(model: Model) -> None:
    with pytest.raises(
        DataError, match="today has users that are text, such as 'bob'; those of the bundle are integers"
    ):
        with_newer_events(model, log([("bob", "a", 1, VIEW)], name="today"))


def test_newer_events_are_read_with_the_kinds_of_the_model(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("user_id,item_id,timestamp,event\n1,a,7,buy\n2,zz,8,buy\n")
    said: list[str] = []
    read = read_newer_events(model, str(path), Columns(), log=lambda message, numbers=None: said.append(message))
    assert read.kinds.names == ("view", "buy")
    assert read.kind.tolist() == [BUY, BUY]
    assert "1 items of new.csv are unknown to the model, such as 'zz'" in said
    path.write_text("user_id,item_id,timestamp\n1,a,7\n")
    read = read_newer_events(model, str(path), Columns(), log=lambda message, numbers=None: said.append(message))
    assert read.kind.tolist() == [VIEW]
    assert said[-1] == "new.csv has no event kinds; its events count as 'view'"
    plain = Dataset.from_arrays(Vocab.from_ids([1]), Vocab.from_ids(["a"]), np.array([0]), np.array([0]), ordered=True)
    path.write_text("user_id,item_id,timestamp,event\n1,a,7,view\n1,a,8,buy\n")
    read = read_newer_events(
        ItemKNN().fit(plain), str(path), Columns(), log=lambda message, numbers=None: said.append(message)
    )
    assert read.kind is None
    assert said[-1] == "the model knows no event kinds; those of new.csv (view, buy) all count alike"
    path.write_text("user_id,item_id,timestamp,event\n1,a,7,byu\n")
    with pytest.raises(UnknownName, match=r"Unknown event kind in .*new\.csv 'byu' - did you mean 'buy'"):
        read_newer_events(model, str(path), Columns())


def test_later_events_are_judged_by_the_stored_histories(model: Model) -> None:
    holdout = holdout_of_events(
        model, log([(1, "d", 9, BUY), (1, "d", 10, BUY), (1, "zz", 9, BUY), (4, "a", 9, BUY)]), "later"
    )
    assert [model.items.lookup(row) for row in map(holdout.queries.history.__getitem__, range(2))] == [["a", "b"], []]
    assert [model.items.lookup(holdout.targets[row]) for row in range(2)] == [["d"], ["a"]]
    assert holdout.unknown.tolist() == [1, 0]


def test_the_last_event_is_judged_by_those_before_it(model: Model) -> None:
    holdout = holdout_of_events(
        model, log([(7, "a", 1, VIEW), (7, "zz", 2, VIEW), (7, "c", 3, BUY), (8, "a", 1, BUY)]), "last"
    )
    assert len(holdout) == 1, "somebody with one event has nothing to be asked by"
    assert model.items.lookup(holdout.queries.history[0]) == ["a"]
    assert model.items.lookup(holdout.targets[0]) == ["c"]
    with pytest.raises(DataError, match="no user with two events, so --protocol last asks nothing"):
        holdout_of_events(model, log([(8, "a", 1, BUY)]), "last")


def test_the_last_event_needs_an_order(model: Model) -> None:
    data = log(EVENTS)
    unordered = Dataset.from_arrays(data.users, data.items, data.user, data.item)
    with pytest.raises(MissingData, match="--protocol last needs ORDER"):
        holdout_of_events(model, unordered, "last")


def test_ids_are_read_one_per_line_whatever_the_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeffa\r\n\r\n  b c \nd,e\u2028f\n".encode())
    assert read_ids(path) == ["a", "b c", "d,e\u2028f"]


def test_items_of_a_list_must_be_known(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "items.txt"
    path.write_text("a\nb\n")
    assert read_items(model, path) == ["a", "b"]
    path.write_text("a\nB\n")
    with pytest.raises(UnknownName, match=r"Unknown item in .*items\.txt 'B' - did you mean 'b'"):
        read_items(model, path)
