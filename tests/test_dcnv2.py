"""The ranker: what it learns, what its options do, and what it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from foretaste.catalog import Categories, Category, Number, Table, Text
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.optimizers import optimizer_of, set_rate
from foretaste.ragged import PAD
from foretaste.rank.dcnv2 import DCNv2, _Losses
from foretaste.rank.examples import Examples
from foretaste.rank.features import groups_of
from foretaste.rank.fields import Fields
from foretaste.rank.inputs import Inputs, RankBatches
from foretaste.rank.metrics import auc
from foretaste.rank.net import Mixing
from foretaste.rank.saved import load_ranker
from foretaste.rank.tasks import Task, TaskLosses, tasks_of
from foretaste.run import Run
from foretaste.text_encoder import TextEncoder
from foretaste.train import TrainPlan
from foretaste.vocab import Strings

FAST = {"dim": 4, "hidden": (16, 8), "head_hidden": (8,), "cross_layers": 2, "rank": 4, "batch_size": 256}
PLAN = TrainPlan(epochs=12, lr=0.01, patience=None)
RUN = Run(device="cpu", threads=1, precision="fp32")


def crossing(count=3000, seed=0):
    """Clicks come where two codes agree, carts where a number is large; none of the three tells anything alone."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, 6, count), rng.integers(0, 6, count)
    amount = rng.normal(size=count)
    names = Strings.from_list(list("abcdef"))
    requests = Table(count, {"left": Category(left.astype(np.int32), names), "amount": Number(amount)})
    items = Table(6, {"right": Category(np.arange(6, dtype=np.int32), names)})
    labels = {"click": (left == right).astype(np.int8), "cart": (amount > 0.5).astype(np.int8)}
    return Examples(np.arange(count), requests, right.astype(np.int64), items, Table(count), labels)


def test_it_learns_what_only_pairs_of_features_tell():
    model = DCNv2(**FAST, plan=PLAN).fit(crossing(), run=RUN)
    fresh = crossing(seed=1)
    found = model.predict(fresh)
    assert auc(fresh.labels["click"], found["click"]) > 0.99
    assert auc(fresh.labels["cart"], found["cart"]) > 0.99
    assert all(chances.min() >= 0 and chances.max() <= 1 for chances in found.values())


@pytest.mark.parametrize(
    "options",
    [
        {"structure": "stacked"},
        {"hidden": ()},
        {"cross_layers": 0},
        {"rank": None},
        {"cross_experts": 3},
        {"group_dim": 8, "input_norm": "layer"},
        {"input_norm": "layer"},
        {"input_norm": "batch", "norm": "batch", "activation": "relu", "skips": False},
        {"sharing": "mmoe"},
        {"sharing": "ple", "expert_layers": 2},
        {"weighting": "uncertainty"},
        {"mixup": 0.2, "drop_path": 0.1},
        {"vector_l2": 1e-5, "layer_rate": 0.7},
        {"tasks": {"click": {"loss": "focal"}, "cart": {}}},
    ],
    ids=str,
)
def test_every_shape_of_it_learns(options):
    plan = PLAN.model_copy(update={"epochs": 25})
    model = DCNv2(**{**FAST, **options}, plan=plan).fit(crossing(2000), run=RUN)
    fresh = crossing(seed=1)
    assert auc(fresh.labels["click"], model.predict(fresh)["click"]) > 0.9


def test_same_seed_same_model():
    first, second, third = (
        DCNv2(**FAST, plan=TrainPlan(epochs=1)).fit(crossing(300), run=Run(seed, "cpu", 1)) for seed in (1, 1, 2)
    )
    one, other, different = (model.predict(crossing(50, seed=3))["click"] for model in (first, second, third))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, different)


def test_examples_one_by_one_are_those_together():
    model = DCNv2(**FAST, plan=TrainPlan(epochs=1)).fit(crossing(300), run=RUN)
    some = crossing(20, seed=5)
    together = model.predict(some)["click"]
    alone = [model.predict(some.take(np.array([row])))["click"][0] for row in range(20)]
    assert together == pytest.approx(alone, abs=1e-6)


