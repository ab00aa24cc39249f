"""GraphSAGE: layers against a dense computation, what is drawn and what is withheld, people and items never met."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch
import worlds
from pydantic import ValidationError
from scipy.sparse import csr_matrix

from foretaste.catalog import Category, Table
from foretaste.dataset import Dataset, Needs
from foretaste.errors import MissingData
from foretaste.models.graphsage import GraphSAGE, GraphSAGENet
from foretaste.nets import sage
from foretaste.nets.sage import ITEMS, USERS, MeetingGraph, Neighbors, SageLayers, Withheld, drawn_places
from foretaste.nets.towers import unit
from foretaste.pairs import PairBatches, Pairs
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run, silent
from foretaste.side_inputs import UserColumns
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=3, device="cpu", precision="fp32")
FAST = GraphSAGE(dim=8, fanouts=(4, 3), batch_size=64, plan=TrainPlan(epochs=2, lr=0.01))
AGGREGATORS = pytest.mark.parametrize("heads", [None, 1, 2], ids=["mean", "attention", "two heads"])
NOTHING = Withheld(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))


def with_(**changes) -> GraphSAGE:
    return FAST.model_copy(update=changes)


def everything_random(net: torch.nn.Module) -> None:
    for each in net.parameters():
        torch.nn.init.normal_(each, std=0.5)


def net_of(data: Dataset, settings: GraphSAGE = FAST) -> GraphSAGENet:
    """A net with random weights in all its parts."""
    torch.manual_seed(0)
    people = data.catalog.users if settings.user_features else Table(len(data.users))
    columns = UserColumns.of(people)
    graph = MeetingGraph(data.matrix(binary=True))
    net = GraphSAGENet(settings, About.of(data), columns, graph, columns.codes(people, len(data.users)))
    everything_random(net)
    return net


@pytest.fixture
def met() -> np.ndarray:
    """Seven users and five items, of which the last user and the last item met nothing."""
    dense = (np.random.default_rng(0).random((7, 5)) < 0.5).astype(np.float32)
    dense[-1], dense[:, -1] = 0, 0
    return dense


# The layers.


def dense_mean(layer, own, others, adjacency):
    """The mean of the rows of ``others`` by a dense matrix of who is whose neighbour."""
    return torch.from_numpy(adjacency / adjacency.sum(1, keepdims=True).clip(1)) @ others


def dense_attention(layer, own, others, adjacency):
    """Node by node and head by head as in the papers."""
    attention, rows = layer.attention, []
    width = own.shape[1] // attention.heads
    queries, keys, values = attention.queries(own), others @ attention.keys.T, others @ attention.values.T
    for node, row in enumerate(adjacency.astype(bool)):
        parts = []
        for head in range(attention.heads):
            part = slice(head * width, (head + 1) * width)
            chances = torch.softmax(keys[row, part] @ queries[node, part] / width**0.5, 0)
            parts.append(chances @ values[row, part] if row.any() else torch.zeros(width))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def dense_layers(layers: SageLayers, users, items, met):
    """The vectors of all users and items after each layer, by h' = unit(h + m + network(h, m))."""
    states = [(users, items)]
    heard = dense_mean if layers.users[0].attention is None else dense_attention
    for of_users, of_items in zip(layers.users, layers.items, strict=True):
        users, items = states[-1]
        told = heard(of_users, users, items, met), heard(of_items, items, users, met.T)
        parts = [
            own + message + layer.network.layers(torch.cat([own, message], 1))
            for layer, own, message in zip((of_users, of_items), (users, items), told, strict=True)
        ]
        states.append(tuple(unit(part) for part in parts))
    return states


def random_layers(heads, count=3, hidden=(6,)) -> SageLayers:
    torch.manual_seed(1)
    layers = SageLayers(4, count, heads, hidden, 0.0)
    everything_random(layers)
    return layers


@AGGREGATORS
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_whole_neighbourhood_gives_what_the_dense_computation_gives(met, heads, count):
    layers, graph = random_layers(heads, count), MeetingGraph(csr_matrix(met))
    users, items = torch.randn(7, 4), torch.randn(5, 4)
    inputs = {USERS: (users, torch.arange(7)), ITEMS: (items, torch.arange(5))}
    expected = dense_layers(layers, users, items, met)[-1]
    for kind, vectors, wanted in ((USERS, users, expected[0]), (ITEMS, items, expected[1])):
        roots = torch.arange(len(vectors)).flip(0)
        tree = graph.tree(kind, roots, (9,) * count, NOTHING, roots)
        torch.testing.assert_close(layers(tree, vectors[roots], inputs), wanted[roots], rtol=1e-4, atol=1e-5)


