"""Adagrad on gradients that hold only some rows of a table."""

import pytest
import torch
from torch import nn

from foretaste.optimizers import Adagrad, centralize

ROWS = [[4, 1, 4], [1, 2, 1], [6, 6, 4], [1, 1, 1]]  # those touched by each step, some of them twice


def trained(momentum, *, in_rows, weight_decay=0.0):
    """A table after a step for each row of ROWS."""
    torch.manual_seed(2)
    table = nn.Embedding(8, 3, sparse=in_rows)
    optimizer = Adagrad(table.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    for number, rows in enumerate(ROWS):
        optimizer.zero_grad()
        ((number + 1) * table(torch.tensor(rows)).sin()).sum().backward()
        optimizer.step()
    return table.weight.detach(), optimizer


def test_without_momentum_it_is_the_step_of_the_whole_table():
    """An untouched row has a gradient of 0, which moves nothing."""
    torch.testing.assert_close(trained(0.0, in_rows=True)[0], trained(0.0, in_rows=False)[0])


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_only_touched_rows_change_and_their_velocity_waits(momentum, weight_decay):
    found, optimizer = trained(momentum, in_rows=True, weight_decay=weight_decay)
    torch.manual_seed(2)
    expected = nn.Embedding(8, 3).weight.detach().clone()
    begun = expected.clone()
    squares, velocity = torch.zeros(8, 3), torch.zeros(8, 3)
    for number, rows in enumerate(ROWS):
        for row in set(rows):
            gradient = rows.count(row) * (number + 1) * expected[row].cos()
            squares[row] += gradient**2
            velocity[row] = momentum * velocity[row] - 0.1 * gradient / (squares[row] + 1e-6).sqrt()
            expected[row] = (1 - 0.1 * weight_decay) * expected[row] + velocity[row]
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[[0, 3, 5, 7]], begun[[0, 3, 5, 7]])
    (state,) = optimizer.state_dict()["state"].values()
    torch.testing.assert_close(state["squares"], squares)
    assert ("velocity" in state) == (momentum > 0)


def test_a_closure_is_asked_and_its_loss_returned():
    weights = nn.Parameter(torch.tensor([2.0]))
    optimizer = Adagrad([weights], lr=0.1)

    def closure():
        loss = weights.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    torch.testing.assert_close(weights.detach(), torch.tensor([1.9]))


def test_centralised_gradients_of_layers_have_zero_mean_and_tables_stay():
    torch.manual_seed(0)
    table, layer, unused = nn.Embedding(6, 4), nn.Linear(4, 3), nn.Linear(4, 2)
    (layer(table(torch.tensor([1, 5, 1]))) ** 2).sum().backward()
    before, bias = table.weight.grad.clone(), layer.bias.grad.clone()
    assert layer.weight.grad.mean(1).abs().max() > 1e-3
    centralize(nn.ModuleList([table, layer, unused]))
    torch.testing.assert_close(layer.weight.grad.mean(1), torch.zeros(3))
    assert torch.equal(table.weight.grad, before)
    assert torch.equal(layer.bias.grad, bias)
