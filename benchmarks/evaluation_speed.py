"""From vectors to the top 10: our ``recommend`` beside RecTools' rankers on the same vectors and histories."""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import HERE, Peer, PeerAbsent, own_python, run_child, scratch, summary, table
from numpy.typing import NDArray

if TYPE_CHECKING:
    from foretaste.scoring import VectorModel

DIM, K, THREADS = 64, 10, 2
RECTOOLS = Peer("rectools", ("rectools[torch]==0.19.0", "torch==2.13.0"))
RANKERS = ("ImplicitRanker", "ImplicitRanker, BLAS with 1 thread", "TorchRanker, batch 128", "TorchRanker, batch 1024")
FRAMES = ("recommend to a frame", "recommend to a frame, BLAS with 1 thread")
CLOSE = 1e-4  # by how much two libraries may differ in a sum of 64 products of about 1

PROTOCOL = (
    "Random normal float32 vectors of 64 numbers, seeded, for queries and items. Histories: those of the test queries "
    "of ml-1m-sasrec, leave-one-out, where FORETASTE_DATA holds it, else simulated with as many events, skewed by "
    "popularity; for the second size always simulated.",
    "'lists': from vectors and histories to the indices and scores of the 10 best items that are not in the history. "
    "Ours is VectorModel.recommend(queries, 10); theirs is .rank(...) of ImplicitRanker and TorchRanker with the "
    "histories as filter_pairs_csr, their construction included; the fastest of them is the one compared with.",
    "'frame': from the ids of known users to a table with outside ids. Ours is recommend(users, 10).frame(); theirs is "
    "VectorModel.recommend(users, dataset, k=10, filter_viewed=True). The stored histories are prepared outside.",
    "Same run, same files, 2 threads for both (OMP, MKL, OpenBLAS, torch, num_threads), none of which "
    "spins while it waits (OMP_WAIT_POLICY=passive, for both). Processes alternate: ours, "
    "theirs, ours, theirs; never both at once; each warms every way up once and then times its repetitions. Medians "
    "over all repetitions of all rounds; the ratio is theirs / ours per round, so above 1 we are faster. "
    "cpu is the processor time of all threads, which other work on the machine disturbs less than the clock.",
    "Both must give the same lists; where they differ, scores place by place must be equal to 1e-4: such are ties of "
    "rounding.",
)


@dataclass(frozen=True)
class Case:
    """A size to measure at."""

    name: str
    queries: int
    items: int
    events: int
    rounds: int
    repetitions: int
    published: bool = False  # take the histories of the published data, where they are


CASES = (
    Case("ml-1m", 6_040, 3_416, 993_571, rounds=5, repetitions=3, published=True),
    Case("gowalla", 30_000, 41_000, 810_000, rounds=1, repetitions=1),
)
QUICK_CASES = (Case("quick", 300, 500, 6_000, rounds=1, repetitions=2),)


def measure(*, quick: bool) -> dict[str, Any]:
    peer, why_absent = None, "not asked for by --quick"
    if not quick:
        try:
            peer, why_absent = RECTOOLS.python(), ""
        except PeerAbsent as error:
            why_absent = str(error)
    with scratch("evaluation_speed") as folder:
        cases = [_measured(case, peer, folder) for case in (QUICK_CASES if quick else CASES)]
    held = all(case.get("agreement", {}).get("same_up_to_ties", True) for case in cases)
    about = {"name": RECTOOLS.name, "requirements": list(RECTOOLS.requirements), "absent": why_absent or None}
    return {"threads": THREADS, "k": K, "dim": DIM, "peer": about, "held": held, "cases": cases}


