"""Lists that a simulated shop showed, with what came of each place: on them rankers of several tasks are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Number, Table
from foretaste.errors import DataError
from foretaste.rank.examples import Examples
from foretaste.rank.later import Shown, later_slice
from foretaste.rank.metrics import task_metrics
from foretaste.rank.stage import POSITION, Stage
from foretaste.run import Run
from foretaste.simulate import Shop, simulate
from quality.click_data import PARTS, SHARES, Predicted

__all__ = ["Lists", "lists_of"]

LATER = 0.8  # of the log, in which the lists are; what items are is told by what came before


@dataclass(frozen=True, eq=False)
class Lists:
    """Examples in three parts, one after another in time."""

    parts: Mapping[str, Examples]
    words: tuple[str, ...]  # how they were made

    def examples(self, name: str) -> Examples:
        return self.parts[name]

    def told(self, name: str, predicted: Predicted) -> Predicted:
        """What a ranker of ours says of a part, as ``judged`` wants it."""
        return predicted

    def judged(self, name: str, predicted: Predicted) -> dict[str, dict[str, float | None]]:
        """Task -> metric -> value; None where it cannot be had."""
        found = task_metrics(self.parts[name], predicted)
        return {
            task: {metric: None if np.isnan(value) else value for metric, value in told.items()}
            for task, told in found.items()
        }

    def about(self) -> dict[str, Any]:
        """What a result keeps of them."""
        labels = self.parts["train"].labels
        return {
            "fingerprint": "-".join(self.parts[name].fingerprint()[:8] for name in PARTS),
            "rows": {name: len(part) for name, part in self.parts.items()},
            "lists": {name: len(np.unique(part.request)) for name, part in self.parts.items()},
            "positives": {
                task: {name: int((part.labels[task] == 1).sum()) for name, part in self.parts.items()}
                for task in labels
            },
            "columns": sorted({name for table in self.parts["train"].tables().values() for name in table}),
            "words": list(self.words),
        }


def lists_of(shop: Shop, run: Run) -> Lists:
    """The lists of a simulated shop, with what its log told of people, items and pairs when each was shown."""
    data = simulate(shop).data
    later = later_slice(data, LATER, run)
    shown = later.shown
    if shown is None or shown.queries.now is None:
        raise DataError("The shop shows no lists.")
    stage = Stage.of({}, {}, later.early, later.known)
    cuts = np.quantile(shown.queries.now, np.cumsum(SHARES)[:2])
    of_part = np.searchsorted(cuts, shown.queries.now, side="right")
    parts = {name: _examples(stage, shown.take(np.flatnonzero(of_part == number))) for number, name in enumerate(PARTS)}
    words = (
        f"The lists that the simulated shop of `foretaste run demo` (seed {shop.seed}) showed in the last {LATER:.0%} "
        "of its time, and what came of each place. Seven tenths of the lists are train, the next two validation, the "
        "last one is test. The ranker knows what the log told of people, items and pairs when a list was shown, where "
        "each item stood, the catalogue, and no scores of other models.",
    )
    return Lists(parts, words)


def _examples(stage: Stage, shown: Shown) -> Examples:
    query, item = shown.items.row_of_value(), shown.items.values.astype(np.int64)
    pairs: Table = stage.of_pairs(shown.queries, query, item)
    places = replace(pairs, columns={POSITION: Number(shown.position.astype(np.float64)), **pairs.columns})
    labels: Mapping[str, NDArray[np.int8]] = shown.labels
    return Examples(query, stage.of_queries(shown.queries), item, stage.items, places, labels)
