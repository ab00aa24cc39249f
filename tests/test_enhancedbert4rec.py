"""EnhancedBERT4Rec: what stands beside the events is read, never leaks, and can be missing."""

import numpy as np
import pytest
import torch

from foretaste.batching import Sequences
from foretaste.catalog import NO_TIME, Catalog, Categories, Category, Number, Table, Text, Time
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, UnknownName
from foretaste.masking import MaskedBatch
from foretaste.models import EnhancedBERT4Rec
from foretaste.nets.contrast import contrast
from foretaste.nets.crossattention import CrossAttention
from foretaste.nets.metadata import DescribedItems, NamesEmbedding, SeasonEmbedding, SpanEmbedding, UserEncoder
from foretaste.ragged import PAD
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.side_inputs import AGE_GROUPS, ItemMetadata, UserColumns
from foretaste.sources.movielens import AGES
from foretaste.train import TrainPlan
from foretaste.vocab import Strings, Vocab

DAY = 86_400_000
RUN = Run(seed=5, device="cpu", precision="fp32")
TINY = EnhancedBERT4Rec(dim=16, length=6, layers=2, batch_tokens=256, plan=TrainPlan(epochs=3, lr=0.01))
USERS, ITEMS, COLD = 40, 13, (11, 12)  # the last two items were never met; the last has no metadata


@pytest.fixture(scope="module")
def films() -> Dataset:
    """Women meet and like comedies (even items), men war films (odd ones); ratings from 1 to 5."""
    rng = np.random.default_rng(3)
    woman = np.arange(USERS) % 2 == 0
    user = np.repeat(np.arange(USERS), 8)
    own = rng.random(len(user)) < 0.9
    item = 2 * rng.integers(0, 5, len(user)) + np.where(own, ~woman[user], woman[user])
    value = np.where(own, rng.integers(4, 6, len(user)), rng.integers(1, 3, len(user))).astype(float)
    value[::9] = np.nan
    genres = [["comedy"] if number % 2 == 0 else ["war", "drama"] for number in range(ITEMS)]
    genres[12] = []
    items = Table(
        ITEMS,
        {
            "title": Text.from_list([f"Film {number} ({1950 + number})" for number in range(12)] + ["Nothing"]),
            "genres": Categories.from_lists(genres),
        },
    )
    people = Table(
        USERS,
        {
            "gender": Category.from_list(["F" if each else "M" for each in woman]),
            "age": Number(np.where(np.arange(USERS) == 7, np.nan, 15.0 + np.arange(USERS))),
            "zip": Category.from_list([f"{number}" for number in range(USERS)]),
        },
    )
    return Dataset.from_arrays(
        Vocab(Strings.from_list(f"p{number}" for number in range(USERS))),
        Vocab(Strings.from_list(f"f{number}" for number in range(ITEMS))),
        user,
        item,
        time=1_600_000_000_000 + np.arange(len(user)) * 3 * DAY,
        value=value,
        catalog=Catalog(items, people),
        name="films",
    )


@pytest.fixture(scope="module")
def model(films):
    return TINY.fit(films, run=RUN).with_histories(films)


@pytest.fixture
def net(films):
    """Untrained, with all that begins as zero drawn at random, so that nothing is without effect."""
    torch.manual_seed(0)
    net = TINY.untrained(About.of(films), films, RUN).net
    for name, weights in net.named_parameters():
        if "norm" not in name:
            weights.data = 0.3 * torch.randn_like(weights)
    return net.eval()


def batch_of(films, rows=5, masked=((0, 2), (1, 0), (1, 3), (4, 5))) -> MaskedBatch:
    history = TINY.read(Sequences.of(films)).last(6).take(np.arange(rows)).padded(7)
    hidden = torch.zeros_like(history.items, dtype=torch.bool)
    for row, place in masked:
        hidden[row, place] = True
    return MaskedBatch(history, hidden)


def features(gender=None, age=None) -> Table:
    return Table(
        1,
        {
            **({} if gender is None else {"gender": Category.from_list([gender])}),
            **({} if age is None else {"age": Number(np.array([float(age)]))}),
        },
    )


# ---- columns as numbers


def test_ages_are_put_into_the_groups_of_movielens():
    table = Table(7, {"age": Number(np.array([np.nan, 3, 18, 24, 25, 55.5, 90]))})
    people = UserColumns.of(table, ["age"])
    names = list(people.names["age"])
    assert names == list(AGE_GROUPS.values()) == list(AGES.values())
    told = [None if code == PAD else names[code] for code in people.codes(table, 7)[:, 0]]
    assert told == [None, "under 18", "18-24", "18-24", "25-34", "50-55", "56+"]
    assert people.told(people.codes(table, 7)[3]) == {"age_group": "18-24"}