def tables(results: dict[str, Any]) -> str:
    parts = []
    for case in results["cases"]:
        title = f"{case['name']}: {case['queries']:,} queries, {case['items']:,} items, {case['histories']} histories"
        rows = [
            (
                who,
                what,
                *(f"{spread[each] * 1000:.0f}" for each in ("median", "min", "max")),
                f"{case['cpu_seconds'][who][what]['median'] * 1000:.0f}",
            )
            for who, ways in case["seconds"].items()
            for what, spread in ways.items()
        ]
        parts.append(table(title, ("who", "way", "median ms", "min", "max", "cpu ms"), rows))
        parts += [
            f"{what}: RecTools' fastest ({ratio['against']}) / ours = {ratio['median']:.2f} "
            f"({ratio['min']:.2f} to {ratio['max']:.2f})"
            for what, ratio in case.get("ratios", {}).items()
        ]
        if "agreement" in case:
            agreement = case["agreement"]
            parts.append(f"same lists: {agreement['same_rows']:,} of {case['queries']:,}; {agreement['words']}")
        parts.append("")
    if results["peer"]["absent"]:
        parts.append(f"RecTools: {results['peer']['absent']}")
    return "\n".join(parts)


def _measured(case: Case, peer: Path | None, folder: Path) -> dict[str, Any]:
    vectors = folder / f"{case.name}.npz"
    histories = _write_vectors(case, vectors)
    raw: dict[str, list[dict[str, Any]]] = {"foretaste": [], "rectools": []}
    sides: list[tuple[str, str | Path, Path]] = [("foretaste", own_python(), Path(__file__))]
    if peer is not None:
        sides.append(("rectools", peer, HERE / "peers" / "rectools_ranking.py"))
    for number in range(case.rounds):
        print(f"{case.name}: round {number + 1} of {case.rounds}", flush=True)
        for who, python, script in sides:
            lists = folder / f"{case.name}.{who}.npz"
            raw[who].append(run_child(python, script, [vectors, lists, case.repetitions, THREADS, K], THREADS))
    result: dict[str, Any] = {
        "name": case.name,
        "queries": case.queries,
        "items": case.items,
        "histories": histories,
        **{
            unit: {who: _over_rounds(rounds, unit) for who, rounds in raw.items() if rounds}
            for unit in ("seconds", "cpu_seconds")
        },
        "raw": raw,
    }
    if peer is not None:
        result["ratios"] = {
            "lists": _ratio(raw, "lists", RANKERS),
            "frame": _ratio(raw, "frame", FRAMES),
        }
        result["agreement"] = _agreement(folder, case)
    return result


def _over_rounds(rounds: list[dict[str, Any]], unit: str) -> dict[str, dict[str, float]]:
    return {way: summary([each for one in rounds for each in one[unit][way]]) for way in rounds[0][unit]}


def _ratio(raw: Mapping[str, list[dict[str, Any]]], ours: str, theirs: tuple[str, ...]) -> dict[str, Any]:
    """Theirs / ours in each round, against the way of theirs that is fastest over all rounds."""
    spreads = _over_rounds(raw["rectools"], "seconds")
    fastest = min(theirs, key=lambda way: spreads[way]["median"])
    ratios = [
        float(np.median(their["seconds"][fastest]) / np.median(our["seconds"][ours]))
        for our, their in zip(raw["foretaste"], raw["rectools"], strict=True)
    ]
    return {"against": fastest, **summary(ratios), "rounds": ratios}


def _agreement(folder: Path, case: Case) -> dict[str, Any]:
    our, their = (np.load(folder / f"{case.name}.{who}.npz") for who in ("foretaste", "rectools"))
    frame = np.load(folder / f"{case.name}.rectools.frame.npz")["items"]
    differ = (our["items"] != their["items"]).any(1)
    differ_in_frame = (our["frame_items"] != frame).any(1)
    apart = float(np.abs(our["scores"] - their["scores"]).max())
    same = apart <= CLOSE and float(differ_in_frame.mean()) < 0.01
    words = "all others are ties of rounding" if same else "THE LISTS DIFFER"
    return {
        "same_rows": int((~differ).sum()),
        "same_rows_of_frames": int((~differ_in_frame).sum()),
        "largest_difference_of_scores": apart,
        "same_up_to_ties": bool(same),
        "words": words if differ.any() or not same else "none differs",
    }


def _write_vectors(case: Case, path: Path) -> str:
    """The vectors and histories for both sides; returns where the histories are from."""
    rng = np.random.default_rng(20_260_101)
    history = _published_histories() if case.published else None
    values, offsets = _drawn_histories(case, rng) if history is None else history
    np.savez(
        path,
        queries=rng.normal(size=(case.queries, DIM)).astype(np.float32),
        items=rng.normal(size=(case.items, DIM)).astype(np.float32),
        history=values,
        offsets=offsets,
    )
    return "simulated" if history is None else "published"


