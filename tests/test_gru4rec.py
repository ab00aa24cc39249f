"""GRU4Rec: its recurrence and losses by hand, sessions, and each option for what it does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds
from pydantic import ValidationError
from torch import nn

from foretaste import computing, itemloss
from foretaste.batching import Padded, SequenceBatches, Sequences
from foretaste.computing import blocks_computed
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError, MissingData
from foretaste.models.gru4rec import GRU4Rec
from foretaste.nets.gru import GRU
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sessions import by_session
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=1, device="cpu", precision="fp32")
QUICK = {"dim": 8, "length": 6, "batch_tokens": 128, "plan": TrainPlan(epochs=2, lr=0.02)}
AUTHORS = TrainPlan(epochs=12, optimizer="adagrad", lr=0.1, momentum=0.3)
EMBEDDINGS = [{"embeddings": "tied"}, {"embeddings": "separate", "embedding_dim": 5}, {"embeddings": "one_hot"}]
CORRECTIONS = ("none", "negatives", "all")
LOSSES = [
    {"loss": "softmax"},
    {"loss": "bpr_max", "negatives": 30},
    {"loss": "top1_max", "negatives": 30},
    *({"loss": "sampled_softmax", "negatives": 30, "negatives_correction": each} for each in CORRECTIONS),
]
each_embedding = pytest.mark.parametrize("embeddings", EMBEDDINGS, ids=lambda each: each["embeddings"])
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda each: "-".join(map(str, each.values())))


def of_histories(*histories: list[int], **more) -> Queries:
    return Queries(Ragged.from_lists(histories), **more)


# The recurrence.


def cell_by_cell(gru: GRU, read, kept, *, carried=True):
    """The states that torch's cell gives, one place after the other, and what is handed on."""
    cell = nn.GRUCell(gru.of_input.shape[1], gru.of_state.shape[1])
    cell.weight_ih, cell.weight_hh = gru.of_input, gru.of_state
    cell.bias_ih, cell.bias_hh = gru.input_bias, gru.state_bias
    state, handed_on = torch.zeros(read.shape[1], gru.of_state.shape[1]), []
    for place, each in zip(read, kept, strict=True):
        fresh = cell(place, state)
        handed_on.append(fresh * each)
        state = fresh * each if carried else fresh
    return torch.stack(handed_on)


def some_gru(dropout=0.0, *, carried=True):
    torch.manual_seed(4)
    gru = GRU(5, 6, dropout, carried=carried)
    for bias in (gru.input_bias, gru.state_bias):
        nn.init.normal_(bias)
    return gru, torch.randn(7, 3, 5, requires_grad=True), torch.randn(7, 3, 6)


