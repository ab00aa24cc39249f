"""Finding the right one among the others of a batch."""

import torch
from torch import Tensor, nn

__all__ = ["contrast"]


def contrast(given: Tensor, wanted: Tensor, same: Tensor, counted: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean cross-entropy of finding each row's partner among the partners of all rows, by the cosine.

    A cosine alone would be best where all vectors are equal. Here equal vectors give the logarithm of the number of
    rows, the worst that knowing nothing can do; so the vectors cannot collapse.

    Args:
        given: (rows, dim).
        wanted: (rows, dim) the partner of each.
        same: (rows, rows) bool, whether two rows have the same partner: it is not counted as a wrong one.
        counted: (rows,) bool, the rows over which the mean is taken.
        temperature: What cosines are divided by.

    Returns:
        A scalar, in nats; 0 where no row counts that has another to be told from.

    Source: Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4, with the cosine and
        temperature of Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020, eq. 1.
    """
    given, wanted = (nn.functional.normalize(each.float(), dim=-1) for each in (given, wanted))
    own = torch.eye(len(given), dtype=torch.bool, device=given.device)
    logits = (given @ wanted.T / temperature).masked_fill(same & ~own, -torch.inf)
    losses = nn.functional.cross_entropy(logits, own.long().argmax(1), reduction="none")
    counted = counted & ~(same | own).all(1)
    return (losses * counted).sum() / counted.sum().clamp(min=1)
