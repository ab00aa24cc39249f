"""Learns vectors of many items, builds an index of them, and searches, whenever a line on stdin asks."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from foretaste_sequences import answer
from numpy.typing import NDArray

from foretaste.ann import VectorIndex, faiss_module
from foretaste.dataset import Dataset
from foretaste.memory import peak_memory
from foretaste.models import model_settings
from foretaste.recipe import validated
from foretaste.run import Run
from foretaste.scoring import VectorModel
from foretaste.simulate import simulate_events
from foretaste.split import leave_one_out
from foretaste.vocab import Vocab

K = 10


class Side:
    """The simulated log, what was learned from it, and its indexes."""

    model: VectorModel
    index: VectorIndex
    exact: VectorIndex

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        torch.set_num_threads(order["threads"])
        chunks = list(simulate_events(order["events"], order["users"], order["items"]))
        user, item, when = (np.concatenate(each) for each in zip(*chunks, strict=True))
        users, items = Vocab(np.arange(order["users"])), Vocab(np.arange(order["items"]))
        split = leave_one_out(Dataset.from_arrays(users, items, user, item, time=when), validation_users=0)
        self.train, rng = split.train, np.random.default_rng(0)
        count = min(2 * order["queries"], len(split.test))
        rows = rng.permutation(len(split.test))[:count]
        self.queries = split.test.queries.take(rows)
        self.targets = split.test.targets.take(rows).values

    def learn(self) -> None:
        """Vectors of all items, from a fit without validation."""
        losses: list[float] = []

        def log(message: str, numbers: dict[str, float] | None = None) -> None:
            if numbers is not None and "loss" in numbers:
                losses.append(numbers["loss"])

        settings = validated(model_settings(self.order["model"]), self.order["settings"], self.order["model"])
        begun = time.perf_counter()
        self.model = settings.fit(self.train, None, Run(device="cpu", threads=self.order["threads"], log=log))
        answer(
            seconds=time.perf_counter() - begun,
            losses=losses,
            events=len(self.train),
            users=len(self.train.users),
            items=len(self.train.items),
            fingerprint=self.train.fingerprint,
        )

    def build(self) -> None:
        """The index, its effort chosen on half of the queries; and the flat one that looks at all items."""
        vectors, items = self.model.item_vectors(), np.flatnonzero(self.model.answerable())
        tuned_on, self.asked = np.array_split(self.model.query_vectors(self.queries), 2)
        self.wanted = np.array_split(self.targets, 2)[1]
        told: list[str] = []
        begun = time.perf_counter()
        self.index = VectorIndex.of(
            vectors,
            items,
            tuned_on,
            kind=self.order["kind"],
            least_recall=self.order["least_recall"],
            log=lambda message, numbers=None: told.append(message),
        )
        seconds = time.perf_counter() - begun
        self.exact = VectorIndex.of(vectors, items, tuned_on[:1], kind="flat")
        self.vectors = torch.from_numpy(np.ascontiguousarray(vectors[items]))
        answer(seconds=seconds, said=told[-1], kind=self.index.kind, effort=self.index.effort, indexed=len(items))

    def search(self) -> None:
        """Queries a second of each way, one query after another on one thread; the first few of each warm up."""
        faiss_module().omp_set_num_threads(1)
        torch.set_num_threads(1)
        few = self.order["exact_queries"]
        answer(
            index=rate(lambda query: self.index.search(query, K), self.asked),
            flat=rate(lambda query: self.exact.search(query, K), self.asked[:few]),
            products=rate(self.best_by_products, self.asked[:few]),
        )
        torch.set_num_threads(self.order["threads"])
        faiss_module().omp_set_num_threads(self.order["threads"])

    def best_by_products(self, query: NDArray[np.float32]) -> Any:
        return torch.topk(self.vectors @ torch.from_numpy(query[0]), K)

    def about(self) -> None:
        best, scores = self.exact.search(self.asked, K)
        found, found_scores = self.index.search(self.asked, K)
        # Equal products count as found, whichever of the items it was.
        as_good = found_scores >= scores[:, -1:] - 1e-5 * np.abs(scores[:, -1:])
        popular = np.argsort(-np.bincount(self.train.item))[:K]
        answer(
            recall=float(as_good.mean()),
            hits={
                "exact": hits(best, self.wanted),
                "index": hits(found, self.wanted),
                "popular": hits(np.broadcast_to(popular, best.shape), self.wanted),
            },
            queries=len(self.asked),
            peak_bytes=peak_memory(),
        )


def rate(search: Callable[[NDArray[np.float32]], Any], queries: NDArray[np.float32]) -> float:
    """Queries a second."""
    for query in queries[: max(1, len(queries) // 10)]:
        search(query[None])
    begun = time.perf_counter()
    for query in queries:
        search(query[None])
    return len(queries) / (time.perf_counter() - begun)


def hits(lists: NDArray[np.integer], wanted: NDArray[np.integer]) -> float:
    """The share of the lists that hold what was wanted; what was met before is not hidden from them."""
    return float((lists == wanted[:, None]).any(1).mean())


def main() -> None:
    side = Side(json.loads(sys.stdin.readline()))
    requests = {each.__name__: each for each in (side.learn, side.build, side.search, side.about)}
    for line in sys.stdin:
        requests[line.strip()]()


if __name__ == "__main__":
    main()