@AGGREGATORS
def test_answers_over_the_whole_graph_are_those_of_the_dense_computation(met, heads, monkeypatch):
    layers, graph = random_layers(heads), MeetingGraph(csr_matrix(met))
    users, items = torch.randn(7, 4), torch.randn(5, 4)
    expected = dense_layers(layers, users, items, met)
    monkeypatch.setattr(sage, "PLACES", 4)  # a few nodes at a time
    states = layers.item_states(items, layers.heard_by_items(graph, users, items))
    for found, (_, wanted) in zip(states, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    read = Ragged.from_lists([np.flatnonzero(row) for row in met])
    history = Neighbors(torch.from_numpy(read.values.astype(np.int64)), torch.from_numpy(read.offsets))
    for found, (wanted, _) in zip(layers.user_states(users, history, states), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_layer_begins_as_the_sum_of_a_node_and_the_mean_of_its_neighbours(met):
    torch.manual_seed(1)
    users, items = torch.randn(7, 4), torch.randn(5, 4)
    graph = MeetingGraph(csr_matrix(met))
    mean = items + dense_mean(None, items, users, met.T)
    for heads, hidden in ((None, ()), (None, (5, 6))):
        layers = SageLayers(4, 1, heads, hidden, 0.3).eval()
        found = layers.item_states(items, layers.heard_by_items(graph, users, items))[-1]
        torch.testing.assert_close(found, unit(mean))


def test_every_weight_is_learned_by_either_aggregator(shop):
    for aggregator in ("mean", "attention"):
        settings = with_(aggregator=aggregator, item_features=True, user_embedding=True, hidden=(6,))
        net = net_of(shop, settings)
        next(iter(net.losses(batch_of(shop)).values())).backward()
        without = [name for name, each in net.named_parameters() if each.grad is None or not each.grad.abs().sum()]
        assert without == []


# What is drawn.


def test_each_set_of_neighbours_is_as_likely_as_any_other():
    torch.manual_seed(0)
    draws = drawn_places(torch.full((40_000,), 6), 3)
    found = Counter(tuple(sorted(row)) for row in draws.tolist())
    sets = list(combinations(range(6), 3))
    assert found.keys() == set(sets)
    counts = np.array([found[each] for each in sets])
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 44  # chi-square with 19 degrees of freedom: one in a thousand


def test_of_a_short_row_all_is_drawn_and_of_a_long_one_nothing_twice():
    torch.manual_seed(0)
    lengths = torch.tensor([0, 1, 4, 5, 1_000_000])
    for row, length in zip(drawn_places(lengths, 4).tolist(), lengths.tolist(), strict=True):
        there = [place for place in row if place != PAD]
        assert len(there) == len(set(there)) == min(4, length)
        assert all(0 <= place < length for place in there)
    assert drawn_places(lengths, 0).shape == (5, 0)


def test_what_is_drawn_is_of_the_neighbourhood(shop):
    torch.manual_seed(0)
    met = shop.matrix(binary=True)
    for kind, rows in ((USERS, met), (ITEMS, csr_matrix(met.T))):
        graph, nodes = MeetingGraph(met), torch.tensor([3, 3, 14, 0])
        for found in (graph.drawn(kind, nodes, 5), graph.spread(kind, nodes, 5)):
            for row, node in enumerate(nodes.tolist()):
                theirs = found.nodes[found.offsets[row] : found.offsets[row + 1]].tolist()
                own = rows.indices[rows.indptr[node] : rows.indptr[node + 1]].tolist()
                assert len(theirs) == len(set(theirs)) == min(5, len(own))
                assert set(theirs) <= set(own)


def test_what_is_spread_is_always_the_same_and_from_end_to_end():
    graph = MeetingGraph(csr_matrix(np.ones((2, 100))))
    found = graph.spread(USERS, torch.tensor([0, 1]), 4)
    assert found.nodes.tolist() == [0, 25, 50, 75] * 2


def test_a_batch_draws_no_more_than_its_fanouts_whatever_the_degrees():
    user, item = np.repeat([0, 1], [50_000, 3]), np.concatenate([np.arange(50_000), [1, 2, 3]])
    met = csr_matrix((np.ones(len(user)), (user, item)), shape=(2, 50_000))
    tree = MeetingGraph(met).tree(USERS, torch.zeros(7, dtype=torch.long), (10, 5, 4), NOTHING, torch.zeros(7).long())
    assert len(tree.hops[0].nodes) == 70
    assert all(len(hop.nodes) <= most for hop, most in zip(tree.hops, (70, 350, 1400), strict=True))


# What is withheld.


def batch_of(data, size=16, seed=0) -> Pairs:
    user, item = data.matrix(binary=True).nonzero()
    return PairBatches(user, item, size, np.random.default_rng(seed))[0]


def edges_of(tree) -> list[tuple[int, int, int]]:
    """(root, user, item) of each edge in the trees."""
    found, nodes, roots, kind = [], tree.roots, torch.arange(len(tree.roots)), tree.kind
    for hop in tree.hops:
        rows = hop.rows()
        pair = (nodes[rows], hop.nodes) if kind == USERS else (hop.nodes, nodes[rows])
        found += zip(roots[rows].tolist(), pair[0].tolist(), pair[1].tolist(), strict=True)
        nodes, roots, kind = hop.nodes, roots[rows], ITEMS if kind == USERS else USERS
    return found


def test_the_edge_of_a_pair_is_nowhere_in_its_tree_nor_in_that_of_its_item(shop):
    torch.manual_seed(0)
    graph, batch = MeetingGraph(shop.matrix(binary=True)), batch_of(shop)
    user, item = batch.anchor, batch.positive
    withheld, pairs = Withheld(user, item), set(zip(user.tolist(), item.tolist(), strict=True))
    for _ in range(20):
        people = edges_of(graph.tree(USERS, user, (20, 10, 10), withheld, item))
        assert not any((who, what) == (int(user[root]), int(item[root])) for root, who, what in people)
        assert any((who, what) in pairs for _, who, what in people)  # that of another pair may be seen
        items = torch.unique(item)
        offered = edges_of(graph.tree(ITEMS, items, (20, 10, 10), withheld, items))
        assert not any(what == int(items[root]) and (who, what) in pairs for root, who, what in offered)
        assert any((who, what) in pairs for _, who, what in offered)


def test_nothing_else_is_withheld(shop):
    graph, batch = MeetingGraph(shop.matrix(binary=True)), batch_of(shop)
    user, item = batch.anchor, batch.positive
    met = {(who, what) for who, what in zip(shop.user.tolist(), shop.item.tolist(), strict=True)}
    seen = {(root, what) for root, _, what in edges_of(graph.tree(USERS, user, (99,), Withheld(user, item), item))}
    for root, (who, positive) in enumerate(zip(user.tolist(), item.tolist(), strict=True)):
        assert {what for at, what in seen if at == root} == {what for by, what in met if by == who} - {positive}


def test_an_item_that_is_forgotten_hears_nobody_and_brings_only_what_is_said_of_it(shop):
    net = net_of(shop, with_(item_features=True))
    forgotten = torch.arange(15) % 2 == 0
    withheld, items = Withheld(torch.empty(0).long(), torch.empty(0).long(), forgotten), torch.arange(15)
    tree = net.graph.tree(ITEMS, items, (4, 3), withheld, items)
    assert tree.hops[0].lengths[forgotten].tolist() == [0] * 8
    assert (tree.hops[0].lengths[~forgotten] > 0).sum() == 7
    vectors, row_of = net._some(ITEMS, items, forgotten)
    own = net.items.weight * ~forgotten.unsqueeze(1)
    torch.testing.assert_close(vectors[row_of], own + net.items.said())


def test_only_items_of_which_something_is_said_are_forgotten(shop):
    net = net_of(shop, with_(item_features=True, item_forgetting=0.99))
    found = torch.stack([net._forgotten() for _ in range(200)])
    assert torch.equal(found.any(0), net.items.described)
    assert net_of(shop)._forgotten() is None


# The loss.


def test_the_loss_is_the_softmax_over_cosines_with_logits_corrected_by_what_was_expected(shop):
    settings = with_(fanouts=(99, 99), negatives=5, temperature=0.5)
    net, batch = net_of(shop, settings), batch_of(shop, 4)
    torch.manual_seed(7)
    found = net.losses(batch)["in-batch softmax"]
    torch.manual_seed(7)
    drawn = net._negatives.draw(5, torch.device("cpu"))
    there = torch.cat([batch.positive, drawn])
    user, positive = batch.anchor.tolist(), batch.positive.tolist()
    nobody = torch.zeros(60, 8)

    def seen(item: int, *, by: int | None = None):
        """The users or the items by a graph without the edges of this item that are in the batch, or one of them."""
        met = shop.matrix(binary=True).toarray()
        for who, what in zip(user, positive, strict=True):
            if what == item:
                met[who, what] = 0
        return dense_layers(net.layers, nobody, net.items.vectors(), met)[-1]

    items = {item: seen(item)[1][item] for item in set(there.tolist())}
    degree = np.bincount(shop.matrix(binary=True).indices, minlength=15)
    expected = 4 * degree / degree.sum() + 5 * (degree > 0) / (degree > 0).sum()
    total = 0.0
    for who, item in zip(user, positive, strict=True):
        person = seen(item)[0][who]
        others = [each for each in there.tolist() if each != item]
        against = [items[each] @ person / 0.5 - float(np.log(expected[each])) for each in others]
        total = total - torch.log_softmax(torch.stack([items[item] @ person / 0.5, *against]), 0)[0]
    torch.testing.assert_close(found, total / 4, rtol=1e-4, atol=1e-4)


def test_of_somebody_of_whom_nothing_is_known_nothing_is_learned(shop):
    """A user with a single item has no history beside it."""
    first = shop.where(np.isin(np.arange(len(shop)), shop.offsets[:-1]))
    net = net_of(first)
    loss = net.losses(batch_of(first, 60))["in-batch softmax"]
    loss.backward()
    assert loss.item() == 0.0
    assert all(not each.grad.abs().sum() for each in net.parameters() if each.grad is not None)


def test_where_people_bring_nothing_they_are_not_drawn_at_the_end_of_a_tree(shop):
    assert net_of(shop)._fanouts(USERS) == (4, 0)
    assert net_of(shop)._fanouts(ITEMS) == (4, 3)
    assert net_of(shop, with_(fanouts=(4,)))._fanouts(ITEMS) == (0,)
    assert net_of(shop, with_(user_embedding=True))._fanouts(USERS) == (4, 3)


# Fits.


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[each], second[each]) for each in first)


