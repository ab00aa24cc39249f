"""Candidates of several models for the same queries, put together, with what each model says of each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from foretaste.catalog import Number
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import Model
from foretaste.topk import best, mask_scores

__all__ = ["Pool", "pooled"]

AnyNumber = TypeVar("AnyNumber", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Pool:
    """The union of the candidates of each query: the first of each model, then the second of each, and so on."""

    items: NDArray[np.int32]  # (queries, candidates); PAD behind those that there are
    first: NDArray[np.int8]  # (queries, candidates) which model names it highest; PAD at PAD
    scores: NDArray[np.float32]  # (models, queries, candidates), in deviations of the model's own list; NaN = no answer
    ranks: NDArray[np.int32]  # (models, queries, candidates) 0 = its best; the length of its list where it is below
    labels: tuple[str, ...]  # of the models

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def nothing(cls, labels: tuple[str, ...]) -> Self:
        """No queries at all."""
        told = np.empty((len(labels), 0, 0))
        return cls(
            np.empty((0, 0), np.int32),
            np.empty((0, 0), np.int8),
            told.astype(np.float32),
            told.astype(np.int32),
            labels,
        )

    @classmethod
    def together(cls, pools: Sequence["Pool"]) -> Self:
        """The queries of several pools of the same models, one behind the other."""
        width = max(pool.items.shape[1] for pool in pools)
        return cls(
            np.concatenate([_wide(pool.items, width, PAD) for pool in pools]),
            np.concatenate([_wide(pool.first, width, PAD) for pool in pools]),
            np.concatenate([_wide(pool.scores, width, np.nan) for pool in pools], 1),
            np.concatenate([_wide(pool.ranks, width, 0) for pool in pools], 1),
            pools[0].labels,
        )

    def take(self, rows: NDArray[np.integer]) -> "Pool":
        return Pool(self.items[rows], self.first[rows], self.scores[:, rows], self.ranks[:, rows], self.labels)

    def only(self, kept: NDArray[np.bool_]) -> "Pool":
        """The candidates for which ``kept`` (queries, candidates) is true, in their order."""
        order = np.argsort(~kept, axis=1, kind="stable")[:, : int(kept.sum(1).max(initial=0))]
        lacks = np.take_along_axis(~kept, order, 1)
        items = np.where(lacks, PAD, np.take_along_axis(self.items, order, 1)).astype(np.int32)
        first = np.where(lacks, PAD, np.take_along_axis(self.first, order, 1)).astype(np.int8)
        scores = np.take_along_axis(self.scores, order[None], 2)
        return Pool(items, first, scores, np.take_along_axis(self.ranks, order[None], 2), self.labels)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(pairs,) twice: the query and the item of each candidate, in their order."""
        query, place = np.nonzero(self.items != PAD)
        return query, self.items[query, place].astype(np.int64)

    def features(self) -> dict[str, Number]:
        """What the models say of each pair of ``flat``: for each its score and the logarithm of its rank."""
        there = self.items != PAD
        found: dict[str, Number] = {}
        for at, label in enumerate(self.labels):
            found[f"{label} score"] = Number(self.scores[at][there].astype(np.float64))
            found[f"{label} rank"] = Number(np.log1p(self.ranks[at][there]))
        return found


def pooled(
    sources: Mapping[str, Model],
    queries: Queries,
    sizes: Mapping[str, int],
    hidden: Ragged | None,
    offered: NDArray[np.bool_] | None,
    given: Ragged | None = None,
) -> Pool:
    """The candidates of some models, asked with the same queries.

    Args:
        sizes: How many of each model.
        hidden: (queries) items that are not candidates. None: none.
        offered: (items,) those that may be candidates at all. None: all.
        given: (queries) distinct items that are the candidates in the place of those that the models would name.
    """
    scorers = {label: model._scorer(queries) for label, model in sources.items()}
    parts = []
    for chunk in next(iter(sources.values()))._chunks(len(queries)):
        own = None if hidden is None else hidden.take(chunk)
        scores = {label: scores_of(chunk) for label, scores_of in scorers.items()}
        parts.append(_of_chunk(scores, sizes, own, offered, None if given is None else given.take(chunk)))
    return Pool.together(parts) if parts else Pool.nothing(tuple(sources))


def _of_chunk(
    scores: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    hidden: Ragged | None,
    offered: NDArray[np.bool_] | None,
    given: Ragged | None,
) -> Pool:
    found: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]] = {}
    for label, each in scores.items():
        mask_scores(each, hidden, offered)
        found[label] = best(each, min(sizes[label], each.shape[1]))
    items, first = _union([lists for lists, _ in found.values()]) if given is None else (given.padded(), None)
    told, ranks = [], []
    for label, each in scores.items():
        own, rank = _said(each, found[label][1], items)
        told.append(own)
        ranks.append(rank)
    if first is None:
        first = np.where(items == PAD, PAD, np.argmin(ranks, axis=0)).astype(np.int8)
    return Pool(items, first, np.stack(told), np.stack(ranks), tuple(scores))


def _union(lists: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """(queries, candidates) twice: the items of all lists, place by place, each once, and which list had it first."""
    longest = max(each.shape[1] for each in lists)
    stacked = np.stack([_wide(each, longest, PAD) for each in lists], 2)  # (queries, places, lists)
    items = stacked.reshape(len(stacked), -1)
    of_list = np.tile(np.arange(len(lists), dtype=np.int8), longest)
    order = np.argsort(items, axis=1, kind="stable")
    in_order = np.take_along_axis(items, order, 1)
    repeated = np.zeros(items.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], 1)
    gone = repeated | (items == PAD)
    kept = np.argsort(gone, axis=1, kind="stable")[:, : int((~gone).sum(1).max(initial=0))]
    lacks = np.take_along_axis(gone, kept, 1)
    return np.where(lacks, PAD, np.take_along_axis(items, kept, 1)), np.where(lacks, PAD, of_list[kept]).astype(np.int8)


def _said(
    scores: torch.Tensor, best_scores: NDArray[np.float32], items: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """What a model says of these items: scores in deviations from the mean of its own list, and ranks within it."""
    index = torch.from_numpy(np.where(items == PAD, 0, items).astype(np.int64))
    own = scores.gather(1, index).numpy()
    own = np.where((items == PAD) | ~np.isfinite(own), np.nan, own)
    listed = np.where(np.isfinite(best_scores), best_scores, np.nan)
    count = np.maximum(np.isfinite(listed).sum(1, keepdims=True), 1)
    mean = np.nansum(listed, axis=1, keepdims=True) / count
    deviation = np.sqrt(np.nansum((listed - mean) ** 2, axis=1, keepdims=True) / count)
    ascending = torch.from_numpy(best_scores[:, ::-1].copy())
    told = torch.from_numpy(np.where(np.isnan(own), -np.inf, own).astype(np.float32))
    above = best_scores.shape[1] - torch.searchsorted(ascending, told.contiguous(), right=True)
    scaled = (own - mean) / np.where(deviation > 0, deviation, 1.0)
    return scaled.astype(np.float32), above.numpy().astype(np.int32)


def _wide(array: NDArray[AnyNumber], width: int, fill: float) -> NDArray[AnyNumber]:
    """With ``fill`` behind the last axis, up to so many."""
    lacking = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return np.pad(array, lacking, constant_values=fill)
