"""Examples, their features, and how they become tensors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from foretaste.catalog import Categories, Category, Number, Table, Text, Time, Vector
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.nets.fields import MeanOfNames, SequenceVector
from foretaste.ragged import PAD, Ragged
from foretaste.rank.dcnv2 import DCNv2
from foretaste.rank.examples import Examples
from foretaste.rank.features import Feature, groups_of
from foretaste.rank.fields import Fields
from foretaste.rank.inputs import Inputs, RankBatches, TableInputs
from foretaste.rank.net import RankNet
from foretaste.rank.reading import as_category

DAY = 86_400_000


def shop(**changed):
    """Three lists of two, two and one items; the last item shown is not in the table."""
    tables = {
        "requests": {
            "gender": Category.from_list(["f", None, "m"]),
            "age": Number(np.array([20.0, np.nan, 40.0])),
            "visited": Categories.from_lists([["hats", "shoes"], [], ["shoes", "hats", "shoes"]]),
        },
        "items": {
            "colour": Category.from_list(["red", "blue", "red", "green"]),
            "image": Vector(np.array([[1, 0], [0, 1], [2, 2], [np.nan, np.nan]], np.float32)),
        },
        "places": {"position": Number(np.array([0.0, 1, 0, 1, 0]))},
    }
    tables |= changed
    request, item = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, PAD])
    labels = {"click": np.array([1, 0, -1, 0, 1], np.int8)}
    return Examples(
        request, Table(3, tables["requests"]), item, Table(4, tables["items"]), Table(5, tables["places"]), labels
    )


def fields_of(examples, **groups):
    groups = {group: tuple(Feature(**each) for each in features) for group, features in groups.items()}
    return Fields.of(examples, groups or groups_of(examples))


def read(examples, column, **options):
    fields = fields_of(examples, any=[{"column": column, **options}])
    field = next(iter(fields))
    return field, field.read(examples.tables()[field.level], answering=False)


def test_names_of_training_have_codes_and_others_the_unknown_one():
    field, codes = read(shop(), "colour")
    # Green is the colour of an item that nobody was shown.
    assert field.reader.names.lists() == ["blue", "red"]
    assert codes.tolist() == [2, 1, 2, 0, 0]
    other = Table(2, {"colour": Category.from_list(["red", "pink"])})
    assert field.read(other, answering=True).tolist() == [2, 0, 0]


def test_rare_names_count_as_unknown():
    field, codes = read(shop(), "colour", fewest=3)
    assert len(field.reader.names) == 0
    assert not codes.any()


def test_names_can_be_spread_by_their_digests():
    field, codes = read(shop(), "colour", hashed=1000)
    assert field.reader.size == 1001
    assert len(set(codes[:4].tolist())) == 3
    assert codes.min() == 0  # of the row behind, of which nothing is known
    again = field.read(Table(1, {"colour": Category.from_list(["red"])}), answering=False)
    assert again[0] == codes[0]


def test_numbers_are_standardised_over_examples_and_say_where_they_lack():
    _, found = read(shop(), "age")
    mean, deviation = np.mean([20, 20, 40]), np.std([20, 20, 40])  # the first list has two examples
    assert found[:, 0] == pytest.approx([(20 - mean) / deviation, 0, (40 - mean) / deviation, 0])
    assert found[:, 1].tolist() == [0, 1, 0, 1]


def test_numbers_that_are_names_can_be_read_as_such():
    _, codes = read(shop(), "age", kind="category")
    assert codes.tolist() == [1, 0, 2, 0]
    assert as_category(Number(np.array([3.0, 2.5, np.nan]))).lists() == ["3", "2.5", None]


def test_pieces_are_how_far_a_number_came():
    examples = shop(places={"position": Number(np.array([0.0, 1, 2, 4, 8]))})
    field, found = read(examples, "position", pieces=4)
    assert field.reader.fitted.tolist() == [0, 1, 2, 4, 8]
    told = field.read(Table(4, {"position": Number(np.array([-5.0, 3.0, 100.0, np.nan]))}), answering=False)
    assert told[:, :4].tolist() == [[0, 0, 0, 0], [1, 1, 0.5, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found[:, -1].tolist() == [0, 0, 0, 0, 0, 1]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(1, 8))
@example([0.0, 2.4e-308, 2.0], 5)  # pieces so short that a division by them overflows
def test_pieces_grow_with_the_number(values, pieces):
    values = np.sort(np.array(values))
    places = Table(len(values), {"x": Number(values)})
    zeros = np.zeros(len(values), np.int64)
    examples = Examples(zeros, Table(1), zeros - 1, Table(0), places)
    _, found = read(examples, "x", pieces=pieces)
    totals = found[:-1, :-1].sum(1)
    assert np.isfinite(found).all()
    assert (np.diff(totals) >= -1e-5).all()


def test_logs_of_numbers_are_symmetric():
    examples = shop(places={"position": Number(np.array([0.0, 1, -1, 1000, -1000]))})
    _, found = read(examples, "position", log=True)
    assert found[1, 0] - found[0, 0] == pytest.approx(found[0, 0] - found[2, 0], abs=1e-6)
    assert found[3, 0] / found[1, 0] == pytest.approx(math.log(1001) / math.log(2), rel=1e-5)


def test_cycles_come_round():
    examples = shop(places={"day": Number(np.array([0.0, 7, 3.5, 1, np.nan]))})
    _, found = read(examples, "day", cycle=7)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[2, :2] == pytest.approx(-found[0, :2], abs=1e-6)
    assert found[4].tolist() == [0, 0, 1]


def test_times_are_told_by_day_week_and_year():
    times = Time(np.array([0, DAY, 7 * DAY, 7 * DAY + DAY // 2, np.iinfo(np.int64).min]))
    field, found = read(shop(places={"when": times}), "when")
    assert field.reader.width == 7
    assert found[0, :2] == pytest.approx(found[1, :2], abs=1e-6)  # the same hour
    assert found[0, 2:4] == pytest.approx(found[2, 2:4], abs=1e-6)  # the same day of the week
    assert found[3, :2] == pytest.approx(-found[0, :2], abs=1e-6)
    assert found[4].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_vectors_keep_their_directions():
    field, found = read(shop(), "image")
    assert found[2, 0] == found[2, 1]
    assert found[3].tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="5 numbers stand where training had 2"):
        field.read(Table(1, {"image": Vector(np.zeros((1, 5), np.float32))}), answering=False)


def test_sequences_keep_their_latest_and_their_order():
    _, codes = read(shop(), "visited", kind="sequence", length=2)
    assert codes.lists() == [[1, 2], [], [1, 2], []]
    _, codes = read(shop(), "visited")
    assert codes.lists() == [[1, 2], [], [2, 1, 2], []]


def test_what_all_have_when_scores_are_asked():
    examples = shop()
    fields = fields_of(examples, style=[{"column": "position", "answered_as": 0}])
    field = next(iter(fields))
    told, asked = (field.read(examples.places, answering=answering) for answering in (False, True))
    assert len(set(told[:5, 0].tolist())) == 2
    assert set(asked[:, 0].tolist()) == {told[0, 0]}
    assert not asked[:, 1].any()
    assert fields.lacking(shop(places={})) == []
    fields = fields_of(examples, style=[{"column": "colour", "answered_as": "red"}])
    assert next(iter(fields)).read(Table(1), answering=True).tolist() == [2, 2]


def test_batches_hold_what_each_table_says():
    examples = shop()
    fields = fields_of(examples)
    inputs = Inputs(fields, examples, ["click", "cart"])
    batch = inputs.batch(torch.tensor([4, 0, 3]))
    held = [field.name for part in fields.parts() for field in part]
    by_name = [name for name in held if name in ("gender", "colour")]
    assert by_name == ["gender", "colour"]
    assert batch.codes.tolist() == [[2, 0], [1, 2], [0, 2]]
    assert [tuple(each.shape) for each in batch.bases] == [(3, 2, 2), (3, 1, 3)]
    assert held == ["gender", "colour", "age", "position", "image", "visited"]
    assert batch.bases[0][:, 1, 0].tolist() == pytest.approx([-0.8165, -0.8165, 1.2247], abs=1e-4)
    assert batch.bases[1][0, 0].tolist() == [0, 0, 1]  # nothing is known of the item
    assert batch.rows[0].codes.tolist() == [2, 1, 2, 1, 2]
    assert batch.rows[0].offsets.tolist() == [0, 3, 5, 5]
    assert batch.labels[:, 0].tolist() == [1, 1, 0]
    assert batch.labels.isnan()[:, 1].all()
    assert inputs.batch(torch.tensor([2])).labels.isnan().all()


def test_an_epoch_has_each_example_once_and_no_batch_of_one():
    examples = shop()
    inputs = Inputs(fields_of(examples), examples, ["click"])
    batches = RankBatches(inputs, 2, np.random.default_rng(0))
    assert sorted(map(len, batches)) == [2, 3]
    assert [len(each) for each in RankBatches(inputs, 8, np.random.default_rng(0))] == [5]


def test_columns_that_lack_are_all_named():
    with pytest.raises(MissingData, match="lack the columns size, weight; they have age, colour"):
        fields_of(shop(), user=[{"column": "size"}, {"column": "age"}, {"column": "weight"}])
    with pytest.raises(MissingData, match="no column to learn from"):
        Fields.of(shop(requests={}, items={}, places={}), {})


def test_columns_lacking_later_are_unknown_and_named():
    examples = shop()
    fields = fields_of(examples)
    later = shop(requests={}, places={})
    assert sorted(fields.lacking(later)) == ["age", "gender", "visited"]  # a position is known when asked
    batch = Inputs(fields, later, []).batch(torch.arange(5))
    assert not batch.codes[:, 0].any()
    assert batch.bases[0][:, :, 1].all()  # both numbers are not known
    assert len(batch.rows[0].codes) == 0


def test_a_column_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="'image' is a column of vector, which cannot be read as category"):
        fields_of(shop(), any=[{"column": "image", "kind": "category"}])
    with pytest.raises(ConfigError, match="more often: age"):
        fields_of(shop(), user=[{"column": "age"}], other=[{"column": "age"}])
    with pytest.raises(ValueError, match="pieces is an option of number; age is category"):
        Feature(column="age", kind="category", pieces=3)


def test_fields_come_back_from_their_arrays():
    examples = shop(places={"position": Number(np.array([0.0, 1, 0, 1, 0])), "when": Time(np.arange(5) * DAY)})
    fields = fields_of(examples)
    again = Fields.from_arrays(fields.schema(), fields.arrays())
    for own, other in zip(fields, again, strict=True):
        table = examples.tables()[own.level]
        first, second = own.read(table, answering=False), other.read(table, answering=False)
        if isinstance(first, Ragged):
            assert first.lists() == second.lists()
        else:
            assert np.array_equal(first, second)


def test_examples_refuse_what_does_not_fit():
    with pytest.raises(DataError, match="Two columns are called 'age'"):
        shop(items={"age": Number(np.zeros(4))})
    with pytest.raises(DataError, match="stand together"):
        Examples(np.array([1, 0]), Table(2), np.array([PAD, PAD]), Table(0), Table(2))
    with pytest.raises(DataError, match=r"item holds rows outside 0..0"):
        Examples(np.array([0]), Table(1), np.array([4]), Table(1), Table(1))
    with pytest.raises(DataError, match="Label 'click' needs 1, 0 or -1"):
        Examples(np.array([0]), Table(1), np.array([PAD]), Table(0), Table(1), {"click": np.array([2], np.int8)})
    with pytest.raises(UnknownName, match="colour"):
        shop().level_of("color")


def test_a_plain_table_becomes_lists_and_finds_its_rows_again():
    places = Table(4, {"x": Number(np.array([1.0, 2, 3, 4]))})
    labels = {"click": np.array([0, 1, 1, -1], np.int8)}
    examples, rows = Examples.of_rows(places, np.array([7, 3, 7, 5]), labels)
    assert examples.request.tolist() == [0, 1, 2, 2]
    assert rows.tolist() == [1, 3, 0, 2]
    assert examples.places["x"].values.tolist() == [2, 4, 1, 3]
    assert examples.labels["click"].tolist() == [1, -1, 0, 1]


def test_texts_are_read_by_an_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "foretaste.rank.fields.TextEncoder",
        lambda name, pooling: type(
            "Counting",
            (),
            {"encode": lambda self, texts, log: np.array([[len(each), 1] for each in texts], np.float32)},
        )(),
    )
    examples = shop(places={"geo": Text.from_list(["Graz", "Wien", "", "Linz", "Oslo"])})
    field, found = read(examples, "geo", kind="text", encoder="any")
    assert field.kind == "text"
    assert found.shape == (6, 3)


@pytest.mark.parametrize("column", ["when", "image"])
def test_an_empty_column_of_any_kind_is_unknown(column):
    examples = shop(places={"when": Time(np.arange(5) * DAY)})
    field = next(iter(fields_of(examples, any=[{"column": column}])))
    told = field.read(Table(2, {column: Number(np.full(2, np.nan))}), answering=True)
    assert told[:, -1].tolist() == [1, 1, 1]


def test_numbers_that_are_read_together_are_as_read_one_by_one():
    rng = np.random.default_rng(0)
    holes = rng.normal(size=40) * 100
    holes[[0, 3, 9]], holes[5], holes[6] = np.nan, np.inf, 1e300
    table = Table(
        40,
        {
            "a": Number(holes), "b": Number(rng.integers(0, 9, 40).astype(float)), "c": Number(np.full(40, np.nan)),
            "d": Number(rng.normal(size=40)), "e": Number(rng.normal(size=40)),
        },
    )  # fmt: skip
    examples = Examples.of_rows(table, np.arange(40), {"click": np.zeros(40, np.int8)})[0]
    groups = {"g": (Feature(column="a", log=True), Feature(column="b"), Feature(column="c"),
                    Feature(column="d", pieces=4), Feature(column="e", answered_as=0.5))}  # fmt: skip
    fields = Fields.of(examples, groups)
    for answering in (False, True):
        told = TableInputs.of(fields, "places", examples.places, answering=answering)
        for width, among in fields.by_width().items():
            place = list(fields.by_width()).index(width)
            for number, field in enumerate(among):
                alone = field.read(examples.places, answering=answering)
                assert np.array_equal(told.bases[place][:, number].numpy(), alone)


def test_a_block_is_a_matrix_over_the_vectors_of_its_group():
    examples = shop(places={"position": Number(np.array([0.0, 1, 0, 1, 0])), "price": Number(np.arange(5.0))})
    # Neither group has its features side by side where they are held.
    fields = fields_of(
        examples,
        first=[{"column": "price"}, {"column": "gender"}, {"column": "visited"}, {"column": "image"}],
        other=[{"column": "age"}, {"column": "position"}, {"column": "colour"}],
    )
    torch.manual_seed(0)
    net = RankNet(DCNv2(dim=4, group_dim=6), fields, ["click"])
    for functions in net.vectors.functions:
        nn.init.normal_(functions.bias)
    read = net.vectors.read(Inputs(fields, examples, ["click"]).batch(torch.arange(5)))
    vectors, held = net.vectors(read), [field for part in fields.parts() for field in part]
    for place, name in enumerate(["first", "other"]):
        block = next(each for each in net.groups.blocks if each.matrix.in_features == (16, 12)[place])
        members = vectors[:, [field.group == name for field in held]].flatten(1)
        expected = nn.functional.gelu(block.norm(block.matrix(members)))
        assert torch.allclose(block(read, net.vectors.functions), expected, atol=1e-5)


def test_no_batch_of_whole_lists_has_a_single_row():
    lengths = [4, 1, 4, 1, 4, 1, 1]
    request = np.repeat(np.arange(len(lengths)), lengths)
    places = Table(len(request), {"x": Number(np.arange(len(request), dtype=float))})
    nothing = np.full(len(request), PAD)
    examples = Examples(
        request, Table(len(lengths)), nothing, Table(0), places, {"click": np.zeros(len(request), np.int8)}
    )
    inputs = Inputs(fields_of(examples), examples, ["click"])
    for seed in range(20):
        for size in (2, 4, 5):
            batches = RankBatches(inputs, size, np.random.default_rng(seed), whole=True)
            assert min(map(len, batches)) > 1
            assert sorted(torch.cat([batch.lists for batch in batches]).tolist()) == request.tolist()


def test_one_infinite_vector_is_missing_and_changes_nothing_else():
    torn, lacking = (np.array([[1, 0], [wrong, 1], [2, 2], [1, 1]], np.float32) for wrong in (np.inf, np.nan))
    (first, _), (second, found) = (read(shop(items={"image": Vector(each)}), "image") for each in (lacking, torn))
    assert second.reader.fitted.tolist() == first.reader.fitted.tolist()
    assert found[1].tolist() == [0, 0, 1]


def test_options_are_of_the_kind_that_a_column_turns_out_to_be():
    shops = {"shop": Number(np.arange(5.0))}
    field, codes = read(shop(places=shops), "shop", hashed=100)
    assert field.kind == "category" and codes.shape == (6,)
    with pytest.raises(ConfigError, match="log is an option of number; gender is category"):
        read(shop(), "gender", log=True)
    with pytest.raises(ConfigError, match="'age' is a column of category, which cannot be read as number"):
        read(shop(), "age", answered_as="first")


def test_a_declared_position_is_answered_as_the_first_place():
    fields = fields_of(shop(), page=[{"column": "position"}])
    assert next(iter(fields)).feature.answered_as == 0


def test_the_vector_of_names_that_nobody_met_says_nothing():
    table = MeanOfNames(3, 4, 1.0)
    assert not table(torch.tensor([0, 0]), torch.tensor([0, 2])).any()
    assert not SequenceVector(3, 4, 5, 0, 1, 0.0, 1.0).names[0].any()
