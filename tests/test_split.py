"""Splits: each protocol by hand, nothing of the future in train, and what the leak report counts."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from foretaste import sources, split
from foretaste.catalog import Catalog, Category, Number, Table
from foretaste.dataset import Dataset, EventKinds, Impressions
from foretaste.errors import ConfigError, DataError, MissingData, TooLarge, UnknownName
from foretaste.evaluation import Trial, evaluate
from foretaste.models import Popular
from foretaste.recipe import read_recipe
from foretaste.split import parts
from foretaste.split.session_end import supported
from foretaste.validation import ndcg_at_10
from foretaste.vocab import Vocab

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def log(rows, *, users=None, items=None, kinds=None, **more) -> Dataset:
    """A log of (user, item), (user, item, time) or (user, item, time, kind)."""
    columns = list(zip(*rows, strict=True))
    users = users or max(columns[0]) + 1
    items = items or max(columns[1]) + 1
    kind = None if kinds is None else np.array([kinds.index(each) for each in columns[3]])
    return Dataset.from_arrays(
        Vocab(np.arange(users) + 100),
        Vocab(np.arange(items)),
        np.array(columns[0]),
        np.array(columns[1]),
        time=np.array(columns[2], np.int64) if len(columns) > 2 else None,
        kind=kind,
        kinds=None if kinds is None else EventKinds(tuple(kinds), tuple(1.0 for _ in kinds)),
        **{"ordered": True, **more},
    )


# Users with 1, 2, 3 and 4 events; the time is also the row, so that parts can be read off.
FOUR = log(
    [(0, 0, 0), (1, 1, 1), (1, 2, 2), (2, 3, 3), (2, 4, 4), (2, 5, 5)] + [(3, each, each) for each in (6, 7, 8, 9)]
)


def test_leave_one_out_by_hand():
    found = split.leave_one_out(FOUR)
    assert found.train.baskets.lists() == [[0], [1], [3], [6, 7]]
    assert found.test.queries.user.tolist() == [1, 2, 3]
    assert found.test.queries.history.lists() == [[1], [3, 4], [6, 7, 8]]
    assert found.test.targets.lists() == [[2], [5], [9]]
    assert found.validation.queries.user.tolist() == [2, 3]
    assert found.validation.queries.history.lists() == [[3], [6, 7]]
    assert found.validation.targets.lists() == [[4], [8]]
    assert found.refit is None
    assert found.filter_seen is True
    assert found.protocol["counts"] == {
        "train_events": 5,
        "validation_queries": 2,
        "test_queries": 3,
        "test_targets": 3,
        "users_too_short_to_test": 1,
        "users_too_short_to_validate": 1,
    }


def test_leave_one_out_refits_on_train_and_validation_where_it_is_asked_to():
    found = split.leave_one_out(FOUR, refit=True)
    plain = split.leave_one_out(FOUR)
    assert found.train.fingerprint == plain.train.fingerprint
    assert found.final is found.refit
    assert found.refit.baskets.lists() == [[0], [1], [3, 4], [6, 7, 8]]
    assert found.protocol["counts"]["refit_events"] == 7
    assert "The final model learns from train and validation together." in found.protocol["sentences"]
    assert found.protocol["digest"] == plain.protocol["digest"], "the questions are the same"
    assert split.leave_one_out(FOUR, refit=True, validation_users=0).refit is None
    seven = split.last_n(log([(0, each, each) for each in range(7)]), 2, refit=True)
    assert seven.train.baskets.lists() == [[0, 1, 2]]
    assert seven.refit.baskets.lists() == [[0, 1, 2, 3, 4]]


def test_leave_one_out_without_times_follows_the_stated_order():
    found = split.leave_one_out(log([(0, 2), (0, 1), (0, 0)]))
    assert found.test.queries.history.lists() == [[2, 1]]
    assert found.test.targets.lists() == [[0]]
    assert found.test.queries.now is None


def test_leave_one_out_without_an_order_is_refused():
    with pytest.raises(MissingData, match="The split leave_one_out needs ORDER"):
        split.leave_one_out(log([(0, 0), (0, 1)], ordered=False))


def test_users_without_validation_keep_their_second_last_event_in_train():
    found = split.leave_one_out(FOUR, validation_users=[103])
    assert found.train.baskets.lists() == [[0], [1], [3, 4], [6, 7]]
    assert found.validation.queries.user.tolist() == [3]
    assert found.test.queries.history.lists() == [[1], [3, 4], [6, 7, 8]]


def test_a_number_of_validation_users_is_drawn_by_seed():
    data = log([(user, item, item) for user in range(50) for item in range(4)])
    drawn = [split.leave_one_out(data, validation_users=9, seed=seed).validation.queries.user for seed in (0, 0, 1)]
    assert [len(each) for each in drawn] == [9, 9, 9]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert split.leave_one_out(data, validation_users=0).validation is None


def test_validation_users_come_from_a_file(tmp_path):
    file = tmp_path / "users.txt"
    file.write_text("103\n\n102\r\n")
    found = split.leave_one_out(FOUR, validation_users=file)
    assert found.validation.queries.user.tolist() == [2, 3]
    with pytest.raises(DataError, match=r"absent.txt"):
        split.leave_one_out(FOUR, validation_users=tmp_path / "absent.txt")


def test_wrong_validation_users_are_named():
    with pytest.raises(ConfigError, match="1 of 2 validation_users are not in events: 999"):
        split.leave_one_out(FOUR, validation_users=[103, 999])
    with pytest.raises(ConfigError, match="validation_users is 3, but only 2 users have enough events"):
        split.leave_one_out(FOUR, validation_users=3)


def test_ties_in_time_keep_the_order_of_the_log_and_are_reported():
    found = split.leave_one_out(log([(0, 3, 5), (0, 1, 5), (0, 2, 5), (1, 0, 1), (1, 1, 2), (1, 2, 3)]))
    assert found.test.queries.history.lists() == [[3, 1], [0, 1]]
    assert found.test.targets.lists() == [[2], [2]]
    assert found.leaks.queries_tied == 1
    assert "In 1 of 2 test queries (50.0%) a target has the same time" in " ".join(found.leaks.sentences())


def test_least_history_keeps_short_users_whole_in_train():
    found = split.leave_one_out(FOUR, min_history=2)
    assert found.train.baskets.lists() == [[0], [1, 2], [3, 4], [6, 7]]
    assert found.test.queries.user.tolist() == [2, 3]
    assert found.validation.queries.user.tolist() == [3]


def test_the_moment_of_asking_is_the_last_known_event_unless_the_time_is_told():
    assert split.leave_one_out(FOUR).test.queries.now.tolist() == [1, 4, 8]
    told = split.leave_one_out(FOUR, tell_time=True)
    assert told.test.queries.now.tolist() == [2, 5, 9]
    assert told.validation.queries.now.tolist() == [4, 8]
    assert any("told to the model" in sentence for sentence in told.protocol["sentences"])
    with pytest.raises(MissingData, match="Telling the time of the target needs TIMES"):
        split.leave_one_out(log([(0, 0), (0, 1)]), tell_time=True)


SHOP = log(
    [
        (0, 0, 1, "view"),
        (0, 0, 2, "buy"),
        (0, 1, 3, "view"),
        (0, 2, 4, "view"),
        (0, 1, 5, "buy"),
        (0, 3, 6, "view"),
        (1, 4, 1, "view"),
        (1, 5, 2, "view"),
        (2, 0, 1, "buy"),
        (2, 5, 2, "view"),
    ],
    kinds=["view", "buy"],
)


def test_next_purchase_has_purchases_as_targets_and_nothing_after_them_anywhere():
    found = split.leave_one_out(SHOP, target_kinds=["buy"])
    assert found.test.queries.user.tolist() == [0]
    assert found.test.queries.history.lists() == [[0, 0, 1, 2]]
    assert found.test.queries.kinds.tolist() == [0, 1, 0, 0]
    assert found.test.targets.lists() == [[1]]
    assert found.validation.queries.history.lists() == [[0]]
    assert found.validation.targets.lists() == [[0]]
    # User 1 never bought and user 2 has nothing before the purchase: both stay whole in train.
    assert found.train.baskets.lists() == [[0], [4, 5], [0, 5]]
    assert found.protocol["counts"]["events_in_no_part"] == 1
    assert found.protocol["counts"]["events_only_in_test_histories"] == 2


def test_unknown_target_kinds_offer_the_nearest_and_logs_without_kinds_are_refused():
    with pytest.raises(UnknownName, match="event kind 'by' - did you mean 'buy'"):
        split.leave_one_out(SHOP, target_kinds=["by"])
    with pytest.raises(MissingData, match="needs KINDS"):
        split.leave_one_out(FOUR, target_kinds=["buy"])


def test_nobody_to_test_is_said():
    with pytest.raises(DataError, match="leave_one_out leaves no test query in events"):
        split.leave_one_out(log([(0, 0, 0), (1, 1, 1)]))


def test_last_n_by_hand():
    data = log([(0, item, item) for item in range(6)] + [(1, item, item) for item in range(3)])
    found = split.last_n(data, 2)
    assert found.train.baskets.lists() == [[0, 1], [0]]
    assert found.validation.queries.user.tolist() == [0]
    assert found.validation.targets.lists() == [[2, 3]]
    assert found.test.queries.history.lists() == [[0, 1, 2, 3], [0]]
    assert found.test.targets.lists() == [[4, 5], [1, 2]]


def test_targets_are_distinct_and_keep_the_order_of_their_first_event():
    found = split.last_n(log([(0, 0), (0, 3), (0, 1), (0, 3), (0, 1)]), 4)
    assert found.test.targets.lists() == [[3, 1]]


def test_histories_carry_kinds_values_times_users_and_sessions():
    catalog = Catalog(Table(3), Table(1, {"age": Number(np.array([33.0]))}))
    rows = [(0, 0, 10), (0, 1, 20), (0, 2, 30), (0, 0, 40)]
    data = log(rows, value=np.array([1, 2, 3, 4.0]), session=np.array([5, 6, 6, 7]), catalog=catalog)
    queries = split.leave_one_out(data).test.queries
    assert queries.times.tolist() == [10, 20, 30]
    assert queries.values.tolist() == [1, 2, 3]
    assert queries.session_start.tolist() == [1]
    assert queries.user_features["age"].lists() == [33.0]


def with_lists_shown():
    shown = Impressions(
        np.array([0, 0, 0, 1, 2, 3]),
        np.array([0, 0, 0, 0, 1, -1], np.int32),
        np.array([1, 2, 3, 3, 0, 2], np.int32),
        np.array([10, 10, 10, 25, 99, 99]),
        np.arange(6, dtype=np.int32),
        {"click": np.array([1, 1, 0, 0, 0, 0], np.int8)},
    )
    return log([(0, 0, 5), (0, 1, 11), (0, 2, 30), (1, 0, 1)], items=4, impressions=shown)


def test_train_forgets_what_was_shown_after_its_end_and_what_came_of_it():
    kept = split.leave_one_out(with_lists_shown(), validation_users=0).train.impressions
    assert kept.item.tolist() == [1, 3, 0, 2]
    assert kept.time.tolist() == [10, 10, 99, 99]


def test_what_the_final_model_learns_from_keeps_what_was_shown_up_to_the_test():
    found = split.leave_one_out(with_lists_shown(), refit=True)
    assert found.train.impressions.time.tolist() == [99, 99]
    assert found.refit.impressions.item.tolist() == [1, 3, 0, 2]


CALENDAR = log([(0, 0, 0), (0, 1, DAY), (0, 2, 3 * DAY), (1, 3, 2 * DAY), (1, 0, 4 * DAY), (2, 4, 4 * DAY)])


def test_by_time_with_dates_by_hand():
    found = split.by_time(CALENDAR, dates=("1970-01-03", "1970-01-04T00:00:00Z"))
    assert found.train.item.tolist() == [0, 1]
    assert found.validation is None, "user 1 has no event before"
    assert found.test.queries.history.lists() == [[0, 1], [3]]
    assert found.test.targets.lists() == [[2], [0]]
    assert found.test.queries.now.tolist() == [DAY, 2 * DAY]
    assert found.protocol["cuts"] == {"validation": "1970-01-03T00:00:00Z", "test": "1970-01-04T00:00:00Z"}
    assert found.protocol["counts"]["test_users_with_too_short_history"] == 1
    assert found.leaks.queries_others_later == 0


def test_by_time_asks_people_never_seen_where_no_history_is_demanded():
    found = split.by_time(CALENDAR, dates=("1970-01-04",), min_history=0)
    assert found.test.queries.user.tolist() == [0, 1, 2]
    assert found.test.queries.history.lists() == [[0, 1], [3], []]
    assert found.test.queries.now.tolist() == [DAY, 2 * DAY, 3 * DAY]
    assert found.test.slices["new user"].tolist() == [False, False, True]
    assert found.leaks.cold_users == 1


def test_an_event_at_the_moment_of_the_cut_is_later():
    found = split.by_time(CALENDAR, dates=("1970-01-02",))
    assert found.train.time.tolist() == [0]


def test_by_time_with_spans_counts_back_from_the_last_event():
    found = split.by_time(CALENDAR, spans=("1d", "36h"))
    assert found.protocol["cuts"] == {"validation": "1970-01-02T12:00:00.001Z", "test": "1970-01-03T12:00:00.001Z"}
    assert split.by_time(CALENDAR, spans=("36h",)).validation is None


def test_by_time_with_ratios_cuts_by_share_of_events_and_never_through_a_moment():
    rows = [(user, item, 10 * (5 * user + item)) for user in range(2) for item in range(5)]
    found = split.by_time(log([(0, item, time) for _, item, time in rows]), ratios=(0.5, 0.2, 0.3))
    assert found.train.time.tolist() == [0, 10, 20, 30, 40]
    assert found.test.queries.now.tolist() == [60]
    tied = log([(0, item, max(item, 3)) for item in range(8)])
    assert split.by_time(tied, ratios=(0.5, 0, 0.5)).train.time.tolist() == [3, 3, 3, 3]


def test_refit_by_time_is_train_and_validation():
    found = split.by_time(CALENDAR, spans=("1d", "36h"), refit=True)
    assert found.train.item.tolist() == [0, 1]
    assert found.refit.item.tolist() == [0, 1, 3]
    assert found.final is found.refit


def test_by_time_can_ask_before_each_event():
    data = log([(0, 0, 0), (0, 1, 10), (0, 2, 20), (1, 3, 15), (1, 4, 16)])
    found = split.by_time(data, dates=("1970-01-01T00:00:00.010Z",), queries="events")
    assert found.test.queries.history.lists() == [[0], [0, 1], [3]]
    assert found.test.targets.lists() == [[1], [2], [4]]
    assert found.protocol["counts"]["test_events_with_too_short_history"] == 1


def test_histories_that_cannot_be_held_are_refused(monkeypatch):
    monkeypatch.setattr(parts, "MOST_HISTORY", 2)
    data = log([(0, 0, 0), (0, 1, 10), (0, 2, 20)])
    with pytest.raises(TooLarge, match="histories of 2 queries hold 3 events, more than 2"):
        split.by_time(data, dates=("1970-01-01T00:00:00.010Z",), queries="events")


def test_by_time_takes_targets_of_the_kinds_asked_for():
    found = split.by_time(SHOP, dates=("1970-01-01T00:00:00.004Z",), target_kinds=["buy"])
    assert found.test.targets.lists() == [[1]]
    assert found.protocol["counts"]["test_events_of_other_kinds"] == 2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"ratios": (0.5, 0.1, 0.1)}, "add up to 1"),
        ({"ratios": (0.9, 0.1, 0)}, "train and test need a share above 0"),
        ({"dates": ("yesterday",)}, "'yesterday' is no ISO date"),
        ({"dates": ("2024-02-01", "2024-01-01")}, "validation must begin before test"),
        ({"spans": ("7 days",)}, "'7 days' is no span such as 7d"),
        ({"spans": ("7d",), "dates": ("2024-01-01",)}, "only one of ratios, dates and spans"),
        ({"spans": ("1d", "1d", "1d")}, "spans are two"),
        ({"queries": "all"}, "queries = 'all'"),
    ],
)
def test_wrong_cuts_are_told_in_a_sentence(wrong, text):
    with pytest.raises(ConfigError, match=text):
        split.by_time(CALENDAR, **wrong)


def test_by_time_without_times_is_refused():
    with pytest.raises(MissingData, match="The split by_time needs TIMES"):
        split.by_time(log([(0, 0)]))


def session_rows(user, day, items, *, hour=0.0, step=MINUTE):
    return [(user, item, int(day * DAY + hour * HOUR + place * step)) for place, item in enumerate(items)]


def small_shop() -> Dataset:
    """Items 0 to 2 are frequent; 3 is known to validation time only, 4 to test time only, 5 is rare."""
    rows = []
    for day in (0, 1, 2):
        rows += session_rows(day, day, [0, 1, 2])
    rows += session_rows(0, 4, [0, 0, 3, 1])  # an immediate repeat, in the span of validation
    rows += session_rows(1, 4, [3, 2, 5])
    rows += session_rows(3, 5.99, [0, 1, 2, 3], step=10 * MINUTE)  # runs across the cut to test
    rows += session_rows(2, 6.5, [4, 0, 4, 1])
    rows += session_rows(4, 7, [4, 2])
    rows += session_rows(5, 7, [1, 2, 0], hour=1)
    rows += session_rows(5, 8, [1])  # alone in its session
    return log(rows)


def test_last_sessions_by_hand():
    found = split.last_sessions(small_shop(), days=2, min_support=3, end="1970-01-09")
    # The cuts are day 4 and day 6.
    assert found.protocol["cuts"] == {"validation": "1970-01-05T00:00:00Z", "test": "1970-01-07T00:00:00Z"}
    assert sorted(found.train.baskets.lists(), key=len)[-3:] == [[0, 1, 2]] * 3
    assert len(found.train) == 9
    # Session of user 3: events at 5.99 days and 10 min later are before the cut, the other two are nobody's.
    assert sorted(row for row in found.refit.baskets.lists() if row) == sorted(
        [[0, 1, 2]] * 3 + [[0, 3, 1], [3, 2], [0, 1]]
    )
    # Item 3 is unknown to train, item 4 unknown to everything before test.
    assert found.validation.queries.history.lists() == [[0], [0]]
    assert found.validation.targets.lists() == [[1], [1]]
    assert found.test.queries.history.lists() == [[0], [1], [1, 2]]
    assert found.test.targets.lists() == [[1], [2], [0]]
    assert found.filter_seen is False
    # [4, 0, 4, 1] has three next events and keeps one; [4, 2] has one and keeps none; [1, 2, 0] keeps both.
    assert found.protocol["denominators"] == {"headline": 3, "with_unknown": 6}
    counts = found.protocol["counts"]
    assert counts["immediate_repeats_dropped"] == 1
    assert counts["events_of_short_sessions_and_rare_items_dropped"] == 2
    assert counts["events_after_the_cut_of_earlier_sessions_dropped"] == 2
    assert counts["test_events_of_items_unknown_to_training_dropped"] == 3


def test_last_sessions_ranks_only_items_that_the_tested_model_learns_from():
    catalog = Catalog(Table(6, {"price": Number(np.arange(6.0))}), Table(6))
    data = small_shop()
    data = Dataset.from_arrays(data.users, data.items, data.user, data.item, time=data.time, catalog=catalog)
    found = split.last_sessions(data, days=2, min_support=3, end="1970-01-09")
    assert found.train.items.lists() == [0, 1, 2, 3]
    assert found.train.items is found.refit.items
    assert found.train.catalog.items["price"].lists() == [0, 1, 2, 3]
    without = split.last_sessions(data, days=2, min_support=3, end="1970-01-09", refit=False)
    assert without.train.items.lists() == [0, 1, 2]
    assert without.refit is None


def test_last_sessions_counts_back_from_the_last_event_that_is_left():
    found = split.last_sessions(small_shop(), days=1, min_support=3)
    last = 7 * DAY + HOUR + 2 * MINUTE
    assert found.protocol["cuts"]["test"] == str(np.datetime64(last - DAY, "ms")).replace(".000", "") + "Z"


def test_last_sessions_cuts_sessions_before_it_chooses_kinds():
    rows = [(0, 0, 0, "view"), (0, 0, 50 * MINUTE, "buy"), (0, 1, 100 * MINUTE, "view")]
    rows += [(1, item, 2 * DAY + item * MINUTE, "view") for item in (0, 1)]
    data = log(rows, kinds=["view", "buy"])
    found = split.last_sessions(data, days=1, min_support=1, validation=False)
    assert [row for row in found.train.baskets.lists() if row] == [[0, 1]]
    assert found.protocol["counts"]["events_of_other_kinds"] == 1


def test_last_sessions_orders_ties_by_item_as_the_official_preparation_does():
    rows = [(0, 1, 0), (0, 0, 0), (0, 2, 5), (1, 2, 3 * DAY), (1, 0, 3 * DAY)]
    options = {"days": 1, "min_support": 1, "validation": False}
    assert split.last_sessions(log(rows), **options).test.targets.lists() == [[2]]
    assert split.last_sessions(log(rows), ties="log", **options).test.targets.lists() == [[0]]


def test_last_sessions_of_too_little_says_what_to_lower():
    with pytest.raises(DataError, match=r"No event of events is left.*Lower min_length or min_support"):
        split.last_sessions(log([(0, 0, 0), (0, 1, 1)]))


def slow_last_sessions(rows, days, min_support):
    """The protocol event by event: train, refit and the (history, target) pairs of test, as items."""
    visits, last = [], None
    for user, time, item in sorted((user, time, item) for user, item, time in rows):
        if last is None or user != last[0] or time - last[1] > HOUR:
            visits.append([])
        if not visits[-1] or visits[-1][-1][0] != item:
            visits[-1].append((item, time))
        last = (user, time)
    session = [number for number, visit in enumerate(visits) for _ in visit]
    events = [event for visit in visits for event in visit]
    kept = slowly_supported(session, [item for item, _ in events], 2, min_support)
    visits = [[events[row] for row in kept if session[row] == number] for number in range(len(visits))]
    visits = [visit for visit in visits if visit]
    cut = max(time for visit in visits for _, time in visit) - days * DAY

    def before(whole, cut):
        parts = [[(item, time) for item, time in visit if time < cut] for visit in whole]
        return [visit for visit in parts if len(visit) > 1]

    refit = before(visits, cut)
    known = {item for visit in refit for item, _ in visit}
    test = [[item for item, _ in visit if item in known] for visit in visits if visit[0][1] >= cut]
    pairs = [(visit[:place], visit[place]) for visit in test for place in range(1, len(visit))]
    only_items = [[[item for item, _ in visit] for visit in each] for each in (before(refit, cut - days * DAY), refit)]
    return *only_items, pairs, sum(len(visit) - 1 for visit in visits if visit[0][1] >= cut)


@pytest.mark.parametrize("seed", range(8))
def test_last_sessions_agrees_with_a_slow_reference(seed):
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 9 * 24 * 6, 900) * 10 * MINUTE
    items = rng.integers(0, 12, 900) + times // DAY * 2  # fashions change, so some items are new in test
    rows = list(zip(rng.integers(0, 12, 900).tolist(), items.tolist(), times.tolist(), strict=True))
    train, refit, pairs, whole = slow_last_sessions(rows, 2, 5)
    found = split.last_sessions(log(rows), days=2)
    items = found.train.items

    def ids(ragged):
        return [items.lookup(row) for row in map(np.array, ragged.lists()) if len(row)]

    assert ids(found.train.baskets) == train
    assert ids(found.refit.baskets) == refit
    assert list(zip(ids(found.test.queries.history), [row[0] for row in ids(found.test.targets)], strict=True)) == pairs
    assert found.protocol["denominators"] == {"headline": len(pairs), "with_unknown": whole}
    assert whole >= len(pairs) > 10


def slowly_supported(session, item, min_length, min_support):
    rows = list(zip(session, item, range(len(item)), strict=True))
    while True:
        length = Counter(each[0] for each in rows)
        fits = [each for each in rows if length[each[0]] >= min_length]
        support = Counter(each[1] for each in fits)
        fits = [each for each in fits if support[each[1]] >= min_support]
        if fits == rows:
            return [each[2] for each in rows]
        rows = fits


@settings(deadline=None)
@over(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_the_filter_is_the_fixed_point_of_a_slow_reference(events, min_length, min_support):
    session = np.array([each[0] for each in events], np.int64)
    item = np.array([each[1] for each in events], np.int64)
    keep = supported(session, item, min_length, min_support)
    assert np.flatnonzero(keep).tolist() == slowly_supported(session.tolist(), item.tolist(), min_length, min_support)


def test_the_filter_goes_on_until_nothing_falls():
    # Item 1 falls first, then the session that it leaves too short, then item 0 which that session held up.
    keep = supported(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 2, 2, 2, 0]), 2, 2)
    assert keep.tolist() == [False, False, True, True, False, False]


def two_files(**more) -> tuple[Dataset, Dataset]:
    train = log([(user, item) for user in range(3) for item in range(10 * (user > 0) + 1)], users=4, items=12, **more)
    test = log([(0, 11), (1, 10), (1, 3), (1, 10), (3, 5)], users=4, items=12)
    return train, Dataset.from_arrays(train.users, train.items, test.user, test.item)


def test_given_parts_by_hand():
    train, test = two_files(ordered=False)
    found = split.given(train, test, validation="none")
    assert found.train is train
    assert found.validation is None
    assert found.refit is None
    assert found.test.queries.user.tolist() == [0, 1, 3]
    assert found.test.queries.history.lists() == [[0], list(range(11)), []]
    assert found.test.targets.lists() == [[11], [10, 3], [5]]
    assert found.protocol["counts"]["repeated_test_events"] == 1
    assert found.protocol["counts"]["test_queries_without_history"] == 1
    assert found.leaks.repeated_pairs == 2
    assert found.leaks.duplicates is None
    assert found.leaks.cold_users == 1
    assert found.leaks.cold_items == 1


def test_given_validation_takes_a_seeded_share_of_each_user_and_leaves_one_event():
    train, test = two_files(ordered=False)
    found = split.given(train, test, fraction=0.3)
    assert found.train.offsets.tolist() == [0, 1, 9, 17, 17]
    assert found.validation.queries.user.tolist() == [1, 2]
    assert found.validation.targets.lengths.tolist() == [3, 3]
    for row in range(2):
        both = found.validation.queries.history[row].tolist() + found.validation.targets[row].tolist()
        assert sorted(both) == list(range(11))
    assert found.refit is train
    assert found.test.queries.history.lengths.tolist() == [1, 11, 0]
    again, other = (split.given(train, test, fraction=0.3, seed=seed).validation.targets for seed in (0, 1))
    assert again.lists() == found.validation.targets.lists() != other.lists()
    assert split.given(train, test, fraction=0.99).train.offsets.tolist() == [0, 1, 2, 3, 3]


def test_given_validation_by_the_last_event():
    train, test = two_files()
    found = split.given(train, test, validation="last", refit=False)
    assert found.validation.targets.lists() == [[10], [10]]
    assert found.refit is None
    with pytest.raises(MissingData, match="Validation by the last event needs ORDER"):
        split.given(*two_files(ordered=False), validation="last")


def test_given_validation_takes_targets_of_the_kinds_asked_for_and_nothing_after_them():
    test = log([(0, 3)], users=3, items=6)
    test = Dataset.from_arrays(SHOP.users, SHOP.items, test.user, test.item)
    found = split.given(SHOP, test, validation="last", target_kinds=["buy"])
    assert found.test.targets.lists() == [[3]]
    assert found.train.baskets.lists() == [[0, 0, 1, 2], [4, 5], [0, 5]]
    assert found.validation.targets.lists() == [[1]]
    assert found.protocol["counts"]["train_events_withheld_beside_targets"] == 1
    drawn = split.given(SHOP, test, fraction=0.5, target_kinds=["buy"])
    assert drawn.validation.queries.user.tolist() == [0, 2]
    assert set(drawn.validation.targets[0].tolist()) <= {0, 1}
    assert len(drawn.train) == len(SHOP) - 2
    with pytest.raises(MissingData, match="needs KINDS"):
        split.given(*two_files(), target_kinds=["buy"])


def test_given_validation_by_the_last_item_withholds_all_that_the_user_did_with_it():
    test = log([(0, 3)], users=3, items=6)
    test = Dataset.from_arrays(SHOP.users, SHOP.items, test.user, test.item)
    found = split.given(SHOP, test, validation="last_item", target_kinds=["buy"])
    assert found.train.baskets.lists() == [[0, 0, 2, 3], [4, 5], [5]]
    assert found.validation.queries.history.lists() == [[0, 0, 2, 3], [5]]
    assert found.validation.targets.lists() == [[1], [0]]
    assert found.protocol["counts"]["train_events_withheld_beside_targets"] == 1
    nothing_else = SHOP.where(np.isin(np.arange(len(SHOP)), [8]))  # one event of user 2 alone
    assert split.given(nothing_else, test, validation="last_item").validation is None


def test_given_parts_that_do_not_share_vocabularies_are_refused():
    with pytest.raises(DataError, match="must share their vocabularies"):
        split.given(log([(0, 0)]), log([(0, 1)]))


def test_a_random_split_is_a_partition_and_is_named_as_leaking():
    data = log([(user, item, 10 * item) for user in range(20) for item in range(30)])
    found = split.random(data)
    assert "This split leaks" in found.protocol["sentences"][0]
    assert found.leaks.own_events_later > 0
    assert found.leaks.found
    assert found.leaks.sentences()[0].startswith("LEAK: ")
    both = zip(found.test.queries.history.lists(), found.test.targets.lists(), strict=True)
    assert [sorted(history + targets) for history, targets in both] == [list(range(30))] * len(found.test)


def described(users: int = 12, items: int = 20) -> Dataset:
    data = log([(user, (user + step) % items, step) for user in range(users) for step in range(8)], items=items)
    genre = Category.from_list([("even", "odd")[item % 2] for item in range(items)])
    return replace(data, catalog=Catalog(Table(items, {"genre": genre}), Table(users)))


@pytest.mark.parametrize("refit", [False, True])
def test_cold_items_have_no_event_in_train_and_are_asked_of_who_met_them(refit):
    data = described()
    found = split.cold_items(data, 0.2, validation_share=0.1, refit=refit)
    cold = set(found.test.targets.values.tolist())
    chosen_by = set(found.validation.targets.values.tolist())
    assert (len(cold), len(chosen_by)) == (4, 2)
    assert not cold & chosen_by
    assert not (cold | chosen_by) & set(found.train.item.tolist())
    assert set(found.final.item.tolist()) & chosen_by == (chosen_by if refit else set())
    for user, history, targets in zip(
        found.test.queries.user.tolist(), found.test.queries.history.lists(), found.test.targets.lists(), strict=True
    ):
        own = data.item[data.user == user].tolist()
        assert set(targets) == set(own) & cold
        assert history == [item for item in own if item not in cold]
    for history in found.validation.queries.history.lists():
        assert not set(history) & (cold | chosen_by)
    assert found.protocol["counts"]["test_items"] == 4
    assert found.test.offered is None


def test_lists_may_be_of_cold_items_alone():
    data = described()
    found = split.cold_items(data, 0.2, offered="cold")
    assert found.test.offered.tolist() == sorted(set(found.test.targets.values.tolist()))
    assert found.test.take(np.arange(3)).offered is found.test.offered
    entry = Trial.of(found.test, train=found.train, k=4).entry("popular", Popular().fit(found.train))
    assert entry.metrics["recall@4"].mean == 1.0
    assert entry.metrics["coverage@4"].mean == 1.0  # of the four that may be offered
    longer = Trial.of(found.test, train=found.train, k=10).entry("popular", Popular().fit(found.train))
    assert longer.answers.short == entry.answers.short
    whole = split.cold_items(data, 0.2)
    assert whole.protocol["digest"] != found.protocol["digest"]
    board = evaluate({"popular": Popular().fit(found.train)}, found.test, train=found.train, k=4)
    assert "only the 4 items that the split offers are ranked" in str(board)
    assert ndcg_at_10(Popular().fit(found.train), found.test) > ndcg_at_10(Popular().fit(found.train), whole.test)


def test_cold_items_need_something_known_of_items_and_enough_of_them():
    with pytest.raises(MissingData, match="cold_items"):
        split.cold_items(replace(described(), catalog=None))
    with pytest.raises(DataError, match="has events of 2 items; too few to withhold 2"):
        split.cold_items(described(2, 2), 0.4, validation_share=0.4)
    with pytest.raises(ConfigError, match="must leave items to train on; they add up to"):
        split.cold_items(described(), 0.6, validation_share=0.5)


def test_leak_report_by_hand():
    # Train: user 0 at 1 and 2, user 1 at 1 (item 1) and 4, user 2 at 9. Targets: 0 at 3, 1 at 5, 2 at 10.
    rows = [(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 1, 1), (1, 0, 4), (1, 0, 5), (2, 3, 9), (2, 4, 10), (3, 5, 20)]
    leaks = split.leave_one_out(log(rows), validation_users=0).leaks
    assert leaks.train_events == 6
    assert leaks.train_events_after_test == 3  # later than 3: those at 4, 9 and 20
    assert leaks.queries_others_later == 3
    assert leaks.own_events_later == 0
    assert leaks.cold_items == 2  # 2 and 4
    assert leaks.cold_item_queries == 2
    assert leaks.cold_users == 0
    assert leaks.targets_in_history == 1  # user 1 meets 0 again
    assert leaks.repeated_pairs == 1
    assert leaks.duplicates == 0
    assert leaks.queries_tied == 0
    assert leaks.share_others_later == 1.0
    assert "2 target items, in 2 of 3 queries (66.7%), have no event in train" in " ".join(leaks.sentences())
    assert json.loads(json.dumps(leaks.to_json()))["found"] is False


def test_a_users_own_latest_event_does_not_count_as_that_of_others():
    rows = [(0, 0, 1), (0, 1, 50), (1, 1, 2), (1, 0, 3)]
    train, test = log(rows), log([(0, 1, 40), (1, 1, 10)])
    leaks = split.given(
        train, Dataset.from_arrays(train.users, train.items, test.user, test.item, time=test.time)
    ).leaks
    assert leaks.queries_others_later == 1  # of user 1 alone: what user 0 did at 50
    assert leaks.own_events_later == 1


def test_duplicates_across_parts_are_the_same_user_item_and_time():
    train = log([(0, 0, 1), (0, 1, 2), (1, 1, 1)])
    test = Dataset.from_arrays(
        train.users, train.items, np.array([0, 0, 1]), np.array([0, 1, 0]), time=np.array([1, 7, 1])
    )
    leaks = split.given(train, test, validation="none").leaks
    assert leaks.duplicates == 1
    assert leaks.repeated_pairs == 2
    assert "LEAK: 1 of 3 test targets (33.3%) is in train with the same user, item and time." in leaks.sentences()


def test_without_times_the_report_says_what_could_not_be_checked():
    leaks = split.leave_one_out(log([(0, 0), (0, 1), (0, 2)])).leaks
    assert leaks.own_events_later is None
    assert leaks.queries_tied is None
    assert "The log has no times: whether train holds later events" in leaks.sentences()[-1]


def test_leaks_are_the_same_however_small_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    rows = list(zip(rng.integers(0, 30, 500), rng.integers(0, 20, 500), rng.integers(0, 90, 500), strict=True))
    data = log([tuple(map(int, row)) for row in rows])
    whole = split.random(data).leaks
    monkeypatch.setattr("foretaste.split.leaks.CHUNK", 7)
    assert split.random(data).leaks == whole


def test_slices_by_hand():
    train = log([(user, 0) for user in range(4)] + [(user, 1) for user in range(3)] + [(0, 2)], users=6, items=5)
    test = [(0, 0), (1, 2), (2, 3), (3, 0), (3, 1), (5, 4)]
    data = log(test, users=6, items=5)
    found = split.given(train, Dataset.from_arrays(train.users, train.items, data.user, data.item), validation="none")
    slices = {name: mask.tolist() for name, mask in found.test.slices.items()}
    assert slices == {
        "history 0": [False, False, False, False, True],
        "history 1-4": [True, True, True, True, False],
        "new user": [False, False, False, False, True],
        "cold target": [False, False, True, False, True],
        "warm target": [True, True, False, True, False],
        "head target": [True, False, False, False, False],  # item 0 alone makes up half of 8 events
        "tail target": [False, True, True, False, True],  # user 3 has one of both sorts
    }


def test_a_split_is_told_as_json_and_its_digest_names_the_parts():
    found, again = split.leave_one_out(FOUR), split.leave_one_out(FOUR)
    assert json.loads(json.dumps(found.protocol)) == json.loads(json.dumps(again.protocol))
    assert found.protocol["kind"] == "leave_one_out"
    assert found.protocol["digest"] != split.leave_one_out(FOUR, validation_users=1).protocol["digest"]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"kind": "leave_one_out", "validation_users": 512}, split.LeaveOneOut(validation_users=512)),
        ({"kind": "leave_one_out", "validation_users": ["a", 7]}, split.LeaveOneOut(validation_users=("a", 7))),
        ({"kind": "leave_one_out", "validation_users": "u.txt"}, split.LeaveOneOut(validation_users=Path("u.txt"))),
        ({"kind": "last_n", "n": 3}, split.LastN(n=3)),
        ({"kind": "by_time", "spans": ["7d", "7d"]}, split.ByTime(spans=("7d", "7d"))),
        ({"kind": "last_sessions", "days": 1}, split.LastSessions(days=1)),
        ({"kind": "given", "validation": "last"}, split.Given(validation="last")),
        ({"kind": "random", "seed": 3}, split.RandomSplit(seed=3)),
        ({"kind": "cold_items", "offered": "cold"}, split.ColdItems(offered="cold")),
    ],
)
def test_settings_are_chosen_by_kind(content, rule):
    assert TypeAdapter(split.SplitSettings).validate_python(content) == rule


def test_misspelt_settings_are_refused():
    with pytest.raises(ValidationError, match="validation_user"):
        TypeAdapter(split.SplitSettings).validate_python({"kind": "leave_one_out", "validation_user": 3})


events = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=40)


def numbered(rows) -> Dataset:
    """A log in which the value of each event is its number, so that parts can be compared event by event."""
    data = log(rows)
    return Dataset.from_arrays(
        data.users, data.items, data.user, data.item, time=data.time, value=np.arange(len(data), dtype=np.float32)
    )


@settings(deadline=None)
@over(events, st.integers(1, 3), st.booleans())
def test_nothing_of_the_future_is_in_train_when_the_last_events_are_left_out(rows, n, validated):
    data = numbered(rows)
    try:
        found = split.last_n(data, n, validation_users=None if validated else 0)
    except DataError:
        return
    lengths = np.diff(data.offsets)
    test = found.test.queries
    train = found.train.value.tolist()
    events_of = [data.value[begin:end].tolist() for begin, end in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
    known = set() if found.validation is None else set(found.validation.queries.user.tolist())
    expected = []
    for user, of_user in enumerate(events_of):
        cut = n * ((user in test.user) + (user in known))
        expected += of_user[: len(of_user) - cut]
    assert train == expected
    assert set(np.flatnonzero(lengths > n)) == set(test.user.tolist())
    for row, user in enumerate(test.user):
        begin, end = test.history.offsets[row : row + 2]
        assert test.values[begin:end].tolist() == events_of[user][:-n]
        wanted = data.item[data.offsets[user + 1] - n : data.offsets[user + 1]]
        assert found.test.targets[row].tolist() == list(dict.fromkeys(wanted.tolist()))
    assert found.leaks.own_events_later == 0


@settings(deadline=None)
@over(events, st.integers(1, 5), st.integers(6, 11), st.sampled_from(["users", "events"]))
def test_nothing_at_or_after_the_cut_is_in_train_by_time(rows, first, second, queries):
    data = numbered(rows)
    dates = [f"1970-01-01T00:00:00.{each:03}Z" for each in (first, second)]
    try:
        found = split.by_time(data, dates=dates, queries=queries, min_history=0, refit=True)
    except DataError:
        return
    assert found.train.value.tolist() == data.value[data.time < first].tolist()
    assert found.refit.value.tolist() == data.value[data.time < second].tolist()
    if queries == "users":
        assert (found.test.queries.times < second).all()
    else:
        wanted = data.time >= second
        assert found.test.targets.values.tolist() == data.item[wanted].tolist()
    pairs = {(user, item) for user, item, time in zip(data.user, data.item, data.time, strict=True) if time >= second}
    user = found.test.queries.user[found.test.targets.row_of_value()]
    assert set(zip(user.tolist(), found.test.targets.values.tolist(), strict=True)) == pairs
    assert found.leaks.own_events_later == found.leaks.queries_others_later == 0


def test_a_million_events_are_split_and_checked_in_seconds():
    import time

    rng = np.random.default_rng(0)
    count = 1_000_000
    data = Dataset.from_arrays(
        Vocab(np.arange(50_000)),
        Vocab(np.arange(5_000)),
        rng.integers(0, 50_000, count),
        rng.integers(0, 5_000, count),
        time=rng.integers(0, 10**9, count),
    )
    begun = time.perf_counter()
    split.leave_one_out(data)
    assert time.perf_counter() - begun < 10


@pytest.mark.data
def test_the_benchmark_file_of_ml_1m_gives_the_published_counts():
    file = Path(os.environ.get("FORETASTE_DATA", ""), "ml-1m", "ml-1m.txt")
    if "FORETASTE_DATA" not in os.environ or not file.exists():
        pytest.skip("FORETASTE_DATA does not name a folder with ml-1m/ml-1m.txt")
    user, item = np.loadtxt(file, dtype=np.int64).T
    users, items = Vocab(np.unique(user)), Vocab(np.unique(item))
    data = Dataset.from_arrays(users, items, users.index(user), items.index(item), ordered=True)
    found = split.leave_one_out(data, validation_users=512)
    assert (len(data), len(users), len(items)) == (999_611, 6_040, 3_416)
    assert len(found.test) == 6_040
    assert len(found.validation) == 512
    assert len(found.train) == 999_611 - 6_040 - 512
    assert found.leaks.targets_in_history == 0


@pytest.mark.data
def test_the_sessions_of_retailrocket_buyers_are_those_that_the_recipe_tells_of(published):
    found = read_recipe("retailrocket-sessions").split.split(sources.load("retailrocket-buyers", published))
    counts = found.protocol["counts"]
    assert (counts["train_events"], counts["refit_events"]) == (24_238, 25_351)
    assert (counts["validation_queries"], counts["test_queries"]) == (931, 991)
    assert counts["test_events_of_items_unknown_to_training_dropped"] == 11
    assert found.protocol["denominators"] == {"headline": 991, "with_unknown": 1_002}
    assert found.filter_seen is False
