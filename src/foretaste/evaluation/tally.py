"""What is kept of the lists of a model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import DataError
from foretaste.evaluation import lists
from foretaste.evaluation.entry import Answers
from foretaste.evaluation.metrics import primary, ranks
from foretaste.query import TopK
from foretaste.ragged import PAD, Ragged

__all__ = ["Tally"]

FALLBACK = "popularity"  # how the names of sources end that answer in place of a model


class Tally:
    """The ranks, the list metrics and the peculiarities of one model's lists, taken in chunk by chunk."""

    def __init__(
        self,
        targets: Ragged,
        k: Sequence[int],
        popularity: NDArray[np.int64] | None,
        vectors: lists.ItemVectors | None,
        items: int,
        offered: NDArray[np.int32] | None = None,
    ) -> None:
        """Make room for the lists of all queries.

        Args:
            targets: (queries) item indices.
            k: Cut-offs.
            popularity: (items,) for novelty and ARP; None = without these.
            vectors: For diversity; None = without it.
            items: Size of the model's catalogue.
            offered: What lists are made of; None = all of it.
        """
        self.offered = np.arange(items) if offered is None else offered
        self.targets, self.k, self.popularity, self.vectors, self.items = targets, k, popularity, vectors, items
        self.rank = np.zeros(len(targets.values), np.int32)  # (targets,) 0 = a miss
        self.shown = {each: np.zeros(items, np.int64) for each in k}
        names = ["novelty", "arp"] * (popularity is not None) + ["diversity"] * (vectors is not None)
        self.columns = {f"{name}@{each}": np.full(len(targets), np.nan) for name in names for each in k}
        self.cut = int(primary(k).split("@")[1])
        self.short = self.tied = self.constant = self.not_a_number = self.fallback = self.places = 0

    def add(self, name: str, rows: NDArray[np.int64], top: TopK) -> None:
        """Take in the lists of consecutive queries."""
        if len(top.items) != len(rows):
            raise DataError(f"{name} gave {len(top.items)} lists for {len(rows)} queries.")
        if top.items.size and not (top.items.min() >= PAD and top.items.max() < self.items):
            raise DataError(f"{name} offers an item outside its own catalogue of {self.items}.")
        items, scores = self._widened(top)
        begin, end = self.targets.offsets[rows[0]], self.targets.offsets[rows[-1] + 1]
        self.rank[begin:end] = ranks(items, scores, self.targets.take(rows)).values
        self._count(top, items, scores)
        for k in self.k:
            listed = items[:, :k]
            self.shown[k] += np.bincount(listed[listed != PAD], minlength=self.items)
            if self.popularity is not None:
                self.columns[f"novelty@{k}"][rows] = lists.novelty(listed, self.popularity)
                self.columns[f"arp@{k}"][rows] = lists.average_popularity(listed, self.popularity)
            if self.vectors is not None:
                self.columns[f"diversity@{k}"][rows] = lists.diversity(listed, self.vectors)

    def of_all_lists(self) -> dict[str, float]:
        """Coverage and Gini, which are properties of all lists together."""
        shown = {k: counts[self.offered] for k, counts in self.shown.items()}
        coverage = {f"coverage@{k}": lists.coverage(counts) for k, counts in shown.items()}
        return coverage | {f"gini@{k}": lists.gini(counts) for k, counts in shown.items()}

    def answers(self) -> Answers:
        """What the lists looked like."""
        queries, shown = len(self.targets), self.shown[self.cut]
        return Answers(
            short=self.short / queries,
            fallback=self.fallback / max(self.places, 1),
            tied=self.tied / queries,
            constant=self.constant / queries,
            not_a_number=self.not_a_number / queries,
            shown=float(np.count_nonzero(shown)),
            overlap=lists.overlap(shown, int(shown.sum()), queries),
        )

    def _widened(self, top: TopK) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Lists of one more than the largest k, or with PAD at their end where there is no more to list."""
        wanted = max(self.k) + 1
        items, scores = top.items[:, :wanted], top.scores[:, :wanted]
        # One PAD says it: lists as long as a k far above the catalogue would fill the memory.
        if items.shape[1] < wanted or items.shape[1] >= self.items:
            items = np.pad(items, ((0, 0), (0, 1)), constant_values=PAD)
            scores = np.pad(scores, ((0, 0), (0, 1)), constant_values=-np.inf)
        return items, scores

    def _count(self, top: TopK, items: NDArray[np.int32], scores: NDArray[np.float32]) -> None:
        listed = items != PAD
        length = listed.sum(1)
        last = scores[np.arange(len(items)), np.maximum(length - 1, 0)]
        self.short += int((length < min(max(self.k), len(self.offered))).sum())
        self.constant += int(((length > 1) & (scores[:, 0] == last)).sum())
        self.not_a_number += int((np.isnan(scores) & listed).any(1).sum())
        if items.shape[1] > self.cut:
            self.tied += int((listed[:, self.cut] & (scores[:, self.cut - 1] == scores[:, self.cut])).sum())
        instead = np.array([name.endswith(FALLBACK) for name in top.sources])
        filled = top.items != PAD
        self.places += int(filled.sum())
        self.fallback += int(instead[top.source[filled]].sum()) if len(instead) else 0
