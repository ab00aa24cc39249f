"""Speed of the ranker: learning and answering beside FuxiCTR's DCN-v2, candidates of one query, features of pairs.

python benchmarks/ranking_speed.py [--only CASE] [--rounds 3] [--threads 1] [--fuxictr PYTHON]

FuxiCTR runs in an environment of its own: the interpreter named by --fuxictr or FORETASTE_FUXICTR, else one that is
made in benchmarks/.venvs. The result goes to benchmarks/results/ranking_speed.json, case by case: a case that is
measured again takes the place of the old one.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import speed
from measuring import HERE, PeerAbsent, own_python, scratch, summary, write_result
from turns import Worker

NAME = "ranking_speed"
PEERS = HERE / "peers"
LIBRARIES = ("foretaste", "numpy", "scipy", "torch")
PAIRS = (250_000, 500_000, 1_000_000)  # of which features are built
CANDIDATES = 500
OF_EACH = 50  # candidates of each query, where features are built
PROTOCOL = (
    "Learning and answering: the published rows of Frappe, ten columns of codes; DCN-v2 in the settings of BARS on "
    "both sides, with the same number of parameters, in batches of 4,096. Two processes, one per side, work in turns; "
    "the first turn of each warms up and does not count. Seconds are of an epoch without validation, by our training "
    "log and around FuxiCTR's train_epoch, which gets batches that lie in memory and not those of its own loader, that "
    "reads files; answering is the whole test part in batches of 8,192. Ratios are theirs / ours in seconds per row, "
    "round by round, so above 1 we are faster. The floor is what the matrix products of this network would take, there "
    "and back, at the rate of a square product in the same precision with the same threads: no library that computes "
    "them is faster than that.",
    "Candidates: 500 examples of one query of a simulated shop, by the ranker of the two-stage model as it is by "
    "default: what is known of the pairs is there, and is read, looked up and scored.",
    "Features: what the log tells of people, items and pairs at the moment of asking, for 50 candidates of each of so "
    "many queries of a simulated log with 500,000 events; the scores of sources apart.",
)


def beside_fuxictr(given: argparse.Namespace) -> dict[str, Any]:
    """Epochs and answers of both sides in turns."""
    from quality.click_data import clicks_of
    from quality.ranking_measure import PEERS as PINNED
    from quality.ranking_rows import read_rows

    from foretaste.run import Run
    from foretaste.sources import data_folder

    rows, folder = read_rows("frappe"), data_folder(given.data_dir)
    ours, theirs = rows.settings("dcnv2"), rows.settings("fuxictr-dcnv2")
    order = {"threads": given.threads, "rows": "frappe", "data_dir": str(folder), "epochs": given.rounds + 1}
    order |= {"precision": given.precision, "settings": dict(ours.settings)}
    absent: dict[str, str] = {}
    with scratch(NAME) as work:
        import numpy as np

        np.savez(work / "clicks.npz", **clicks_of("frappe", folder, Run()).arrays())
        sides = {"foretaste": (own_python(), PEERS / "foretaste_ranking.py", order)}
        try:
            python = speed.interpreter(PINNED["fuxictr"], given)
            told = {"threads": given.threads, "data": str(work / "clicks.npz"), "model": theirs.model}
            sides["fuxictr"] = (python, PEERS / "fuxictr_ranking.py", {**told, "settings": dict(theirs.settings)})
        except PeerAbsent as why:
            absent["fuxictr"] = str(why)
        workers = {}
        try:
            for who, (python, script, own) in sides.items():
                workers[who] = Worker(python, script, own, given.threads, work / f"{who}.log")
            epochs = speed.epochs_in_turns("frappe", workers, given.rounds, "rows")
            answers = {
                who: [worker.ask("chances") for _ in range(given.rounds + 1)][1:] for who, worker in workers.items()
            }
            floor = workers["foretaste"].ask("floor")
        finally:
            for worker in workers.values():
                worker.end()
    return {
        "absent": absent,
        "training": {
            who: summary([each["rows"] / each["seconds"] for each in rows[1:]]) for who, rows in epochs.items()
        },
        "answering": {who: summary([each["rows"] / each["seconds"] for each in rows]) for who, rows in answers.items()},
        "training_ratio": _ratio({who: rows[1:] for who, rows in epochs.items()}),
        "answering_ratio": _ratio(answers),
        "floor": floor,
        "reach": {"training": 2.0, "answering": 5.0},
        "raw": {"epochs": epochs, "answers": answers},
    }


def _ratio(sides: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float] | None:
    if len(sides) < 2:
        return None
    our, their = ([each["seconds"] / each["rows"] for each in sides[who]] for who in ("foretaste", "fuxictr"))
    return summary([slow / fast for fast, slow in zip(our, their, strict=True)])


def candidates(given: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds for the candidates of one query."""
    import numpy as np
    import torch

    from foretaste.models import TwoStage
    from foretaste.query import Queries
    from foretaste.run import Run
    from foretaste.simulate import Shop, simulate

    torch.set_num_threads(given.threads)
    data = simulate(Shop(users=600, items=700, events=15_000)).data
    sources = {"itemknn": {}, "ease": {}, "als": {}}
    settings = TwoStage(sources=sources, candidates=CANDIDATES, slice=0.2, ranker={"plan": {"epochs": 1}})
    run = Run(device="cpu", threads=given.threads, precision=given.precision)
    model = TwoStage(**{**settings.model_dump(exclude_unset=True), "ranker": _one_epoch()}).fit(data, run=run)
    each: list[float] = []
    for user in range(given.rounds * 20 + 5):
        queries = Queries.of_users(data, np.array([user]))
        pool = model.stage.pool(queries, None)
        pool = pool.only(np.arange(pool.items.shape[1])[None] < CANDIDATES)
        examples = model.stage.examples(model._readable(queries), pool)
        begun = time.perf_counter()
        model.ranker.predict(examples)
        each.append(1000 * (time.perf_counter() - begun))
        assert len(examples) == CANDIDATES
    return {"milliseconds": summary(each[5:]), "candidates": CANDIDATES, "reach": 5.0, "queries": len(each) - 5}


