"""EnhancedBERT4Rec: what stands beside the events is read, never leaks, and can be missing."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from films import COLD, ITEMS, RUN, TINY, USERS, batch_of, film_log, plain
from pydantic import ValidationError

import foretaste.bundle
from foretaste.batching import Sequences
from foretaste.catalog import NO_TIME, Catalog, Category, Number, Table
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.evaluation.ratings import rating_rmse, target_values
from foretaste.json_queries import queries_of_json
from foretaste.models import EnhancedBERT4Rec
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import silent
from foretaste.side_inputs import Use
from foretaste.train import TrainPlan
from foretaste.validation import ndcg_at_10
from foretaste.vocab import Strings, Vocab


@pytest.fixture(scope="module")
def films() -> Dataset:
    return film_log()


@pytest.fixture(scope="module")
def model(films):
    longer = TINY.model_copy(update={"plan": TrainPlan(epochs=25, lr=0.01)})
    return longer.fit(films, run=RUN).with_histories(films)


@pytest.fixture
def net(films):
    """Untrained, with all that begins as zero drawn at random, so that nothing is without effect."""
    torch.manual_seed(0)
    net = TINY.untrained(About.of(films), films, RUN).net
    for name, weights in net.named_parameters():
        if "norm" not in name:
            weights.data = 0.3 * torch.randn_like(weights)
    return net.eval()


def features(gender=None, age=None) -> Table:
    return Table(
        1,
        {
            **({} if gender is None else {"gender": Category.from_list([gender])}),
            **({} if age is None else {"age": Number(np.array([float(age)]))}),
        },
    )


# ---- the network: what is read, and what must not be


def states_of(net, seen, causal):
    with torch.no_grad():
        return net.states(seen, net.items.vectors(), causal=causal)


def with_event(history, row, place, **changes):
    """The same sequences with something else at one place."""
    parts = {}
    for name, value in changes.items():
        parts[name] = getattr(history, name).clone()
        parts[name][row, place] = value
    return replace(history, **parts)


ANOTHER = {"items": 4, "times": 1_700_000_000_000, "values": 2.5}


@pytest.mark.parametrize("what", ANOTHER)
def test_nothing_of_a_hidden_event_is_read(net, films, what):
    batch = batch_of(films)
    seen = replace(net.seen(batch.history), hidden=batch.masked)
    other = with_event(batch.history, 1, 3, **{what: ANOTHER[what]})
    states = states_of(net, seen, causal=False)
    assert torch.equal(states, states_of(net, replace(seen, history=other), causal=False))
    shown = replace(seen, hidden=torch.zeros_like(batch.masked))
    assert not torch.equal(states_of(net, shown, False)[1], states_of(net, replace(shown, history=other), False)[1])


@pytest.mark.parametrize("what", ANOTHER)
def test_looking_back_no_place_knows_the_event_behind_it(net, films, what):
    seen = net.seen(batch_of(films).history)
    other = replace(seen, history=with_event(seen.history, 1, 3, **{what: ANOTHER[what]}))
    before, after = states_of(net, seen, causal=True), states_of(net, other, causal=True)
    # Place i, of which the start is 0, has seen the events 0 to i - 1 and predicts event i.
    assert torch.equal(before[1, :4], after[1, :4])
    assert (before[1, 4:] != after[1, 4:]).any(1).all()
    assert torch.equal(before[[0, 2, 3, 4]], after[[0, 2, 3, 4]])


def test_everything_that_is_known_of_a_person_changes_the_states(net, films):
    seen = net.seen(batch_of(films).history)
    base = states_of(net, seen, causal=True)
    others = {
        "user": replace(seen, history=replace(seen.history, user=seen.history.user + 1)),
        "stranger": replace(seen, history=replace(seen.history, user=None)),
        "gender": replace(seen, features=seen.features * torch.tensor([0, 1])),
        "age": replace(seen, features=torch.cat([seen.features[:, :1], torch.full((5, 1), PAD)], 1)),
    }
    for called, other in others.items():
        assert not torch.allclose(base[1, 0], states_of(net, other, causal=True)[1, 0], atol=1e-3), called


@pytest.mark.parametrize(
    ("off", "absent", "same"),
    [
        ("item_metadata", "items.metadata", None),
        ("user_features", "person", None),
        ("user_embedding", "person.own", None),
        ("times", "season", {"times": None}),
        ("ratings", "ratings", {"values": None}),
    ],
)
def test_what_is_turned_off_is_not_read(films, off, absent, same):
    settings = TINY.model_copy(
        update={"use": Use(**{off: False}, **({"user_embedding": False} if off == "user_features" else {}))}
    )
    torch.manual_seed(0)
    net = settings.untrained(About.of(films), films, RUN).net.eval()
    found = net
    for step in absent.split("."):
        found = getattr(found, step)
    assert found is None
    if same:
        seen = net.seen(batch_of(films).history)
        without = replace(seen, history=replace(seen.history, **same))
        for causal in (True, False):
            assert torch.equal(states_of(net, seen, causal), states_of(net, without, causal))


@pytest.mark.parametrize("causal", [True, False])
def test_padding_and_the_other_sequences_of_a_batch_change_nothing(net, films, causal):
    sequences = TINY.read(Sequences.of(films)).take(np.arange(5))
    rows = [sequences.last(count).take(np.array([row])) for row, count in enumerate((6, 2, 5, 3, 1))]
    together = Sequences(
        Ragged.from_lists([each.items.values for each in rows]),
        times=np.concatenate([each.times for each in rows]),
        values=np.concatenate([each.values for each in rows]),
        user=np.arange(5, dtype=np.int32),
    )
    whole = states_of(net, net.seen(together.padded()), causal)
    for row, each in enumerate(rows):
        alone = states_of(net, net.seen(each.padded()), causal)[0]
        torch.testing.assert_close(alone, whole[row, : len(alone)], rtol=1e-4, atol=1e-5)
    asked = net.answer_to(net.seen(together.padded()), net.items.vectors())
    alone = net.answer_to(net.seen(rows[1].padded()), net.items.vectors())
    torch.testing.assert_close(alone[0], asked[1], rtol=1e-4, atol=1e-5)


def test_what_is_forgotten_is_missing_and_strangers_are_unknown_but_for_their_events(net, films):
    torch.manual_seed(0)
    seen = net.seen(batch_of(films, rows=40).history)
    forgotten, strangers = seen.forgotten(0.5)
    assert torch.equal(forgotten.history.items, seen.history.items)
    assert (forgotten.user[strangers] == PAD).all()
    assert (forgotten.features[strangers] == PAD).all()
    assert 10 < int(strangers.sum()) < 30
    kept = ~strangers
    assert 0 < int((forgotten.user[kept] == PAD).sum()) < int(kept.sum())
    rows = (forgotten.history.times == NO_TIME).all(1), forgotten.history.values.isnan().all(1)
    assert all(0 < int(each.sum()) < 40 for each in rows)
    known = forgotten.history.times != NO_TIME
    assert torch.equal(forgotten.history.times[known], seen.history.times[known])
    nothing, nobody = seen.forgotten(0.0)
    assert not nobody.any()
    assert torch.equal(nothing.features, seen.features)


# ---- losses


def losses_of(settings, net, batch):
    torch.manual_seed(0)
    with torch.no_grad():
        return {name: float(loss) for name, loss in settings.losses(net.train(), batch).items()}


def test_the_losses_are_those_of_their_definitions(films):
    settings, batch = plain(), batch_of(films)
    torch.manual_seed(0)
    net = settings.untrained(About.of(films), films, RUN).net
    losses = losses_of(settings, net, batch)
    history, met = batch.history, torch.from_numpy(About.of(films).met)
    vectors, seen = net.items.vectors().detach(), net.seen(history)
    there = history.items != PAD
    with torch.no_grad():
        hidden = net.states(replace(seen, hidden=batch.masked), vectors, causal=False)[:, 1:][batch.masked]
        before = net.states(seen, vectors, causal=True)[:, :-1][there]
        expected = {
            name: float(torch.nn.functional.cross_entropy(head(states) @ vectors[met].T, items))
            for name, head, states, items in (
                ("masked item", net.masked_head, hidden, history.items[batch.masked]),
                ("next item", net.next_head, before, history.items[there]),
            )
        }
        errors = []
        for states, places in ((hidden, batch.masked), (before, there)):
            items, values = history.items[places], history.values[places]
            made_of = net.ratings.guessing(states)
            guessed = (made_of[:, :-1] * vectors[items]).sum(1) + made_of[:, -1] + net.ratings.item_bias[items]
            wanted = (values - np.nanmean(films.value)) / np.nanstd(films.value)
            errors.append(float((guessed - wanted)[~values.isnan()].square().mean()))
    expected["rating"] = 0.3 * np.mean(errors)
    expected["preference"] = 0.0  # nobody is a stranger
    assert losses == pytest.approx(expected, rel=1e-4)


def test_the_profile_is_sought_in_the_sequences_that_were_not_told_it(films):
    settings, batch = plain(side_forgetting=0.6), batch_of(films)
    net = settings.untrained(About.of(films), films, RUN).net
    found = losses_of(settings, net, batch)["preference"]
    torch.manual_seed(0)
    known = net.seen(batch.history)
    seen, strangers = known.forgotten(0.6)
    assert 0 < int(strangers.sum()) < 5
    with torch.no_grad():
        states = net.states(replace(seen, hidden=batch.masked), net.items.vectors(), causal=False)[:, 1:]
        pooled = torch.stack(
            [row[: int(length)].mean(0) for row, length in zip(states, batch.history.lengths, strict=True)]
        )
        profiles = net.person(known.user, known.features)[:, -1]
        logits = torch.nn.functional.cosine_similarity(net.taste(pooled)[:, None], profiles[None], dim=-1) / 0.1
        own = torch.log_softmax(logits, 1).diagonal()[strangers]
    assert found == pytest.approx(0.2 * float(-own.mean()), rel=1e-4)


def test_weights_scale_their_losses_and_none_leaves_the_head_out(films):
    batch = batch_of(films)

    def with_weights(**weights):
        settings = plain(side_forgetting=0.6, **weights)
        torch.manual_seed(0)
        net = settings.untrained(About.of(films), films, RUN).net
        return settings, net

    settings, net = with_weights()
    base = losses_of(settings, net, batch)
    assert list(base) == ["masked item", "next item", "rating", "preference"]
    double = plain(
        side_forgetting=0.6, masked_item_weight=2.0, next_item_weight=3.0, rating_weight=0.6, preference_weight=0.1
    )
    scaled = losses_of(double, net, batch)
    assert {name: scaled[name] / base[name] for name in base} == pytest.approx(
        {"masked item": 2, "next item": 3, "rating": 2, "preference": 0.5}
    )
    for weight, called in (
        ("masked_item_weight", "masked item"),
        ("next_item_weight", "next item"),
        ("rating_weight", "rating"),
        ("preference_weight", "preference"),
    ):
        assert set(base) - set(losses_of(*with_weights(**{weight: 0.0}), batch)) == {called}


def test_items_are_told_by_the_next_head_alone_and_ratings_by_both(model, films, monkeypatch):
    asked = Queries.of_users(films, np.arange(3))
    vectors, ratings = model.query_vectors(asked), model.ratings(asked, ["f1", "f2"])
    monkeypatch.setitem(model.net._modules, "masked_head", None)
    np.testing.assert_array_equal(model.query_vectors(asked), vectors)
    assert not np.allclose(model.ratings(asked, ["f1", "f2"]), ratings, atol=1e-3)


def test_before_training_a_head_says_what_the_blocks_say(films):
    """So that what is read of items can be compared with items from the first step."""
    torch.manual_seed(0)
    net = TINY.untrained(About.of(films), films, RUN).net
    states = torch.randn(3, 4, TINY.dim)
    for head in (net.next_head, net.masked_head):
        torch.testing.assert_close(head(states), torch.nn.functional.layer_norm(states, (TINY.dim,)))


@pytest.mark.parametrize("off", ["masked_item_weight", "next_item_weight"])
def test_either_head_of_items_can_answer_alone(films, off):
    fitted = TINY.model_copy(update={off: 0.0}).fit(films, run=RUN)
    answer = fitted.recommend([["f1", "f3"], ["f0"]], k=3)
    assert (answer.source == 0).all()
    assert fitted.ratings([["f1"]], ["f3"]).shape == (1, 1)


def test_items_never_met_are_not_learned_as_never_wanted(films):
    net = plain().untrained(About.of(films), films, RUN).net.train()
    sum(plain().losses(net, batch_of(films)).values()).backward()
    gradient = net.items.weight.grad.abs().sum(1)
    assert (gradient[list(COLD)] == 0).all()
    assert (gradient[:10] > 0).all()


def test_windows_slide_by_their_stride(films):
    whole = TINY.windows(Sequences.of(films).take(np.array([0])))
    sliding = TINY.model_copy(update={"stride": 1}).windows(Sequences.of(films).take(np.array([0])))
    row = Sequences.of(films).items[0].tolist()
    assert whole.items.lists() == [row[-7:], row[-13:-6] or row[: len(row) - 6]][: len(whole)]
    assert sliding.items.lists() == [row[end - 7 : end] for end in range(len(row), 6, -1)]


# ---- the fitted model: people and items without events


def test_newcomers_are_answered_by_their_features(model):
    empty = Ragged.empty(1)
    woman, man = (model.recommend(Queries(empty, user_features=features(each)), k=5).items[0] for each in ("F", "M"))
    assert (woman[:4] % 2 == 0).all()
    assert (man[:4] % 2 == 1).all()
    nobody = Queries(empty, user_features=features("X", np.nan))
    assert np.isnan(model.query_vectors(nobody)).all()
    assert model.recommend(nobody, k=5).sources[model.recommend(nobody, k=5).source[0, 0]] == "popularity"


def test_a_person_of_training_is_known_without_history_and_features(model):
    known = Queries(Ragged.empty(2), user=np.array([4, PAD], np.int32))
    vectors = model.query_vectors(known)
    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all()


def test_items_never_met_are_offered_by_their_metadata_and_others_not_at_all(model):
    assert model.answerable().tolist() == [True] * 10 + [True, True, False]
    scores = model.score(Queries(Ragged.from_lists([[1, 3, 5]])))[0]
    assert np.isfinite(scores[11])
    assert scores[12] == -np.inf
    assert model.similar_items(["f11"], k=3).lists()[0]
    assert "f12" not in model.similar_items(["f3"], k=20).lists()[0]


def test_items_never_met_get_the_share_of_what_comes_next_that_they_are_to_have(films):
    after = Queries.of_users(films)
    offered = [True] * 10 + [True, True, False]
    shares = {}
    for wanted in (None, 0.02, 0.3):
        model = TINY.model_copy(update={"unmet_share": wanted}).fit(films, run=RUN)
        logits = model.query_vectors(after) @ model.item_vectors()[offered].T
        chances = np.exp(logits - logits.max(1, keepdims=True))
        shares[wanted] = (chances[:, 10:].sum(1) / chances.sum(1)).mean()
        assert model.query_vectors(after).shape[1] == 17
        np.testing.assert_array_equal(model.item_vectors()[:10, -1], 0)
        np.testing.assert_array_equal(model.likeness_vectors(), model.net.items.vectors().detach().numpy())
    # None: of 320 events none is the only one of its item, and one counts at least.
    assert shares == pytest.approx({None: 1 / 320, 0.02: 0.02, 0.3: 0.3}, rel=1e-3)


@pytest.mark.parametrize("forgetting", [0.1, 0.0])
def test_new_items_have_a_level_though_all_was_met_and_no_histories_are_stored(films, forgetting, tmp_path):
    catalog = Catalog(films.catalog.items.take(np.arange(10)), films.catalog.users)
    whole = replace(films, items=Vocab(films.items.ids.take(np.arange(10))), catalog=catalog)
    settings = TINY.model_copy(update={"unmet_share": 0.02, "item_forgetting": forgetting})
    settings.fit(whole, run=RUN).save(tmp_path / "bundle")
    after = Queries.of_users(whole)
    for count in (10, 20):
        like = [item % 10 for item in range(count)]  # each is described as one that was met
        titles, genres = ([catalog.items[name].lists()[item] for item in like] for name in ("title", "genres"))
        arrivals = pl.DataFrame({"item_id": [f"n{each}" for each in range(count)], "genres": genres, "title": titles})
        model = foretaste.bundle.load(tmp_path / "bundle").with_items(arrivals, log=silent)
        chances = torch.from_numpy(model.query_vectors(after) @ model.item_vectors().T).softmax(1)
        assert 0.015 < float(chances[:, 10:].sum(1).mean()) < 0.025  # all of them together


def test_the_level_of_items_never_met_is_found_on_people_with_events(films, monkeypatch):
    """Most of a vocabulary may have none, and who has none tells nothing of what comes after a last event."""
    monkeypatch.setattr("foretaste.enhanced.model.CALIBRATED_ON", 4)
    crowd = 1000
    strangers = Vocab(Strings.from_list([*films.users.lists(), *(f"q{number}" for number in range(crowd))]))
    model = TINY.untrained(About.of(films), replace(films, users=strangers, catalog=None), RUN)
    people, _ = model._calibration
    assert people.user.tolist() == [0, 13, 26, 39]


def test_the_level_of_items_never_met_is_that_of_the_weights_that_are_kept_and_saved(films, tmp_path):
    last = Queries.of_users(films)
    targets = Ragged.from_lists([[11]] * USERS)
    plan = TrainPlan(epochs=4, lr=0.01)
    model = TINY.model_copy(update={"plan": plan}).fit(films, Holdout(last, targets), run=RUN)
    kept = model.training["best_score"]
    assert kept == pytest.approx(ndcg_at_10(model, Holdout(last, targets)), abs=1e-6)
    model.save(tmp_path / "bundle")
    again = foretaste.bundle.load(tmp_path / "bundle")
    assert again.net.unmet_level != 0
    np.testing.assert_array_equal(again.item_vectors(), model.item_vectors())


def test_a_history_of_items_never_met_is_read_by_their_metadata(model):
    of_war, of_nothing = Queries(Ragged.from_lists([[11, 11]])), Queries(Ragged.from_lists([[12]]))
    assert np.isfinite(model.query_vectors(of_war)).all()
    assert np.isnan(model.query_vectors(of_nothing)).all()
    with_it = Queries(Ragged.from_lists([[1, 12, 3], [1, 3], [1, 11, 3]]))
    vectors = model.query_vectors(with_it)
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(vectors[2], vectors[1], atol=1e-3)


def test_without_forgetting_an_item_never_met_leans_on_those_alike(films):
    fitted = TINY.model_copy(update={"item_forgetting": 0.0}).fit(films, run=RUN)
    own = fitted.net.items.weight.detach().numpy()
    metadata = fitted.net.items.metadata().detach().numpy()
    war = [1, 3, 5, 7, 9]
    np.testing.assert_allclose(fitted.likeness_vectors()[11], own[war].mean(0) + metadata[11], rtol=1e-4, atol=1e-5)


def test_without_item_metadata_items_never_met_are_unknown(films):
    fitted = TINY.model_copy(update={"use": Use(item_metadata=False)}).fit(films, run=RUN)
    assert fitted.answerable().tolist() == [True] * 10 + [False] * 3
    assert fitted.similar_items(["f11"]).lists() == [[]]


def test_times_and_ratings_of_the_history_are_read_and_may_be_missing(model, films):
    known = Queries.of_users(films, np.arange(3))
    base = model.query_vectors(known)
    for change in ({"times": None}, {"values": None}, {"values": 6 - known.values}):
        changed = model.query_vectors(replace(known, **change))
        assert np.isfinite(changed).all()
        assert not np.allclose(base, changed, atol=1e-4)


def test_people_of_other_data_are_found_by_their_names(model, films):
    turned = np.arange(USERS)[::-1]
    names = films.users.lists()
    other = Dataset.from_arrays(
        Vocab(Strings.from_list([names[each] for each in turned])),
        films.items,
        turned[films.user],
        films.item,
        time=films.time,
        value=films.value,
        catalog=Catalog(films.catalog.items, films.catalog.users.take(turned)),
        name="turned",
    )
    again = model.with_histories(other)
    assert again.recommend(["p3", "p8"], k=6).lists() == model.recommend(["p3", "p8"], k=6).lists()
    asked, mine = again.ask(["p3"]).queries, model.ask(["p3"]).queries
    np.testing.assert_allclose(again.query_vectors(asked), model.query_vectors(mine), rtol=1e-4, atol=1e-5)
    stranger = replace(mine, user=np.array([PAD], np.int32))
    assert not np.allclose(model.query_vectors(mine), model.query_vectors(stranger), atol=1e-4)


def test_one_query_alone_is_answered_like_among_others(model, films):
    asked = Queries.of_users(films)
    asked = asked.where(asked.history.row_of_value() % 7 != 0)
    together = model.query_vectors(asked)
    for row in (0, 7, 20, 39):
        alone = model.query_vectors(asked.take(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-5)


# ---- what else it can be asked


def test_ratings_lie_in_the_range_of_the_data_and_follow_it(model, films):
    found = model.ratings(["p0", "p1"], ["f0", "f1"])
    assert found[0, 0] > found[0, 1] + 1
    assert found[1, 1] > found[1, 0] + 1
    nobody = model.ratings([[]], ["f0", "f12"])
    assert np.isfinite(nobody).all()
    with pytest.raises(UnknownName, match="Unknown item 'f99'"):
        model.ratings(["p0"], ["f99"])
    deviation = model.net.ratings.scale[1].clone()
    model.net.ratings.scale[1] = 1e6  # far beyond the range
    clipped = model.ratings(Queries.of_users(films), films.items.lists())
    model.net.ratings.scale[1] = deviation
    assert set(np.unique(clipped)) == {1.0, 5.0}


def test_ratings_of_pairs_are_those_of_the_table(model, films, monkeypatch):
    asked = Queries.of_users(films, np.arange(4))
    table = model.ratings(asked, films.items.lists())
    pairs = Ragged.from_lists([[3, 1], [], [12], [0, 11, 5]])
    monkeypatch.setattr("foretaste.enhanced.model.PAIRS", 2)
    found = model.pair_ratings(asked, pairs)
    np.testing.assert_allclose(found, table[pairs.row_of_value(), pairs.values], rtol=1e-5)


def test_the_error_of_ratings_is_counted_over_what_was_given(model, films):
    asked = Queries.of_users(films, np.arange(3))
    holdout = Holdout(asked, Ragged.from_lists([[0, 12], [1], [2]]))
    values = target_values(films, holdout)
    for place, (user, item) in enumerate(((0, 0), (0, 12), (1, 1), (2, 2))):
        events = np.flatnonzero((films.user == user) & (films.item == item))
        expected = films.value[events[-1]] if len(events) else np.nan
        np.testing.assert_equal(values[place], expected)
    given = np.array([4.0, np.nan, 2.0, 5.0], np.float32)
    errors = model.pair_ratings(asked, holdout.targets)[[0, 2, 3]] - given[[0, 2, 3]]
    assert rating_rmse(model, holdout, given) == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)
    with pytest.raises(DataError, match="3 values for 4 targets of 'test'"):
        rating_rmse(model, holdout, given[:3])
    with pytest.raises(DataError, match="No target of 'test' has a value"):
        rating_rmse(model, holdout, np.full(4, np.nan))
    with pytest.raises(MissingData, match="films lacks one"):
        target_values(replace(films, value=None), holdout)


def test_a_profile_tells_features_and_tastes(model):
    woman, man, ageless = model.profile("p2"), model.profile("p3"), model.profile("p7")
    assert {name: woman[name] for name in ("gender", "age_group", "events")} == {
        "gender": "F",
        "age_group": "under 18",
        "events": 8,
    }
    assert woman["tastes"][0][0] == "comedy"
    assert man["tastes"][0][0] in ("war", "drama")
    assert ageless["age_group"] is None
    scores = model.score(model.ask(["p2"]).queries)[0]
    met = scores[:10]
    above = (scores[[0, 2, 4, 6, 8]].mean() - met.mean()) / met.std()
    assert woman["tastes"][0][1] == pytest.approx(above, rel=1e-4)
    with pytest.raises(UnknownName, match="Unknown user 'p99'"):
        model.profile("p99")


def test_recommending_for_somebody_takes_the_person_and_the_history_given(model, films):
    history = ["f1", "f4", "f1"]
    answer = model.recommend_for("p6", history, k=4)
    asked = Queries(
        Ragged.from_lists([[1, 4, 1]]),
        user=np.array([6], np.int32),
        user_features=films.catalog.users.take(np.array([6])),
    )
    assert answer.lists() == model.recommend(asked, k=4).lists()
    assert list(answer.labels) == ["p6"]
    assert not set(answer.lists()[0]) & set(history)
    seen = model.recommend_for("p6", history, k=13, filter_seen=False)
    assert set(history) <= set(seen.lists()[0])
    stranger = model.recommend_for("nobody", [*history, "gone"], k=4)
    assert stranger.unknown_users == ("nobody",)
    assert stranger.unknown_items == ("gone",)
    assert stranger.lists() == model.recommend([history], k=4).lists()


def test_what_needs_histories_says_so(films):
    fitted = TINY.model_copy(update={"plan": TrainPlan(epochs=1)}).fit(films, run=RUN)
    for ask in (lambda: fitted.profile("p1"), lambda: fitted.recommend_for("p1", ["f1"])):
        with pytest.raises(ConfigError, match="holds no histories, so it knows nobody"):
            ask()


def test_attention_can_be_read(model, films):
    read = model.attention(Queries.of_users(films, np.arange(3)))
    assert read.tokens == ("gender", "age", "person", "profile")
    assert read.places.tolist() == [7, 7, 7]
    assert read.to_person.shape == (3, 2, 7, 4)
    assert read.to_places.shape == (3, 2, 7, 7)
    np.testing.assert_allclose(read.to_person.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(read.to_places.sum(-1), 1, rtol=1e-5)
    assert (np.triu(read.to_places, 1) == 0).all()
    short = model.attention([["f1"], ["f1", "f2"]])
    assert short.places.tolist() == [2, 3]
    assert short.to_places.std() > 0


def test_the_distance_between_two_events_says_how_much_one_takes_from_the_other(net, films):
    """One place back, whatever the place."""
    for biases in net.place_biases:
        biases.weight.data.zero_()
        biases.weight.data[:, biases.length - 2] = 100
    with torch.no_grad():
        _, weights = net.attention(net.seen(batch_of(films).history), net.items.vectors())
    back = torch.diagonal(weights, offset=-1, dim1=-2, dim2=-1)
    torch.testing.assert_close(back, torch.ones_like(back))


# ---- on disk, and from outside


def test_a_bundle_knows_people_by_their_features_without_the_data(model, films, tmp_path):
    model.save(tmp_path / "bundle")
    again = foretaste.bundle.load(tmp_path / "bundle")
    lines = [
        json.dumps({"history": [], "features": {"gender": "F", "age": 30}}),
        json.dumps({"history": ["f1"], "features": {"gender": "unheard of"}}),
        json.dumps({"history": ["f1"]}),
        json.dumps({"user": "p5"}),
    ]
    asked = queries_of_json(again, lines)
    assert asked.unknown_features == [("gender", "unheard of")]
    vectors = again.query_vectors(asked.queries)
    np.testing.assert_allclose(
        vectors, model.query_vectors(queries_of_json(model, lines).queries), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(vectors[1], vectors[2], rtol=1e-4, atol=1e-5)
    in_python = model.query_vectors(Queries(Ragged.empty(1), user_features=features("F", 30)))
    np.testing.assert_allclose(vectors[0], in_python[0], rtol=1e-4, atol=1e-5)
    assert again.profile("p5") == model.profile("p5")
    np.testing.assert_allclose(again.ratings(["p5"], ["f1"]), model.ratings(["p5"], ["f1"]), rtol=1e-5)


def test_a_bundle_without_histories_holds_no_features_of_people(films, tmp_path):
    TINY.model_copy(update={"plan": TrainPlan(epochs=1)}).fit(films, run=RUN).save(tmp_path / "bundle")
    again = foretaste.bundle.load(tmp_path / "bundle")
    assert not any("people" in name for name in again.state())
    lines = [json.dumps({"history": [], "features": {"gender": "M", "age": 19}})]
    asked = queries_of_json(again, lines).queries
    assert np.isfinite(again.query_vectors(asked)).all()


def test_what_is_read_and_what_is_off_is_said(films):
    said: list[str] = []
    run = replace(RUN, log=lambda message, numbers=None: said.append(message))
    once = TINY.model_copy(update={"plan": TrainPlan(epochs=1)})
    once.fit(films, run=run)
    assert said[0] == (
        "enhancedbert4rec: reads beside the events: of items genres, title; of people gender, age; "
        "a vector of each user; times; ratings"
    )
    said.clear()
    bare = replace(films, time=None, value=None, catalog=None)
    once.model_copy(update={"use": Use(user_embedding=False)}).fit(bare, run=run)
    assert said[:7] == [
        "enhancedbert4rec: reads beside the events: nothing",
        "enhancedbert4rec: not read: item metadata (the data has none); items never met have no vector",
        "enhancedbert4rec: not read: user features (the data has none); new people are answered by their events alone",
        "enhancedbert4rec: not read: a vector of each user (turned off)",
        "enhancedbert4rec: not read: times (the data has none); no season, no time in the attention",
        "enhancedbert4rec: not read: ratings (the data has none); the head of ratings is off",
        "enhancedbert4rec: nothing is known of people, so the cross-attention and the head of preference are off",
    ]


def test_without_anything_beside_the_events_the_rest_is_trained(films):
    bare = replace(films, time=None, value=None, catalog=None)
    fitted = TINY.model_copy(update={"use": Use(user_embedding=False)}).fit(bare, run=RUN)
    assert {name for name in fitted.training["curve"][0] if name.startswith("loss ")} == {
        "loss masked item",
        "loss next item",
    }
    assert (fitted.recommend([["f1"]], k=3).source == 0).all()
    with pytest.raises(ConfigError, match="predicts no ratings: the data had none"):
        fitted.ratings([["f1"]], ["f2"])


@pytest.mark.parametrize(
    ("use", "lacking", "said"),
    [
        ("times", "time", "needs TIMES"),
        ("ratings", "value", "needs VALUES"),
        ("user_features", "catalog", "needs .*USER_FEATURES"),
        ("item_metadata", "catalog", "needs ITEM_FEATURES"),
    ],
)
def test_what_is_asked_for_must_be_there(films, use, lacking, said):
    settings = TINY.model_copy(update={"use": Use(**{use: True})})
    with pytest.raises(MissingData, match=said):
        settings.fit(replace(films, **{lacking: None}, ordered=True), run=RUN)


def test_what_is_asked_for_must_be_of_use(films):
    useless = Catalog(
        Table(ITEMS, {"price": Number(np.arange(ITEMS) + 0.5)}), films.catalog.users.without("gender", "age")
    )
    for use, said in (
        ("item_metadata", "use.item_metadata: no column of the items of films groups them, .*: price"),
        ("user_features", "use.user_features: no column of the users of films groups them: zip"),
    ):
        with pytest.raises(MissingData, match=said):
            TINY.model_copy(update={"use": Use(**{use: True})}).fit(replace(films, catalog=useless), run=RUN)
    unrated = replace(films, value=np.full(len(films), np.nan, np.float32))
    with pytest.raises(MissingData, match=r"use\.ratings: no event of films has a value"):
        TINY.model_copy(update={"use": Use(ratings=True)}).fit(unrated, run=RUN)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dim": 15}, r"dim \(15\) must be a multiple of heads \(2\)"),
        ({"masked_item_weight": 0, "next_item_weight": 0}, "are both 0, so no item would be learned"),
        ({"loss": "bce"}, "the loss is softmax or sampled_softmax; bce"),
        ({"teacher": "x", "next_item_weight": 0}, "a teacher tells what comes next, so next_item_weight"),
        ({"use": {"rating": True}}, "rating"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        EnhancedBERT4Rec(**given)
