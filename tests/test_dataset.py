"""The dataset: a stable sort, honest views, and a form on disk that comes back as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste import dataset, event_order
from foretaste.catalog import Catalog, Number, Table, Text
from foretaste.dataset import Dataset, EventKinds, Needs
from foretaste.errors import BundleError, DataError, ForetasteError, MissingData
from foretaste.vocab import Vocab

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(-3, 3)), max_size=25)


def log(user, item, **more) -> Dataset:
    users, items = (Vocab(np.arange(1 + max(each, default=0))) for each in (user, item))
    return Dataset.from_arrays(users, items, np.array(user, np.int64), np.array(item, np.int64), **more)


def of(events, *, timed: bool = True) -> Dataset:
    user, item, time = zip(*events, strict=True) if events else ((), (), ())
    row = np.arange(len(events), dtype=float)
    moments = np.array(time, np.int64) if timed else None
    return log(user, item, time=moments, value=row, columns=Table(len(events), {"row": Number(row)}))


@given(EVENTS, st.booleans())
def test_events_are_sorted_by_user_then_time_then_place_in_the_log(events, timed):
    data = of(events, timed=timed)
    expected = sorted(range(len(events)), key=lambda row: events[row][:: 2 if timed else 3])
    assert data.value.tolist() == expected
    assert data.columns["row"].lists() == expected
    assert data.user.tolist() == [events[row][0] for row in expected]
    assert data.item.tolist() == [events[row][1] for row in expected]


@given(EVENTS)
def test_sorting_in_pieces_is_the_same_sort(events):
    whole = of(events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_order, "PIECE", 2)
        assert of(events).value.tolist() == whole.value.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int32, np.int64])
def test_indices_of_any_integer_type_are_sorted(dtype):
    vocab = Vocab(np.arange(3))
    data = Dataset.from_arrays(vocab, vocab, np.array([2, 0, 1], dtype), np.array([0, 1, 2], dtype))
    assert data.user.tolist() == [0, 1, 2]
    assert data.item.tolist() == [1, 2, 0]
    assert data.user.dtype == data.item.dtype == np.int32


def test_the_arrays_of_the_caller_stay_as_they_were():
    user, item = np.array([1, 0]), np.array([0, 1])
    log(user, item)
    assert (user.tolist(), item.tolist()) == ([1, 0], [0, 1])


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"user": [0, 1], "item": [0]}, "item has 1 rows where user has 2"),
        ({"user": [0, 2], "item": [0, 0]}, r"user holds indices outside 0\.\.1"),
        ({"user": [0, -1], "item": [0, 0]}, r"user holds indices outside 0\.\.1"),
        ({"user": [0, 1], "item": [0, 2]}, r"item holds indices outside 0\.\.1"),
        ({"user": [0, 1], "item": [0, 0], "kind": [0, 1]}, r"kind holds indices outside 0\.\.0"),
        ({"user": [0, 1], "item": [0, 0], "time": [1, 2, 3]}, "time has 3 rows where user has 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, complaint):
    vocab = Vocab(np.arange(2))
    arrays = {name: np.array(array) for name, array in arrays.items()}
    with pytest.raises(DataError, match=complaint):
        Dataset.from_arrays(vocab, vocab, **arrays)


def test_kinds_need_a_weight_each_and_distinct_names():
    with pytest.raises(DataError, match="distinct, with a weight each"):
        EventKinds(("a", "a"), (1.0, 2.0))
    with pytest.raises(DataError, match="distinct, with a weight each"):
        EventKinds(("a", "b"), (1.0,))


def test_histories_without_any_order_are_refused():
    unordered = log([0, 0], [1, 0])
    with pytest.raises(MissingData, match=r"A history in order needs ORDER; events has nothing.*--time-col.*--ordered"):
        _ = unordered.histories
    assert unordered.baskets.lists() == [[1, 0]]
    assert log([0, 0], [1, 0], ordered=True).histories.lists() == [[1, 0]]
    assert log([0, 0], [1, 0], time=np.array([2, 1])).histories.lists() == [[0, 1]]


def test_all_that_is_lacking_is_named_with_how_to_give_it():
    with pytest.raises(MissingData) as raised:
        log([0], [0], ordered=True).require(Needs.KINDS | Needs.ITEM_TEXT | Needs.ORDER, "SomeModel")
    text = str(raised.value)
    assert text.startswith("SomeModel needs KINDS, ITEM_TEXT; events has ORDER. To give it: ")
    assert "--kind-col" in text
    assert "--items FILE" in text
    assert "--time-col" not in text


def test_each_need_has_a_way_to_give_it():
    assert set(dataset.HOW_TO_GIVE) == set(Needs)


def test_everything_is_there_in_a_full_log(shop):
    assert shop.has == ~Needs.NOTHING


@pytest.mark.parametrize("need", list(Needs))
def test_only_leaves_what_is_named_and_no_more(shop, need):
    implied = {
        Needs.TIMES: Needs.ORDER,
        Needs.EVENT_TEXT: Needs.CONTEXT,
        Needs.ITEM_TEXT: Needs.ITEM_FEATURES,
        Needs.CONTEXT: Needs.EVENT_TEXT,
        Needs.ITEM_FEATURES: Needs.ITEM_TEXT,
    }
    assert shop.only(need).has == need | implied.get(need, Needs.NOTHING)
    assert shop.only(Needs.NOTHING).has == Needs.NOTHING


def test_stripped_data_has_the_same_events_and_plain_weights(shop):
    bare = shop.only(Needs.NOTHING)
    assert np.array_equal(bare.item, shop.item)
    assert bare.kinds == EventKinds()
    assert bare.weights().tolist() == [1.0] * len(shop)


def test_before_holds_nothing_of_the_moment_or_later(shop):
    cut = int(np.sort(shop.time)[len(shop) // 2])  # the moment of an event
    past = shop.before(cut)
    assert past.time.max() < cut
    assert len(past) == (shop.time < cut).sum() == len(past.columns)
    assert past.impressions.time.max() < cut
    assert past.items is shop.items
    with pytest.raises(MissingData, match="A cut in time needs TIMES"):
        shop.only(Needs.ORDER).before(cut)


def test_the_matrix_adds_weights_up_or_counts_once():
    data = log([0, 0, 1], [1, 1, 0], kind=np.array([0, 1, 0]), kinds=EventKinds(("view", "buy"), (1.0, 4.0)))
    assert data.matrix().toarray().tolist() == [[0, 5], [1, 0]]
    assert data.matrix(binary=True).toarray().tolist() == [[0, 1], [1, 0]]


def test_what_is_worth_nothing_leaves_no_entry_in_the_matrix():
    data = log([0, 0], [0, 1], kind=np.array([0, 1]), kinds=EventKinds(("seen", "buy"), (0.0, 4.0)))
    assert data.matrix().nnz == 1


def test_counts_are_of_those_who_occur():
    vocab = Vocab(np.arange(9))
    data = Dataset.from_arrays(vocab, vocab, np.array([3, 3, 8]), np.array([1, 1, 1]))
    assert data.counts() == {"events": 3, "users": 2, "items": 1}
    assert data.offsets.tolist() == [0, 0, 0, 0, 2, 2, 2, 2, 2, 3]


def test_an_empty_log_is_a_dataset():
    data = log([], [], time=np.empty(0, np.int64))
    assert len(data) == 0
    assert data.histories.lists() == [[]]
    assert data.matrix().shape == (1, 1)


CHANGES = {
    "an item id": lambda data: replace(data, items=Vocab.from_ids([f"i{each}" for each in range(15)])),
    "a user id": lambda data: replace(data, users=Vocab(np.arange(60))),
    "an item": lambda data: replace(data, item=(data.item + (np.arange(len(data)) == 3)).astype(np.int32)),
    "a time": lambda data: replace(data, time=data.time + (np.arange(len(data)) == 0)),
    "a kind": lambda data: replace(data, kind=np.zeros_like(data.kind)),
    "what a kind means": lambda data: replace(data, kinds=EventKinds(("cart", "view", "purchase"), (1.0, 3.0, 5.0))),
    "what a kind is worth": lambda data: replace(data, kinds=EventKinds(data.kinds.names, (1.0, 3.0, 6.0))),
    "a value": lambda data: replace(data, value=data.value + 1),
    "no sessions": lambda data: replace(data, session=None),
    "what is known of an item": lambda data: replace(
        data,
        catalog=Catalog(data.catalog.items.with_column("new", Number(np.zeros(len(data.items)))), data.catalog.users),
    ),
    "one event less": lambda data: data.where(np.arange(len(data)) > 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_tells_other_data_apart(shop, change):
    assert CHANGES[change](shop).fingerprint != shop.fingerprint
    assert replace(shop).fingerprint == shop.fingerprint


def test_a_saved_dataset_comes_back_mapped_into_memory(shop, tmp_path):
    shop.save(tmp_path / "data")
    again = Dataset.open(tmp_path / "data")
    assert again.fingerprint == shop.fingerprint
    assert again.has == shop.has
    assert (again.name, again.ordered, again.kinds) == (shop.name, shop.ordered, shop.kinds)
    assert isinstance(again.item, np.memmap)
    assert again.users.lists() == shop.users.lists()
    for mine, theirs in ((shop.columns, again.columns), (shop.catalog.items, again.catalog.items)):
        assert {name: str(mine[name].lists()) for name in mine} == {name: str(theirs[name].lists()) for name in theirs}
    assert again.impressions.labels["click"].tolist() == shop.impressions.labels["click"].tolist()
    assert again.impressions.context["page"].lists() == shop.impressions.context["page"].lists()


def test_a_bare_and_an_empty_dataset_come_back_too(tmp_path):
    for number, data in enumerate([log([0, 1], [1, 0]), log([], [])]):
        data.save(tmp_path / str(number))
        again = Dataset.open(tmp_path / str(number))
        assert again.fingerprint == data.fingerprint
        assert (again.time, again.columns, again.catalog) == (None, None, None)


def test_a_mapped_dataset_can_be_saved_in_its_own_place(shop, tmp_path):
    shop.save(tmp_path / "data")
    mapped = Dataset.open(tmp_path / "data")
    mapped.save(tmp_path / "data")
    assert Dataset.open(tmp_path / "data").fingerprint == mapped.fingerprint == shop.fingerprint
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def edited(path, change) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


DAMAGES = {
    "no folder": (lambda folder: [each.unlink() for each in folder.iterdir()] and folder.rmdir(), "dataset.json"),
    "no index": (lambda folder: (folder / "dataset.json").unlink(), "dataset.json"),
    "not JSON": (lambda folder: (folder / "dataset.json").write_text("{"), "dataset.json"),
    "no object": (lambda folder: (folder / "dataset.json").write_text("[]"), "dataset.json is not the index"),
    "a newer format": (
        lambda folder: edited(folder / "dataset.json", lambda index: {**index, "format": 2}),
        "format 2",
    ),
    "an edited index": (
        lambda folder: edited(folder / "dataset.json", lambda index: {**index, "ordered": False}),
        "dataset.json was edited",
    ),
    "an array gone": (lambda folder: (folder / "item.npy").unlink(), "item.npy cannot be read"),
    "an empty array file": (lambda folder: (folder / "item.npy").write_bytes(b""), "item.npy cannot be read"),
    "a torn array": (
        lambda folder: (folder / "item.npy").write_bytes((folder / "item.npy").read_bytes()[:-7]),
        "item.npy cannot be read",
    ),
    "another array": (lambda folder: np.save(folder / "item.npy", np.zeros(3)), "item.npy is not the array"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dataset_is_refused_with_the_file_named(shop, tmp_path, damage):
    shop.save(tmp_path / "data")
    do, complaint = DAMAGES[damage]
    do(tmp_path / "data")
    with pytest.raises(BundleError, match=complaint):
        Dataset.open(tmp_path / "data")


def test_a_folder_with_other_things_is_left_alone(shop, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "final.tex").write_text("years of work")
    with pytest.raises(ForetasteError, match=r"thesis exists and is no folder with a dataset\.json; it is left alone"):
        shop.save(tmp_path / "thesis")
    assert [each.name for each in tmp_path.rglob("*")] == ["thesis", "final.tex"]


def test_a_table_of_items_alone_is_stored(tmp_path):
    table = Table(2, {"title": Text.from_list(["a", "b"])})
    log([0, 1], [0, 1], catalog=Catalog(table, Table(2))).save(tmp_path / "data")
    assert Dataset.open(tmp_path / "data").catalog.titles() == ["a", "b"]