def test_no_examples_no_answers():
    model = DCNv2(**FAST, plan=TrainPlan(epochs=1)).fit(crossing(300), run=RUN)
    nothing = model.predict(crossing(5).take(np.zeros(5, bool)))
    assert nothing["click"].shape == (0,)


def test_the_best_epoch_is_chosen_by_validation():
    plan = TrainPlan(epochs=6, lr=0.01, patience=None)
    model = DCNv2(**FAST, judged_by="log_loss", plan=plan).fit(crossing(500), crossing(500, seed=2), RUN)
    scores = [row["validation"] for row in model.training["curve"]]
    assert model.training["best_score"] == max(scores)
    held_out = crossing(500, seed=2)
    assert model.judged(held_out, model.chances(model.inputs(held_out))) == pytest.approx(max(scores))


def test_unknown_names_and_missing_columns_are_no_crash():
    told = []
    run = Run(device="cpu", threads=1, log=lambda message, numbers=None: told.append(message))
    model = DCNv2(**FAST, plan=TrainPlan(epochs=1)).fit(crossing(300), run=run)
    odd = Examples(
        np.array([0, 0]),
        Table(1, {"left": Category.from_list(["never met"])}),
        np.array([-1, 0]),
        Table(1, {"right": Category.from_list([None])}),
        Table(2),
    )
    found = model.predict(odd)
    assert found["click"][0] == pytest.approx(found["click"][1])
    model.predict(odd)
    assert [each for each in told if "unknown" in each] == ["columns that are not there count as unknown: amount"]


def test_infinite_numbers_are_not_known():
    examples = crossing(300)
    examples.requests["amount"].values[:5] = [np.inf, -np.inf, np.nan, 1e300, -1e300]
    model = DCNv2(**FAST, plan=TrainPlan(epochs=1)).fit(examples, run=RUN)
    assert np.isfinite(model.predict(examples)["click"]).all()


def test_what_training_cannot_do_without():
    examples = crossing(100)
    with pytest.raises(MissingData, match="lack the columns size"):
        DCNv2(groups={"user": ["size"]}).fit(examples, run=RUN)
    with pytest.raises(UnknownName, match="'clicks' - did you mean 'click'"):
        DCNv2(tasks={"clicks": {}}).fit(examples, run=RUN)
    with pytest.raises(DataError, match="There are 0 examples"):
        DCNv2().fit(examples.take(np.zeros(100, bool)), run=RUN)
    unlabelled = Examples(examples.request, examples.requests, examples.item, examples.items, examples.places)
    with pytest.raises(DataError, match="no labels"):
        DCNv2().fit(unlabelled, run=RUN)
    unknown = Examples(
        examples.request, examples.requests, examples.item, examples.items, examples.places,
        {"click": np.full(100, -1, np.int8)},
    )  # fmt: skip
    with pytest.raises(DataError, match="No label of click is known"):
        DCNv2().fit(unknown, run=RUN)


@pytest.mark.parametrize("value", [0, 1])
def test_a_task_that_never_or_always_comes_is_told_and_learned(value):
    told = []
    examples = crossing(2000)
    examples.labels["cart"][:] = value
    run = Run(device="cpu", threads=1, log=lambda message, numbers=None: told.append(message))
    settings = DCNv2(**FAST, plan=PLAN)
    assert settings.fit(examples, examples, RUN).training["best_score"] > 0.5  # judged by the clicks alone
    model = settings.fit(examples, run=run)
    assert f"cart: all 2,000 labels that are known are {value}; nothing can be learned of it but that" in told
    assert abs(model.predict(examples)["cart"].mean() - value) < 0.1


def test_settings_that_do_not_fit_are_refused():
    for options, words in (
        ({"cross_layers": 0, "hidden": ()}, "nothing to learn with"),
        ({"cross_experts": 2, "rank": None}, "set rank"),
        ({"tasks": {"click": {"weight": 0}}}, "weight above 0"),
        ({"tasks": {"click": {}}, "entire_space": ["click", "cart"]}, "entire_space names tasks"),
        ({"dim": 5}, "multiple of heads"),
        ({"layers": 3}, "layers"),
    ):
        with pytest.raises(ValueError, match=words):
            DCNv2(**options)


