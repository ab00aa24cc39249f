"""What a ranker learns to tell: tasks with their losses and weights, and chains of them over the entire space."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat
from torch import Tensor, nn

__all__ = ["Task", "TaskLosses", "tasks_of"]

OF_THE_SEED = {"click": 0.4, "purchase": 0.4, "cart": 0.2}
ALSO_CALLED = {
    **dict.fromkeys(("click", "clicked", "is_click"), "click"),
    **dict.fromkeys(("purchase", "purchased", "buy", "bought", "order", "transaction", "conversion"), "purchase"),
    **dict.fromkeys(("cart", "add_to_cart", "addtocart", "atc", "carted"), "cart"),
}


class Task(BaseModel):
    """One label that is predicted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: NonNegativeFloat = 1.0
    """Of its loss, and of its probability in the score that lists are ranked by."""
    loss: Literal["bce", "focal"] = "bce"
    """Cross-entropy, or focal loss, which counts less what is told well already."""
    focus: float = Field(default=2.0, ge=0)
    """Of the focal loss: the power of how far off a probability is."""


def tasks_of(labels: Sequence[str]) -> dict[str, Task]:
    """A task for each label; click, purchase and add to cart weigh .4, .4 and .2, others as much as all of them."""
    weights = {label: OF_THE_SEED.get(ALSO_CALLED.get(label.lower(), ""), 1.0) for label in labels}
    return {label: Task(weight=1.0 if len(labels) == 1 else weight) for label, weight in weights.items()}


class TaskLosses(nn.Module):
    """The named losses of a batch, and the probabilities that log-odds mean.

    Args:
        tasks: In the order of the log-odds and labels.
        chain: Tasks of which each can only happen where the one before did, such as click, cart, purchase. The network
            then tells the chance of each *given* the one before, and what is compared with labels, over all examples
            and not only those that came so far, is the product: Ma et al., "Entire Space Multi-Task Model", SIGIR
            2018, eq. 3.
        uncertain: Learn the weights: exp(-s) loss + s / 2 for each task, s beginning at minus the logarithm of its
            weight: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, eq. 10,
            for likelihoods of classes.
    """

    weights: Tensor

    def __init__(self, tasks: Mapping[str, Task], chain: Sequence[str] = (), uncertain: bool = False) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        names = list(self.tasks)
        self.before = [names.index(chain[chain.index(name) - 1]) if name in chain[1:] else None for name in names]
        self.order = [names.index(name) for name in chain] + [at for at, name in enumerate(names) if name not in chain]
        weights = torch.tensor([task.weight for task in self.tasks.values()])
        self.uncertainty = nn.Parameter(-weights.clamp(min=1e-3).log()) if uncertain else None
        self.register_buffer("weights", weights, persistent=False)

    def log_chances(self, log_odds: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, tasks) twice: the logarithms of the chances that each happens, and that it does not."""
        happens: list[Tensor] = [log_odds[:, 0]] * log_odds.shape[1]
        does_not: list[Tensor] = list(happens)
        for task in self.order:
            own = nn.functional.logsigmoid(log_odds[:, task])
            before = self.before[task]
            if before is None:
                happens[task], does_not[task] = own, nn.functional.logsigmoid(-log_odds[:, task])
            else:
                happens[task] = happens[before] + own
                # 1 - p q = (1 - p) + p (1 - q), of which neither part loses its digits.
                still = happens[before] + nn.functional.logsigmoid(-log_odds[:, task])
                does_not[task] = torch.logaddexp(does_not[before], still)
        return torch.stack(happens, 1), torch.stack(does_not, 1)

    def chances(self, log_odds: Tensor) -> Tensor:
        """(rows, tasks) the chance that each happens."""
        return self.log_chances(log_odds)[0].exp()

    def of_each(self, log_odds: Tensor, labels: Tensor) -> Tensor:
        """(rows, tasks) the loss of each label; NaN labels have 0.

        Source of the focal loss: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4.
        """
        happens, does_not = self.log_chances(log_odds)
        came = labels == 1
        told = torch.where(came, happens, does_not)
        focus = torch.tensor(
            [task.focus if task.loss == "focal" else 0.0 for task in self.tasks.values()], device=labels.device
        )
        if bool((focus > 0).any()):
            missed = torch.where(came, does_not, happens).exp().clamp(min=1e-7)  # how far off the probability is
            told = told * missed.pow(focus)
        return -torch.where(labels.isnan(), 0.0, told)

    def of_lists(self, log_odds: Tensor, labels: Tensor, lists: Tensor) -> Tensor:
        """(tasks,) the mean cross-entropy of choosing, of a whole list, what came; 0 where no list has anything.

        Softmax over the log-odds of a list's examples whose label is known, as in Cao et al., "Learning to Rank: From
        Pairwise Approach to Listwise Approach", ICML 2007 (ListNet, top one). Beside a loss of each example it keeps
        chances what they are: Sheng et al., "Joint Optimization of Ranking and Calibration with Contextualized Hybrid
        Model", KDD 2023.

        Args:
            lists: (rows,) ascending from 0 on: equal numbers are one list.
        """
        happens, does_not = self.log_chances(log_odds)
        known = ~labels.isnan()
        told = torch.where(known, happens - does_not, -torch.inf)
        count = int(lists[-1]) + 1 if len(lists) else 0
        place = lists[:, None].expand_as(told)
        most = torch.full((count, told.shape[1]), -torch.inf, device=told.device)
        most = most.scatter_reduce(0, place, told.detach(), "amax").clamp(min=-1e9)
        total = torch.zeros_like(most).scatter_add(0, place, (told - most[lists]).exp())
        chosen = told - most[lists] - total.clamp(min=1e-30).log()[lists]
        came = labels == 1
        positives = torch.zeros_like(most).scatter_add(0, place, came.to(told.dtype))
        share = came / positives[lists].clamp(min=1)
        missed = -torch.where(came, chosen * share, 0.0).sum(0)
        return missed / (positives > 0).sum(0).clamp(min=1)

    def forward(self, losses: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """By task, its weighted mean over the rows whose label is known; 0 where there is none.

        Args:
            losses: (rows, tasks) of ``of_each``.
            labels: (rows, tasks) to tell which are known.
        """
        known = (~labels.isnan()).sum(0).clamp(min=1)
        means = losses.sum(0) / known
        if self.uncertainty is None:
            weighted = means * self.weights
        else:
            weighted = means * (-self.uncertainty).exp() + self.uncertainty / 2
        return dict(zip(self.tasks, weighted, strict=True))
