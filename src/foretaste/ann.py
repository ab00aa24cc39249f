"""Item vectors arranged so that the nearest to a query are found without looking at all of them, through FAISS."""

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import ConfigError
from foretaste.ragged import PAD
from foretaste.run import Log, silent

__all__ = ["LEAST_RECALL", "IndexKind", "VectorIndex", "faiss_module"]

IndexKind = Literal["auto", "flat", "hnsw", "ivf"]
FLAT_UP_TO, HNSW_UP_TO = 20_000, 2_000_000  # items
LINKS, BUILD_EFFORT = 32, 200  # of HNSW: links per item and level, and how many items are looked at for each link
LEAST_EFFORT, MOST_EFFORT = 8, 4096
LEAST_RECALL = 0.98


class VectorIndex:
    """The items with the highest inner products, found exactly ("flat") or nearly so ("hnsw", "ivf").

    Source: FAISS (Douze et al., "The Faiss library", 2024); HNSW is of Malkov, Yashunin, TPAMI 2020, IVF cuts the items
        into cells and looks into the nearest ones.
    """

    def __init__(
        self, kind: str, index: Any, items: NDArray[np.int32], effort: int, least_recall: float = LEAST_RECALL
    ) -> None:
        """Args: items, what each place of the index stands for; effort, how much of the index a search looks at."""
        self.kind, self._index, self._items = kind, index, items
        self.effort, self.least_recall = effort, least_recall

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        items: NDArray[np.integer],
        asked: NDArray[np.float32],
        *,
        kind: IndexKind = "auto",
        least_recall: float = LEAST_RECALL,
        log: Log = silent,
    ) -> Self:
        """An index that finds the ten best of each of the sample queries as surely as is wanted.

        Args:
            vectors: (all, dim) of all items.
            items: Those that may be found.
            asked: (queries, dim) a sample of what will be asked.
            kind: "auto" is flat up to 20,000 items, hnsw up to 2 million, ivf beyond.
            least_recall: The share of the exact ten that is to be found; the effort of a search is doubled until it is.
            log: Gets the kind, the effort and the recall.

        Raises:
            ConfigError: FAISS is not installed, or there are no items.
        """
        faiss, count = faiss_module(), len(items)
        if not count:
            raise ConfigError("There is no item to put into an index.")
        if kind == "auto":
            kind = "flat" if count <= FLAT_UP_TO else "hnsw" if count <= HNSW_UP_TO else "ivf"
        inside = np.ascontiguousarray(vectors[items], np.float32)
        built = _built(faiss, kind, inside)
        found = cls(kind, built, np.asarray(items, np.int32), LEAST_EFFORT, least_recall)
        exact = cls("flat", _built(faiss, "flat", inside), found._items, LEAST_EFFORT)
        recall = found._recall(exact, asked)
        while kind != "flat" and recall < least_recall and found.effort < MOST_EFFORT:
            found.effort *= 2
            recall = found._recall(exact, asked)
        told = "all items are looked at" if kind == "flat" else f"{kind}, effort {found.effort}, recall@10 {recall:.3f}"
        log(f"index of {count:,} items: {told}", {"recall@10": recall})
        return found

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k best items of each query, best first; of equal products in no certain order.

        Args:
            queries: (queries, dim) no NaN.

        Returns:
            Items (queries, k), PAD where fewer were found, and their inner products, -inf there.
        """
        wanted = min(k, len(self._items))
        if self.kind == "hnsw":
            self._index.hnsw.efSearch = max(self.effort, wanted)
        elif self.kind == "ivf":
            self._index.nprobe = self.effort
        scores, places = self._index.search(np.ascontiguousarray(queries, np.float32), wanted)
        items = np.where(places < 0, PAD, self._items[places]).astype(np.int32)
        scores = np.where(places < 0, -np.inf, scores).astype(np.float32)
        lacking = ((0, 0), (0, k - wanted))
        return np.pad(items, lacking, constant_values=PAD), np.pad(scores, lacking, constant_values=-np.inf)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to store."""
        kind = np.frombuffer(self.kind.encode(), np.uint8)
        return {
            "kind": kind.copy(),
            "effort": np.array([self.effort]),
            "least_recall": np.array([self.least_recall]),
            "items": self._items,
            "index": faiss_module().serialize_index(self._index),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        index = faiss_module().deserialize_index(np.ascontiguousarray(arrays["index"]))
        kind, effort = arrays["kind"].tobytes().decode(), int(arrays["effort"][0])
        wanted = arrays.get("least_recall", np.array([LEAST_RECALL]))  # indexes saved before it was kept
        return cls(kind, index, arrays["items"], effort, float(wanted[0]))

    def _recall(self, exact: Self, asked: NDArray[np.float32]) -> float:
        """The share of the exact ten best that a search finds, over the queries; equal products count as found."""
        if not len(asked):
            return 1.0
        k = min(10, len(self._items))
        best, found = exact.search(asked, k)[1], self.search(asked, k)[1]
        return float((found >= best[:, -1:] - 1e-5 * np.abs(best[:, -1:])).mean())


def _built(faiss: ModuleType, kind: str, vectors: NDArray[np.float32]) -> Any:
    count, dim = vectors.shape
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_EFFORT
    elif kind == "ivf":
        cells = max(1, min(count // 39, 4 * math.isqrt(count)))  # FAISS wants 39 vectors per cell to learn from
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
    else:
        index = faiss.IndexFlatIP(dim)
    index.add(vectors)
    return index


def faiss_module() -> ModuleType:
    """Raises ConfigError where FAISS is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise ConfigError("An index needs FAISS, which is not installed: pip install 'foretaste[ann]'.") from error
    return faiss
