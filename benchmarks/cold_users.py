"""People whom training never met: how well they are answered by who they are and the first few events they have.

python benchmarks/cold_users.py [--data ml-100k-last5] [--folds 5] [--seed 0] [--threads T] [--data-dir DIR] [--resume]

The users are dealt into folds. Each fold is withheld whole while rows of benchmarks/quality/sequences/DATA.yaml are
fitted on the others, the epoch chosen by the last event of each of those. Then each withheld user asks after their
first 0, 1, 2, 3, 5 and 10 events; the five events behind those are the targets; what was shown is hidden from the list.
All users with at least 15 events ask, so the same people are compared in each column.

The result is benchmarks/results/cold_users-DATA.json.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import HERE, THREAD_SETTINGS, machine, table, told, versions, write_result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretaste.dataset import Dataset
    from foretaste.query import Holdout
    from foretaste.run import Run

WORK = HERE.parent / "runs" / "cold_users"
SHOWN = (0, 1, 2, 3, 5, 10)
TARGETS = 5
METRICS = ("ndcg@10", "hit@10")
POPULAR, PLAIN, ENHANCED = "popular", "bert4rec", "enhancedbert4rec"
ANONYMOUS = "enhancedbert4rec, not told who they are"
NAMES = (POPULAR, PLAIN, ANONYMOUS, ENHANCED)
PAIRS = ((ENHANCED, PLAIN), (ENHANCED, ANONYMOUS), (ENHANCED, POPULAR))


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.threads is not None:
        # Before the libraries are loaded, which ask for it once.
        os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(given.threads)))
    out = given.out or HERE / "results" / f"cold_users-{given.data}.json"
    results = measured(given)
    command = told("cold_users.py", sys.argv[1:] if arguments is None else arguments)
    about = {"benchmark": "cold_users", "command": command, "machine": machine(), "versions": versions()}
    write_result(out, {**about, "protocol": " ".join((__doc__ or "").split("\n\n")[2].split()), **results})
    print(as_table(results))
    print(f"written to {out}")
    return 0


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All folds, and over them the means, intervals and differences."""
    import numpy as np
    import torch
    from quality.rows import read_rows

    from foretaste.console import Console
    from foretaste.experiment import load_data
    from foretaste.run import Run
    from foretaste.storage import read_json, write_json

    rows = read_rows(given.data)
    work = WORK / given.data
    work.mkdir(parents=True, exist_ok=True)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    with Console(log_file=work / "log.jsonl") as console:
        run = Run(given.seed, threads=given.threads, log=console.log, progress=console.progress)
        data = load_data(rows.recipe.data, rows.recipe.split.kind, given.data_dir, run).data
        fold_of = Run(0).rng("cold users").permutation(len(data.users)) % given.folds
        found = []
        for fold in range(given.folds):
            path = work / f"seed{given.seed}-fold{fold}-of-{given.folds}.json"
            if not (given.resume and path.exists()):
                run.log(f"fold {fold + 1} of {given.folds}")
                write_json(path, one_fold(rows, data, fold_of == fold, run))
            found.append(read_json(path))
    values = {
        name: {
            shown: {metric: np.concatenate([fold[name][str(shown)][metric] for fold in found]) for metric in METRICS}
            for shown in SHOWN
        }
        for name in NAMES
    }
    return {"data": {"name": data.name, "fingerprint": data.fingerprint, **data.counts()}, **summed_up(values)}


def one_fold(rows: Any, data: "Dataset", withheld: "NDArray[Any]", run: "Run") -> dict[str, Any]:
    """Model -> events shown -> metric -> the value of each withheld user."""
    from foretaste.evaluation import Trial
    from foretaste.fitting import validation_part

    train, validation = validation_part(data.where(~withheld[data.user]), "last")
    models = {name: rows.settings(name).fit(train, validation, run) for name in (POPULAR, PLAIN, ENHANCED)}
    told: dict[str, Any] = {name: {} for name in NAMES}
    for shown in SHOWN:
        holdout = strangers(data, withheld, shown)
        nameless = replace(holdout, queries=replace(holdout.queries, user_features=None))
        asked = {name: (model, holdout) for name, model in models.items()}
        asked[ANONYMOUS] = (models[ENHANCED], nameless)
        for name, (model, part) in asked.items():
            entry = Trial.of(part, train=train, k=(10,)).entry(name, model)
            told[name][shown] = {metric: entry.per_query[metric].tolist() for metric in METRICS}
    return told


def strangers(data: "Dataset", withheld: "NDArray[Any]", shown: int) -> "Holdout":
    """Each withheld user after so many events, and what they met next."""
    import numpy as np

    from foretaste.query import Holdout, Queries
    from foretaste.ragged import Ragged

    long_enough = np.diff(data.offsets) >= max(SHOWN) + TARGETS
    users = np.flatnonzero(withheld & long_enough)
    place = np.arange(len(data)) - data.offsets[data.user]
    queries = replace(Queries.of_users(data.where(place < shown), users), user=None, now=None)
    begin = data.offsets[:-1][users] + shown
    targets = [list(dict.fromkeys(data.item[start : start + TARGETS].tolist())) for start in begin]
    return Holdout(queries, Ragged.from_lists(targets), name=f"after {shown} events")


def summed_up(values: Mapping[str, Mapping[int, Mapping[str, "NDArray[Any]"]]]) -> dict[str, Any]:
    """Means with intervals over people, and differences with Holm-corrected p over all that are compared."""
    import numpy as np

    from foretaste.evaluation.intervals import bootstrap, holm, paired_test

    def interval(numbers: "NDArray[Any]") -> dict[str, float]:
        low, high = bootstrap(numbers[:, None], seed=0)
        return {"mean": float(np.mean(numbers)), "low": float(low[0]), "high": float(high[0])}

    rows = {
        name: {
            str(shown): {metric: interval(numbers) for metric, numbers in metrics.items()}
            for shown, metrics in of.items()
        }
        for name, of in values.items()
    }
    compared = [(ahead, behind, shown) for ahead, behind in PAIRS for shown in SHOWN]
    differences = [
        values[ahead][shown]["ndcg@10"] - values[behind][shown]["ndcg@10"] for ahead, behind, shown in compared
    ]
    p = holm(paired_test(np.stack(differences, 1), seed=0))
    pairs = [
        {"pair": [ahead, behind], "shown": shown, **interval(difference), "p_holm": float(chance)}
        for (ahead, behind, shown), difference, chance in zip(compared, differences, p, strict=True)
    ]
    return {"people": len(differences[0]), "rows": rows, "ndcg@10 differences": pairs}


def as_table(results: Mapping[str, Any]) -> str:
    header = ["ndcg@10 after so many events", *map(str, SHOWN)]
    rows = [
        [name, *(f"{of[str(shown)]['ndcg@10']['mean']:.4f}" for shown in SHOWN)] for name, of in results["rows"].items()
    ]
    lines = [
        f"{pair['pair'][0]} - {pair['pair'][1]}, {pair['shown']} shown: {pair['mean']:+.4f} "
        f"[{pair['low']:+.4f}, {pair['high']:+.4f}], p {pair['p_holm']:.3g}"
        for pair in results["ndcg@10 differences"]
    ]
    return table(f"{results['people']:,} people never met in training", header, rows) + "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k-last5", help="a data set of benchmarks/quality")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", type=Path, help="where published data lies; by default FORETASTE_DATA")
    parser.add_argument("--resume", action="store_true", help="keep the folds that are there")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
