"""Queries from outside: JSON lines, newer events, test events."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foretaste.answers import (
    asked_by_users,
    holdout_of_events,
    queries_of_json,
    read_items,
    read_newer_events,
    with_newer_events,
)
from foretaste.catalog import NO_TIME, Catalog, Categories, Category, Number, Table, Text, Time, Vector
from foretaste.dataset import Dataset, EventKinds
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.events import Columns
from foretaste.models.itemknn import ItemKNN
from foretaste.query import Queries
from foretaste.ragged import PAD
from foretaste.recommender import Model
from foretaste.storage import read_ids
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
    assert found.queries.times.tolist() == [hour * HOUR, NO_TIME]
    assert found.queries.now.tolist() == [hour * HOUR] * 2


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


LINES = [
    {"user": 1},
    {"user": 77},
    {"history": []},
    {"history": ["b", "a"]},
    {"history": ["a", {"item": "b", "kind": "buy", "value": 2.5}], "now": 7},
    {"user": 2, "history": [{"item": "d", "time": 5}, "c", {"item": "zz", "time": 9}]},
    {"user": 3, "now": 99, "features": {"age": 5, "fans": ["tea", "wine"]}, "context": {"page": "home"}},
    {"user": "bob", "features": {"city": "Atlantis"}, "context": {"page": "cart", "items": 3}},
]


@pytest.mark.parametrize("known", ["known", "unknown"])
def test_a_batch_says_the_same_as_each_query_alone(known: str, people: Model) -> None:
    answering = people if known == "known" else ItemKNN().fit(log(EVENTS))
    lines = [each for each in LINES if known == "known" or "history" in each]
    batch = asked(answering, *lines).queries
    for row, line in enumerate(lines):
        assert told(batch.take(np.array([row])), answering) == told(asked(answering, line).queries, answering)
    assert len(batch) > 2


def told(queries: Queries, model: Model) -> dict[str, object]:
    """What a single query says, whatever is not known left out."""
    events, tables = len(queries.history.values), (queries.user_features, queries.context)
    return {
        "items": model.items.lookup(queries.history.values),
        "times": [NO_TIME] * events if queries.times is None else queries.times.tolist(),
        "kinds": queries.kinds.tolist(),
        "values": ["-"] * events if queries.values is None else ["-" if v != v else v for v in queries.values.tolist()],
        "user": None if queries.user is None else queries.user.tolist(),
        "now": [NO_TIME] if queries.now is None else queries.now.tolist(),
        "session": None if queries.session_start is None else queries.session_start.tolist(),
        "tables": [row_of(table) for table in tables],
    }


def row_of(table: Table | None) -> dict[str, str]:
    """What the first row of a table says, missing values left out."""
    row = {} if table is None else {name: each.lists()[0] for name, each in table.columns.items()}
    return {name: repr(value) for name, value in row.items() if value not in (None, [], "")}


def test_times_and_now_that_one_query_lacks_are_missing_in_it_alone(model: Model) -> None:
    found = asked(model, {"user": 1}, {"history": ["a"]}, {"history": [{"item": "a", "time": 5}, "b"]})
    assert found.queries.times.tolist() == [HOUR, 2 * HOUR, NO_TIME, 5, NO_TIME]
    assert found.queries.now.tolist() == [2 * HOUR, NO_TIME, NO_TIME]
    nowhere = asked(model, {"history": ["a"]}, {"history": []}).queries
    assert nowhere.times is None
    assert nowhere.now is None


def test_events_without_a_kind_are_of_the_weakest_and_where_the_model_knows_none_have_none(model: Model) -> None:
    assert asked(model, {"history": ["a", "b"]}).queries.kinds.tolist() == [VIEW, VIEW]
    plain = Dataset.from_arrays(Vocab.from_ids([1]), Vocab.from_ids(["a"]), np.array([0]), np.array([0]), ordered=True)
    assert asked(ItemKNN().fit(plain), {"history": ["a"]}).queries.kinds is None


def test_events_are_put_in_order_of_time_and_the_lines_are_named(model: Model) -> None:
    late, early = {"item": "a", "time": 9, "value": 1, "kind": "buy"}, {"item": "c", "time": 5}
    found = queries_of_json(
        model,
        ["", *map(json.dumps, [{"history": [early, late]}, {"history": [late, "b", early, {**early, "item": "d"}]}])],
    )
    assert [model.items.lookup(found.queries.history[row]) for row in range(2)] == [["c", "a"], ["c", "d", "a", "b"]]
    assert found.queries.times.tolist() == [5, 9, 5, 5, 9, NO_TIME]
    assert found.queries.kinds.tolist() == [VIEW, BUY, VIEW, VIEW, BUY, VIEW]
    assert found.queries.values[[1, 4]].tolist() == [1.0, 1.0]
    assert found.queries.now.tolist() == [9, NO_TIME]
    assert found.reordered == [3]


# Features and context


@pytest.fixture
def people() -> Model:
    """A model that stores what is known of users, in a column of each kind, and sessions."""
    data = log(EVENTS)
    users = Table(
        3,
        {
            "age": Number(np.array([20.0, np.nan, 40.0])),
            "city": Category.from_list(["Bonn", None, "Rome"]),
            "member": Category.from_list(["true", "false", None]),
            "fans": Categories.from_lists([["jazz", "tea"], [], ["tea"]]),
            "about": Text.from_list(["likes tea", "", "tall"]),
            "since": Time(np.array([HOUR, NO_TIME, 2 * HOUR])),
            "taste": Vector(np.array([[1, 2], [3, 4], [np.nan, np.nan]], np.float32)),
        },
    )
    data = replace(data, catalog=Catalog(Table(4), users), session=np.array([0, 1, 2, 2, 3, 4]))
    return ItemKNN().fit(data).with_histories(data)


def test_a_user_alone_keeps_all_that_is_stored(people: Model) -> None:
    by_id, by_line = asked_by_users(people, [3, 77, 1]), asked(people, {"user": 3}, {"user": 77}, {"user": 1})
    for name in ("times", "kinds", "values", "session_start", "user", "now"):
        assert getattr(by_line.queries, name).tolist() == getattr(by_id.queries, name).tolist()
    assert by_line.queries.history.lists() == by_id.queries.history.lists()
    assert by_line.queries.session_start.tolist() == [1, 0, 1]
    for name, column in by_id.queries.user_features.columns.items():
        assert repr(by_line.queries.user_features[name].lists()) == repr(column.lists())
    assert by_line.unknown_users == [77]


def test_told_features_stand_in_place_of_the_stored_and_the_others_stay(people: Model) -> None:
    table = asked(
        people,
        {"user": 1, "features": {"age": 21, "member": False, "fans": ["tea"], "about": "moved"}},
        {"user": "1", "history": ["a"], "features": {"since": "1970-01-01T03:00:00Z", "taste": [5, 6], "city": None}},
        {"history": ["a"], "features": {"city": "Rome"}},
    ).queries.user_features
    assert table["age"].lists() == [21, 20, None]
    assert table["city"].lists() == ["Bonn", "Bonn", "Rome"]
    assert table["member"].lists() == ["false", "true", None]
    assert table["fans"].lists() == [["tea"], ["jazz", "tea"], []]
    assert table["about"].lists() == ["moved", "likes tea", ""]
    assert table["since"].lists() == [HOUR, 3 * HOUR, None]
    assert table["taste"].lists()[:2] == [[1, 2], [5, 6]]
    assert table["city"].names.lists() == ["Bonn", "Rome"], "codes mean what they mean in the stored table"
    assert people.histories.queries.user_features["age"].lists() == [20, None, 40], "what is stored stays as it is"


def test_names_that_a_stored_column_does_not_know_are_missing_and_named(people: Model) -> None:
    found = asked(people, {"user": 1, "features": {"city": "Paris", "fans": ["tea", "wine"]}}, {"user": 3})
    assert found.queries.user_features["city"].lists() == [None, "Rome"]
    assert found.queries.user_features["fans"].lists() == [["tea"], ["tea"]]
    assert found.unknown_features == [("city", "Paris"), ("fans", "wine")]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"aeg": 3}, "line 2: Unknown feature 'aeg' - did you mean 'age'"),
        ({"age": "old"}, "line 2: feature 'age' is stored as number and must be a number; it is 'old'"),
        ({"age": True}, "'age' is stored as number and must be a number; it is True"),
        ({"age": 10**400}, "'age' is stored as number and must be a number; it is 1000"),
        ({"city": 3}, "'city' is stored as category and must be text, true or false; it is 3"),
        ({"fans": "tea"}, "'fans' is stored as categories and must be a list of text; it is 'tea'"),
        ({"fans": ["tea", 3]}, "'fans' is stored as categories and must be a list of text"),
        ({"about": 3}, "'about' is stored as text and must be text; it is 3"),
        ({"taste": [1, 2, 3]}, r"'taste' is stored as vector and must be a list of 2 numbers; it is \[1, 2, 3\]"),
        ({"taste": [1, None]}, "'taste' is stored as vector and must be a list of 2 numbers"),
        ({"since": "soon"}, "line 2: feature 'since': 'soon' is no moment; write ISO text or milliseconds"),
    ],
)
def test_features_must_be_of_the_stored_kind(features: dict[str, object], message: str, people: Model) -> None:
    with pytest.raises(DataError, match=message):
        asked(people, {"user": 1}, {"user": 1, "features": features})


@pytest.mark.parametrize(("name", "attribute"), [("features", "user_features"), ("context", "context")])
def test_what_is_not_stored_is_typed_by_what_is_written(name: str, attribute: str, model: Model) -> None:
    lines = [
        {"history": ["a"], name: {"page": "home", "width": 3, "app": True, "tags": ["x", "y"], "none": None}},
        {"history": ["a"], name: {"width": 1.5, "app": "maybe", "when": "2026-01-01T00:00:00Z"}},
        {"history": ["a"], name: None},
    ]
    table = getattr(asked(model, *lines).queries, attribute)
    assert {column: table[column].kind for column in table} == {
        "page": "category",
        "width": "number",
        "app": "category",
        "tags": "categories",
        "when": "category",
    }
    assert table["page"].lists() == ["home", None, None]
    assert table["width"].lists() == [3, 1.5, None]
    assert table["app"].lists() == ["true", "maybe", None]
    assert table["tags"].lists() == [["x", "y"], [], []]
    assert getattr(asked(model, {"history": ["a"]}).queries, attribute) is None


@pytest.mark.parametrize("name", ["features", "context"])
def test_features_and_context_are_objects_of_plain_values(name: str, model: Model) -> None:
    with pytest.raises(DataError, match=f"line 1: {name} must be an object of names and values; it is 'phone'"):
        asked(model, {"user": 1, name: "phone"})
    with pytest.raises(DataError, match=rf"line 1: {name} must be an object of names and values; it is \[\]"):
        asked(model, {"user": 1, name: []})
    with pytest.raises(
        DataError, match=f"line 1: {name} 'page' must be one of a number, text, true or false, a list of text; it is"
    ):
        asked(model, {"user": 1, name: {"page": {"a": 1}}})
    with pytest.raises(
        DataError, match=f"line 2: {name} 'page' must be text, true or false, as in queries, line 1; it is 3"
    ):
        asked(model, {"user": 1, name: {"page": "home"}}, {"user": 1, name: {"page": 3}})


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


def test_an_event_that_is_stored_already_is_not_appended_again(model: Model) -> None:
    newer = log(
        [
            (1, "b", 2, BUY),  # stored
            (1, "b", 2, VIEW),  # of another kind
            (1, "b", 3, BUY),  # at another time
            (2, "b", 2, BUY),  # of somebody else
            (9, "b", 2, BUY),  # of somebody new
            (9, "b", 2, BUY),  # twice, but not stored
        ],
        name="today",
    )
    said: list[str] = []
    joined = with_newer_events(model, newer, log=lambda message, numbers=None: said.append(message))
    found = asked_by_users(joined, [1, 2, 9]).queries
    histories = [joined.items.lookup(found.history[row]) for row in range(3)]
    assert histories == [["a", "b", "b", "b"], ["b", "b", "c"], ["b", "b"]]
    assert said == ["1 of the 6 events of today are in the stored histories already; joined with them, they count once"]
    again = with_newer_events(joined, newer)
    assert again.histories.queries.history.lists() == joined.histories.queries.history.lists()


def test_newer_events_without_times_come_last_and_that_is_said(model: Model) -> None:
    newer = replace(log([(1, "d", 0, BUY), (9, "a", 0, VIEW)], name="today"), time=None, ordered=True)
    said: list[str] = []
    joined = with_newer_events(model, newer, log=lambda message, numbers=None: said.append(message))
    found = asked_by_users(joined, [1, 2, 9]).queries
    assert [joined.items.lookup(found.history[row]) for row in range(3)] == [["a", "b", "d"], ["b", "c"], ["a"]]
    assert found.times.tolist() == [HOUR, 2 * HOUR, NO_TIME, HOUR, 3 * HOUR, NO_TIME]
    assert found.now.tolist() == [NO_TIME, 3 * HOUR, NO_TIME]
    assert said == [
        "today has no times where the stored histories have: joined with them, its events come last, and which of them "
        "are stored already cannot be seen"
    ]
    timed = log([(1, "c", 0, BUY)], name="later")
    assert [joined.items.lookup(with_newer_events(joined, timed).histories.queries.history[0])] == [
        ["c", "a", "b", "d"]
    ]


def test_newer_events_with_times_come_after_stored_ones_without(model: Model) -> None:
    data = replace(log(EVENTS), time=None, ordered=True)
    untimed, said = ItemKNN().fit(data).with_histories(data), []
    newer = log([(1, "c", 8, BUY)], name="today")
    joined = with_newer_events(untimed, newer, log=lambda message, numbers=None: said.append(message))
    assert joined.items.lookup(joined.histories.queries.history[0]) == ["a", "b", "c"]
    assert joined.histories.queries.times[:3].tolist() == [NO_TIME, NO_TIME, 8 * HOUR]
    assert said[0].startswith("the stored histories have no times where today has: joined")
    with_newer_events(
        untimed, replace(newer, time=None, ordered=True), log=lambda message, numbers=None: said.append(message)
    )
    assert said[1].startswith("neither today nor the stored histories have times: joined")


def test_newer_events_move_the_running_session_and_keep_what_is_known_of_people(people: Model) -> None:
    events = [(1, "c", 7, VIEW), (1, "d", 8, VIEW), (1, "a", 9, VIEW), (2, "a", 0, VIEW)]
    newer = replace(log(events), session=np.array([5, 6, 6, 7]))
    joined = with_newer_events(people, newer).histories.queries
    assert joined.session_start.tolist() == [3, 1, 1]
    assert joined.user_features["age"].lists() == [20, None, 40]
    said: list[str] = []
    unknown = with_newer_events(
        people, replace(newer, session=None), log=lambda message, numbers=None: said.append(message)
    )
    assert unknown.histories.queries.session_start is None
    assert said == [
        "log has no sessions; joined with it, the stored histories do not say where the last session begins"
    ]


def test_a_session_that_goes_on_in_newer_events_begins_where_it_did(people: Model) -> None:
    newer = replace(log([(3, "d", 5, VIEW), (3, "a", 6, VIEW), (3, "b", 7, VIEW)]), session=np.array([0, 0, 0]))
    joined = with_newer_events(people, newer).histories.queries
    assert people.items.lookup(joined.history[2]) == ["c", "d", "a", "b"]
    assert joined.session_start[2] == 1


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
    path.write_text("user_id,item_id,timestamp,event\n1,a,3600,view\n1,a,7,buy\n")
    read_newer_events(model, str(path), Columns(), log=lambda message, numbers=None: said.append(message))
    assert said[-1].startswith("1 of the 2 events of new.csv are in the stored histories already")
    path.write_text("user_id,item_id,event\n1,a,view\n")
    read_newer_events(model, str(path), Columns(), True, log=lambda message, numbers=None: said.append(message))
    assert said[-1].startswith("new.csv has no times where the stored histories have")
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


def test_somebody_new_in_a_test_log_is_asked_like_a_stranger(people: Model) -> None:
    events = log([(9, "a", 7, BUY), (3, "a", 9, BUY), (8, "b", 9, BUY)])
    queries = holdout_of_events(people, events, "later").queries
    assert [people.items.lookup(queries.history[row]) for row in range(3)] == [["c", "d"], [], []]
    assert queries.times.tolist() == [4 * HOUR, 5 * HOUR]
    assert queries.user.tolist() == [2, PAD, PAD]
    assert queries.now.tolist() == [5 * HOUR] * 3
    assert queries.session_start.tolist() == [1, 0, 0]
    assert queries.user_features["age"].lists() == [40, None, None]


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
