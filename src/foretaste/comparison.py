"""Leaderboards of several runs side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretaste.errors import DataError, UnknownName
from foretaste.evaluation.checks import p_in_words
from foretaste.storage import check_exists, read_json

__all__ = ["Compared", "compare_runs"]


@dataclass(frozen=True)
class Compared:
    """Rows of several runs, best first, and what forbids to compare them."""

    metrics: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]  # run, model, metric -> {mean, low, high, n}
    warnings: tuple[str, ...]
    tests: tuple[Mapping[str, Any], ...] = ()  # the best row against each other one: difference, p, p_holm

    def to_json(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "tests": list(self.tests), "warnings": list(self.warnings)}

    def text(self) -> str:
        """The table and the warnings, for a terminal."""
        header = ["run", "model", *self.metrics]
        rows = [
            [row["run"], row["model"], *(_interval(row["metrics"].get(name)) for name in self.metrics)]
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (header, *rows)
        ]
        tests = [
            f"{each['best']} against {each['other']}: {each['difference']:+.4f} {each['metric']}, "
            f"{p_in_words(each['p_holm'])} (paired, Holm)"
            for each in self.tests
        ]
        return "\n".join([*lines, *([""] if tests else []), *tests, *(f"warning: {each}" for each in self.warnings)])


def compare_runs(runs: Sequence[Path], metrics: Sequence[str]) -> Compared:
    """Read the leaderboards of run directories.

    Where all runs asked the same queries, the best row of the first metric is tested against each other one, query by
    query (sign flips, two-sided, with Holm's correction).

    Args:
        metrics: By name, the first to sort by; none: what the runs rank their models by.

    Raises:
        DataError: A folder is no run directory.
        UnknownName: No run has such a metric.
    """
    boards = {str(run): _board(run) for run in runs}
    known = sorted({name for board in boards.values() for model in board["models"] for name in model["metrics"]})
    metrics = list(metrics) or sorted({str(board["protocol"].get("primary_metric")) for board in boards.values()})
    for name in metrics:
        if name not in known:
            raise UnknownName("metric", name, known)
    rows = [
        {
            "run": run,
            "model": model["name"],
            "settings": model["settings"],
            "metrics": {name: model["metrics"].get(name) for name in metrics},
        }
        for run, board in boards.items()
        for model in board["models"]
        if model["metrics"]
    ]
    rows.sort(key=lambda row: -((row["metrics"][metrics[0]] or {}).get("mean") or 0))
    warnings = _warnings(boards)
    tests = () if warnings else tuple(_tests(rows, metrics[0]))
    return Compared(tuple(metrics), tuple(rows), tuple(warnings), tests)


def _tests(rows: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The best row against each other one, on the same queries; empty where a run kept no values per query."""
    import numpy as np

    from foretaste.evaluation.intervals import holm, paired_test

    rows = [row for row in rows if row["model"] != "oracle"]
    values = [_per_query(Path(row["run"]), f"{row['model']} {metric}") for row in rows]
    if len(values) < 2 or any(each is None or len(each) != len(values[0]) for each in values):
        return []
    differences = np.stack([values[0] - each for each in values[1:]], axis=1)
    p = paired_test(differences)
    return [
        {
            "best": _label(rows[0]),
            "other": _label(row),
            "metric": metric,
            "difference": mean,
            "p": one,
            "p_holm": adjusted,
        }
        for row, mean, one, adjusted in zip(
            rows[1:], differences.mean(0).tolist(), p.tolist(), holm(p).tolist(), strict=True
        )
    ]


def _per_query(run: Path, column: str) -> Any:
    """(queries,) what a model scored, in the order of the queries; None where the run did not keep it."""
    import polars as pl

    path = run / "queries.parquet"
    if not path.exists() or column not in pl.scan_parquet(path).collect_schema():
        return None
    return pl.read_parquet(path, columns=[column])[column].to_numpy()


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['run']} {row['model']}"


def _board(run: Path) -> dict[str, Any]:
    check_exists(run)
    path = run / "leaderboard.json"
    if not path.exists():
        raise DataError(f"{run} is no run directory: it holds no leaderboard.json.")
    content = read_json(path)
    if not isinstance(content, dict) or not {"dataset", "protocol", "models"} <= set(content):
        raise DataError(f"{path} is not a leaderboard: dataset, protocol or models is missing.")
    groups = isinstance(content["dataset"], dict) and isinstance(content["protocol"], dict)
    if not groups or not isinstance(content["models"], list) or not all(map(_is_row, content["models"])):
        raise DataError(f"{path} is not a leaderboard as a run writes it. Run again, or leave it out.")
    return content


def _is_row(model: Any) -> bool:
    """Whether this is a model with settings and metrics, each of which has a mean."""
    if not isinstance(model, dict) or not {"name", "settings", "metrics"} <= set(model):
        return False
    metrics = model["metrics"]
    return isinstance(metrics, dict) and all(isinstance(each, dict) and "mean" in each for each in metrics.values())


def _warnings(boards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why rows of different runs must not be compared."""
    found = []
    if len({board["dataset"].get("fingerprint") for board in boards.values()}) > 1:
        found.append("the runs are about different data; their numbers are not comparable")
    elif len({board["protocol"].get("digest") for board in boards.values()}) > 1:
        found.append("the runs were split differently; their numbers are not comparable")
    judged = {
        tuple(str(board["protocol"].get(key)) for key in ("filter_seen", "exclude_kinds", "queries"))
        for board in boards.values()
    }
    if len(judged) > 1:
        found.append("the runs were judged differently (seen filter, hidden kinds or number of queries)")
    samples = {board["protocol"].get("seed") for board in boards.values() if board["protocol"].get("queries_sampled")}
    if len(samples) > 1:
        found.append("the runs were judged by different samples of the queries (seeds)")
    return found


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "-"
    ends = "" if value.get("low") is None else f" [{value['low']:.4f}, {value['high']:.4f}]"
    return f"{value['mean']:.4f}{ends}"
