"""One ranker on one table with one seed: learned, its epoch chosen on validation, judged, written down."""

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import HERE, Peer, environment, versions, write_result

from foretaste.errors import ConfigError
from foretaste.run import Run
from foretaste.sources import data_folder
from quality.click_data import TASK, Clicks, Predicted, clicks_of
from quality.list_data import Lists, lists_of
from quality.measure import circumstances, forget
from quality.ranking_rows import RankerRow, RankerRows
from quality.results import RESULTS

__all__ = ["measured", "place_of"]

PEERS = {
    "fuxictr": Peer(
        "fuxictr", ("fuxictr==2.3.10", "torch==2.13.0", "scikit-learn==1.9.1", "pandas==3.1.1", "h5py==3.16.0")
    ),
    "lightgbm": Peer("lightgbm", ("lightgbm==4.7.0",)),
}


def place_of(rows: RankerRows, row: str, seed: int) -> Path:
    return RESULTS / rows.study / rows.name / f"{row}-seed{seed}.json"


def measured(rows: RankerRows, row: str, run: Run, data_dir: Path | None, work: Path, command: str) -> Path:
    """Learn, judge, and write the result of one row with one seed; returns where it stands.

    A run with ``resume`` does nothing where the result is there already, and goes on with a ranker of ours.
    """
    path, settings = place_of(rows, row, run.seed), rows.settings(row)
    if run.resume and path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["fingerprint"] == rows.fingerprint(row):
            run.log(f"{path} is there already, of the same settings")
            return path
    if not run.resume:
        forget(work)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    about = circumstances(rows, row, run, command)
    data = lists_of(rows.shop, run) if rows.shop is not None else clicks_of(rows.name, data_folder(data_dir), run)
    for sentence in data.words:
        run.log(f"split: {sentence}")
    if isinstance(data, Lists) or settings.by == "foretaste":
        told, predicted = _ours(settings, data, run, work)
    else:
        told, predicted = _theirs(settings, data, run, work)
    content = {
        **about,
        "by": settings.by,
        "settings": settings.model_dump(mode="json"),
        "dataset": data.about(),
        **told,
        "metrics": data.judged("test", predicted["test"]),
        "validation": data.judged("validation", predicted["validation"]),
    }
    write_result(path, content)
    forget(work)
    return path


def _ours(row: RankerRow, data: Clicks | Lists, run: Run, work: Path) -> tuple[dict[str, Any], Mapping[str, Predicted]]:
    """What learning took, and part -> what the ranker says of it."""
    train, held_out = data.examples("train"), data.examples("validation")
    began = time.perf_counter()
    model = row.ranker().fit(train, held_out, replace(run, checkpoints=work / "checkpoints"))
    seconds = time.perf_counter() - began
    predicted: dict[str, Predicted] = {}
    for name in ("validation", "test"):
        examples = data.examples(name)
        begun = time.perf_counter()
        found = model.predict(examples)
        answered = time.perf_counter() - begun
        predicted[name] = data.told(name, found)
    curve = model.training["curve"]
    told = {
        "fit_seconds": seconds,
        "epoch_seconds": [each["seconds"] for each in curve],
        "test_seconds": answered,
        "curve": [each.get("validation") for each in curve],
        "parameters": model.parameters,
        "versions": versions(("foretaste", "torch", "numpy")),
    }
    return told, predicted


def _theirs(row: RankerRow, clicks: Clicks, run: Run, work: Path) -> tuple[dict[str, Any], Mapping[str, Predicted]]:
    """As ``_ours``, of a library in an environment of its own."""
    data, order, out = work / "clicks.npz", work / "order.json", work / "chances.npz"
    np.savez(data, **clicks.arrays())
    told = {"data": str(data), "out": str(out), "seed": run.seed, "threads": run.threads or torch.get_num_threads()}
    order.write_text(json.dumps({**told, "model": row.model, "settings": dict(row.settings)}), encoding="utf-8")
    script = HERE / "peers" / f"{row.by}_ranking.py"
    _call(PEERS[row.by].python(), script, order, told["threads"], run)
    found = np.load(out)
    content = json.loads(str(found["told"]))
    content["curve"] = content.pop("validation")
    content["versions"] = {**versions(()), **content["versions"]}
    for each in (data, order, out):
        each.unlink()
    return content, {name: {TASK: found[name]} for name in ("validation", "test")}


def _call(python: Path, script: Path, order: Path, threads: int, run: Run) -> None:
    """Run a peer's script, and pass on what it says.

    Raises:
        ConfigError: It failed.
    """
    with subprocess.Popen(
        [str(python), str(script), str(order)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(threads),
    ) as process:  # fmt: skip
        said = []
        for line in process.stdout or ():
            said.append(line.rstrip())
            run.log(said[-1])
    if process.returncode:
        raise ConfigError(f"{script.name} ended with {process.returncode}: {' / '.join(said[-3:])}")
