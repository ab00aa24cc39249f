"""What every model promises, asked of each by name."""

import importlib
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError
from scipy.sparse import csr_matrix

import foretaste.bundle
from foretaste import recommender
from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError, DataError, MissingData, TooLarge, UnknownName
from foretaste.models import MODELS, model_settings
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Model, Settings
from foretaste.run import Run
from foretaste.scoring import ScoringModel
from foretaste.sequential import SequenceSettings
from foretaste.train import TrainPlan
from foretaste.validation import ndcg_at_10
from foretaste.vocab import Strings, Vocab

# One line of fast settings per model.
FAST: dict[str, Settings] = {
    "popular": MODELS["popular"](),
    "recentpopular": MODELS["recentpopular"](),
    "categorypopular": MODELS["categorypopular"](),
    "textsimilarity": MODELS["textsimilarity"](by="words"),
    "itemknn": MODELS["itemknn"](neighbors=8),
    "ease": MODELS["ease"](l2=20.0),
    "als": MODELS["als"](dim=8, epochs=4),
    "item2vec": MODELS["item2vec"](dim=16, batch_size=256, plan=TrainPlan(epochs=2, lr=0.01)),
    "lightgcn": MODELS["lightgcn"](dim=16, layers=2, batch_size=64, plan=TrainPlan(epochs=2, lr=0.01)),
    "graphsage": MODELS["graphsage"](dim=16, fanouts=(5, 3), batch_size=64, plan=TrainPlan(epochs=2, lr=0.01)),
    "twotower": MODELS["twotower"](dim=16, batch_size=64, plan=TrainPlan(epochs=2, lr=0.01)),
    "sberttwotower": MODELS["sberttwotower"](dim=16, batch_size=64, plan=TrainPlan(epochs=2, lr=0.01)),
    "t5hybrid": MODELS["t5hybrid"](
        **{"dim": 16, "batch_size": 64, "encoder": "./none", "pretrain": True, "pretrain_epochs": 1},
        **{"encoder_dim": 16, "encoder_layers": 1, "encoder_heads": 2, "plan": TrainPlan(epochs=2, lr=0.01)},
    ),
    "sasrec": MODELS["sasrec"](dim=16, length=12, batch_tokens=256, plan=TrainPlan(epochs=2, lr=0.01)),
    "bert4rec": MODELS["bert4rec"](dim=16, length=12, batch_tokens=256, plan=TrainPlan(epochs=2, lr=0.01)),
    "enhancedbert4rec": MODELS["enhancedbert4rec"](
        dim=16, length=12, batch_tokens=256, plan=TrainPlan(epochs=2, lr=0.01)
    ),
    "gru4rec": MODELS["gru4rec"](dim=16, length=12, batch_tokens=256, plan=TrainPlan(epochs=2, lr=0.01)),
    "hybrid": MODELS["hybrid"](models={"ease": {"l2": 20.0}, "factors": {"model": "als", "dim": 8, "epochs": 4}}),
    "twostage": MODELS["twostage"](
        **{"sources": {"itemknn": {"neighbors": 8}, "ease": {"l2": 20.0}}, "slice": 0.3, "candidates": 10},
        **{"ranker": {"dim": 4, "hidden": (8,), "head_hidden": (), "plan": {"epochs": 2, "lr": 0.01}}},
    ),
    "hstu": MODELS["hstu"](dim=16, length=12, batch_tokens=256, plan=TrainPlan(epochs=2, lr=0.01)),
}

