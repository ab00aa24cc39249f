"""From a log to a model: what is held out, and what a refit keeps."""

from dataclasses import replace

import numpy as np
import pytest

from foretaste import split
from foretaste.dataset import Dataset, Impressions
from foretaste.fitting import fit_chosen, judge_bundle, train_bundle, validation_part
from foretaste.models.lightgcn import LightGCN
from foretaste.models.popular import Popular
from foretaste.models.sasrec import SASRec
from foretaste.ragged import PAD
from foretaste.run import Run
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

TINY = SASRec(dim=8, length=8, layers=1, plan=TrainPlan(epochs=3))


def with_shown(shop: Dataset) -> Dataset:
    """The shop as if every event had been shown at its time."""
    assert shop.time is not None
    zeros = np.zeros(len(shop), np.int32)
    shown = Impressions(np.arange(len(shop)), shop.user, shop.item, shop.time, zeros, {"click": zeros.astype(np.int8)})
    return replace(shop, impressions=shown)


@pytest.mark.parametrize("by", ["last", "time"])
def test_what_was_shown_does_not_tell_what_is_held_out(by: str, shop: Dataset) -> None:
    train, validation = validation_part(with_shown(shop), by)  # type: ignore[arg-type]
    assert train.impressions is not None
    assert 0 < len(train.impressions) < len(shop)
    last = np.full(len(shop.users), -1)
    last[train.user] = train.time  # in the order of time, so the latest stays
    asked = validation.queries.user
    assert asked is not None and (asked != PAD).all()
    mine = np.isin(train.impressions.user, asked)
    assert (train.impressions.time[mine] <= last[train.impressions.user[mine]]).all()


def test_a_refit_keeps_the_settings_that_were_asked_for(shop: Dataset) -> None:
    parts = split.by_time(shop, refit=True)
    model = fit_chosen(TINY, parts, Run())
    assert model.settings == TINY
    assert model.about.fingerprint == parts.final.fingerprint
    assert 1 <= model.training["refitted_epochs"] <= 3


def test_a_refitted_bundle_keeps_the_settings_that_were_asked_for(shop: Dataset, tmp_path) -> None:
    model = train_bundle(TINY, shop, tmp_path / "bundle", Run(), refit=True)
    assert model.settings == TINY
    assert model.training["refitted_epochs"] == model.training["best_epoch"]


def test_users_with_a_single_test_event_are_counted(shop: Dataset) -> None:
    first = np.zeros(len(shop), bool)
    first[shop.offsets[:5]] = True
    events = shop.where(first | (shop.user >= 5))
    said: list[str] = []
    run = Run(log=lambda message, numbers=None: said.append(message))
    board = judge_bundle(Popular().fit(shop), events, "last", (5,), True, (), None, run)
    sentence = f"{int((np.diff(events.offsets) == 1).sum())} users with a single test event are not asked"
    assert any(sentence in each for each in board.protocol["sentences"])
    assert any(sentence in each for each in said)


def test_people_of_a_test_log_are_known_by_their_names_and_not_by_their_places(shop: Dataset) -> None:
    """Judged by the last events of some people, a model that knows people says the same however they are numbered."""
    settings = LightGCN(dim=8, layers=1, layer_weights=(0.9, 0.1), plan=TrainPlan(epochs=10, lr=0.05))
    model = settings.fit(shop, run=Run(device="cpu")).with_histories(shop)
    some = shop.where(shop.user >= 40)
    moved = replace(some, users=Vocab(shop.users.ids.take(np.arange(40, 60))), user=some.user - 40, catalog=None)
    alone = settings.restore(model.about, model.state())  # it has no histories by which users could be numbered
    found = []
    for each, events in ((model, some), (model, moved), (alone, moved)):
        board = judge_bundle(each, events, "last", (5,), False, (), None, Run())
        found.append(next(entry.per_query["ndcg@5"] for entry in board.entries if entry.name == "lightgcn"))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
