"""docs/results.md from the leaderboards of finished runs, so that no table is written by hand.

python benchmarks/tables.py runs/ml-1m-sasrec runs/gowalla    # keep the leaderboards of these runs, then make the page
python benchmarks/tables.py                                   # make the page from those that are kept
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foretaste.recipe import read_recipe

HERE = Path(__file__).parent
KEPT = HERE / "results" / "leaderboards"
PAGE = HERE.parent / "docs" / "results.md"
SETTLED = ("examples", "filter_seen", "exclude_kinds")  # what a two-stage fit settles where the recipe leaves it open
METRICS = ("ndcg@10", "hit@10", "recall@10", "recall@20", "ndcg@20", "coverage@10")
HEAD = """# Results

Made by `python benchmarks/tables.py` from `benchmarks/results/leaderboards/*.json`, which runs left behind. Means over
all test queries with 95 % bootstrap intervals over queries, full-catalogue ranking, ties against the model. One seed
unless a row says otherwise: a gap of the size of an interval is no difference. Seconds are of a shared machine.
"""


def main(runs: list[str]) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    for run in map(Path, runs):
        shutil.copyfile(run / "leaderboard.json", KEPT / f"{run.name}.json")
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def page() -> str:
    boards = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("*.json"))}
    return "\n".join([HEAD, *(section(name, board) for name, board in boards.items())])


def section(name: str, board: dict[str, Any]) -> str:
    dataset, protocol, about = board["dataset"], board["protocol"], board["about"]
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in dataset["counts"].items())
    machine = about.get("machine", {})
    where = ", ".join(
        f"{each}"
        for each in (
            machine.get("processor", "unknown machine"),
            f"{machine.get('cores', '?')} cores",
            f"torch {about['versions']['torch']}",
            about["created"][:10],
        )
    )
    rows = [row for row in board["models"] if row["metrics"]]
    metrics = [metric for metric in METRICS if any(metric in row["metrics"] for row in rows)]
    lines = [
        f"## {name}",
        "",
        f"`{about['command']}`, seed {about['seed']}, {about['seeds']} seed(s). {where}.",
        "",
        f"Data `{dataset['fingerprint']}`: {counts}. " + " ".join(protocol["sentences"]),
        f"{protocol['queries']:,} test queries.",
        "",
        "| model | " + " | ".join(metrics) + " | fit s | answer s | peak MB |",
        "|---|" + "---|" * (len(metrics) + 3),
        *(f"| `{row['name']}` | {' | '.join(cells(row, metrics))} |" for row in rows),
        "",
    ]
    lines += [f"`{row['name']}` takes no part: {row['why_absent']}\n" for row in board["models"] if row["why_absent"]]
    lines += [f"- {each['code']} {each['text']}" for each in board["checks"]]
    lines += [f"- {each}" for each in since(name, board)]
    return "\n".join([*lines, ""])


def since(name: str, board: dict[str, Any]) -> Iterator[str]:
    """In what the recipe has changed since the run."""
    measured = {row["name"]: row["settings"] for row in board["models"]}
    for model, settings in read_recipe(name).settings().items():
        if model not in measured:
            yield f"`{model}` is in the recipe today, and was not when this was measured."
        elif not holds(settings.model_dump(mode="json"), measured[model]):
            yield f"`{model}` has other settings in the recipe today than when this was measured."


def holds(today: Any, then: Any) -> bool:
    """Whether all that was set then is set so today; what was no setting then does not count."""
    if isinstance(today, dict) and isinstance(then, dict):
        left_open = {key for key in SETTLED if key in today and today[key] is None}
        return all(key in today and (key in left_open or holds(today[key], value)) for key, value in then.items())
    return bool(today == then)


def cells(row: dict[str, Any], metrics: list[str]) -> list[str]:
    costs = [number(row["fit_seconds"]), number(row["recommend_seconds"]), number(row["peak_memory_mb"], 0)]
    return [*(cell(row["metrics"].get(metric)) for metric in metrics), *costs]


def cell(value: dict[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "–"
    return f"{value['mean']:.4f}" + ("" if value["low"] is None else f" [{value['low']:.4f}, {value['high']:.4f}]")


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


if __name__ == "__main__":
    main(sys.argv[1:])