# What a setting may be called; the same thing has the same name in every model.
SETTING_NAMES = {
    "popular": {"count_users"},
    "recentpopular": {"window_days", "half_life_days"},
    "categorypopular": {"item_columns", "seed"},
    "textsimilarity": {"by", "encoder", "text_columns"},
    "itemknn": {"user_power", "item_power", "neighbors", "weighting", "damping", "binary", "bm25_k1", "bm25_b"},
    "ease": {"l2", "keep", "binary", "memory_gib", "user_power", "item_power"},
    "als": {"dim", "regularization", "alpha", "epochs", "binary"},
    "hybrid": {"models", "normalization", "weights"},
    "twostage": {
        "sources",
        "candidates",
        "ranker",
        "policy",
        "slice",
        "folds",
        "asked",
        "examples",
        "passed_over",
        "lists",
        "weights",
    }
    | {"filter_seen", "exclude_kinds"},
    "nets": {
        *("dim", "length", "layers", "heads", "inner", "dropout", "batch_tokens", "plan"),
        *("loss", "negatives", "negatives_alpha", "calibration"),
        *("embeddings", "embedding_dim", "dropout_hidden", "dropout_carried", "sessions"),
        *("batch_negatives", "negatives_correction", "score_regularization", "elu"),
        *("mask_rate", "last_share", "masks_per_epoch"),
        *(
            "use",
            "item_columns",
            "year_column",
            "user_columns",
            "metadata_dim",
            "item_forgetting",
            "unmet_share",
            "side_forgetting",
        ),
        *("masked_item_weight", "next_item_weight", "stride", "teacher", "distillation_weight", "temperature"),
        *("user_embedding", "user_dropout", "rating_weight", "preference_weight"),
        *("window", "in_order", "recent", "subsample"),
        *("hidden", "user_features", "history_dropout", "hard_negatives"),
        *("tasks", "encoder", "text_columns", "user_text_columns", "unfrozen_layers", "encoder_lr", "encoder_batch"),
        *("aspects", "fusion", "pretrain", "pretrain_epochs", "encoder_dim", "encoder_layers", "encoder_heads"),
        *("layer_weights", "hide_edges", "similarity", "l2", "batch_size"),
        *("fanouts", "aggregator", "item_bias"),
        *("positions", "norm", "time_intervals", "event_kinds", "item_features", "attention"),
    },
}
PLAN_NAMES = {
    *(
        "epochs",
        "lr",
        "weight_decay",
        "decay_vectors",
        "betas",
        "schedule",
        "warmup_steps",
        "floor",
        "clip",
        "centralize",
        "accumulate",
    ),
    *("patience", "validate_every", "average", "checkpoint_every", "checkpoint_activations", "optimizer", "momentum"),
}

RUN = Run(seed=3, device="cpu", precision="fp32")
NEVER = 14  # the item of ``shop`` that nobody met

every_model = pytest.mark.parametrize("name", MODELS)
personal = pytest.mark.parametrize("name", [name for name in MODELS if "popular" not in name])
NETWORKS = [name for name, settings in FAST.items() if hasattr(settings, "plan")]
networks = pytest.mark.parametrize("name", NETWORKS)
seeded = pytest.mark.parametrize("name", ["als", *(name for name, each in FAST.items() if hasattr(each, "plan"))])
deterministic = pytest.mark.parametrize("name", ["popular", "recentpopular", "itemknn", "ease"])
# These know an item without events by what the catalogue says of it, so they offer and read it (tests of their own).
KNOW_BY_METADATA = ("categorypopular", "textsimilarity", "enhancedbert4rec", "sberttwotower", "t5hybrid")
READING = ("sberttwotower", "t5hybrid")  # vectors of texts: of a million items, gigabytes
by_events = pytest.mark.parametrize("name", [name for name in MODELS if name not in KNOW_BY_METADATA])
personal_by_events = pytest.mark.parametrize(
    "name", [name for name in MODELS if "popular" not in name and name not in KNOW_BY_METADATA]
)
with_likeness = pytest.mark.parametrize("name", [name for name in MODELS if "popular" not in name])


@pytest.fixture(scope="session")
def fitted(shop):
    """The model of a name, fitted once."""
    return cache(lambda name: FAST[name].fit(shop, run=RUN))


@pytest.fixture(scope="session")
def queries(shop) -> Queries:
    """All people of the shop, and somebody without a history."""
    users = np.arange(len(shop.users))
    known = Queries.of_users(shop, users[:20])
    return known.where(known.history.row_of_value() != 4)


def own(answer):
    """Which places the model itself has filled."""
    return answer.source == 0


def test_each_model_has_fast_settings_here():
    assert FAST.keys() == MODELS.keys()


@every_model
def test_a_model_is_called_like_its_class_and_its_file(name):
    assert MODELS[name].__name__.lower() == name == FAST[name].called()
    assert importlib.import_module(f"foretaste.models.{name}").__all__
    assert MODELS[name].__doc__


