"""Speed of graph, content and retrieval models: training beside RecBole's, drawing, encoding, searching, growing.

python benchmarks/retrieval_speed.py [--only CASE] [--rounds 3] [--threads 2] [--recbole PYTHON]

RecBole runs in an environment of its own: the interpreter named by --recbole or FORETASTE_RECBOLE, else one that is
made in benchmarks/.venvs. The result goes to benchmarks/results/retrieval_speed.json, case by case: a case that is
measured again takes the place of the old one. --quick measures tiny simulated logs, for trying the script out.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import speed
from measuring import HERE, Peer, PeerAbsent, own_python, run_child, scratch, summary, write_result
from retrieval_speed_tables import text
from turns import Worker

if TYPE_CHECKING:
    from foretaste.dataset import Dataset

NAME = "retrieval_speed"
LIBRARIES = ("foretaste", "numpy", "scipy", "torch", "accelerate", "faiss-cpu", "sentence-transformers")
RECBOLE = Peer(  # it knows nothing of NumPy 2, nor of SciPy from 1.13 on
    "recbole", ("recbole==1.2.1", "torch==2.13.0", "numpy==1.26.4", "scipy==1.12.0", "pandas==2.2.3")
)
PEERS = HERE / "peers"
OURS, THEIRS = PEERS / "foretaste_training.py", PEERS / "recbole_lightgcn.py"
TEXTS, INDEX = PEERS / "foretaste_texts.py", PEERS / "foretaste_index.py"
BPR = {"dim": 64, "layers": 3, "loss": "bpr", "similarity": "dot", "temperature": 1.0, "l2": 1e-4}
THEIR_LIGHTGCN = {"embedding_size": 64, "n_layers": 3}

PROTOCOL = (
    "Training: seconds are of the training loop alone, with the shuffling of an epoch's pairs, without evaluation and "
    "without preparing the data, by our training log and around RecBole's _train_epoch. Where a row says so, a turn is "
    "not a whole epoch but its first steps, as many on both sides; every step of an epoch costs the same, as each "
    "smooths the whole graph there and back, and the seconds of the whole epoch are worked out from them.",
    "Two processes, one per side, are alive together and train in turns: ours, theirs, ours, theirs; the one that "
    "waits computes nothing. The first turn of each warms up and does not count. Both have the same number of threads "
    "(OMP, MKL, OpenBLAS, torch), which wait for each other in the libraries' own way: the numbers want a machine with "
    "nothing else to do. Medians over rounds; the ratio is theirs / ours in seconds per pair, round by round, so above "
    "1 we are faster. Peak memory of ours is that of the learning (VmHWM), of theirs that of the whole process, "
    "libraries and data included.",
    "LightGCN: both sides read the same pairs and learn vectors of 64 numbers over 3 layers by BPR, one negative per "
    "pair, in batches of the same size. RecBole has its own model, loader, negative sampling and trainer, and its "
    "defaults but for what is named; NumPy, SciPy and pandas are the versions named, as it cannot run with newer ones. "
    "Ours computes in the precision of the machine (bf16 where it has it; the smoothing always in float32), theirs in "
    "float32.",
    "Sparse floor: the sparse products of an epoch, 3 layers there and back, users to items and items to users, with "
    "nothing between them, in the same process with the same threads, as bags of embeddings (foretaste.nets.graph) and "
    "by torch's products of CSR matrices, in turns; the fastest of 6 of each.",
    "Drawing negatives: seconds within Unmet.draw, Negatives.draw and Negatives.log_odds, as a share of the epoch.",
    "Floor of a two-tower step: the matrix products of our own batches, forward and back, over the rate of a square "
    "matrix product in the same precision with the same threads; and, over the rate at which a large array is copied, "
    "the vectors that the histories read with the gradients that go back to them, and what AdamW reads and writes of "
    "the whole tables in each step. What all operations read and write, each array once per operation as if no cache "
    "kept it, is told beside it.",
    "Texts: a fit in a new process with an empty cache, then fits in new processes with what it left there, and in "
    "each of them a second one; every fit up to the first batch, where it is stopped. Seconds count from the call of "
    "fit, when the model is imported; in a new process torch loads parts of itself when the first optimiser is made. "
    "What the encoder reads is counted at the encoder.",
    "Index: vectors that TwoTower learned from a simulated log with a million items and more, of whom only those that "
    "training met are in the index. The effort of the index is chosen on one half of the queries, users of the log "
    "with their histories; all that is shown is of the other half. One query after another on one thread. Exact is the "
    "faster of FAISS' flat index and torch's products with topk. Recall is the share of the exact ten best that is "
    "found, where equal products count.",
    "Growth: GraphSAGE on a simulated graph with fixed nodes of which a part of the edges is taken, drawn by chance; "
    "whole epochs, in turns. Everywhere nodes have more neighbours than are drawn of them, or nearly so, since with "
    "fewer a step would have less to do. Memory is the peak while learning, and beside it what was resident just "
    "before: libraries, the log, the graph.",
    "Nothing is measured on a GPU.",
)


@dataclass(frozen=True)
class Training:
    """One model on one data set, alone or beside RecBole's LightGCN."""

    name: str
    data: str  # of benchmarks/quality
    model: str
    settings: Mapping[str, Any]
    peer: Mapping[str, Any] | None = None  # settings of RecBole's LightGCN; None: ours alone
    steps: int | None = None  # of a turn; None: the whole epoch
    reach: float | None = None  # theirs / ours per pair
    least: float | None = None  # pairs per second of ours

    def measured(self, given: argparse.Namespace) -> dict[str, Any]:
        """All rounds on both sides; ``absent`` says why RecBole has no numbers."""
        goals = {"reach": self.reach, "least_pairs_per_second": self.least}
        found = {"kind": "training", "model": self.model, "settings": dict(self.settings), "peer": self.peer, **goals}
        with scratch(NAME) as folder:
            data = tiny() if given.quick else speed.of_protocol(self.data, given.data_dir)
            write_events(data.user, data.item, len(data.users), len(data.items), folder / "events.npz")
            found["data"] = {"name": data.name, "fingerprint": data.fingerprint, **data.counts()}
            orders, absent = self._orders(folder / "events.npz", given)
            return {**found, "absent": absent, **in_turns(self.name, orders, given)}

    def _orders(self, events: Path, given: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        shared = {"events": str(events), "threads": given.threads, "steps": QUICK_STEPS if given.quick else self.steps}
        ours = {**shared, "model": self.model, "settings": self._sized(self.settings, given)}
        orders = {"foretaste": {**ours, "precision": given.precision, "epochs": given.rounds + 1}}
        if self.peer is None:
            return orders, {}
        try:
            theirs = {
                **shared,
                "python": str(speed.interpreter(RECBOLE, given)),
                "settings": self._sized(self.peer, given),
            }
        except PeerAbsent as error:
            return orders, {"recbole": str(error)}
        return {**orders, "recbole": theirs}, {}

    @staticmethod
    def _sized(settings: Mapping[str, Any], given: argparse.Namespace) -> dict[str, Any]:
        small = {name: value for name, value in SMALL.items() if name in settings} if given.quick else {}
        return {**settings, **small}


@dataclass(frozen=True)
class Growth:
    """One model over the same nodes with more and more edges."""

    name: str
    model: str
    settings: Mapping[str, Any]
    users: int
    items: int
    edges: int
    times: tuple[int, ...] = (1, 2, 4)

    def measured(self, given: argparse.Namespace) -> dict[str, Any]:
        """All rounds of all sizes."""
        users, items, edges = (60, 40, 200) if given.quick else (self.users, self.items, self.edges)
        settings = {**self.settings, **({"dim": 8, "batch_size": 32} if given.quick else {})}
        nodes = {"users": users, "items": items}
        found = {"kind": "growth", "model": self.model, "settings": settings, "data": nodes, "absent": {}}
        with scratch(NAME) as folder:
            user, item = simulated_edges(self.times[-1] * edges, users, items)
            orders = {}
            for times in self.times:
                who = f"{times}x"
                events = folder / f"{who}.npz"
                write_events(user[: times * edges], item[: times * edges], users, items, events)
                order = {"events": str(events), "model": self.model, "settings": settings, "steps": None}
                order |= {"threads": given.threads, "precision": given.precision, "epochs": given.rounds + 1}
                orders[who] = order
            return {**found, **in_turns(self.name, orders, given)}


@dataclass(frozen=True)
class Texts:
    """How soon a model that reads texts begins to learn."""

    name: str
    data: str
    model: str
    settings: Mapping[str, Any]
    most: float = 1.0  # seconds from the call of fit until all texts are ready, where they are encoded already

    def measured(self, given: argparse.Namespace) -> dict[str, Any]:
        """A process that encodes, and then as many as there are rounds that find what it encoded; each fits twice."""
        with scratch(NAME) as folder:
            data = library() if given.quick else speed.of_protocol(self.data, given.data_dir)
            data.save(folder / "data")
            found = {"name": data.name, "fingerprint": data.fingerprint, **data.counts()}
            order = [folder / "data", self.model, json.dumps(self.settings), given.threads, folder / "cache"]
            first, *later = (run_child(own_python(), TEXTS, order, given.threads) for _ in range(given.rounds + 1))
        about = {"kind": "texts", "model": self.model, "settings": dict(self.settings), "data": found, "absent": {}}
        return {**about, "most_seconds": self.most, "first": first, "later": later}


@dataclass(frozen=True)
class Index:
    """Search among learned vectors, exact and by an index."""

    name: str
    model: str
    settings: Mapping[str, Any]
    events: int
    users: int
    items: int
    queries: int = 1000
    exact_queries: int = 100  # of which the exact ways, which take longer, answer so many in a round
    recall: float = 0.98
    reach: float = 20.0  # queries a second, over those of the exact search

    def measured(self, given: argparse.Namespace) -> dict[str, Any]:
        """Vectors learned once, an index built once, and rounds of searching."""
        order = {"threads": given.threads, "model": self.model, "settings": dict(self.settings), "kind": "hnsw"}
        order |= {name: getattr(self, name) for name in ("events", "users", "items", "queries", "exact_queries")}
        order |= {"least_recall": self.recall + MARGIN} | (QUICK_INDEX if given.quick else {})
        found: dict[str, Any] = {"kind": "index", "model": self.model, "settings": order["settings"], "absent": {}}
        with scratch(NAME) as folder:
            worker = Worker(own_python(), INDEX, order, given.threads, folder / "index.log")
            try:
                for stage in ("learn", "build"):
                    found[stage] = worker.ask(stage)
                    print(f"{self.name}: {stage} {found[stage]['seconds']:.0f} s", flush=True)
                rows = [worker.ask("search") for _ in range(given.rounds + 1)][1:]
                found["about"] = worker.ask("about")
            finally:
                worker.end()
        ratios = [row["index"] / max(row["flat"], row["products"]) for row in rows]
        found |= {"queries_per_second": {way: summary([row[way] for row in rows]) for way in rows[0]}}
        goals = {"least_recall": self.recall, "reach": self.reach}
        return {**found, "ratio": {**summary(ratios), "rounds": ratios}, **goals, "raw": rows}


MARGIN = 0.005  # by which the queries that an index is tuned on may be easier than those that it is judged by
QUICK_STEPS = 2
SMALL = {"dim": 8, "embedding_size": 8, "batch_size": 256, "train_batch_size": 256}
QUICK_INDEX = {
    "events": 2000,
    "users": 100,
    "items": 300,
    "queries": 40,
    "exact_queries": 10,
    "settings": {"dim": 8, "plan": {"epochs": 1, "patience": None}},
}
MANY_ITEMS = {
    "dim": 64,
    "batch_size": 8192,
    "negatives": 2048,
    "plan": {"epochs": 1, "patience": None},
}

CASES: tuple[Training | Growth | Texts | Index, ...] = (
    *(
        Training(
            f"lightgcn gowalla {size}",
            "gowalla",
            "lightgcn",
            {**BPR, "batch_size": size},
            {**THEIR_LIGHTGCN, "train_batch_size": size},
            steps=30,
            reach=3.0,
        )
        for size in (2048, 8192)
    ),
    Training(
        "lightgcn gowalla sampled softmax",
        "gowalla",
        "lightgcn",
        {"dim": 64, "layers": 3, "loss": "sampled_softmax", "batch_size": 2048},
        steps=30,
    ),
    *(
        Training(f"twotower {data} {size}", data, "twotower", {"dim": 64, "batch_size": size}, least=least)
        for data in ("gowalla", "ml-1m-sasrec")
        for size, least in ((8192, 60_000.0), (1024, 300_000.0))
    ),
    Texts("sberttwotower ml-100k", "ml-100k-cold", "sberttwotower", {}),
    Index("index million", "twotower", MANY_ITEMS, events=10_000_000, users=400_000, items=1_010_000),
    Growth("graphsage edges", "graphsage", {"dim": 64, "batch_size": 2048}, users=8000, items=20_000, edges=250_000),
)


def main(arguments: Sequence[str] | None = None) -> int:
    given = speed.parser(str(__doc__), [case.name for case in CASES], RECBOLE).parse_args(arguments)
    out = speed.place(NAME, given)
    kept = speed.kept_cases(out)
    for case in CASES:
        if given.only is not None and case.name not in given.only:
            continue
        about = speed.circumstances(NAME, RECBOLE, given, arguments, LIBRARIES)
        kept[case.name] = {**about, "threads": given.threads, "rounds": given.rounds, **case.measured(given)}
        write_result(out, {"benchmark": NAME, "protocol": list(PROTOCOL), "cases": kept})
        print(text(case.name, kept[case.name]), flush=True)
    print(f"written to {out}")
    return 0


def in_turns(name: str, orders: Mapping[str, Mapping[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    """Epochs of all sides in turns, the first of each to warm up; and what each says of itself."""
    workers = {who: _worker(who, order, given) for who, order in orders.items()}
    try:
        epochs = speed.epochs_in_turns(name, workers, given.rounds, "pairs")
        about = {who: worker.ask("about") for who, worker in workers.items()}
        # Last, as it takes memory of its own.
        floor = workers["foretaste"].ask("floor") if "foretaste" in workers else None
    finally:
        for worker in workers.values():
            worker.end()
    training = {who: summed_up(rows[1:]) for who, rows in epochs.items()}
    return {
        "about": about,
        "floor": floor,
        "training": training,
        "ratio": speed.ratio(epochs, RECBOLE, "pairs"),
        "raw": {"epochs": epochs},
    }


def summed_up(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Rates and shares over rounds; ``epoch_seconds`` are of the whole epoch, where only a part was trained too."""
    shares = {
        what: summary([row[what] / row["seconds"] for row in rows])
        for what in ("drawing", "shuffling")
        if what in rows[0]
    }
    return {
        "pairs": statistics.median(row["pairs"] for row in rows),
        "steps": rows[0]["steps"],
        "steps_of_epoch": rows[0]["steps_of_epoch"],
        "pairs_per_second": summary([row["pairs"] / row["seconds"] for row in rows]),
        "step_seconds": summary([row["seconds"] / row["steps"] for row in rows]),
        "epoch_seconds": summary([row["seconds"] / row["steps"] * row["steps_of_epoch"] for row in rows]),
        "shares": shares,
    }


def tiny() -> "Dataset":
    """80 people and 60 items, for trying the script out."""
    import numpy as np

    from foretaste.dataset import Dataset
    from foretaste.vocab import Vocab

    rng = np.random.default_rng(20_260_102)
    pairs = np.unique(np.concatenate([np.arange(80) * 60, rng.integers(0, 80 * 60, 1200)]))
    return Dataset.from_arrays(Vocab(np.arange(80)), Vocab(np.arange(60)), pairs // 60, pairs % 60, name="quick")


def library() -> "Dataset":
    """Forty people and six texts, two of which are the same, for trying the script out."""
    import numpy as np

    from foretaste.catalog import Catalog, Table, Text
    from foretaste.dataset import Dataset
    from foretaste.vocab import Vocab

    texts = ["bread and cakes", "soups", "stars", "rockets", "stars", ""]
    catalog = Catalog(Table(6, {"title": Text.from_list(texts)}), Table(40))
    user, item = np.repeat(np.arange(40), 3), (np.arange(120) * 5 + np.arange(120) // 7) % 6
    return Dataset.from_arrays(Vocab(np.arange(40)), Vocab(np.arange(6)), user, item, catalog=catalog, name="quick")


def simulated_edges(count: int, users: int, items: int) -> tuple[Any, Any]:
    """So many distinct pairs of a user and an item, in random order, of a simulated log."""
    import numpy as np

    from foretaste.simulate import simulate_events

    pairs, events = np.empty(0, np.int64), count
    while len(pairs) < count:
        events *= 2
        pairs = np.unique(
            np.concatenate([user * items + item for user, item, _ in simulate_events(events, users, items)])
        )
    chosen = np.random.default_rng(0).permutation(pairs)[:count]
    return chosen // items, chosen % items


def write_events(user: Any, item: Any, users: int, items: int, path: Path) -> None:
    import numpy as np

    np.savez(path, user=user, item=item, users=users, items=items)


def _worker(who: str, order: Mapping[str, Any], given: argparse.Namespace) -> Worker:
    python, script = order.get("python", own_python()), THEIRS if who == "recbole" else OURS
    return Worker(python, script, order, given.threads, Path(order["events"]).with_name(f"{who}.log"))


if __name__ == "__main__":
    sys.exit(main())