@pytest.mark.parametrize("aggregator", ["mean", "attention"])
def test_resumed_it_ends_with_the_weights_of_one_that_was_never_interrupted(shop, tmp_path, aggregator):
    plan = TrainPlan(epochs=5, lr=0.01, accumulate=2)
    settings = with_(aggregator=aggregator, item_features=True, user_embedding=True, hidden=(6,), plan=plan)
    whole = settings.fit(shop, run=RUN).state()

    def interrupt(message, numbers=None):
        if numbers and numbers.get("epoch") == 3 and "loss" in numbers:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settings.fit(shop, run=replace(RUN, checkpoints=tmp_path / "c", log=interrupt))
    resumed = settings.fit(shop, run=replace(RUN, checkpoints=tmp_path / "c", resume=True))
    assert same(resumed.state(), whole)


def test_attention_learns_the_board_and_bridges():
    settings = GraphSAGE(
        dim=16, fanouts=(5, 3), aggregator="attention", batch_size=64, plan=TrainPlan(epochs=20, lr=0.01)
    )
    board, bridges = worlds.checkerboard(), worlds.bridges()
    assert board.hit_rate(settings.fit(board.train, run=RUN)) == 1.0
    assert bridges.hit_rate(settings.fit(bridges.train, run=RUN), k=2) > 0.9


