"""A dataset on disk: one .npy per array, which is mapped into memory, and a sealed JSON index."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.catalog import Catalog, Table
from foretaste.dataset import Dataset, EventKinds, Impressions
from foretaste.errors import BundleError
from foretaste.storage import part, read_json, sealed, staged_folder, write_sealed
from foretaste.vocab import Vocab

__all__ = ["open_dataset", "save_dataset"]

FORMAT = 1


def save_dataset(data: Dataset, folder: Path) -> None:
    """Write a dataset aside, and then in the place of what was there."""
    with staged_folder(folder, marker="dataset.json") as aside:
        for name, array in data.arrays().items():
            np.save(aside / f"{name}.npy", array, allow_pickle=False)
        write_sealed(aside / "dataset.json", _index(data))


def open_dataset(folder: Path) -> Dataset:
    """A saved dataset, memory-mapped.

    Raises:
        BundleError: The folder holds no dataset, a torn one, or one of a newer format.
    """
    index = read_json(folder / "dataset.json")
    if not isinstance(index, dict) or "format" not in index:
        raise BundleError(f"{folder / 'dataset.json'} is not the index of a dataset.")
    if index["format"] != FORMAT:
        raise BundleError(f"{folder} has dataset format {index['format']!r}; this version reads {FORMAT}.")
    if not sealed(folder / "dataset.json"):
        raise BundleError(f"{folder / 'dataset.json'} was edited. Save the dataset again.")
    arrays = {name: _mapped(folder / f"{name}.npy", *stored) for name, stored in index["arrays"].items()}
    return Dataset(**_rebuilt(index, arrays))


def _mapped(path: Path, shape: list[int], dtype: str) -> NDArray[Any]:
    """One array, mapped into memory; an empty one, which cannot be, is read."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if np.prod(shape) else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"{path} cannot be read: {error}. Save the dataset again.") from error
    if list(array.shape) != shape or array.dtype.str != dtype:
        raise BundleError(f"{path} is not the array that was saved. Save the dataset again.")
    return array


def _index(data: Dataset) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": data.name,
        "ordered": data.ordered,
        "kinds": {"names": data.kinds.names, "weights": data.kinds.weights},
        "labels": None if data.impressions is None else list(data.impressions.labels),
        "tables": {name: table.schema() for name, table in data.tables().items()},
        "arrays": {name: [list(array.shape), array.dtype.str] for name, array in data.arrays().items()},
    }


def _rebuilt(index: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The fields of the dataset that was saved."""
    tables = {name: Table.from_arrays(schema, part(arrays, name)) for name, schema in index["tables"].items()}
    fields: dict[str, Any] = {name: arrays.get(name) for name in ("user", "item", "time", "kind", "value", "session")}
    if index["labels"] is not None:
        shown = part(arrays, "shown")
        labels: Sequence[str] = index["labels"]
        fields["impressions"] = Impressions(
            shown["request"],
            shown["user"],
            shown["item"],
            shown["time"],
            shown["position"],
            {name: shown[f"label{number}"] for number, name in enumerate(labels)},
            tables["shown_context"],
        )
    return {
        **fields,
        "users": Vocab.from_arrays(part(arrays, "users")),
        "items": Vocab.from_arrays(part(arrays, "items")),
        "ordered": index["ordered"],
        "kinds": EventKinds(tuple(index["kinds"]["names"]), tuple(index["kinds"]["weights"])),
        "columns": tables.get("columns"),
        "catalog": Catalog(tables["catalog_items"], tables["catalog_users"]) if "catalog_items" in tables else None,
        "name": index["name"],
    }
