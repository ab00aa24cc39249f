"""Scores of several models as one: made comparable within each row, weighted, and added up."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Normalization", "added", "comparable", "fused"]

Normalization = Literal["min_max", "z_score", "rank", "reciprocal_rank"]
FIRST = 60  # added to ranks before their reciprocal is taken, so that the first few are worth nearly the same


def comparable(scores: Tensor, how: Normalization) -> Tensor:
    """(rows, items) scores that can be added to those of other models, higher is better.

    Args:
        scores: (rows, items); an item of which the model knows nothing has -inf or NaN, and gets what the worst gets.
        how: "min_max": from 0, the worst of the row, to 1, the best. "z_score": in standard deviations from the mean of
            the row. "rank": the share of the row's items that are not better; 1 is the best. "reciprocal_rank":
            1 / (60 + rank), where the best has rank 1 and equal scores the same rank; 0 for an item that is not known.

    Source: Fox, Shaw, "Combination of Multiple Searches", TREC-2, 1994, for added up scores; Cormack, Clarke, Büttcher,
        "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods", SIGIR 2009, for the last.
    """
    known = scores.isfinite()
    lowest = scores.masked_fill(~known, torch.inf).amin(1, keepdim=True)
    if how == "min_max":
        highest = scores.masked_fill(~known, -torch.inf).amax(1, keepdim=True)
        return ((scores - lowest) / (highest - lowest).clamp(min=1e-12)).masked_fill(~known, 0.0)
    count = known.sum(1, keepdim=True)
    if how == "z_score":
        mean = scores.masked_fill(~known, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
        distance = (scores - mean).masked_fill(~known, 0.0)
        spread = (distance.square().sum(1, keepdim=True) / count.clamp(min=1)).sqrt().clamp(min=1e-12)
        return torch.where(known, distance, torch.where(count > 0, lowest - mean, 0.0)) / spread
    there = scores.masked_fill(~known, -torch.inf)
    ascending = there.sort(1).values
    better = scores.shape[1] - torch.searchsorted(ascending, there, right=True)
    if how == "rank":
        return (1 - better / count.clamp(min=1)).masked_fill(~known, 0.0)
    return (1 / (FIRST + 1.0 + better)).masked_fill(~known, 0.0)


def fused(scores: Sequence[Tensor], weights: Sequence[float], how: Normalization) -> Tensor:
    """(rows, items) the weighted sum of comparable scores; -inf where no model that counts knows anything of an item.

    Args:
        scores: Of each model, (rows, items).
    """
    return added([comparable(each, how) for each in scores], [each.isfinite() for each in scores], weights)


def added(scores: Sequence[Tensor], known: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The same of scores that are comparable already.

    Args:
        known: Of each model, (rows, items) bool, whether it knows anything of an item.
    """
    total, any_known = torch.zeros_like(scores[0]), torch.zeros_like(known[0])
    for each, knows, weight in zip(scores, known, weights, strict=True):
        if weight:  # a model that does not count knows nothing
            total.add_(each, alpha=weight)
            any_known |= knows
    return total.masked_fill_(~any_known, -torch.inf)