@pytest.mark.parametrize(("dropout", "carried"), [(0.0, True), (0.3, True), (0.3, False)])
def test_the_recurrence_is_torchs_cell_step_by_step(dropout, carried):
    gru, read, weighting = some_gru(dropout, carried=carried)
    torch.manual_seed(9)
    kept = gru.dropout(torch.ones(7, 3, 6)) if dropout else torch.ones(7, 3, 6)
    expected = cell_by_cell(gru, read, kept, carried=carried)
    torch.manual_seed(9)
    found = gru(read)
    torch.testing.assert_close(found, expected)
    of = [read, *gru.parameters()]
    expected_gradients = torch.autograd.grad((expected * weighting).sum(), of)
    for one, other in zip(torch.autograd.grad((found * weighting).sum(), of), expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert bool((found == 0).any()) == (dropout > 0)


def test_the_recurrence_is_torchs_layer_and_drops_nothing_in_an_answer():
    gru, read, _ = some_gru(0.5)
    layer = nn.GRU(5, 6)
    with torch.no_grad():
        for theirs, ours in zip(layer.parameters(), gru.parameters(), strict=True):
            theirs.copy_(ours)
        torch.testing.assert_close(gru.eval()(read), layer(read)[0])


def test_weights_of_each_gate_begin_by_their_own_size():
    gru = GRU(40, 200)
    for weights, bound in ((gru.of_input, (6 / 240) ** 0.5), (gru.of_state, (6 / 400) ** 0.5)):
        for gate in weights.chunk(3):
            assert 0.98 * bound < gate.abs().max().item() <= bound
    assert not gru.input_bias.any()


def test_under_autocast_the_state_stays_in_float32_and_gradients_are_near():
    gru, read, weighting = some_gru()
    of = [read, *gru.parameters()]
    exact = gru(read)
    with torch.autocast("cpu", torch.bfloat16):
        found = gru(read)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02)
    expected = torch.autograd.grad((exact * weighting).sum(), of)
    for one, other in zip(torch.autograd.grad((found * weighting).sum(), of), expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_under_autocast_a_state_that_changes_by_little_does_not_stand_still():
    """With z = 0.999 each step adds a thousandth: a state of bf16 would stop at 0.25, where it is lost in rounding."""
    gru = GRU(None, 1)
    with torch.no_grad():
        gru.of_state.zero_()
    read = torch.tensor([0.0, np.log(999.0), 20.0]).expand(1000, 1, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert gru(read)[-1].item() == pytest.approx(1 - 0.999**1000, abs=0.02)


def test_blocks_can_be_computed_again_and_are_not_compiled(shop, monkeypatch):
    settings = GRU4Rec(**QUICK, layers=2, dropout_hidden=0.3)
    net, batch = net_and_batch(settings, shop)
    net.train()
    monkeypatch.setattr(computing.torch, "compile", None)  # unrolled over places it would take minutes
    found = []
    for again, compiled in ((False, False), (True, False), (False, True)):
        with blocks_computed(net, "gru4rec", again=again, compiled=compiled):
            torch.manual_seed(3)
            (loss,) = settings.losses(net, batch).values()
            found.append(torch.autograd.grad(loss, list(net.parameters())))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other)


# The network.


def answer_by_hand(net, history) -> np.ndarray:
    """The state after a history, in float64 and one event at a time, with a 1 behind it."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in net.state_dict().items()}
    read = weights.get("inputs.weight", weights["items.weight"])[history]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for number in range(len(net.blocks)):
        layer = {name.removeprefix(f"blocks.{number}."): each for name, each in weights.items()}
        state, states = np.zeros(layer["of_state"].shape[1]), []
        for each in read:
            seen = layer["of_input"] @ each if "of_input" in layer else each
            seen = np.split(seen + layer["input_bias"], 3)
            held = np.split(layer["of_state"] @ state + layer["state_bias"], 3)
            reset, update = sigmoid(seen[0] + held[0]), sigmoid(seen[1] + held[1])
            state = (1 - update) * np.tanh(seen[2] + reset * held[2]) + update * state
            states.append(state)
        read = np.array(states)
    return np.append(read[-1], 1.0)


@each_embedding
@pytest.mark.parametrize("layers", [1, 2])
def test_an_answer_is_the_state_after_the_last_events(shop, embeddings, layers):
    model = GRU4Rec(**QUICK, **embeddings, layers=layers, dropout_hidden=0.2).fit(shop, run=RUN)
    histories = [[3], [1, 2, 3, 1], [5, 5, 5], [9, 9, 5, 4, 3, 2, 1]]  # the last is longer than is read
    found = model.query_vectors(of_histories(*histories))
    for row, history in enumerate(histories):
        np.testing.assert_allclose(found[row], answer_by_hand(model.net, history[-6:]), rtol=1e-4, atol=1e-5)
    weights = model.state()
    scores = found[:, :-1] @ weights["items.weight"].T + weights["biases.weight"][:, 0]
    assert np.abs(weights["biases.weight"]).max() > 0.01
    np.testing.assert_allclose(model.score(of_histories(*histories))[:, :14], scores[:, :14], rtol=1e-4, atol=1e-5)


@each_embedding
def test_what_is_read_of_an_item_has_the_shape_that_is_named(shop, embeddings):
    model = GRU4Rec(**QUICK, **embeddings).fit(shop, run=RUN)
    inputs = model.state().get("inputs.weight")
    expected = {"tied": None, "separate": (15, 5), "one_hot": (15, 24)}[embeddings["embeddings"]]
    assert (None if inputs is None else inputs.shape) == expected
    assert ("blocks.0.of_input" in model.state()) == (embeddings["embeddings"] != "one_hot")


def test_a_row_of_the_one_hot_form_is_the_product_with_a_one_hot_vector(shop):
    net = GRU4Rec(**QUICK, embeddings="one_hot").net(About.of(shop)).eval()
    items = torch.tensor([[2, 7, 7, 0]])
    expected = nn.GRU(15, 8, batch_first=True)
    block = net.blocks[0]
    with torch.no_grad():
        for theirs, ours in zip(
            expected.parameters(),
            (net.inputs.weight.T, block.of_state, block.input_bias, block.state_bias),
            strict=True,
        ):
            theirs.copy_(ours)
        found = net(Padded(items))
        torch.testing.assert_close(found[..., :-1], expected(nn.functional.one_hot(items, 15).float())[0])
        assert bool((found[..., -1] == 1).all())


def test_the_first_weights_are_those_of_the_published_code(shop):
    net = GRU4Rec(dim=50, embeddings="one_hot").net(About.of(shop))
    bound = (6 / (15 + 50)) ** 0.5
    for table in (net.items.weight, *net.inputs.weight.chunk(3, 1)):
        assert 0.95 * bound < table.abs().max().item() <= bound
    assert not net.biases.weight.any()


@pytest.mark.parametrize("name", ["dropout", "dropout_hidden"])
def test_dropout_falls_on_training_alone(shop, name):
    settings = GRU4Rec(**QUICK, **{"dropout": 0.0, name: 0.5})
    net, batch = net_and_batch(settings, shop)
    net.train()
    assert not torch.equal(net(batch.history), net(batch.history))
    assert torch.equal(net.eval()(batch.history), net(batch.history))


def test_dropout_that_is_not_carried_leaves_the_last_state_to_its_own_draw(shop):
    """Of the carried one an event early in the history is lost with the draws of all later places."""
    about, history = About.of(shop), Padded(torch.zeros(1, 40, dtype=torch.int64))
    varied = {}
    for carried in (True, False):
        torch.manual_seed(0)
        net = GRU4Rec(dim=64, dropout=0.0, dropout_hidden=0.3, dropout_carried=carried).net(about).train()
        with torch.no_grad():
            last = torch.stack([net(history)[0, -1, :-1] for _ in range(30)])
        there = last != 0
        assert 0.6 < there.float().mean().item() < 0.8
        varied[carried] = torch.stack([unit[kept].std() for unit, kept in zip(last.T, there.T, strict=True)]).mean()
    assert varied[False] < 1e-6 < 1e-3 < varied[True]


# Losses.


def net_and_batch(settings, data):
    torch.manual_seed(11)
    net = settings.net(About.of(data)).eval()
    nn.init.normal_(net.biases.weight)
    sequences = settings.windows(settings.read(settings.histories(data)))
    return net, SequenceBatches(sequences, 64, np.random.default_rng(0))[0]


def scored(settings, net, batch, seed=5):
    """The loss, and beside it what it was made from: scores of all items, targets, and both sorts of negatives."""
    torch.manual_seed(seed)
    (loss,) = settings.losses(net, batch).values()
    wanted = batch.targets != PAD
    targets = batch.targets[wanted]
    torch.manual_seed(seed)
    of_batch = targets[torch.randperm(len(targets))[: settings.batch_negatives]]
    others = net.negatives.draw(settings.negatives, torch.device("cpu"))
    with torch.no_grad():
        states = net(batch.history)[wanted][:, :-1].double()
        scores = states @ net.items.weight.double().T + net.biases.weight.double()[:, 0]
    return loss.item(), scores.numpy(), targets.numpy(), of_batch.numpy(), others.numpy()


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_sampled_softmax_is_that_of_the_code_with_each_correction(shop, correction, alpha):
    settings = GRU4Rec(
        loss="sampled_softmax",
        negatives=25,
        batch_negatives=9,
        negatives_alpha=alpha,
        negatives_correction=correction,
        **QUICK,
    )
    net, batch = net_and_batch(settings, shop)
    found, scores, targets, of_batch, others = scored(settings, net, batch)
    popularity = np.maximum(net_popularity(shop), 1)
    chances = net_popularity(shop) ** alpha / (net_popularity(shop) ** alpha).sum()
    expected_count = 9 * net_popularity(shop) / net_popularity(shop).sum() + 25 * chances
    losses = []
    for row, target in zip(scores, targets, strict=True):
        first, second = of_batch[of_batch != target], others[others != target]
        if correction == "all":  # as in the published code, with logq = 1
            right = row[target] - np.log(popularity[target])
            wrong = [*(row[first] - np.log(popularity[first])), *(row[second] - alpha * np.log(popularity[second]))]
        else:
            drawn = np.concatenate([first, second])
            right, wrong = row[target], row[drawn] - (correction == "negatives") * np.log(expected_count[drawn])
        losses.append(np.log(np.exp(right) + np.exp(wrong).sum()) - right)
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def net_popularity(data) -> np.ndarray:
    return About.of(data).popularity.astype(float)


@pytest.mark.parametrize("name", ["bpr_max", "top1_max"])
def test_losses_of_pairs_meet_the_targets_of_the_batch_and_the_drawn_items(shop, name):
    settings = GRU4Rec(loss=name, negatives=12, batch_negatives=5, score_regularization=0.7, elu=0.5, **QUICK)
    net, batch = net_and_batch(settings, shop)
    found, scores, targets, of_batch, others = scored(settings, net, batch)
    scores = np.where(scores > 0, scores, 0.5 * (np.exp(scores) - 1))
    losses = []
    for row, target in zip(scores, targets, strict=True):
        drawn = np.concatenate([of_batch, others])
        wrong = row[drawn[drawn != target]]
        share = np.exp(wrong) / np.exp(wrong).sum()
        ahead = 1 / (1 + np.exp(wrong - row[target]))
        if name == "bpr_max":
            losses.append(-np.log((share * ahead).sum()) + 0.7 * (share * wrong**2).sum())
        else:
            losses.append((share * (1 - ahead + 0.7 / (1 + np.exp(-(wrong**2))))).sum())
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_corrected_sum_over_negatives_estimates_that_over_the_catalogue(shop):
    """Over many draws the mean of exp(score - correction) is the sum of exp(score) over all items but the target."""
    settings = GRU4Rec(loss="sampled_softmax", negatives=40, batch_negatives=0, negatives_alpha=0.5, **QUICK)
    net, batch = net_and_batch(settings, shop)
    _, scores, targets, _, _ = scored(settings, net, batch)
    sums = []
    for seed in range(60):
        torch.manual_seed(seed)
        drawn = net.negatives.draw(40, torch.device("cpu"))
        vectors = torch.arange(15)
        _, log_odds = settings._corrections(net, vectors, drawn[:0], drawn)
        sums.append(np.exp(scores[0, drawn] - log_odds[drawn].numpy())[drawn.numpy() != targets[0]].sum())
    others = np.delete(np.arange(14), targets[0])  # the last item has no events, and is never drawn
    assert np.mean(sums) == pytest.approx(np.exp(scores[0, others]).sum(), rel=0.1)


@each_loss
def test_each_loss_learns_the_cycle_as_its_author_trains(loss):
    world = worlds.cycle()
    settings = GRU4Rec(dim=32, length=8, dropout=0.1, batch_tokens=128, plan=AUTHORS, **loss)
    model = settings.fit(world.train, run=RUN)
    assert world.hit_rate(model) > 0.95
    assert model.training["curve"][-1]["loss"] < model.training["curve"][0]["loss"]


@each_embedding
@pytest.mark.parametrize("loss", LOSSES[1:4], ids=lambda each: each["loss"])
def test_a_gradient_in_rows_is_the_whole_one_and_touches_what_takes_part(shop, embeddings, loss):
    plan = AUTHORS.model_copy(update={"epochs": 1})
    in_rows = GRU4Rec(**{**QUICK, "plan": plan}, **embeddings, **{**loss, "negatives": 2, "batch_negatives": 1})
    found = []
    for settings in (in_rows, in_rows.model_copy(update={"plan": plan.model_copy(update={"clip": 9.0})})):
        net, _ = net_and_batch(settings, shop)
        few = SequenceBatches(Sequences(Ragged.from_lists([[2, 3], [2, 3, 3, 2]])), 8, np.random.default_rng(0))[0]
        torch.manual_seed(6)
        sum(settings.losses(net, few).values()).backward()
        found.append({name: each.grad for name, each in net.named_parameters()})
    rows, whole = found
    tables = {name for name in rows if name in ("items.weight", "biases.weight", "inputs.weight")}
    assert {name for name, each in rows.items() if each.is_sparse} == tables
    assert not any(each.is_sparse for each in whole.values())
    for name, each in rows.items():
        torch.testing.assert_close(each.to_dense(), whole[name])
        if name in tables:
            touched = set(each.coalesce().indices()[0].tolist())
            assert {2, 3} <= touched and 0 < len(touched) <= 5  # padding touches nothing
    if "inputs.weight" in tables:
        assert set(rows["inputs.weight"].coalesce().indices()[0].tolist()) == {2, 3}


def test_gradients_in_rows_are_accumulated_averaged_and_resumed(shop, tmp_path):
    plan = AUTHORS.model_copy(update={"epochs": 6, "accumulate": 2, "average": 0.9})
    settings = GRU4Rec(**{**QUICK, "plan": plan}, loss="bpr_max", negatives=20, dropout_hidden=0.1)
    whole = settings.fit(shop, run=RUN).state()

    def interrupt(message, numbers=None):
        if numbers and numbers.get("epoch") == 4 and "loss" in numbers:
            raise KeyboardInterrupt

    run = replace(RUN, checkpoints=tmp_path / "c", log=interrupt)
    with pytest.raises(KeyboardInterrupt):
        settings.fit(shop, run=run)
    resumed = settings.fit(shop, run=replace(RUN, checkpoints=tmp_path / "c", resume=True))
    assert len(resumed.training["curve"]) == 6
    assert all(np.array_equal(resumed.state()[name], array) for name, array in whole.items())


@pytest.mark.parametrize("plan", [AUTHORS, TrainPlan(epochs=12, lr=0.01), AUTHORS.model_copy(update={"clip": 5.0})])
def test_the_full_softmax_and_other_plans_take_whole_gradients(shop, plan):
    for options in ({"loss": "softmax"}, {"loss": "sampled_softmax"}):
        net = GRU4Rec(plan=plan, **options).net(About.of(shop))
        assert net.items.in_rows == (plan is AUTHORS and options["loss"] != "softmax")


@pytest.mark.parametrize("batch_negatives", [0, 3, 10_000])
def test_any_number_of_targets_may_be_negatives(shop, batch_negatives):
    settings = GRU4Rec(loss="bpr_max", batch_negatives=batch_negatives, negatives=4, **QUICK)
    assert np.isfinite(settings.fit(shop, run=RUN).training["curve"][-1]["loss"])


def test_many_items_take_the_sampled_loss_and_say_so(shop, monkeypatch):
    monkeypatch.setattr(itemloss, "FULL_UP_TO", 14)
    said = []
    model = GRU4Rec(**QUICK).fit(shop, run=replace(RUN, log=lambda message, numbers=None: said.append(message)))
    assert said[0] == (
        "gru4rec: 15 items: the loss is the softmax over 2,048 sampled ones (loss: softmax takes them all)"
    )
    assert model.settings.chosen_loss(15) == "sampled_softmax"
    assert GRU4Rec(negatives=7).chosen_loss(3) == "sampled_softmax"
    assert GRU4Rec(loss="softmax").notes(About.of(shop)) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"loss": "softmax", "negatives": 5}, "the softmax is over all items and draws no negatives"),
        ({"embedding_dim": 5}, r"embedding_dim \(5\) is the width of separate embeddings; these are tied"),
        ({"embedding_dim": 5, "embeddings": "one_hot"}, "these are one_hot"),
        ({"loss": "bpr"}, "bpr_max"),
        ({"dropout_hidden": 1.0}, "dropout_hidden"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        GRU4Rec(**wrong)


@each_embedding
def test_it_trains_in_bf16(shop, embeddings):
    for loss in ("softmax", "bpr_max"):
        settings = GRU4Rec(dim=16, length=8, loss=loss, plan=TrainPlan(epochs=6, lr=0.01), **embeddings)
        model = settings.fit(shop, run=replace(RUN, precision="bf16"))
        curve = [row["loss"] for row in model.training["curve"]]
        assert curve[-1] < curve[0]
        assert {array.dtype for array in model.state().values()} == {np.dtype("float32")}


def test_more_is_needed_for_more(shop):
    def needed(**options):
        return GRU4Rec(**options).memory_needed({"users": 10, "items": 5000, "events": 100})

    assert needed() < needed(embeddings="separate") < needed(embeddings="one_hot")
    assert needed() < needed(layers=3)
    assert needed(loss="bpr_max") < needed(loss="softmax")


# Sessions.


def visits() -> Dataset:
    """40 people in two sessions each: what comes next depends on the session's first item, never on what was before.

    The session that begins with item 0 goes on 2, 3, and that with 1 goes on 4, 5, 5; which comes first varies.
    """
    walks = [[0, 2, 3], [1, 4, 5, 5]]
    rows = [(user, session, item) for user in range(40) for session in (0, 1) for item in walks[(user + session) % 2]]
    user, session, item = map(np.array, zip(*rows, strict=True))
    items = Vocab(np.array([10, 11, 12, 13, 14, 15]))
    number = 2 * user + session
    return Dataset.from_arrays(Vocab(np.arange(40)), items, user, item, ordered=True, session=number, name="visits")


BY_SESSION = GRU4Rec(dim=16, length=8, dropout=0.0, sessions=True, batch_tokens=64, plan=TrainPlan(epochs=15, lr=0.02))


@pytest.fixture(scope="module")
def of_visits():
    return BY_SESSION.fit(visits(), run=RUN)


def test_a_session_is_learned_from_as_if_it_were_somebody_new(of_visits):
    alone = BY_SESSION.model_copy(update={"sessions": False}).fit(by_session(visits()), run=RUN)
    assert all(np.array_equal(alone.state()[name], array) for name, array in of_visits.state().items())
    whole = BY_SESSION.model_copy(update={"sessions": False}).fit(visits(), run=RUN)
    assert not np.array_equal(whole.state()["items.weight"], of_visits.state()["items.weight"])


def test_an_answer_depends_on_the_running_session_alone(of_visits):
    sessions = [[0, 1, 4, 0, 2], [5, 3, 3, 3, 2, 1, 0, 2], [0, 2]]
    asked = of_histories(*sessions, session_start=np.array([3, 6, 0]))
    found = of_visits.query_vectors(asked)
    np.testing.assert_allclose(found, found[[2, 2, 2]], rtol=1e-5, atol=1e-6)
    whole = of_visits.query_vectors(of_histories(*sessions))  # nothing is known of sessions: the history is one
    assert np.abs(whole[:2] - whole[2]).max() > 0.01
    without = BY_SESSION.model_copy(update={"sessions": False}).restore(of_visits.about, of_visits.state())
    np.testing.assert_allclose(without.query_vectors(asked), whole, rtol=1e-5, atol=1e-6)


def test_what_was_met_in_earlier_sessions_is_still_hidden_if_seen_items_are(of_visits):
    asked = of_histories([3, 0, 2], session_start=np.array([1]))
    assert 13 not in of_visits.recommend(asked, k=6).lists()[0]
    assert of_visits.recommend(asked, k=1, filter_seen=False).lists() == [[13]]


def test_a_running_session_of_unknown_items_is_like_no_history(of_visits):
    about = replace(of_visits.about, met=of_visits.about.met & (np.arange(6) != 5))
    model = BY_SESSION.restore(about, of_visits.state())
    answer = model.recommend(of_histories([0, 2, 5], session_start=np.array([2])), k=3, filter_seen=False)
    assert {answer.sources[each] for each in answer.source[0]} == {"popularity"}


def test_users_are_answered_by_their_last_session(of_visits):
    model = of_visits.with_histories(visits())
    first, second = model.recommend([0, 1], k=6, filter_seen=False).lists()
    assert first == model.recommend([[11, 14, 15, 15]], k=6, filter_seen=False).lists()[0]
    assert second == model.recommend([[10, 12, 13]], k=6, filter_seen=False).lists()[0]


def test_validation_asks_by_session_too():
    data = visits()
    asked = of_histories([5, 3, 0, 2], [2, 1, 4], session_start=np.array([2, 1]))
    holdout = Holdout(asked, Ragged.from_lists([[3], [5]]), filter_seen=False, name="validation")
    model = BY_SESSION.fit(data, holdout, RUN)
    assert model.training["best_score"] == 1.0


def test_without_sessions_the_option_says_what_is_missing():
    assert BY_SESSION.required == Needs.ORDER | Needs.SESSIONS
    with pytest.raises(MissingData, match=r"GRU4Rec needs SESSIONS; visits has .*--session-col"):
        BY_SESSION.fit(replace(visits(), session=None), run=RUN)


def test_sessions_of_one_event_are_nothing_to_learn_from():
    data = visits()
    with pytest.raises(DataError, match="visits has no session with two events, so GRU4Rec has nothing to predict"):
        BY_SESSION.fit(replace(data, session=np.arange(len(data))), run=RUN)


def test_a_running_session_of_item_ids_is_answered_and_repeats_are_the_callers_choice(of_visits):
    """What comes after 11, 14, 15 is 15 once more."""
    answer = of_visits.recommend([[11, 14, 15], [10, 12]], k=1, filter_seen=False)
    assert answer.lists() == [[15], [13]]
    assert 15 not in of_visits.recommend([[11, 14, 15]], k=6).lists()[0]
    known = of_visits.recommend([[11, 14, 15, 999]], k=1, filter_seen=False)
    assert known.lists() == [[15]]
    assert known.unknown_items == (999,)


# Edges.


@each_loss
def test_a_catalogue_of_two_items_is_learned(loss):
    """Everybody alternates: after the one comes the other."""
    walks = np.tile([0, 1], (20, 3))
    walks[::2] = 1 - walks[::2]
    users = np.repeat(np.arange(20), 6)
    data = Dataset.from_arrays(Vocab(np.arange(20)), Vocab(np.array([7, 8])), users, walks.ravel(), ordered=True)
    model = GRU4Rec(dim=8, dropout=0.0, batch_tokens=64, plan=AUTHORS, **loss).fit(data, run=RUN)
    assert model.recommend([[7], [8], [7, 8, 7]], k=1, filter_seen=False).lists() == [[8], [7], [8]]
    assert sorted(model.recommend([[]], k=5).lists()[0]) == [7, 8]


@each_loss
def test_one_item_again_and_again_is_learned_or_at_least_survived(loss):
    users = np.repeat(np.arange(5), 4)
    data = Dataset.from_arrays(Vocab(np.arange(5)), Vocab(np.array([7])), users, np.zeros(20, int), ordered=True)
    model = GRU4Rec(**QUICK, **loss).fit(data, run=RUN)
    assert model.recommend([[7, 7, 7], []], k=3, filter_seen=False).lists() == [[7], [7]]
    assert all(np.isfinite(array).all() for array in model.state().values())


def test_histories_of_no_or_one_event_or_longer_than_the_window_are_answered(shop):
    model = GRU4Rec(**QUICK).fit(shop, run=RUN)
    long = [int(each) for each in np.random.default_rng(0).integers(0, 14, 50)]
    answer = model.recommend(of_histories([], [4], long, [4] * 30), k=3, filter_seen=False)
    assert [answer.sources[each] for each in answer.source[:, 0]] == ["popularity", "gru4rec", "gru4rec", "gru4rec"]
    np.testing.assert_array_equal(model.query_vectors(of_histories(long)), model.query_vectors(of_histories(long[-6:])))


def test_an_epoch_sees_every_event_of_a_long_history_and_windows_begin_at_zero():
    data = Dataset.from_arrays(
        Vocab(np.arange(1)), Vocab(np.arange(30)), np.zeros(30, int), np.arange(30), ordered=True
    )
    settings = GRU4Rec(length=7)
    rows = settings.windows(settings.histories(data))
    targets = [item for row in rows.items.lists() for item in row[1:]]
    assert sorted(targets) == list(range(1, 30))
    assert max(len(row) for row in rows.items.lists()) == 8
