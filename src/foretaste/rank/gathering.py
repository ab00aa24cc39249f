"""What a ranker learns from: the candidates of a later slice of the log, and the lists that were shown in it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import DataError
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.rank.examples import UNKNOWN, Examples
from foretaste.rank.later import ExampleKind, Later, Shown
from foretaste.rank.pool import Pool
from foretaste.rank.stage import Stage, among, drawn
from foretaste.run import Run

__all__ = ["EXAMPLES", "TOGETHER", "Gathering", "parts_of"]

TOGETHER = 512  # queries whose candidates are held at once
EXAMPLES: dict[ExampleKind, str] = {
    "shown": "lists that were shown",
    "candidates": "candidates",
    "both": "candidates and lists that were shown",
}


@dataclass(frozen=True, eq=False)
class Gathering:
    """How examples are made of a slice of the log that the sources did not see."""

    early: Stage  # the sources, fitted on what came before the slice
    later: Later
    hidden: Callable[[Queries], Ragged | None]  # what of each history is no candidate; None: nothing
    passed_over: int  # of each list of candidates, so many drawn from those that nothing came of
    lists: int  # that were shown, at most, drawn by chance
    run: Run

    def examples(self, kind: ExampleKind) -> Examples:
        """What the ranker learns from.

        Raises:
            DataError: Nobody met a candidate.
        """
        parts = []
        if kind != "shown":
            parts.append(self._of_candidates(positions=kind == "both"))
        if kind != "candidates" and self.later.shown is not None:
            parts.append(self._of_shown(self.later.shown))
        return Examples.together(parts)

    def _of_shown(self, shown: Shown) -> Examples:
        """Each item that was shown and may be shown again, with what came of it and where it stood."""
        rows = np.sort(self.run.rng("twostage", "shown").permutation(len(shown))[: self.lists])
        parts = []
        for some in parts_of(rows):
            own = shown.take(some)
            hidden = self.hidden(own.queries)
            own = own.without(hidden)
            pool = self.early.pool(own.queries, hidden, given=own.items)
            labels = {task: own.items.with_values(label).padded(fill=UNKNOWN) for task, label in own.labels.items()}
            position = own.items.with_values(own.position).padded()
            parts.append(self.early.examples(own.queries, pool, labels, position))
        examples = Examples.together(parts)
        self.run.log(f"twostage: the ranker learns from {len(rows):,} lists that were shown ({_counted(examples)})")
        return examples

    def _of_candidates(self, positions: bool) -> Examples:
        """The candidates of those who came later, with what came of each; lists of which nothing came are left out.

        Args:
            positions: Say that all stood in the first place, as others say where they stood.
        """
        later, rng, asked = self.later, self.run.rng("twostage", "examples"), len(self.later.queries)
        kept, pools = [np.empty(0, np.int64)], []
        for rows in parts_of(np.arange(asked)):
            queries = later.queries.take(rows)
            pool = self.early.pool(queries, self.hidden(queries))
            positive = np.any([among(pool.items, targets.take(rows)) for targets in later.came.values()], axis=0)
            lists = np.flatnonzero(positive.any(1))
            chosen = drawn(pool.items, positive, self.passed_over, rng)
            kept.append(rows[lists])
            pools.append(pool.take(lists).only(chosen[lists]))
        rows, pool = np.concatenate(kept), Pool.together(pools)
        if not len(rows):
            raise DataError(
                f"twostage: of {asked:,} who came back in the later slice nobody met a candidate of "
                f"{', '.join(self.early.sources)}. Raise candidates, or slice."
            )
        labels = {kind: among(pool.items, came.take(rows)).astype(np.int8) for kind, came in later.came.items()}
        first = np.zeros(pool.items.shape, np.int64) if positions else None
        examples = self.early.examples(later.queries.take(rows), pool, labels, first)
        self.run.log(
            f"twostage: the ranker learns from {len(rows):,} of {asked:,} lists, those of which something came "
            f"({_counted(examples)}); the slice is {later.words}. What nothing came of is taken for passed over"
        )
        return examples


def parts_of(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Parts of the queries whose candidates are held at once; one part where there are none."""
    return np.array_split(rows, max(1, -(-len(rows) // TOGETHER)))


def _counted(examples: Examples) -> str:
    return ", ".join(f"{int((label == 1).sum()):,} {task}" for task, label in examples.labels.items())
