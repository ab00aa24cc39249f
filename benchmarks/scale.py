"""How far reading, splitting and the two baselines go: seconds, rows a second and peak memory at growing sizes."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from measuring import own_python, run_child, scratch, table

Result = TypeVar("Result")

SIZES = (1_000_000, 10_000_000, 100_000_000)
CSV_SIZES = (1_000_000, 10_000_000)
QUICK_SIZES = (100_000, 300_000)
EVENTS_PER_USER = 50
ITEMS_OF_A_MILLION = 20_000
GROWTH_OF_ITEMS = 0.35  # items ~ events ** 0.35: 20,000 for a million events, 100,000 for a hundred million
BOUND = 16 * 2**30  # bytes
THREADS = 2
SHORTEST = 0.005  # seconds from which a rate is worth showing
GROWTH = ("seconds_per_added_million", "bytes_per_added_row")
COLUMNS = ("user_id", "item_id", "timestamp")

PROTOCOL = (
    "Events of foretaste.simulate.simulate_events (seed 0), one user per 50 events, items growing as events ** 0.35 "
    "from 20,000 at a million, are written to one Parquet file, and at the smaller sizes to one CSV file, in chunks.",
    "For each size a fresh process, alone, with 2 threads: read_events streams the file into a Dataset; it is saved, "
    "let go, and opened again memory-mapped; leave_one_out and by_time split it; Popular and ItemKNN with their "
    "default settings are fitted on the train part of leave_one_out. CSV is read in a process of its own.",
    "Seconds are wall clock, one run. Memory is the peak of the resident set (VmHWM, forgotten before each stage), the "
    "interpreter, its libraries and the mapped pages of files included; bytes per row leave out what was resident "
    "before the first stage.",
    "Growth is what each added row costs, in seconds and in bytes of the peak, from one size to the next: the same at "
    "every step where cost is linear. growth_of_stages is a stage's seconds per row over those at the size before.",
)


def measure(*, quick: bool) -> dict[str, Any]:
    runs = []
    with scratch("scale") as folder:
        for events in QUICK_SIZES if quick else SIZES:
            print(f"{events:,} events", flush=True)
            kinds = ["parquet", "csv"] if events in (QUICK_SIZES[:1] if quick else CSV_SIZES) else ["parquet"]
            runs.append(_run(events, kinds, folder))
    _compare(runs)
    within = all(run["peak_bytes"] <= BOUND for run in runs)
    return {"threads": THREADS, "bound_bytes": BOUND, "within_bound": within, "held": within, "runs": runs}


def tables(results: dict[str, Any]) -> str:
    parts = []
    for run in results["runs"]:
        stages = run["stages"] + ([run["csv"]] if "csv" in run else [])
        rows = [
            (
                stage["stage"],
                f"{stage['seconds']:.2f}",
                f"{stage['rows_per_second']:,.0f}" if stage["seconds"] >= SHORTEST else "-",
                f"{stage['peak_bytes'] / 2**20:,.0f}",
                f"{stage['bytes_per_row']:.0f}",
            )
            for stage in stages
        ]
        title = f"{run['events']:,} events, {run['users']:,} users, {run['items']:,} items"
        parts.append(table(title, ("stage", "seconds", "rows/s", "peak MiB", "bytes/row"), rows))
    rows = [
        (
            f"{run['events']:,}",
            f"{run['seconds']:.1f}",
            f"{run['seconds_per_million']:.2f}",
            f"{run['peak_bytes'] / 2**30:.2f}",
            f"{run['bytes_per_row']:.0f}",
            *(f"{run['growth'][name]:.1f}" if "growth" in run else "" for name in GROWTH),
        )
        for run in results["runs"]
    ]
    header = (
        "events",
        "seconds",
        "s per million",
        "peak GiB",
        "bytes/row",
        "s per added million",
        "bytes per added row",
    )
    parts.append(table("all stages of one size", header, rows))
    parts.append("within 16 GiB" if results["within_bound"] else "NOT within 16 GiB")
    return "\n".join(parts)


def _run(events: int, kinds: list[str], folder: Path) -> dict[str, Any]:
    users, items = max(1, events // EVENTS_PER_USER), round(ITEMS_OF_A_MILLION * (events / 1e6) ** GROWTH_OF_ITEMS)
    written = {}
    for kind in kinds:
        begun = time.perf_counter()
        path = folder / f"{events}.{kind}"
        (_write_parquet if kind == "parquet" else _write_csv)(path, events, users, items)
        written[kind] = {"write_seconds": time.perf_counter() - begun, "file_bytes": path.stat().st_size}
    found = run_child(own_python(), Path(__file__), ["all", folder / f"{events}.parquet", folder / "dataset"], THREADS)
    result = {"events": events, "users": users, "items": items, "files": written, **found}
    if "csv" in kinds:
        path = folder / f"{events}.csv"
        read = run_child(own_python(), Path(__file__), ["read", path, folder / "dataset"], THREADS)["stages"][0]
        result["csv"] = {**read, "stage": "read_events CSV", "bytes_per_second": path.stat().st_size / read["seconds"]}
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return result


def _compare(runs: list[dict[str, Any]]) -> None:
    """Add to each run what the rows cost that it has more than the size before."""
    for before, run in pairwise(runs):
        added = run["rows_read"] - before["rows_read"]
        run["growth"] = {
            "seconds_per_added_million": (run["seconds"] - before["seconds"]) / added * 1e6,
            "bytes_per_added_row": (run["peak_bytes"] - before["peak_bytes"]) / added,
        }
        run["growth_of_stages"] = {
            stage["stage"]: before_stage["rows_per_second"] / stage["rows_per_second"]
            for before_stage, stage in zip(before["stages"], run["stages"], strict=True)
        }


def _write_parquet(path: Path, events: int, users: int, items: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from foretaste.simulate import simulate_events

    schema = pa.schema([(name, pa.int64()) for name in COLUMNS])
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in simulate_events(events, users, items):
            writer.write_table(pa.table(dict(zip(COLUMNS, chunk, strict=True)), schema=schema))


def _write_csv(path: Path, events: int, users: int, items: int) -> None:
    import polars as pl

    from foretaste.simulate import simulate_events

    with path.open("wb") as file:
        for number, chunk in enumerate(simulate_events(events, users, items)):
            pl.DataFrame(dict(zip(COLUMNS, chunk, strict=True))).write_csv(file, include_header=number == 0)


def _child(what: str, source: Path, saved: Path) -> dict[str, Any]:
    """The stages, in this process, each with its seconds and peak."""
    from foretaste.dataset import Dataset
    from foretaste.events import read_events
    from foretaste.memory import forget_peak, peak_memory
    from foretaste.models.itemknn import ItemKNN
    from foretaste.models.popular import Popular
    from foretaste.split import by_time, leave_one_out

    forget_peak()
    before = peak_memory()
    stages: list[dict[str, Any]] = []
    rows = 0

    def stage(name: str, work: Callable[[], Result]) -> Result:
        forget_peak()
        begun = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - begun
        stages.append({"stage": name, "seconds": seconds, "peak_bytes": peak_memory()})
        print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        return result

    data = stage("read_events", partial(read_events, source))
    rows = len(data)
    if what == "all":
        stage("save", partial(data.save, saved))
        del data
        data = stage("open", partial(Dataset.open, saved))
        stage("split by_time", partial(by_time, data))
        split = stage("split leave_one_out", partial(leave_one_out, data))
        stage("fit Popular", partial(Popular().fit, split.train))
        stage("fit ItemKNN", partial(ItemKNN().fit, split.train))
    for each in stages:
        each["rows_per_second"] = rows / each["seconds"]
        each["bytes_per_row"] = max(each["peak_bytes"] - before, 0) / rows
    seconds, peak = sum(each["seconds"] for each in stages), max(each["peak_bytes"] for each in stages)
    return {
        "rows_read": rows,
        "resident_before_bytes": before,
        "seconds": seconds,
        "seconds_per_million": seconds / rows * 1e6,
        "peak_bytes": peak,
        "bytes_per_row": max(peak - before, 0) / rows,
        "within_bound": peak <= BOUND,
        "stages": stages,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One size, in this process; run_benchmarks.py calls it.")
    parser.add_argument("what", choices=["all", "read"])
    parser.add_argument("source", type=Path)
    parser.add_argument("saved", type=Path)
    given = parser.parse_args()
    print(json.dumps(_child(given.what, given.source, given.saved)))
