"""Whatever stands in the table of items, or does not: each model answers, or says in a sentence why it cannot."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from foretaste import load
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError, ForetasteError, MissingData
from foretaste.events import read_events
from foretaste.history_pairs import HistoryPairBatches
from foretaste.models import (
    CategoryPopular,
    GraphSAGE,
    Hybrid,
    Item2Vec,
    LightGCN,
    SBERTTwoTower,
    T5Hybrid,
    TextSimilarity,
    TwoTower,
)
from foretaste.ragged import PAD
from foretaste.recommender import Model, Settings
from foretaste.run import Run, silent
from foretaste.train import TrainPlan

RUN = Run(seed=1, device="cpu", precision="fp32")
FEW: dict[str, Any] = {"dim": 8, "batch_size": 64, "plan": TrainPlan(epochs=2, lr=0.01)}
MODELS: dict[str, Settings] = {
    "categorypopular": CategoryPopular(),
    "textsimilarity": TextSimilarity(by="words"),
    "textsimilarity by encoder": TextSimilarity(),
    "item2vec": Item2Vec(**FEW),
    "lightgcn": LightGCN(**FEW),
    "twotower": TwoTower(item_features=True, **FEW),
    "graphsage": GraphSAGE(item_features=True, fanouts=(4, 2), **FEW),
    "sberttwotower": SBERTTwoTower(**FEW),
    "t5hybrid": T5Hybrid(
        **{"encoder": "./none", "pretrain": True, "pretrain_epochs": 1, "encoder_dim": 16, "encoder_layers": 1}, **FEW
    ),
    "hybrid": Hybrid(models={"texts": TextSimilarity(by="words"), "graph": LightGCN(**FEW)}),
}
KNOWING = tuple(name for name in MODELS if name not in ("item2vec", "lightgcn", "hybrid"))  # take new items

every_model = pytest.mark.parametrize("name", MODELS)
knowing_models = pytest.mark.parametrize("name", KNOWING)

ITEMS = 12
PLAIN = [f"a {thing} made of {of}" for thing in ("chair", "table", "lamp") for of in ("oak", "steel", "wool", "glass")]
GENRES = ["home|wood", "home|metal", "home", "office"] * 3


def events(pairs: Sequence[tuple[str, str]] | None = None) -> pl.DataFrame:
    """40 people who each met five of the twelve items; or the given pairs."""
    if pairs is None:
        rng = np.random.default_rng(2)
        pairs = [(f"u{user}", f"i{item}") for user in range(40) for item in rng.permutation(ITEMS)[:5]]
    return pl.DataFrame(
        {
            "user_id": [user for user, _ in pairs],
            "item_id": [item for _, item in pairs],
            "timestamp": 1_700_000_000 + 60 * np.arange(len(pairs)),
        }
    )


def table(texts: Sequence[str | None] = PLAIN, first: int = 0, **columns: Any) -> pl.DataFrame:
    ids = [f"i{first + number}" for number in range(len(texts))]
    genres = {"genres": (GENRES * len(texts))[: len(texts)]}
    return pl.DataFrame({"item_id": ids, "title": list(texts), **(genres | columns)}, strict=False)


def log_of(items: pl.DataFrame | None = None, pairs: Sequence[tuple[str, str]] | None = None) -> Dataset:
    return read_events(events(pairs), items=table() if items is None else items, log=silent)


def check_answers(model: Model, data: Dataset, tmp_path: Any = None) -> None:
    """Lists are whole, without a doublet and without a score that is no number, alone and after a reload."""
    known = model.with_histories(data, silent)
    everything = data.items.lists()
    asked: list[Any] = [[], everything[:1], everything[:3], everything[-1:], everything]
    for queries in (data.users.lists(), asked):
        top = known.recommend(queries, k=len(everything), filter_seen=False)
        assert np.isfinite(top.scores[top.items != PAD]).all()
        assert all(sorted(row) == sorted(everything) for row in top.lists()), "all there is, each once"
    alike = known.similar_items(everything, k=5)
    assert np.isfinite(alike.scores[alike.items != PAD]).all()
    if tmp_path is not None:
        known.save(tmp_path / "bundle")
        again = load(tmp_path / "bundle").recommend(asked, 5)
        np.testing.assert_array_equal(again.items, known.recommend(asked, 5).items)


HTML = '<div class="x"><p>A &amp; <b>oak</b> chair</p><script>alert("1 < 2")</script><br/></div>'
TEXTS: dict[str, list[str | None]] = {
    "some empty": ["", *PLAIN[1:6], " ", *PLAIN[7:]],
    "some null": [None, *PLAIN[1:6], None, *PLAIN[7:]],
    "100,000 characters": ["oak chair " * 10_000, "x" * 100_000, "<" * 100_000, "&amp;" * 20_000, *PLAIN[4:]],
    "emoji": ["\U0001f600", "\U0001f469\u200d\U0001f680 \U0001f680", "\U0001f1e9\U0001f1ea", *PLAIN[3:]],
    "HTML": [HTML, "<p></p>", "<br><br/>", "<a href='", *PLAIN[4:]],
    "no letters": ["...", "!?", "\u200b", "\x00", *PLAIN[4:]],
    "other scripts": ["椅子", "стул из дуба", "كرسي", *PLAIN[3:]],
    "one has a text": ["an oak chair", *[None] * 11],
    "duplicates": ["an oak chair"] * 12,
}


@every_model
@pytest.mark.parametrize("texts", TEXTS)
def test_whatever_is_written_of_items_all_people_are_answered(name, texts, tmp_path):
    data = log_of(table(TEXTS[texts]))
    check_answers(MODELS[name].fit(data, run=RUN), data, tmp_path)


@pytest.fixture(scope="module")
def fitted():
    """The model of a name, fitted once on plain texts."""
    data = log_of()
    return cache(lambda name: MODELS[name].fit(data, run=RUN).with_histories(data))


@knowing_models
@pytest.mark.parametrize("texts", TEXTS)
def test_whatever_is_written_of_new_items_all_people_are_answered(name, texts, fitted):
    grown = fitted(name).with_items(table(TEXTS[texts], first=50), log=silent)
    top = grown.recommend(["u1", "nobody"], k=24, filter_seen=False)
    assert np.isfinite(top.scores).all()
    assert all(len(set(row)) == 24 for row in top.lists())
    alike = grown.similar_items([f"i{50 + number}" for number in range(12)], 5)
    assert np.isfinite(alike.scores[alike.items != PAD]).all()


@knowing_models
def test_a_new_item_of_which_nothing_is_said_is_offered_last_and_that_is_told(name, fitted):
    said: list[str] = []
    rows = pl.DataFrame(
        {"item_id": ["i50", "i51"], "title": [None, "a stool made of oak"], "genres": [None, "home|wood"]}
    )
    grown = fitted(name).with_items(rows, log=lambda message, numbers=None: said.append(message))
    assert "1 of 2 new items have nothing that the model can read" in said
    assert grown.answerable()[12:].tolist() == [False, True]
    top = grown.recommend(["u1"], 14, filter_seen=False)
    assert top.lists()[0][-1] == "i50" and top.source[0, -1] == 1


@knowing_models
def test_names_that_training_never_met_mean_nothing_and_do_no_harm(name, fitted):
    rows = pl.DataFrame(
        {"item_id": ["i50", "i51"], "title": ["a stool made of oak"] * 2, "genres": ["martian|home", "martian|wizard"]}
    )
    grown = fitted(name).with_items(rows, log=silent)
    top = grown.recommend(["u1", "nobody"], 14, filter_seen=False)
    assert np.isfinite(top.scores).all() and all(len(set(row)) == 14 for row in top.lists())
    assert grown.answerable()[12]
    assert grown.answerable()[13] == (name != "categorypopular")


@every_model
def test_names_that_only_items_without_events_have_do_no_harm(name, tmp_path):
    items = pl.concat([table(), table(["a boat"] * 4, first=12, genres=["sea"] * 4)])
    data = log_of(items)
    check_answers(MODELS[name].fit(data, run=RUN), data, tmp_path)


@every_model
def test_an_item_table_may_lack_items_of_the_log_and_have_others(name, tmp_path):
    said: list[str] = []
    items = table()[6:].vstack(table(PLAIN[:3], first=70))
    data = read_events(events(), items=items, log=lambda message, numbers=None: said.append(message))
    assert any("3 items without events were added to the 12 of the log" in line for line in said)
    assert any("6 of the 12 items of the log have no row in it" in line for line in said)
    check_answers(MODELS[name].fit(data, run=RUN), data, tmp_path)


@every_model
def test_people_and_items_without_any_event_are_answered(name, tmp_path):
    """Nodes without an edge, on both sides of the graph."""
    data = log_of(pl.concat([table(), table(["a lone bench", ""], first=12, genres=[None, None])]))
    lonely = (data.user > 4) & (data.item > 2)  # five people and three items are left without an event
    kept = data.where(lonely)
    model = MODELS[name].fit(kept, run=RUN)
    check_answers(model, kept, tmp_path)
    alone = model.with_histories(kept, silent).recommend(["u0"], 3)
    assert set(alone.source[0].tolist()) == {1} or name == "categorypopular"


@every_model
@pytest.mark.parametrize("pairs", ["one", "two apart", "twice the same"])
def test_one_pair_is_learned_from_or_refused_in_a_sentence(name, pairs, tmp_path):
    met = {"one": [("u0", "i0")], "two apart": [("u0", "i0"), ("u1", "i1")], "twice the same": [("u0", "i0")] * 2}[
        pairs
    ]
    data = log_of(pairs=met)
    try:
        model = MODELS[name].fit(data, run=RUN)
    except ForetasteError as error:
        assert name in ("item2vec", "categorypopular"), "all others can learn from any pair"
        assert isinstance(error, (DataError, MissingData)) and "\n" not in str(error)
        return
    check_answers(model, data, tmp_path)


@every_model
def test_somebody_with_50_000_events_is_learned_from_and_answered(name):
    rng = np.random.default_rng(0)
    met = [("robot", f"i{item}") for item in rng.integers(0, ITEMS, 50_000)]
    data = log_of(pairs=[*met, *zip(*events()["user_id", "item_id"], strict=True)])
    model = MODELS[name].model_copy(
        update={"batch_size": None} if "batch_size" in type(MODELS[name]).model_fields else {}
    )
    check_answers(model.fit(data, run=RUN), data)


@pytest.mark.parametrize("in_order", [False, True])
def test_of_50_000_events_a_step_reads_no_more_than_the_length(in_order):
    """What a step takes up is bounded by its batch, however much anybody met."""
    met = [("robot", f"i{item}") for item in range(50_000)]
    data = read_events(events(met), log=silent)
    settings = TwoTower(length=20, in_order=in_order)
    pairs, none = np.arange(1, 50_000), np.empty((1, 0), np.int64)
    batches = HistoryPairBatches(settings, data, pairs, none, 256, None, RUN.rng("batches"))
    assert max(len(batches[number].history) for number in (0, 7, len(batches) - 1)) <= 256 * 20


WITHOUT = {
    "textsimilarity": TextSimilarity(encoder="./nowhere"),
    "sberttwotower": SBERTTwoTower(encoder="./nowhere", **FEW),
    "t5hybrid": T5Hybrid(encoder="./nowhere", **FEW),
    "hybrid": Hybrid(models={"texts": {"model": "textsimilarity", "encoder": "./nowhere"}, "graph": LightGCN(**FEW)}),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_an_encoder_that_is_not_to_be_had_is_an_error_in_one_line(name, monkeypatch):
    monkeypatch.setattr("foretaste.encoders.hub_answers", lambda: False)
    for called in ("./nowhere", "nobody/nothing", "no name at all"):
        settings = WITHOUT[name].model_dump()
        if name == "hybrid":
            settings["models"]["texts"]["encoder"] = called
        else:
            settings["encoder"] = called
        with pytest.raises(
            ConfigError, match=r"There is no .*(sentence encoder|T5) .*Give a folder that holds one"
        ) as why:
            type(WITHOUT[name])(**settings).fit(log_of(), run=RUN)
        assert called in str(why.value) and "\n" not in str(why.value)


@pytest.mark.parametrize("name", ["textsimilarity by encoder", "sberttwotower"])
def test_a_bundle_answers_without_its_encoder_and_asks_for_it_only_to_read_what_is_new(
    name, fitted, tmp_path, monkeypatch
):
    model = fitted(name)
    model.save(tmp_path / "bundle")
    monkeypatch.setattr("foretaste.encoders.hub_answers", lambda: False)
    monkeypatch.setattr("foretaste.text_encoder.PACKAGES", {})
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "cache"))
    again = load(tmp_path / "bundle")
    assert again.recommend(["u1"], 5).lists() == model.recommend(["u1"], 5).lists()
    assert again.similar_items(["i3"], 5).lists() == model.similar_items(["i3"], 5).lists()
    with pytest.raises(ConfigError, match="There is no sentence encoder 'all-MiniLM-L6-v2'"):
        again.with_items(table(["a stool"], first=50), log=silent)
