"""How far predicted ratings are from those that were given."""

from collections.abc import Callable
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.errors import DataError, ForetasteError, MissingData
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged

__all__ = ["Rater", "rating_error", "rating_rmse", "target_values"]


class Rater(Protocol):
    """Anything that predicts what rating each query would give to items."""

    def pair_ratings(self, queries: Queries, items: Ragged) -> NDArray[np.float32]: ...


def rating_error(model: object, data: Dataset, holdout: Holdout, log: Callable[[str], None]) -> float | None:
    """``rating_rmse`` of a model on a part of a log; None where the log has no values, or the model predicts none.

    Args:
        data: The log that was split.
        log: Is told why a model that could predict ratings has not been judged.
    """
    if data.value is None or not hasattr(model, "pair_ratings") or not getattr(model, "predicts_ratings", True):
        return None
    try:
        return rating_rmse(cast("Rater", model), holdout, target_values(data, holdout))
    except ForetasteError as error:
        log(f"no ratings are judged: {error}")
        return None


def rating_rmse(model: Rater, holdout: Holdout, values: NDArray[np.floating]) -> float:
    """The root of the mean squared error over all targets that have a value, in the units of the data.

    Each target counts the same, however many the query has.

    Args:
        values: (targets,) what was given, as by ``target_values``; NaN = not given.

    Raises:
        DataError: There is not one value per target, or no target has one.
    """
    if len(values) != len(holdout.targets.values):
        raise DataError(f"{len(values)} values for {len(holdout.targets.values)} targets of {holdout.name!r}.")
    given = ~np.isnan(values)
    if not given.any():
        raise DataError(f"No target of {holdout.name!r} has a value, so ratings cannot be judged.")
    found = model.pair_ratings(holdout.queries, holdout.targets)
    return float(np.sqrt(np.mean((found[given].astype(np.float64) - values[given]) ** 2)))


def target_values(data: Dataset, holdout: Holdout) -> NDArray[np.float32]:
    """(targets,) the value of the event that each target was; NaN = it has none.

    Where a user met an item several times, the last of these events counts.

    Args:
        data: The log that was split; it shares its vocabularies with the holdout.

    Raises:
        MissingData: The log has no values, or the queries do not say whose they are.
    """
    if data.value is None or holdout.queries.user is None:
        raise MissingData(
            f"Values of the targets need a log with values and queries with users; {data.name} lacks one."
        )
    size = len(data.items)
    events = data.user.astype(np.int64) * size + data.item
    order = np.argsort(events, kind="stable")
    users = holdout.queries.user[holdout.targets.row_of_value()].astype(np.int64)
    wanted = users * size + holdout.targets.values
    place = np.searchsorted(events[order], wanted, side="right") - 1
    found = order[place.clip(0)]
    return np.where(events[found] == wanted, data.value[found], np.nan).astype(np.float32)
