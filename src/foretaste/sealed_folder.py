"""Folders of arrays with an index in JSON that holds a checksum of each file and of itself, as bundles are."""

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from foretaste.errors import BundleError
from foretaste.storage import (
    Arrays,
    checksum,
    read_arrays,
    read_json,
    sealed,
    staged_folder,
    write_arrays,
    write_sealed,
)

__all__ = ["FORMAT", "read_folder", "versions", "write_folder"]

FORMAT = 1


def write_folder(folder: Path, marker: str, index: Mapping[str, Any], files: Mapping[str, Arrays]) -> None:
    """Write a folder of arrays; it takes its place only when it is whole.

    Args:
        marker: The name of the index, by which such a folder is known.
        index: What is told beside the arrays; versions, the time and the checksums are added.
        files: Name -> the arrays of NAME.safetensors.
    """
    with staged_folder(folder, marker=marker) as aside:
        for name, arrays in files.items():
            write_arrays(aside / f"{name}.safetensors", arrays)
        told = {
            "format": FORMAT,
            **index,
            "versions": versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {f"{name}.safetensors": checksum(aside / f"{name}.safetensors") for name in files},
        }
        write_sealed(aside / marker, told)


def read_folder(folder: Path, marker: str, what: str) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]]:
    """The index of such a folder, and the arrays of each file by the name of the file.

    Args:
        what: It is called in errors, such as "a bundle", with who wrote it.

    Raises:
        BundleError: There is no such folder, a file is torn, edited or missing, or the format is newer.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; {what} wrote.")
    if not (folder / marker).exists():
        raise BundleError(f"{folder} holds no {marker}, so it is not a bundle, or one that was torn.")
    index = read_json(folder / marker)
    if not isinstance(index, dict) or "format" not in index:
        raise BundleError(f"{folder / marker} is not the index of a bundle.")
    if index["format"] != FORMAT:
        raise BundleError(
            f"{folder / marker} has format {index['format']}; this version reads {FORMAT}. "
            "Update Foretaste, or train again."
        )
    if not sealed(folder / marker):
        raise BundleError(f"{folder / marker} is not what was saved: it was edited. Copy it again, or train again.")
    for name, expected in index["files"].items():
        path = folder / name
        if not path.exists():
            raise BundleError(f"{path} is missing: the bundle is torn. Copy it again, or train again.")
        if checksum(path) != expected:
            raise BundleError(f"{path} is not what was saved: it is torn or was edited. Copy it again, or train again.")
    return index, {Path(name).stem: read_arrays(folder / name) for name in index["files"]}


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("foretaste", "torch", "numpy", "scipy", "implicit"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
