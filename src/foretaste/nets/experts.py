"""Several small networks beside each other, and gates by which each task takes its own mixture of them."""

import torch
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout

__all__ = ["ExpertLayer", "Experts"]


class Experts(nn.Module):
    """(count, rows, width) of so many networks of one layer, as one product."""

    def __init__(self, inputs: int, width: int, count: int, dropout: float) -> None:
        super().__init__()
        self.count = count
        self.layer = nn.Linear(inputs, count * width)
        self.drop = Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """From states (rows, inputs)."""
        found = self.drop(nn.functional.relu(self.layer(states)))
        return torch.as_tensor(found.view(len(states), self.count, -1).transpose(0, 1))


class ExpertLayer(nn.Module):
    """A state for each task from experts that all tasks share and, in PLE, from experts of its own.

    Each task has a gate, a softmax over the experts that it may take from. Where a further layer follows there is one
    more state, which takes from all experts, for that layer's shared ones.

    Args:
        shared: How many experts are shared.
        own: How many each task has to itself; 0 is MMoE.
        last: Whether no further layer follows.

    Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD
        2018, eqs. 6-8; Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020, eqs. 1-5.
    """

    def __init__(
        self, inputs: int, width: int, tasks: int, shared: int, own: int, dropout: float, last: bool = True
    ) -> None:
        super().__init__()
        self.shared = Experts(inputs, width, shared, dropout)
        self.own = nn.ModuleList(Experts(inputs, width, own, dropout) for _ in range(tasks if own else 0))
        self.gates = nn.ModuleList(nn.Linear(inputs, shared + own, bias=False) for _ in range(tasks))
        self.gate_of_all = nn.Linear(inputs, shared + tasks * own, bias=False) if not last else None

    def forward(self, states: Tensor) -> Tensor:
        """(tasks or, where a layer follows, tasks + 1, rows, width), that of the shared experts last.

        Args:
            states: (tasks + 1, rows, inputs), each task's own and that of the shared experts; or (1, rows, inputs) for
                all of them.
        """
        tasks = len(self.gates)
        for_shared, for_task = states[-1], [states[task if len(states) > 1 else 0] for task in range(tasks)]
        shared = self.shared(for_shared)
        own = [experts(state) for experts, state in zip(self.own, for_task, strict=False)]
        found = [
            _mixed(torch.cat([shared, own[task]]) if own else shared, gate(for_task[task]))
            for task, gate in enumerate(self.gates)
        ]
        if self.gate_of_all is not None:
            found.append(_mixed(torch.cat([shared, *own]), self.gate_of_all(for_shared)))
        return torch.stack(found)


def _mixed(experts: Tensor, logits: Tensor) -> Tensor:
    """(rows, width) from (experts, rows, width), by the softmax of (rows, experts)."""
    return torch.einsum("enw,ne->nw", experts, torch.softmax(logits, 1, dtype=experts.dtype))
