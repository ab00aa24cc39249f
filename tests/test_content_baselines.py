"""What is popular in somebody's categories, and what reads like what they met; by hand, and of items never met."""

import tracemalloc
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import worlds
from sklearn.feature_extraction.text import TfidfVectorizer
from test_sberttwotower import library

from foretaste import load
from foretaste.catalog import Catalog, Category, Table, Text
from foretaste.errors import MissingData
from foretaste.models import CategoryPopular, TextSimilarity
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import silent
from foretaste.texts import row_texts


def asked(*rows) -> Queries:
    return Queries(Ragged.from_lists(list(rows)))


def small():
    """Items 0, 1, 2 of genre a, 3, 4, 5 of b; the events of each: 3, 1, 0, 6, 3, 3."""
    item = np.repeat([0, 1, 3, 4, 5], [3, 1, 6, 3, 3])
    train = worlds.log(np.arange(len(item)) % 4, item, items=7)
    genre = Category.from_list(["a", "a", "a", "b", "b", "b", None])
    return replace(train, catalog=Catalog(Table(7, {"genre": genre}), Table(4)))


def test_an_item_is_as_popular_as_its_categories_are_among_those_that_are_liked(tmp_path):
    model = CategoryPopular(item_columns=("genre",)).fit(replace(small()))
    # Of a only two items are met, fewer than the three that a name needs to tell anything.
    scores = model.score(asked([3, 0], []))
    assert model.answerable().tolist() == [False] * 3 + [True] * 3 + [False]
    np.testing.assert_allclose(scores[:, 3:6], 4.0, rtol=1e-4)
    assert len(set(scores[0, 3:6].tolist())) == 3  # the order among equals is drawn
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(load(tmp_path / "bundle").score(asked([3, 0])), scores[:1])


def test_categories_know_new_items_and_regulars_get_their_own():
    both = worlds.clubs()
    model = CategoryPopular().fit(both.newcomers.train)
    assert both.regulars.hit_rate(model) == 1.0
    grown = model.with_items(pl.DataFrame({"item_id": [90], "genre": ["chess"]}), log=silent)
    assert 12 in grown.recommend(both.regulars.queries, 2).items[1]
    like = model.similar_items([0], 5)
    assert set(like.items[0].tolist()) == {1, 2, 3, 4, 5}


def test_what_is_held_grows_with_what_items_have_and_not_with_items_times_names():
    count, names = 6000, 2000
    train = worlds.log(np.arange(count) % 40, np.arange(count), items=count)
    genre = Category.from_list([f"g{item % names}" for item in range(count)])
    train = replace(train, catalog=Catalog(Table(count, {"genre": genre}), Table(40)))
    tracemalloc.start()
    model = CategoryPopular().fit(train)
    top, like = model.recommend(asked([0, 1, 2, 3]), 3), model.similar_items([5], 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {int(item) % names for item in top.items[0]} <= {0, 1, 2, 3}
    assert set(like.items[0].tolist()) == {5 + names, 5 + 2 * names}
    assert peak < count * names  # bytes: even of one byte each


def test_without_names_that_group_it_is_refused():
    data = replace(small(), catalog=Catalog(Table(7, {"title": Text.from_list(["x"] * 7)}), Table(4)))
    with pytest.raises(MissingData, match="No column of the items of events groups them by names: title"):
        CategoryPopular().fit(data)


@pytest.mark.parametrize("by", ["encoder", "words"])
def test_texts_alike_are_found_though_nobody_met_them(by, tmp_path):
    train = library()
    if by == "words":
        kinds = [*["cook"] * 5, *["star"] * 5, "cook", "star"]
        title = Text.from_list([f"{each} {kind}" for each, kind in zip("abcdefghijkl", kinds, strict=True)])
        train = replace(train, catalog=Catalog(Table(12, {"title": title}), Table(80)))
    model = TextSimilarity(by=by).fit(train)
    queries = asked([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [])
    assert model.recommend(queries, 1).items.ravel().tolist()[:2] == [10, 11]
    assert np.isnan(model.score(queries)[2]).all()
    model.save(tmp_path / "bundle")
    np.testing.assert_allclose(load(tmp_path / "bundle").score(queries), model.score(queries), rtol=1e-5)
    grown = model.with_items(pl.DataFrame({"item_id": [90, 91], "title": ["how to cook", None]}), log=silent)
    assert grown.answerable()[12:].tolist() == [True, False]
    np.testing.assert_allclose(grown.score(queries)[:, :12], model.score(queries), rtol=1e-5)
    assert grown.similar_items([90], 3).items[0, 0] in {0, 1, 2, 3, 4, 10}


def test_weights_of_words_are_those_of_a_library_beside():
    train = library()
    model = TextSimilarity(by="words").fit(train)
    texts = row_texts(train.catalog.items)
    other = TfidfVectorizer(token_pattern=r"[^\W_]{3,}", smooth_idf=True)
    met = train.matrix().getnnz(axis=0) > 0
    known = other.fit([text for text, there in zip(texts, met, strict=True) if there]).transform(texts)
    queries = asked([0, 1], [3, 6, 8])
    mean = np.stack([np.asarray(known[row].mean(0)).ravel() for row in queries.history.lists()])
    expected = (mean / np.linalg.norm(mean, axis=1, keepdims=True)) @ known.toarray().T
    found = model.score(queries)
    there = model.answerable()
    np.testing.assert_allclose(found[:, there], expected[:, there], rtol=1e-4, atol=1e-6)
