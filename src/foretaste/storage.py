"""Files on disk: written aside and then renamed, with checksums; named arrays as safetensors or .npy."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from foretaste.errors import BundleError, DataError, ForetasteError, nearest

__all__ = [
    "Arrays",
    "check_exists",
    "check_place",
    "checksum",
    "digest_of",
    "mapped_arrays",
    "part",
    "prefixed",
    "read_arrays",
    "read_ids",
    "read_json",
    "sealed",
    "staged_file",
    "staged_folder",
    "write_arrays",
    "write_json",
    "write_sealed",
]

Arrays = Mapping[str, NDArray[Any]]

HEADER_SIZE = 8  # bytes that begin a safetensors file: how long its header is
TYPES = {"F32": np.float32, "U8": np.uint8}  # that can be memory-mapped here


@contextmanager
def staged_folder(folder: Path | str, *, marker: str) -> Iterator[Path]:
    """A fresh folder that takes the place of ``folder`` when the block ends well, and vanishes when it does not.

    Args:
        marker: A file by which a folder of this kind is known. A folder with other things in it is never replaced.

    Raises:
        ForetasteError: The place is taken by something else, or cannot be written.
    """
    folder = Path(folder)
    check_place(folder, marker=marker)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        # mkdtemp makes a folder for its owner only; what takes its place is as readable as any other.
        aside.chmod(0o777 & ~_umask())
        try:
            yield aside
            _replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ForetasteError(f"Cannot write {folder}: {getattr(error, 'strerror', None) or error}.") from error


def check_place(folder: Path, *, marker: str) -> None:
    """Raises ForetasteError where ``staged_folder`` could not write: something else is there, or it is read-only."""
    try:
        if folder.exists() and not (folder.is_dir() and ((folder / marker).exists() or not any(folder.iterdir()))):
            raise ForetasteError(
                f"{folder} exists and is no folder with a {marker}; it is left alone. Name another place."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ForetasteError(f"Cannot write {folder}: {error.strerror or error}.") from error
    if not os.access(folder.parent, os.W_OK):
        raise ForetasteError(f"Cannot write {folder}: {folder.parent} is read-only.")


def check_exists(path: Path) -> None:
    """Raises DataError where there is no such file or folder; the text offers the nearest name beside it."""
    if path.exists():
        return
    near = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"There is no file or folder {path}{nearest(path.name, near)}")


@contextmanager
def staged_file(path: Path | str) -> Iterator[Path]:
    """A path to write to; it takes the place of ``path`` when the block ends well."""
    path = Path(path)
    if path.is_dir():
        raise ForetasteError(f"Cannot write {path}: it is a folder.")
    aside = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise ForetasteError(f"Cannot write {path}: {getattr(error, 'strerror', None) or error}.") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented; NaN and infinities are refused, as no other reader would take them."""
    with staged_file(path) as aside:
        aside.write_text(_as_text(content), encoding="utf-8")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with a checksum of itself at its end."""
    with staged_file(path) as aside:
        aside.write_bytes(_with_seal(content))


def sealed(path: Path) -> bool:
    """Is this file of JSON, to the byte, what ``write_sealed`` wrote?"""
    content = read_json(path)
    content.pop("checksum", None)
    return path.read_bytes() == _with_seal(content)


def read_json(path: Path) -> Any:
    """Read JSON; a missing or torn file is a BundleError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a safetensors file."""
    from safetensors.numpy import save_file

    with staged_file(path) as aside:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, aside)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read a safetensors file.

    Raises:
        BundleError: The file is missing or torn.
    """
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error


def mapped_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, of bytes and float32, of which only what is looked at is read.

    Raises:
        BundleError: The file is missing or torn.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "np"):  # which refuses what is not whole
            pass
        with path.open("rb") as file:
            size = int.from_bytes(file.read(HEADER_SIZE), "little")
            told = json.loads(file.read(size))
        told.pop("__metadata__", None)
        begin = HEADER_SIZE + size
        return {
            name: np.memmap(path, TYPES[each["dtype"]], "r", begin + each["data_offsets"][0], tuple(each["shape"]))
            for name, each in told.items()
        }
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error


def prefixed(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The same arrays under 'name.'."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def part(arrays: Arrays, name: str) -> dict[str, NDArray[Any]]:
    """The arrays under 'name.'."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def read_ids(path: Path) -> list[str]:
    """The identifiers in a file, one per line; empty lines are passed over.

    Raises:
        DataError: The file is not there, is no text, or holds no ids.
    """
    check_exists(path)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            ids = [line.strip() for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Write one id per line.") from error
    if not ids:
        raise DataError(f"{path} holds no ids; write one per line.")
    return ids


def checksum(path: Path) -> str:
    """The BLAKE2b digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_of(arrays: Arrays, told: Any) -> str:
    """A digest of named arrays, in whatever order they are given, and of the text of what else is told."""
    digest = hashlib.blake2b(digest_size=12)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    digest.update(repr(told).encode())
    return digest.hexdigest()


def _as_text(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _with_seal(content: Mapping[str, Any]) -> bytes:
    digest = hashlib.blake2b(_as_text(content).encode(), digest_size=16).hexdigest()
    return _as_text({**content, "checksum": digest}).encode()


def _replace_folder(aside: Path, folder: Path) -> None:
    """Put one folder in the place of another. A folder cannot be renamed over a full one, so the old one steps away."""
    if not folder.exists():
        os.rename(aside, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.rename(folder, old / folder.name)
    try:
        os.rename(aside, folder)
    except OSError:
        os.rename(old / folder.name, folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
