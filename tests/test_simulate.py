import itertools

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from foretaste.dataset import Needs
from foretaste.errors import ConfigError, ForetasteError, MissingData
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.simulate import Shop, World, simulate, simulate_events
from foretaste.simulate.words import CATEGORIES, REVIEWS

VIEW, CART, PURCHASE = 0, 1, 2
SMALL = Shop(users=600, items=300, events=20_000, seed=5)


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SMALL)


def asked_before(world: World, target: np.ndarray) -> Queries:
    """The query just before each of the given events."""
    data = world.data
    user = data.user[target]
    lengths = target - data.offsets[user]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    place = np.arange(offsets[-1]) + np.repeat(data.offsets[user] - offsets[:-1], lengths)
    return Queries(
        Ragged(data.item[place], offsets),
        times=data.time[place],
        kinds=data.kind[place],
        user=user,
        now=data.time[target - 1],
    )


def later_events(world: World, count: int) -> np.ndarray:
    """Some events that are not their user's first."""
    later = np.flatnonzero(world.data.user[1:] == world.data.user[:-1]) + 1
    return np.random.default_rng(0).choice(later, count, replace=False)


def test_equal_settings_give_equal_data(world: World):
    again = simulate(SMALL)
    assert again.data.fingerprint == world.data.fingerprint
    assert again.data.columns["review"].lists() == world.data.columns["review"].lists()
    assert again.data.catalog.titles() == world.data.catalog.titles()
    assert np.array_equal(again.data.impressions.item, world.data.impressions.item)
    assert simulate(SMALL.model_copy(update={"seed": 6})).data.fingerprint != world.data.fingerprint


def test_everything_a_model_may_need_is_there(world: World):
    assert all(need in world.data.has for need in Needs if need is not Needs.NOTHING)
    assert world.data.users[17] == "u00017"
    assert world.data.items[0].startswith("sku-")


def test_the_number_of_events_is_about_as_asked(world: World):
    assert len(world.data) == pytest.approx(SMALL.events, rel=0.15)


def test_events_lie_inside_the_span_and_no_two_of_a_user_coincide(world: World):
    time, user = world.data.time, world.data.user
    assert SMALL.start <= time.min() and time.max() < SMALL.end
    assert (np.diff(time)[np.diff(user) == 0] > 0).all()


def test_nothing_and_nobody_is_met_before_arrival(world: World):
    data = world.data
    arrived = data.catalog.items["arrived"].values
    assert np.array_equal(arrived, world.truth.arrival_times())
    assert (arrived > SMALL.start).mean() > 0.2
    assert (data.time >= arrived[data.item]).all()
    assert (data.impressions.time >= arrived[data.impressions.item]).all()
    first_visit = data.catalog.users["arrived"].values
    assert np.array_equal(first_visit, data.time[data.offsets[:-1]])


def test_new_items_and_new_users_come_throughout(world: World):
    for table in (world.data.catalog.items, world.data.catalog.users):
        day = (table["arrived"].values - SMALL.start) // 86_400_000
        late = day[day > 3]
        assert (np.histogram(late, bins=4, range=(0, SMALL.days))[0] > len(late) / 8).all()


def test_some_users_have_few_events_and_some_have_many(world: World):
    lengths = np.diff(world.data.offsets)
    assert lengths.min() >= 1
    assert np.percentile(lengths, 15) < 10 < 100 < np.percentile(lengths, 95)


def test_carts_follow_a_view_of_the_item_and_purchases_a_cart(world: World):
    data = world.data
    later = np.flatnonzero(data.kind != VIEW)
    assert np.array_equal(data.kind[later - 1], data.kind[later] - 1)
    for array in (data.item, data.user, data.session):
        assert np.array_equal(array[later - 1], array[later])
    views, carts, purchases = np.bincount(data.kind)
    assert 0.05 < carts / views < 0.4
    assert 0.2 < purchases / carts < 0.8