@every_model
def test_there_is_a_score_for_each_query_and_item(name, fitted, queries):
    model = fitted(name)
    scores = model._scores(queries)
    assert scores.shape == (len(queries), len(model.items))
    assert scores.numpy().dtype == np.float32
    if isinstance(model, ScoringModel):
        assert isinstance(model.score(queries), np.ndarray | csr_matrix)


@every_model
def test_history_is_not_offered_again(name, fitted, queries):
    answer = fitted(name).recommend(queries, k=15)
    for history, found in zip(queries.history.lists(), answer.items, strict=True):
        assert not set(history) & set(found.tolist())


@every_model
def test_history_is_offered_on_request(name, fitted, queries):
    answer = fitted(name).recommend(queries, k=15, filter_seen=False)
    assert (np.sort(answer.items, axis=1) == np.arange(15)).all()


@every_model
def test_only_items_met_by_the_named_kinds_are_hidden(name, fitted, queries):
    answer = fitted(name).recommend(queries, k=15, exclude_kinds=["purchase"])
    bought = queries.history.where(queries.kinds == 2).lists()
    assert any(bought)
    for row, found in zip(bought, answer.items, strict=True):
        assert set(found[found != PAD].tolist()) == set(range(15)) - set(row)


@every_model
@pytest.mark.parametrize("filter_seen", [True, False])
def test_the_best_come_first_and_no_item_twice(name, fitted, queries, filter_seen):
    answer = fitted(name).recommend(queries, k=15, filter_seen=filter_seen)
    for found, scores in zip(answer.items, answer.scores, strict=True):
        there = found != PAD
        assert (np.diff(scores[there]) <= 0).all()
        assert len(set(found[there].tolist())) == there.sum()
        assert not there[int(there.sum()) :].any()
        assert (scores[~there] == -np.inf).all()


@every_model
def test_shorter_lists_are_the_beginning_of_longer_ones(name, fitted, queries):
    long, short = (fitted(name).recommend(queries, k=k) for k in (15, 4))
    assert np.array_equal(long.items[:, :4], short.items)


@every_model
def test_more_than_the_catalogue_gives_all_there_is(name, fitted):
    answer = fitted(name).recommend([["sku-3", "sku-1"], []], k=1000)
    assert [len(row) for row in answer.lists()] == [13, 15]


@every_model
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(name, fitted, k):
    with pytest.raises(ConfigError, match=f"k must be at least 1; it is {k}"):
        fitted(name).recommend([[]], k=k)


