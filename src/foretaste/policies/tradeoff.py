"""What list policies give and what they cost: a model's best items chosen anew by each aim, at several strengths."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import Table
from foretaste.evaluation.lists import ItemVectors
from foretaste.evaluation.trial import Trial
from foretaste.policies.aims import Aim, Calibrated, shares_of
from foretaste.policies.policy import Policy
from foretaste.policies.shelf import names_of_items
from foretaste.query import Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Model
from foretaste.run import Log, silent
from foretaste.vocab import Vocab

__all__ = ["STRENGTHS", "miscalibration", "tradeoff"]

STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
SPARE = 5  # candidates for each place of a list
MOST_QUERIES = 2000
SMOOTHING = 0.01
LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class _Lists:
    """Answers that are there already, for a trial to judge."""

    items: Vocab
    top: TopK

    def recommend(self, queries: Queries, k: int = 10, **asked: Any) -> TopK:
        return self.top


def tradeoff(
    model: Model, trial: Trial, catalog: Table, vectors: ItemVectors, aims: Sequence[Aim], log: Log = silent
) -> dict[str, Any]:
    """The accuracy of lists against their diversity, calibration and exposure, as JSON.

    The same queries and the same candidates for all: at most 2,000 queries of the trial, for each place five items.

    Args:
        aims: Each is tried at every strength of ``STRENGTHS`` in the place of its own.

    Returns:
        queries, candidates; calibrated_by, the column that miscalibration is measured by, or None; and points, one per
        aim and strength, the first without any aim: aim, strength, and metrics, name -> mean, low, high.
    """
    rows = np.unique(np.linspace(0, len(trial.holdout) - 1, min(MOST_QUERIES, len(trial.holdout))).astype(np.int64))
    trial = replace(trial, holdout=trial.holdout.take(rows), chunk=len(rows))
    queries, places = trial.holdout.queries, max(trial.k) + 1
    wide = model.recommend(
        queries,
        places * SPARE,
        filter_seen=trial.filter_seen,
        exclude_kinds=trial.exclude_kinds,
        items=None if trial.holdout.offered is None else model.items.lookup(trial.holdout.offered),
    )
    column = next((aim.column for aim in aims if isinstance(aim, Calibrated)), None)
    shares = None if column is None else shares_of(names_of_items(catalog, column))
    points = []
    for aim, strength in [(None, 0.0), *((aim, strength) for aim in aims for strength in STRENGTHS)]:
        policy = Policy(aim=None if aim is None else aim.at(strength))
        top = policy.fitted(model.items, catalog, vectors).choose(wide, queries.history, places)
        points.append(
            {
                "aim": None if aim is None else aim.kind,
                "strength": strength,
                "metrics": _metrics(trial, model, top, shares),
            }
        )
    log(f"policies: {len(points) - 1} settings of {', '.join(aim.kind for aim in aims)} tried on {len(rows):,} queries")
    return {"queries": len(rows), "candidates": places * SPARE, "calibrated_by": column, "points": points}


def _metrics(trial: Trial, model: Model, top: TopK, shares: csr_matrix | None) -> dict[str, dict[str, float | None]]:
    entry, cut = trial.entry("policy", _Lists(model.items, top)), 10 if 10 in trial.k else max(trial.k)
    wanted = [f"{name}@{cut}" for name in ("ndcg", "hit", "diversity", "coverage", "gini")]
    found = {
        name: {"mean": each.mean, "low": each.low, "high": each.high}
        for name in wanted
        if (each := entry.metrics.get(name)) is not None
    }
    if shares is not None:
        values = miscalibration(top.items[:, :cut], trial.holdout.queries.history, shares)
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else None
        found[f"miscalibration@{cut}"] = {"mean": mean, "low": None, "high": None}
    return found


def miscalibration(items: NDArray[np.int32], history: Ragged, shares: csr_matrix) -> NDArray[np.float64]:
    """(queries,) KL(p, q), how far the mix of a list is from that of the history; NaN where either is empty.

    Source: Steck, "Calibrated Recommendations", RecSys 2018, eqs. 2, 3 and 6, smoothed by a hundredth of p.

    Args:
        items: (queries, k) PAD where a list is short.
        shares: (items, names) each item's weight, shared among its names.
    """
    ones = np.ones(len(history.values))
    met = csr_matrix((ones, history.values, history.offsets), shape=(len(history), shares.shape[0]), copy=True)
    listed = Ragged.from_lengths(items[items != PAD], (items != PAD).sum(1))
    held = (np.ones(len(listed.values)), listed.values, listed.offsets)
    wanted, shown = (
        np.asarray((each @ shares).todense())
        for each in (met, csr_matrix(held, shape=(len(listed), shares.shape[0]), copy=True))
    )
    there = (wanted.sum(1) > 0) & (shown.sum(1) > 0)
    p = wanted / np.maximum(wanted.sum(1, keepdims=True), LEAST)
    q = (1 - SMOOTHING) * shown / np.maximum(shown.sum(1, keepdims=True), LEAST) + SMOOTHING * p
    terms = np.where(p > 0, p * np.log(np.maximum(p, LEAST) / np.maximum(q, LEAST)), 0.0)
    return np.where(there, terms.sum(1), np.nan)