def test_sessions_are_those_that_a_gap_of_thirty_minutes_finds(world: World):
    data = world.data
    same_user = np.diff(data.user) == 0
    same_session = np.diff(data.session) == 0
    assert np.array_equal(same_session, same_user & (np.diff(data.time) <= 30 * 60_000))


def test_purchases_of_the_same_item_again_are_rare_but_there(world: World):
    data = world.data
    bought = data.where(data.kind == PURCHASE)
    pairs = len(np.unique(np.stack([bought.user, bought.item]), axis=1).T)
    assert 0 < 1 - pairs / len(bought) < 0.2


def test_only_purchases_are_rated_and_reviewed_and_paid_for(world: World):
    data = world.data
    rated = ~np.isnan(data.value)
    bought = data.kind == PURCHASE
    assert set(data.value[rated]) == {1, 2, 3, 4, 5}
    assert (data.kind[rated] == PURCHASE).all() and rated[bought].mean() < 0.8
    assert np.array_equal(~np.isnan(data.columns["price_paid"].values), bought)
    assert all(not text for text, given in zip(data.columns["review"].lists(), rated, strict=True) if not given)


def test_reviews_agree_with_the_stars(world: World):
    written = [
        (int(stars), text)
        for stars, text in zip(world.data.value, world.data.columns["review"].lists(), strict=True)
        if text
    ]
    assert len(written) > 300
    for stars, text in written:
        openings, _, ends = REVIEWS[stars - 1]
        assert text.startswith(openings) and text.endswith(ends)


def test_good_items_get_more_stars(world: World):
    rated = world.data.where(~np.isnan(world.data.value))
    assert np.corrcoef(rated.value, world.truth.quality[rated.item])[0, 1] > 0.3


def test_titles_tell_the_theme_that_no_column_names(world: World):
    nouns = [each.nouns for category in CATEGORIES for each in category.themes]
    assert len({noun for each in nouns for noun in each}) == sum(map(len, nouns))
    assert "theme" not in world.data.catalog.items
    for title, theme in zip(world.data.catalog.titles(), world.truth.theme, strict=True):
        assert title.lower().endswith(nouns[theme])


def test_every_view_was_a_click_on_a_list(world: World):
    data, shown = world.data, world.data.impressions
    clicked = shown.labels["click"] == 1
    views = data.where(data.kind == VIEW)
    seen = np.lexsort((shown.time[clicked], shown.user[clicked]))
    assert np.array_equal(shown.item[clicked][seen], views.item)
    assert (shown.time[clicked][seen] <= views.time).all()
    assert shown.labels["addtocart"].sum() == (data.kind == CART).sum()
    assert shown.labels["purchase"].sum() == (data.kind == PURCHASE).sum()
    assert np.bincount(shown.request[clicked]).max() == 1


def test_lists_are_whole_and_hold_nothing_twice(world: World):
    shown = world.data.impressions
    begins = np.flatnonzero(np.diff(shown.request, prepend=-1))
    lengths = np.diff(np.append(begins, len(shown)))
    assert lengths.max() == SMALL.shown
    assert np.array_equal(shown.position, np.arange(len(shown)) - np.repeat(begins, lengths))
    assert len(np.unique(np.stack([shown.request, shown.item]), axis=1).T) == len(shown)
    assert (np.add.reduceat(shown.labels["click"], begins) == 0).any()


def test_click_rates_fall_by_position(world: World):
    shown = world.data.impressions
    rates = np.bincount(shown.position, shown.labels["click"]) / np.bincount(shown.position)
    assert (np.diff(rates[: SMALL.shown - 2]) < 0).all()
    assert rates[0] > 2 * rates[SMALL.shown - 1]


def test_seasons_move_the_categories():
    calm = {"bursts": 0, "drift": 0.0, "late_items": 0.0, "late_users": 0.0}
    shop = Shop(users=300, items=200, events=20_000, days=365, season=2.0, **calm)
    world = simulate(shop)
    truth, data = world.truth, world.data
    day = truth.day(data.time)
    for category in np.unique(truth.category[truth.swing > 0]):
        peak = truth.season(np.arange(shop.days))[:, truth.category == category][:, 0]
        inside = truth.category[truth.theme[data.item]] == category
        high, low = (np.isin(day, np.argsort(order)[:60]) for order in (-peak, peak))
        assert inside[high].mean() > 2 * inside[low].mean()


