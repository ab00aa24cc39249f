"""What 8-bit weights cost: one bundle as it is and in eight bits, on the test part of a recipe.

python benchmarks/eight_bit.py BUNDLE RECIPE [--data-dir DIR] [--max-queries N] [--rounds N] [--threads T] [--out FILE]

BUNDLE is a folder that a run or train left, such as runs/ml-1m-sasrec/models/sasrec; RECIPE, by name or as a YAML file,
says the data and the split that it was fitted on. The result is printed, and kept in FILE where one is named. Quality
is deterministic; times want a quiet machine.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import THREAD_SETTINGS, machine, summary, table, told, versions, write_result

METRIC = "ndcg@10"
WEIGHTS = "weights.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.threads is not None:
        # Before the libraries are loaded, which ask for it once.
        os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(given.threads)))
    from foretaste.errors import ForetasteError

    try:
        results = measured(given.bundle, given.recipe, given.data_dir, given.max_queries, given.rounds)
    except ForetasteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(as_table(results))
    if given.out is not None:
        command = told("eight_bit.py", sys.argv[1:] if arguments is None else arguments)
        about = {"benchmark": "eight_bit", "command": command, "machine": machine(), "versions": versions()}
        write_result(given.out, {**about, "results": results})
    return 0


def measured(
    bundle: Path, recipe_name: str, data_dir: Path | None, max_queries: int | None, rounds: int
) -> dict[str, Any]:
    """Quality, bytes and seconds of both, how far they agree, and what the second loses."""
    import numpy as np

    from foretaste.bundle import load
    from foretaste.errors import ConfigError
    from foretaste.evaluation import Trial
    from foretaste.evaluation.intervals import bootstrap
    from foretaste.experiment import judged_as, load_data, split_data
    from foretaste.recipe import read_recipe
    from foretaste.run import Run
    from foretaste.sequential import SequenceModel

    model, recipe = load(bundle), read_recipe(recipe_name)
    if not isinstance(model, SequenceModel):
        raise ConfigError(f"{bundle} holds {model.name}, which is no network, so it has no weights to keep in 8 bits.")
    split = judged_as(
        split_data(recipe, load_data(recipe.data, recipe.split.kind, data_dir, Run()), data_dir), recipe.evaluation
    )
    if model.about.fingerprint not in (split.train.fingerprint, split.final.fingerprint):
        raise ConfigError(
            f"{bundle} was fitted on other data than recipe {recipe_name} has, so it may know the answers."
        )
    trial = Trial.of(split.test, train=split.final, k=(10,), max_queries=max_queries)
    models = {"float32": model, "int8": model.in_eight_bits()}
    entries = {name: trial.entry(name, each) for name, each in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    lists: dict[str, list[list[int]]] = {}
    for number in range(rounds):
        for name, each in models.items():  # in turns, so that what slows the machine down slows both
            begun = time.perf_counter()
            lists[name] = each.recommend(trial.holdout.queries, 10).items.tolist()
            seconds[name].append((time.perf_counter() - begun) * 1000 / len(trial.holdout))
            print(f"round {number + 1} of {rounds}: {name} {seconds[name][-1]:.2f} s per 1,000", file=sys.stderr)
    loss = entries["float32"].per_query[METRIC] - entries["int8"].per_query[METRIC]
    low, high = bootstrap(loss[:, None], seed=Run().seed_of("eight bit"))
    return {
        "model": model.name,
        "data": model.about.data,
        "items": len(model.items),
        "settings": model.settings.model_dump(mode="json"),
        "queries": len(trial.holdout),
        "rows": {
            name: {
                METRIC: entries[name].metrics[METRIC].json(),
                "weights_bytes": _bytes(each),
                "seconds_per_1000_queries": summary(seconds[name]),
            }
            for name, each in models.items()
        },
        "loss": {METRIC: float(np.nanmean(loss)), "low": float(low[0]), "high": float(high[0])},
        "shared_of_10": float(np.mean([len(set(one) & set(two)) for one, two in zip(*lists.values(), strict=True)])),
    }


def as_table(results: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{row[METRIC]['mean']:.4f}",
            f"{row['weights_bytes'] / 2**20:.2f}",
            f"{row['seconds_per_1000_queries']['median']:.3f}",
        ]
        for name, row in results["rows"].items()
    ]
    title = f"{results['model']} on {results['data']}: {results['queries']:,} queries, {results['items']:,} items"
    loss = results["loss"]
    return (
        table(title, ["weights", METRIC, "MiB", "s per 1,000 queries"], rows)
        + f"lost: {loss[METRIC]:.5f} [{loss['low']:.5f}, {loss['high']:.5f}] (95 % of resampled queries); "
        f"{results['shared_of_10']:.2f} of 10 items are the same"
    )


def _bytes(model: Any) -> int:
    """The file of weights in a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "bundle")
        return (Path(folder) / "bundle" / WEIGHTS).stat().st_size


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--data-dir", type=Path, help="where published data lies; by default FORETASTE_DATA")
    parser.add_argument("--max-queries", type=int, help="a sample of so many queries; by default all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each answers all queries to be timed")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="e.g. benchmarks/results/eight_bit-ml-1m-sasrec-hstu.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
