"""Leaderboards of several runs side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretaste.errors import DataError, UnknownName
from foretaste.storage import check_exists, read_json

__all__ = ["Compared", "compare_runs"]


@dataclass(frozen=True)
class Compared:
    """Rows of several runs, best first, and what forbids to compare them."""

    metrics: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]  # run, model, metric -> {mean, low, high, n}
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "warnings": list(self.warnings)}

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
        return "\n".join([*lines, *(f"warning: {each}" for each in self.warnings)])


def compare_runs(runs: Sequence[Path], metrics: Sequence[str]) -> Compared:
    """Read the leaderboards of run directories.

    Raises:
        DataError: A folder is no run directory.
        UnknownName: No run has such a metric.
    """
    boards = {str(run): _board(run) for run in runs}
    known = sorted({name for board in boards.values() for model in board["models"] for name in model["metrics"]})
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
    return Compared(tuple(metrics), tuple(rows), tuple(_warnings(boards)))


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