def test_columns_that_group_nobody_are_not_read(films):
    people = UserColumns.of(films.catalog.users)
    assert list(people.names) == ["gender", "age"]
    assert list(UserColumns.of(films.catalog.users, ["zip"]).names) == ["zip"]
    wages = Table(4, {"wage": Number(np.array([1.5, 2.5, 1.5, 2.5])), "job": Number(np.array([3.0, 1, 3, np.nan]))})
    assert UserColumns.of(wages, ["job"]).names == {"job": ["1", "3"]}
    with pytest.raises(ConfigError, match="'wage' is a column of number; names, ages and codes can be read"):
        UserColumns.of(wages, ["wage"])
    with pytest.raises(UnknownName, match="Unknown column 'jop' - did you mean 'job'"):
        UserColumns.of(wages, ["jop"])


def test_names_have_the_codes_of_training_whatever_table_they_come_in():
    people = UserColumns({"gender": ["F", "M"], "age": list(AGE_GROUPS.values()), "job": ["1", "3"]})
    asked = Table(
        3,
        {
            "job": Number(np.array([3.0, 7, np.nan])),
            "other": Category.from_list(["x", "y", "z"]),
            "gender": Category.from_list(["M", "divers", None]),
        },
    )
    assert people.codes(asked, 3).tolist() == [[1, PAD, 1], [PAD, PAD, PAD], [PAD, PAD, PAD]]
    assert people.codes(Table(1, {"age": Category.from_list(["35-44"])}), 1).tolist() == [[PAD, 3, PAD]]
    assert (people.codes(None, 2) == PAD).all()
    again = UserColumns.from_arrays(people.arrays())
    assert {name: list(names) for name, names in again.names.items()} == people.names


def test_years_come_from_numbers_moments_or_titles(films):
    year = ItemMetadata.of(films.catalog.items)
    assert year.span == (1950, 1961)
    assert year.year[[0, 11]].tolist() == [0, 1]
    assert np.isnan(year.year[12])
    assert list(year.columns) == ["genres", "title"]
    assert year.known.tolist() == [True] * 12 + [False]
    table = Table(2, {"made_year": Number(np.array([1990.0, 2000])), "since": Time(np.array([0, NO_TIME]))})
    assert ItemMetadata.of(table).columns == ["made_year"]
    moments = ItemMetadata.of(table, year="since")
    assert moments.span == (1970, 1970)
    assert np.isnan(moments.year).tolist() == [False, True]
    assert ItemMetadata.of(Table(2, {"price": Number(np.array([1.0, 2]))})) is None
    with pytest.raises(ConfigError, match="year_column: 'genres' is a column of categories; no year"):
        ItemMetadata.of(films.catalog.items, year="genres")
    with pytest.raises(ConfigError, match="item_columns: 'title' is a column of text, and not of names"):
        ItemMetadata.of(films.catalog.items, ["title"])


def test_names_of_several_columns_are_kept_apart():
    table = Table(
        4,
        {"kind": Category.from_list(["a", None, "a", "b"]), "tags": Categories.from_lists([["a", "c"], ["c"], [], []])},
    )
    both = ItemMetadata.of(table, ["kind", "tags"])
    assert both.names == ["kind: a", "kind: b", "tags: a", "tags: c"]
    assert [sorted(row) for row in both.codes.lists()] == [[0, 2, 3], [3], [0], [1]]


def test_likeness_is_the_cosine_of_names_and_its_shares_add_up():
    rows = [["x", "y"], ["x"], ["x", "y", "z"], ["q"], ["y"], []]
    metadata = ItemMetadata.of(Table(6, {"genre": Categories.from_lists(rows)}), ["genre"])
    found, shares = metadata.alike(np.array([0, 3, 5]), np.array([1, 2, 4]), count=2)
    cosines = np.array([2 / np.sqrt(6), 1 / np.sqrt(2)])
    assert found[0].tolist() == [2, 1]
    np.testing.assert_allclose(shares[0], cosines / cosines.sum(), rtol=1e-6)
    assert (shares[1:] == 0).all()


# ---- blocks


