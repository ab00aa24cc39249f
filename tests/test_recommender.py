"""Filters, fallback and the ways to ask, on a model whose scores are written down."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from foretaste import recommender
from foretaste.catalog import Catalog, Number, Table
from foretaste.dataset import Dataset, EventKinds, Needs
from foretaste.errors import ConfigError, DataError, UnknownName
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About, Settings
from foretaste.scoring import ScoringModel, VectorModel
from foretaste.vocab import Vocab


class Written(Settings):
    """Settings of the models below; nothing is learned."""

    def _fit(self, train, validation, run):
        raise NotImplementedError

    def restore(self, about, state):
        raise NotImplementedError


class WrittenModel(ScoringModel):
    """Gives every query the same row of scores."""

    def __init__(self, about, row):
        super().__init__(Written(), about)
        self.row = row

    def state(self):
        return {}

    def score(self, queries):
        if isinstance(self.row, csr_matrix):
            return csr_matrix(np.ones((len(queries), 1), np.float32)) @ self.row
        return np.tile(np.array(self.row, np.float32), (len(queries), 1))


class WrittenVectors(VectorModel):
    """Vectors written down: e, w and n have none worth the name; n was never met."""

    def state(self):
        return {}

    def query_vectors(self, queries):
        vectors = np.tile(np.array([1, 2], np.float32), (len(queries), 1))
        vectors[queries.history.lengths == 0] = np.nan
        return vectors

    def item_vectors(self):
        return np.array([[1, 0], [0, 1], [2, 2], [-1, 0], [9, 9]], np.float32)


@pytest.fixture
def log() -> Dataset:
    """Popularity a 2, b 5, c 1, d 1; e was never met."""
    user, item, kind = [0, 0, 1, 1, 1], [0, 1, 2, 3, 0], [0, 1, 0, 0, 0]
    return Dataset.from_arrays(
        Vocab.from_ids(["ann", "bob", "cy"]),
        Vocab.from_ids(["a", "b", "c", "d", "e"]),
        np.array(user),
        np.array(item),
        time=np.array([1, 2, 3, 4, 5]),
        kind=np.array(kind),
        kinds=EventKinds(("view", "buy"), (1.0, 5.0)),
        catalog=Catalog(Table(5), Table(3, {"age": Number(np.array([20.0, 30.0, 40.0]))})),
    )


@pytest.fixture
def model(log):
    return WrittenModel(About.of(log), [3, 1, 2, -np.inf, np.nan])


def ids(answer, row=0):
    return answer.lists()[row]


def named(answer, row=0):
    return [answer.sources[each] for each in answer.source[row] if each != PAD]


def test_places_that_the_model_cannot_fill_are_filled_by_popularity_below_its_scores(model):
    answer = model.recommend([["x"]], k=5)
    assert ids(answer) == ["a", "c", "b", "d", "e"]
    assert named(answer) == ["written"] * 3 + ["popularity"] * 2
    assert answer.scores[0, :3].tolist() == [3, 2, 1]
    assert (np.diff(answer.scores[0]) < 0).all()


def test_where_the_model_has_no_answer_at_all_the_list_is_popularity(model):
    model.row = [np.nan] * 5
    answer = model.recommend([[], ["b"]], k=3)
    assert answer.lists() == [["b", "a", "c"], ["a", "c", "d"]]
    assert (answer.source == 1).all()
    assert answer.scores[0].tolist() == [1.0, np.float32(0.4), np.float32(0.2)]


@pytest.mark.parametrize("size", [-1e6, -1.0, 0.0, 1e-9, 1e6])
def test_the_order_holds_whatever_the_size_of_the_scores(model, size):
    model.row = [size, -np.inf, size, -np.inf, -np.inf]
    answer = model.recommend([[]], k=5)
    assert ids(answer) == ["a", "c", "b", "d", "e"]
    assert (np.diff(answer.scores[0]) <= 0).all()
    assert answer.scores[0, 2] < answer.scores[0, 1]


def test_sparse_scores_are_the_same_as_dense_ones(model):
    dense = model.recommend([["a"], []], k=4)
    model.row = csr_matrix(np.array([[3, 1, 2, 0, 0]], np.float32))
    sparse = model.recommend([["a"], []], k=4)
    assert sparse.lists() == dense.lists()
    assert np.array_equal(sparse.scores, dense.scores)


def test_hidden_items_come_back_neither_from_the_model_nor_from_popularity(model):
    answer = model.recommend([["a", "b", "d"]], k=5)
    assert ids(answer) == ["c", "e"]
    assert answer.items[0, 2:].tolist() == [PAD] * 3
    assert answer.source[0, 2:].tolist() == [PAD] * 3
    assert answer.scores[0, 2:].tolist() == [-np.inf] * 3


def test_only_and_never(model):
    assert ids(model.recommend([[]], k=5, items=["d", "c"])) == ["c", "d"]
    assert ids(model.recommend([[]], k=5, exclude=["a", "e"])) == ["c", "b", "d"]
    assert ids(model.recommend([[]], k=5, items=["a", "b"], exclude=["a"])) == ["b"]
    assert ids(model.recommend([["b"]], k=5, items=["b"])) == []
    assert ids(model.recommend([[]], k=5, items=[])) == []
    assert ids(model.recommend([[]], k=2, exclude=[])) == ["a", "c"]


@pytest.mark.parametrize("argument", ["items", "exclude"])
def test_filters_name_an_unknown_item(model, argument):
    with pytest.raises(UnknownName, match="Unknown item 'zz'"):
        model.recommend([[]], k=1, **{argument: ["a", "zz"]})


def test_only_what_was_met_by_some_kinds_is_hidden(model, log):
    queries = Queries.of_users(log)
    assert ids(model.recommend(queries, 5, exclude_kinds=["buy"])) == ["a", "c", "d", "e"]
    assert ids(model.recommend(queries, 5, exclude_kinds=["view"])) == ["c", "b", "d", "e"]
    assert ids(model.recommend(queries, 5, exclude_kinds=["view", "buy"])) == ["c", "d", "e"]
    assert ids(model.recommend(queries, 5, filter_seen=False, exclude_kinds=["buy"])) == ["a", "c", "b", "d", "e"]


def test_an_unknown_kind_and_histories_without_kinds_are_refused(model, log):
    with pytest.raises(UnknownName, match="Unknown event kind 'bay' - did you mean 'buy'"):
        model.recommend(Queries.of_users(log), exclude_kinds=["bay"])
    with pytest.raises(ConfigError, match="only where histories have kinds"):
        model.recommend([["a"]], exclude_kinds=["buy"])


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(model, k):
    with pytest.raises(ConfigError, match=f"k must be at least 1; it is {k}"):
        model.recommend([[]], k)
    with pytest.raises(ConfigError, match=f"k must be at least 1; it is {k}"):
        WrittenVectors(Written(), model.about).similar_items(["a"], k)


def test_users_are_asked_for_by_their_ids(model, log):
    asked = model.with_histories(log)
    answer = asked.recommend(["bob", "cy", "ann"], k=2)
    assert answer.lists() == [["b", "e"], ["a", "c"], ["c", "d"]]
    assert answer.labels == ["bob", "cy", "ann"]
    assert model.histories is None


def test_an_unknown_user_is_nobody_else(model, log):
    asked = model.with_histories(log).ask(["bob", "who"])
    assert asked.unknown_users == ["who"]
    assert asked.queries.history.lists() == [[2, 3, 0], []]
    assert asked.queries.user.tolist() == [1, PAD]
    assert asked.queries.user_features["age"].lists() == [30.0, None]
    assert asked.queries.now.tolist() == [5, 5]
    assert len(asked.queries.times) == 3


def test_users_without_stored_histories_are_refused(model):
    with pytest.raises(ConfigError, match=r"holds no histories.*with_histories"):
        model.recommend(["ann"])


def test_text_instead_of_a_list_is_refused(model):
    with pytest.raises(ConfigError, match="Pass a list of users or of histories; this is the text 'ann'"):
        model.recommend("ann")


def test_histories_of_other_data_are_matched_by_name(model, log):
    other = replace(
        log,
        items=Vocab.from_ids(["z", "d", "a"]).extended(["b"]),  # a, d, z, b
        item=np.array([0, 1, 2, 3, 0], np.int32),
        kinds=EventKinds(("buy", "view"), (5.0, 1.0)),
    )
    with pytest.warns(UserWarning, match="events: 1 of 5 events are left out of the histories.*such as 'z'"):
        stored = model.with_histories(other).histories.queries
    assert stored.history.lists() == [[0, 3], [1, 0], []]  # a d | b a, and z is unknown
    assert stored.kinds.tolist() == [1, 0, 1, 1]
    assert stored.times.tolist() == [1, 2, 4, 5]


def test_kinds_that_the_model_does_not_know_are_refused_and_none_where_it_knows_none(model, log):
    with pytest.raises(UnknownName, match=r"Unknown event kind 'gaze'.*There are: view, buy"):
        model.with_histories(replace(log, kinds=EventKinds(("gaze", "buy"), (1.0, 5.0))))
    plain = WrittenModel(About.of(log.only(Needs.TIMES)), model.row)
    assert plain.with_histories(log).histories.queries.kinds is None


def test_unknown_items_in_a_history_are_named(model):
    asked = model.ask([["a", "zz"], [], ["yy"]])
    assert asked.unknown_items == ["zz", "yy"]
    assert asked.queries.history.lists() == [[0], [], []]
    assert list(asked.labels) == [0, 1, 2]


def test_queries_of_known_users_are_labelled_by_id(model, log):
    queries = Queries.of_users(log, np.array([2, 0]))
    assert list(model.recommend(queries, 1).labels) == [0, 1]
    assert list(model.with_histories(log).recommend(queries, 1).labels) == ["cy", "ann"]


def test_nobody_asks_and_nobody_is_answered(model):
    answer = model.recommend([], k=3)
    assert answer.items.shape == (0, 3)
    assert len(answer) == 0


def test_chunks_of_queries_change_nothing(model, log, monkeypatch):
    queries = Queries.of_users(log)
    whole = model.recommend(queries, 4, exclude_kinds=["buy"])
    monkeypatch.setattr(recommender, "CHUNK_BYTES", 1)
    parts = model.recommend(queries, 4, exclude_kinds=["buy"])
    assert np.array_equal(whole.items, parts.items)
    assert np.array_equal(whole.scores, parts.scores)


def test_vectors_score_by_inner_product_and_only_items_met_in_training(log):
    model = WrittenVectors(Written(), About.of(log))
    scores = model.score(Queries(Ragged.from_lists([[0], []])))
    assert scores[0].tolist() == [1, 2, 6, -1, -np.inf]
    assert np.isnan(scores[1, :4]).all()
    answer = model.recommend([["a"], []], 5, filter_seen=False)
    assert answer.lists() == [["c", "b", "a", "d", "e"], ["b", "a", "c", "d", "e"]]
    assert named(answer) == ["written"] * 4 + ["popularity"]


def test_likeness_of_vectors_is_their_cosine(log):
    model = WrittenVectors(Written(), About.of(log))
    answer = model.similar_items(["a", "c", "e"], k=10)
    assert answer.lists() == [["c", "b", "d"], ["a", "b", "d"], []]  # nothing is known of e
    np.testing.assert_allclose(answer.scores[0, :3], [2**-0.5, 0, -1], atol=1e-6)
    assert list(answer.labels) == ["a", "c", "e"]
    assert model.similar_items([], k=2).lists() == []


def test_fitting_on_no_events_is_refused(log):
    with pytest.raises(DataError, match="events has no events to fit Written on"):
        Written().fit(log.where(np.zeros(len(log), bool)))


def test_about_holds_summed_weights_and_titles(log):
    about = About.of(log)
    assert about.popularity.tolist() == [2, 5, 1, 1, 0]
    assert about.titles() is None
    assert about.fingerprint == log.fingerprint


def test_users_and_histories_are_not_mixed_in_one_question(model):
    with pytest.raises(ConfigError, match="Pass users or histories, not both"):
        model.recommend([["a"], "ann"])


def test_what_was_not_understood_stands_in_the_answer(model, log):
    assert model.recommend([["a", "zzz"]], k=1).unknown_items == ("zzz",)
    assert model.with_histories(log).recommend(["ann", "nobody"], k=1).unknown_users == ("nobody",)


def test_chunks_of_vectors_give_what_one_piece_gives(log, monkeypatch):
    model = WrittenVectors(Written(), About.of(log))
    histories = [["a"], [], ["b", "c"], ["d"]]
    whole = model.recommend(histories, k=4)
    monkeypatch.setattr(recommender, "CHUNK_BYTES", 4 * 5 * 1)  # the scores of one query
    piecemeal = model.recommend(histories, k=4)
    assert (whole.items == piecemeal.items).all()
    assert (whole.source == piecemeal.source).all()