def _one_epoch() -> Any:
    from foretaste.models.twostage import RANKER

    return RANKER.for_epochs(1)


def features(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds to build what is known of so many pairs."""
    import numpy as np

    from foretaste.query import Queries
    from foretaste.rank.stage import Stage
    from foretaste.simulate import Shop, simulate

    data = simulate(Shop(users=20_000, items=3000, events=500_000)).data
    stage = Stage.of({}, {}, data)
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {str(pairs): [] for pairs in PAIRS}
    for _ in range(given.rounds + 1):
        for pairs in PAIRS:
            queries = Queries.of_users(data, rng.integers(0, len(data.users), pairs // OF_EACH))
            query, item = np.repeat(np.arange(len(queries)), OF_EACH), rng.integers(0, len(data.items), pairs)
            begun = time.perf_counter()
            stage.of_pairs(queries, query, item)
            stage.of_queries(queries)
            seconds[str(pairs)].append(time.perf_counter() - begun)
    told = {pairs: summary(each[1:]) for pairs, each in seconds.items()}
    least, most = (told[str(pairs)]["median"] / pairs for pairs in (PAIRS[0], PAIRS[-1]))
    return {"seconds": told, "growth": most / least, "reach": {"seconds": 60.0, "growth": 1.1}}


CASES: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "frappe": beside_fuxictr,
    "candidates": candidates,
    "features": features,
}


def main(arguments: Sequence[str] | None = None) -> None:
    from quality.ranking_measure import PEERS as PINNED

    parser = speed.parser(__doc__ or "", list(CASES), PINNED["fuxictr"])
    parser.set_defaults(threads=1)
    given = parser.parse_args(arguments)
    path = speed.place(NAME, given)
    kept = speed.kept_cases(path)
    for name, measured in CASES.items():
        if given.only is None or name in given.only:
            about = speed.circumstances(NAME, PINNED["fuxictr"], given, arguments, LIBRARIES)
            kept[name] = {**about, "threads": given.threads, **measured(given)}
            write_result(path, {"protocol": list(PROTOCOL), "cases": kept})
            print(f"{name}: done", flush=True)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
