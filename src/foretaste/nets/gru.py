"""A gated recurrent unit over time, with dropout on the state that it carries."""

from typing import Any

import torch
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout

__all__ = ["GRU", "fill_evenly"]


class GRU(nn.Module):
    """One layer of gated recurrent units: from what is read at each place to a state of all that was read so far.

    With x what is read and h the state before, which is 0 at first:

        r = sigmoid(W_r x + b_r + U_r h + c_r)
        z = sigmoid(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r * (U_n h + c_n))
        h' = dropout((1 - z) * n + z * h)

    All inputs are projected by one product, and only what needs the state before is computed place by place. Under
    autocast the products are in the lower precision while the state is kept in float32: one of bf16 would stand still
    wherever z is near 1, because a step smaller than 1/256 of it is lost.

    Args:
        inputs: Numbers per place of what is read. None: it comes projected already, as the rows of a table may be.
        dropout: Falls on the state of each place.
        carried: Whether the state after dropout is the one that the next place begins with. Else dropout falls only on
            what is handed out.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, with r applied after the
        product as in torch.nn.GRU, whose numbers these are; dropout on the carried state, one draw per place, is that
        of GRU4Rec's published code.
    """

    loops = True  # over places; ``torch.compile`` would unroll that

    def __init__(self, inputs: int | None, dim: int, dropout: float = 0.0, *, carried: bool = True) -> None:
        super().__init__()
        self.of_input = None if inputs is None else nn.Parameter(torch.empty(3 * dim, inputs))
        self.of_state = nn.Parameter(torch.empty(3 * dim, dim))
        self.input_bias = nn.Parameter(torch.zeros(3 * dim))
        self.state_bias = nn.Parameter(torch.zeros(3 * dim))
        self.dropout = Dropout(dropout)
        self.carried = carried
        for weights in (self.of_input, self.of_state):
            if weights is not None:
                for gate in weights.chunk(3):
                    fill_evenly(gate)

    def forward(self, read: Tensor) -> Tensor:
        """States (length, batch, dim) after each place.

        Args:
            read: (length, batch, inputs), or (length, batch, 3 dim) where it comes projected, for r, z and n.
        """
        if self.of_input is None:
            read = read + self.input_bias
        else:
            read = nn.functional.linear(read, self.of_input, self.input_bias)
        if not (self.training and self.dropout.p > 0 and self.carried):
            return torch.as_tensor(self.dropout(recurred(read, self.of_state, self.state_bias)))
        kept = self.dropout(torch.ones(*read.shape[:2], self.of_state.shape[1], device=read.device))
        return recurred(read, self.of_state, self.state_bias, kept)


def fill_evenly(weights: Tensor) -> None:
    """Fill a matrix with draws from -a ... a, a = sqrt(6 / (rows + columns)), in place.

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, eq. 16.
    """
    with torch.no_grad():
        nn.init.xavier_uniform_(weights)


def recurred(read: Tensor, of_state: Tensor, bias: Tensor, kept: Tensor | None = None) -> Tensor:
    """The states (length, batch, dim) of ``GRU`` from its projected inputs.

    Args:
        read: (length, batch, 3 dim) W x + b for r, z and n.
        of_state: (3 dim, dim) U.
        bias: (3 dim,) c.
        kept: (length, batch, dim) what dropout multiplies each state by. None: no dropout.
    """
    return _Recurrence.apply(read, of_state, bias, kept)  # type: ignore[no-any-return, no-untyped-call]


class _Recurrence(torch.autograd.Function):
    """The loop over places, and the loop back, of which each does nothing that could be done for all places at once."""

    @staticmethod
    def forward(context: Any, read: Tensor, of_state: Tensor, bias: Tensor, kept: Tensor | None) -> Tensor:
        device = read.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else of_state.dtype
        length, batch, dim = *read.shape[:2], of_state.shape[1]
        weights, bias_low = of_state.to(low), bias.to(low)
        gates = torch.empty(length, batch, 4 * dim, device=read.device)
        states = torch.zeros(length + 1, batch, dim, device=read.device)
        both, new_only = slice(0, 2 * dim), slice(2 * dim, 3 * dim)
        with torch.autocast(device, enabled=False):
            # tanh(x) = 2 sigmoid(2 x) - 1, which on a CPU takes a third of the time.
            doubled = read[:, :, new_only].float().mul_(2)
            for place in range(length):
                from_state = torch.addmm(bias_low, states[place].to(low), weights.t())
                reset_update, new, of_new = torch.split(gates[place], [2 * dim, dim, dim], 1)
                torch.add(read[place, :, both], from_state[:, both], out=reset_update).sigmoid_()
                of_new.copy_(from_state[:, new_only])
                torch.addcmul(doubled[place], reset_update[:, :dim], of_new, value=2, out=new)
                new.sigmoid_().mul_(2).sub_(1)
                torch.lerp(new, states[place], reset_update[:, dim:], out=states[place + 1])
                if kept is not None:
                    states[place + 1].mul_(kept[place])
        context.save_for_backward(gates, states, weights, kept)
        context.dtype = read.dtype
        return states[1:]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gates, states, weights, kept = context.saved_tensors
        (outer,) = gradients
        slopes, update = _slopes(gates, states[:-1]), gates.chunk(4, 2)[1]
        length, batch, _, dim = slopes.shape
        low = weights.dtype
        of_gates = torch.empty(slopes.shape, dtype=low, device=slopes.device)
        of_state = torch.zeros(batch, dim, device=slopes.device)
        with torch.autocast(slopes.device.type, enabled=False):
            for place in range(length - 1, -1, -1):
                of_state = of_state + outer[place]
                if kept is not None:
                    of_state = of_state * kept[place]
                of_gates[place] = slopes[place].mul_(of_state[:, None])
                if place:  # nothing is learned of the state before the first place
                    through_gates = of_gates[place].view(batch, 4 * dim)[:, : 3 * dim] @ weights
                    of_state = (of_state * update[place]).add_(through_gates)
            flat = of_gates.view(length * batch, 4 * dim)
            before = states[:-1].reshape(length * batch, dim).to(low)
            of_weights = (flat[:, : 3 * dim].t() @ before).float()
            of_bias = flat[:, : 3 * dim].sum(0, dtype=torch.float32)
        of_read = torch.cat([of_gates[:, :, :2], of_gates[:, :, 3:]], 2).view(length, batch, 3 * dim)
        return of_read.to(context.dtype), of_weights, of_bias, None


def _slopes(gates: Tensor, before: Tensor) -> Tensor:
    """(length, batch, 4, dim) how each place's state changes with r, z, U_n h + c_n and n, before their curves."""
    reset, update, new, of_new = gates.chunk(4, 2)
    slopes = torch.empty(*before.shape[:2], 4, before.shape[2], device=before.device)
    of_reset, of_update, of_product, of_sum = slopes.unbind(2)
    of_sum.copy_(torch.mul(new, new).neg_().add_(1).mul_(1 - update))
    torch.mul(of_sum, reset, out=of_product)
    torch.mul(of_product, of_new, out=of_reset).mul_(1 - reset)
    torch.sub(before, new, out=of_update).mul_(update).mul_(1 - update)
    return slopes