def _published_histories() -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
    """What the users of ml-1m-sasrec had met before their test event; None where the data is not there."""
    from foretaste import sources
    from foretaste.split import leave_one_out

    if not os.environ.get("FORETASTE_DATA") or not sources.present("ml-1m-sasrec"):
        return None
    history = leave_one_out(sources.load("ml-1m-sasrec")).test.queries.history
    return history.values, history.offsets


def _drawn_histories(case: Case, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distinct items per query, popular ones more often, with lengths as uneven as those of real people."""
    share = rng.lognormal(0, 1, case.queries)
    lengths = np.clip(share / share.sum() * case.events, 5, case.items // 3).astype(np.int64)
    user = np.repeat(np.arange(case.queries), lengths)
    item = (case.items * rng.random(len(user)) ** 2).astype(np.int64)
    pairs = np.unique(user * case.items + item)
    counts = np.bincount(pairs // case.items, minlength=case.queries)
    return (pairs % case.items).astype(np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _fixed_vectors(queries: NDArray[np.float32], items: NDArray[np.float32]) -> "VectorModel":
    """A model whose vectors are given: what its ``recommend`` does is all ours."""
    from foretaste.dataset import Dataset
    from foretaste.query import Queries
    from foretaste.recommender import About, Settings
    from foretaste.scoring import VectorModel
    from foretaste.vocab import Vocab

    class FixedVectors(Settings):
        def _fit(self, train: Any, validation: Any, run: Any) -> Any:
            raise NotImplementedError

        def restore(self, about: Any, state: Any) -> Any:
            raise NotImplementedError

    class FixedVectorsModel(VectorModel):
        def state(self) -> dict[str, NDArray[Any]]:
            return {"queries": queries, "items": items}

        def query_vectors(self, asked: Queries) -> NDArray[np.float32]:
            return queries[asked.user]

        def item_vectors(self) -> NDArray[np.float32]:
            return items

    # One person who met everything, so that every item may be offered.
    every = np.arange(len(items))
    about = About.of(Dataset.from_arrays(Vocab(np.zeros(1, np.int64)), Vocab(every), np.zeros_like(every), every))
    return FixedVectorsModel(FixedVectors(), about)


def _child(vectors: Path, lists: Path, repetitions: int, threads: int, k: int) -> dict[str, Any]:
    import torch

    from foretaste.dataset import Dataset
    from foretaste.memory import peak_memory
    from foretaste.query import Queries
    from foretaste.ragged import Ragged
    from foretaste.vocab import Vocab

    torch.set_num_threads(threads)
    given = np.load(vectors)
    users = np.arange(len(given["queries"]))
    history = Ragged(given["history"], given["offsets"])
    queries = Queries(history, user=users.astype(np.int32))
    model = _fixed_vectors(given["queries"], given["items"])
    data = Dataset.from_arrays(Vocab(users), model.items, history.row_of_value(), history.values, ordered=True)
    known = model.with_histories(data)
    ids = users.tolist()
    ways: dict[str, Callable[[], Any]] = {
        "lists": lambda: model.recommend(queries, k),
        "frame": lambda: known.recommend(ids, k).frame(),
    }
    timed = {name: _timed(way, repetitions) for name, way in ways.items()}
    seconds = {name: [clock for clock, _ in each] for name, each in timed.items()}
    work = {name: [processor for _, processor in each] for name, each in timed.items()}
    top, frame = ways["lists"](), ways["frame"]()
    np.savez(lists, items=top.items, scores=top.scores, frame_items=frame["item_id"].to_numpy().reshape(len(users), -1))
    return {"seconds": seconds, "cpu_seconds": work, "peak_bytes": peak_memory()}


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
    parser = argparse.ArgumentParser(description="Our side, in this process; run_benchmarks.py calls it.")
    parser.add_argument("vectors", type=Path)
    parser.add_argument("lists", type=Path)
    parser.add_argument("repetitions", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("k", type=int)
    given = parser.parse_args()
    print(json.dumps(_child(given.vectors, given.lists, given.repetitions, given.threads, given.k)))
