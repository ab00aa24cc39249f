"""Fitted models on disk: JSON and safetensors, checksummed, without pickle and without the training data."""

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from foretaste.ann import VectorIndex
from foretaste.catalog import Table
from foretaste.dataset import EventKinds
from foretaste.errors import BundleError, UnknownName
from foretaste.histories import Histories
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.recommender import About, Model
from foretaste.scoring import VectorModel
from foretaste.storage import (
    checksum,
    part,
    prefixed,
    read_arrays,
    read_json,
    sealed,
    staged_folder,
    write_arrays,
    write_sealed,
)
from foretaste.vocab import Vocab

__all__ = ["FORMAT", "load", "save"]

FORMAT = 1
INDEX = "model.json"


def save(model: Model, folder: Path) -> None:
    """Write a bundle; it takes its place only when it is whole.

    ``model.json`` holds settings, versions, fingerprint, metrics and the checksum of each other file;
    ``weights.safetensors`` the model's arrays, ``catalog.safetensors`` ids, popularity and titles, and
    ``histories.safetensors``, where there are any, the histories of known users, ``index.safetensors`` an index.
    """
    about = model.about
    files = {"weights": model.state(), "catalog": _catalog_arrays(about)}
    if model.histories is not None:
        files["histories"] = _history_arrays(model.histories)
    if isinstance(model, VectorModel) and model.index is not None:
        files["index"] = model.index.arrays()
    with staged_folder(folder, marker=INDEX) as aside:
        for name, arrays in files.items():
            write_arrays(aside / f"{name}.safetensors", arrays)
        index = {
            "format": FORMAT,
            "model": model.name,
            "settings": model.settings.model_dump(mode="json"),
            "data": {"name": about.data, "fingerprint": about.fingerprint, "items": len(about.items)},
            "kinds": {"names": about.kinds.names, "weights": about.kinds.weights},
            "catalog": about.catalog.schema(),
            "user_features": _user_features_schema(model.histories),
            "training": model.training,
            "metrics": model.metrics,
            "versions": versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {f"{name}.safetensors": checksum(aside / f"{name}.safetensors") for name in files},
        }
        write_sealed(aside / INDEX, index)


def load(folder: Path | str) -> Model:
    """The fitted model in a bundle.

    Raises:
        BundleError: There is no bundle, a file is torn, edited or missing, or the format is newer.
    """
    from foretaste.models import model_settings

    folder = Path(folder)
    index = _read_index(folder)
    files = {Path(name).stem: read_arrays(folder / name) for name in index["files"]}
    try:
        settings = model_settings(index["model"])(**index["settings"])
        model = settings.restore(_about(index, files["catalog"]), files["weights"])
        if "histories" in files:
            model.histories = _histories(index, files["histories"])
        if "index" in files and isinstance(model, VectorModel):
            model.index = VectorIndex.from_arrays(files["index"])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ValidationError, UnknownName) as error:
        raise BundleError(
            f"{folder / INDEX} does not fit its arrays or this version of Foretaste: {error}. Train and save it again."
        ) from error
    model.training, model.metrics = index["training"], index["metrics"]
    return model


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("foretaste", "torch", "numpy", "scipy", "implicit"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _read_index(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; a bundle is the folder that train --out or model.save wrote.")
    if not (folder / INDEX).exists():
        raise BundleError(f"{folder} holds no {INDEX}, so it is not a bundle, or one that was torn.")
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or "format" not in index:
        raise BundleError(f"{folder / INDEX} is not the index of a bundle.")
    if index["format"] != FORMAT:
        raise BundleError(
            f"{folder / INDEX} has format {index['format']}; this version reads {FORMAT}. "
            "Update Foretaste, or train again."
        )
    if not sealed(folder / INDEX):
        raise BundleError(f"{folder / INDEX} is not what was saved: it was edited. Copy it again, or train again.")
    for name, expected in index["files"].items():
        path = folder / name
        if not path.exists():
            raise BundleError(f"{path} is missing: the bundle is torn. Copy it again, or train again.")
        if checksum(path) != expected:
            raise BundleError(f"{path} is not what was saved: it is torn or was edited. Copy it again, or train again.")
    return index


def _catalog_arrays(about: About) -> dict[str, NDArray[Any]]:
    return {
        "popularity": about.popularity,
        "met": about.met,
        **prefixed("items", about.items.arrays()),
        **prefixed("table", about.catalog.arrays()),
    }


def _about(index: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> About:
    return About(
        Vocab.from_arrays(part(arrays, "items")),
        EventKinds(tuple(index["kinds"]["names"]), tuple(index["kinds"]["weights"])),
        arrays["popularity"],
        arrays["met"],
        Table.from_arrays(index["catalog"], part(arrays, "table")),
        index["data"]["name"],
        index["data"]["fingerprint"],
    )


def _history_arrays(histories: Histories) -> dict[str, NDArray[Any]]:
    queries = histories.queries
    aligned = {name: getattr(queries, name) for name in ("times", "kinds", "values", "session_start", "now")}
    features = queries.user_features
    return {
        **prefixed("users", histories.users.arrays()),
        "history.values": queries.history.values,
        "history.offsets": queries.history.offsets,
        **{name: array for name, array in aligned.items() if array is not None},
        **({} if features is None else prefixed("features", features.arrays())),
    }


def _user_features_schema(histories: Histories | None) -> dict[str, Any] | None:
    if histories is None or histories.queries.user_features is None:
        return None
    return histories.queries.user_features.schema()


def _histories(index: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Histories:
    users = Vocab.from_arrays(part(arrays, "users"))
    schema = index["user_features"]
    return Histories(
        users,
        Queries(
            Ragged(arrays["history.values"], arrays["history.offsets"]),
            times=arrays.get("times"),
            kinds=arrays.get("kinds"),
            values=arrays.get("values"),
            session_start=arrays.get("session_start"),
            user=np.arange(len(users), dtype=np.int32),
            user_features=None if schema is None else Table.from_arrays(schema, part(arrays, "features")),
            now=arrays.get("now"),
        ),
    )
