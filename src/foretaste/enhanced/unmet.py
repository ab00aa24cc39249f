"""Items never met: how often the next event is on one of them, and scores that say so."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["level_of_unmet", "unmet_share"]

LOGITS = 1 << 24  # held at a time
HALVINGS = 60


def unmet_share(counts: NDArray[np.integer]) -> float:
    """The chance that the next event is on an item without any: the share of events that are the only of their item.

    At least one event is counted, since new items come in any shop.

    Args:
        counts: (items,) events of each item in training.

    Source: I. J. Good, "The Population Frequencies of Species and the Estimation of Population Parameters", Biometrika
        40 (1953): the chance of all that a sample does not hold is about n_1 / N, an idea of Turing's.
    """
    return float(max(1, (counts == 1).sum()) / max(2, counts.sum()))


def level_of_unmet(answers: Tensor, vectors: Tensor, met: Tensor, share: float) -> float:
    """What to add to the logits of all items never met, so that on average their chances sum up to ``share``.

    With a and b the logarithms of the sums of exp(logit) over items never met and over those met, the chances of the
    former sum up to sigmoid(a - b + level) for each answer; the mean of that grows with the level, so halving the
    interval finds it.

    Args:
        answers: (answers, dim) at least one.
        vectors: (items, dim).
        met: (items,) bool, some of each.
    """
    rows = max(1, LOGITS // len(vectors))
    ahead = torch.cat([_ahead(chunk @ vectors.T, met) for chunk in torch.split(answers.float(), rows)]).double()
    wanted = math.log(share / (1 - share))
    low, high = wanted - float(ahead.max()), wanted - float(ahead.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float((ahead + middle).sigmoid().mean()) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _ahead(logits: Tensor, met: Tensor) -> Tensor:
    return logits[:, ~met].logsumexp(1) - logits[:, met].logsumexp(1)
