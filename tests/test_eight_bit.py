"""Networks in whole numbers of 8 bits: rounded as by hand, a quarter of the size, nearly the same answers."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from test_contract import FAST
from torch import nn

import foretaste.bundle
from foretaste import fitting
from foretaste.dataset import Dataset
from foretaste.eight_bit import arrays_of, in_eight_bits, load_arrays
from foretaste.errors import BundleError, ConfigError
from foretaste.evaluation import Trial
from foretaste.experiment import load_data, split_data
from foretaste.fitting import train_bundle
from foretaste.query import Queries
from foretaste.recipe import read_recipe
from foretaste.run import Run
from foretaste.sequential import SequenceSettings
from foretaste.vocab import Vocab

BENCHMARK = Path(__file__).parents[1] / "benchmarks/eight_bit.py"
NETS = [name for name, settings in FAST.items() if isinstance(settings, SequenceSettings)]
every_net = pytest.mark.parametrize("name", NETS)


@pytest.fixture(scope="module")
def walks() -> Dataset:
    """150 people who walk through 200 items, mostly to one of the next three."""
    rng = np.random.default_rng(5)
    steps = np.where(rng.random((150, 12)) < 0.9, rng.integers(1, 4, (150, 12)), rng.integers(0, 200, (150, 12)))
    item = (rng.integers(0, 200, (150, 1)) + steps.cumsum(1)) % 200
    user = np.repeat(np.arange(150), 12)
    time = np.tile(np.arange(12), 150) * 3_600_000
    return Dataset.from_arrays(Vocab(np.arange(150)), Vocab(np.arange(200)), user, item.ravel(), time=time)


@pytest.fixture(scope="module")
def fitted(walks):
    """A net of the contract, wider, fitted once."""

    def fit(name):
        settings = FAST[name]
        plan = settings.plan.model_copy(update={"epochs": 6})
        return settings.model_copy(update={"dim": 64, "plan": plan}).fit(walks, run=Run(seed=1, device="cpu"))

    return cache(fit)


def small_net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(20, 16), nn.LayerNorm(16), nn.Linear(16, 3), nn.Linear(3, 2))


def test_each_row_is_rounded_to_255_levels_as_by_hand():
    net = small_net()
    net[0].weight.data[4] = 0
    matrix = net[0].weight.detach().numpy()
    arrays = arrays_of(in_eight_bits(net))
    scales = np.abs(matrix).max(1, keepdims=True) / 127
    numbers = np.rint(matrix / np.where(scales > 0, scales, 1))
    assert arrays["0.weight"].dtype == np.int8
    assert np.array_equal(arrays["0.weight"], numbers)
    np.testing.assert_allclose(arrays["0.weight.scales"], scales)
    assert (np.abs(arrays["0.weight"]).max(1) == np.where(scales[:, 0] > 0, 127, 0)).all()
    read = torch.randn(5, 20)
    expected = read.numpy() @ (numbers * scales).T + net[0].bias.detach().numpy()
    np.testing.assert_allclose(in_eight_bits(net)[0](read).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_vectors_and_narrow_matrices_stay_as_they_are_and_so_does_the_net():
    net = small_net()
    before = arrays_of(net)
    arrays = arrays_of(in_eight_bits(net))
    packed = {name for name, array in arrays.items() if array.dtype == np.int8}
    assert packed == {"0.weight", "2.weight"}
    assert arrays.keys() == before.keys() | {f"{name}.scales" for name in packed}
    assert all(np.array_equal(arrays[name], before[name]) for name in before.keys() - packed)
    assert all(np.array_equal(array, before[name]) for name, array in arrays_of(net).items())


def test_rounded_again_nothing_changes():
    once = in_eight_bits(small_net())
    one, two = arrays_of(once), arrays_of(in_eight_bits(once))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_what_was_taken_of_a_net_can_be_given_to_another():
    plain, packed = small_net(), in_eight_bits(small_net())
    for source in (plain, packed):
        net = small_net()
        nn.init.ones_(net[0].weight)
        load_arrays(net, arrays_of(source))
        assert all(np.array_equal(array, arrays_of(net)[name]) for name, array in arrays_of(source).items())
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_arrays(nn.Sequential(nn.Linear(20, 17)), {"0.weight": np.ones((16, 20), np.float32)})
    with pytest.raises(RuntimeError, match=r"0\.weight is int8 and has no scales"):
        load_arrays(small_net(), {name: array for name, array in arrays_of(packed).items() if "scales" not in name})


@every_net
def test_answers_are_nearly_the_same(name, fitted, walks):
    model = fitted(name)
    packed = model.in_eight_bits()
    queries = Queries.of_users(walks)
    scores, rounded = (each._scores(queries).numpy() for each in (model, packed))
    finite = np.isfinite(scores)
    assert np.array_equal(finite, np.isfinite(rounded))
    error = np.abs(scores - rounded)[finite]
    assert 0 < error.max() < 0.25 * scores[finite].std()
    one, two = (each.recommend(queries, k=10).items for each in (model, packed))
    shared = [len(set(first) & set(second)) for first, second in zip(one.tolist(), two.tolist(), strict=True)]
    assert np.mean(shared) >= 9


@every_net
def test_in_a_bundle_it_takes_a_quarter_and_answers_the_same(name, fitted, walks, tmp_path):
    model = fitted(name).with_histories(walks)
    model.metrics = {"validation ndcg@10": 0.5}
    packed = model.in_eight_bits()
    model.save(tmp_path / "plain")
    packed.save(tmp_path / "packed")
    plain, small = ((tmp_path / each / "weights.safetensors").stat().st_size for each in ("plain", "packed"))
    assert small < 0.32 * plain
    again = foretaste.bundle.load(tmp_path / "packed")
    assert type(again) is type(model)
    assert again.settings == model.settings
    assert again.state().keys() == packed.state().keys()
    assert all(np.array_equal(array, again.state()[part]) for part, array in packed.state().items())
    assert {array.dtype for array in again.state().values()} >= {np.dtype(np.int8)}
    assert (again.metrics, model.metrics) == ({}, {"validation ndcg@10": 0.5})  # those were measured of the other
    assert again.training == model.training
    for ask in ([3, 7], [[1, 2, 3]]):
        one, two = packed.recommend(ask, k=5), again.recommend(ask, k=5)
        assert np.array_equal(one.items, two.items)
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)


@pytest.mark.parametrize("refit", [False, True])
def test_a_bundle_can_be_trained_into_eight_bits_and_states_their_quality(refit, walks, tmp_path, monkeypatch):
    judged = []
    plain = fitting._validated
    monkeypatch.setattr(fitting, "_validated", lambda model, *rest: judged.append(model) or plain(model, *rest))
    settings = FAST["sasrec"].model_copy(update={"dim": 32})
    train_bundle(settings, walks, tmp_path / "bundle", Run(device="cpu"), refit=refit, eight_bit=True)
    model = foretaste.bundle.load(tmp_path / "bundle")
    assert model.state()["items.weight"].dtype == judged[0].state()["items.weight"].dtype == np.int8
    assert "validation ndcg@10" in model.metrics
    assert ("refitted_epochs" in model.training) == refit


def test_only_networks_can_be_kept_in_eight_bits(walks, tmp_path):
    with pytest.raises(ConfigError, match="ease keeps no weights in 8 bits; the sequence models do"):
        train_bundle(FAST["ease"], walks, tmp_path / "bundle", Run(), eight_bit=True)


def test_a_bundle_of_another_size_is_refused(fitted, tmp_path, monkeypatch):
    model = fitted("sasrec").in_eight_bits()
    arrays = model.state()
    monkeypatch.setattr(model, "state", lambda: arrays | {"items.weight": arrays["items.weight"][:-1]})
    model.save(tmp_path / "bundle")
    with pytest.raises(BundleError, match="does not fit its arrays"):
        foretaste.bundle.load(tmp_path / "bundle")


RECIPE = """
name: tiny
data: {shop: {users: 60, items: 80, events: 900, categories: 4}}
split: {kind: leave_one_out}
models: {sasrec: {}}
"""


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    spec = importlib.util.spec_from_file_location("eight_bit_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_measures_both_on_the_test_part_of_a_recipe(benchmark, tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = read_recipe(str(tmp_path / "tiny.yaml"))
    split = split_data(recipe, load_data(recipe.data, recipe.split.kind, None, Run()), None)
    settings = FAST["sasrec"].model_copy(update={"dim": 64})
    model = settings.fit(split.train, run=Run(device="cpu"))
    model.save(tmp_path / "bundle")
    arguments = [str(tmp_path / "bundle"), str(tmp_path / "tiny.yaml"), "--rounds", "2"]
    assert benchmark.main([*arguments, "--out", str(tmp_path / "result.json")]) == 0
    assert "of 10 items are the same" in capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())["results"]
    one, two = result["rows"]["float32"], result["rows"]["int8"]
    trial = Trial.of(split.test, train=split.final, k=(10,))
    for row, each in ((one, model), (two, model.in_eight_bits())):
        assert row["ndcg@10"]["mean"] == pytest.approx(trial.entry("x", each).metrics["ndcg@10"].mean)
        assert row["seconds_per_1000_queries"]["median"] > 0
    assert result["loss"]["ndcg@10"] == pytest.approx(one["ndcg@10"]["mean"] - two["ndcg@10"]["mean"])
    assert two["weights_bytes"] < 0.3 * one["weights_bytes"]
    assert result["shared_of_10"] > 9
    other = settings.fit(split.train.where(split.train.item > 3))
    other.save(tmp_path / "other")
    assert benchmark.main([str(tmp_path / "other"), str(tmp_path / "tiny.yaml")]) == 1
    assert "was fitted on other data than recipe" in capsys.readouterr().err
