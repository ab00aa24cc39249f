"""One committed JSON per row, data set and seed; what it keeps of every query is small, and enough for paired tests."""

import base64
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.evaluation import Entry, Trial
from foretaste.evaluation.metrics import METRICS, measured
from foretaste.ragged import Ragged
from quality.rows import Rows, read_rows

RESULTS = Path(__file__).parents[1] / "results"
ENCODING = "unsigned 16-bit integers, little-endian, zlib, base64"
MOST = 65_535
DIGITS = 6  # significant digits that are kept of a number


@dataclass(frozen=True, eq=False)
class Result:
    """A result as it was read from its file."""

    path: Path
    content: Mapping[str, Any]

    @property
    def row(self) -> str:
        return str(self.content["row"])

    @property
    def queries(self) -> str:
        """Tells on which queries it was judged."""
        return str(self.content["protocol"]["digest"])

    @property
    def study(self) -> str:
        return self.path.parents[1].name

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """(users,) how many queries each user asks, one user after the other; None where everybody asks once."""
        kept = self.content["per_query"]["queries_of_users"]
        return None if kept is None else decoded(kept).astype(np.int64)

    def after(self, shown: int) -> "Result | None":
        """What strangers were answered after so many events; None where that was not asked."""
        found = self.content.get("strangers", {}).get(str(shown))
        return None if found is None else Result(self.path, {**self.content, **found})

    def withheld_alone(self) -> "Result | None":
        """Where lists are of the withheld items alone; None where that was not asked."""
        found = self.content.get("withheld_alone")
        return None if found is None else Result(self.path, {**self.content, **found})

    def per_query(self, metric: str) -> NDArray[np.float64] | None:
        """(queries,) the values of a metric; None where they do not follow from what is kept."""
        kept = self.content["per_query"]
        values = decoded(kept["values"])
        if kept["what"] == metric:
            return values / MOST
        name, _, k = metric.partition("@")
        if kept["what"] != "rank" or name not in METRICS or not k.isdigit() or int(k) > kept["within"]:
            return None
        ranks = Ragged.from_lengths(values.astype(np.int32), np.ones(len(values), np.int64))
        return measured(ranks, np.ones(len(values), np.int64), [int(k)])[metric]

    def mean(self, metric: str) -> float | None:
        """Over the queries; None where it was not measured."""
        values = self.per_query(metric)
        return self.content["metrics"].get(metric, {}).get("mean") if values is None else float(values.mean())


def place_of(rows: Rows, row: str, seed: int) -> Path:
    return RESULTS / rows.study / rows.name / f"{row}-seed{seed}.json"


def read_result(path: Path) -> Result:
    return Result(path, json.loads(path.read_text(encoding="utf-8")))


def read_results(of: Rows) -> dict[str, list[Result]]:
    """Row -> its results, by seed.

    Raises:
        ValueError: The results are not of one protocol, or those of a row not of one setting.
    """
    found = [read_result(path) for path in (RESULTS / of.study / of.name).glob("*.json")]
    found.sort(key=lambda each: (each.row, each.content["seed"]))
    for seed in {each.content["seed"] for each in found} if of.draws else [None]:
        together = [each for each in found if seed in (None, each.content["seed"])]
        _check_equal(together, "protocol", "digest", f"{of.name}: these results were not judged on the same queries")
    rows: dict[str, list[Result]] = {}
    for result in found:
        rows.setdefault(result.row, []).append(result)
    for row, results in rows.items():
        _check_equal(results, "fingerprint", None, f"{of.name}: the seeds of {row} have different settings")
    if of.beside is not None:
        others = read_results(read_rows(of.name, of.beside))
        rows |= {row: results for row, results in others.items() if row not in of.recipe.models}
        every = [each for results in rows.values() for each in results]
        _check_equal(every, "protocol", "digest", f"{of.name}: {of.beside} were not judged on the same queries")
    return rows


def of_strangers(results: Mapping[str, Sequence[Result]], shown: int) -> dict[str, list[Result]]:
    """Row -> what each seed answered strangers after so many events; without rows that were not asked so."""
    return _asked_otherwise(results, lambda result: result.after(shown))


def of_withheld_alone(results: Mapping[str, Sequence[Result]]) -> dict[str, list[Result]]:
    """Row -> the lists of each seed of withheld items alone; without rows that were not asked so."""
    return _asked_otherwise(results, Result.withheld_alone)


def _asked_otherwise(
    results: Mapping[str, Sequence[Result]], of: Callable[[Result], Result | None]
) -> dict[str, list[Result]]:
    found = {row: [of(each) for each in seeds] for row, seeds in results.items()}
    return {row: [each for each in seeds if each] for row, seeds in found.items() if all(seeds)}


def kept_of_queries(entry: Entry, trial: Trial, ranked_by: str) -> dict[str, Any]:
    """What is kept of every query: the rank of the only target, or else the metric by which rows are ranked."""
    queries, unknown = trial.holdout.queries, trial.holdout.unknown
    targets = trial.holdout.targets.lengths + (0 if unknown is None else unknown)
    kept: dict[str, Any] = {"encoding": ENCODING, "queries": len(trial.holdout), "queries_of_users": None}
    if queries.user is not None and len(queries) and (np.diff(queries.user) == 0).any():
        begins = np.flatnonzero(np.diff(queries.user, prepend=-2))
        kept["queries_of_users"] = encoded(np.diff(begins, append=len(queries)))
    if (targets == 1).all():
        largest = max(trial.k)
        reciprocal = entry.per_query[f"mrr@{largest}"]
        ranks = np.zeros(len(reciprocal), np.int64)
        ranks[reciprocal > 0] = np.rint(1 / reciprocal[reciprocal > 0])
        return {**kept, "what": "rank", "within": largest, "zero": "farther", "values": encoded(ranks)}
    if ranked_by not in entry.per_query:
        raise ValueError(f"With several targets per query {ranked_by} is kept, so k must hold its k; it is {trial.k}.")
    return {**kept, "what": ranked_by, "scale": MOST, "values": encoded(np.rint(entry.per_query[ranked_by] * MOST))}


def encoded(values: NDArray[Any]) -> str:
    """Numbers of 0 to 65,535 as text."""
    if len(values) and (values.min() < 0 or values.max() > MOST):
        raise ValueError(f"Only 0 to {MOST:,} can be kept; these are {values.min()} to {values.max()}.")
    return base64.b64encode(zlib.compress(values.astype("<u2").tobytes(), 9)).decode()


def decoded(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2")


def columns_of(curve: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """A learning curve as one list per number, an epoch each; None where an epoch lacks it."""
    names = dict.fromkeys(name for row in curve for name in row)
    return {name: [None if name not in row else rounded(row[name]) for row in curve] for name in names}


def rounded(value: Any) -> Any:
    """The same with few digits; a number that is none becomes None, as JSON has no other word for it."""
    if isinstance(value, Mapping):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def _check_equal(results: Sequence[Result], key: str, inner: str | None, wrong: str) -> None:
    values = {each.path.name: each.content[key] if inner is None else each.content[key][inner] for each in results}
    if len(set(values.values())) > 1:
        told = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise ValueError(f"{wrong} ({key}: {told}). Measure again, or delete those that no longer count.")