def test_a_number_lies_between_its_knots():
    span = SpanEmbedding(3, 2)
    span.weight.data = torch.tensor([[0.0, 0], [1, 2], [4, 4]])
    span.missing.data = torch.tensor([9.0, 9])
    found = span(torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0, 7.0, torch.nan]))
    expected = [[0, 0], [0.5, 1], [1, 2], [3.4, 3.6], [4, 4], [4, 4], [9, 9]]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)


def test_the_season_comes_back_every_year_and_neighbouring_days_are_alike():
    season = SeasonEmbedding(8)
    torch.manual_seed(0)
    torch.nn.init.normal_(season.waves.weight)
    year = 365.2425 * DAY
    start = 1_600_000_000_000
    days = season(torch.tensor([start, int(start + 3 * year), start + DAY, start + 120 * DAY, NO_TIME])).detach()
    torch.testing.assert_close(days[0], days[1], rtol=0, atol=1e-2)
    assert (days[0] - days[2]).norm() < 0.5 * (days[0] - days[3]).norm()
    assert (days[4] == 0).all()


def test_the_vector_of_names_is_their_mean():
    names = NamesEmbedding(torch.tensor([0, 2, 1]), torch.tensor([0, 2, 2, 3]), 3, 4)
    weight = names.weight.detach()
    torch.testing.assert_close(names().detach(), torch.stack([(weight[0] + weight[2]) / 2, torch.zeros(4), weight[1]]))


def test_a_person_is_a_token_per_feature_one_of_their_own_and_all_of_them_projected():
    person = UserEncoder(3, [2, 4], dim=5)
    torch.nn.init.normal_(person.own)
    tokens = person(torch.tensor([2, PAD]), torch.tensor([[1, PAD], [0, 3]])).detach()
    assert tokens.shape == (2, 4, 5)
    torch.testing.assert_close(tokens[0, :3], torch.stack([person.features[2], person.features[3], person.own[3]]))
    torch.testing.assert_close(tokens[1, :3], torch.stack([person.features[1], person.features[7], person.own[0]]))
    torch.testing.assert_close(tokens[:, 3], person.project(tokens[:, :3].flatten(1)))


def test_cross_attention_is_that_of_torch_added_to_the_states():
    torch.manual_seed(1)
    told, peer = CrossAttention(8, 2, 0.0), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    keys, values = told.keys_values.weight.chunk(2)
    peer.in_proj_weight.data = torch.cat([told.queries.weight, keys, values]).data
    peer.in_proj_bias.data = torch.cat([told.queries.bias, told.keys_values.bias]).data
    peer.out_proj.load_state_dict(told.told.state_dict())
    states, tokens = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    asking, telling = told.before_asking(states), told.before_telling(tokens)
    mixed, weights = peer(asking, telling, telling, average_attn_weights=False)
    torch.testing.assert_close(told(states, tokens), states + mixed)
    torch.testing.assert_close(told.weights(states, tokens), weights)


def test_to_a_single_token_attention_would_be_trivial():
    told = CrossAttention(8, 2, 0.0)
    states = torch.randn(1, 4, 8)
    added = told(states, torch.randn(1, 1, 8)) - states
    torch.testing.assert_close(added, added[:, :1].expand_as(added))


def test_contrast_is_the_cross_entropy_of_finding_ones_own():
    torch.manual_seed(2)
    given, wanted = torch.randn(4, 3), torch.randn(4, 3)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    cosines = torch.nn.functional.cosine_similarity(given[:, None], wanted[None], dim=-1) / 0.1
    expected = [-torch.log_softmax(cosines[0, [0, 1, 3]], 0)[0], -torch.log_softmax(cosines[1], 0)[1]]
    counted = torch.tensor([True, True, False, False])
    torch.testing.assert_close(contrast(given, wanted, same, counted), torch.stack(expected).mean())
    assert contrast(given, wanted, same, torch.zeros(4, dtype=torch.bool)) == 0
    assert contrast(given[:1], wanted[:1], same[:1, :1], counted[:1]) == 0


def test_collapsed_vectors_are_the_worst_that_knowing_nothing_can_do():
    given, wanted = torch.ones(8, 3), torch.ones(8, 3)
    loss = contrast(given, wanted, torch.eye(8, dtype=torch.bool), torch.ones(8, dtype=torch.bool))
    assert float(loss) == pytest.approx(np.log(8))


