"""The benchmark of people never met: who asks what, and that nothing of them is learned."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from foretaste.catalog import Catalog, Category, Table
from foretaste.dataset import Dataset
from foretaste.run import Run
from foretaste.vocab import Strings, Vocab


@pytest.fixture
def cold_users(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import cold_users

    monkeypatch.setattr(cold_users, "SHOWN", (0, 2))
    monkeypatch.setattr(cold_users, "TARGETS", 3)
    yield cold_users
    sys.modules.pop("cold_users")


@pytest.fixture
def two_tastes() -> Dataset:
    """Sixty people of two groups, each of which has six of the items of its group in random order."""
    rng = np.random.default_rng(0)
    group = np.arange(60) % 2
    items = np.concatenate([each * 12 + rng.choice(12, 6, replace=False) for each in group])
    people = Table(60, {"group": Category(group.astype(np.int32), Strings.from_list(["a", "b"]))})
    catalog = Catalog(items=Table(24), users=people)
    user = np.repeat(np.arange(60), 6)
    users, catalogue = Vocab(np.arange(60)), Vocab(np.arange(24))
    return Dataset.from_arrays(users, catalogue, user, items, catalog=catalog, ordered=True)


def test_a_stranger_asks_after_the_first_events_and_is_nobody_known(cold_users, two_tastes):
    withheld = np.arange(60) < 10
    holdout = cold_users.strangers(two_tastes, withheld, 2)
    own = [two_tastes.item[two_tastes.user == each].tolist() for each in range(10)]
    assert holdout.queries.history.lists() == [items[:2] for items in own]
    assert [sorted(each) for each in holdout.targets.lists()] == [sorted(items[2:5]) for items in own]
    assert holdout.queries.user is None
    assert len(holdout.queries.user_features) == 10
    assert [len(each) for each in cold_users.strangers(two_tastes, withheld, 0).queries.history.lists()] == [0] * 10


class Rows:
    """The three models, tiny."""

    def settings(self, name):
        from foretaste.models import BERT4Rec, EnhancedBERT4Rec, Popular
        from foretaste.train import TrainPlan

        small = {"dim": 16, "dropout": 0.1, "plan": TrainPlan(epochs=12, lr=0.01)}
        return {
            "popular": Popular(),
            "bert4rec": BERT4Rec(**small),
            "enhancedbert4rec": EnhancedBERT4Rec(**small),
        }[name]


def test_who_somebody_is_tells_what_they_want_before_they_have_any_event(cold_users, two_tastes):
    fold = np.arange(60) < 20
    told = cold_users.one_fold(Rows(), two_tastes, fold, Run(threads=1))
    assert set(told) == set(cold_users.NAMES)
    values = {
        name: {shown: {metric: np.array(numbers) for metric, numbers in of[shown].items()} for shown in of}
        for name, of in told.items()
    }
    results = cold_users.summed_up(values)
    assert results["people"] == 20
    first = {name: of["0"]["ndcg@10"]["mean"] for name, of in results["rows"].items()}
    assert first["enhancedbert4rec"] > first["popular"] + 0.1
    assert first["enhancedbert4rec"] > first[cold_users.ANONYMOUS] + 0.1
    assert first["bert4rec"] == pytest.approx(first["popular"]), "it knows nothing and falls back"
    assert "20 people never met in training" in cold_users.as_table(results)


def test_the_folds_withhold_everybody_once(cold_users, two_tastes, tmp_path, monkeypatch):
    from foretaste import experiment

    seen = []
    monkeypatch.setattr(cold_users, "WORK", tmp_path)
    monkeypatch.setattr(experiment, "load_data", lambda *given: Namespace(data=two_tastes))
    values = {
        name: {0: {m: [0.5] for m in cold_users.METRICS}, 2: {m: [1.0] for m in cold_users.METRICS}}
        for name in cold_users.NAMES
    }
    monkeypatch.setattr(cold_users, "one_fold", lambda rows, data, withheld, run: seen.append(withheld) or values)
    given = Namespace(data="ml-100k-last5", folds=4, seed=0, threads=None, data_dir=None, resume=False)
    results = cold_users.measured(given)
    assert (np.sum(seen, axis=0) == 1).all()
    assert results["people"] == 4
    cold_users.measured(Namespace(**{**vars(given), "resume": True}))
    assert len(seen) == 4, "the folds that are there are kept"