@every_model
def test_a_batch_answers_like_one_by_one(name, fitted, queries):
    model = fitted(name)
    together = model.recommend(queries, k=8)
    for row in range(len(queries)):
        alone = model.recommend(queries.take(slice(row, row + 1)), k=8)
        assert np.array_equal(alone.items[0], together.items[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-5)
        assert np.array_equal(alone.source[0], together.source[row])


@networks
def test_padding_does_not_change_an_answer(name, fitted, shop):
    model = fitted(name)
    short = Queries(Ragged.from_lists([[3]]))
    longer = Queries(Ragged.from_lists([[3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5, 6] * 9]))
    np.testing.assert_allclose(model.query_vectors(short)[0], model.query_vectors(longer)[0], rtol=1e-4, atol=1e-5)


@every_model
def test_chunks_of_queries_change_nothing(name, fitted, queries, monkeypatch):
    whole = fitted(name).recommend(queries, k=8)
    monkeypatch.setattr(recommender, "CHUNK_BYTES", 3 * 15 * 4)
    assert np.array_equal(fitted(name).recommend(queries, k=8).items, whole.items)


@personal
def test_an_empty_history_gets_popularity_and_says_so(name, fitted):
    answer = fitted(name).recommend([[]], k=6)
    popular = fitted("popular").recommend([[]], k=6)
    assert answer.lists() == popular.lists()
    assert {answer.sources[each] for each in answer.source[0]} == {"popularity"}


@by_events
def test_items_never_met_in_training_come_only_from_the_fallback(name, fitted, queries):
    answer = fitted(name).recommend(queries, k=15, filter_seen=False)
    assert (answer.items == NEVER).any()
    assert not own(answer)[answer.items == NEVER].any()


@personal_by_events
def test_a_history_of_which_training_says_nothing_is_like_an_empty_one(name, fitted):
    answer = fitted(name).recommend([["never", "never"]], k=5)
    assert not own(answer).any()
    assert answer.lists() == fitted("popular").recommend([["never"]], k=5).lists()


@by_events
def test_an_item_never_met_does_not_change_the_answer(name, fitted):
    answer = fitted(name).recommend([["sku-1", "sku-2"], ["sku-1", "never", "sku-2", "never"]], k=8)
    assert np.array_equal(answer.items[0], answer.items[1])
    np.testing.assert_allclose(answer.scores[0], answer.scores[1], rtol=1e-4, atol=1e-5)


@every_model
def test_unknown_items_in_a_history_are_skipped_and_named(name, fitted):
    model = fitted(name)
    assert model.ask([["sku-1", "gone"], ["lost"]]).unknown_items == ["gone", "lost"]
    answer = model.recommend([["sku-1", "gone", "sku-2"], ["sku-1", "sku-2"]], k=8)
    assert np.array_equal(answer.items[0], answer.items[1])


@by_events
def test_items_of_the_catalogue_that_training_never_met_are_named_too(name, fitted):
    assert fitted(name).ask([["sku-1", "never"], ["lost", "never"]]).unknown_items == ["lost", "never", "never"]


@every_model
def test_unknown_users_get_the_fallback_list(name, fitted, shop):
    model = fitted(name).with_histories(shop)
    assert model.ask(["u1", "nobody"]).unknown_users == ["nobody"]
    answer = model.recommend(["u1", "nobody"], k=5)
    known, fallback = model.recommend(Queries.of_users(shop, np.array([1])), k=5), model.recommend([[]], k=5)
    assert answer.lists() == [*known.lists(), *fallback.lists()]


@every_model
def test_only_the_given_items_are_offered_and_never_the_excluded(name, fitted, queries):
    model = fitted(name)
    only = model.recommend(queries, k=15, items=["sku-2", "never", "sku-5"]).lists()
    assert {item for row in only for item in row} <= {"sku-2", "never", "sku-5"}
    without = model.recommend(queries, k=15, filter_seen=False, exclude=["sku-2"]).lists()
    assert all(len(row) == 14 and "sku-2" not in row for row in without)
    with pytest.raises(UnknownName, match="Unknown item 'sku-99' - did you mean 'sku-9'"):
        model.recommend(queries, items=["sku-99"])


@with_likeness
def test_similar_items_are_others_best_first(name, fitted):
    answer = fitted(name).similar_items(["sku-4", "sku-0"], k=20)
    assert list(answer.labels) == ["sku-4", "sku-0"]
    for asked, found, scores in zip(answer.labels, answer.lists(), answer.scores, strict=True):
        assert asked not in found
        assert "never" not in found or name in KNOW_BY_METADATA
        assert len(found) == len(set(found)) > 0
        assert (np.diff(scores[: len(found)]) <= 0).all()


@personal_by_events
def test_nothing_is_like_an_item_never_met(name, fitted):
    assert fitted(name).similar_items(["never"], k=5).lists() == [[]]


@with_likeness
def test_what_is_like_an_unknown_item_is_refused(name, fitted):
    with pytest.raises(UnknownName, match="Unknown item 'sku-x'"):
        fitted(name).similar_items(["sku-x"])


@pytest.mark.parametrize("name", ["popular", "recentpopular"])
def test_a_model_without_likeness_says_which_have_it(name, fitted):
    expected = f"{name} knows no likeness between items; itemknn, ease, als and all networks do"
    with pytest.raises(ConfigError, match=expected):
        fitted(name).similar_items(["sku-1"])


def same(first: Model, second: Model) -> bool:
    one, two = first.state(), second.state()
    return one.keys() == two.keys() and all(equal(one[each], two[each]) for each in one)


def equal(one: np.ndarray, two: np.ndarray) -> bool:
    """NaN = not known, which is the same as not known."""
    return np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


@every_model
def test_the_same_seed_gives_the_same_model(name, fitted, shop):
    np.random.seed(99)  # whatever was drawn before
    torch.manual_seed(99)
    assert same(FAST[name].fit(shop, run=RUN), fitted(name))


@seeded
def test_another_seed_gives_another_model(name, fitted, shop):
    assert not same(FAST[name].fit(shop, run=replace(RUN, seed=4)), fitted(name))


@every_model
def test_a_validation_part_is_taken_and_chooses_the_best_epoch(name, shop, queries):
    validation = Holdout(queries, Ragged.from_lists([[row % 14] for row in range(len(queries))]), name="validation")
    model = FAST[name].fit(shop, validation, RUN)
    if hasattr(FAST[name], "plan"):
        scores = [row["validation"] for row in model.training["curve"]]
        assert scores[model.training["best_epoch"] - 1] == max(scores) == pytest.approx(ndcg_at_10(model, validation))


@every_model
def test_fitting_leaves_the_data_alone(name, shop):
    before = {part: getattr(shop, part).copy() for part in ("user", "item", "time", "kind", "value")}
    FAST[name].fit(shop, run=RUN)
    assert all(np.array_equal(getattr(shop, part), array, equal_nan=True) for part, array in before.items())


@every_model
def test_answering_leaves_the_queries_and_the_model_alone(name, fitted, queries):
    model = fitted(name)
    history, kinds = queries.history.values.copy(), queries.kinds.copy()
    state = {part: array.copy() for part, array in model.state().items()}
    first = model.recommend(queries, k=8)
    again = model.recommend(queries, k=8)
    assert np.array_equal(queries.history.values, history)
    assert np.array_equal(queries.kinds, kinds)
    assert all(equal(array, model.state()[part]) for part, array in state.items())
    assert np.array_equal(first.items, again.items)


@every_model
def test_a_model_reads_data_that_cannot_be_written(name, fitted, shop, tmp_path):
    shop.save(tmp_path / "data")
    assert same(FAST[name].fit(Dataset.open(tmp_path / "data"), run=RUN), fitted(name))


@every_model
def test_a_saved_model_answers_the_same(name, fitted, shop, queries, tmp_path):
    model = fitted(name).with_histories(shop)
    model.save(tmp_path / "bundle")
    again = foretaste.bundle.load(tmp_path / "bundle")
    assert again.settings == model.settings
    assert same(again, model)
    for ask in (queries, ["u3", "nobody"], [["sku-1"], []]):
        one, two = model.recommend(ask, k=8), again.recommend(ask, k=8)
        assert np.array_equal(one.items, two.items)
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)
        assert np.array_equal(one.source, two.source)