@pytest.mark.parametrize("aggregator", ["mean", "attention"])
def test_half_precision_learns_the_board(aggregator):
    board, run = worlds.checkerboard(), replace(RUN, precision="bf16")
    settings = with_(aggregator=aggregator, hidden=(8,), plan=TrainPlan(epochs=20, lr=0.02))
    assert board.hit_rate(settings.fit(board.train, run=run)) == 1.0


@pytest.mark.parametrize("fanouts", [(4,), (4, 3, 2)])
def test_fewer_and_more_layers_learn_the_board(fanouts):
    board = worlds.checkerboard()
    settings = with_(fanouts=fanouts, hidden=(8,), plan=TrainPlan(epochs=20, lr=0.02))
    assert board.hit_rate(settings.fit(board.train, run=RUN)) == 1.0


def test_one_connected_pair_and_nodes_without_any_are_fitted():
    tiny = Dataset.from_arrays(Vocab(np.arange(3)), Vocab(np.arange(4)), np.array([1]), np.array([2]), name="tiny")
    for changes in ({}, {"aggregator": "attention"}, {"user_embedding": True, "fanouts": (2, 2, 2)}):
        model = with_(**changes).fit(tiny, run=RUN)
        assert model.recommend([[], [2], [0]], k=9, filter_seen=False).lists()[1][0] == 2
        assert np.isfinite(model.query_vectors(Queries(Ragged.from_lists([[2]])))).all()


