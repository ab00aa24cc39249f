"""What the lists themselves are like, whatever was right: coverage, Gini, novelty, popularity bias, diversity.

Popularity is always the number of training events with an item. The head are the fewest most popular items that make up
half of all events, as in the slices of a split; the long tail are all others, those never met included.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from foretaste.catalog import Categories, Category
from foretaste.dataset import Dataset
from foretaste.indicators import indicators
from foretaste.ragged import PAD

__all__ = [
    "ItemVectors",
    "average_popularity",
    "coverage",
    "diversity",
    "gini",
    "item_vectors",
    "long_tail",
    "novelty",
    "overlap",
    "popularity",
]

MOST_DIMENSIONS = 512  # of vectors that stand for item columns too wide to be held as they are
LEAST_DIMENSIONS = 64
VECTOR_BYTES = 128 * 2**20  # what all item vectors may take, above the least dimensions


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Vectors whose inner product is the likeness of two items, in [0, 1]."""

    values: NDArray[np.float32]  # (items, dim)
    known: NDArray[np.bool_]  # (items,) false where nothing is known of the item
    of: str  # what the likeness is measured by, in words


def popularity(train: Dataset) -> NDArray[np.int64]:
    """(items,) how many events of the training data are with each item."""
    return np.bincount(train.item, minlength=len(train.items))


def long_tail(popularity: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(items,) all but the fewest most popular items that make up half of the events."""
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    tail = np.ones(len(popularity), bool)
    tail[order[(2 * before < popularity.sum()) & (popularity[order] > 0)]] = False
    return tail


def coverage(shown: NDArray[np.int64]) -> float:
    """Share of the catalogue that stands in at least one list; ``shown`` (items,) counts the lists that hold each."""
    return float(np.count_nonzero(shown) / max(len(shown), 1))


def gini(shown: NDArray[np.int64]) -> float:
    """How unequally places in lists go to the items of the catalogue: 0 = all alike, near 1 = one item has them all.

    Source: Fleder, Hosanagar, "Blockbuster culture's next rise or fall", Management Science 2009, section 5.
    """
    total, size = shown.sum(), len(shown)
    if not total:
        return float("nan")
    ascending = np.sort(shown)
    return float(2 * (np.arange(1, size + 1) * ascending).sum() / (size * total) - (size + 1) / size)


def overlap(shown: NDArray[np.int64], places: int, queries: int) -> float:
    """Share of a list that another query's list holds too, on average over all pairs of queries; NaN for one query.

    Args:
        shown: (items,) how many lists hold each item.
        places: Filled places in all lists.
        queries: Number of lists.
    """
    if queries < 2 or not places:
        return float("nan")
    return float((shown * (shown - 1.0)).sum() / (places * (queries - 1)))


def novelty(items: NDArray[np.int32], popularity: NDArray[np.int64]) -> NDArray[np.float64]:
    """(queries,) mean self-information of the listed items in bits: log2(all events / popularity). NaN for empty lists.

    An item never met counts as met once. Source: Zhou et al., "Solving the apparent diversity-accuracy dilemma", PNAS
    2010. Differs: the chance to meet an item is its share of the events, not of the users.
    """
    information = np.log2(max(int(popularity.sum()), 1) / np.maximum(popularity, 1))
    return _mean_listed(items, information)


def average_popularity(items: NDArray[np.int32], popularity: NDArray[np.int64]) -> NDArray[np.float64]:
    """(queries,) mean popularity of the listed items, in training events (ARP). NaN for empty lists.

    Source: Yin et al., "Challenging the long tail recommendation", VLDB 2012.
    """
    return _mean_listed(items, popularity.astype(np.float64))


def diversity(items: NDArray[np.int32], vectors: ItemVectors) -> NDArray[np.float64]:
    """(queries,) mean of 1 - likeness over the pairs of a list; NaN where fewer than two of its items are known.

    Source: Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005, as a mean.
    """
    known = (items != PAD) & vectors.known[items]
    together = np.zeros((len(items), vectors.values.shape[1]), np.float32)
    own = np.zeros(len(items))
    # One place at a time: (queries, dim) is held, never (queries, k, dim).
    for place in range(items.shape[1]):
        vector = vectors.values[items[:, place]] * known[:, place, None]
        together += vector
        own += np.einsum("qd,qd->q", vector, vector)
    count = known.sum(1)
    pairs = np.where(count > 1, count * (count - 1.0), np.nan)
    alike: NDArray[np.float64] = (np.einsum("qd,qd->q", together, together).astype(np.float64) - own) / pairs
    return 1 - alike


def item_vectors(train: Dataset) -> ItemVectors:
    """Likeness by the categories of the catalogue; where there are none, by the users that two items share.

    Either is a cosine. Wide vectors are hashed into 64 to 512 signed places, as many as 128 MiB hold, so likeness is
    approximate: its standard deviation is about 1 / sqrt(places) for two items, and 1.5 / sqrt(places) of itself for
    the mean of many lists. The hashing is always the same, so models are compared fairly.

    Source: Charikar et al., "Finding frequent items in data streams", ICALP 2002, for the hashing.
    """
    columns = {} if train.catalog is None else train.catalog.items.of_kind("category", "categories")
    blocks = [indicators(cast("Category | Categories", column)) for column in columns.values()]
    if blocks and any(block.nnz for block in blocks):
        matrix, of = csr_matrix(hstack(blocks)), "categories (" + ", ".join(columns) + ")"
    else:
        matrix, of = csr_matrix(train.matrix(binary=True).T), "co-occurrence in training"
    length = np.sqrt(matrix.getnnz(axis=1)).astype(np.float32)
    data = np.repeat(1 / np.maximum(length, 1), matrix.getnnz(axis=1)).astype(np.float32)
    matrix = csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    return ItemVectors(_dense(matrix), length > 0, of)


def _dense(matrix: csr_matrix) -> NDArray[np.float32]:
    """The rows as they are where they are short, else hashed into fewer signed places."""
    items, width = matrix.shape
    places = int(np.clip(VECTOR_BYTES // (4 * max(items, 1)), LEAST_DIMENSIONS, MOST_DIMENSIONS))
    if width <= places:
        return matrix.toarray().astype(np.float32)
    rng = np.random.default_rng(0)
    place = rng.integers(0, places, width)
    sign = rng.choice(np.array([-1, 1], np.float32), width)
    signed = (matrix.data * sign[matrix.indices], place[matrix.indices], matrix.indptr)
    hashed = csr_matrix(signed, shape=(items, places))
    hashed.sum_duplicates()
    return hashed.toarray().astype(np.float32)


def _mean_listed(items: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(queries,) mean of the values (items,) over what is listed; NaN for empty lists."""
    listed = items != PAD
    count = listed.sum(1)
    means: NDArray[np.float64] = np.where(listed, values[items], 0.0).sum(1) / np.where(count > 0, count, np.nan)
    return means