@every_model
def test_the_declared_needs_suffice(name, shop):
    settings = FAST[name]
    model = settings.fit(shop.only(settings.needs), run=RUN)
    assert len(model.recommend([["sku-1"]], k=3).lists()[0]) == 3


@every_model
def test_each_declared_need_is_named_where_it_is_missing(name, shop):
    for need in FAST[name].needs:
        table = Needs.ITEM_TEXT | Needs.ITEM_FEATURES
        # What brings the need with it.
        more = {Needs.ORDER: Needs.TIMES, Needs.ITEM_TEXT: table, Needs.ITEM_FEATURES: table}
        rest = ~need & ~more.get(need, need)
        with pytest.raises(
            MissingData, match=f"{type(FAST[name]).__name__} needs {need.name}[;,].*shop has .*To give it"
        ):
            FAST[name].fit(shop.only(rest), run=RUN)


@every_model
def test_a_log_without_events_is_refused(name, shop):
    with pytest.raises(DataError, match="shop has no events to fit"):
        FAST[name].fit(shop.where(np.zeros(len(shop), bool)), run=RUN)


@every_model
def test_the_smallest_log_is_fitted_or_refused_in_a_sentence(name):
    one = Vocab.from_ids(["x"])
    tiny = Dataset.from_arrays(one, one, np.array([0]), np.array([0]), time=np.array([1]), name="tiny")
    if name == "twostage":
        with pytest.raises(DataError, match="tiny: nobody has events both before and after a later slice"):
            FAST[name].fit(tiny, run=RUN)
        return
    if isinstance(FAST[name], SequenceSettings) or name == "item2vec":
        lacking = f"so {type(FAST[name]).__name__} has (nothing to predict|none to pair)"
        with pytest.raises(DataError, match=f"tiny has no user with two (events|different items), {lacking}"):
            FAST[name].fit(tiny, run=RUN)
        return
    if FAST[name].needs & (Needs.ITEM_TEXT | Needs.ITEM_FEATURES):
        with pytest.raises(MissingData, match=f"{type(FAST[name]).__name__} needs ITEM_(TEXT|FEATURES)"):
            FAST[name].fit(tiny, run=RUN)
        return
    model = FAST[name].fit(tiny, run=RUN)
    assert model.recommend([[], ["x"]], k=5).lists() == [["x"], []]