def test_somebody_with_fifty_thousand_events_is_fitted_and_asks():
    user = np.concatenate([np.zeros(50_000, int), np.arange(1, 300)])
    item = np.concatenate([np.arange(50_000) % 20_000, np.arange(299) % 50])
    huge = Dataset.from_arrays(Vocab(np.arange(300)), Vocab(np.arange(20_000)), user, item, time=np.arange(len(user)))
    settings = with_(aggregator="attention", batch_size=4096, plan=TrainPlan(epochs=1))
    model = settings.fit(huge, run=RUN).with_histories(huge)
    answer = model.recommend([0, 5], k=3, filter_seen=False)
    assert (answer.source == 0).all()


# Answers.


@pytest.fixture(scope="module", params=["mean", "attention"])
def fitted(request, shop):
    return with_(aggregator=request.param, hidden=(6,)).fit(shop, run=RUN)


def test_an_answer_is_the_same_whenever_and_with_whomever_it_is_asked(fitted, shop):
    queries = Queries.of_users(shop)
    first = fitted.query_vectors(queries)
    torch.manual_seed(5)
    assert np.array_equal(fitted.query_vectors(queries), first)
    assert np.array_equal(fitted.item_vectors(), fitted.item_vectors())
    for rows in (np.array([3]), np.array([50, 3, 7]), np.arange(59, -1, -1)):
        np.testing.assert_allclose(fitted.query_vectors(queries.take(rows)), first[rows], rtol=1e-4, atol=1e-5)


def test_a_history_means_the_same_in_any_order_and_whoever_asks(fitted, shop):
    histories = [[1, 2, 3], [3, 1, 2, 2, 1]]
    one, other = (fitted.query_vectors(Queries(Ragged.from_lists([each]))) for each in histories)
    np.testing.assert_array_equal(one, other)
    known = Queries.of_users(shop)
    np.testing.assert_array_equal(fitted.query_vectors(known), fitted.query_vectors(replace(known, user=None)))


def test_of_a_long_history_the_latest_events_are_read(fitted, monkeypatch):
    monkeypatch.setattr("foretaste.models.graphsage.MOST_HEARD", 3)
    long, latest = (Queries(Ragged.from_lists([each])) for each in ([9, 9, 8, 1, 2, 3], [1, 2, 3]))
    np.testing.assert_array_equal(fitted.query_vectors(long), fitted.query_vectors(latest))


def test_scores_are_cosines(fitted, shop):
    for vectors in (fitted.item_vectors()[:-1], fitted.query_vectors(Queries.of_users(shop))):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)


def test_nothing_of_the_graph_is_kept_but_what_items_hear(fitted):
    arrays = {name: array for name, array in fitted.state().items() if not name.startswith("net.layers.")}
    assert {name for name, array in arrays.items() if array.size > 1} == {"heard", "net.items.weight"}
    assert fitted.state()["heard"].shape == (15, 2, 8)
    assert not fitted.state()["heard"][-1].any()
    assert fitted.state()["heard"][:-1, 1].any(1).all()


def test_a_user_of_training_is_known_by_the_name(shop, tmp_path):
    from foretaste.bundle import load

    settings = with_(user_embedding=True, user_dropout=0.2, plan=TrainPlan(epochs=4, lr=0.05))
    model = settings.fit(shop, run=RUN).with_histories(shop)
    users = shop.users.lists()[50:]
    few = shop.where(shop.user >= 50)
    moved = replace(few, users=Vocab(shop.users.ids.take(np.arange(50, 60))), user=few.user - 50, catalog=None)
    assert model.with_histories(moved).recommend(users, k=5).lists() == model.recommend(users, k=5).lists()
    known = model.ask(users).queries
    assert not np.allclose(model.query_vectors(known), model.query_vectors(replace(known, user=None)))
    model.save(tmp_path / "bundle")
    assert load(tmp_path / "bundle").recommend(users, k=5).lists() == model.recommend(users, k=5).lists()


def test_who_met_nothing_in_training_has_no_vector_that_could_answer(shop):
    settings = with_(user_embedding=True, plan=TrainPlan(epochs=2, lr=0.05))
    model = settings.fit(shop.where(shop.user < 50), run=RUN)
    nobody = Queries(Ragged.empty(60), user=np.arange(60, dtype=np.int32))
    known = ~np.isnan(model.query_vectors(nobody)).any(1)
    assert known[:50].all() and not known[50:].any()