def test_an_item_that_goes_viral_is_seen_far_more_often():
    shop = Shop(users=600, items=200, events=40_000, bursts=10, burst_height=200.0, seed=2)
    world = simulate(shop)
    truth, day = world.truth, world.truth.day(world.data.time)
    during = outside = 0.0
    for item, begin in zip(truth.burst_item, truth.burst_day, strict=True):
        running = (day >= begin) & (day < begin + 5)
        during += (world.data.item[running] == item).mean()
        outside += (world.data.item[~running] == item).mean()
    assert during > 3 * outside


def test_the_chances_of_the_oracle_sum_to_one(world: World):
    queries = asked_before(world, later_events(world, 300))
    for next in ("event", "view"):
        chances = world.oracle(next=next).chances(queries)
        assert (chances >= 0).all()
        assert chances.sum(axis=1) == pytest.approx(1, abs=1e-9)


def test_the_oracle_never_offers_what_has_not_arrived(world: World):
    queries = asked_before(world, later_events(world, 300))
    scores = world.oracle().scores(queries)
    there = world.truth.arrival_times() <= queries.now[:, None]
    assert scores.dtype == np.float32
    assert not there.all()
    assert np.array_equal(np.isfinite(scores), there)


def test_the_oracle_is_right_about_its_own_chances(world: World):
    target = later_events(world, 4000)
    chances = world.oracle().chances(asked_before(world, target))
    hit = np.zeros(chances.shape, bool)
    hit[np.arange(len(target)), world.data.item[target]] = True
    # What arrives between the question and the answer is the only thing that the oracle cannot expect.
    assert (chances[hit] == 0).mean() < 0.04
    edges = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 1.0])
    for low, high in itertools.pairwise(edges):
        within = (chances > low) & (chances <= high)
        expected, happened = chances[within].sum(), hit[within].sum()
        assert abs(happened - expected) < 4 * np.sqrt(expected) + 0.04 * expected


def test_the_oracle_beats_popularity_by_far(world: World):
    target = later_events(world, 1000)
    scores = world.oracle().scores(asked_before(world, target))
    popularity = np.bincount(world.data.item, minlength=SMALL.items)
    best, popular = np.argsort(-scores)[:, :10], np.argsort(-popularity)[:10]
    item = world.data.item[target]
    assert (best == item[:, None]).any(axis=1).mean() > 3 * np.isin(item, popular).mean()


def test_the_oracle_expects_a_cart_after_a_view_of_something_liked(world: World):
    queries = asked_before(world, later_events(world, 500))
    last = queries.history.values[queries.history.offsets[1:] - 1]
    rows = np.arange(len(queries))
    viewed = queries.kinds[queries.history.offsets[1:] - 1] == VIEW
    as_event = world.oracle(next="event").chances(queries)[rows, last]
    as_view = world.oracle(next="view").chances(queries)[rows, last]
    assert (as_event[viewed] > as_view[viewed]).all()


def test_a_long_silence_makes_a_new_session_certain(world: World):
    queries = asked_before(world, later_events(world, 50))
    later = queries.now + 3 * 86_400_000
    waited = Queries(queries.history, queries.times, queries.kinds, user=queries.user, now=later)
    nothing = Queries(Ragged.empty(50), user=queries.user, now=later)
    oracle = world.oracle()
    assert oracle.chances(waited) == pytest.approx(oracle.chances(nothing))
    cut = int(later.max())
    asked_at_cut = Queries(queries.history, queries.times, queries.kinds, user=queries.user, now=np.full(50, cut))
    assert world.oracle(asked_at=cut).chances(queries) == pytest.approx(oracle.chances(asked_at_cut))


