"""Two stages: candidates put together, what the log tells at the moment of asking, and the whole as one model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretaste.catalog import NO_TIME, Catalog, Categories, Category, Number, Table, Text, Vector
from foretaste.dataset import Dataset, EventKinds, Impressions
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.models import EASE, ItemKNN, Popular, TwoStage
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.rank.examples import Examples
from foretaste.rank.follows import PRIOR, Follows
from foretaste.rank.gathering import EXAMPLES
from foretaste.rank.inputs import TableInputs
from foretaste.rank.item_times import ItemTimes
from foretaste.rank.later import later_folds, later_slice
from foretaste.rank.likeness import Likeness
from foretaste.rank.log_features import item_features, item_statistics, pair_features, request_features
from foretaste.rank.pool import Pool, _union, pooled
from foretaste.rank.stage import Stage, among, drawn
from foretaste.run import Run
from foretaste.validation import ndcg_at_10
from foretaste.vocab import Vocab

HOUR = 3_600_000
DAY = 24 * HOUR
RUN = Run(seed=3, device="cpu", threads=1, precision="fp32")
FAST = {
    **{"dim": 8, "hidden": (16,), "head_hidden": (), "judged_by": "ndcg", "batch_size": 2048},
    **{"plan": {"epochs": 15, "lr": 0.01}},
}


def test_candidates_stand_place_by_place_and_once():
    first, second = np.array([[5, 1, 2], [7, PAD, PAD]]), np.array([[1, 5], [8, 9]])
    items, source = _union([first.astype(np.int32), second.astype(np.int32)])
    assert items.tolist() == [[5, 1, 2], [7, 8, 9]]
    assert source.tolist() == [[0, 1, 0], [0, 1, 1]]


def test_every_source_says_what_it_thinks_of_every_candidate(shop):
    sources = {"itemknn": ItemKNN(neighbors=8).fit(shop), "ease": EASE(l2=20.0).fit(shop)}
    queries = Queries.of_users(shop, np.arange(30))
    pool = pooled(sources, queries, {"itemknn": 3, "ease": 4}, queries.history, None)
    assert pool.labels == ("itemknn", "ease")
    for row in range(30):
        listed = pool.items[row][pool.items[row] != PAD].tolist()
        own = {
            label: model.recommend(queries.take(np.array([row])), size)
            for (label, model), size in zip(sources.items(), (3, 4), strict=True)
        }
        wanted = {item for top in own.values() for item in top.items[0][top.source[0] == 0].tolist()}
        assert set(listed) == wanted
        assert not set(listed) & set(queries.history[row].tolist())
        scores = sources["ease"]._scores(queries.take(np.array([row])))[0]
        told = pool.scores[1, row, : len(listed)]
        real = scores[torch.tensor(listed, dtype=torch.long)].numpy()
        known = np.isfinite(told)
        if known.sum() > 1:
            assert np.corrcoef(told[known], real[known])[0, 1] > 0.999
        for place, item in enumerate(own["ease"].items[0][own["ease"].source[0] == 0].tolist()):
            assert pool.ranks[1, row, listed.index(item)] == place


def test_only_some_candidates_keep_what_is_said_of_them(shop):
    sources = {"itemknn": ItemKNN(neighbors=8).fit(shop)}
    queries = Queries.of_users(shop, np.arange(5))
    pool = pooled(sources, queries, {"itemknn": 5}, queries.history, None)
    kept = (pool.items != PAD) & (np.arange(pool.items.shape[1]) % 2 == 1)
    some = pool.only(kept)
    for row in range(5):
        assert some.items[row][some.items[row] != PAD].tolist() == pool.items[row][kept[row]].tolist()
        count = int(kept[row].sum())
        assert np.array_equal(some.scores[0, row, :count], pool.scores[0, row][kept[row]])


@pytest.fixture
def small():
    """Two who asked: one with five events over two days, one without any."""
    catalog = Table(
        5,
        {
            "genre": Category.from_list(["a", "b", "a", None, "b"]),
            "tags": Categories.from_lists([["x", "y"], ["x"], [], ["y"], ["z"]]),
            "price": Number(np.array([0.0, np.e - 1, np.nan, np.e - 1, np.e**2 - 1])),
        },
    )
    times = np.array([0, HOUR // 4, 24 * HOUR, 25 * HOUR, 25 * HOUR + 1])
    queries = Queries(
        Ragged.from_lists([[0, 1, 0, 4, 1], []]),
        times=times,
        kinds=np.array([0, 0, 1, 0, 1], np.int8),
        session_start=np.array([2, 0]),
        now=np.array([26 * HOUR, 26 * HOUR]),
        user_features=Table(2, {"region": Category.from_list(["north", None])}),
    )
    return catalog, queries


def test_what_is_known_of_those_who_ask(small):
    catalog, queries = small
    table = request_features(queries, EventKinds(("view", "buy"), (1.0, 2.0)), catalog)
    numbers = {name: column.values for name, column in table.of_kind("number").items()}
    assert numbers["user events"] == pytest.approx(np.log1p([5, 0]))
    assert numbers["user items"] == pytest.approx(np.log1p([3, 0]))
    assert numbers["user view"] == pytest.approx(np.log1p([3, 0]))
    assert numbers["user buy per view"] == pytest.approx(np.log([3 / 5, 1 / 2]))
    assert numbers["user hours since"][0] == pytest.approx(np.log1p(1), rel=1e-4)
    assert numbers["user tenure"][0] == pytest.approx(np.log1p(26))
    assert np.isnan(numbers["user tenure"][1])
    assert numbers["user sessions"] == pytest.approx(np.log1p([3, 0]))
    assert numbers["user running session"] == pytest.approx(np.log1p([3, 0]))
    assert numbers["user price level"][0] == pytest.approx((0 + 1 + 0 + 2 + 1) / 5)
    assert np.isnan(numbers["user price level"][1])
    assert numbers["user at night"][0] == pytest.approx(1.0)
    assert table["user: region"].lists() == ["north", None]
    assert table["context now"].lists() == [26 * HOUR, 26 * HOUR]


def test_without_times_and_kinds_less_is_known():
    table = request_features(Queries(Ragged.from_lists([[0, 1]])), EventKinds(), Table(3))
    assert list(table) == ["user events", "user items"]


def test_what_a_history_says_of_an_item(small):
    catalog, queries = small
    table = pair_features(queries, np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 0]), catalog)
    assert table["pair met"].values == pytest.approx(np.log1p([2, 2, 0, 0, 0]))
    assert table["pair events ago"].values[:2] == pytest.approx(np.log1p([3, 1]))
    assert np.isnan(table["pair events ago"].values[2:]).all()
    # Of five events two are of genre a (0, 0) and three of b (1, 4, 1).
    assert table["pair: genre"].values == pytest.approx([2 / 5, 3 / 5, 2 / 5, 0, 0])
    # The running session is 0, 4, 1; its last event is 1.
    assert table["pair session: genre"].values == pytest.approx([1 / 3, 2 / 3, 1 / 3, 0, 0])
    assert table["pair last: genre"].values == pytest.approx([0, 1, 0, 0, 0])
    # x: 0, 1, 0, 1 = 4; y: 0, 0 = 2; z: 4 = 1. The first item has x and y, and takes their mean.
    assert table["pair: tags"].values == pytest.approx([3 / 5, 4 / 5, 0, 2 / 5, 0])
    assert table["pair price"].values[1] == pytest.approx(1 - 4 / 5)


def test_pairs_are_counted_as_one_by_one(shop):
    queries = Queries.of_users(shop, np.arange(40))
    rng = np.random.default_rng(0)
    query, item = rng.integers(0, 40, 300), rng.integers(0, len(shop.items), 300)
    table = pair_features(queries, query, item, shop.catalog.items)
    for row in range(0, 300, 7):
        history = queries.history[query[row]].tolist()
        assert table["pair met"].values[row] == pytest.approx(np.log1p(history.count(item[row])))
        ago = table["pair events ago"].values[row]
        if item[row] in history:
            assert ago == pytest.approx(np.log1p(history[::-1].index(item[row]) + 1))
        else:
            assert np.isnan(ago)


def test_what_the_log_tells_of_items(shop):
    table = item_features(item_statistics(shop), shop.catalog.items)
    met = np.bincount(shop.item, minlength=len(shop.items))
    assert table["item events"].values == pytest.approx(np.log1p(met))
    people = [len(set(shop.user[shop.item == item].tolist())) for item in range(len(shop.items))]
    assert table["item people"].values == pytest.approx(np.log1p(people))
    assert not [name for name in table if table[name].kind == "text"]


def test_nothing_is_known_from_the_future(shop):
    later = later_slice(shop, 0.3, RUN)
    cut = int(np.quantile(shop.time, 0.7))
    assert later.early.time.max() < cut
    assert later.queries.times.max() < cut
    assert set(later.came) == set(shop.kinds.names)
    users = later.queries.user
    for row, user in enumerate(users.tolist()):
        after = (shop.user == user) & (shop.time >= cut)
        for kind, name in enumerate(shop.kinds.names):
            met = set(shop.item[after & (shop.kind == kind)].tolist())
            assert set(later.came[name][row].tolist()) == met
    # A feature of an item that had counted later events would differ from that of the early part alone.
    early = item_statistics(later.early)["item events"].values
    assert not np.array_equal(early, item_statistics(shop)["item events"].values)


def test_items_at_a_moment_are_counted_as_one_by_one(shop):
    rng = np.random.default_rng(0)
    item = rng.integers(0, len(shop.items), 200)
    moment = rng.integers(shop.time.min() - DAY, shop.time.max() + 3 * DAY, 200)
    moment[:40], moment[40:60] = rng.choice(shop.time, 40), NO_TIME
    table = ItemTimes.of(shop).features(item, moment)
    end = shop.time.max() + 1
    for row in range(200):
        now = min(moment[row], end) if moment[row] != NO_TIME else end
        times = shop.time[(shop.item == item[row]) & (shop.time < now)]
        for name, days in (("day", 1), ("week", 7), ("month", 30)):
            count = (times >= now - days * DAY).sum()
            assert table[f"item events of the {name}"].values[row] == pytest.approx(np.log1p(count))
        age = table["item age"].values[row]
        assert np.isnan(age) if not len(times) else age == pytest.approx(np.log1p((now - times.min()) / HOUR))
    assert ItemTimes.of(replace(shop, time=None)) is None


def test_likeness_is_the_cosine_to_the_mean_direction(shop):
    """By the vectors of the catalogue, of all that was met, of the last event and of the running session."""
    vectors = np.array([[1, 0], [0, 2], [3, 3], [0, 0], [np.nan, np.nan]], np.float32)
    data = _described(5, Table(5, {"look": Vector(vectors)}))
    likeness = Likeness.of(data)
    queries = Queries(Ragged.from_lists([[0, 0, 1], [3, 4], []]), session_start=np.array([1, 0, 0]))
    query, item = np.repeat(np.arange(3), 5), np.tile(np.arange(5), 3)
    table = likeness.features(queries, query, item)
    unit = np.array([[1, 0], [0, 1], [0.5**0.5, 0.5**0.5]])
    for of, mean in (("pair", [2, 1]), ("pair last", [0, 1]), ("pair session", [1, 1])):
        found = table[f"{of} like: vector look"].values.reshape(3, 5)
        assert found[0, :3] == pytest.approx(unit @ mean / np.linalg.norm(mean), abs=1e-6)
        assert np.isnan(found[0, 3:]).all()  # of these nothing is known
        assert np.isnan(found[1:]).all()
    again = Likeness.from_arrays(data.catalog.items, likeness.arrays()).features(queries, query, item)
    assert all(np.array_equal(again[name].values, table[name].values, equal_nan=True) for name in table)
    assert not Likeness.of(_described(5, Table(5))).directions


def test_texts_without_a_common_word_are_alike_if_others_use_them_together(monkeypatch):
    """Down to two dimensions, a lamp and a lantern are one matter, and a plate and a bowl the other."""
    monkeypatch.setattr("foretaste.rank.likeness.DIM", 2)
    texts = ["lamp", "lantern", "lamp lantern glow", "lantern glow lamp", "plate", "bowl", "plate bowl", "bowl plate"]
    data = _described(9, Table(9, {"about": Text.from_list([*texts, "unheard"])}))
    likeness = Likeness.of(data)
    queries = Queries(Ragged.from_lists([[0], [4], [8]]))
    query, item = np.repeat(np.arange(3), 9), np.tile(np.arange(9), 3)
    found = likeness.features(queries, query, item)["pair like: texts"].values.reshape(3, 9)
    assert found[0, :4] == pytest.approx(1, abs=1e-4)
    assert found[0, 4:8] == pytest.approx(0, abs=1e-4)
    assert found[1, 4:8] == pytest.approx(1, abs=1e-4)
    assert np.isnan(found[2]).all()  # its word is that of no item that was met
    assert np.isnan(found[:, 8]).all()
    again = Likeness.from_arrays(data.catalog.items, likeness.arrays())
    assert np.array_equal(again.directions["texts"], likeness.directions["texts"])


def test_pairs_are_taken_in_parts(monkeypatch):
    data = _described(4, Table(4, {"look": Vector(np.eye(4, dtype=np.float32))}))
    queries = Queries(Ragged.from_lists([[0, 1], [2]]))
    query, item = np.repeat(np.arange(2), 4), np.tile(np.arange(4), 2)
    whole = Likeness.of(data).features(queries, query, item)
    monkeypatch.setattr("foretaste.rank.likeness.TOGETHER", 3)
    parts = Likeness.of(data).features(queries, query, item)
    assert all(np.array_equal(parts[name].values, whole[name].values) for name in whole)


def _described(count, items):
    """A log in which all items but the last were met, with this catalogue."""
    met = np.arange(count - 1)
    catalog = Catalog(items, Table(1))
    return Dataset.from_arrays(
        Vocab(np.arange(1)), Vocab(np.arange(count)), np.zeros_like(met), met, ordered=True, catalog=catalog
    )


def test_chances_of_what_comes_next_are_those_of_the_mixture(shop):
    follows = Follows.of(shop)
    assert follows.weights.sum() == pytest.approx(1)
    assert follows.popularity.sum() == pytest.approx(1)
    count = len(shop.items)
    matrix = np.zeros((count, count))
    matrix[follows.keys // count, follows.keys % count] = follows.counts
    matrix = (matrix + PRIOR * follows.popularity) / (matrix.sum(1, keepdims=True) + PRIOR)
    queries = Queries(Ragged.from_lists([[3, 1, 1], [2], [], [5, 4, 5]]))
    query, item = np.repeat(np.arange(4), count), np.tile(np.arange(count), 4)
    table = follows.features(queries, query, item)
    popular, of_last, of_before = follows.weights
    for row, (last, before) in enumerate([(1, 3), (2, None), (None, None), (5, 4)]):
        now, earlier, both = (
            np.exp(table[f"pair follows{name}"].values[query == row]) for name in ("", " earlier", " both")
        )
        first = follows.popularity if last is None else matrix[last]
        second = first if before is None else matrix[before]
        assert np.isnan(now).all() if last is None else now == pytest.approx(first)
        assert np.isnan(earlier).all() if before is None else earlier == pytest.approx(second)
        assert both == pytest.approx(popular * follows.popularity + of_last * first + of_before * second)
        assert both.sum() == pytest.approx(1)
    again = Follows.from_arrays(count, follows.arrays()).features(queries, query, item)
    for name in table:
        assert np.array_equal(again[name].values, table[name].values, equal_nan=True)
    assert Follows.of(replace(shop, time=None, ordered=False)) is None


def test_what_led_to_an_item_is_told_apart_from_what_came_with_it():
    """Half of the steps follow a link of the last item, of two, three in ten one of the item before, the rest none."""
    rng = np.random.default_rng(0)
    items, people, length = 60, 600, 20
    walks, way = rng.integers(0, items, (people, length)), rng.random((people, length))
    link = np.where(rng.random((people, length)) < 0.5, 10, 23)
    for place in range(2, length):
        by_last, by_before = way[:, place] < 0.5, (way[:, place] >= 0.5) & (way[:, place] < 0.8)
        walks[by_last, place] = (walks[by_last, place - 1] + link[by_last, place]) % items
        walks[by_before, place] = (walks[by_before, place - 2] + link[by_before, place]) % items
    user = np.repeat(np.arange(people), length)
    data = Dataset.from_arrays(Vocab(np.arange(people)), Vocab(np.arange(items)), user, walks.ravel(), ordered=True)
    follows = Follows.of(data)
    moved = way[:, 2:][np.diff(walks)[:, 1:] != 0]  # an item that came again is no step
    shares = [(moved >= 0.8).mean(), (moved < 0.5).mean(), ((moved >= 0.5) & (moved < 0.8)).mean()]
    assert follows.weights == pytest.approx(shares, abs=0.06)
    by_link = np.isin((follows.keys % items - follows.keys // items) % items, (10, 23))
    assert follows.counts[by_link].sum() / follows.counts.sum() > 0.8
    raw = np.isin(np.diff(walks) % items, (10, 23))
    assert raw[:, 1:].mean() < 0.7  # of what came right after, counted as it came


def test_without_sessions_a_silence_ends_what_follows():
    minute = 60_000
    times = np.array([0, minute, 40 * minute, 41 * minute, 42 * minute])
    data = Dataset.from_arrays(
        Vocab(np.arange(1)), Vocab(np.arange(4)), np.zeros(5, int), np.array([0, 1, 2, 2, 3]), time=times
    )
    follows = Follows.of(data)
    assert follows.keys.tolist() == [0 * 4 + 1, 2 * 4 + 3]  # the second time that 2 was met, it followed itself


def test_users_ask_at_moments(shop):
    rng = np.random.default_rng(1)
    user = rng.integers(0, len(shop.users), 80).astype(np.int32)
    user[::9] = PAD
    moment = rng.integers(shop.time.min() - DAY, shop.time.max() + DAY, 80)
    queries = Queries.at_moments(shop, user, moment)
    for row in range(80):
        before = (shop.user == user[row]) & (shop.time < moment[row])
        assert queries.history[row].tolist() == shop.item[before].tolist()
        inside = slice(*queries.history.offsets[row : row + 2])
        assert queries.times[inside].tolist() == shop.time[before].tolist()
        assert queries.kinds[inside].tolist() == shop.kind[before].tolist()
        sessions = shop.session[before]
        if len(sessions):
            running = int((sessions == sessions[-1]).sum())
            assert queries.session_start[row] <= len(sessions) - running or len(set(sessions)) == 1
    assert queries.now.tolist() == moment.tolist()
    assert queries.user_features["age"].lists()[0] is None


def test_each_event_asks_for_itself(shop):
    later = later_slice(shop, 0.3, RUN, "events")
    cut = int(np.quantile(shop.time, 0.7))
    rows = [
        row for row in range(len(shop))
        if shop.time[row] >= cut and row > shop.offsets[shop.user[row]]
    ]  # fmt: skip
    assert len(later.queries) == len(rows)
    for query, row in enumerate(rows):
        assert later.queries.history[query].tolist() == shop.item[shop.offsets[shop.user[row]] : row].tolist()
        same = (shop.user == shop.user[row]) & (shop.item == shop.item[row])
        soon = same & (shop.time >= shop.time[row]) & (shop.time < shop.time[row] + DAY)
        for kind, name in enumerate(shop.kinds.names):
            wanted = [shop.item[row]] if (soon & (shop.kind == kind)).any() else []
            assert later.came[name][query].tolist() == wanted
    assert len(later_slice(shop, 0.3, RUN, "events", 20).queries) == 20
    assert len(later_slice(shop, 0.3, RUN, "users", 20).queries) == 20


def test_the_last_events_of_each_person_are_asked_by_sources_that_know_all_else(shop):
    folds = later_folds(shop, 0.3, 3, RUN, "events")
    asked = []
    for later in folds:
        gone = np.bincount(shop.user, minlength=len(shop.users)) - np.bincount(
            later.early.user, minlength=len(shop.users)
        )
        asked.append(set(np.flatnonzero(gone).tolist()))
        for user in asked[-1]:
            length = int((shop.user == user).sum())
            assert gone[user] == length - min(length - 1, max(1, int(np.floor(0.7 * length))))
            assert later.early.item[later.early.user == user].tolist() == (
                shop.item[shop.user == user][: length - gone[user]].tolist()
            )
        assert set(later.queries.user.tolist()) == asked[-1]
        assert len(later.queries) == gone.sum()
        assert len(later.known) == len(shop)
    many = {user for user in range(len(shop.users)) if (shop.user == user).sum() > 1}
    assert set().union(*asked) == many
    assert sum(map(len, asked)) == len(many)  # nobody is asked in two of them
    assert sum(len(later.queries) for later in later_folds(shop, 0.3, 3, RUN, "users", 21)) == 21
    with pytest.raises(MissingData, match="Cutting off the last events of each person needs ORDER"):
        later_folds(replace(shop, time=None, ordered=False), 0.3, 2, RUN)


def test_lists_that_were_shown_are_in_one_fold_each(shop):
    data = with_lists(shop)
    shown = [later.shown for later in later_folds(data, 0.5, 2, RUN)]
    users = [each.queries.user.tolist() for each in shown if each is not None]
    moments = {3: data.impressions.time[0], 4: data.impressions.time[3], 5: data.impressions.time[-1]}
    cut = {user: data.time[data.user == user][int((data.user == user).sum() * 0.5)] for user in moments}
    wanted = [user for user, moment in moments.items() if moment >= cut[user]]
    assert sorted(user for each in users for user in each if user != PAD) == wanted != []
    assert [PAD in each for each in users] == [True, False]


def with_lists(shop):
    """The shop with lists of its last days: one of a stranger, one in which an item stands twice."""
    last = int(shop.time.max())
    at = np.array([last - 40 * DAY, last - 2 * DAY, last - DAY, last])
    user = np.array([3, 4, PAD, 5], np.int32)
    lists = [[1, 2, 3], [2, 5, 2, 7], [0, 4], [6, 8, 9]]
    lengths = np.array([len(each) for each in lists])
    place = np.concatenate([np.arange(each) for each in lengths])
    click = np.array([1, 0, 0, 0, 1, 0, -1, 1, 0, 0, 0, 1], np.int8)
    page = Category.from_list(np.repeat(["home", "shelf", "home", "shelf"], lengths).tolist())
    shown = Impressions(
        np.repeat([5, 6, 8, 9], lengths), np.repeat(user, lengths), np.concatenate(lists).astype(np.int32),
        np.repeat(at, lengths), place.astype(np.int32), {"click": click}, Table(len(click), {"page": page}),
    )  # fmt: skip
    return replace(shop, impressions=shown)


def test_lists_that_were_shown_after_the_cut(shop):
    data = with_lists(shop)
    shown = later_slice(data, 0.1, RUN).shown
    assert shown.items.lists() == [[2, 5, 7], [0, 4], [6, 8, 9]]
    assert shown.position.tolist() == [0, 1, 3, 0, 1, 0, 1, 2]
    assert shown.labels["click"].tolist() == [0, 1, -1, 1, 0, 0, 0, 1]
    assert shown.queries.user.tolist() == [4, PAD, 5]
    assert shown.queries.context["page"].lists() == ["shelf", "home", "shelf"]
    last = data.impressions.time.max()
    for row, (user, moment) in enumerate([(4, last - 2 * DAY), (PAD, 0), (5, last)]):
        known = (shop.user == user) & (shop.time < moment)
        assert shown.queries.history[row].tolist() == shop.item[known].tolist()
    some = shown.take(np.array([0, 2])).without(Ragged.from_lists([[5], [6, 8, 9]]))
    assert some.items.lists() == [[2, 7], []]
    assert some.position.tolist() == [0, 3]
    assert some.labels["click"].tolist() == [0, -1]
    assert later_slice(replace(data, impressions=None), 0.1, RUN).shown is None


def test_given_items_are_candidates_in_the_place_of_others(shop):
    sources = {"itemknn": ItemKNN(neighbors=8).fit(shop), "ease": EASE(l2=20.0).fit(shop)}
    queries = Queries.of_users(shop, np.arange(20))
    sizes = {"itemknn": 3, "ease": 4}
    named = pooled(sources, queries, sizes, queries.history, None)
    given = Ragged.from_lists([row[row != PAD][::-1] for row in named.items])
    pool = pooled(sources, queries, sizes, queries.history, None, given)
    for row in range(20):
        items = given[row]
        assert pool.items[row, : len(items)].tolist() == items.tolist()
        for place, item in enumerate(items.tolist()):
            at = named.items[row].tolist().index(item)
            assert np.array_equal(pool.scores[:, row, place], named.scores[:, row, at], equal_nan=True)
            assert pool.ranks[:, row, place].tolist() == named.ranks[:, row, at].tolist()
            best = pool.ranks[:, row, place].min()
            assert pool.ranks[pool.first[row, place], row, place] == best


def test_examples_are_put_together():
    items = Table(3, {"item x": Number(np.arange(3.0))})
    parts = [
        Examples(
            np.array([0, 0, 1]), Table(2, {"user a": Category.from_list(["p", "q"])}), np.array([0, 1, 2]), items,
            Table(3, {"s": Number(np.arange(3.0))}), {"buy": np.array([1, 0, 0], np.int8)},
        ),
        Examples(
            np.array([0, 1]), Table(2, {"tags": Categories.from_lists([["x"], ["y", "x"]])}), np.array([2, 2]), items,
            Table(2, {"s": Number(np.array([5.0, 6.0])), "position": Number(np.array([1.0, 4.0]))}),
            {"click": np.array([1, 0], np.int8)},
        ),
    ]  # fmt: skip
    whole = Examples.together(parts)
    assert whole.request.tolist() == [0, 0, 1, 2, 3]
    assert whole.requests["user a"].lists() == ["p", "q", None, None]
    assert whole.requests["tags"].lists() == [[], [], ["x"], ["y", "x"]]
    assert whole.places["s"].values.tolist() == [0, 1, 2, 5, 6]
    assert whole.places["position"].lists() == [None, None, None, 1.0, 4.0]
    assert {name: label.tolist() for name, label in whole.labels.items()} == {
        "buy": [1, 0, 0, -1, -1], "click": [-1, -1, -1, 1, 0],
    }  # fmt: skip
    assert whole.items is items
    own = Table(4, {"item x": Number(np.arange(10.0, 14.0))})
    whole = Examples.together([parts[0], replace(parts[1], item=np.array([3, PAD]), items=own), parts[0]])
    assert whole.item.tolist() == [0, 1, 2, 3 + 3, PAD, 0, 1, 2]
    assert whole.items["item x"].values.tolist() == [0, 1, 2, 10, 11, 12, 13]
    other = replace(parts[0], requests=Table(2, {"user a": Category.from_list(["p", "z"])}))
    with pytest.raises(DataError, match="'user a' is of another kind, or has other names"):
        Examples.together([parts[0], other])


def test_slices_without_times():
    users, items = Vocab(np.arange(3)), Vocab(np.arange(6))
    user, item = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 4, 5])
    ordered = later_slice(Dataset.from_arrays(users, items, user, item, ordered=True), 0.1, RUN)
    assert ordered.early.item.tolist() == [0, 1, 3, 5]
    assert ordered.came["next"].lists() == [[2], [4]]
    drawn = later_slice(Dataset.from_arrays(users, items, np.repeat(user, 9), np.tile(item, 9)), 0.3, RUN)
    assert "drawn by chance" in drawn.words
    with pytest.raises(DataError, match="nobody has events both before and after"):
        later_slice(Dataset.from_arrays(users, items, np.array([0]), np.array([1]), ordered=True), 0.1, RUN)


def test_slices_of_last_purchases():
    users, items = Vocab(np.arange(3)), Vocab(np.arange(6))
    user, item = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([2, 1, 2, 3, 4, 5, 0, 1])
    kind, kinds = np.array([0, 1, 1, 0, 0, 0, 0, 1]), EventKinds(("view", "buy"), (1.0, 3.0))
    data = Dataset.from_arrays(users, items, user, item, ordered=True, kind=kind, kinds=kinds)
    last = later_slice(data, "last", RUN)
    assert last.early.item.tolist() == [2, 1, 4, 5, 0]  # who never bought stays whole
    assert last.queries.history.lists() == [[2, 1], [0]]
    assert {name: each.lists() for name, each in last.came.items()} == {"view": [[3], []], "buy": [[2], [1]]}
    new = later_slice(data, "last_item", RUN)
    assert new.queries.history.lists() == [[1], [0]]
    assert new.early.item.tolist() == [1, 4, 5, 0]
    with pytest.raises(MissingData, match="The slice 'last' needs ORDER"):
        later_slice(Dataset.from_arrays(users, items, user, item), "last", RUN)


def test_targets_and_draws():
    items = np.array([[3, 1, 2, PAD], [4, 0, 5, 6]], np.int32)
    found = among(items, Ragged.from_lists([[1, 9], [6, 4]]))
    assert found.tolist() == [[False, True, False, False], [True, False, False, True]]
    chosen = drawn(items, found, 1, np.random.default_rng(0))
    assert (chosen & found).sum() == 3
    assert (chosen & ~found).sum(1).tolist() == [1, 1]
    assert not chosen[0, 3]
    assert drawn(items, found, 50, np.random.default_rng(0)).sum() == 7


def test_pools_are_put_together_query_by_query(shop):
    sources = {"itemknn": ItemKNN(neighbors=8).fit(shop), "ease": EASE(l2=20.0).fit(shop)}
    sizes = {"itemknn": 3, "ease": 4}
    queries = Queries.of_users(shop, np.arange(9))
    whole = pooled(sources, queries, sizes, queries.history, None)
    parts = [queries.take(rows) for rows in (np.arange(4), np.arange(4, 9))]
    together = Pool.together([pooled(sources, part, sizes, part.history, None) for part in parts])
    assert together.labels == whole.labels
    for row in range(9):
        there = whole.items[row] != PAD
        assert together.items[row][together.items[row] != PAD].tolist() == whole.items[row][there].tolist()
        count = int(there.sum())
        assert together.first[row, :count].tolist() == whole.first[row, :count].tolist()
        assert np.array_equal(together.scores[:, row, :count], whole.scores[:, row, :count], equal_nan=True)
        assert np.array_equal(together.ranks[:, row, :count], whole.ranks[:, row, :count])
    none = pooled(sources, queries.take(np.empty(0, np.int64)), sizes, None, None)
    assert none.items.shape == (0, 0)
    assert none.features().keys() == whole.features().keys()


def switch(people=600, seed=0):
    """Purchases come of the category that is viewed least, though views say the other; popularity says nothing."""
    rng = np.random.default_rng(seed)
    items = 40
    category = np.arange(items) % 2
    user, item, kind, time = [], [], [], []
    for person in range(people):
        liked = person % 2
        viewed = rng.choice(np.flatnonzero(category == liked), 6, replace=False)
        bought = rng.choice(np.flatnonzero(category != liked), 3, replace=False)
        both = [(each, 0) for each in viewed] + [(each, 1) for each in bought]
        order = rng.permutation(len(both))
        for place in order.tolist():
            user.append(person)
            item.append(both[place][0])
            kind.append(both[place][1])
            time.append(int(rng.integers(0, 1000)) * HOUR)
    catalog = Table(items, {"category": Category.from_list([f"c{each}" for each in category])})
    return Dataset.from_arrays(
        Vocab(np.arange(people)), Vocab(np.arange(items)), np.array(user), np.array(item), time=np.array(time),
        kind=np.array(kind), kinds=EventKinds(("view", "buy"), (1.0, 1.0)), catalog=Catalog(catalog, Table(people)),
        name="switch",
    )  # fmt: skip


@pytest.fixture(scope="module")
def halves():
    data = switch()
    cut = int(np.quantile(data.time, 0.8))
    later = later_slice(data, 0.2, RUN)
    holdout = Holdout(later.queries, later.came["buy"], filter_seen=True)
    rows = np.flatnonzero(later.came["buy"].lengths > 0)
    assert later.early.time.max() < cut
    return later.early, holdout.take(rows)


@pytest.fixture(scope="module")
def fitted(halves):
    train, holdout = halves
    settings = TwoStage(sources={"itemknn": {}, "popular": {}}, candidates=40, slice=0.3, ranker=FAST)
    half = len(holdout) // 2
    validation = holdout.take(np.arange(half))
    return settings.fit(train, validation, RUN), holdout.take(np.arange(half, len(holdout)))


def test_purchases_are_told_from_views(fitted, halves):
    model, test = fitted
    train, _ = halves
    alone = ndcg_at_10(ItemKNN().fit(train), test)
    assert model.weights == {"view": 0.0, "buy": 1.0}
    assert ndcg_at_10(model, test) > alone + 0.02


def test_each_item_says_which_source_named_it(fitted):
    model, test = fitted
    top = model.recommend(test.queries, 10)
    assert top.sources == ("itemknn", "popular", "popularity")
    assert set(np.unique(top.source).tolist()) <= {0, 1}
    stranger = model.recommend([[]], 5)
    assert {stranger.sources[each] for each in stranger.source[0].tolist()} <= {"popular", "popularity"}


def test_the_log_says_what_was_learned_from(halves):
    train, _ = halves
    told = []
    run = Run(seed=3, device="cpu", threads=1, log=lambda message, numbers=None: told.append(message))
    TwoStage(sources={"itemknn": {}}, slice=0.3, ranker={**FAST, "plan": {"epochs": 1}}).fit(train, run=run)
    learned = next(each for each in told if "the ranker learns from" in each)
    assert "the events of the last 30%" in learned
    assert "What nothing came of is taken for passed over" in learned


def test_a_refit_keeps_what_validation_chose(fitted):
    model, _ = fitted
    assert model.settings_to_refit().weights == model.weights


def test_a_policy_makes_the_list(halves):
    train, holdout = halves
    policy = {"rules": [{"kind": "at_most", "column": "category", "count": 2}, {"kind": "never", "items": [7]}]}
    settings = TwoStage(
        sources={"itemknn": {}}, candidates=40, slice=0.3, ranker={**FAST, "plan": {"epochs": 1}}, policy=policy
    )
    model = settings.fit(train, run=RUN)
    top = model.recommend(holdout.queries, 4)
    categories = (np.arange(40) % 2)[top.items]
    assert (categories.sum(1) == 2).all()
    assert not (top.items == 7).any()
    again = settings.restore(model.about, model.state())
    assert np.array_equal(again.recommend(holdout.queries, 4).items, top.items)
    wrong = {"rules": [{"kind": "at_most", "column": "brand", "count": 2}]}
    with pytest.raises(UnknownName, match="'brand'"):
        TwoStage(**{**settings.model_dump(), "policy": wrong}).fit(train, run=RUN)


def test_with_folds_the_ranker_learns_from_the_last_events_of_each(halves):
    train, holdout = halves
    told, fits = [], []

    class Counted(ItemKNN):
        def _fit(self, data, validation, run):
            fits.append(len(data))
            return super()._fit(data, validation, run)

    run = replace(RUN, log=lambda message, numbers=None: told.append(message))
    settings = TwoStage(sources={"itemknn": Counted()}, slice=0.3, folds=2, ranker=FAST)
    model = settings.fit(train, holdout, run)
    assert len(fits) == 3
    assert fits[0] == len(train) > max(fits[1:])
    learned = [each for each in told if "the ranker learns from" in each]
    assert ["part 1 of 2 of the people" in learned[0], "part 2 of 2 of the people" in learned[1]] == [True, True]
    assert ndcg_at_10(model, holdout) > ndcg_at_10(ItemKNN().fit(train), holdout) + 0.05
    assert model.settings_to_refit().folds == 2


def test_settings_that_do_not_fit_are_refused():
    for options, words in (
        ({"sources": {}}, "at least one model"),
        ({"sources": {"ease": {}}, "candidates": {"als": 5}}, "candidates are of als; the sources are ease"),
        ({"sources": {"ease": {"l": 3}}}, "ease"),
        ({"slice": 1.0}, "less than 1"),
        ({"slice": "last", "folds": 2}, "folds cut off a share of the events of each person; slice is 'last'"),
        ({"ranker": {"layers": 3}}, "layers"),
        (
            {"ranker": {"tasks": {"buy": {}}}, "weights": {"view": 1, "buy": 1}},
            "weights names view; the ranker's tasks",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            TwoStage(**options)


def test_nothing_to_learn_from_is_told():
    users, items = Vocab(np.arange(4)), Vocab(np.arange(8))
    data = Dataset.from_arrays(users, items, np.repeat(np.arange(4), 2), np.arange(8), ordered=True, name="apart")
    with pytest.raises(DataError, match=r"nobody met a candidate of itemknn\. Raise candidates, or slice"):
        TwoStage(sources={"itemknn": {}}, ranker=FAST).fit(data, run=RUN)


def test_popularity_is_still_there_where_nothing_is_named(shop):
    ranker = {**FAST, "plan": {"epochs": 1}}
    model = TwoStage(sources={"itemknn": {"neighbors": 8}}, slice=0.3, ranker=ranker).fit(shop, run=RUN)
    popular = Popular().fit(shop)
    found = model.recommend([[]], 5)
    assert found.items.tolist() == popular.recommend([[]], 5).items.tolist()
    assert {found.sources[each] for each in found.source[0]} == {"popularity"}


def ruled(train, rules, **options):
    settings = TwoStage(
        sources={"itemknn": {}}, candidates=10, slice=0.3, ranker={**FAST, "plan": {"epochs": 1}},
        policy={"rules": rules}, **options,
    )  # fmt: skip
    return settings.fit(train, run=RUN)


def test_what_is_filled_up_keeps_the_rules(halves):
    train, _ = halves
    model = ruled(train, [{"kind": "only_from", "items": [1, 2, 3]}])
    assert set(model.recommend([[5, 6, 7], []], 6).items.ravel().tolist()) <= {1, 2, 3, PAD}
    model = ruled(train, [{"kind": "never", "items": list(range(1, 38))}])
    assert set(model.recommend([[5, 6, 7], []], 6).items.ravel().tolist()) <= {0, 38, 39, PAD}
    stranger = ruled(train, [{"kind": "at_most", "column": "category", "count": 2}]).recommend([[]], 4)
    assert ((stranger.items[0] % 2) == 1).sum() == 2
    assert stranger.frame()["source"].to_list() == ["popularity"] * 4


def test_what_must_be_there_has_a_source_and_may_be_excluded(halves):
    train, _ = halves
    model = ruled(train, [{"kind": "must_include", "items": [30]}])
    assert model.recommend([[5, 6, 7]], 4).frame().filter(item_id=30)["source"][0] in (
        "itemknn",
        "popularity",
        "policy",
    )
    assert 30 not in model.recommend([[5, 6, 7]], 4, exclude=[30]).items
    assert 30 not in model.recommend([[5, 6, 7]], 4, items=[1, 2, 3, 4, 8]).items
    assert model.recommend([[30, 5]], 4).items.shape == (1, 4)


def test_a_refit_hides_what_the_protocol_hides(halves, monkeypatch):
    train, holdout = halves
    settings = TwoStage(sources={"itemknn": {}}, slice=0.3, ranker={**FAST, "plan": {"epochs": 1}})
    asked = []

    def pool(self, queries, hidden, offered=None, given=None):
        asked.append((queries, hidden))
        return pooled(self.sources, queries, self.sizes, hidden, offered, given)

    monkeypatch.setattr("foretaste.rank.stage.Stage.pool", pool)
    settings.fit(train, run=RUN)
    assert all(hidden is queries.history for queries, hidden in asked)
    shown = Holdout(holdout.queries, holdout.targets, filter_seen=False)
    again = settings.fit(train, shown, RUN).settings_to_refit()
    asked.clear()
    again.fit(train, run=RUN)
    assert all(hidden is None for _, hidden in asked)
    bought = Holdout(holdout.queries, holdout.targets, exclude_kinds=("buy",))
    again = settings.fit(train, bought, RUN).settings_to_refit()
    asked.clear()
    again.fit(train, run=RUN)
    assert all(hidden.lengths.sum() == (queries.kinds == 1).sum() for queries, hidden in asked)


def test_the_items_are_read_once_however_often_is_asked(fitted, monkeypatch):
    model, test = fitted
    model = model.settings.restore(model.about, model.state())
    read = []
    of = TableInputs.of.__func__

    def counted(cls, fields, level, table, **how):
        read.append(level)
        return of(cls, fields, level, table, **how)

    monkeypatch.setattr(TableInputs, "of", classmethod(counted))
    for row in range(4):
        model.recommend(test.queries.take(np.array([row])), 3)
    assert read.count("requests") == 4
    assert read.count("items") == 1


def test_a_kind_that_is_not_there_cannot_weigh():
    with pytest.raises(UnknownName, match="'purchase'"):
        TwoStage(sources={"itemknn": {}}, weights={"purchase": 1.0}).fit(switch(20), run=RUN)
    unordered = Dataset.from_arrays(Vocab(np.arange(2)), Vocab(np.arange(2)), np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(MissingData, match="TwoStage needs ORDER"):
        TwoStage(sources={"itemknn": {}}, slice="last").fit(unordered, run=RUN)


def test_columns_called_like_statistics_stay_apart(small):
    catalog, queries = small
    named = catalog.with_column("events", Number(np.arange(5.0))).with_column("met", Category.from_list(["a"] * 5))
    assert pair_features(queries, np.array([0]), np.array([0]), named)["pair met"].kind == "number"
    table = item_features(Table(5, {"item events": Number(np.zeros(5))}), named)
    assert table["item: events"].values.tolist() == [0, 1, 2, 3, 4]
    assert table["item events"].values.tolist() == [0] * 5


def with_shown_lists(data, seed=0):
    """Before each purchase of the last days a list with the item bought and five others, of which nothing came."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero((data.kind == 1) & (data.time > np.quantile(data.time, 0.5)))
    items = np.stack([rng.choice(40, 6, replace=False) for _ in rows])
    place = rng.integers(0, 6, len(rows))
    others = (items == data.item[rows][:, None]) & (np.arange(6) != place[:, None])
    items[np.arange(len(rows)), place] = data.item[rows]
    keep = ~others.ravel()
    order = np.argsort(data.time[rows], kind="stable")
    taken = np.arange(6) == place[:, None]
    flat = lambda array: np.broadcast_to(array, items.shape)[order].ravel()[keep.reshape(items.shape)[order].ravel()]  # noqa: E731
    shown = Impressions(
        flat(np.arange(len(rows))[np.argsort(order)][:, None]).astype(np.int64),
        flat(data.user[rows][:, None]).astype(np.int32), flat(items).astype(np.int32),
        flat(data.time[rows][:, None] - 1), flat(np.arange(6)).astype(np.int32), {"taken": flat(taken).astype(np.int8)},
    )  # fmt: skip
    return replace(data, impressions=shown)


