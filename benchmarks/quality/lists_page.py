"""The part of docs/results-ranking.md that is about lists and several tasks."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy.stats import t as student
from scipy.stats import ttest_ind

from quality.page import code_of, number
from quality.ranking_rows import RankerRows

__all__ = ["lists_about", "lists_compared", "lists_table"]

Result = Mapping[str, Any]  # of one row and one seed
Found = Mapping[str, Sequence[Result]]  # row -> the results of its seeds
MEAN = "mean"  # of all tasks, beside their names


def lists_about(told: Result) -> Iterator[str]:
    data = told["dataset"]
    tasks = list(data["positives"])
    sizes = ", ".join(
        f"{name} {data['lists'][name]:,} lists of {count:,} places with "
        + ", ".join(f"{data['positives'][task][name]:,} {task}" for task in tasks)
        for name, count in data["rows"].items()
    )
    yield f"Lists `{data['fingerprint']}`: {sizes}."
    yield from data["words"]


def lists_table(rows: RankerRows, found: Found) -> Iterator[str]:
    """A row per ranker, those of all tasks first; differences are from the first row of the study, seed by seed."""
    found = with_sums(rows, found)
    base, tasks = next(iter(rows.models)), list(next(iter(found.values()))[0]["dataset"]["positives"])
    columns = [
        *("ranker", "seeds", "mean AUC", "sd", f"against `{base}`"),
        *(f"AUC {task}" for task in tasks),
        *(f"log loss {task}" for task in tasks),
        *(f"grouped AUC {task}" for task in tasks),
        *("best epoch", "fit min", "parameters", "code"),
    ]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in sorted(found, key=lambda row: -_order(found[row], tasks)):
        results = found[row]
        means = [auc_of(each, MEAN) for each in results]
        cells = [f"`{row}`", str(len(results)), _told(means), _spread(means)]
        cells.append("–" if row == base else _against(found.get(base, ()), results))
        for metric in ("auc", "log_loss", "grouped_auc"):
            cells += [_told([_metric(each, task, metric) for each in results]) for task in tasks]
        if row in rows.sums:
            cells += ["–", f"{_minutes(results):.1f}", "–", "–"]
        else:
            codes = "; ".join(sorted({code_of(each) for each in results}))
            epochs = statistics.mean(best_epoch(each) for each in results)
            cells += [number(epochs, 0), f"{_minutes(results):.1f}", f"{results[0]['parameters']:,}", codes]
        yield f"| {' | '.join(cells)} |"


def lists_compared(rows: RankerRows, found: Found) -> Iterator[str]:
    """Each pair of the study, by task and in the mean, with intervals of 95 % over seeds by Welch."""
    found = with_sums(rows, found)
    base = next(iter(rows.models))
    if len(found.get(base, ())) > 1:
        spread = statistics.stdev(auc_of(each, MEAN) for each in found[base])
        yield (
            f"- With one seed a difference in mean AUC below some {2 * math.sqrt(2) * spread:.4f}, twice the standard "
            f"deviation of a difference between seeds of `{base}`, says nothing."
        )
    for first, second in rows.pairs:
        if first not in found or second not in found:
            yield f"- `{first}` is to be compared with `{second}`: not measured yet."
            continue
        tasks = list(found[first][0]["dataset"]["positives"])
        told = [_difference(task, found[first], found[second]) for task in (*tasks, MEAN)]
        seeds = f"{len(found[first])} and {len(found[second])} seeds"
        yield f"- `{first}` against `{second}`, AUC: {'; '.join(told)} ({seeds})."


def with_sums(rows: RankerRows, found: Found) -> Found:
    """The same with rows that are told as one, by the seeds that all of them have."""
    together = dict(found)
    for name, members in rows.sums.items():
        by_seed = [{each["seed"]: each for each in found.get(member, ())} for member in members]
        results = []
        for seed in sorted(set.intersection(*map(set, by_seed))):
            parts = [of_seed[seed] for of_seed in by_seed]
            metrics = {task: told for part in parts for task, told in part["metrics"].items()}
            results.append({**parts[0], "metrics": metrics, "fit_seconds": sum(part["fit_seconds"] for part in parts)})
        if results:
            together[name] = results
    return together


def auc_of(result: Result, task: str) -> float | None:
    """Of a task, or the mean of all; None where the ranker does not have them."""
    if task != MEAN:
        return _metric(result, task, "auc")
    found = [_metric(result, each, "auc") for each in result["dataset"]["positives"]]
    known = [each for each in found if each is not None]
    return statistics.mean(known) if len(known) == len(found) else None


def best_epoch(told: Result) -> int:
    curve = [-math.inf if each is None else each for each in told["curve"]]
    return 1 + max(range(len(curve)), key=curve.__getitem__)


def _metric(result: Result, task: str, metric: str) -> float | None:
    told = result["metrics"].get(task, {}).get(metric)
    return None if told is None else float(told)


def _order(results: Sequence[Result], tasks: Sequence[str]) -> float:
    means = [auc_of(each, MEAN) for each in results]
    known = [each for each in means if each is not None]
    return statistics.mean(known) if known else -1.0


def _told(values: Sequence[float | None]) -> str:
    known = [each for each in values if each is not None]
    return f"{statistics.mean(known):.4f}" if known else "–"


def _spread(values: Sequence[float | None]) -> str:
    known = [each for each in values if each is not None]
    return f"{statistics.stdev(known):.4f}" if len(known) > 1 else "–"


def _minutes(results: Sequence[Result]) -> float:
    return statistics.mean(each["fit_seconds"] for each in results) / 60


def _against(base: Sequence[Result], results: Sequence[Result]) -> str:
    """The mean difference of mean AUC from the results of the base with the same seeds."""
    own = {each["seed"]: auc_of(each, MEAN) for each in base}
    gaps = [
        mean - there
        for each in results
        if (mean := auc_of(each, MEAN)) is not None and (there := own.get(each["seed"])) is not None
    ]
    return f"{statistics.mean(gaps):+.4f}" if gaps else "–"


def _difference(task: str, ours: Sequence[Result], theirs: Sequence[Result]) -> str:
    one, other = ([told for each in side if (told := auc_of(each, task)) is not None] for side in (ours, theirs))
    if not one or not other:
        return f"{task} –"
    gap = statistics.mean(one) - statistics.mean(other)
    if min(len(one), len(other)) < 2:
        return f"{task} {gap:+.4f}"
    test = ttest_ind(one, other, equal_var=False)
    error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
    half = float(student.ppf(0.975, test.df)) * error if error else 0.0
    return f"{task} {gap:+.4f} [{gap - half:+.4f}, {gap + half:+.4f}]"