def test_an_item_never_met_is_its_metadata_and_forgetting_makes_others_so():
    class Fixed(torch.nn.Module):
        def forward(self):
            return torch.full((4, 2), 10.0)

    items = DescribedItems(torch.tensor([True, True, True, False]), 2, Fixed(), forgotten=0.5)
    items.weight.data = torch.arange(8.0).view(4, 2)
    assert items.eval().vectors().tolist() == [[10, 11], [12, 13], [14, 15], [10, 10]]
    torch.manual_seed(0)
    drawn = torch.stack([items.train().vectors().detach() for _ in range(200)])
    forgotten = (drawn[:, 1] == 10).all(1)
    assert 0.4 < float(forgotten.float().mean()) < 0.6
    assert (drawn[~forgotten, 1] == torch.tensor([12.0, 13])).all()
    assert (drawn[:, 3] == 10).all()


def test_the_last_resort_is_the_mean_of_the_own_vectors_of_items_alike():
    like = torch.tensor([[0, 2]]), torch.tensor([[0.25, 0.75]])
    items = DescribedItems(torch.tensor([True, False, True]), 2, None, like=like)
    items.weight.data = torch.tensor([[4.0, 0], [99, 99], [0, 8]])
    assert items.eval().vectors().tolist() == [[4, 0], [1, 6], [0, 8]]
    assert items.train().vectors()[1].tolist() == [0, 0]


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
    seen = net.seen(batch_of(films).history)
    whole = states_of(net, seen, causal)
    longer = seen.history.take(torch.tensor([3]))
    longer = replace(
        longer,
        **{
            name: torch.nn.functional.pad(getattr(longer, name), (0, 3), value=fill)
            for name, fill in (("items", PAD), ("times", 0), ("values", torch.nan))
        },
    )
    longer = Padded(longer.items[:, :8], longer.times[:, :8], None, longer.values[:, :8], longer.user)
    alone = states_of(net, Seen(longer, seen.features[3:4]), causal)
    length = int(longer.lengths[0])
    torch.testing.assert_close(alone[0, : length + 1], whole[3, : length + 1], rtol=1e-4, atol=1e-5)


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


def plain(**changes) -> EnhancedBERT4Rec:
    """Without anything drawn by chance."""
    return TINY.model_copy(update={"dropout": 0.0, "item_forgetting": 0.0, "side_forgetting": 0.0, **changes})


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
    np.testing.assert_allclose(fitted.item_vectors()[11], own[war].mean(0) + metadata[11], rtol=1e-4, atol=1e-5)


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


def test_ratings_lie_in_the_range_of_the_data_and_follow_it(films):
    fitted = TINY.model_copy(update={"plan": TrainPlan(epochs=25, lr=0.01)}).fit(films, run=RUN).with_histories(films)
    liked, disliked = fitted.ratings(["p0", "p1"], ["f0", "f1"]), films.value
    assert liked[0, 0] > liked[0, 1] + 1
    assert liked[1, 1] > liked[1, 0] + 1
    everything = fitted.ratings(Queries.of_users(films), films.items.lists())
    assert np.nanmin(disliked) <= everything.min()
    assert everything.max() <= np.nanmax(disliked)
    nobody = fitted.ratings([[]], ["f0", "f12"])
    assert np.isfinite(nobody).all()
    with pytest.raises(UnknownName, match="Unknown item 'f99'"):
        fitted.ratings(["p0"], ["f99"])
    fitted.net.ratings.scale[1] = 1000.0  # far beyond
    clipped = fitted.ratings(Queries.of_users(films), films.items.lists())
    assert set(np.unique(clipped)) <= {1.0, 5.0}


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
        with pytest.raises(ConfigError, match="holds no histories, so it knows nobody. Attach them"):
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
    with pytest.raises(ConfigError, match="predicts no ratings: the data had none, use.ratings was off, or rating_w"):
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
    with pytest.raises(MissingData, match="use.ratings: no event of films has a value"):
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


# ---- distillation


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


def test_side_inputs_survive_storage(films):
    sides = SideInputs.of(films, Use())
    again = SideInputs.from_arrays(sides.arrays())
    assert (again.times, again.ratings) == (True, True)
    assert {name: list(names) for name, names in again.columns.names.items()} == dict(sides.columns.names)
    assert again.users.lists() == films.users.lists()
    assert again.own_users(None, np.array([3, 99, PAD]), 3).tolist() == [3, PAD, PAD]
    once = films.where(np.r_[True, films.user[1:] != 0])
    assert SideInputs.of(once, Use()).own_users(None, np.array([0, 1]), 2).tolist() == [PAD, 1]
    nothing = SideInputs.from_arrays(SideInputs.nothing().arrays())
    assert nothing.own_users(None, np.array([3]), 1).tolist() == [PAD]
