"""Hybrids: scores made comparable, weights found on validation, parts that answer as they do alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import rankdata

from foretaste.bundle import load
from foretaste.errors import ConfigError, UnknownName
from foretaste.fitting import fit_chosen
from foretaste.fusion import comparable, fused
from foretaste.models import ALS, EASE, Hybrid, ItemKNN, LightGCN, Popular, SASRec, TwoTower
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.split import leave_one_out
from foretaste.train import TrainPlan
from foretaste.validation import ndcg_at_10

RUN = Run(seed=3, device="cpu", precision="fp32")
NAN, INF = float("nan"), float("inf")
EVERY_WAY = pytest.mark.parametrize("how", ["min_max", "z_score", "rank", "reciprocal_rank"])
ROW = st.lists(st.integers(-4, 4), min_size=2, max_size=9).filter(lambda row: len(set(row)) > 1)


def made(row, how) -> list[float]:
    return comparable(torch.tensor(np.array([row], np.float32)), how)[0].tolist()


@given(ROW)
def test_scores_are_made_comparable_by_the_formulas(row):
    row = np.array(row, float)
    rank = rankdata(-row, method="min")
    expected = {
        "min_max": (row - row.min()) / (row.max() - row.min()),
        "z_score": (row - row.mean()) / row.std(),
        "rank": 1 - (rank - 1) / len(row),
        "reciprocal_rank": 1 / (60 + rank),
    }
    for how, values in expected.items():
        np.testing.assert_allclose(made(row, how), values, rtol=1e-4, atol=1e-5)


@EVERY_WAY
@given(ROW)
def test_an_item_that_is_not_known_gets_no_more_than_the_worst_and_changes_no_other(how, row):
    alone, beside = made(row, how), made([*row, -INF, NAN], how)
    np.testing.assert_allclose(beside[:-2], alone, rtol=1e-4, atol=1e-5)
    assert max(beside[-2:]) <= min(alone) + 1e-6


@EVERY_WAY
def test_a_row_of_which_nothing_is_known_and_one_of_equal_scores_say_nothing(how):
    assert made([NAN, -INF, NAN], how) == [0.0, 0.0, 0.0]
    assert len(set(made([2.0, 2.0, 2.0], how))) == 1


def test_what_no_model_knows_is_not_answered():
    one, other = torch.tensor([[1.0, 2.0, -INF, -INF]]), torch.tensor([[NAN, 3.0, 1.0, -INF]])
    assert fused([one, other], [0.5, 2.0], "min_max").tolist() == [[0.0, 2.5, 0.0, -INF]]


def test_a_part_that_counts_alone_answers_as_it_does_alone(shop):
    parts = {"ease": EASE(l2=20.0), "als": ALS(dim=8, epochs=4)}
    queries = Queries.of_users(shop)
    for label, settings in parts.items():
        weights = dict.fromkeys(parts, 0.0) | {label: 1.0}
        for how in ("min_max", "z_score", "rank"):
            model = Hybrid(models=parts, weights=weights, normalization=how).fit(shop, run=RUN)
            alone = settings.fit(shop, run=RUN)
            assert np.array_equal(model.recommend(queries, k=5).items, alone.recommend(queries, k=5).items)


@pytest.fixture(scope="module")
def taught():
    """A ring where order is everything, split so that the last step of each is validation."""
    return leave_one_out(worlds.cycle().train, validation_users=None)


def test_weights_are_found_on_validation_and_the_useless_count_little(taught):
    sequence = SASRec(dim=32, length=8, layers=1, dropout=0.0, batch_tokens=512, plan=TrainPlan(epochs=20, lr=0.01))
    said = []
    run = Run(seed=1, device="cpu", precision="fp32", log=lambda message, numbers=None: said.append(message))
    settings = Hybrid(models={"sasrec": sequence, "popular": Popular(), "itemknn": ItemKNN()})
    model = settings.fit(taught.train, taught.validation, run)
    assert sum(model.weights.values()) == pytest.approx(1)
    assert model.weights["sasrec"] == max(model.weights.values())
    equal = Hybrid(models=settings.models, weights=dict.fromkeys(settings.models, 1 / 3))
    assert model.training["best_score"] == pytest.approx(ndcg_at_10(model, taught.validation), abs=1e-6)
    assert model.training["best_score"] > ndcg_at_10(equal.fit(taught.train, taught.validation, RUN), taught.validation)
    assert said[-1].startswith("hybrid: weights sasrec ")
    assert f"on {len(taught.validation)} of {len(taught.validation)} queries" in said[-2]
    assert any("sasrec epoch" in each for each in said)


def test_without_validation_all_count_the_same_and_it_is_said(shop):
    said = []
    run = Run(device="cpu", log=lambda message, numbers=None: said.append(message))
    assert Hybrid().fit(shop, run=run).weights == {"itemknn": 0.5, "als": 0.5}
    assert "hybrid: nothing is held out, so all models count the same" in said


def test_a_refit_keeps_the_weights_and_the_epochs_that_validation_chose(taught):
    graph = LightGCN(dim=8, plan=TrainPlan(epochs=6, lr=0.01, validate_every=1))
    chosen = Hybrid(models={"lightgcn": graph, "itemknn": ItemKNN()}).fit(taught.train, taught.validation, RUN)
    again = chosen.settings_to_refit()
    assert again.weights == chosen.weights
    assert again.models["lightgcn"].plan.epochs == chosen.training["parts"]["lightgcn"]["best_epoch"]
    assert again.models["itemknn"] == ItemKNN()
    refitted = fit_chosen(Hybrid(models={"lightgcn": graph, "itemknn": ItemKNN()}), of_whole(taught), RUN)
    assert refitted.weights == chosen.weights
    assert refitted.about.popularity.sum() > chosen.about.popularity.sum()


def of_whole(split):
    return replace(split, refit=worlds.cycle().train)


def test_a_bundle_holds_all_parts_and_their_users(shop, tmp_path):
    model = Hybrid(models={"lightgcn": LightGCN(dim=8, plan=TrainPlan(epochs=2)), "ease": {}}).fit(shop, run=RUN)
    held = model.with_histories(shop)
    held.save(tmp_path / "bundle")
    users = shop.users.lists()[10:20]
    again = load(tmp_path / "bundle")
    assert again.recommend(users, k=6).lists() == held.recommend(users, k=6).lists()
    assert again.settings == model.settings
    assert again.weights == model.weights
    # The graph knows these people, so it answers otherwise than a stranger with their history.
    strangers = Queries(held.ask(users).queries.history)
    assert not np.array_equal(held._scores(strangers), held._scores(held.ask(users).queries))


def test_a_part_that_does_not_count_answers_nobody(shop):
    """Who is known to that part alone gets popularity, and not the items in the order of their numbers."""
    people = TwoTower(dim=8, user_features=True, plan=TrainPlan(epochs=2))
    parts = {"ease": EASE(l2=20.0), "people": people}
    newcomers = replace(Queries.of_users(shop, np.arange(3)), history=Ragged.empty(3), user=None)
    newcomers = replace(newcomers, times=None, kinds=None, values=None, session_start=None)
    none = Hybrid(models=parts, weights={"ease": 1.0, "people": 0.0}).fit(shop, run=RUN)
    assert (none.recommend(newcomers, k=5).source == 1).all()
    some = Hybrid(models=parts, weights={"ease": 1.0, "people": 0.1}).fit(shop, run=RUN)
    assert (some.recommend(newcomers, k=5).source == 0).all()


def test_a_killed_hybrid_goes_on_and_leaves_nothing_behind(taught, tmp_path):
    whole = Hybrid(models={"graph": LightGCN(dim=8, plan=TrainPlan(epochs=4)), "ease": EASE(l2=20.0)})
    folder, seen = tmp_path / "c", []

    def stop(message, numbers=None):
        seen.append(message)
        if "epoch 2/" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole.fit(taught.train, taught.validation, replace(RUN, checkpoints=folder, log=stop))
    assert [each.name for each in folder.iterdir()] == ["graph"]
    said = []
    run = replace(RUN, checkpoints=folder, resume=True, log=lambda message, numbers=None: said.append(message))
    resumed, expected = whole.fit(taught.train, taught.validation, run), whole.fit(taught.train, taught.validation, RUN)
    assert any(message.startswith("resumed after epoch 1") for message in said)
    assert all(np.array_equal(expected.state()[name], array) for name, array in resumed.state().items())


def test_likeness_is_that_of_the_parts_that_know_any(shop):
    weights = {"popular": 0.9, "ease": 0.1}
    model = Hybrid(models={"popular": {}, "ease": {"l2": 20.0}}, weights=weights).fit(shop, run=RUN)
    expected = EASE(l2=20.0).fit(shop, run=RUN).similar_items(["sku-3"], k=5)
    assert model.similar_items(["sku-3"], k=5).lists() == expected.lists()
    nothing = Hybrid(models={"popular": {}, "recentpopular": {}}).fit(shop, run=RUN)
    with pytest.raises(ConfigError, match="hybrid knows no likeness between items"):
        nothing.similar_items(["sku-3"])


def test_settings_are_written_and_read_with_the_model_of_each_part():
    settings = Hybrid(models={"deep": {"model": "sasrec", "dim": 8}, "ease": None}, normalization="rank")
    told = settings.model_dump(mode="json", exclude_defaults=True)
    assert json.loads(json.dumps(told)) == {
        "models": {"deep": {"model": "sasrec", "dim": 8}, "ease": {"model": "ease"}},
        "normalization": "rank",
    }
    assert Hybrid(**told) == settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": {"ease": {}}}, "a hybrid is of at least two models"),
        ({"models": {"ease": {"l3": 1}, "als": {}}}, "ease.l3: Extra inputs are not permitted"),
        ({"weights": {"als": 1.0}}, "weights are of als; the models are itemknn, als"),
        ({"weights": {"als": 1.0, "itemknn": -1.0}}, "weights must be numbers from 0 on, and one must be above 0"),
        ({"normalization": "max"}, "min_max"),
        ({"weights": {"als": float("nan"), "itemknn": 1.0}}, "weights must be numbers from 0 on"),
        ({"models": 3}, "valid dictionary"),
        ({"models": {"a/b": {"model": "als"}, "ease": {}}}, "a label is of letters, digits.*one is 'a/b'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Hybrid(**wrong)


def test_a_part_of_an_unknown_model_is_refused():
    with pytest.raises(UnknownName, match="Unknown model 'eese' - did you mean 'ease'"):
        Hybrid(models={"eese": {}, "als": {}})


def test_histories_alone_are_enough(shop):
    found = Hybrid().fit(shop, run=RUN).recommend(Queries(Ragged.from_lists([[1, 2], []])), k=4)
    assert [found.sources[each] for each in found.source[:, 0]] == ["hybrid", "popularity"]
