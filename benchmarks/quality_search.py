"""Search the settings of a row by validation alone: no test event is read.

python benchmarks/quality_search.py ROW DATA --trials N [--study retrieval] [--threads T] [--data-dir DIR]

What is drawn from stands under ``search`` in benchmarks/quality/STUDY/DATA.yaml. Trial 0 is the row as it is; the
settings of every other trial follow from its number (random search: Bergstra, Bengio, JMLR 2012). A trial whose best
score so far is below the median of the earlier trials at the same validation is stopped (--complete: never). Each trial
is a line of benchmarks/results/searches/STUDY/DATA/ROW.jsonl; trials that are there are not done again.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import HERE, THREAD_SETTINGS, machine, table

if TYPE_CHECKING:
    from quality.rows import Rows

    from foretaste.dataset import Dataset
    from foretaste.query import Holdout
    from foretaste.run import Run

OUT = HERE / "results" / "searches"
FIRST = 3  # validations before a trial may be stopped
ENOUGH = 4  # trials that a median is taken over


class Stopped(Exception):
    """A trial is behind, so the rest of it is of no interest."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.threads is not None:
        os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(given.threads)))
    import torch
    from quality.rows import read_rows

    from foretaste.console import Console
    from foretaste.errors import ForetasteError
    from foretaste.run import Run

    if given.threads is not None:
        torch.set_num_threads(given.threads)
    out = OUT / given.study / given.data / f"{given.row}.jsonl"
    try:
        rows = read_rows(given.data, given.study)
        rows.settings(given.row)
        with Console() as console:
            run = Run(device=given.device, threads=given.threads, log=console.log, progress=console.progress)
            search(rows, given.row, given.trials, run, given.data_dir, out, complete=given.complete)
    except ForetasteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(ranked(read_trials(out)))
    return 0


def search(
    rows: "Rows", row: str, trials: int, run: "Run", data_dir: Path | None, out: Path, *, complete: bool = False
) -> None:
    """Do those of the first ``trials`` trials that ``out`` does not hold."""
    done = [each for each in read_trials(out) if each["row"] == rows.fingerprint(row)]
    train, validation = parts_to_search(rows, run, data_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    for number in range(trials):
        changes = drawn(rows, row, number)
        if any(each["changes"] == changes for each in done):
            continue
        run.log(f"trial {number}: {changes or 'the row as it is'}")
        earlier = [] if complete else [each["scores"] for each in done if not each["stopped"] and each["scores"]]
        trial = {"trial": number, "changes": changes, **_tried(rows, row, changes, train, validation, run, earlier)}
        done.append(trial)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(trial) + "\n")


def parts_to_search(rows: "Rows", run: "Run", data_dir: Path | None) -> tuple["Dataset", "Holdout"]:
    """What to learn from and what to choose by; the test part of the split is let go unseen."""
    from foretaste.errors import ConfigError
    from foretaste.experiment import load_data, split_data

    recipe, evaluation = rows.recipe, rows.recipe.evaluation
    if rows.search_split is not None:
        recipe = recipe.model_copy(update={"split": rows.search_split})
    split = split_data(recipe, load_data(recipe.data, recipe.split.kind, data_dir, run), data_dir)
    if split.validation is None:
        raise ConfigError(f"The split of {rows.name} has no validation part to search by; give it one.")
    filter_seen = split.filter_seen if evaluation.filter_seen is None else evaluation.filter_seen
    return split.train, replace(split.validation, filter_seen=filter_seen, exclude_kinds=evaluation.exclude_kinds)


def drawn(rows: "Rows", row: str, number: int) -> dict[str, Any]:
    """The settings that trial ``number`` changes, the same whenever it is asked for."""
    from quality.rows import Range

    from foretaste.run import Run

    if number == 0:
        return {}
    rng = Run().rng("search", rows.name, row, number)
    changes: dict[str, Any] = {}
    for name, values in sorted(rows.search.get(row, {}).items()):
        if not isinstance(values, Range):
            changes[name] = values[rng.integers(len(values))]
            continue
        low, high = (math.log(end) if values.log else end for end in (values.low, values.high))
        value = rng.uniform(low, high)
        changes[name] = float(f"{math.exp(value) if values.log else value:.3g}")
    return changes


def _tried(
    rows: "Rows",
    row: str,
    changes: Mapping[str, Any],
    train: "Dataset",
    validation: "Holdout",
    run: "Run",
    earlier: Sequence[Sequence[float]],
) -> dict[str, Any]:
    """Fit with the changes; what came of it."""
    from foretaste.errors import ConfigError, TrainingDiverged
    from foretaste.validation import ndcg_at_10

    scores: list[float] = []
    begun, stopped, error = time.perf_counter(), False, None

    def log(message: str, numbers: dict[str, float] | None = None) -> None:
        run.log(message, numbers)
        if numbers and "validation" in numbers:
            scores.append(float(f"{numbers['validation']:.6g}"))
            if behind(scores, earlier):
                raise Stopped

    try:
        model = rows.changed(row, changes).settings(row).fit(train, validation, replace(run, log=log))
        scores = scores or [ndcg_at_10(model, validation)]
    except Stopped:
        stopped = True
    except (ConfigError, TrainingDiverged) as wrong:
        error = str(wrong)
    best = max(scores, default=None)
    return {
        "row": rows.fingerprint(row),
        "validation": best,
        "best": None if best is None else 1 + scores.index(best),
        "scores": scores,
        "stopped": stopped,
        "error": error,
        "seconds": round(time.perf_counter() - begun, 1),
        "data": train.fingerprint,
        "machine": machine()["cpu"],
    }


def behind(scores: Sequence[float], earlier: Sequence[Sequence[float]]) -> bool:
    """Whether the best score so far is below the median of what the earlier trials had by the same validation."""
    if len(scores) < FIRST or len(earlier) < ENOUGH:
        return False
    return max(scores) < statistics.median(max(each[: len(scores)]) for each in earlier)


def read_trials(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def ranked(trials: Sequence[Mapping[str, Any]]) -> str:
    """The trials, best first, for a terminal."""
    in_order = sorted(trials, key=lambda each: -(each["validation"] or 0.0))
    header = ("trial", "validation ndcg@10", "best at", "of", "seconds", "settings")
    lines = [
        (
            each["trial"],
            "–" if each["validation"] is None else f"{each['validation']:.4f}",
            each["best"] or "–",
            f"{len(each['scores'])}{' stopped' if each['stopped'] else ''}",
            f"{each['seconds']:,.0f}",
            each["error"] or ", ".join(f"{name}={value}" for name, value in each["changes"].items()) or "as it is",
        )
        for each in in_order
    ]
    return table(f"{len(trials)} trials", header, lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", help="a row of benchmarks/quality/STUDY/DATA.yaml")
    parser.add_argument("data", help="a data set that has rows, such as ml-1m-sasrec")
    parser.add_argument("--trials", type=int, required=True, help="how many trials there are to be in all")
    parser.add_argument("--study", default="sequences", choices=("sequences", "retrieval"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", type=Path, help="where published data lies; by default FORETASTE_DATA")
    parser.add_argument("--complete", action="store_true", help="stop no trial for being behind")
    return parser


if __name__ == "__main__":
    sys.exit(main())