@pytest.fixture(scope="module", params=["mean", "attention"])
def clubs(request):
    """Fitted on two clubs with items of their own genre, by features of both sides."""
    plan = TrainPlan(epochs=15, lr=0.02)
    settings = with_(item_features=True, user_features=True, aggregator=request.param, plan=plan)
    return settings.fit(worlds.clubs().newcomers.train, run=RUN)


def test_newcomers_are_answered_by_what_is_known_of_them(clubs):
    own = [set(range(6)), set(range(6, 12))]
    found = clubs.recommend(worlds.clubs().newcomers.queries, k=5)
    assert all(set(row.tolist()) <= club for row, club in zip(found.items, own, strict=True))
    assert (found.source == 0).all()
    assert (clubs.recommend(Queries(Ragged.empty(1)), k=3).source == 1).all()


def test_an_item_that_nobody_met_is_offered_and_read_by_what_is_said_of_it(clubs):
    assert clubs.answerable().all() and not clubs.about.met[[5, 11]].any()
    assert worlds.clubs().regulars.hit_rate(clubs) == 1.0
    found = clubs.recommend(Queries(Ragged.from_lists([[5], [11]])), k=4)
    assert (found.items // 6 == [[0] * 4, [1] * 4]).all()


def test_items_that_come_later_leave_all_others_as_they_were(clubs):
    later = clubs.with_items(pl.DataFrame({"item_id": [100, 101], "genre": ["chess", "dance"]}), log=silent)
    np.testing.assert_array_equal(later.item_vectors()[:12], clubs.item_vectors())
    cold = later.item_vectors()[12:] @ later.item_vectors()[[5, 11]].T
    assert cold[0, 1] > cold[0, 0] and cold[1, 0] > cold[1, 1]
    assert later.state()["heard"].shape == (14, 2, 8)


def test_new_items_hear_those_who_met_them_even_if_nothing_is_said_of_them(clubs, tmp_path):
    from foretaste.bundle import load

    regulars, train = worlds.clubs().regulars, worlds.clubs().newcomers.train
    arrivals = pl.DataFrame({"item_id": [100, 101], "genre": [None, "dance"]}, schema_overrides={"genre": pl.String})
    user, item = np.arange(1, 41, 2), np.repeat([0, 1], [20, 0])  # people of the club of chess met the first
    events = Dataset.from_arrays(
        train.users, Vocab(np.array([100, 101])), user, item, time=1_000_000 + np.arange(20), name="newer"
    )
    model = clubs.with_histories(train).with_items(arrivals, events, log=silent)
    silent_one = clubs.with_histories(train).with_items(arrivals, log=silent)
    assert silent_one.answerable()[12:].tolist() == [False, True]
    assert model.answerable()[12:].tolist() == [True, True]
    dance, chess = model.score(regulars.queries)[:, 12]
    assert chess > dance
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(load(tmp_path / "bundle").score(regulars.queries), model.score(regulars.queries))
    np.testing.assert_array_equal(
        model.item_vectors()[[*range(5), *range(6, 11)]], clubs.item_vectors()[clubs.about.met]
    )
    np.testing.assert_array_equal(model.item_vectors()[13], silent_one.item_vectors()[13])
    others = replace(events, items=Vocab(np.array([3, 4])))
    unheard = clubs.with_histories(train).with_items(arrivals, others, log=silent)
    np.testing.assert_array_equal(unheard.item_vectors(), silent_one.item_vectors())


# Settings.


def test_what_an_option_reads_must_be_there(shop):
    for option, need in (("item_features", Needs.ITEM_FEATURES), ("user_features", Needs.USER_FEATURES)):
        assert with_(**{option: True}).required == need
        with pytest.raises(MissingData):
            with_(**{option: True}).fit(shop.only(Needs.NOTHING), run=RUN)
    nobody_alike = Table(60, {"name": Category.from_list([f"n{each}" for each in range(60)])})
    with pytest.raises(MissingData, match="user_features: no column of the users of shop groups them: name"):
        alone = replace(shop, catalog=replace(shop.catalog, users=nobody_alike))
        with_(user_features=True).fit(alone, run=RUN)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"aggregator": "attention", "dim": 9}, r"dim \(9\) must be a multiple of heads \(2\)"),
        ({"fanouts": ()}, "at least 1 item"),
        ({"fanouts": (5, 0)}, "greater than 0"),
        ({"aggregator": "pool"}, "'mean' or 'attention'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        GraphSAGE(**wrong)
