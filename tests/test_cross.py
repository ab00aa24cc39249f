"""Cross layers against their equations, deep layers and experts against plain loops."""

import pytest
import torch
from torch import nn

from foretaste.nets.cross import CrossLayer, CrossMixture, CrossNetwork, DropPath
from foretaste.nets.deep import DeepNetwork, TaskHead
from foretaste.nets.experts import ExpertLayer, Experts

WIDTH, ROWS = 6, 5


@pytest.fixture
def states():
    torch.manual_seed(3)
    return torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)


def test_full_layer_is_its_equation(states):
    first, here = states
    layer = CrossLayer(WIDTH, None)
    weight, bias = layer.layers[0].weight, layer.layers[0].bias
    expected = torch.stack([x0 * (weight @ x + bias) for x0, x in zip(first, here, strict=True)])
    assert torch.allclose(layer(first, here), expected, atol=1e-6)


def test_low_rank_layer_is_a_full_one_of_the_product(states):
    first, here = states
    layer = CrossLayer(WIDTH, 2)
    down, up = layer.layers
    full = CrossLayer(WIDTH, None)
    full.layers[0].weight = nn.Parameter(up.weight @ down.weight)
    full.layers[0].bias = up.bias
    assert torch.allclose(layer(first, here), full(first, here), atol=1e-6)
    assert torch.linalg.matrix_rank(up.weight @ down.weight) == 2


def test_mixture_is_its_equation_expert_by_expert(states):
    first, here = states
    rank, experts = 2, 3
    layer = CrossMixture(WIDTH, rank, experts)
    gates = torch.softmax(here @ layer.gates.weight.T, 1)
    expected = torch.zeros(ROWS, WIDTH)
    for expert in range(experts):
        own = slice(expert * rank, (expert + 1) * rank)
        small = torch.tanh(torch.tanh(here @ layer.down.weight[own].T) @ layer.inner[expert])
        one = first * (small @ layer.up.weight[:, own].T + layer.up.bias)
        expected += gates[:, expert : expert + 1] * one
    assert torch.allclose(layer(first, here), expected, atol=1e-6)


def test_layers_raise_the_degree_by_one():
    torch.manual_seed(0)
    network = CrossNetwork(2, layers=2, rank=None, norm=False).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.layers[0].bias.zero_()
    row = torch.tensor([[0.7, -1.1]], dtype=torch.float64)
    lengths = torch.arange(1, 7, dtype=torch.float64)
    values = torch.stack([network(row * length)[0, 0] for length in lengths])
    powers = torch.stack([lengths**power for power in range(1, 4)], 1)  # degrees 1, 2 and 3 tell all of it
    solved = torch.linalg.lstsq(powers, values[:, None]).solution
    assert torch.allclose(powers @ solved, values[:, None])
    assert solved[2].abs() > 1e-6


def test_norm_keeps_products_of_products_small(states):
    first, _ = states
    assert CrossNetwork(WIDTH, 6, None, norm=True)(first * 50).abs().max() < 10


def test_paths_are_dropped_by_row_in_training_alone():
    torch.manual_seed(1)
    path, added = DropPath(0.25), torch.ones(4000, 3)
    left = path(added)
    assert left.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (left == left[:, :1]).all()
    assert left.mean() == pytest.approx(1, abs=0.05)
    path.eval()
    assert torch.equal(path(added), added)


def test_later_paths_are_dropped_more_often():
    network = CrossNetwork(WIDTH, 4, 2, drop_path=0.4)
    assert [path.chance for path in network.paths] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_deep_layers_add_what_went_in(states):
    here, _ = states
    deep = DeepNetwork(WIDTH, [WIDTH, 4], 0.0)
    first, second = deep.layers
    middle = first(here) + here  # widths agree
    assert torch.allclose(deep(here), second(middle) + deep.skips[1](middle), atol=1e-6)
    assert isinstance(deep.skips[0], nn.Identity)
    plain = DeepNetwork(WIDTH, [WIDTH, 4], 0.0, "none", "relu", skips=False)
    assert torch.allclose(plain(here), plain.layers[1](plain.layers[0](here)))
    assert not [module for module in plain.modules() if isinstance(module, nn.LayerNorm)]


def test_a_head_is_a_number_per_row(states):
    here, _ = states
    head = TaskHead(WIDTH, [4, 3], 0.1)
    assert head(here).shape == (ROWS,)
    assert [type(each).__name__ for each in head.layers.layers[0]] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert TaskHead(WIDTH, [], 0.0)(here).shape == (ROWS,)


def test_experts_together_are_experts_alone(states):
    here, _ = states
    experts = Experts(WIDTH, 4, 3, 0.0)
    found = experts(here)
    for number in range(3):
        own = slice(4 * number, 4 * number + 4)
        alone = torch.relu(here @ experts.layer.weight[own].T + experts.layer.bias[own])
        assert torch.allclose(found[number], alone, atol=1e-6)


def test_mmoe_mixes_shared_experts_for_each_task(states):
    here, _ = states
    layer = ExpertLayer(WIDTH, 4, tasks=2, shared=3, own=0, dropout=0.0)
    found = layer(here.unsqueeze(0))
    assert found.shape == (2, ROWS, 4)
    gate = torch.softmax(here @ layer.gates[1].weight.T, 1)
    expected = sum(gate[:, number, None] * layer.shared(here)[number] for number in range(3))
    assert torch.allclose(found[1], expected, atol=1e-6)


def test_ple_keeps_own_experts_apart(states):
    here, _ = states
    layer = ExpertLayer(WIDTH, 4, tasks=2, shared=1, own=2, dropout=0.0, last=False)
    found = layer(here.unsqueeze(0))
    assert found.shape == (3, ROWS, 4)  # a state for each task, and one for the next layer's shared experts
    found[0].sum().backward()
    assert layer.own[0].layer.weight.grad.any()
    assert not layer.own[1].layer.weight.grad.any()
    second = ExpertLayer(4, 4, tasks=2, shared=1, own=2, dropout=0.0)
    assert second(found.detach()).shape == (2, ROWS, 4)


def test_every_task_reaches_the_shared_experts_of_the_next_layer(states):
    here, _ = states
    first, second = (
        ExpertLayer(*size, tasks=3, shared=2, own=0, dropout=0.0, last=last)
        for size, last in (((WIDTH, 4), False), ((4, 4), True))
    )
    between = first(here.unsqueeze(0))
    between.retain_grad()
    second(between)[0].sum().backward()
    assert between.grad[-1].any()  # what all tasks share
    assert not between.grad[1].any()  # another task's own
