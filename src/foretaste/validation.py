"""The score by which iterative models choose their best epoch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from foretaste.evaluation.metrics import ndcg, ranks
from foretaste.query import Holdout
from foretaste.ragged import PAD
from foretaste.recommender import Model

__all__ = ["ndcg_at_10", "ndcg_of_lists", "validation_score"]


def validation_score(
    model: Model, validation: Holdout | None, prepare: Callable[[], None]
) -> Callable[[], float] | None:
    """A function that measures the model as it is at the moment; None without a validation part.

    Args:
        prepare: Called before each measurement, as the weights have changed since the last.
    """
    if validation is None or not len(validation):
        return None

    def score() -> float:
        prepare()
        return ndcg_at_10(model, validation)

    return score


def ndcg_at_10(model: Model, holdout: Holdout) -> float:
    """Mean NDCG@10 over the queries, by the rule of the evaluation: ties count against the model."""
    top = model.recommend(
        holdout.queries,
        11,
        filter_seen=holdout.filter_seen,
        exclude_kinds=holdout.exclude_kinds,
        items=None if holdout.offered is None else model.items.lookup(holdout.offered),
    )
    return ndcg_of_lists(top.items, top.scores, holdout)


def ndcg_of_lists(items: NDArray[np.int32], scores: NDArray[np.float32], holdout: Holdout) -> float:
    """The same of lists of 11 items, or of all there are.

    Args:
        items: (queries, at most 11) best first, PAD at the end.
        scores: Of these.
    """
    unknown = 0 if holdout.unknown is None else holdout.unknown
    # A catalogue that ends before place 11 leaves nothing that a tie could run on to.
    missing = ((0, 0), (0, 11 - items.shape[1]))
    items, scores = np.pad(items, missing, constant_values=PAD), np.pad(scores, missing, constant_values=-np.inf)
    found = ranks(items, scores, holdout.targets)
    return float(np.nanmean(ndcg(found, holdout.targets.lengths + unknown, 10)))
