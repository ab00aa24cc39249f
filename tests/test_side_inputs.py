"""What stands beside the events as numbers: columns of items and people, and the blocks that read them."""

import numpy as np
import pytest
import torch
from films import DAY, film_log

from foretaste.catalog import NO_TIME, Categories, Category, Number, Table, Time
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, UnknownName
from foretaste.nets.contrast import contrast
from foretaste.nets.crossattention import CrossAttention
from foretaste.nets.metadata import DescribedItems, NamesEmbedding, SeasonEmbedding, SpanEmbedding, UserEncoder
from foretaste.ragged import PAD
from foretaste.side_inputs import AGE_GROUPS, ItemMetadata, SideInputs, Use, UserColumns
from foretaste.sources.movielens import AGES


@pytest.fixture(scope="module")
def films() -> Dataset:
    return film_log()


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