def test_validation_chooses_what_the_ranker_learns_from(halves):
    train, holdout = halves
    train = with_shown_lists(train)
    said = []
    run = replace(RUN, log=lambda message, numbers=None: said.append(message))
    settings = TwoStage(sources={"itemknn": {}}, slice=0.3, ranker={**FAST, "plan": {"epochs": 3}})
    model = settings.fit(train, holdout.take(np.arange(100)), run)
    scores = {words: next(each for each in said if f"from {words} validation" in each) for words in EXAMPLES.values()}
    best = max(scores, key=lambda words: float(scores[words].rsplit(" ", 1)[1]))
    assert EXAMPLES[model.settings.examples] == best
    again = model.settings_to_refit()
    assert again.examples == model.settings.examples
    said.clear()
    again.fit(train, run=run)
    assert sum("the ranker learns from" in each for each in said) == (2 if again.examples == "both" else 1)


@pytest.mark.parametrize(("kind", "tasks"), [("shown", {"taken"}), ("both", {"taken", "view", "buy"})])
def test_lists_that_were_shown_are_learned_from(halves, kind, tasks):
    train, holdout = halves
    ranker = {**FAST, "plan": {"epochs": 6, "lr": 0.01}}
    model = TwoStage(sources={"itemknn": {}}, slice=0.3, examples=kind, ranker=ranker).fit(
        with_shown_lists(train), run=RUN
    )
    assert set(model.ranker.tasks) == tasks
    position = next(field for field in model.ranker.fields if field.name == "position")
    assert position.feature.answered_as == 0.0
    model.weights = {task: float(task == "taken") for task in tasks}
    chosen = model.recommend(holdout.queries, 5).items
    bought = np.array(
        [np.isin(row, targets).any() for row, targets in zip(chosen, holdout.targets.lists(), strict=True)]
    )
    by_chance = 5 / 40 * holdout.targets.lengths.mean()
    assert bought.mean() > 1.5 * by_chance
    again = model.settings.restore(model.about, model.state())
    assert np.array_equal(again.recommend(holdout.queries, 5).items, chosen)