@networks
def test_weights_that_no_memory_holds_are_an_error_that_names_the_setting(name, shop):
    changes = {"dim": 2**45, "inner": 8, "metadata_dim": 8}
    fields = type(FAST[name]).model_fields
    with pytest.raises(TooLarge, match=rf"{name}: out of memory with the weights alone \(.*\). Lower dim\.$"):
        FAST[name].model_copy(update={each: changes[each] for each in changes if each in fields}).fit(shop, run=RUN)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in READING])
def test_of_a_million_items_some_are_sampled_and_it_is_said(name):
    rng, said, count = np.random.default_rng(0), [], 1_000_000
    user, item = np.repeat(np.arange(20), 5), rng.choice(count, 100, replace=False)
    users, items = Vocab(np.arange(20)), Vocab(np.arange(count))
    large = Dataset.from_arrays(users, items, user, item, time=np.arange(100), name="large")
    settings = FAST[name].model_copy(update={"dim": 8, "plan": TrainPlan(epochs=1)})
    model = settings.fit(large, run=replace(RUN, log=lambda message, numbers=None: said.append(message)))
    answer = model.recommend(Queries(Ragged.from_lists([item[:4], item[7:9]])), k=5)
    assert (answer.items != PAD).all()
    if hasattr(settings, "loss") and name != "enhancedbert4rec":  # that one chooses among items met, which are few
        assert any("1,000,000 items: the loss is the softmax over 2,048 sampled ones" in each for each in said)


@every_model
def test_an_unknown_setting_is_refused(name):
    with pytest.raises(ValidationError, match=r"dimm.*\n.*Extra inputs are not permitted"):
        MODELS[name](dimm=3)


@every_model
def test_settings_cannot_be_changed(name):
    field = next(iter(MODELS[name].model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(FAST[name], field, 1)


def test_a_model_is_found_by_any_spelling_of_its_name_and_an_unknown_one_offers_the_nearest():
    assert model_settings("Item-KNN") is model_settings("item_knn") is MODELS["itemknn"]
    with pytest.raises(UnknownName, match=r"Unknown model 'sasrek' - did you mean 'sasrec'\? There are: popular, "):
        model_settings("sasrek")


@deterministic
def test_the_order_of_items_means_nothing(name, fitted, shop, queries):
    place = np.random.default_rng(0).permutation(15)  # item i is called place[i] now
    ids = shop.items.lists()
    renamed = replace(
        shop,
        items=Vocab(Strings.from_list(ids[each] for each in np.argsort(place))),
        item=place[shop.item].astype(np.int32),
        catalog=None,
    )
    model = FAST[name].fit(renamed, run=RUN)
    asked = replace(queries, history=queries.history.with_values(place[queries.history.values].astype(np.int32)))
    np.testing.assert_allclose(
        model._scores(asked).numpy()[:, place], fitted(name)._scores(queries).numpy(), rtol=1e-3, atol=1e-5
    )


@every_model
def test_settings_are_called_as_in_every_other_model(name):
    known = SETTING_NAMES["nets"] if hasattr(FAST[name], "plan") else SETTING_NAMES[name]
    assert set(MODELS[name].model_fields) <= known


def test_plans_and_shared_settings_agree():
    assert set(TrainPlan.model_fields) == PLAN_NAMES
    kinds: dict[str, set[str]] = {}
    for settings in MODELS.values():
        for field, info in settings.model_fields.items():
            # Models may differ in what they offer of one thing, such as losses.
            kinds.setdefault(field, set()).add(re.sub(r"Literal\[.*?\]", "Literal", str(info.annotation)))
    assert {field for field, types in kinds.items() if len(types) > 1} == set()


@every_model
def test_settings_survive_json(name):
    settings = FAST[name]
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    assert isinstance(settings, BaseModel)


@every_model
def test_memory_is_predicted_and_grows_with_the_data(name):
    small, large = (
        FAST[name].memory_needed({"users": size, "items": size, "events": 10 * size}) for size in (1000, 100_000)
    )
    assert 0 < small < large


@every_model
def test_the_number_of_parameters_is_known(name, fitted):
    assert fitted(name).parameters > 0
