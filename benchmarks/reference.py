"""Popular and ItemKNN on ml-1m-sasrec, leave-one-out, give exactly the numbers that are committed.

python benchmarks/reference.py --record writes expected/ml-1m-sasrec.json anew, after a change that is meant.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import HERE, table, write_result
from numpy.typing import NDArray

if TYPE_CHECKING:
    from foretaste.dataset import Dataset
    from foretaste.query import Holdout
    from foretaste.split import Split

NAME = "ml-1m-sasrec"
EXPECTED = HERE / "expected" / f"{NAME}.json"
CUTOFFS = (5, 10, 20)
DIGITS = 12
JUDGED = ("popular", "itemknn")
RANKING = ("hit", "ndcg", "mrr", "map", "precision", "recall")  # of these ml-1m.txt alone decides
QUICK_QUERIES = 300

PROTOCOL = (
    "Data ml-1m-sasrec (ml-1m.txt of the published SASRec numbers). leave_one_out: the last event of each of the 6,040 "
    "users is the target, full catalogue of 3,416 items, items of the history hidden, ties count against the model.",
    "Two splits: 'all' withholds a validation event from every user; 'published' only from the 512 users of gSASRec's "
    "split, as the recipe ml-1m-sasrec does. Popular and ItemKNN with their default settings learn from train.",
    "The means of hit, ndcg, mrr, map, precision and recall at 5, 10 and 20 must equal the committed values to "
    "12 digits after the point, and so must the digest of the split.",
    "Cross-check: the ranks of all targets are counted anew by a slow, dense computation that shares no code with the "
    "models or the metrics, and hit, ndcg and mrr are computed from them. Without the data, and with --quick, the "
    "cross-check runs on a small simulated log instead.",
)


def measure(*, quick: bool) -> dict[str, Any]:
    """The numbers, what they should be, and whether the slow computation agrees."""
    if quick or not os.environ.get("FORETASTE_DATA"):
        data = _small_log()
        found = {"simulated": _numbers(_split(data, None), cross_check=True)}
        why = "asked for with --quick" if quick else "FORETASTE_DATA names no folder of published data"
        return {"data": "simulated", "why": why, "held": _agree(found), "splits": found}
    found = measured(cross_check=True)
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))["splits"]
    wrong = differences(found, expected)
    return {"data": NAME, "why": None, "held": not wrong and _agree(found), "differences": wrong, "splits": found}


def measured(*, cross_check: bool) -> dict[str, Any]:
    """The numbers of both splits of the published data, found through FORETASTE_DATA."""
    from foretaste import sources

    data = sources.load(NAME)
    users = {"all": None, "published": sources.validation_users(NAME)}
    return {
        name: _numbers(_split(data, chosen), cross_check=cross_check)
        for name, chosen in users.items()
        if name == "all" or chosen is not None
    }


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """One sentence for everything that is not as it should be."""
    wrong = []
    for name, split in found.items():
        if split["digest"] != expected[name]["digest"]:
            wrong.append(f"split {name}: the digest is {split['digest']}, it should be {expected[name]['digest']}")
        wrong += [
            f"split {name}, {model}, {metric}: {value}, it should be {expected[name]['models'][model][metric]}"
            for model, metrics in split["models"].items()
            for metric, value in metrics.items()
            if value != expected[name]["models"][model][metric]
        ]
    return wrong


def tables(results: dict[str, Any]) -> str:
    shown = ("hit@10", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")
    parts = []
    for name, split in results["splits"].items():
        rows = [(model, *(f"{metrics[each]:.6f}" for each in shown)) for model, metrics in split["models"].items()]
        parts.append(table(f"{results['data']}, split {name}, {split['queries']:,} queries", ("model", *shown), rows))
        parts += [
            f"{model}: the slow computation gives {'the same ranks' if not check['different_ranks'] else check}"
            for model, check in split["cross_check"].items()
        ]
        parts.append("")
    if results["why"]:
        parts.append(f"the committed numbers were not checked: {results['why']}")
    else:
        parts += results["differences"] or ["every number is the committed one"]
    return "\n".join(parts)


def _split(data: "Dataset", users: NDArray[np.int64] | None) -> "Split":
    from foretaste.split import leave_one_out

    return leave_one_out(data, validation_users=None if users is None else users.tolist())


def _numbers(split: "Split", *, cross_check: bool) -> dict[str, Any]:
    """Digest, means of all metrics by model, and how the slow computation compares."""
    from foretaste.evaluation import evaluate
    from foretaste.models import MODELS

    begun = time.perf_counter()
    fitted = {name: MODELS[name]().fit(split.train) for name in JUDGED}
    board = evaluate(fitted, split.test, train=split.train, k=CUTOFFS)
    seconds = time.perf_counter() - begun
    models = {
        name: {
            metric: round(float(value.mean), DIGITS)
            for metric, value in sorted(board[name].metrics.items())
            if metric.split("@")[0] in RANKING
        }
        for name in JUDGED
    }
    checks = {}
    if cross_check:
        ranks = {"popular": _popular_ranks, "itemknn": _itemknn_ranks}
        for name, slow in ranks.items():
            checks[name] = _compared(board[name].per_query, slow(split.train, split.test))
    return {
        "digest": split.protocol["digest"],
        "queries": len(split.test),
        "models": models,
        "seconds": seconds,
        "cross_check": checks,
    }


def _agree(found: Mapping[str, Any]) -> bool:
    return all(not check["different_ranks"] for split in found.values() for check in split["cross_check"].values())


def _compared(per_query: Mapping[str, NDArray[np.float64]], ranks: NDArray[np.int64]) -> dict[str, Any]:
    """How the per-query metrics relate to those of the slowly counted ranks (0 = not at all)."""
    slow: dict[str, NDArray[np.float64]] = {}
    for k in CUTOFFS:
        inside = (ranks > 0) & (ranks <= k)
        slow[f"hit@{k}"] = inside.astype(float)
        slow[f"ndcg@{k}"] = np.where(inside, 1 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
        slow[f"mrr@{k}"] = np.where(inside, 1 / np.maximum(ranks, 1), 0.0)
    apart = {name: np.abs(values - per_query[name]) for name, values in slow.items()}
    return {
        "different_ranks": int(np.count_nonzero(np.max(list(apart.values()), axis=0) > 1e-12)),
        "means": {name: round(float(values.mean()), DIGITS) for name, values in slow.items()},
    }


def _popular_ranks(train: "Dataset", test: "Holdout") -> NDArray[np.int64]:
    """(queries,) the worst rank of each target that its ties allow, among items that were not seen."""
    counts = np.zeros(len(train.items))
    for item in train.item.tolist():
        counts[item] += 1
    ranks = []
    for query in range(len(test)):
        offered = np.ones(len(counts), bool)
        offered[test.queries.history[query]] = False
        ranks.append(_rank(counts, int(test.targets[query][0]), offered))
    return np.array(ranks)


def _itemknn_ranks(
    train: "Dataset", test: "Holdout", neighbours: int = 100, damping: float = 10.0
) -> NDArray[np.int64]:
    """The same for ItemKNN: dense, item by item, in float32 and in the order of the items, so that ties stay ties."""
    items = len(train.items)
    met = np.zeros((len(train.users), items), np.float32)
    met[train.user, train.item] = 1
    together = met.T @ met  # whole numbers, exact in float32
    norms = np.sqrt(np.diag(together))
    near = np.zeros((items, items), np.float32)  # [i, j]: what i says for j
    for item in range(items):
        likeness = together[item] / (norms[item] * norms + np.float32(damping))
        likeness[item] = 0
        best = np.lexsort((np.arange(items), -likeness))[:neighbours]
        near[best, item] = likeness[best]
    popularity = np.bincount(train.item, minlength=items).astype(float)
    ranks = []
    for query in range(len(test)):
        history = np.unique(test.queries.history[query])
        score = np.zeros(items, np.float32)
        for item in history:
            score += near[item]
        target = int(test.targets[query][0])
        offered = np.ones(items, bool)
        offered[history] = False
        answered = offered & (score > 0)
        if answered[target] or not offered[target]:
            ranks.append(_rank(score, target, answered))
        else:
            # What the model has no answer for stands below, by popularity.
            below = _rank(popularity, target, offered & ~answered)
            ranks.append(int(answered.sum()) + below)
    return np.array(ranks)


def _rank(score: NDArray[Any], target: int, offered: NDArray[np.bool_]) -> int:
    """1 + the offered items that score as high or higher; 0 where the target is not offered."""
    return int(np.count_nonzero(score[offered] >= score[target])) if offered[target] else 0


def _small_log() -> "Dataset":
    from foretaste.dataset import Dataset
    from foretaste.simulate import simulate_events
    from foretaste.vocab import Vocab

    user, item, moment = (
        np.concatenate(each) for each in zip(*simulate_events(20_000, QUICK_QUERIES, 400), strict=True)
    )
    users, user = np.unique(user, return_inverse=True)
    items, item = np.unique(item, return_inverse=True)
    return Dataset.from_arrays(Vocab(users), Vocab(items), user, item, time=moment, name="simulated")


def _record() -> None:
    found = measured(cross_check=True)
    if not _agree(found):
        sys.exit(f"The slow computation does not agree: {json.dumps(found, indent=1)}")
    splits = {name: {"digest": split["digest"], "models": split["models"]} for name, split in found.items()}
    write_result(EXPECTED, {"data": NAME, "protocol": list(PROTOCOL[:2]), "digits": DIGITS, "splits": splits})
    print(f"written to {EXPECTED}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit(f"usage: python {Path(__file__).name} --record")
    _record()