def test_lists_are_asked_for_that_nobody_was_shown(halves):
    train, _ = halves
    with pytest.raises(MissingData, match="IMPRESSIONS"):
        TwoStage(sources={"itemknn": {}}, examples="shown").fit(train, run=RUN)
    early = with_shown_lists(train)
    early = replace(early, impressions=early.impressions.take(early.impressions.time < np.quantile(train.time, 0.6)))
    with pytest.raises(MissingData, match="has no list that was shown"):
        TwoStage(sources={"itemknn": {}}, examples="both", slice=0.1).fit(early, run=RUN)
    with pytest.raises(ConfigError, match="weights names view"):
        TwoStage(sources={"itemknn": {}}, examples="shown", slice=0.3, weights={"view": 1.0}).fit(
            with_shown_lists(train), run=RUN
        )


def test_a_source_may_name_a_single_candidate(halves):
    train, _ = halves
    settings = TwoStage(
        sources={"itemknn": {}, "popular": {}}, candidates={"itemknn": 20, "popular": 1}, slice=0.3,
        ranker={**FAST, "plan": {"epochs": 1}},
    )  # fmt: skip
    assert (settings.fit(train, run=RUN).recommend([[1, 2]], 5).items != PAD).all()


def test_what_cannot_be_learned_from_is_passed_over_where_something_else_can(halves):
    train, holdout = halves
    data = with_shown_lists(train)
    labels = {task: np.zeros_like(label) for task, label in data.impressions.labels.items()}
    never = replace(data, impressions=replace(data.impressions, labels=labels))
    said = []
    run = replace(RUN, log=lambda message, numbers=None: said.append(message))
    settings = TwoStage(sources={"itemknn": {}}, candidates=20, slice=0.3, ranker={**FAST, "plan": {"epochs": 1}})
    model = settings.fit(never, holdout, run)
    assert model.settings.examples in EXAMPLES
    met = replace(data.impressions, labels={"click": np.full_like(next(iter(labels.values())), -1)})
    model = settings.fit(replace(data, impressions=met), holdout, run)
    assert any("nothing can be learned from lists that were shown" in each for each in said)
    assert model.settings.examples in ("candidates", "both")


