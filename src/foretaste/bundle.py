"""Fitted models on disk: JSON and safetensors, checksummed, without pickle and without the training data."""

from collections.abc import Mapping
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
from foretaste.sealed_folder import read_folder, write_folder
from foretaste.storage import part, prefixed
from foretaste.vocab import Vocab

__all__ = ["INDEX", "load", "save"]

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
    index = {
        "model": model.name,
        "settings": model.settings.model_dump(mode="json"),
        "data": {"name": about.data, "fingerprint": about.fingerprint, "items": len(about.items)},
        "kinds": {"names": about.kinds.names, "weights": about.kinds.weights},
        "catalog": about.catalog.schema(),
        "user_features": _user_features_schema(model.histories),
        "training": model.training,
        "metrics": model.metrics,
    }
    write_folder(folder, INDEX, index, files)


def load(folder: Path | str) -> Model:
    """The fitted model in a bundle.

    Raises:
        BundleError: There is no bundle, a file is torn, edited or missing, or the format is newer.
    """
    from foretaste.models import model_settings

    folder = Path(folder)
    index, files = read_folder(folder, INDEX, "a bundle is the folder that train --out or model.save")
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
