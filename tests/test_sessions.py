"""Sessions: cut by gaps or taken from the log, repeats, lengths, and the log as if sessions were users."""

import numpy as np
import pytest

from foretaste.catalog import Catalog, Number, Table
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, MissingData
from foretaste.sessions import by_session, sessions, without_repeats
from foretaste.vocab import Vocab

MINUTE = 60_000


def log(user, item, minutes=None, session=None, **more) -> Dataset:
    users, items = Vocab(np.arange(max(user) + 1)), Vocab(np.arange(max(item) + 1))
    time = None if minutes is None else (np.array(minutes) * MINUTE).astype(np.int64)
    return Dataset.from_arrays(
        users,
        items,
        np.array(user),
        np.array(item),
        time=time,
        session=None if session is None else np.array(session),
        **more,
    )


def test_a_session_ends_after_a_longer_gap_and_with_the_user():
    data = log([0, 0, 0, 0, 1], [0, 1, 2, 3, 4], [0, 30, 60.5, 61, 61])
    assert sessions(data).session.tolist() == [0, 0, 1, 1, 2]
    assert sessions(data, gap_minutes=31).session.tolist() == [0, 0, 0, 0, 1]


def test_session_ids_of_the_log_are_respected_and_made_distinct():
    data = log([0, 0, 0, 1, 1], [0, 1, 2, 3, 4], [0, 100, 200, 0, 100], session=[7, 7, 9, 7, 3])
    assert sessions(data).session.tolist() == [0, 0, 1, 2, 3]
    assert sessions(data, respect=False).session.tolist() == [0, 1, 2, 3, 4]


def test_interrupted_sessions_of_the_log_are_numbered_by_their_first_event():
    data = log([0, 0, 0, 0, 1], [0, 1, 2, 3, 4], [0, 1, 2, 3, 0], session=[8, 5, 8, 5, 5])
    numbered = sessions(data)
    assert numbered.session.tolist() == [0, 1, 0, 1, 2]
    assert by_session(numbered).baskets.lists() == [[0, 2], [1, 3], [4]]


def test_sessions_without_ids_and_times_are_refused_with_what_to_give():
    with pytest.raises(MissingData, match=r"Cutting sessions by gaps needs TIMES.*--time-col"):
        sessions(log([0, 0], [0, 1], ordered=True))


def test_sessions_of_a_log_without_times_are_taken_as_they_are():
    data = log([0, 0, 0], [0, 1, 2], session=[4, 4, 5], ordered=True)
    assert sessions(data).session.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("gap", "least", "text"), [(0, 1, "gap_minutes is 0"), (30, 0, "min_length is 0")])
def test_impossible_settings_are_refused(gap, least, text):
    with pytest.raises(ConfigError, match=text):
        sessions(log([0], [0], [0]), gap_minutes=gap, min_length=least)


def test_of_immediate_repeats_only_the_first_stays():
    data = log([0] * 6, [1, 1, 2, 1, 1, 1], [0, 1, 2, 3, 4, 100])
    kept = sessions(data, drop_repeats=True)
    assert kept.item.tolist() == [1, 2, 1, 1]
    assert (kept.time // MINUTE).tolist() == [0, 2, 3, 100]
    assert kept.session.tolist() == [0, 0, 0, 1]


def test_repeats_are_judged_within_a_session_even_where_another_interrupts_it():
    data = log([0] * 4, [1, 2, 1, 1], [0, 1, 2, 3], session=[0, 1, 0, 1])
    assert without_repeats(data).item.tolist() == [1, 2, 1]


def test_short_sessions_are_dropped_after_repeats_and_numbers_have_no_gaps():
    data = log([0] * 5, [1, 1, 2, 3, 4], [0, 1, 100, 101, 300])
    kept = sessions(data, min_length=2, drop_repeats=True)
    assert kept.item.tolist() == [2, 3]
    assert kept.session.tolist() == [0, 0]


def test_by_session_makes_sessions_the_users_and_keeps_what_is_known_of_them():
    catalog = Catalog(Table(5), Table(3, {"age": Number(np.array([10.0, 20.0, 30.0]))}))
    data = sessions(log([0, 0, 2], [0, 1, 4], [0, 100, 5], catalog=catalog))
    visits = by_session(data)
    assert visits.users.lists() == [0, 1, 2]
    assert visits.user.tolist() == [0, 1, 2]
    assert visits.items is data.items
    assert visits.catalog.users["age"].lists() == [10.0, 10.0, 30.0]


def test_by_session_of_a_log_without_sessions_is_refused():
    with pytest.raises(MissingData, match="A log by sessions needs SESSIONS"):
        by_session(log([0], [0], [0]))


def test_an_empty_log_has_no_sessions():
    empty = log([0], [0], [0]).where(np.zeros(1, bool))
    found = sessions(empty, drop_repeats=True, min_length=2)
    assert len(found) == 0
    assert len(by_session(found).users) == 0