def test_weights_that_nothing_can_learn_are_refused_before_anything_is_fitted(halves, monkeypatch):
    train, _ = halves
    data = with_shown_lists(train)
    early = replace(data, impressions=data.impressions.take(data.impressions.time < int(train.time.min()) + HOUR))
    task = next(iter(data.impressions.labels))
    monkeypatch.setattr(ItemKNN, "_fit", lambda *given: pytest.fail("a source was fitted"))
    settings = TwoStage(sources={"itemknn": {}}, slice=0.3, weights={task: 1.0}, ranker=FAST)
    with pytest.raises(ConfigError, match=f"weights names {task}"):
        settings.fit(early, run=RUN)
    with pytest.raises(UnknownName, match="brand"):
        settings.model_copy(update={"weights": None, "policy": calibrated_by("brand")}).fit(train, run=RUN)


def calibrated_by(column):
    return TwoStage(sources={"itemknn": {}}, policy={"aim": {"kind": "calibrated", "column": column}}).policy


def test_histories_are_read_alike_when_learning_and_when_answering(shop):
    stage = Stage.of({"itemknn": ItemKNN().fit(shop.where(shop.item > 3), run=RUN)}, {"itemknn": 5}, shop)
    queries = Queries.of_users(shop, np.array([0, 1, 2]))
    pool = stage.pool(queries, None)
    known = queries.where(queries.history.values > 3)
    found, expected = stage.examples(queries, pool), stage.of_queries(known)
    np.testing.assert_array_equal(found.requests["user events"].values, expected["user events"].values)
