"""How well probabilities tell what came of examples: over all of them, within lists, and as probabilities."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from foretaste.rank.examples import UNKNOWN, Examples

__all__ = ["auc", "average_precision", "calibration_error", "grouped_auc", "list_ndcg", "log_loss", "task_metrics"]

LEAST = 1e-7  # probabilities are kept so far from 0 and 1 that their logarithms are finite
BINS = 15
K = 10


def auc(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """The chance that a positive has a higher score than a negative; equal scores count one half.

    Returns:
        NaN where there are no positives, or nothing else.

    Source: the Mann-Whitney statistic over the number of pairs.
    """
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    above = rankdata(scores)[labels == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def grouped_auc(groups: NDArray[np.integer], labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """The mean of the AUC within each group, weighted by how many examples it has; groups without both labels are out.

    Returns:
        NaN where no group has both.

    Source: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, eq. 6 (there weighted by
        impressions, which is by examples).
    """
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    positives = np.bincount(group, weights=labels == 1)
    pairs = positives * (sizes - positives)
    if not pairs.any():
        return float("nan")
    order = np.lexsort((scores, group))
    starts = np.cumsum(sizes) - sizes
    # The rank within the group, of equal scores their mean.
    first = np.r_[True, (np.diff(group[order]) != 0) | (np.diff(scores[order]) != 0)]
    run = np.cumsum(first) - 1
    begin = np.flatnonzero(first)
    ends = np.append(begin[1:], len(order))
    ranks = ((begin + ends + 1) / 2)[run] - starts[group[order]]
    sums = np.bincount(group[order], weights=ranks * (labels[order] == 1))
    both = pairs > 0
    found = (sums - positives * (positives + 1) / 2)[both] / pairs[both]
    return float(np.average(found, weights=sizes[both]))


def log_loss(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """The mean negative logarithm, in nats, of the probability that was given to what came."""
    told = np.clip(probabilities.astype(np.float64), LEAST, 1 - LEAST)
    return float(-np.where(labels == 1, np.log(told), np.log1p(-told)).mean()) if len(labels) else float("nan")


def average_precision(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """The area under the curve of precision over recall, as a sum of steps; equal scores are one step.

    Returns:
        NaN where there are no positives.
    """
    if not (labels == 1).any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each run of equal scores
    hits = np.cumsum(labels[order] == 1)[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1])


def calibration_error(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """The mean distance of probabilities from the rates that came, over 15 parts of equally many examples.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
        Differs: parts of equally many examples, as most clicks are told with small probabilities.
    """
    if not len(labels):
        return float("nan")
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    gaps = [abs(float(probabilities[part].mean()) - float((labels[part] == 1).mean())) for part in parts]
    return float(np.average(gaps, weights=[len(part) for part in parts]))


def list_ndcg(groups: NDArray[np.integer], labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """The mean NDCG@10 of lists that have a positive; of equal scores the negatives stand first.

    Returns:
        NaN where no list has one.
    """
    _, group = np.unique(groups, return_inverse=True)
    order = np.lexsort((labels == 1, -scores, group))
    sizes = np.bincount(group)
    place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[group[order]]
    discount = np.where(place < K, 1 / np.log2(place + 2), 0.0)
    gained = np.bincount(group[order], weights=discount * (labels[order] == 1))
    positives = np.bincount(group, weights=labels == 1).astype(np.int64)
    best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(K) + 2))])[positives.clip(max=K)]
    having = positives > 0
    return float((gained[having] / best[having]).mean()) if having.any() else float("nan")


def task_metrics(examples: Examples, predicted: Mapping[str, NDArray[np.floating]]) -> dict[str, dict[str, float]]:
    """Per task, over the examples whose label is known: how many there are, and all metrics of this file."""
    found = {}
    for task, probabilities in predicted.items():
        if task not in examples.labels:
            continue
        known = examples.labels[task] != UNKNOWN
        labels, told, lists = examples.labels[task][known], probabilities[known], examples.request[known]
        found[task] = {
            "examples": float(len(labels)),
            "positives": float((labels == 1).sum()),
            "auc": auc(labels, told),
            "grouped_auc": grouped_auc(lists, labels, told) if len(labels) else float("nan"),
            "log_loss": log_loss(labels, told),
            "average_precision": average_precision(labels, told),
            "calibration_error": calibration_error(labels, told),
            "ndcg@10": list_ndcg(lists, labels, told) if len(labels) else float("nan"),
        }
    return found
