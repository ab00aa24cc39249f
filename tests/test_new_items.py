"""Items that a model has never met: read as its own catalogue is, offered, saved, and read in histories."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import worlds

from foretaste import load
from foretaste.catalog import Catalog, Categories, Category, Number, Table, Text, Time, Vector
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError
from foretaste.models import EnhancedBERT4Rec, GraphSAGE, Popular, TextSimilarity, TwoTower
from foretaste.new_items import appended
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run, silent
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=1, device="cpu", precision="fp32")
KNOWING = [
    TwoTower(
        **{"dim": 16, "item_features": True, "user_features": True, "batch_size": 64},
        **{"dropout": 0.0, "plan": TrainPlan(epochs=30, lr=0.02)},
    ),
    EnhancedBERT4Rec(
        **{"dim": 32, "length": 8, "layers": 1, "dropout": 0.0, "batch_tokens": 512},
        plan=TrainPlan(epochs=30, lr=0.01),
    ),
    GraphSAGE(
        **{"dim": 16, "item_features": True, "user_features": True, "batch_size": 64, "fanouts": (5, 3)},
        plan=TrainPlan(epochs=20, lr=0.02),
    ),
]
ARRIVALS = pl.DataFrame({"item_id": [100, 101, 3], "genre": ["chess", "dance", "chess"]})

CATALOG = Table(
    2,
    {
        "brand": Category.from_list(["b", "c"]),
        "tags": Categories.from_lists([["x", "y"], ["x"]]),
        "price": Number(np.array([1.0, 2.0])),
        "title": Text.from_list(["One", "Two"]),
        "look": Vector(np.ones((2, 3), np.float32)),
        "since": Time(np.array([1, 2])),
    },
)


@pytest.fixture(scope="module", params=KNOWING, ids=lambda each: each.called())
def fitted(request):
    return request.param.fit(worlds.clubs().newcomers.train, run=RUN).with_histories(worlds.clubs().newcomers.train)


def test_rows_are_read_as_the_catalogue_is_whatever_they_look_like():
    rows = Table(
        2,
        {
            "brand": Number(np.array([7.0, np.nan])),  # a brand that is called 7
            "tags": Category.from_list(["y|new", None]),
            "price": Text.from_list(["3.5", ""]),
            "title": Category.from_list([None, "Four"]),
            "colour": Category.from_list(["red", "red"]),
        },
    )
    both = appended(CATALOG, rows)
    assert list(both) == list(CATALOG)
    assert both["brand"].lists() == ["b", "c", "7", None]
    assert [sorted(row) for row in both["tags"].lists()] == [["x", "y"], ["x"], ["new", "y"], []]
    assert both["price"].lists() == [1.0, 2.0, 3.5, None]
    assert both["title"].lists() == ["One", "Two", "", "Four"]
    assert np.isnan(both["look"].values[2:]).all()
    assert both["since"].lists() == [1, 2, None, None]


def test_codes_of_known_rows_stay():
    both = appended(
        CATALOG, Table(1, {"brand": Category.from_list(["a"]), "tags": Categories.from_lists([["a", "y"]])})
    )
    assert both["brand"].codes[:2].tolist() == CATALOG["brand"].codes.tolist()
    assert both["tags"].codes.lists()[:2] == CATALOG["tags"].codes.lists()
    assert both["brand"].lists()[2] == "a"
    assert sorted(both["tags"].lists()[2]) == ["a", "y"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"price": Text.from_list(["cheap"])}, "Column 'price' is one of numbers in the model's catalogue; could not"),
        ({"look": Vector(np.ones((1, 2), np.float32))}, "vectors of 2 numbers; the model's catalogue has 3"),
        ({"since": Text.from_list(["soon"])}, "Column 'since' is a column of text; in the model's catalogue it is one"),
        ({"title": Time(np.array([5]))}, "Column 'title' is a column of time; in the model's catalogue .* 'One'"),
    ],
)
def test_what_cannot_be_read_so_is_refused(column, said):
    with pytest.raises(DataError, match=said):
        appended(CATALOG, Table(1, column))


def test_new_items_are_offered_to_those_who_like_their_kind(fitted):
    said = []
    model = fitted.with_items(ARRIVALS, log=lambda message, numbers=None: said.append(message))
    queries = worlds.clubs().regulars.queries
    offered = model.recommend(queries, 2).items
    assert [set(model.items.lookup(row)) for row in offered] == [{5, 101}, {11, 100}]
    assert any("1 of its 3 items are known already" in message for message in said)
    before, after = fitted.score(queries), model.score(queries)
    known = fitted.about.met
    np.testing.assert_array_equal(after[:, :12][:, known], before[:, known])
    assert len(fitted.items) == 12


def test_a_bundle_keeps_new_items(fitted, tmp_path):
    model = fitted.with_items(ARRIVALS, log=silent)
    model.save(tmp_path / "bundle")
    again = load(tmp_path / "bundle")
    queries = worlds.clubs().regulars.queries
    np.testing.assert_array_equal(again.recommend(queries, 5).items, model.recommend(queries, 5).items)
    assert again.with_items(pl.DataFrame({"item_id": [200], "genre": ["dance"]}), log=silent).items[14] == 200


def test_newer_events_may_be_on_new_items(fitted):
    newer = Dataset.from_arrays(
        *(Vocab(np.array([500])), Vocab(np.array([101])), np.zeros(1, int), np.zeros(1, int)),
        time=np.array([2_000_000]),
    )
    model = fitted.with_items(ARRIVALS, newer, log=silent)
    stored = model.histories
    assert stored is not None
    assert stored.queries.history[len(stored.users) - 1].tolist() == [13]
    top = model.recommend([500], 3)
    assert 13 not in top.items[0]
    assert all(each < 6 for each in top.items[0])  # of the same club
    assert (top.source == 0).all()


def test_an_index_is_built_anew(fitted):
    pytest.importorskip("faiss")
    model = fitted.with_index("flat").with_items(ARRIVALS, log=silent)
    queries = worlds.clubs().regulars.queries
    exact = fitted.with_items(ARRIVALS, log=silent).recommend(queries, 2)
    np.testing.assert_array_equal(np.sort(model.recommend(queries, 2).items), np.sort(exact.items))  # of equal scores
    assert model.index is not None


def test_an_index_that_is_built_anew_finds_as_surely_as_was_wanted(fitted, tmp_path):
    pytest.importorskip("faiss")
    fitted.with_index("hnsw", least_recall=0.6).save(tmp_path / "bundle")
    newer = Dataset.from_arrays(
        *(Vocab(np.array([500])), Vocab(np.array([101])), np.zeros(1, int), np.zeros(1, int)),
        time=np.array([2_000_000]),
    )
    grown = load(tmp_path / "bundle").with_items(ARRIVALS, newer, log=silent)
    assert (grown.index.kind, grown.index.least_recall) == ("hnsw", 0.6)


def test_of_an_item_of_which_nothing_is_said_nothing_is_known(fitted):
    said = []
    arrivals = pl.DataFrame({"item_id": [100, 101], "genre": ["chess", None]})
    model = fitted.with_items(arrivals, log=lambda message, numbers=None: said.append(message))
    assert "1 of 2 new items have nothing that the model can read" in said
    assert model.answerable()[12:].tolist() == [True, False]


def test_eight_bit_models_take_new_items_too():
    model = KNOWING[1].fit(worlds.clubs().newcomers.train, run=RUN).in_eight_bits().with_items(ARRIVALS, log=silent)
    offered = model.recommend(Queries(Ragged.from_lists([[6, 7, 8, 9, 10]])), 2).items[0]
    assert set(model.items.lookup(offered)) == {11, 100}


def test_models_of_events_alone_refuse():
    train = worlds.clubs().newcomers.train
    with pytest.raises(ConfigError, match="This popular knows items by their events alone"):
        Popular().fit(train).with_items(ARRIVALS)
    plain = TwoTower(dim=8, batch_size=64, plan=TrainPlan(epochs=1)).fit(train, run=RUN)
    with pytest.raises(ConfigError, match="twotower and graphsage with item_features"):
        plain.with_items(ARRIVALS)


def test_text_identifiers_do_not_fit_integers(fitted):
    with pytest.raises(DataError, match="has items that are text, such as 'x'; those of the model are integers"):
        fitted.with_items(pl.DataFrame({"item_id": ["x"], "genre": ["chess"]}), log=silent)


def test_what_is_written_stays_as_it_is_written():
    """Names that look like numbers, dates or lists are names where the catalogue has names."""
    data = worlds.clubs().newcomers.train
    names = [name for name in ("007", "1.10", "2020-01-01", "a; b") for _ in range(3)]
    genre = Category.from_list([("dance", "chess")[item // 6] for item in range(12)])
    table = Table(12, {"genre": genre, "brand": Category.from_list(names), "title": Text.from_list(["x"] * 12)})
    model = KNOWING[0].for_epochs(1).fit(replace(data, catalog=Catalog(table, data.catalog.users)), run=RUN)
    for brand in ("007", "1.10", "2020-01-01", "a; b"):
        grown = model.with_items(pl.DataFrame({"item_id": [90], "brand": [brand], "title": ["2021-02-03"]}), log=silent)
        assert grown.about.catalog["brand"].lists()[12] == brand
        assert grown.about.catalog["title"].lists()[12] == "2021-02-03"
        assert grown.answerable()[12] == (brand in ("007", "2020-01-01"))  # the others' third item was never met


def test_two_spellings_of_one_identifier_are_one_item(fitted):
    grown = fitted.with_items(
        pl.DataFrame({"item_id": ["18", " 18", "3"], "genre": ["chess", "dance", None]}), log=silent
    )
    assert len(grown.items) == 13
    assert grown.about.catalog["genre"].lists()[12] in ("chess", "dance")


def test_what_comes_changes_nothing_of_what_is_there():
    """Which columns are read, and how, is decided by the items of training."""
    data = worlds.clubs().newcomers.train
    brand = Category.from_list([f"b{item // 2}" for item in range(12)])
    title = Text.from_list([f"thing {item}" for item in range(12)])
    data = replace(data, catalog=Catalog(Table(12, {"title": title, "brand": brand}), data.catalog.users))
    queries = Queries(Ragged.from_lists([[0, 1, 2]]))
    arrivals = pl.DataFrame({"item_id": [90, 91, 92], "title": ["n"] * 3, "brand": ["x", "y", "z"]})
    model = TextSimilarity(by="words").fit(data)
    np.testing.assert_allclose(model.with_items(arrivals, log=silent).score(queries)[:, :12], model.score(queries))


def test_new_items_stand_where_the_model_stood(fitted):
    assert fitted.with_items(ARRIVALS, log=silent)._run is fitted._run


def test_histories_without_an_event_are_no_error(fitted):
    nobody = fitted.with_histories(worlds.clubs().newcomers.train.where(np.zeros(600, bool)))
    assert len(nobody.with_items(ARRIVALS, log=silent).items) == 14
