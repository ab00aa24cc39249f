"""What is answered where a model has nothing to say: popularity, below all that the model says."""

import numpy as np
from numpy.typing import NDArray

from foretaste.ragged import PAD, Ragged

__all__ = ["fill_by_popularity"]


def fill_by_popularity(
    popularity: NDArray[np.float32],
    rows: NDArray[np.int64],
    found: NDArray[np.int32],
    values: NDArray[np.float32],
    source: NDArray[np.int8],
    hidden: Ragged | None,
    offered: NDArray[np.bool_] | None,
) -> None:
    """Fill what is left of the given rows by popularity, in place; what is filled in lies below all that is there.

    Args:
        popularity: (items,)
        rows: The rows of the following that are not full.
        found: (queries, k) items, PAD where nothing was found.
        values: (queries, k) their scores, which are changed at PAD alone.
        source: (queries, k) becomes 1 where popularity answers, PAD where nothing is left.
        hidden: (queries) items not to be offered to each. None: none.
        offered: (items,) those that may be offered at all. None: all.
    """
    import torch

    from foretaste.topk import best, mask_scores

    share = popularity / max(float(popularity.max(initial=0)), 1e-30)
    scores = torch.from_numpy(np.tile(share, (len(rows), 1)))
    mask_scores(scores, None if hidden is None else hidden.take(rows), offered)
    row, place = np.nonzero(found[rows] != PAD)
    scores[row, found[rows][row, place]] = -torch.inf
    popular, shares = best(scores, found.shape[1])
    for at, row in enumerate(rows):
        have = int((found[row] != PAD).sum())
        lack = found.shape[1] - have
        # Popularity is a share in [0, 1]; a step of the model's own size below its last score keeps the order.
        floor = values[row, have - 1] if have else np.float32(0)
        step = max(np.float32(1), abs(floor)) if have else np.float32(0)
        below = shares[at, :lack] if not have else floor - step * (2 - shares[at, :lack])
        found[row, have:] = popular[at, :lack]
        values[row, have:] = np.where(popular[at, :lack] == PAD, -np.inf, below)
        source[row, have:] = np.where(popular[at, :lack] == PAD, PAD, 1)