def test_weights_of_known_tasks():
    assert {name: task.weight for name, task in tasks_of(["click", "purchase", "add_to_cart"]).items()} == {
        "click": 0.4, "purchase": 0.4, "add_to_cart": 0.2,
    }  # fmt: skip
    assert tasks_of(["click"])["click"].weight == 1
    assert tasks_of(["click", "like"])["like"].weight == 1


def test_losses_are_means_over_known_labels():
    losses = TaskLosses({"click": Task(weight=0.4), "cart": Task(weight=2.0)})
    log_odds = torch.tensor([[0.3, 1.0], [-2.0, 0.5], [1.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1.0, math.nan], [0.0, math.nan], [math.nan, math.nan]])
    found = losses(losses.of_each(log_odds, labels), labels)
    expected = nn.functional.binary_cross_entropy_with_logits(log_odds[:2, 0], labels[:2, 0])
    assert found["click"].item() == pytest.approx(0.4 * expected.item())
    assert found["cart"].item() == 0
    sum(found.values()).backward()
    assert log_odds.grad.isfinite().all()
    assert not log_odds.grad[:, 1].any()
    assert not log_odds.grad[2].any()


def test_focal_loss_is_its_equation():
    losses = TaskLosses({"click": Task(loss="focal", focus=2.0), "cart": Task()})
    log_odds, labels = torch.tensor([[0.7, 0.2], [-1.5, 80.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = losses.of_each(log_odds, labels)
    chances = torch.sigmoid(log_odds[:, 0])
    expected = [-((1 - chances[0]) ** 2) * chances[0].log(), -(chances[1] ** 2) * (1 - chances[1]).log()]
    assert found[:, 0].tolist() == pytest.approx([each.item() for each in expected], rel=1e-5)
    plain = nn.functional.binary_cross_entropy_with_logits(log_odds[:, 1], labels[:, 1], reduction="none")
    assert found[:, 1].tolist() == pytest.approx(plain.tolist(), abs=1e-6)


def test_a_chain_multiplies_chances():
    names = ("buy", "like", "click", "cart")
    losses = TaskLosses({name: Task() for name in names}, chain=("click", "cart", "buy"))
    log_odds = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    own = torch.sigmoid(log_odds)
    expected = torch.stack([own[:, 2] * own[:, 3] * own[:, 0], own[:, 1], own[:, 2], own[:, 2] * own[:, 3]], 1)
    assert torch.allclose(losses.chances(log_odds), expected, atol=1e-6)
    happens, does_not = losses.log_chances(log_odds)
    assert torch.allclose(happens.exp() + does_not.exp(), torch.ones(5, 4), atol=1e-6)
    sure = losses.of_each(torch.full((1, 4), 60.0), torch.zeros(1, 4))
    assert sure.isfinite().all()


def test_uncertainty_learns_the_weights():
    losses = TaskLosses({"click": Task(weight=0.5), "cart": Task()}, uncertain=True)
    log_odds, labels = torch.zeros(4, 2), torch.ones(4, 2)
    found = losses(losses.of_each(log_odds, labels), labels)
    assert found["click"].item() == pytest.approx(0.5 * math.log(2) + math.log(2) / 2)
    sum(found.values()).backward()
    # d/ds (exp(-s) loss + s / 2)
    assert losses.uncertainty.grad.tolist() == pytest.approx([-0.5 * math.log(2) + 0.5, -math.log(2) + 0.5])
    model = DCNv2(**FAST, weighting="uncertainty", plan=PLAN).fit(crossing(500), run=RUN)
    assert (model.losses.uncertainty.detach() != torch.tensor([math.log(2.5), math.log(5)])).all()


def batch_and_net(settings):
    examples = crossing(40)
    model = settings.fit(examples, run=RUN)
    batch = Inputs(model.fields, examples, list(model.tasks)).batch(torch.arange(40))
    return batch, model


def test_mixup_mixes_hidden_states_and_all_labels():
    batch, model = batch_and_net(DCNv2(**FAST, mixup=0.2, plan=TrainPlan(epochs=1)))
    order = torch.arange(39, -1, -1)
    for place in (0, 1):
        whole = model.net(batch, Mixing(order, 1.0, place))
        assert torch.allclose(whole, model.net(batch), atol=1e-6)
        swapped = model.net(batch, Mixing(order, 0.0, place))
        assert torch.allclose(swapped, model.net(batch)[order], atol=1e-6)
        half = model.net(batch, Mixing(order, 0.5, place))
        assert torch.allclose(half, half[order], atol=1e-5)
        assert not torch.allclose(half, whole, atol=1e-3)
    losses = _Losses(model.settings, model.net, model.losses)
    losses._mixing = lambda rows, device: Mixing(order, 0.3, 0)
    found = losses(batch)
    log_odds = model.net(batch, Mixing(order, 0.3, 0))
    mixed = 0.3 * batch.labels + 0.7 * batch.labels[order]  # cross-entropy is linear in the label
    for place, (task, settings) in enumerate(model.tasks.items()):
        expected = nn.functional.binary_cross_entropy_with_logits(log_odds[:, place], mixed[:, place])
        assert found[task].item() == pytest.approx(settings.weight * expected.item(), rel=1e-5)


def test_stages_learn_by_depth():
    _, model = batch_and_net(DCNv2(**FAST, layer_rate=0.5, plan=TrainPlan(epochs=1)))
    share = {name: getattr(each, "share_of_rate", 1.0) for name, each in model.net.named_parameters()}
    assert {each for name, each in share.items() if name.startswith("heads")} == {1.0}
    assert {each for name, each in share.items() if name.startswith(("cross", "deep"))} == {0.5}
    assert {each for name, each in share.items() if name.startswith("vectors")} == {0.25}
    _, blocks = batch_and_net(DCNv2(**FAST, layer_rate=0.5, group_dim=8, plan=TrainPlan(epochs=1)))
    share = {name: getattr(each, "share_of_rate", 1.0) for name, each in blocks.net.named_parameters()}
    assert {each for name, each in share.items() if name.startswith("groups")} == {0.25}
    assert {each for name, each in share.items() if name.startswith("vectors")} == {0.125}


def test_vectors_can_be_held_small():
    loose, tight = (
        DCNv2(**FAST, vector_l2=strength, plan=PLAN).fit(crossing(400), run=RUN).net.vectors.names.weight.norm()
        for strength in (0.0, 1.0)
    )
    assert tight < loose / 10


def test_a_history_in_order_is_read():
    """The click comes where the latest of the history is 'yes', whatever stood there before."""
    rng = np.random.default_rng(0)
    rows = [list(rng.choice(["yes", "no", "maybe"], rng.integers(1, 6))) for _ in range(1500)]
    visited = Table(1500, {"visited": Categories.from_lists(rows)})
    came = np.array([row[-1] == "yes" for row in rows], np.int8)
    examples = Examples(np.arange(1500), visited, np.full(1500, -1), Table(0), Table(1500), {"click": came})
    groups = {"user": [{"column": "visited", "kind": "sequence"}]}
    model = DCNv2(**FAST, groups=groups, plan=PLAN).fit(examples, run=RUN)
    assert auc(examples.labels["click"], model.predict(examples)["click"]) > 0.99


def test_position_is_learned_from_and_fixed_when_asked():
    rng = np.random.default_rng(0)
    position = rng.integers(0, 5, 2000).astype(float)
    came = (rng.random(2000) < np.where(position == 0, 0.8, 0.05)).astype(np.int8)
    examples = Examples(
        np.arange(2000) // 5, Table(400), np.full(2000, -1), Table(0), Table(2000, {"position": Number(position)}),
        {"click": came},
    )  # fmt: skip
    model = DCNv2(**FAST, plan=PLAN).fit(examples, run=RUN)
    found = model.predict(examples)["click"]
    assert found.std() < 1e-6
    assert found[0] > 0.6  # all are asked as if they stood first


def test_a_single_example_is_too_few():
    with pytest.raises(DataError, match="There are 1 examples"):
        DCNv2().fit(crossing(1), run=RUN)
    with pytest.raises(ValueError, match="batch_size"):
        DCNv2(batch_size=1)


def test_a_checkpoint_of_other_examples_is_not_resumed(tmp_path):
    settings = DCNv2(**FAST, plan=TrainPlan(epochs=2))
    run = replace(RUN, checkpoints=tmp_path / "checkpoints", resume=True)
    examples = crossing(600)
    settings.fit(examples, run=run)
    settings.fit(examples, run=run)
    labels = {**examples.labels, "cart": 1 - examples.labels["cart"]}
    for other in (replace(examples, labels=labels), replace(examples, item=examples.item[::-1].copy())):
        assert other.fingerprint() != examples.fingerprint()
        with pytest.raises(ConfigError, match="other settings or other data, so it cannot be resumed: data"):
            settings.fit(other, run=run)


def test_the_loss_of_lists_is_that_of_choosing():
    losses = TaskLosses(tasks_of(["click", "buy"]))
    rng = np.random.default_rng(0)
    log_odds = torch.from_numpy(rng.normal(size=(9, 2)).astype(np.float32)).requires_grad_()
    lists = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    labels = torch.tensor([[1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [1, 1], [1, 0], [0, float("nan")], [0, 1]])
    found = losses.of_lists(log_odds, labels, lists)
    for task in (0, 1):
        wanted = []
        for each in range(3):
            rows = [row for row in range(9) if lists[row] == each and not torch.isnan(labels[row, task])]
            came = [row for row in rows if labels[row, task] == 1]
            if came:
                told = torch.log_softmax(log_odds[rows, task].detach(), 0)
                wanted.append(-np.mean([float(told[rows.index(row)]) for row in came]))
        assert float(found[task].detach()) == pytest.approx(np.mean(wanted), rel=1e-5)
    found.sum().backward()
    assert torch.isfinite(log_odds.grad).all()
    nothing = losses.of_lists(log_odds, torch.zeros(9, 2), lists)
    assert nothing.tolist() == [0.0, 0.0]


def test_batches_of_whole_lists():
    examples = crossing(500)
    request = np.sort(np.random.default_rng(1).integers(0, 120, 500))
    inputs = Inputs(Fields.of(examples, groups_of(examples)), replace(examples, request=request), ["click"])
    batches = RankBatches(inputs, 64, np.random.default_rng(2), whole=True)
    held = [batches[number].lists for number in range(len(batches))]
    assert sum(map(len, held)) == 500
    seen = [set(lists.tolist()) for lists in held]
    assert all(not first & second for at, first in enumerate(seen) for second in seen[:at])
    assert all(len(lists) <= 64 + np.bincount(request).max() for lists in held)
    assert sorted(row for lists in held for row in lists.tolist()) == request.tolist()
    other = RankBatches(inputs, 64, np.random.default_rng(3), whole=True)
    assert not torch.equal(other[0].lists, held[0])


def test_lists_teach_what_examples_alone_do_not():
    """A list's own level hides what is better within it; the loss of lists does not see that level."""
    rng = np.random.default_rng(0)
    lists, places = 200, 6
    level, better = rng.normal(scale=4, size=(lists, 1)), rng.normal(size=(lists, places))
    came = (better == better.max(1, keepdims=True)).astype(np.int8)
    seen = level + better
    requests = Table(lists, {"level": Number(level[:, 0] + rng.normal(scale=2, size=lists))})
    examples = Examples(
        np.repeat(np.arange(lists), places), requests, np.full(lists * places, -1), Table(0),
        Table(lists * places, {"seen": Number(seen.ravel())}), {"click": came.ravel()},
    )  # fmt: skip
    half = np.arange(lists * places) < lists * places // 2
    scores = {}
    for weight in (0.0, 1.0):
        settings = DCNv2(**{**FAST, "hidden": ()}, list_weight=weight, judged_by="ndcg", plan=PLAN)
        model = settings.fit(examples.take(half), run=RUN)
        scores[weight] = model.judged(examples.take(~half), model.chances(model.inputs(examples.take(~half))))
    assert scores[1.0] > scores[0.0] + 0.02
    with pytest.raises(ValueError, match="mixup mixes examples of different lists"):
        DCNv2(list_weight=1.0, mixup=0.2)


PLACES = ("Graz", "Wien", "Linz", "Oslo", "Rome", "Kyiv")


def of_places(count=400, seed=0):
    """Clicks come from places of three names; some rows tell no place, and of these nothing came."""
    rng = np.random.default_rng(seed)
    place = rng.integers(-1, len(PLACES), count)
    texts = Text.from_list([PLACES[each] if each >= 0 else "" for each in place.tolist()])
    labels = {"click": np.isin(place, [0, 2, 4]).astype(np.int8)}
    return Examples(np.arange(count), Table(count), np.full(count, PAD), Table(0), Table(count, {"geo": texts}), labels)


def reading_places(**options):
    feature = {"column": "geo", "kind": "text", "length": 8, **options}
    plan = TrainPlan(epochs=3, lr=0.01, patience=None)
    return DCNv2(**{**FAST, "dropout": 0.0}, groups={"user": [feature]}, plan=plan)


@pytest.mark.parametrize("options", [{}, {"pooling": "cls"}])
def test_texts_are_read_by_an_encoder_that_stays_as_it_is(options):
    model = reading_places(**options).fit(of_places(), run=RUN)
    assert model.parameters < 10_000  # the encoder is no part of it
    fresh = of_places(seed=1)
    assert auc(fresh.labels["click"], model.predict(fresh)["click"]) > 0.99
    (field,) = model.fields
    vectors = field.read(Table(2, {"geo": Text.from_list(["Graz", ""])}), answering=True)
    assert vectors.shape == (3, 385)
    assert vectors[:, -1].tolist() == [0, 1, 1]


def test_the_two_poolings_make_different_vectors():
    own, cls = (
        next(iter(reading_places(pooling=pooling).fit(of_places(40), run=RUN).fields)).read(
            Table(1, {"geo": Text.from_list(["Graz"])}), answering=True
        )
        for pooling in ("own", "cls")
    )
    assert not np.allclose(own, cls, atol=0.1)


@pytest.mark.parametrize("pooling", ["own", "cls"])
def test_the_last_layers_of_an_encoder_of_texts_can_learn(tmp_path, pooling):
    settings = reading_places(unfrozen_layers=1, encoder_lr=1e-3, pooling=pooling)
    model = settings.fit(of_places(200), run=RUN)
    before = TextEncoder("all-MiniLM-L6-v2").network
    (text,) = model.net.vectors.several
    changed = {
        name.split("encoder.layer.")[1].split(".")[0]
        for (name, old), new in zip(before.named_parameters(), text.encoder.network.parameters(), strict=True)
        if not torch.equal(old.cpu(), new)
    }
    assert changed == {"5"}  # of six
    fresh = of_places(100, seed=1)
    found = model.predict(fresh)["click"]
    assert auc(fresh.labels["click"], found) > 0.99
    # What is read in batches is what the encoder makes of each text alone; without a text it is a vector of its own.
    batch = model.inputs(fresh).batch(torch.arange(20))
    with torch.no_grad():
        vectors = text(batch.rows[0].codes, batch.rows[0].offsets)
        for row, told in enumerate(fresh.places["geo"].lists()[:20]):
            alone = text.matrix(text.encoder([told]))[0] if told else text.nothing
            torch.testing.assert_close(vectors[row], alone, atol=1e-4, rtol=1e-4)
    groups = optimizer_of(settings.plan, model.net.parameters())
    set_rate(groups, 0.01)
    assert {group["lr"] for group in groups.param_groups if group["params"]} == {0.01, 0.001}
    model.save(tmp_path / "ranker")
    np.testing.assert_allclose(load_ranker(tmp_path / "ranker").predict(fresh)["click"], found, atol=1e-6)


def test_no_text_at_all_is_no_error():
    model = reading_places(unfrozen_layers=1).fit(of_places(40), run=RUN)
    nobody = model.predict(replace(of_places(3), places=Table(3)))
    assert len(set(nobody["click"].tolist())) == 1


def test_options_of_texts_are_refused_where_texts_are_names():
    with pytest.raises(ValidationError, match="texts are read as names unless geo says so"):
        DCNv2(groups={"user": [{"column": "geo", "unfrozen_layers": 1}]})
    with pytest.raises(ConfigError, match="unfrozen_layers is 7; the encoder has 6 layers"):
        reading_places(unfrozen_layers=7).fit(of_places(40), run=RUN)
