"""RecTools ranks the same vectors; runs in the peer's own environment, and prints JSON on its last line.

python rectools_ranking.py VECTORS.npz LISTS.npz REPETITIONS THREADS K
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models.rank import Distance, ImplicitRanker, TorchRanker
from rectools.models.vector import Factors, VectorModel
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits


class FixedVectors(VectorModel):
    """A model whose vectors are given: what its ``recommend`` does is all RecTools'."""

    u2i_dist = Distance.DOT
    i2i_dist = Distance.DOT

    def __init__(self, users: np.ndarray, items: np.ndarray, threads: int) -> None:
        super().__init__()
        self.user_vectors, self.item_vectors = users, items
        self.recommend_n_threads, self.recommend_use_gpu_ranking = threads, False
        self.is_fitted = True

    def _fit(self, dataset: Dataset) -> None:
        """Nothing is learnt."""

    def _get_users_factors(self, dataset: Dataset) -> Factors:
        return Factors(self.user_vectors)

    def _get_items_factors(self, dataset: Dataset) -> Factors:
        return Factors(self.item_vectors)


def main(vectors: str, lists: str, repetitions: int, threads: int, k: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    given = np.load(vectors)
    users, items, offsets, seen = given["queries"], given["items"], given["offsets"], given["history"]
    subjects = np.arange(len(users))
    pairs = csr_matrix((np.ones(len(seen), np.float32), seen, offsets), shape=(len(users), len(items)))
    dataset, known = _dataset(offsets, seen, len(users), len(items))
    # Their columns of item numbers follow the order in which the log names them; the vectors have to follow too.
    order = dataset.item_id_map.convert_to_internal(np.arange(len(items)))
    in_their_order = np.empty_like(items)
    in_their_order[order] = items
    model = FixedVectors(users, in_their_order, threads)

    def implicit() -> Any:
        ranker = ImplicitRanker(Distance.DOT, users, items, num_threads=threads)
        return ranker.rank(subjects, k=k, filter_pairs_csr=pairs)

    def torch_ranker(batch: int) -> Any:
        ranker = TorchRanker(Distance.DOT, "cpu", users, items, batch_size=batch)
        return ranker.rank(subjects, k=k, filter_pairs_csr=pairs)

    def end_to_end() -> Any:
        return model.recommend(known, dataset, k=k, filter_viewed=True)

    ways: dict[str, Callable[[], Any]] = {
        "ImplicitRanker": implicit,
        # Its own threads and those of the matrix product get into each other's way.
        "ImplicitRanker, BLAS with 1 thread": _with_one_blas_thread(implicit),
        "TorchRanker, batch 128": lambda: torch_ranker(128),
        "TorchRanker, batch 1024": lambda: torch_ranker(1024),
        "recommend to a frame": end_to_end,
        "recommend to a frame, BLAS with 1 thread": _with_one_blas_thread(end_to_end),
    }
    timed = {name: _timed(way, repetitions) for name, way in ways.items()}
    seconds = {name: [clock for clock, _ in each] for name, each in timed.items()}
    work = {name: [processor for _, processor in each] for name, each in timed.items()}
    _, found, scores = torch_ranker(1024)
    np.savez(lists, items=found.reshape(len(users), -1), scores=scores.reshape(len(users), -1))
    frame = end_to_end()
    np.savez(lists.replace(".npz", ".frame.npz"), items=frame[Columns.Item].to_numpy().reshape(len(users), -1))
    names = ("RecTools", "pm-implicit", "torch", "numpy", "scipy", "pandas")
    return {
        "seconds": seconds,
        "cpu_seconds": work,
        "versions": {name: version(name) for name in names},
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _dataset(offsets: np.ndarray, seen: np.ndarray, users: int, items: int) -> tuple[Dataset, np.ndarray]:
    """The histories as RecTools' data, and the ids of the users in the order of the queries."""
    user = np.repeat(np.arange(users), np.diff(offsets))
    missing = np.setdiff1d(np.arange(items), seen)
    frame = pd.DataFrame({Columns.User: user, Columns.Item: seen, Columns.Weight: 1.0, Columns.Datetime: "2026-01-01"})
    if len(missing):
        # RecTools knows only items of the log: one more user, who is not asked, has met the rest.
        rest = {Columns.User: users, Columns.Item: missing, Columns.Weight: 1.0, Columns.Datetime: "2026-01-01"}
        frame = pd.concat([frame, pd.DataFrame(rest)], ignore_index=True)
    return Dataset.construct(frame), np.arange(users)


def _with_one_blas_thread(way: Callable[[], Any]) -> Callable[[], Any]:
    def limited() -> Any:
        with threadpool_limits(1, user_api="blas"):
            return way()

    return limited


def _timed(way: Callable[[], Any], repetitions: int) -> list[tuple[float, float]]:
    """Seconds by the clock and of processor time, of all threads, of each repetition."""
    way()
    seconds = []
    for _ in range(repetitions):
        begun, begun_work = time.perf_counter(), time.process_time()
        way()
        seconds.append((time.perf_counter() - begun, time.process_time() - begun_work))
    return seconds


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
