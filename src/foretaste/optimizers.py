"""The optimisers that a plan may name."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from foretaste.train_plan import TrainPlan

__all__ = ["Adagrad", "centralize", "learn_slower", "optimizer_of", "set_rate"]

SHARE = "share_of_rate"  # of a parameter, and of a group of an optimiser


def optimizer_of(plan: TrainPlan, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that a plan names, for these parameters.

    Matrices and tables decay. Biases and the scales of norms, which are vectors, do so where the plan says it: pulling
    them to zero changes what a layer does, not how much it can remember. What ``learn_slower`` has marked learns at its
    share of the plan's rate.
    """
    parameters = list(parameters)
    of_vectors = plan.weight_decay if plan.decay_vectors else 0.0
    groups: list[dict[str, Any]] = []
    for share in sorted({_share_of(each) for each in parameters}, reverse=True):
        own = [each for each in parameters if _share_of(each) == share]
        groups += [
            {"params": [each for each in own if each.dim() > 1], "weight_decay": plan.weight_decay, SHARE: share},
            {"params": [each for each in own if each.dim() <= 1], "weight_decay": of_vectors, SHARE: share},
        ]
    if plan.optimizer == "adagrad":
        return Adagrad(groups, plan.lr, plan.momentum)
    return torch.optim.AdamW(groups, lr=plan.lr, betas=plan.betas, fused=True)


def centralize(net: nn.Module) -> None:
    """Take from the gradient of each output of a linear layer its mean over the inputs. Tables stay as they are.

    Source: Yong et al., "Gradient Centralization: A New Optimization Technique for Deep Neural Networks", ECCV 2020,
        eq. 1 for fully connected layers.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear) and module.weight.grad is not None:
            module.weight.grad -= module.weight.grad.mean(1, keepdim=True)


def learn_slower(parameters: Iterable[nn.Parameter], share: float) -> None:
    """Let these learn at a share of the plan's rate, such as the layers of a pretrained encoder."""
    for each in parameters:
        setattr(each, SHARE, share)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step; groups that learn slower take their share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[SHARE]


def _share_of(parameter: nn.Parameter) -> float:
    return float(getattr(parameter, SHARE, 1.0))


class Adagrad(torch.optim.Optimizer):
    """Steps that are the shorter, for each number of its own, the larger its gradients have been so far.

        squares += gradient^2
        velocity = momentum * velocity - lr * gradient / sqrt(squares + 1e-6)
        weight = (1 - lr * weight_decay) * weight + velocity

    Of a gradient that holds only some rows of a table (sparse), only those rows take part: the others keep their
    weights, and their velocity waits. So a step costs what was touched, not what there is.

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods", JMLR 2011, with momentum after the scaling, and on
        touched rows alone, as in GRU4Rec's published code.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                state = self.state[weights]
                if not state:
                    state["squares"] = torch.zeros_like(weights)
                    if group["momentum"]:
                        state["velocity"] = torch.zeros_like(weights)
                if weights.grad.is_sparse:
                    _step_in_rows(weights, weights.grad.coalesce(), state, group)
                else:
                    _step(weights, weights.grad, state, group)
        return loss


EPSILON = 1e-6  # that of GRU4Rec's published code, under the root


def _step(weights: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """One step in place, of weights and of what the optimiser remembers."""
    squares = state["squares"].addcmul_(gradient, gradient)
    size = (squares + EPSILON).sqrt_()
    weights.mul_(1 - group["lr"] * group["weight_decay"])
    if group["momentum"]:
        weights.add_(state["velocity"].mul_(group["momentum"]).addcdiv_(gradient, size, value=-group["lr"]))
    else:
        weights.addcdiv_(gradient, size, value=-group["lr"])


def _step_in_rows(weights: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """The same for the rows that the gradient holds."""
    rows = gradient.indices()[0]
    touched = weights.index_select(0, rows)
    remembered = {name: tensor.index_select(0, rows) for name, tensor in state.items()}
    _step(touched, gradient.values(), remembered, group)
    weights.index_copy_(0, rows, touched)
    for name, tensor in remembered.items():
        state[name].index_copy_(0, rows, tensor)
