"""One row on one data set with one seed: fitted as the protocol has it, judged, and written down."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine, versions, write_result

from foretaste.evaluation import Entry, Trial
from foretaste.evaluation.ratings import rating_error
from foretaste.experiment import Loaded, judged_as, load_data, split_data
from foretaste.fitting import fit_chosen
from foretaste.memory import forget_peak, peak_memory
from foretaste.recommender import Model
from foretaste.run import Run
from foretaste.split import Split
from foretaste.storage import read_json, write_json
from foretaste.train import device_of, precision_of
from quality.results import columns_of, kept_of_queries, place_of, read_result, rounded
from quality.rows import Rows

LIBRARIES = ("foretaste", "numpy", "scipy", "torch", "implicit")


def measured(rows: Rows, row: str, run: Run, data_dir: Path | None, work: Path, command: str) -> Path:
    """Fit, judge, and write the result of one row with one seed; returns where it stands.

    A run with ``resume`` goes on from its last checkpoint, and does nothing where the result is there already.

    Args:
        work: A folder of this row and seed alone.
        command: What made the result, to be told in it.
    """
    path, settings, recipe = place_of(rows, row, run.seed), rows.settings(row), rows.recipe_of(run.seed)
    if run.resume and path.exists() and read_result(path).content["fingerprint"] == rows.fingerprint(row):
        run.log(f"{path} is there already, of the same settings")
        return path
    if not run.resume:
        forget(work)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    about = {**circumstances(rows, row, run, command), "precision": precision_of(run), "versions": versions(LIBRARIES)}
    loaded = load_data(recipe.data, recipe.split.kind, data_dir, run)
    split = judged_as(split_data(recipe, loaded, data_dir), recipe.evaluation)
    for sentence in (*split.protocol["sentences"], *split.leaks.sentences()):
        run.log(f"split: {sentence}")
    # Seed 0, so that every fit is asked the same queries where a sample of them is drawn.
    trial = Trial.of(
        split.test, train=split.final, k=recipe.evaluation.k, max_queries=recipe.evaluation.max_queries, seed=0
    )
    spent = Spent(work / "spent.json", run)
    model = fit_chosen(settings, split, replace(run, checkpoints=work / "checkpoints" / "fit", log=spent.log))
    costs = spent.told()
    model.save(work / "model")
    entry = trial.entry(row, model, run.log)
    content = {
        **about,
        "dataset": {
            "name": loaded.data.name,
            "fingerprint": loaded.data.fingerprint,
            "counts": {**loaded.data.counts(), "train_events": len(split.final)},
        },
        "protocol": _protocol(split, trial),
        "model": settings.called(),
        "settings": settings.model_dump(mode="json"),
        "parameters": model.parameters,
        **_training(model, costs),
        "metrics": _metrics(entry),
        "rating_rmse": rounded(rating_error(model, loaded.data, trial.holdout, run.log)),
        "recommend_seconds": entry.recommend_seconds,
        "per_query": kept_of_queries(entry, trial, rows.ranked_by),
        "withheld_alone": _of_withheld_alone(rows, row, model, trial, loaded, run.seed),
        "strangers": {str(shown): _asked_by_strangers(rows, row, model, trial, shown) for shown in rows.strangers},
    }
    write_result(path, content)
    forget(work)
    return path


def _of_withheld_alone(
    rows: Rows, row: str, model: Model, trial: Trial, loaded: Loaded, seed: int
) -> dict[str, Any] | None:
    """The same queries, where lists are of the withheld items alone; None where the rows do not ask for it."""
    if not rows.withheld_alone:
        return None
    rule = rows.recipe_of(seed).split.model_copy(update={"offered": "cold"})
    offered = rule.split(loaded.data).test.offered
    asked = replace(trial, holdout=replace(trial.holdout, offered=offered))
    entry = asked.entry(f"{row}, of withheld items alone", model)
    return {"metrics": _metrics(entry), "per_query": kept_of_queries(entry, trial, rows.ranked_by)}


def _asked_by_strangers(rows: Rows, row: str, model: Model, trial: Trial, shown: int) -> dict[str, Any]:
    """The same targets, asked without a name after so many of the latest events; these alone are hidden."""
    history = trial.holdout.queries.history
    latest = np.arange(len(history.values)) >= history.offsets[1:][history.row_of_value()] - shown
    queries = replace(trial.holdout.queries.where(latest), user=None, user_features=None)
    asked = replace(trial, holdout=replace(trial.holdout, queries=queries))
    entry = asked.entry(f"{row}, asked by strangers after {shown} events", model)
    # By the queries of people known, so that both are resampled alike.
    return {"metrics": _metrics(entry), "per_query": kept_of_queries(entry, trial, rows.ranked_by)}


def circumstances(rows: Any, row: str, run: Run, command: str) -> dict[str, Any]:
    """Which row of a study is measured, with what command, when and where.

    Args:
        rows: Has a ``name`` and a ``fingerprint`` of each row.
    """
    return {
        "row": row,
        "data": rows.name,
        "seed": run.seed,
        "fingerprint": rows.fingerprint(row),
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**machine(), "device": device_called(run), "threads": torch.get_num_threads()},
    }


def forget(work: Path) -> None:
    """Remove what a killed run is gone on with."""
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    (work / "spent.json").unlink(missing_ok=True)


class Spent:
    """Seconds and peak memory of a fit over all the processes that it took, kept in a file for the next of them."""

    def __init__(self, path: Path, run: Run) -> None:
        earlier: dict[str, Any] = read_json(path) if path.exists() else {}
        self._path, self._log = path, run.log
        self._begun, self._before = time.perf_counter(), float(earlier.get("fit_seconds", 0))
        self._processes = int(earlier.get("processes", 0)) + 1
        self._measured, self._peak = forget_peak(), earlier.get("peak_memory_mb")

    def log(self, message: str, numbers: dict[str, float] | None = None) -> None:
        """Pass a message on; it comes after each epoch, so it is the moment to write down what was spent."""
        write_json(self._path, self.told())
        self._log(message, numbers)

    def told(self) -> dict[str, Any]:
        """fit_seconds; processes; peak_memory_mb, None where the system cannot say."""
        if self._measured:
            self._peak = max(self._peak or 0.0, peak_memory() / 2**20)
        seconds = self._before + time.perf_counter() - self._begun
        return {"fit_seconds": seconds, "processes": self._processes, "peak_memory_mb": self._peak}


def device_called(run: Run) -> str:
    """The device of a run in words."""
    device = device_of(run)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _protocol(split: Split, trial: Trial) -> dict[str, Any]:
    sentences = [*split.protocol["sentences"], trial.about_seen()]
    return {**split.protocol, **trial.protocol(), "sentences": sentences, "leaks": split.leaks.sentences()}


def _training(model: Model, costs: Mapping[str, Any]) -> dict[str, Any]:
    """What the fit chose and cost, and its learning curve."""
    told = dict(model.training)
    curve = told.pop("curve", [])
    # The first epoch also pays for what is done once.
    rates = [each["events_per_second"] for each in (curve[1:] or curve) if "events_per_second" in each]
    rate = float(np.median(rates)) if rates else None
    training = {**told, "epochs": len(curve), "events_per_second": rate, **costs}
    return {"training": rounded(training), "curve": columns_of(curve)}


def _metrics(entry: Entry) -> dict[str, Any]:
    """Means with intervals over the test queries."""
    return {name: rounded(interval.json()) for name, interval in entry.metrics.items()}
