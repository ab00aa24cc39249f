"""Further tasks of two towers: their losses by hand, what they predict, and what the vectors gain by them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds
from sklearn.metrics import label_ranking_average_precision_score

from foretaste import load
from foretaste.catalog import Catalog, Table, Text
from foretaste.errors import ConfigError, MissingData
from foretaste.evaluation.ratings import rating_error, rating_rmse
from foretaste.models import TwoTower
from foretaste.nets.tasks import TaskHeads, Tasks, average_precision, item_names
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.train import TrainPlan

RUN = Run(seed=3, device="cpu", precision="fp32")
FAST = TwoTower(dim=8, batch_size=64, plan=TrainPlan(epochs=3, lr=0.01))


def rated(users: int = 60):
    """Half of the people value even items at 5 and odd ones at 1, the other half the other way round."""
    user = np.repeat(np.arange(users), 8)
    item = np.concatenate([np.random.default_rng(user).permutation(12)[:8] for user in range(users)])
    value = np.where((user + item) % 2 == 0, 5.0, 1.0)
    train = worlds.log(user, item, items=12)
    return replace(train, value=value.astype(np.float32))


def test_the_losses_are_those_that_are_written():
    torch.manual_seed(0)
    has = np.array([[True, False, True], [False, True, False], [True, True, False]])
    names = Ragged.from_lists([[0, 2], [1], [0, 1]])
    heads = TaskHeads(4, Tasks(rating=2.0, sentiment=1.0, category=0.5, content=3.0), names, 3)
    heads.measure(np.array([1.0, 5.0, np.nan, 3.0]))
    mean, deviation = 3.0, np.sqrt(8 / 3)
    people, items = (torch.nn.functional.normalize(torch.randn(3, 4), dim=1) for _ in range(2))
    index, values = torch.tensor([2, 0, 1]), torch.tensor([5.0, np.nan, 1.0])
    torch.manual_seed(5)
    found = heads.losses(people, items, index, values)
    torch.manual_seed(5)
    other = torch.randperm(3)

    def guess(head):
        read = head.people(people)
        return (read[:, :4] * items).sum(1) + read[:, 4] + head.item_bias[index]

    wanted = (torch.tensor([5.0, 1.0]) - mean) / deviation
    torch.testing.assert_close(found["rating"], 2 * (guess(heads.rating)[[0, 2]] - wanted).square().mean())
    liked = guess(heads.sentiment)[[0, 2]].sigmoid()
    torch.testing.assert_close(found["sentiment"], -(liked[0].log() + (1 - liked[1]).log()) / 2)
    chances, truth = heads.category(items).sigmoid(), torch.from_numpy(has)[index].float()
    entropy = -(truth * chances.log() + (1 - truth) * (1 - chances).log()).mean()
    torch.testing.assert_close(found["category"], 0.5 * entropy)
    alike = torch.cosine_similarity(truth, truth[other], dim=1)
    apart = (torch.cosine_similarity(items, items[other], dim=1) - alike).square()
    torch.testing.assert_close(found["content"], 3 * apart[index != index[other]].mean())


def many_names(count: int, items: int = 50) -> tuple[TaskHeads, torch.Tensor, torch.Tensor]:
    """Heads of so many names, of which each item has up to three; the vectors of ten items, and their numbers."""
    rng = np.random.default_rng(1)
    has = Ragged.from_lists([np.sort(rng.choice(count, item % 4, replace=False)) for item in range(items)])
    torch.manual_seed(2)
    heads = TaskHeads(4, Tasks(category=1.0), has, count)
    return heads, torch.randn(10, 4), torch.arange(20, 30)


def test_of_many_names_a_sample_stands_for_the_rest(monkeypatch):
    heads, items, index = many_names(40)

    def found():
        heads.zero_grad()
        loss = heads.losses(items, items, index, torch.full((10,), np.nan))["category"]
        loss.backward()
        return torch.cat([loss.detach()[None], heads.category.weight.grad.ravel(), heads.category.bias.grad])

    exact = found()
    monkeypatch.setattr("foretaste.nets.tasks.MOST_NAMES", 8)
    draws = torch.stack([found() for _ in range(3000)])
    assert (draws.std(0) > 0).all()
    off = (draws.mean(0) - exact) / (draws.std(0) / 3000**0.5)
    assert float(off.abs().max()) < 4.5  # standard errors


def test_a_step_does_not_grow_with_the_names(monkeypatch):
    heads, items, index = many_names(100_000)
    made, linear = [], torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: made.append(linear(*given)) or made[-1])
    heads.losses(items, items, index, torch.full((10,), np.nan))["category"].backward()
    assert sum(each.numel() for each in made) <= 10 * 2048
    assert len(heads.codes) + len(heads.offsets) < 200  # what is held of 50 items


def test_without_tasks_of_names_no_names_are_looked_for(monkeypatch):
    monkeypatch.setattr("foretaste.models.twotower.item_names", lambda *given: pytest.fail("they are not needed"))
    settings = FAST.model_copy(update={"tasks": Tasks(rating=1.0), "plan": TrainPlan(epochs=1)})
    assert settings.fit(rated(), run=RUN).net.tasks.rating.item_bias.shape == (12,)


def test_ratings_and_likes_are_learned_beside_the_lists(tmp_path):
    train = rated()
    settings = FAST.model_copy(
        update={
            "tasks": Tasks(rating=1.0, sentiment=1.0),
            "user_embedding": True,
            "plan": TrainPlan(epochs=60, lr=0.02),
        }
    )
    model = settings.fit(train, run=RUN).with_histories(train)
    people = Queries.of_users(train)
    pairs = Ragged(np.tile(np.arange(12, dtype=np.int32), 60), np.arange(61) * 12)
    truth = np.where((np.arange(60)[:, None] + np.arange(12)) % 2 == 0, 5.0, 1.0).ravel()
    error = rating_rmse(model, Holdout(people, pairs), truth)
    assert error < 1.0  # knowing nothing it is 2
    likes = model.pair_likes(people, pairs)
    assert ((likes > 0.5) == (truth > 3)).mean() > 0.9
    assert model.pair_ratings(people, pairs).min() >= 1 and model.pair_ratings(people, pairs).max() <= 5
    model.save(tmp_path / "bundle")
    np.testing.assert_allclose(
        load(tmp_path / "bundle").pair_ratings(people, pairs), model.pair_ratings(people, pairs), rtol=1e-5
    )
    strangers = model.pair_ratings(Queries(Ragged.empty(1)), Ragged.from_lists([[0, 1]]))
    assert np.isfinite(strangers).all()
    assert {"loss rating", "loss sentiment"} <= set(model.training["curve"][-1])


def test_categories_of_items_never_met_are_read_off_their_vectors():
    both = worlds.clubs()
    settings = FAST.model_copy(
        update={
            "item_features": True,
            "tasks": Tasks(category=1.0, content=1.0),
            "plan": TrainPlan(epochs=30, lr=0.02),
        }
    )
    model = settings.fit(both.newcomers.train, run=RUN)
    assert model.training["category average precision of items never met"] == 1.0
    dance, chess = model.item_categories([5, 11])
    assert dance["genre: dance"] > 0.5 > dance["genre: chess"]
    assert chess["genre: chess"] > 0.5 > chess["genre: dance"]


def test_what_is_not_learned_is_not_told_and_what_is_lacking_is_named():
    train = worlds.clubs().newcomers.train
    plain = FAST.fit(train, run=RUN)
    said: list[str] = []
    assert rating_error(plain, rated(), Holdout(Queries(Ragged.empty(1)), Ragged.empty(1)), said.append) is None
    assert not said  # it was not asked for, so there is nothing to say
    pairs = Ragged.from_lists([[0]])
    for ask, why in (
        (lambda: plain.pair_ratings(Queries(Ragged.empty(1)), pairs), "tasks.rating was 0"),
        (lambda: plain.pair_likes(Queries(Ragged.empty(1)), pairs), "tasks.sentiment was 0"),
        (lambda: plain.item_categories([0]), "tasks.category was 0"),
    ):
        with pytest.raises(ConfigError, match=why):
            ask()
    with pytest.raises(MissingData, match="VALUES"):
        FAST.model_copy(update={"tasks": Tasks(rating=1.0)}).fit(train, run=RUN)
    with pytest.raises(MissingData, match="ITEM_FEATURES"):
        FAST.model_copy(update={"tasks": Tasks(category=1.0)}).fit(replace(train, catalog=None), run=RUN)


def test_average_precision_is_that_of_a_library_beside():
    rng = np.random.default_rng(0)
    has, scores = rng.random((30, 7)) < 0.3, rng.random((30, 7))
    rows = has.any(1)
    expected = label_ranking_average_precision_score(has[rows], scores[rows])
    assert average_precision(scores, has) == pytest.approx(expected)
    assert np.isnan(average_precision(np.zeros((2, 3)), np.zeros((2, 3), bool)))
    assert average_precision(np.zeros((1, 4)), np.array([[True, False, False, False]])) == 0.25  # a tie


def test_names_are_those_of_items_met():
    train = worlds.clubs().newcomers.train
    has, names = item_names(train.catalog.items, np.arange(12) < 5)
    assert list(names) == ["genre: dance"]
    assert has.lists() == [[0]] * 6 + [[]] * 6


def test_a_batch_of_nobody_and_items_without_names_teach_nothing():
    tasks = Tasks(rating=1.0, sentiment=1.0, category=1.0, content=1.0)
    heads = TaskHeads(4, tasks, Ragged.from_lists([[0], []]), 1)
    nothing, no = torch.empty(0, 4), torch.empty(0, dtype=torch.long)
    assert all(each.item() == 0 for each in heads.losses(nothing, nothing, no, torch.empty(0)).values())
    unnamed = torch.tensor([1, 1])
    found = heads.losses(torch.randn(2, 4), torch.randn(2, 4), unnamed, torch.tensor([1.0, 2.0]))
    assert found["category"].item() == found["content"].item() == 0


def test_categories_without_names_are_refused():
    title = Catalog(Table(12, {"title": Text.from_list(["x"] * 12)}), Table(60))
    with pytest.raises(MissingData, match=r"no column of the items of events groups them by names.*title"):
        FAST.model_copy(update={"tasks": Tasks(category=1.0)}).fit(replace(rated(), catalog=title), run=RUN)
