"""LightGCN: smoothing against a dense matrix, answers against what was learned, the paper's loss by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import worlds
from pydantic import ValidationError
from scipy.sparse import csr_matrix

from foretaste.models.lightgcn import LightGCN, LightGCNModel, LightGCNNet
from foretaste.nets.graph import MetGraph, normalized, product
from foretaste.pairs import PairBatches, Pairs
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Unmet
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=3, device="cpu", precision="fp32")
FAST = LightGCN(dim=8, layers=3, batch_size=64, plan=TrainPlan(epochs=2, lr=0.01))


@pytest.fixture
def met() -> csr_matrix:
    """Seven users and five items, of which the last user and the last item met nothing."""
    dense = (np.random.default_rng(0).random((7, 5)) < 0.5).astype(np.float32)
    dense[-1], dense[:, -1] = 0, 0
    return csr_matrix(dense)


def dense_adjacency(met: csr_matrix) -> torch.Tensor:
    """D^(-1/2) A D^(-1/2) as the paper writes it, over users and items together."""
    users, items = met.shape
    whole = np.zeros((users + items, users + items))
    whole[:users, users:], whole[users:, :users] = met.toarray(), met.toarray().T
    root = np.sqrt(whole.sum(1).clip(1))
    return torch.from_numpy(whole / root[:, None] / root).float()


def dense_layers(
    met: csr_matrix,
    vectors: torch.Tensor,
    weights: tuple[float, ...],
    hidden: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    total, adjacency = weights[0] * vectors, dense_adjacency(met)
    if hidden is not None:
        user, item = hidden[0], hidden[1] + met.shape[0]
        adjacency[user, item] = adjacency[item, user] = 0
    for weight in weights[1:]:
        vectors = adjacency @ vectors
        total = total + weight * vectors
    return total


def test_edges_are_divided_by_the_roots_of_both_degrees(met):
    np.testing.assert_allclose(normalized(met).toarray(), dense_adjacency(met)[:7, 7:].numpy(), rtol=1e-6)


def test_a_product_is_that_of_the_dense_matrix_where_rows_and_columns_are_empty_too():
    met = csr_matrix(np.array([[0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    graph, rng = MetGraph(met, (0.5, 0.5)), torch.Generator().manual_seed(0)
    for matrix in (graph.to_users, graph.to_items):
        vectors = torch.randn(matrix.shape[1], 5, generator=rng)
        torch.testing.assert_close(product(matrix, vectors), matrix.to_dense() @ vectors)


@pytest.mark.parametrize("hidden", [None, (torch.tensor([0, 3, 3, 5, 6, 0]), torch.tensor([1, 0, 2, 3, 4, 1]))])
@pytest.mark.parametrize("weights", [(1.0,), (0.25, 0.25, 0.25, 0.25), (0.0, 0.7, -0.2)])
def test_smoothing_and_its_gradient_are_those_of_the_dense_matrix(met, weights, hidden):
    """Some of what is hidden is no edge, and one edge is hidden twice."""
    vectors, wanted = torch.randn(12, 4, requires_grad=True), torch.randn(12, 4)
    (dense_layers(met, vectors, weights, hidden) * wanted).sum().backward()
    users, items = (each.detach().requires_grad_() for each in (vectors[:7], vectors[7:]))
    with torch.autocast("cpu", torch.bfloat16):
        of_users, of_items = MetGraph(met, weights)(users, items, hidden)
    expected = dense_layers(met, vectors, weights, hidden).detach()
    torch.testing.assert_close(torch.cat([of_users, of_items]), expected)
    ((of_users * wanted[:7]).sum() + (of_items * wanted[7:]).sum()).backward()
    torch.testing.assert_close(torch.cat([users.grad, items.grad]), vectors.grad)


def test_edges_are_hidden_whatever_the_order_that_a_matrix_has_them_in(met):
    unsorted = met.copy()
    for begin, end in pairwise(met.indptr):
        unsorted.indices[begin:end] = met.indices[begin:end][::-1]
    unsorted.has_sorted_indices = False
    hidden = (torch.tensor([0, 1]), torch.from_numpy(met.indices[met.indptr[:2]].astype(np.int64)))
    for matrix, expected in zip(
        MetGraph(unsorted, (1.0,)).without(*hidden), MetGraph(met, (1.0,)).without(*hidden), strict=True
    ):
        torch.testing.assert_close(matrix.to_dense(), expected.to_dense())


@pytest.fixture
def untrained(shop):
    """A net with random weights over the shop, and the model that answers from it."""

    def build(**changes) -> tuple[LightGCNNet, LightGCNModel]:
        torch.manual_seed(1)
        settings = FAST.model_copy(update={"similarity": "dot", "temperature": 1.0, **changes})
        met, about = shop.matrix(binary=True), About.of(shop)
        graph = MetGraph(met, settings.weights_of_layers())
        unmet = Unmet(*met.nonzero(), len(shop.items)) if settings.loss == "bpr" else None
        net = LightGCNNet(settings, graph, about.popularity, unmet)
        return net, LightGCNModel(settings, about, net.answers(), shop.users)

    return build


@pytest.mark.parametrize("weights", [None, (0.1, 0.2, 0.3, 0.4), (0.0, 0.0, 0.0, 1.0)])
def test_a_user_of_training_is_answered_by_what_was_learned_and_a_stranger_lacks_only_their_own_vector(
    shop, untrained, weights
):
    net, model = untrained(layer_weights=weights)
    users, items = (each.detach().numpy() for each in net.graph(net.users, net.items))
    known = Queries.of_users(shop)
    np.testing.assert_allclose(model.item_vectors(), items, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.query_vectors(known), users, rtol=1e-4, atol=1e-6)
    own = net.graph.weights[0] * net.users.detach().numpy()
    np.testing.assert_allclose(model.query_vectors(replace(known, user=None)), users - own, rtol=1e-4, atol=1e-6)


def test_who_met_nothing_in_training_brings_nothing_of_their_own(shop):
    model = FAST.fit(shop.where(shop.user < 50), run=RUN)
    asked = Queries.of_users(shop, np.arange(50, 60))
    assert np.array_equal(model.query_vectors(asked), model.query_vectors(replace(asked, user=None)))
    known = Queries.of_users(shop, np.arange(10))
    assert not np.allclose(model.query_vectors(known), model.query_vectors(replace(known, user=None)))


@pytest.mark.parametrize("hide_edges", [True, False])
def test_the_softmax_is_over_cosines_divided_by_the_temperature(shop, untrained, hide_edges):
    net, _ = untrained(similarity="cosine", temperature=0.2, loss="softmax", hide_edges=hide_edges)
    batch = Pairs(*(torch.from_numpy(each[:3].astype(np.int64)) for each in shop.matrix(binary=True).nonzero()))
    hidden = (batch.anchor, batch.positive) if hide_edges else None
    smoothed = net.graph(net.users, net.items, hidden)
    users, items = (torch.nn.functional.normalize(each, dim=1) for each in smoothed)
    if hide_edges:
        assert not torch.equal(smoothed[1], net.graph(net.users, net.items)[1])
    expected = torch.nn.functional.cross_entropy(users[batch.anchor] @ items.T / 0.2, batch.positive)
    torch.testing.assert_close(net.losses(batch)["softmax"], expected)


def test_a_user_is_known_by_the_name_and_not_by_the_place_in_other_data(shop, untrained):
    model = untrained()[1]
    few = shop.where(shop.user >= 50)
    moved = replace(few, users=Vocab(shop.users.ids.take(np.arange(50, 60))), user=few.user - 50, catalog=None)
    asked = shop.users.lookup(np.arange(50, 60))
    found = model.with_histories(moved).recommend(asked, k=5)
    assert found.lists() == model.with_histories(shop).recommend(asked, k=5).lists()


def test_meeting_an_item_twice_is_meeting_it(shop, untrained):
    model = untrained()[1]
    once, twice = (Queries(Ragged.from_lists([each])) for each in ([1, 2, 3], [1, 2, 3, 2, 1]))
    np.testing.assert_array_equal(model.query_vectors(once), model.query_vectors(twice))


def test_scores_are_cosines_by_default(shop):
    vectors = FAST.fit(shop, run=RUN).item_vectors()
    np.testing.assert_allclose(np.linalg.norm(vectors[:-1], axis=1), 1, rtol=1e-5)


def test_bpr_is_that_of_the_paper(shop, untrained):
    net, _ = untrained(loss="bpr", l2=0.5, temperature=0.5, hide_edges=False)
    batch = Pairs(torch.tensor([0, 3, 3]), torch.tensor([1, 2, 5]))
    torch.manual_seed(5)
    losses = net.losses(batch)
    torch.manual_seed(5)
    other = net._unmet.draw(batch.anchor)
    users, items = net.graph(net.users, net.items)
    met, unmet = users[batch.anchor] @ items[batch.positive].T, users[batch.anchor] @ items[other].T
    torch.testing.assert_close(losses["bpr"], -torch.log(torch.sigmoid((met.diag() - unmet.diag()) / 0.5)).mean())
    squares = [(table[rows] ** 2).sum() for table, rows in ((net.users, batch.anchor), (net.items, batch.positive))]
    squares.append((net.items[other] ** 2).sum())
    torch.testing.assert_close(losses["l2"], 0.5 / 2 * sum(squares) / 3)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bpr"])
def test_each_loss_learns_the_board(loss):
    board = worlds.checkerboard()
    settings = FAST.model_copy(update={"loss": loss, "plan": TrainPlan(epochs=15, lr=0.01)})
    assert board.hit_rate(settings.fit(board.train, run=RUN)) == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": 2, "layer_weights": (1, 1)}, "layer_weights has 2 weights; 2 layers need 3"),
        ({"loss": "softmax", "negatives": 5}, "negatives are those of loss sampled_softmax; softmax has no such"),
        ({"l2": 0.1}, "l2 is a setting of loss bpr"),
        ({"loss": "bpr", "negatives_alpha": 0.5}, "negatives_alpha is of loss sampled_softmax; bpr draws by no"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        LightGCN(**wrong)


def test_an_epoch_has_each_pair_once_in_another_order():
    user, item = np.arange(10) // 2, np.arange(10)
    epochs = [list(PairBatches(user, item, 4, np.random.default_rng(seed))) for seed in (1, 2)]
    assert [[len(batch) for batch in batches] for batches in epochs] == [[4, 4, 2]] * 2
    orders = [torch.cat([batch.positive for batch in batches]).tolist() for batches in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    assert all((batch.anchor == batch.positive // 2).all() for batch in epochs[0])
