"""A student learns from its teachers: their chances, the divergence, and bundles that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from films import ITEMS, RUN, TINY, USERS, batch_of, film_log, plain

import foretaste.bundle
from foretaste.dataset import Dataset
from foretaste.distillation import Teacher, divergence
from foretaste.errors import ConfigError
from foretaste.models import EASE, SASRec
from foretaste.recommender import About
from foretaste.train import TrainPlan
from foretaste.vocab import Strings, Vocab


@pytest.fixture(scope="module")
def films() -> Dataset:
    return film_log()


def test_the_divergence_is_that_of_softened_chances_with_its_gradients(monkeypatch):
    torch.manual_seed(3)
    hidden, items = (torch.randn(rows, 4, dtype=torch.float32, requires_grad=True) for rows in (5, 7))
    chances = torch.softmax(torch.randn(5, 7), 1)
    chances[:, 2] = 0
    chances = chances / chances.sum(1, keepdim=True)
    logs = torch.log_softmax(hidden @ items.T / 2, 1)
    expected = 4 * torch.nn.functional.kl_div(logs, chances, reduction="batchmean")
    wanted = torch.autograd.grad(3 * expected, (hidden, items))
    monkeypatch.setattr("foretaste.distillation.CHUNK_LOGITS", 14)
    found = divergence(hidden, items, chances, 2.0)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(3 * found, (hidden, items)), wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert divergence(hidden[:0], items, chances[:0], 2.0) == 0


@pytest.fixture(scope="module")
def teachers(films, tmp_path_factory):
    """Two bundles; the second was fitted on a log that numbers its items in another order."""
    folder = tmp_path_factory.mktemp("teachers")
    net = SASRec(dim=16, length=8, layers=1, batch_tokens=256, plan=TrainPlan(epochs=15, lr=0.01))
    turned = np.arange(ITEMS)[::-1]
    names = films.items.lists()
    other = replace(
        films,
        items=Vocab(Strings.from_list([names[each] for each in turned])),
        item=turned[films.item].astype(np.int32),
        catalog=None,
    )
    net.fit(films, run=RUN).save(folder / "one")
    net.fit(other, run=replace(RUN, seed=8)).save(folder / "two")
    EASE().fit(films).save(folder / "ease")
    few = films.where(films.item < 5)
    few = replace(few, items=Vocab(Strings.from_list(names[:5])), catalog=None)
    net.model_copy(update={"plan": TrainPlan(epochs=1)}).fit(few, run=RUN).save(folder / "few")
    return folder


def test_a_teacher_is_asked_with_what_came_before_and_its_items_are_found_by_name(films, teachers):
    history = batch_of(films).history.take(torch.tensor([1, 3]))
    counts = torch.tensor([2, 5])
    asked = [
        [films.items[item] for item in row[:count].tolist()] for row, count in zip(history.items, counts, strict=True)
    ]
    parts = []
    for name in ("one", "two"):
        bundle = foretaste.bundle.load(teachers / name)
        scores = torch.from_numpy(bundle.score(bundle.ask(asked).queries))
        parts.append(torch.softmax(scores[:, bundle.items.index(films.items.lists())] / 3, 1))
        chances, answered = Teacher.of([teachers / name], About.of(films), films).chances(history, counts, 3.0)
        torch.testing.assert_close(chances, parts[-1])
        assert answered.all()
    both, _ = Teacher.of([teachers / "one", teachers / "two"], About.of(films), films).chances(history, counts, 3.0)
    torch.testing.assert_close(both, (parts[0] + parts[1]) / 2)
    assert not torch.allclose(parts[0], parts[1], atol=1e-3)


def test_a_student_comes_nearer_to_its_teachers(films, teachers):
    ensemble = Teacher.of([teachers / "one", teachers / "two"], About.of(films), films)
    asked = batch_of(films, rows=USERS).history
    counts = asked.lengths.clamp(max=5)
    chances, _ = ensemble.chances(asked, counts, 2.0)
    met = torch.from_numpy(About.of(films).met)
    distance = {}
    for weight in (0.0, 5.0):
        settings = plain(
            teacher=(teachers / "one", teachers / "two"), distillation_weight=weight, masked_item_weight=0.0,
            plan=TrainPlan(epochs=12, lr=0.01),
        )  # fmt: skip
        student = settings.fit(films, run=RUN)
        curve = student.training["curve"]
        assert ("loss distillation" in curve[0]) == (weight > 0)
        assert student.net.teacher is None
        queries = ensemble._queries(asked, counts)
        scores = torch.from_numpy(student.score(replace(queries, user_features=films.catalog.users)))[:, met]
        logs = torch.log_softmax(scores / 2, 1)
        distance[weight] = float(torch.nn.functional.kl_div(logs, chances[:, met], reduction="batchmean"))
    assert curve[-1]["loss distillation"] < 0.5 * curve[0]["loss distillation"]
    assert distance[5.0] < 0.6 * distance[0.0]


def test_a_student_in_fewer_bits_hears_what_its_teachers_say_in_all_of_theirs(films, teachers):
    teacher = Teacher.of([teachers / "one", teachers / "two"], About.of(films), films)
    history, counts = batch_of(films).history, torch.ones(len(batch_of(films).history), dtype=torch.int64)
    plainly = teacher.chances(history, counts, 2.0)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher.chances(history, counts, 2.0)[0], plainly)
    settings = TINY.model_copy(update={"teacher": teachers / "one", "plan": TrainPlan(epochs=1)})
    assert len(settings.fit(films, run=replace(RUN, precision="bf16")).training["curve"]) == 1


def test_a_teacher_must_know_the_items_and_be_a_sequence_model(films, teachers):
    with pytest.raises(ConfigError, match="few does not know 8 of the 13 items of films, such as 'f5'"):
        TINY.model_copy(update={"teacher": teachers / "few"}).fit(films, run=RUN)
    with pytest.raises(ConfigError, match="is a bundle of ease, whose scores are no logits"):
        TINY.model_copy(update={"teacher": teachers / "ease"}).fit(films, run=RUN)


def test_a_bundle_does_not_need_its_teacher(films, teachers, tmp_path):
    settings = TINY.model_copy(update={"teacher": teachers / "one", "plan": TrainPlan(epochs=1)})
    settings.fit(films, run=RUN).save(tmp_path / "bundle")
    again = foretaste.bundle.load(tmp_path / "bundle")
    assert again.settings.teacher == teachers / "one"
    assert again.net.teacher is None
