"""Fitted rankers on disk: JSON and safetensors with checksums, like the bundles of recommenders."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from foretaste.errors import BundleError
from foretaste.rank.dcnv2 import DCNv2, DCNv2Model
from foretaste.rank.fields import Fields
from foretaste.rank.tasks import Task
from foretaste.run import Run
from foretaste.sealed_folder import read_folder, write_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load_ranker", "save_ranker"]

INDEX = "ranker.json"


def save_ranker(model: DCNv2Model, folder: Path | str) -> None:
    """Write a bundle; it takes its place only when it is whole."""
    tasks = {name: task.model_dump(mode="json") for name, task in model.tasks.items()}
    index = {
        "ranker": model.name,
        "settings": model.settings.model_dump(mode="json"),
        "tasks": tasks,
        "fields": model.fields.schema(),
        "training": model.training,
        "metrics": _without_nan(model.metrics),
    }
    write_folder(Path(folder), INDEX, index, {"weights": model.state(), "fields": model.fields.arrays()})


def load_ranker(folder: Path | str, run: Run | None = None) -> DCNv2Model:
    """The fitted ranker in a bundle.

    Raises:
        BundleError: There is no such bundle, a file is torn, edited or missing, or the format is newer.
    """
    index, files = read_folder(Path(folder), INDEX, "a ranker's bundle is the folder that rank train --out")
    try:
        tasks: Mapping[str, Task] = {name: Task(**told) for name, told in index["tasks"].items()}
        fields = Fields.from_arrays(index["fields"], files["fields"])
        model = DCNv2Model(DCNv2(**index["settings"]), fields, tasks, run or Run())
        model.load_state({name: torch.from_numpy(array) for name, array in files["weights"].items()})
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ValidationError) as error:
        raise BundleError(
            f"{Path(folder) / INDEX} does not fit its arrays or this version of Foretaste: {error}. Train it again."
        ) from error
    model.training, model.metrics = index["training"], index["metrics"]
    return model


def _without_nan(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """JSON has no NaN: what could not be measured is null."""
    return {
        task: {name: None if value is None or math.isnan(value) else value for name, value in told.items()}
        for task, told in metrics.items()
    }