def test_batches_of_queries_do_not_change_the_answer(world: World, monkeypatch: pytest.MonkeyPatch):
    queries = asked_before(world, later_events(world, 20))
    whole = world.oracle().scores(queries)
    monkeypatch.setattr("foretaste.simulate.oracle.CHUNK_CELLS", 1)
    assert np.array_equal(world.oracle().scores(queries), whole)


def test_the_oracle_must_know_who_asks_and_when(world: World):
    nobody = Queries(Ragged.empty(1), user=np.array([PAD], np.int32), now=np.array([SMALL.start]))
    with pytest.raises(MissingData, match="every query must name a known user"):
        world.oracle().scores(nobody)
    with pytest.raises(MissingData, match="needs the moment of asking"):
        world.oracle().scores(Queries(Ragged.empty(1), user=np.zeros(1, np.int32)))


def test_batches_of_days_change_neither_who_comes_when_nor_what_is_popular(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("foretaste.simulate.visits.BATCH_SESSIONS", 100)
    other = simulate(SMALL)
    views, others = (each.data.where(each.data.kind == VIEW) for each in (world, other))
    assert np.array_equal(views.time, others.time)
    counts = [np.bincount(each.item, minlength=SMALL.items) for each in (views, others)]
    assert np.corrcoef(*counts)[0, 1] > 0.9
    assert (other.data.time >= other.truth.arrival_times()[other.data.item]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"items": 79}, "79 items are too few for 40 themes"),
        ({"users": 100, "events": 100}, "100 events are too few for 100 users"),
        ({"seasons": 1}, "Extra inputs are not permitted"),
        ({"stay": 1.0}, "less than or equal to 0.95"),
    ],
)
def test_impossible_shops_are_refused(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Shop(**settings)


def test_a_very_small_shop_opens():
    world = simulate(Shop(users=3, items=10, events=40, days=7, categories=1, bursts=0, storefront=0.0, related=0.0))
    assert len(world.data.users) == 3
    assert world.oracle().chances(Queries.of_users(world.data)).sum(axis=1) == pytest.approx(1)


def test_files_hold_the_whole_log(world: World, tmp_path):
    world.write(tmp_path / "shop")
    events = pl.read_csv(tmp_path / "shop" / "events.csv")
    assert events.columns[:6] == ["user_id", "item_id", "event", "timestamp", "value", "session_id"]
    assert len(events) == len(world.data)
    assert events["timestamp"].is_sorted()
    assert (
        events["event"].value_counts().sort("event")["count"].to_list()
        == np.bincount(world.data.kind)[[1, 2, 0]].tolist()
    )
    assert events["value"].drop_nulls().len() == np.count_nonzero(~np.isnan(world.data.value))
    items = pl.read_csv(tmp_path / "shop" / "items.csv")
    assert sorted(items["item_id"]) == sorted(world.data.items.lists())
    assert items["arrived"][0].endswith("Z")
    assert len(pl.read_csv(tmp_path / "shop" / "users.csv")) == SMALL.users
    assert len(pl.read_csv(tmp_path / "shop" / "impressions.csv")) == len(world.data.impressions)


def test_a_folder_with_other_things_is_left_alone(world: World, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ForetasteError, match="left alone"):
        world.write(tmp_path)


def test_the_plain_stream_gives_what_was_asked_in_order_of_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("foretaste.simulate.stream.CHUNK", 4000)
    chunks = list(simulate_events(10_000, users=500, items=200, seed=1))
    assert [len(user) for user, _, _ in chunks] == [4000, 4000, 2000]
    user, item, time = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    assert user.dtype == item.dtype == time.dtype == np.int64
    assert np.isin(user, np.arange(500)).all() and np.isin(item, np.arange(200)).all()
    assert (np.diff(time) >= 0).all()
    again = next(iter(simulate_events(10_000, users=500, items=200, seed=1)))
    assert np.array_equal(again[1], chunks[0][1])
    counts = np.sort(np.bincount(item, minlength=200))[::-1]
    assert counts[:20].sum() > 0.2 * len(item)


def test_a_stream_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="items is 0"):
        next(simulate_events(10, users=5, items=0))
